// What hosts' handshakes taught about our ClientHello.
#include "engine/flights.h"

#include <stdlib.h>
#include <string.h>

#include "engine/worker.h"

struct key {
    uint8_t family;
    uint16_t port;
    uint8_t bytes[16];
};

struct ph_flight_entry {
    UT_hash_handle hh;
    struct key key;
    struct ph_flight flight;
    uint64_t until_ms;
};

static struct ph_flight_entry *find(const struct ph_worker *worker, const struct ph_endpoint *at,
                                    struct key *out_key)
{
    struct ph_flight_entry *entry = NULL;

    memset(out_key, 0, sizeof(*out_key)); // padding is hashed as well
    out_key->family = (uint8_t)at->family;
    out_key->port = at->port;
    memcpy(out_key->bytes, at->bytes, at->family == PH_FAMILY_IPV4 ? 4 : 16);
    HASH_FIND(hh, worker->flights, out_key, sizeof(*out_key), entry);
    return entry;
}

static void drop(struct ph_worker *worker, struct ph_flight_entry *entry)
{
    HASH_DEL(worker->flights, entry);
    free(entry);
}

static struct ph_flight_entry *find_or_add(struct ph_worker *worker, const struct ph_endpoint *at)
{
    struct key key;
    struct ph_flight_entry *entry = find(worker, at, &key);

    if (entry != NULL && entry->until_ms <= ph_worker_now_ms(worker)) {
        drop(worker, entry);
        entry = NULL;
    }
    if (entry == NULL) {
        if (HASH_COUNT(worker->flights) >= PH_FLIGHTS_MAX) {
            drop(worker, worker->flights); // the order is that of learning
        }
        entry = ph_alloc(sizeof(*entry));
        entry->key = key;
        entry->until_ms = ph_worker_now_ms(worker) + PH_FLIGHT_KEPT_MS;
        HASH_ADD(hh, worker->flights, key, sizeof(entry->key), entry);
    }
    return entry;
}

struct ph_flight ph_flights_of(const struct ph_worker *worker, const struct ph_endpoint *at)
{
    struct key key;
    const struct ph_flight_entry *entry = find(worker, at, &key);

    return entry != NULL && entry->until_ms > ph_worker_now_ms(worker) ? entry->flight
                                                                       : (struct ph_flight){0};
}

// Most hosts take what they are offered first: only those that asked for another group are kept.
void ph_flights_succeeded(struct ph_worker *worker, const struct ph_endpoint *at,
                          const struct ph_tls_facts *facts)
{
    struct ph_flight_entry *entry;

    if (!facts->hello_retried && ph_flights_of(worker, at).key_share == 0) {
        return;
    }
    entry = find_or_add(worker, at);
    entry->flight.key_share = facts->group_id;
    // What is used stays known; but that it must be small is put to the test once a day.
    if (!entry->flight.small) {
        entry->until_ms = ph_worker_now_ms(worker) + PH_FLIGHT_KEPT_MS;
    }
}

void ph_flights_failed(struct ph_worker *worker, const struct ph_endpoint *at)
{
    struct ph_flight_entry *entry = find_or_add(worker, at);

    entry->flight = (struct ph_flight){.small = true};
    entry->until_ms = ph_worker_now_ms(worker) + PH_FLIGHT_KEPT_MS;
}

void ph_flights_destroy_all(struct ph_worker *worker)
{
    while (worker->flights != NULL) {
        drop(worker, worker->flights);
    }
}
