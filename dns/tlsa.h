// TLSA records and whether DNSSEC vouches for them (RFC 6698, 7671, 7672): which names to ask, what
// of the answer SMTP can use. Pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/reason.h"
#include "base/str.h"

#define PH_TLSA_RECORDS_MAX 64      // of one name; ours: what a zone lists beyond is not read
#define PH_TLSA_DATA_BYTES_MAX 8192 // of one record: a whole certificate at most; ours
#define PH_TLSA_BASES_MAX 2         // an alias's canonical name, then the alias itself

enum ph_tlsa_usage {
    PH_TLSA_PKIX_TA, // 0 and 1: not for SMTP (RFC 7672 §3.1.3)
    PH_TLSA_PKIX_EE,
    PH_TLSA_DANE_TA, // an authority of the server's own
    PH_TLSA_DANE_EE, // this very certificate or key
};

enum ph_tlsa_selector {
    PH_TLSA_CERTIFICATE,
    PH_TLSA_SPKI,
};

enum ph_tlsa_matching {
    PH_TLSA_FULL,
    PH_TLSA_SHA256,
    PH_TLSA_SHA512,
};

struct ph_tlsa_record {
    enum ph_tlsa_usage usage;
    enum ph_tlsa_selector selector;
    enum ph_tlsa_matching matching;
    size_t data_at; // in `data` of the set
    size_t data_len;
};

enum ph_tlsa_status {
    PH_TLSA_UNKNOWN,  // nobody has asked
    PH_TLSA_FAILED,   // asked, without an answer that can be gone by: the host is not to be used
    PH_TLSA_USABLE,   // the host must show what a record says
    PH_TLSA_UNUSABLE, // published, but none for SMTP: TLS is a must, authentication impossible
    PH_TLSA_NONE,     // DNSSEC says there are none, or nothing is vouched for
};

// What one host publishes for one port.
struct ph_tlsa {
    enum ph_tlsa_status status;
    char base_domain[PH_DNS_NAME_BYTES_MAX]; // SNI, and a name of the certificate (usage 2)
    struct ph_tlsa_record *records;          // owned; the usable ones, after digest agility
    size_t record_count;
    struct ph_buf data; // owned
    uint32_t ttl_s;
};

void ph_tlsa_deinit(struct ph_tlsa *tlsa); // zeroes accepted
struct ph_str ph_tlsa_data(const struct ph_tlsa *tlsa, const struct ph_tlsa_record *record);
bool ph_tlsa_has_usage(const struct ph_tlsa *tlsa, enum ph_tlsa_usage usage);

// Which names may have the records, in order (RFC 7672 §2.2.2).
struct ph_tlsa_plan {
    char bases[PH_TLSA_BASES_MAX][PH_DNS_NAME_BYTES_MAX];
    size_t base_count; // 0: nothing vouches for the host's addresses, so there is nothing to ask
    bool ask_cname;    // the host is an alias into what isn't signed: is the alias itself signed?
};
// From the answers about the addresses of `host`.
void ph_tlsa_plan(const char *host, const struct ph_resolve_op *aaaa, const struct ph_resolve_op *a,
                  struct ph_tlsa_plan *out);
// The answer to the CNAME question that a plan had asked for.
void ph_tlsa_plan_cname(const struct ph_resolve_op *cname, struct ph_tlsa_plan *plan);

// "_25._tcp.mx1.example.org"; false: longer than a name can be.
PH_MUST_CHECK bool ph_tlsa_name(const char *base, uint16_t port, char out[PH_DNS_NAME_BYTES_MAX]);

// Reads the answer to a TLSA question below `base`. FAILED comes with `out_reason`. `out` is empty
// before.
void ph_tlsa_read(const struct ph_resolve_op *answer, const char *base, struct ph_tlsa *out,
                  struct ph_reason *out_reason);
