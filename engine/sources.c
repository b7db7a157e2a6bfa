// Connections by client address.
#include "engine/sources.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct source {
    uint64_t key[3]; // connector, address (zeroes: all of the connector)
    uint32_t count;
    UT_hash_handle hh;
};

struct ph_sources {
    pthread_mutex_t lock;
    struct source *by_key;
};

struct ph_sources *ph_sources_create(void)
{
    struct ph_sources *sources = ph_alloc(sizeof(*sources));

    pthread_mutex_init(&sources->lock, NULL);
    return sources;
}

void ph_sources_destroy(struct ph_sources *sources)
{
    struct source *source;
    struct source *next;

    if (sources == NULL) {
        return;
    }
    HASH_ITER(hh, sources->by_key, source, next)
    {
        HASH_DEL(sources->by_key, source);
        free(source);
    }
    pthread_mutex_destroy(&sources->lock);
    free(sources);
}

static struct source *find_or_add(struct ph_sources *sources, uint64_t connector_key,
                                  const struct ph_endpoint *address)
{
    uint64_t key[3] = {connector_key};
    struct source *source;

    if (address != NULL) {
        memcpy(&key[1], address->bytes, 16);
    }
    HASH_FIND(hh, sources->by_key, key, sizeof(key), source);
    if (source == NULL) {
        source = ph_alloc(sizeof(*source));
        memcpy(source->key, key, sizeof(key));
        HASH_ADD(hh, sources->by_key, key, sizeof(source->key), source);
    }
    return source;
}

static void drop_one(struct ph_sources *sources, struct source *source)
{
    PH_CHECK(source->count > 0);
    source->count--;
    if (source->count == 0) {
        HASH_DEL(sources->by_key, source);
        free(source);
    }
}

bool ph_sources_add(struct ph_sources *sources, uint64_t connector_key, uint32_t connector_max,
                    const struct ph_endpoint *address, uint32_t source_max)
{
    struct source *connector;
    struct source *source;
    bool may;

    pthread_mutex_lock(&sources->lock);
    connector = find_or_add(sources, connector_key, NULL);
    source = find_or_add(sources, connector_key, address);
    connector->count++;
    source->count++;
    may = connector->count <= connector_max && source->count <= source_max;
    if (!may) {
        drop_one(sources, connector);
        drop_one(sources, source);
    }
    pthread_mutex_unlock(&sources->lock);
    return may;
}

void ph_sources_remove(struct ph_sources *sources, uint64_t connector_key,
                       const struct ph_endpoint *address)
{
    pthread_mutex_lock(&sources->lock);
    drop_one(sources, find_or_add(sources, connector_key, NULL));
    drop_one(sources, find_or_add(sources, connector_key, address));
    pthread_mutex_unlock(&sources->lock);
}
