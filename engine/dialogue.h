// What was said on sessions: until one is open always, so that its failure can be read afterwards
// without having asked for it; live, for who watches a site; all of it into the protocol log, where
// ProtocolLoggingLevel = Verbose. Bodies and credentials are left out.
#pragma once

#include "base/buf.h"
#include "base/json.h"
#include "base/reason.h"

struct ph_connection;
struct ph_site;
struct ph_worker;

#define PH_DIALOGUE_BYTES_MAX ((size_t)8 << 10)  // of one session on its way to being open; ours
#define PH_DIALOGUE_WATCH_BYTES_MAX (256u << 10) // of a site between two questions; ours
#define PH_DIALOGUE_WATCH_MS 10000               // nobody asks for so long: nobody watches; ours

// Watched: lines since the last question.
struct ph_dialogue_watch {
    struct ph_buf lines;
    uint64_t until_ms;
    uint64_t left_out; // bytes for which there was no room
};

void ph_dialogue_begin(struct ph_connection *c); // its client has just been made
void ph_dialogue_received(struct ph_connection *c, struct ph_str text);
void ph_dialogue_note(struct ph_connection *c, const char *format, ...) PH_PRINTF(2, 3);
void ph_dialogue_opened(struct ph_connection *c);
void ph_dialogue_closed(struct ph_connection *c); // its socket
// What was said becomes the site's last failure.
void ph_dialogue_failed(struct ph_connection *c, const struct ph_reason *reason);
// An element of an array for each site of the worker that has such a host; it is watched from now
// on: its last failure at first, then what was said since the last question.
void ph_dialogue_tell(struct ph_worker *worker, struct ph_str host, struct ph_json *json);
