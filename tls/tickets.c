// Sessions that can be resumed.
#include "tls/tickets.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "tls/chain.h"
#include "tls/tickets_parts.h"

struct ph_tickets *ph_tickets_create(size_t tickets_max)
{
    struct ph_tickets *tickets = ph_alloc(sizeof(*tickets));

    atomic_init(&tickets->references, 1);
    tickets->tickets_max = tickets_max;
    tickets->pool = ph_chain_pool_create();
    pthread_mutex_init(&tickets->lock, NULL);
    TAILQ_INIT(&tickets->by_age);
    return tickets;
}

struct ph_tickets *ph_tickets_retain(struct ph_tickets *tickets)
{
    atomic_fetch_add(&tickets->references, 1);
    return tickets;
}

bool ph_tickets_enabled(const struct ph_tickets *tickets)
{
    return tickets->tickets_max > 0;
}

struct ph_chain_pool *ph_tickets_pool(struct ph_tickets *tickets)
{
    return tickets->pool;
}

// Unlinks it; its session is the caller's now.
static struct ph_ticket remove_entry(struct ph_tickets *tickets, struct ticket_entry *entry)
{
    struct ph_ticket ticket = entry->ticket;
    struct ticket_key *key = entry->key;

    TAILQ_REMOVE(&tickets->by_age, entry, by_age);
    TAILQ_REMOVE(&key->entries, entry, of_key);
    tickets->count--;
    key->count--;
    if (key->count == 0) {
        HASH_DEL(tickets->keys, key);
        free(key->text);
        free(key);
    }
    free(entry);
    return ticket;
}

void ph_tickets_release(struct ph_tickets *tickets)
{
    if (tickets == NULL || atomic_fetch_sub(&tickets->references, 1) != 1) {
        return;
    }
    while (!TAILQ_EMPTY(&tickets->by_age)) {
        SSL_SESSION_free(remove_entry(tickets, TAILQ_FIRST(&tickets->by_age)).session);
    }
    pthread_mutex_destroy(&tickets->lock);
    ph_chain_pool_release(tickets->pool);
    free(tickets);
}

static struct ticket_key *find_key(struct ph_tickets *tickets, struct ph_str text)
{
    struct ticket_key *key;

    HASH_FIND(hh, tickets->keys, text.data, text.len, key);
    return key;
}

static struct ticket_key *add_key(struct ph_tickets *tickets, struct ph_str text)
{
    struct ticket_key *key = ph_alloc(sizeof(*key));

    key->text = ph_alloc(text.len + 1);
    key->len = text.len;
    memcpy(key->text, text.data, text.len);
    TAILQ_INIT(&key->entries);
    HASH_ADD_KEYPTR(hh, tickets->keys, key->text, text.len, key);
    return key;
}

void ph_tickets_take(struct ph_tickets *tickets, struct ph_str text, struct ph_ticket ticket)
{
    struct ticket_key *key;
    struct ticket_entry *entry;

    if (tickets->tickets_max == 0 || text.len == 0 || text.len > PH_TICKETS_KEY_BYTES_MAX) {
        SSL_SESSION_free(ticket.session);
        return;
    }
    pthread_mutex_lock(&tickets->lock);
    key = find_key(tickets, text);
    if (key != NULL && key->count == PH_TICKETS_PER_KEY_MAX) {
        SSL_SESSION_free(remove_entry(tickets, TAILQ_LAST(&key->entries, ticket_entries)).session);
    } else if (tickets->count == tickets->tickets_max) {
        SSL_SESSION_free(
            remove_entry(tickets, TAILQ_LAST(&tickets->by_age, ticket_entries)).session);
    }
    key = find_key(tickets, text); // what was removed may have been its last
    if (key == NULL) {
        key = add_key(tickets, text);
    }
    entry = ph_alloc(sizeof(*entry));
    entry->ticket = ticket;
    entry->key = key;
    TAILQ_INSERT_HEAD(&key->entries, entry, of_key);
    TAILQ_INSERT_HEAD(&tickets->by_age, entry, by_age);
    key->count++;
    tickets->count++;
    pthread_mutex_unlock(&tickets->lock);
}

bool ph_tickets_has_expired(const SSL_SESSION *session, uint64_t now_s)
{
    uint64_t issued_s = SSL_SESSION_get_time(session);

    // A clock that went back makes its age unknown.
    return now_s < issued_s || now_s - issued_s >= SSL_SESSION_get_timeout(session);
}

bool ph_tickets_offer(struct ph_tickets *tickets, struct ph_str text, uint64_t now_s,
                      struct ph_ticket *out_ticket)
{
    struct ticket_key *key;
    struct ticket_entry *entry;

    pthread_mutex_lock(&tickets->lock);
    key = find_key(tickets, text);
    // Of one key, the last expired one takes the key with it.
    while (key != NULL &&
           ph_tickets_has_expired(TAILQ_FIRST(&key->entries)->ticket.session, now_s)) {
        SSL_SESSION_free(remove_entry(tickets, TAILQ_FIRST(&key->entries)).session);
        key = find_key(tickets, text);
    }
    if (key == NULL) {
        pthread_mutex_unlock(&tickets->lock);
        return false;
    }
    entry = TAILQ_FIRST(&key->entries);
    if (SSL_SESSION_should_be_single_use(entry->ticket.session)) {
        *out_ticket = remove_entry(tickets, entry);
    } else {
        *out_ticket = entry->ticket;
        SSL_SESSION_up_ref(out_ticket->session);
    }
    pthread_mutex_unlock(&tickets->lock);
    return true;
}

void ph_tickets_forget(struct ph_tickets *tickets, struct ph_str text)
{
    struct ticket_key *key;

    pthread_mutex_lock(&tickets->lock);
    while ((key = find_key(tickets, text)) != NULL) {
        SSL_SESSION_free(remove_entry(tickets, TAILQ_FIRST(&key->entries)).session);
    }
    pthread_mutex_unlock(&tickets->lock);
}

size_t ph_tickets_count(struct ph_tickets *tickets)
{
    size_t count;

    pthread_mutex_lock(&tickets->lock);
    count = tickets->count;
    pthread_mutex_unlock(&tickets->lock);
    return count;
}
