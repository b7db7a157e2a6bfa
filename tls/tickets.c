// Sessions that can be resumed.
#include "tls/tickets.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <uthash.h>

#include "base/check.h"

struct entry {
    struct ph_ticket ticket;
    struct key *key;
    TAILQ_ENTRY(entry) of_key; // the newest first
    TAILQ_ENTRY(entry) by_age; // the newest first, of all keys
};

TAILQ_HEAD(entries, entry);

// The key's bytes are ours (host names are peers', but long since validated and bounded).
struct key {
    char *text;
    size_t count;
    struct entries entries;
    UT_hash_handle hh;
};

struct ph_tickets {
    size_t tickets_max;
    size_t count;
    struct key *keys;
    struct entries by_age;
};

struct ph_tickets *ph_tickets_create(size_t tickets_max)
{
    struct ph_tickets *tickets = ph_alloc(sizeof(*tickets));

    tickets->tickets_max = tickets_max;
    TAILQ_INIT(&tickets->by_age);
    return tickets;
}

// Unlinks it; its session is the caller's now.
static struct ph_ticket remove_entry(struct ph_tickets *tickets, struct entry *entry)
{
    struct ph_ticket ticket = entry->ticket;
    struct key *key = entry->key;

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

void ph_tickets_destroy(struct ph_tickets *tickets)
{
    while (!TAILQ_EMPTY(&tickets->by_age)) {
        SSL_SESSION_free(remove_entry(tickets, TAILQ_FIRST(&tickets->by_age)).session);
    }
    free(tickets);
}

static struct key *find_key(struct ph_tickets *tickets, struct ph_str text)
{
    struct key *key;

    HASH_FIND(hh, tickets->keys, text.data, text.len, key);
    return key;
}

static struct key *add_key(struct ph_tickets *tickets, struct ph_str text)
{
    struct key *key = ph_alloc(sizeof(*key));

    key->text = ph_alloc(text.len + 1);
    memcpy(key->text, text.data, text.len);
    TAILQ_INIT(&key->entries);
    HASH_ADD_KEYPTR(hh, tickets->keys, key->text, text.len, key);
    return key;
}

void ph_tickets_take(struct ph_tickets *tickets, struct ph_str text, struct ph_ticket ticket)
{
    struct key *key;
    struct entry *entry;

    if (tickets->tickets_max == 0 || text.len == 0 || text.len > PH_TICKETS_KEY_BYTES_MAX) {
        SSL_SESSION_free(ticket.session);
        return;
    }
    key = find_key(tickets, text);
    if (key != NULL && key->count == PH_TICKETS_PER_KEY_MAX) {
        SSL_SESSION_free(remove_entry(tickets, TAILQ_LAST(&key->entries, entries)).session);
    } else if (tickets->count == tickets->tickets_max) {
        SSL_SESSION_free(remove_entry(tickets, TAILQ_LAST(&tickets->by_age, entries)).session);
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
}

static bool has_expired(const SSL_SESSION *session, uint64_t now_s)
{
    uint64_t issued_s = SSL_SESSION_get_time(session);

    // A clock that went back makes its age unknown.
    return now_s < issued_s || now_s - issued_s >= SSL_SESSION_get_timeout(session);
}

bool ph_tickets_offer(struct ph_tickets *tickets, struct ph_str text, uint64_t now_s,
                      struct ph_ticket *out_ticket)
{
    struct key *key = find_key(tickets, text);
    struct entry *entry;

    // Of one key, the last expired one takes the key with it.
    while (key != NULL && has_expired(TAILQ_FIRST(&key->entries)->ticket.session, now_s)) {
        SSL_SESSION_free(remove_entry(tickets, TAILQ_FIRST(&key->entries)).session);
        key = find_key(tickets, text);
    }
    if (key == NULL) {
        return false;
    }
    entry = TAILQ_FIRST(&key->entries);
    if (SSL_SESSION_should_be_single_use(entry->ticket.session)) {
        *out_ticket = remove_entry(tickets, entry);
    } else {
        *out_ticket = entry->ticket;
        SSL_SESSION_up_ref(out_ticket->session);
    }
    return true;
}

void ph_tickets_forget(struct ph_tickets *tickets, struct ph_str text)
{
    struct key *key;

    while ((key = find_key(tickets, text)) != NULL) {
        SSL_SESSION_free(remove_entry(tickets, TAILQ_FIRST(&key->entries)).session);
    }
}

size_t ph_tickets_count(const struct ph_tickets *tickets)
{
    return tickets->count;
}
