// What is remembered of what destinations publish: MTA-STS policies (RFC 8461 §3.3), and an
// administrator's dated exceptions to both MTA-STS and DANE. Shared by all workers, kept on disk: a
// restart must not forget a policy, or whoever blocks the fetch has removed it.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "tls/mta_sts.h"

#define PH_STS_RETRY_MS                                                                            \
    UINT64_C(300000) // after a fetch that failed; RFC 8461 §3.3 asks for restraint
#define PH_STS_FILE_BYTES_MAX (PH_STS_POLICY_BYTES_MAX + 4096)

struct ph_sts_cache;

struct ph_sts_cache *ph_sts_cache_create(const char *directory); // below which it is kept
void ph_sts_cache_destroy(struct ph_sts_cache *cache);           // NULL accepted
// Reads what was kept. 0, or a negative errno; what can't be read is told in `problems`, a line
// each.
int64_t ph_sts_cache_load(struct ph_sts_cache *cache, struct ph_io *io, struct ph_buf *problems);
const char *ph_sts_cache_directory(const struct ph_sts_cache *cache);

// Of the policy remembered: is it to be gone by, is one to be fetched?
struct ph_sts_answer {
    struct ph_sts_policy *policy; // referenced for the caller; NULL: none in force
    bool fetch;                   // another one may be there: ask, then look again
    uint64_t waived_until_ms;     // wall clock; 0: no exception
};
// `record` and `id`: what the TXT question gave. `distrust`: a host has just failed the policy.
void ph_sts_cache_look(struct ph_sts_cache *cache, struct ph_str domain, enum ph_sts_record record,
                       const char *id, bool distrust, uint64_t wall_ms, struct ph_sts_answer *out);
// A fetch has ended: with a policy (a reference is taken), or NULL and why.
void ph_sts_cache_fetched(struct ph_sts_cache *cache, struct ph_str domain,
                          struct ph_sts_policy *policy, struct ph_str why, uint64_t wall_ms);
// The file of a policy: its name, and its content appended to `out`.
void ph_sts_cache_format(const struct ph_sts_policy *policy, char out_name[PH_DNS_NAME_BYTES_MAX],
                         struct ph_buf *out);
// One whose policy should be fetched again before it expires; it won't be named again for a while.
// Policies that nobody has needed for as long as they last are forgotten.
PH_MUST_CHECK bool ph_sts_cache_due(struct ph_sts_cache *cache, uint64_t wall_ms,
                                    char out_domain[PH_DNS_NAME_BYTES_MAX]);

// An administrator's word: until then what `domain` publishes is passed over. 0: no longer.
void ph_sts_cache_waive(struct ph_sts_cache *cache, struct ph_str domain, uint64_t until_ms);
uint64_t ph_sts_cache_waived_until(struct ph_sts_cache *cache, struct ph_str domain);
// All exceptions, as their file holds them.
#define PH_STS_WAIVED_FILE "waived"
void ph_sts_cache_format_waived(struct ph_sts_cache *cache, uint64_t wall_ms, struct ph_buf *out);
// What is known of `domain`: members of an object.
void ph_sts_cache_report(struct ph_sts_cache *cache, struct ph_str domain, struct ph_json *json);
