// Who lives in this world besides the engine: history.c (clients and sites by chance), table.c (the
// rows of the truth table).
#pragma once

#include "base/buf.h"
#include "base/endpoint.h"
#include "base/io.h"

struct sim;
struct sim_conn;
struct ph_config;

struct sim_scene {
    // Once: peers, clients, files.
    void (*prepare)(struct sim *sim);
    // What the engine starts with now, or is reloaded with; a reference for the caller.
    struct ph_config *(*configure)(struct sim *sim);
    void (*zone)(struct sim *sim, struct ph_buf *out); // zone-file lines, one a line
    // What is answered in the zone's place: false where that has the word. NULL: nothing.
    bool (*resolve)(struct sim *sim, struct ph_resolve_op *op);
    // False: no route to it. NULL: there is no web.
    bool (*fetch)(struct sim *sim, struct ph_fetch_op *op);
    bool (*listens)(struct sim *sim, const struct ph_endpoint *at);
    void (*accept)(struct sim *sim, struct sim_conn *conn, const struct ph_endpoint *at);
    void (*log)(struct sim *sim, struct ph_str lines); // of the delivery log
    // Is it a problem that the scene makes for the engine? NULL: it makes none.
    bool (*expects)(struct sim *sim, struct ph_str problem);
    bool (*enough)(struct sim *sim);  // clients want no more
    bool (*drained)(struct sim *sim); // faults are over: is all at its end?
    void (*stalled)(struct sim *sim); // it should be by now: says what isn't
    void (*check)(struct sim *sim);   // when it is
    // After an orderly end and a start: is it this that is owed?
    bool (*owed)(struct sim *sim, uint64_t recipients);
};

extern const struct sim_scene sim_history;
extern const struct sim_scene sim_table;
