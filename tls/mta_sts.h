// MTA-STS (RFC 8461): the TXT record that says there is a policy, the policy's text, and which
// hosts it names. Pure: fetching and remembering are the engine's.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/str.h"

#define PH_STS_ID_BYTES_MAX 32                     // RFC 8461 §3.1
#define PH_STS_POLICY_BYTES_MAX ((size_t)64 << 10) // RFC 8461 §3.3 suggests so
#define PH_STS_MAX_AGE_S UINT32_C(31557600)        // RFC 8461 §3.2
#define PH_STS_MX_MAX 256                          // patterns of one policy; ours

enum ph_sts_mode {
    PH_STS_ENFORCE,
    PH_STS_TESTING,
    PH_STS_NONE,
};

// One domain's policy. Immutable, counted (atomically): shared by all workers.
struct ph_sts_policy {
    _Atomic uint32_t references;
    char domain[PH_DNS_NAME_BYTES_MAX];
    char id[PH_STS_ID_BYTES_MAX + 1]; // of the TXT record that led to it
    enum ph_sts_mode mode;
    uint32_t max_age_s;
    uint64_t fetched_ms; // wall clock, since 1970
    char (*mx)[PH_DNS_NAME_BYTES_MAX];
    size_t mx_count;
    struct ph_buf text; // as it was fetched
};

enum ph_sts_record {
    PH_STS_RECORD_FAILED, // no answer: what is remembered stays in force
    PH_STS_RECORD_NONE,   // none, several, or one that can't be read
    PH_STS_RECORD_FOUND,
};

// The answer to the TXT question for _mta-sts.DOMAIN.
enum ph_sts_record ph_sts_record_read(const struct ph_resolve_op *answer,
                                      char out_id[PH_STS_ID_BYTES_MAX + 1]);
// One reference, the caller's. NULL, with a sentence, when the text is no valid policy.
struct ph_sts_policy *ph_sts_policy_parse(struct ph_str domain, struct ph_str id,
                                          uint64_t fetched_ms, struct ph_str text,
                                          struct ph_buf *error);
struct ph_sts_policy *ph_sts_policy_retain(struct ph_sts_policy *policy); // NULL accepted
void ph_sts_policy_release(struct ph_sts_policy *policy);                 // NULL accepted
uint64_t ph_sts_policy_expires_ms(const struct ph_sts_policy *policy);    // wall clock

bool ph_sts_mx_matches(const struct ph_sts_policy *policy, struct ph_str host);
const char *ph_sts_mode_name(enum ph_sts_mode mode); // "enforce", …
