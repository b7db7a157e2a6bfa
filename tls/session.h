// Handshake and stream of one TLS connection over memory buffers → bytes to send, plaintext, facts.
// No sockets and no clock: bytes come in by feed, go out by output.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/reason.h"
#include "base/str.h"
#include "tls/facts.h"

struct ph_tickets; // tls/tickets.h
struct ph_tls_session;
struct ph_tls_context; // one per worker: SSL_CTX for client side, buffer pool, tickets, chain cache
struct ph_tls_server;  // tls/own.h: one certificate for the receive side; immutable, shared
struct ph_tls_identity; // tls/own.h: our client certificate and key; immutable, shared

#define PH_TLS_HELLO_BYTES                                                                         \
    1400 // of a ClientHello that fits one segment: Ethernet's, less tunnels; ours
#define PH_TLS_GROUPS_DEFAULT "?X25519MLKEM768:X25519:P-256" // TlsGroups

struct ph_tls_context_options {
    uint64_t (*now_s)(void *owner); // wall clock in seconds, the engine's or the simulator's
    void *owner;
    size_t chain_cache_max; // verdicts kept; 0: no cache
    size_t ticket_max;      // tickets kept; 0: no resumption
    // Tickets and certificates shared with other contexts (a reference is taken); NULL: its own, of
    // `ticket_max`.
    struct ph_tickets *tickets;
    size_t intermediates_max; // between leaf and trust anchor, plus 1; 0: the default
};

struct ph_tls_context *ph_tls_context_create(const struct ph_tls_context_options *options);
void ph_tls_context_destroy(struct ph_tls_context *context); // after its sessions
// CRLs beside those of the trust stores, for stores that have a source of revocation: from now on
// verdicts are made with these. A reference is taken; NULL: none.
struct ph_crls;
void ph_tls_context_set_crls(struct ph_tls_context *context, struct ph_crls *crls);
const struct ph_crls *ph_tls_context_crls(const struct ph_tls_context *context);
// Drops the tickets under a key: after their facts were refused, the next handshake is a full one.
void ph_tls_context_forget(struct ph_tls_context *context, struct ph_str resumption_key);

struct ph_tls_client_options {
    uint64_t session_id;
    struct ph_str sni;            // the host's name; empty for an IP literal: no SNI then
    struct ph_str resumption_key; // what was sent + host: tickets are kept under it; empty: none
    const struct ph_tls_identity *identity; // NULL: none
    uint16_t version_min;
    struct ph_str groups; // TlsGroups as configured (valid ones), "" for the default
    // What is known of the host. Its key share is sent at once, where it is among `groups`; 0:
    // those that TlsGroups says. And whether a ClientHello must fit one segment: then no group is
    // offered that makes it longer, unless there is no other.
    uint16_t key_share;
    bool small_hello;
    // May a ticket be offered whose session had these facts? Judge them by today's policy: a
    // refused ticket is dropped and the handshake is a full one. NULL: any may; then judge the
    // facts of the session that results.
    bool (*ticket_acceptable)(void *owner, const struct ph_tls_facts *facts);
    void *owner;
};

// "X25519:P-256"; a leading '?' offers a group without sending a key share for it, and lets a group
// be passed over that this library doesn't have. False, with a sentence, when it can't be used.
PH_MUST_CHECK bool ph_tls_groups_valid(struct ph_str groups, struct ph_buf *error);

// In words: "X25519MLKEM768 (its key share to hosts that ask for it), X25519, P-256", of those that
// this library has.
void ph_tls_groups_describe(struct ph_str groups, struct ph_buf *out);
// Has `groups` both such as make a ClientHello longer than a segment, and others?
bool ph_tls_groups_shrinkable(struct ph_str groups);
// TlsRequireGroups: as above, but each must be there: without '?', and known to this library.
PH_MUST_CHECK bool ph_tls_groups_requirable(struct ph_str groups, struct ph_buf *error);

// Never NULL.
struct ph_tls_session *ph_tls_session_connect(struct ph_tls_context *context,
                                              const struct ph_tls_client_options *options);
struct ph_tls_session *ph_tls_session_accept(const struct ph_tls_server *server,
                                             uint64_t session_id);
// On the receive side, before the handshake: the client's certificate, where one was asked for and
// shown, becomes a fact.
void ph_tls_session_keep_chain(struct ph_tls_session *session, struct ph_tls_context *context);
void ph_tls_session_destroy(struct ph_tls_session *session); // NULL accepted

enum ph_tls_result {
    PH_TLS_MORE,   // more bytes from the peer are needed
    PH_TLS_OK,     // the handshake is complete; or `out` holds plaintext
    PH_TLS_CLOSED, // the peer ended the stream properly (close_notify)
    PH_TLS_FAILED, // ph_tls_session_failure says why; output may still hold an alert
};

// Bytes from the network; copied. Drain them with handshake or read before the next turn.
void ph_tls_session_feed(struct ph_tls_session *session, struct ph_str bytes);
// Goes on with the handshake as far as the bytes fed allow. OK: facts are there.
PH_MUST_CHECK enum ph_tls_result ph_tls_session_handshake(struct ph_tls_session *session);
// Appends plaintext that has arrived to `out` (at most `max` bytes a call).
PH_MUST_CHECK enum ph_tls_result ph_tls_session_read(struct ph_tls_session *session,
                                                     struct ph_buf *out, size_t max);
// Encrypts all of `plain` into the output.
PH_MUST_CHECK enum ph_tls_result ph_tls_session_write(struct ph_tls_session *session,
                                                      struct ph_str plain);
// What is to be sent was taken: gives the memory for it back.
void ph_tls_session_shed(struct ph_tls_session *session);
void ph_tls_session_close(struct ph_tls_session *session); // puts close_notify into the output
// What is to be sent; the caller consumes it, or swaps the buffer with an empty one of its own.
struct ph_buf *ph_tls_session_output(struct ph_tls_session *session);

// Valid once the handshake returned OK; borrowed, lives as long as the session. starttls_offered
// is set by the caller.
struct ph_tls_facts *ph_tls_session_facts(struct ph_tls_session *session);
// For people and logs: library reason, versions, alert. Valid after FAILED.
const char *ph_tls_session_failure(const struct ph_tls_session *session);
// Bytes of our last ClientHello, while no ServerHello has answered it; else 0.
size_t ph_tls_session_unanswered_hello(const struct ph_tls_session *session);
// The peer refused for want of our certificate (alert certificate_required and the like).
bool ph_tls_session_wants_certificate(const struct ph_tls_session *session);
bool ph_tls_session_complete(const struct ph_tls_session *session); // the handshake is over
// True until a first byte of plaintext was read: a fatal alert then is the handshake's (TLS 1.3
// delivers 'certificate required' late).
bool ph_tls_session_unconfirmed(const struct ph_tls_session *session);
