// What the files of the network share: network.c (connections and the far ends), network_io.c (the
// engine's sockets). Nobody else includes it.
#pragma once

#include <sys/queue.h>

#include "tests/sim/network.h"
#include "tests/sim/sim.h"

enum segment_kind {
    SEGMENT_DATA,
    SEGMENT_UNSEEN, // data that doesn't arrive
    SEGMENT_FIN,
    SEGMENT_RESET,
};

// On its way.
struct segment {
    struct sim_event event;
    struct sim_conn *conn;
    enum segment_kind kind;
    bool to_engine;
    size_t len;
    char bytes[];
};

struct flow { // one direction
    uint64_t sent;
    uint64_t last_ns; // when the newest segment arrives
    bool finished;
};

// The engine's end.
struct sim_socket {
    struct ph_socket socket; // first
    struct sim_conn *conn;
    struct ph_op *connect_op;
    struct ph_op *recv_op;
    struct ph_op *send_op;
    struct ph_op *close_op;
    struct sim_event connect_event;
    struct sim_event send_event;
    struct sim_event recv_event; // more can be read
    struct sim_event close_event;
    int64_t connect_result;
    struct iovec slices[PH_SEND_IOV_MAX];
    uint64_t slices_sum; // of the bytes borrowed
    int slice_count;
    int slice_at;
    size_t slice_done;
    size_t send_total;
    size_t sent;
    struct ph_buf received; // arrived, not yet fetched
    char *lent;             // to the engine, until it releases it
    bool paused;
    bool eof;
    bool told_end;
    int error; // errno of a reset
};

struct sim_conn {
    LIST_ENTRY(sim_conn) link;
    struct sim_network *network;
    unsigned number;
    uint64_t read;          // by the engine
    struct ph_endpoint far; // the other end's address
    struct sim_far_end end;
    struct sim_socket *near; // NULL: not accepted yet, closed, or its process is gone
    struct flow to_engine;
    struct flow to_far;
    bool broken;    // by a reset: nothing arrives any more
    bool silent;    // nothing arrives any more, and nobody is told
    bool far_ended; // the far end was told
    bool near_gone;
    uint64_t reset_at; // bytes in `reset_to_engine`'s direction after which it breaks
    bool reset_to_engine;
    uint64_t silent_at; // bytes in both directions; UINT64_MAX: never
    STAILQ_ENTRY(sim_conn) accept_link;
};

struct sim_listener {
    struct ph_listener listener; // first
    LIST_ENTRY(sim_listener) link;
    struct ph_endpoint at;
    struct ph_op *op;
    STAILQ_HEAD(, sim_conn) waiting;
    bool paused;
    struct sim_event again;
};

struct sim_network {
    struct sim *sim;
    LIST_HEAD(, sim_conn) conns;
    LIST_HEAD(, sim_listener) listeners;
    struct sim_conn **by_number; // numbers count from 1
    unsigned conn_count;
};

struct sim_conn *sim_conn_new(struct sim_network *network, const struct ph_endpoint *far);
struct sim_socket *sim_socket_new(struct ph_io *io, struct sim_conn *conn);
// Puts bytes, an end or a reset on their way.
void sim_conn_put(struct sim_conn *conn, bool to_engine, enum segment_kind kind,
                  struct ph_str bytes);
void sim_conn_lose(struct sim_conn *conn, struct ph_str bytes); // sent by the engine, and nowhere
void sim_conn_break(struct sim_conn *conn);                     // a reset arrives at both ends
void sim_socket_arrived(struct sim_socket *s, enum segment_kind kind, struct ph_str bytes);
