// The sending conversation (RFC 5321, 2920, 3030, 3207, 3461, 4954, 6152, 6531): replies in, events
// and bytes out. No socket and no clock. No envelope and no credential leaves without a clearance.
//
//   GREETING → EHLO (→ HELO) → IDLE ⇄ TRANSACTIONS → QUIT → ENDED
//                 ↑ IDLE → STARTTLS → TLS ┘     IDLE → AUTH → IDLE
//
// In IDLE and TRANSACTIONS the owner may send messages, up to its pipeline depth; replies are
// attributed to them in strict order.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/reason.h"
#include "base/str.h"
#include "smtp/ehlo.h"
#include "smtp/envelope.h"
#include "smtp/reply.h"
#include "tls/gate.h"

#define PH_CLIENT_REPLY_TEXT_MAX 200 // bytes of a peer's text kept per recipient, with NUL; ours

enum ph_client_state {
    PH_CLIENT_GREETING,
    PH_CLIENT_EHLO,
    PH_CLIENT_HELO,
    PH_CLIENT_IDLE,
    PH_CLIENT_STARTTLS,
    PH_CLIENT_TLS, // 220 was read: the owner does the handshake
    PH_CLIENT_AUTH,
    PH_CLIENT_TRANSACTIONS,
    PH_CLIENT_QUIT,
    PH_CLIENT_ENDED,
};

enum ph_client_event {
    PH_CLIENT_EVENT_MORE,             // input used up, nothing to tell
    PH_CLIENT_EVENT_READY,            // EHLO or HELO succeeded: `ehlo` is valid, state is IDLE
    PH_CLIENT_EVENT_STARTTLS_READY,   // 220 to STARTTLS, nothing behind it: begin the handshake
    PH_CLIENT_EVENT_STARTTLS_REFUSED, // state is IDLE again (4xx/5xx); last_reply tells
    PH_CLIENT_EVENT_AUTH_OK,
    PH_CLIENT_EVENT_AUTH_REFUSED,     // last_reply tells
    PH_CLIENT_EVENT_TRANSACTION_DONE, // fetch them with ph_client_take_done
    PH_CLIENT_EVENT_ENDED,            // `end_reason` tells; all transactions are done, fetch them
};

enum ph_recipient_outcome {
    PH_RECIPIENT_PENDING,
    PH_RECIPIENT_DELIVERED,     // the final 2xx was read
    PH_RECIPIENT_REFUSED,       // `reason` has the peer's code: 4xx or 5xx
    PH_RECIPIENT_NOT_ATTEMPTED, // nothing of it is at the peer: requeue free of charge
    PH_RECIPIENT_BROKEN,   // the session broke inside its transaction before the body's end was
                           // sent: an attempt, certainly not delivered
    PH_RECIPIENT_IN_DOUBT, // the body's end was sent, its reply never read
};

struct ph_client_recipient {
    const struct ph_envelope_recipient *recipient; // borrowed
    enum ph_recipient_outcome outcome;
    enum ph_reason_kind kind; // of a refusal: MAIL_REJECTED, RCPT_REJECTED, DATA_REJECTED, …
    uint16_t code;            // of the reply that decided; 0: none
    struct ph_status status;
    char text[PH_CLIENT_REPLY_TEXT_MAX]; // the reply's text, cut, one line; also of a delivery
};

// One MAIL…body exchange. The owner fills the first part, which is borrowed until it is done.
struct ph_client_transaction {
    const struct ph_envelope *envelope;
    struct ph_client_recipient *recipients; // owner's array, outcome PENDING
    uint32_t recipient_count;
    const struct iovec *body; // slices of the content in wire form before dot-stuffing: CRLF line
    int body_count;           // ends, ends with CRLF, no bare CR or LF; slices end anywhere
    uint64_t body_len;
    void *owner;

    // The client's own.
    STAILQ_ENTRY(ph_client_transaction) link;
    uint8_t phase;
    uint8_t failure;         // what ended it before its last reply: its replies are passed over
    uint32_t next_recipient; // whose RCPT is said next, where one waits for the other
    uint32_t accepted_count; // recipients whose RCPT was accepted
    uint64_t begin_offset;   // of output, where its first byte stands
    uint64_t end_offset; // behind the body's last byte; UINT64_MAX while that isn't in the output
};
STAILQ_HEAD(ph_client_transaction_list, ph_client_transaction);

struct ph_client_options {
    uint64_t session_id;    // clearances are bound to it
    struct ph_str hostname; // for EHLO; borrowed
    bool force_helo;
};

struct ph_client; // opaque, heap

struct ph_client *ph_client_create(const struct ph_client_options *options);
void ph_client_destroy(struct ph_client *client); // transactions must be done; NULL accepted

// Takes bytes off the front of `input` up to the first event.
PH_MUST_CHECK enum ph_client_event ph_client_feed(struct ph_client *client, struct ph_str *input);

enum ph_client_state ph_client_state(const struct ph_client *client);
const struct ph_ehlo *ph_client_ehlo(const struct ph_client *client);
// `sent` is called with each command as it is put out (several, or a part of one, at a time), and
// never with bodies or credentials; NULL: nobody watches.
void ph_client_watch(struct ph_client *client, void (*sent)(void *owner, struct ph_str text),
                     void *owner);
const struct ph_reply *ph_client_last_reply(const struct ph_client *client);
const struct ph_reason *ph_client_end_reason(const struct ph_client *client);

void ph_client_starttls(struct ph_client *client); // state IDLE, offered
// The handshake is complete: forgets all that was learned before it and says EHLO again.
void ph_client_tls_established(struct ph_client *client);
// state IDLE; picks PLAIN or LOGIN from the EHLO reply: false when neither is offered. Takes the
// clearance.
PH_MUST_CHECK bool ph_client_send_auth(struct ph_client *client,
                                       struct ph_clearance *take_clearance, struct ph_str user,
                                       struct ph_str password);

// Why a message can't go on this session as it is: NONE, SIZE_EXCEEDED, SMTPUTF8_UNSUPPORTED,
// EIGHTBIT_UNSUPPORTED. To be asked before sending; pure.
enum ph_reason_kind ph_client_unfit(const struct ph_client *client,
                                    const struct ph_client_transaction *transaction);
// How many messages may be outstanding now: 1 until the peer has completed a BDAT (or where it
// lacks PIPELINING), then `configured`.
uint32_t ph_client_depth(const struct ph_client *client, uint32_t configured);
uint32_t ph_client_outstanding(const struct ph_client *client);
uint64_t ph_client_reply_count(const struct ph_client *client); // whole ones, so far
// State IDLE or TRANSACTIONS. Takes the clearance; borrows the transaction until it is done.
void ph_client_send_envelope(struct ph_client *client, struct ph_clearance *take_clearance,
                             struct ph_client_transaction *transaction);
struct ph_client_transaction *ph_client_take_done(struct ph_client *client); // NULL: no more
// The peer mistreated a BDAT, or answered what wasn't asked: no pipelining with this host for a
// time.
bool ph_client_bdat_unsafe(const struct ph_client *client);

// Gives back what memory it holds for commands and replies. Where something is under way, nothing.
void ph_client_shed(struct ph_client *client);
void ph_client_quit(struct ph_client *client); // state IDLE
// The connection broke, or a deadline passed: every outstanding transaction is done (BROKEN,
// NOT_ATTEMPTED or IN_DOUBT by what had been sent), the state is ENDED.
void ph_client_abort(struct ph_client *client, const struct ph_reason *reason);

// The output that is ready, as at most `max` slices (returns how many), from the front; borrowed
// until ph_client_sent. Calling it again gives the same bytes. Body bytes are slices of the
// transaction's body, dot-stuffed by slices where DATA is used.
int ph_client_output(struct ph_client *client, struct iovec *out_slices, int max);
// The first `len` bytes of the output (behind those that were sent) are on their way: replies to
// them may come before ph_client_sent does, and after a break they count as sent.
void ph_client_handed(struct ph_client *client, uint64_t len);
// The first `len` bytes of the output were handed to the network (or to TLS).
void ph_client_sent(struct ph_client *client, uint64_t len);
bool ph_client_has_output(const struct ph_client *client);

// What reply is awaited now, for the owner's deadline; NONE: none.
enum ph_client_wait {
    PH_CLIENT_WAIT_NONE,
    PH_CLIENT_WAIT_GREETING,
    PH_CLIENT_WAIT_EHLO,
    PH_CLIENT_WAIT_STARTTLS,
    PH_CLIENT_WAIT_AUTH,
    PH_CLIENT_WAIT_MAIL,
    PH_CLIENT_WAIT_RCPT,
    PH_CLIENT_WAIT_DATA,
    PH_CLIENT_WAIT_FINAL,
    PH_CLIENT_WAIT_QUIT,
};
enum ph_client_wait ph_client_waits_for(const struct ph_client *client);
