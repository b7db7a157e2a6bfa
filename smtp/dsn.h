// Delivery status notifications (RFC 3461, 3464, 6522): what became of a message → the notification
// as it goes over the wire. Pure.
#pragma once

#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/reason.h"
#include "smtp/envelope.h"

#define PH_DSN_QUOTED_BYTES_MAX ((size_t)32 << 10) // of the original, in a notification; ours

enum ph_dsn_action {
    PH_DSN_FAILED,
    PH_DSN_DELAYED,
    PH_DSN_RELAYED,
};

struct ph_dsn_recipient {
    const struct ph_envelope_recipient *recipient;
    struct ph_status status;  // class 0: made of the action
    uint16_t code;            // of the peer's reply; 0: none
    struct ph_str text;       // the reply, or our sentence
    struct ph_str remote;     // the host that said so; empty: nobody did
    uint64_t last_attempt_ms; // since 1970; 0: it isn't known
    // Where it is our own reason, and no peer's reply: its kind; a TLS policy is told of in words.
    enum ph_reason_kind reason;
};

struct ph_dsn_options {
    enum ph_dsn_action action;
    struct ph_str reporting_mta;        // our host name
    struct ph_str from;                 // "postmaster@…"
    struct ph_str id;                   // of this notification
    uint64_t wall_ms;                   // now
    uint64_t retry_until_ms;            // DELAYED: until when it is tried
    const struct ph_envelope *envelope; // of the original
    const struct iovec *body;           // of the original
    int body_count;
    const struct ph_dsn_recipient *recipients;
    uint32_t recipient_count;
};

// Appends the whole message, CRLF lines.
void ph_dsn_build(const struct ph_dsn_options *options, struct ph_buf *out);
// Does its sender want to hear of this about this recipient? (NOTIFY, RFC 3461 §4.1; never to the
// null reverse-path.)
bool ph_dsn_wanted(const struct ph_envelope *envelope,
                   const struct ph_envelope_recipient *recipient, enum ph_dsn_action action);
