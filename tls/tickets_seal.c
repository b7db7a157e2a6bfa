// Tickets over a restart: one sealed text, so that a stolen disk gives no session away.
#include <stdlib.h>
#include <string.h>

#include <openssl/aead.h>
#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/rand.h>

#include "base/check.h"
#include "tls/chain.h"
#include "tls/tickets_parts.h"

#define PH_SEAL_NONCE_BYTES 12
#define PH_SEAL_TAG_BYTES 16
#define PH_SEAL_REQUESTED 1 // flags of a ticket
#define PH_SEAL_SENT 2

// In front, in clear, and authenticated: what this is.
static const char head[] = "posthaste-tickets 2\n";

#define PH_SEAL_HEAD_BYTES (sizeof(head) - 1)

static void add_ticket(CBB *to, const struct ticket_entry *entry)
{
    uint8_t flags = (uint8_t)((entry->ticket.client_certificate_requested ? PH_SEAL_REQUESTED : 0) |
                              (entry->ticket.client_certificate_sent ? PH_SEAL_SENT : 0));
    uint8_t *session = NULL;
    size_t session_len = 0;
    CBB part;

    // What can't be written is one that can't be resumed either.
    if (SSL_SESSION_to_bytes(entry->ticket.session, &session, &session_len) == 1) {
        PH_CHECK(CBB_add_u16_length_prefixed(to, &part) &&
                 CBB_add_bytes(&part, (const uint8_t *)entry->key->text, entry->key->len) &&
                 CBB_add_u8(to, flags) && CBB_add_u16(to, entry->ticket.group) &&
                 CBB_add_u24_length_prefixed(to, &part) &&
                 CBB_add_bytes(&part, session, session_len) && CBB_flush(to));
    }
    OPENSSL_free(session);
    ERR_clear_error();
}

void ph_tickets_seal(struct ph_tickets *tickets, const uint8_t key[PH_TICKETS_KEY_BYTES],
                     uint64_t now_s, struct ph_buf *out)
{
    uint8_t nonce[PH_SEAL_NONCE_BYTES];
    uint8_t *plain;
    size_t plain_len;
    size_t sealed_len = 0;
    struct ticket_entry *entry;
    EVP_AEAD_CTX context;
    uint8_t *sealed;
    CBB all;

    PH_CHECK(CBB_init(&all, 4096));
    pthread_mutex_lock(&tickets->lock);
    // The oldest first: taken back in this order, the newest are the newest again.
    TAILQ_FOREACH_REVERSE(entry, &tickets->by_age, ticket_entries, by_age)
    {
        if (!ph_tickets_has_expired(entry->ticket.session, now_s)) {
            add_ticket(&all, entry);
        }
    }
    pthread_mutex_unlock(&tickets->lock);
    PH_CHECK(CBB_finish(&all, &plain, &plain_len));
    RAND_bytes(nonce, sizeof(nonce));
    sealed = ph_alloc(plain_len + PH_SEAL_TAG_BYTES);
    PH_CHECK(EVP_AEAD_CTX_init(&context, EVP_aead_aes_256_gcm(), key, PH_TICKETS_KEY_BYTES,
                               EVP_AEAD_DEFAULT_TAG_LENGTH, NULL) == 1 &&
             EVP_AEAD_CTX_seal(&context, sealed, &sealed_len, plain_len + PH_SEAL_TAG_BYTES, nonce,
                               sizeof(nonce), plain, plain_len, (const uint8_t *)head,
                               PH_SEAL_HEAD_BYTES) == 1);
    ph_buf_append_bytes(out, head, PH_SEAL_HEAD_BYTES);
    ph_buf_append_bytes(out, nonce, sizeof(nonce));
    ph_buf_append_bytes(out, sealed, sealed_len);
    EVP_AEAD_CTX_cleanup(&context);
    OPENSSL_cleanse(plain, plain_len);
    OPENSSL_free(plain);
    free(sealed);
}

static bool take_ticket(struct ph_tickets *tickets, SSL_CTX *context, CBS *from)
{
    struct ph_ticket ticket;
    CBS key;
    CBS session;
    uint16_t group;
    uint8_t flags;

    if (!CBS_get_u16_length_prefixed(from, &key) || !CBS_get_u8(from, &flags) ||
        !CBS_get_u16(from, &group) || !CBS_get_u24_length_prefixed(from, &session)) {
        return false;
    }
    ticket = (struct ph_ticket){
        .session = SSL_SESSION_from_bytes(CBS_data(&session), CBS_len(&session), context),
        .client_certificate_requested = (flags & PH_SEAL_REQUESTED) != 0,
        .client_certificate_sent = (flags & PH_SEAL_SENT) != 0,
        .group = group,
    };
    if (ticket.session != NULL) { // else it was another version's
        ph_tickets_take(tickets,
                        (struct ph_str){.data = (const char *)CBS_data(&key), .len = CBS_len(&key)},
                        ticket);
    }
    return true;
}

bool ph_tickets_unseal(struct ph_tickets *tickets, const uint8_t key[PH_TICKETS_KEY_BYTES],
                       struct ph_str sealed)
{
    SSL_CTX *context = SSL_CTX_new(TLS_with_buffers_method());
    uint8_t *plain = ph_alloc(sealed.len + 1);
    const uint8_t *bytes = (const uint8_t *)sealed.data;
    size_t at = PH_SEAL_HEAD_BYTES + PH_SEAL_NONCE_BYTES;
    size_t plain_len = 0;
    EVP_AEAD_CTX aead;
    bool good;
    CBS rest;

    PH_CHECK(context != NULL);
    SSL_CTX_set0_buffer_pool(context, tickets->pool->buffers);
    PH_CHECK(EVP_AEAD_CTX_init(&aead, EVP_aead_aes_256_gcm(), key, PH_TICKETS_KEY_BYTES,
                               EVP_AEAD_DEFAULT_TAG_LENGTH, NULL) == 1);
    good = sealed.len >= at && memcmp(bytes, head, PH_SEAL_HEAD_BYTES) == 0 &&
           EVP_AEAD_CTX_open(&aead, plain, &plain_len, sealed.len, bytes + PH_SEAL_HEAD_BYTES,
                             PH_SEAL_NONCE_BYTES, bytes + at, sealed.len - at,
                             (const uint8_t *)head, PH_SEAL_HEAD_BYTES) == 1;
    CBS_init(&rest, plain, plain_len);
    while (good && CBS_len(&rest) > 0) {
        good = take_ticket(tickets, context, &rest);
    }
    EVP_AEAD_CTX_cleanup(&aead);
    OPENSSL_cleanse(plain, plain_len);
    free(plain);
    SSL_CTX_free(context);
    ERR_clear_error();
    return good;
}
