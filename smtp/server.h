// The receiving conversation (RFC 5321, 1870, 2920, 3030, 3207, 3461, 4954, 6152, 6531, 8689):
// bytes in; events and bytes out. No socket and no clock: its owner reads, writes, stores and
// times.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/reason.h"
#include "base/str.h"
#include "smtp/envelope.h"

#define PH_SERVER_LINE_BYTES_MAX                                                                   \
    4096 // with parameters; RFC 5321 §4.5.3.1.4 and extensions ask less
#define PH_SERVER_CHUNK_BYTES ((size_t)128 << 10)      // content is handed over beyond this
#define PH_SERVER_AUTH_FAILURES_MAX 3                  // then the session ends; ours
#define PH_SERVER_HEADER_BYTES_MAX ((uint64_t)1 << 20) // ours

struct ph_server;

enum ph_server_event {
    PH_SERVER_EVENT_MORE,     // input used up, or an answer of the owner is awaited
    PH_SERVER_EVENT_STARTTLS, // 220 is in the output: send it, do the handshake, tls_established
    PH_SERVER_EVENT_AUTH,     // ph_server_credentials: check them, then ph_server_authenticated
    PH_SERVER_EVENT_CHUNK,    // the content is long: take ph_server_content, then chunk_stored
    PH_SERVER_EVENT_MESSAGE,  // whole: store it, then ph_server_stored or ph_server_refused
    PH_SERVER_EVENT_DISCARD,  // a message of which chunks were taken won't come: forget them
    PH_SERVER_EVENT_TARPIT,   // a stranger was refused: hold the output for a while, then go on
    PH_SERVER_EVENT_ENDED,    // send the output, then close
};

struct ph_server_options {
    struct ph_str hostname;  // of the greeting and EHLO; strings are borrowed for the server's life
    struct ph_str banner;    // the greeting's text behind the name; empty: "ESMTP"
    struct ph_str connector; // for the envelope
    struct ph_str client_address; // "192.0.2.1"
    bool starttls_offered;
    bool require_tls;          // 530 before it
    bool auth_offered;         // over TLS only
    bool may_relay;            // the client's address is in RemoteIPRanges
    bool normalize;            // BareLineEndings
    uint64_t message_size_max; // bytes
    uint32_t recipients_max;
    uint32_t protocol_errors_max;
    uint32_t hops_max;
    bool tarpits; // TARPIT behind each 5xx of a client that isn't authenticated
    // Each command as it came, without credentials. NULL: nobody listens.
    void (*heard)(void *owner, struct ph_str line);
    // May mail from this domain (A-labels) come by this session? The reason is the reply. NULL: all
    // may.
    bool (*judge_sender)(void *owner, struct ph_str domain, struct ph_reason *out_reason);
    // The Received field for the message that begins (with CRLF), appended to `out`.
    void (*trace)(void *owner, struct ph_server *server, struct ph_buf *out);
    void *owner;
};

struct ph_server *ph_server_create(const struct ph_server_options *options); // greets
void ph_server_destroy(struct ph_server *server);                            // NULL accepted

// Takes bytes off the front of `input` up to the first event; none while an answer is awaited.
PH_MUST_CHECK enum ph_server_event ph_server_feed(struct ph_server *server, struct ph_str *input);
// What is to be sent; the owner consumes it.
struct ph_buf *ph_server_output(struct ph_server *server);

void ph_server_tls_established(struct ph_server *server); // forgets what was said in the clear

// Both empty but in an AUTH event; wiped by ph_server_authenticated.
void ph_server_credentials(const struct ph_server *server, struct ph_str *out_user,
                           struct ph_str *out_password);
void ph_server_authenticated(struct ph_server *server, bool right);
// The credentials aren't looked at: 454, and it counts as a failure.
void ph_server_authentication_put_off(struct ph_server *server);
struct ph_str ph_server_user(const struct ph_server *server); // authenticated; empty: not

// Of the message in the events CHUNK and MESSAGE. arrival, expiry and priority are the owner's.
struct ph_envelope *ph_server_envelope(struct ph_server *server);
struct ph_buf *ph_server_content(struct ph_server *server); // the owner may take the bytes away
uint64_t ph_server_content_size(const struct ph_server *server); // all of it, with what was taken
void ph_server_chunk_stored(struct ph_server *server);
void ph_server_stored(struct ph_server *server, struct ph_str id);
// The message isn't accepted: 452 "4.3.1", 451 "4.3.0", ….
void ph_server_refused(struct ph_server *server, unsigned code, const char *status,
                       const char *text);

struct ph_str ph_server_client_name(const struct ph_server *server); // as EHLO gave it
const char *ph_server_protocol(const struct ph_server *server);      // "ESMTPSA", RFC 3848
bool ph_server_in_message(const struct ph_server *server);           // between MAIL and the end
bool ph_server_awaits_owner(const struct ph_server *server);
// Ends the session by 421 (shutdown, timeout), once no answer of the owner is awaited.
void ph_server_end(struct ph_server *server, const char *status, const char *text);
