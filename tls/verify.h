// Chain, validity, purpose, algorithms, revocation → a verdict (RFC 5280); names are
// tls/identity's.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "tls/facts.h"
#include "tls/session.h"

struct ph_trust;

// The verdict on `chain` against `trust` now; from the worker's cache where an equal question was
// answered before and its dates still hold (a cache makes a verdict cheaper, never different).
// Borrowed: valid until the next call for this context.
const struct ph_chain_verdict *ph_verify_chain(struct ph_tls_context *context,
                                               const struct ph_chain *chain,
                                               const struct ph_trust *trust, uint64_t wall_ms);

// The same where the cache has it; NULL: it takes a verification.
const struct ph_chain_verdict *ph_verify_cached(struct ph_tls_context *context,
                                                const struct ph_chain *chain,
                                                const struct ph_trust *trust, uint64_t wall_ms);

// Where to ask about revocation: the CRLs' URLs (each ended by '\n') of the certificates on the
// good path, and its issuers (DER, one after another). Of nothing else that was presented: who
// sends a good chain may send anything beside it. Costs a verification.
void ph_verify_revocation_sources(struct ph_tls_context *context, const struct ph_chain *chain,
                                  const struct ph_trust *trust, uint64_t wall_ms,
                                  struct ph_buf *out_urls, struct ph_buf *out_issuers);

struct ph_verify_stats {
    uint64_t full;   // verified in full
    uint64_t cached; // answered by the cache
};
struct ph_verify_stats ph_verify_stats(const struct ph_tls_context *context);
