// One session as the delivery log tells of it, and what a configuration would make of it: by the
// same gate that delivery goes by.
#pragma once

#include <jansson.h>

#include "base/io.h"
#include "config/snapshot.h"
#include "smtp/address.h"
#include "tls/facts.h"

#define PH_EVIDENCE_NAMES_MAX 64 // ours; the log holds fewer

struct ph_evidence {
    char domain[PH_DOMAIN_BYTES_MAX + 1];
    char host[PH_DNS_NAME_BYTES_MAX];
    char address[PH_ENDPOINT_TEXT_MAX];
    uint64_t size;
    uint64_t wall_ms;
    bool delivered;
    bool fell_back; // in the clear after a handshake that failed
    bool names_cut; // the certificate has more names than the log holds
    struct ph_tls_facts facts;
    struct ph_chain *chain; // NULL: no certificate was shown; owned
    bool chain_judged;
    struct ph_chain_verdict verdict;
};

enum ph_evidence_verdict {
    PH_EVIDENCE_PASSES,
    PH_EVIDENCE_DEFERS,
    PH_EVIDENCE_UNDECIDED, // the log doesn't hold what the policy asks for
};

// False: the line tells of no session whose TLS could be judged.
PH_MUST_CHECK bool ph_evidence_read(const json_t *record, struct ph_evidence *out);
void ph_evidence_deinit(struct ph_evidence *evidence);
// `out_reason` where it doesn't pass.
enum ph_evidence_verdict ph_evidence_judge(const struct ph_evidence *evidence,
                                           const struct ph_config *config,
                                           struct ph_reason *out_reason);
