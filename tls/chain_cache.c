// What one worker has learned of chains.
#include "tls/chain_cache.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <uthash.h>

#include "base/check.h"

// The keys are SHA-256 digests: nobody chooses where they fall.
struct chain_entry {
    struct ph_chain *chain;
    TAILQ_ENTRY(chain_entry) by_use; // the most recently used first
    UT_hash_handle hh;
};

struct verdict_key {
    uint8_t chain_hash[PH_SHA256_BYTES];
    uint64_t trust_id;
};

struct verdict_entry {
    struct verdict_key key;
    struct ph_chain_verdict verdict;
    struct ph_window window; // holds from `from_s` to before `until_s`
    uint64_t marks[PH_CRL_ISSUERS_MAX];
    TAILQ_ENTRY(verdict_entry) by_use;
    UT_hash_handle hh;
};

_Static_assert(sizeof(struct verdict_key) == PH_SHA256_BYTES + 8, "hashed whole: no padding");

struct ph_chain_cache {
    size_t entries_max;
    struct chain_entry *chains;
    struct verdict_entry *verdicts;
    struct verdict_entry *last; // found; the next question is likely the same
    TAILQ_HEAD(chains_by_use, chain_entry) chains_by_use;
    TAILQ_HEAD(verdicts_by_use, verdict_entry) verdicts_by_use;
};

struct ph_chain_cache *ph_chain_cache_create(size_t entries_max)
{
    struct ph_chain_cache *cache = ph_alloc(sizeof(*cache));

    cache->entries_max = entries_max;
    TAILQ_INIT(&cache->chains_by_use);
    TAILQ_INIT(&cache->verdicts_by_use);
    return cache;
}

static void drop_chain(struct ph_chain_cache *cache, struct chain_entry *entry)
{
    HASH_DEL(cache->chains, entry);
    TAILQ_REMOVE(&cache->chains_by_use, entry, by_use);
    ph_chain_release(entry->chain);
    free(entry);
}

static void drop_verdict(struct ph_chain_cache *cache, struct verdict_entry *entry)
{
    if (cache->last == entry) {
        cache->last = NULL;
    }
    HASH_DEL(cache->verdicts, entry);
    TAILQ_REMOVE(&cache->verdicts_by_use, entry, by_use);
    free(entry);
}

void ph_chain_cache_destroy(struct ph_chain_cache *cache)
{
    while (!TAILQ_EMPTY(&cache->chains_by_use)) {
        drop_chain(cache, TAILQ_FIRST(&cache->chains_by_use));
    }
    while (!TAILQ_EMPTY(&cache->verdicts_by_use)) {
        drop_verdict(cache, TAILQ_FIRST(&cache->verdicts_by_use));
    }
    free(cache);
}

struct ph_chain *ph_chain_cache_find(struct ph_chain_cache *cache,
                                     const uint8_t hash[PH_SHA256_BYTES])
{
    struct chain_entry *entry;

    HASH_FIND(hh, cache->chains, hash, PH_SHA256_BYTES, entry);
    if (entry == NULL) {
        return NULL;
    }
    TAILQ_REMOVE(&cache->chains_by_use, entry, by_use);
    TAILQ_INSERT_HEAD(&cache->chains_by_use, entry, by_use);
    return entry->chain;
}

void ph_chain_cache_put(struct ph_chain_cache *cache, struct ph_chain *chain)
{
    struct chain_entry *entry;

    if (cache->entries_max == 0 || ph_chain_cache_find(cache, chain->hash) != NULL) {
        return;
    }
    if (HASH_COUNT(cache->chains) >= cache->entries_max) {
        drop_chain(cache, TAILQ_LAST(&cache->chains_by_use, chains_by_use));
    }
    entry = ph_alloc(sizeof(*entry));
    entry->chain = chain;
    ph_chain_retain(chain);
    HASH_ADD_KEYPTR(hh, cache->chains, chain->hash, PH_SHA256_BYTES, entry);
    TAILQ_INSERT_HEAD(&cache->chains_by_use, entry, by_use);
}

static struct verdict_entry *find_verdict(struct ph_chain_cache *cache,
                                          const uint8_t hash[PH_SHA256_BYTES], uint64_t trust_id)
{
    struct verdict_key key = {.trust_id = trust_id};
    struct verdict_entry *entry = cache->last;

    memcpy(key.chain_hash, hash, PH_SHA256_BYTES);
    if (entry == NULL || memcmp(&entry->key, &key, sizeof(key)) != 0) {
        HASH_FIND(hh, cache->verdicts, &key, sizeof(key), entry);
        cache->last = entry;
    }
    return entry;
}

struct ph_chain_verdict *ph_chain_cache_verdict(struct ph_chain_cache *cache,
                                                const uint8_t hash[PH_SHA256_BYTES],
                                                uint64_t trust_id, int64_t now_s,
                                                const struct ph_crls *crls)
{
    struct verdict_entry *entry = find_verdict(cache, hash, trust_id);

    if (entry == NULL || now_s < entry->window.from_s || now_s >= entry->window.until_s) {
        return NULL;
    }
    for (uint32_t i = 0; i < entry->window.issuers.count; i++) {
        if (ph_crls_mark(crls, entry->window.issuers.hashes[i]) != entry->marks[i]) {
            return NULL;
        }
    }
    TAILQ_REMOVE(&cache->verdicts_by_use, entry, by_use);
    TAILQ_INSERT_HEAD(&cache->verdicts_by_use, entry, by_use);
    return &entry->verdict;
}

void ph_chain_cache_put_verdict(struct ph_chain_cache *cache,
                                const struct ph_chain_verdict *verdict,
                                const struct ph_window *window, const struct ph_crls *crls)
{
    struct verdict_entry *entry;

    if (cache->entries_max == 0 || window->issuers.count > PH_CRL_ISSUERS_MAX) {
        return;
    }
    entry = find_verdict(cache, verdict->chain_hash, verdict->trust_id);
    if (entry != NULL) {
        drop_verdict(cache, entry); // of another time
    }
    if (HASH_COUNT(cache->verdicts) >= cache->entries_max) {
        drop_verdict(cache, TAILQ_LAST(&cache->verdicts_by_use, verdicts_by_use));
    }
    entry = ph_alloc(sizeof(*entry));
    memcpy(entry->key.chain_hash, verdict->chain_hash, PH_SHA256_BYTES);
    entry->key.trust_id = verdict->trust_id;
    entry->verdict = *verdict;
    entry->verdict.cached = true;
    entry->window = *window;
    for (uint32_t i = 0; i < window->issuers.count; i++) {
        entry->marks[i] = ph_crls_mark(crls, window->issuers.hashes[i]);
    }
    HASH_ADD(hh, cache->verdicts, key, sizeof(entry->key), entry);
    TAILQ_INSERT_HEAD(&cache->verdicts_by_use, entry, by_use);
}
