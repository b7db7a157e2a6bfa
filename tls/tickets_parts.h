// How tickets are kept: for the files that keep and seal them.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <uthash.h>

#include "tls/tickets.h"

struct ticket_entry {
    struct ph_ticket ticket;
    struct ticket_key *key;
    TAILQ_ENTRY(ticket_entry) of_key; // the newest first
    TAILQ_ENTRY(ticket_entry) by_age; // the newest first, of all keys
};

TAILQ_HEAD(ticket_entries, ticket_entry);

// The key's bytes are ours (host names are peers', but long since validated and bounded).
struct ticket_key {
    char *text;
    size_t len;
    size_t count;
    struct ticket_entries entries;
    UT_hash_handle hh;
};

struct ph_tickets {
    _Atomic uint32_t references;
    size_t tickets_max;
    struct ph_chain_pool *pool;
    pthread_mutex_t lock; // of all below
    size_t count;
    struct ticket_key *keys;
    struct ticket_entries by_age;
};

bool ph_tickets_has_expired(const SSL_SESSION *session, uint64_t now_s);
