// Reads one SMTP reply (RFC 5321 §4.2) out of bytes as they arrive.
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/reason.h"
#include "base/str.h"

#define PH_REPLY_LINE_BYTES_MAX 4096   // with CRLF; RFC 5321 §4.5.3.1.5 says 512, peers exceed it
#define PH_REPLY_LINES_MAX 256         // ours: no peer may talk for ever
#define PH_REPLY_BYTES_MAX (64u << 10) // ours: of all lines together

enum ph_reply_result {
    PH_REPLY_MORE,      // feed again when more bytes have arrived
    PH_REPLY_COMPLETE,  // code and text hold the whole reply
    PH_REPLY_MALFORMED, // the peer broke the protocol: close the connection
};

struct ph_reply {
    uint16_t code; // 200..599; 0 until the first line has been read
    uint16_t line_count;
    struct ph_buf text; // owned; the lines without their codes, each ended by '\n'
};

void ph_reply_init(struct ph_reply *reply);
void ph_reply_deinit(struct ph_reply *reply); // zeroes accepted
void ph_reply_reset(struct ph_reply *reply);  // for the next one; keeps the memory

// Consumes whole lines from the front of `input`. Bytes after the reply stay there: with PIPELINING
// they are the next reply. A line that isn't whole stays too and is to be given again, with more
// behind it. `input` is borrowed; `reply` keeps no pointer into it. A reply that is complete must
// be reset before the next one is fed.
PH_MUST_CHECK enum ph_reply_result ph_reply_feed(struct ph_reply *reply, struct ph_str *input);

// The enhanced status code at the front of the last line (RFC 2034), when its class agrees with
// the reply's; class 0 otherwise. `out_text`, which may be NULL, is the line without it.
struct ph_status ph_reply_status(const struct ph_reply *reply, struct ph_str *out_text);
