// A message's content as it arrives by DATA or BDAT → canonical bytes: CRLF ends each line, dots
// unstuffed, and no bare CR or LF gets through (SMTP smuggling: only CRLF . CRLF ends DATA).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

enum ph_body_mode {
    PH_BODY_DATA,
    PH_BODY_BDAT,
};

struct ph_body {
    enum ph_body_mode mode;
    bool normalize; // a bare CR or LF becomes CRLF; otherwise it makes the message `bare`
    enum {
        PH_BODY_LINE_START,  // behind CRLF, or at the beginning
        PH_BODY_BEHIND_BARE, // a line begins behind a bare CR or LF: a dot here is no end of DATA
        PH_BODY_IN_LINE,
        PH_BODY_CR,     // a CR has come, not yet taken
        PH_BODY_DOT,    // DATA: a dot at the start of a line
        PH_BODY_DOT_CR, // DATA: and a CR behind it
    } state;
    bool ended;    // DATA: the final dot has come
    bool bare;     // a bare CR or LF was found (and not normalized)
    bool has_8bit; // a byte above 127 was found
    bool nul;      // a NUL was found
    uint64_t size; // canonical bytes so far
    // The header: hop count (RFC 5321 §6.3), and "TLS-Required: No" (RFC 8689 §3).
    bool header_over;
    uint32_t received_count;
    uint64_t header_bytes;
    bool tls_optional;
    char field[24]; // the front of the line, lower case
    uint8_t field_len;
    // The border: what an organization says to itself (X-MS-Exchange-Organization-*, -Forest-*)
    // isn't taken from others. A line's front is held until it is known what it is.
    enum {
        PH_BODY_FIELD_OPEN,
        PH_BODY_FIELD_KEPT,
        PH_BODY_FIELD_DROPPED,
    } fate;
    bool dropping; // the field that a folded line goes on with was dropped
    char held[32];
    uint8_t held_len;
    uint32_t dropped_count;
};

void ph_body_init(struct ph_body *body, enum ph_body_mode mode, bool normalize);
// Goes on in another BDAT chunk as if nothing had been between.
// Takes bytes off the front of `input` (DATA: up to and with the final dot's CRLF) and appends
// their canonical form to `out`.
void ph_body_feed(struct ph_body *body, struct ph_str *input, struct ph_buf *out);
// BDAT: the last chunk is whole. A line without its end gets one.
void ph_body_finish(struct ph_body *body, struct ph_buf *out);
