// What one worker has learned of chains: the chains by the hash of what was presented, so that a
// known one isn't parsed again, and the verdicts on them. Bounded; the least recently used goes.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tls/crls.h"
#include "tls/facts.h"
#include "tls/window.h"

struct ph_chain_cache;

// `entries_max` chains and as many verdicts; 0: keeps nothing.
struct ph_chain_cache *ph_chain_cache_create(size_t entries_max);
void ph_chain_cache_destroy(struct ph_chain_cache *cache);

// Borrowed; NULL when it isn't known.
struct ph_chain *ph_chain_cache_find(struct ph_chain_cache *cache,
                                     const uint8_t hash[PH_SHA256_BYTES]);
void ph_chain_cache_put(struct ph_chain_cache *cache, struct ph_chain *chain); // retains it

// The verdict on this chain by this trust store, where `now_s` is within the span in which it
// holds, and `crls` has of all issuers it asked for what it had then. Borrowed until the next call;
// NULL when there is none.
struct ph_chain_verdict *ph_chain_cache_verdict(struct ph_chain_cache *cache,
                                                const uint8_t hash[PH_SHA256_BYTES],
                                                uint64_t trust_id, int64_t now_s,
                                                const struct ph_crls *crls);
void ph_chain_cache_put_verdict(struct ph_chain_cache *cache,
                                const struct ph_chain_verdict *verdict,
                                const struct ph_window *window, const struct ph_crls *crls);
