// Sessions that can be resumed, kept for all workers under what was sent on them (host, SNI, client
// certificate, …). With each goes what can't be read off it: whether the server had asked for our
// certificate. Any thread may call: a lock is held for the lookup only.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "tls/boringssl.h"

#include <openssl/ssl.h>

// Of one key. Servers issue one or two per handshake, and parallel sessions each bring theirs;
// ours.
#define PH_TICKETS_PER_KEY_MAX 8
#define PH_TICKETS_KEY_BYTES_MAX 1024 // longer ones are not kept; ours

struct ph_tickets;

struct ph_ticket {
    SSL_SESSION *session;              // one reference
    bool client_certificate_requested; // in the handshake that issued it
    bool client_certificate_sent;
    uint16_t group; // of that handshake (IANA); 0: none
};

// `tickets_max` in all; 0: keeps none. One reference.
struct ph_tickets *ph_tickets_create(size_t tickets_max);
struct ph_tickets *ph_tickets_retain(struct ph_tickets *tickets); // counted atomically
void ph_tickets_release(struct ph_tickets *tickets);              // NULL accepted
bool ph_tickets_enabled(const struct ph_tickets *tickets);        // it keeps some
// Where the certificates of their sessions live; borrowed.
struct ph_chain_pool;
struct ph_chain_pool *ph_tickets_pool(struct ph_tickets *tickets);

// Takes the reference over, also when the ticket isn't kept.
void ph_tickets_take(struct ph_tickets *tickets, struct ph_str key, struct ph_ticket ticket);
// The newest that hasn't expired. One that may be used once only (TLS 1.3) is gone from the store
// then; the caller gets a reference in either case.
PH_MUST_CHECK bool ph_tickets_offer(struct ph_tickets *tickets, struct ph_str key, uint64_t now_s,
                                    struct ph_ticket *out_ticket);
void ph_tickets_forget(struct ph_tickets *tickets, struct ph_str key);
size_t ph_tickets_count(struct ph_tickets *tickets);

// Over a restart: all that haven't expired, encrypted (AES-256-GCM), appended to `out`; and back.
// False: not sealed with this key, damaged, or of another version; then none is taken.
#define PH_TICKETS_KEY_BYTES 32
void ph_tickets_seal(struct ph_tickets *tickets, const uint8_t key[PH_TICKETS_KEY_BYTES],
                     uint64_t now_s, struct ph_buf *out);
PH_MUST_CHECK bool ph_tickets_unseal(struct ph_tickets *tickets,
                                     const uint8_t key[PH_TICKETS_KEY_BYTES], struct ph_str sealed);
