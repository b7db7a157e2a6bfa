// Connections: bytes on their way, what befalls them, and the far ends.
#include "tests/sim/network.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/network_parts.h"

#define RESET_PERMILLE 60   // of connections
#define SILENT_PERMILLE 40  // with the option
#define FATE_BYTES_MAX 6000 // a connection's fate strikes within so many

struct sim_network *sim_network_create(struct sim *sim)
{
    struct sim_network *network = ph_alloc(sizeof(*network));

    network->sim = sim;
    LIST_INIT(&network->conns);
    LIST_INIT(&network->listeners);
    return network;
}

struct sim_conn *sim_conn_new(struct sim_network *network, const struct ph_endpoint *far)
{
    struct sim *sim = network->sim;
    struct sim_conn *conn = ph_alloc(sizeof(*conn));

    conn->network = network;
    conn->number = ++network->conn_count;
    conn->far = *far;
    conn->reset_at = UINT64_MAX;
    conn->silent_at = UINT64_MAX;
    if (sim_fault(sim, SIM_resets, RESET_PERMILLE)) {
        conn->reset_at = sim_below(&sim->random, FATE_BYTES_MAX);
        conn->reset_to_engine = sim_chance(&sim->random, 500);
    }
    if (sim_fault(sim, SIM_stalls, SILENT_PERMILLE)) {
        conn->silent_at = sim_below(&sim->random, FATE_BYTES_MAX);
    }
    network->by_number =
        reallocarray(network->by_number, conn->number + 1, sizeof(*network->by_number));
    PH_CHECK(network->by_number != NULL);
    network->by_number[conn->number] = conn;
    LIST_INSERT_HEAD(&network->conns, conn, link);
    return conn;
}

unsigned sim_conn_number(const struct sim_conn *conn)
{
    return conn->number;
}

static void far_ended(struct sim_conn *conn, bool reset)
{
    if (!conn->far_ended) {
        conn->far_ended = true;
        if (conn->end.ended != NULL) {
            conn->end.ended(conn->end.owner, reset);
        }
    }
}

static void pass_unseen(struct sim_conn *conn, bool to_engine, struct ph_str bytes)
{
    if (!to_engine && conn->end.unseen != NULL) {
        conn->end.unseen(conn->end.owner, bytes);
    }
}

static void arrive(struct sim_event *event)
{
    struct segment *segment = event->owner;
    struct sim_conn *conn = segment->conn;
    struct ph_str bytes = {.data = segment->bytes, .len = segment->len};

    bool lost = conn->silent || (conn->broken && segment->kind != SEGMENT_RESET);

    if (segment->kind == SEGMENT_UNSEEN || (lost && segment->kind == SEGMENT_DATA)) {
        pass_unseen(conn, segment->to_engine, bytes);
        free(segment);
        return;
    }
    if (lost) {
        free(segment);
        return;
    }
    sim_trace(conn->network->sim, segment->to_engine ? "to engine" : "to far", conn->number,
              segment->kind, segment->len);
    if (segment->kind == SEGMENT_RESET) {
        conn->broken = true;
    }
    if (segment->to_engine) {
        if (conn->near != NULL) {
            sim_socket_arrived(conn->near, segment->kind, bytes);
        } else if (!conn->near_gone) {
            conn->broken |= segment->kind == SEGMENT_FIN; // gone before it was accepted
        } else if (segment->kind == SEGMENT_DATA && !conn->broken) {
            // Nobody is there any more: the far end learns it.
            sim_conn_put(conn, false, SEGMENT_RESET, PH_STR_NONE);
        }
    } else if (segment->kind != SEGMENT_DATA) {
        far_ended(conn, segment->kind == SEGMENT_RESET);
    } else if (!conn->far_ended && conn->end.received != NULL) {
        conn->end.received(conn->end.owner, bytes);
    } else {
        pass_unseen(conn, false, bytes);
    }
    free(segment);
}

static void schedule(struct sim_conn *conn, bool to_engine, enum segment_kind kind,
                     struct ph_str bytes)
{
    struct sim *sim = conn->network->sim;
    struct flow *flow = to_engine ? &conn->to_engine : &conn->to_far;
    struct segment *segment = ph_alloc(sizeof(*segment) + bytes.len);
    uint64_t at_ns = sim->clock.now_ns + sim_between(&sim->random, sim->options.latency_min_ns,
                                                     sim->options.latency_max_ns);

    segment->conn = conn;
    segment->kind = kind;
    segment->to_engine = to_engine;
    segment->len = bytes.len;
    if (bytes.len > 0) {
        memcpy(segment->bytes, bytes.data, bytes.len);
    }
    // In order: never before the one in front of it.
    flow->last_ns = at_ns > flow->last_ns ? at_ns : flow->last_ns + 1;
    sim_event_init(&segment->event, arrive, segment);
    sim_at(&sim->clock, &segment->event, flow->last_ns);
}

void sim_conn_break(struct sim_conn *conn)
{
    schedule(conn, true, SEGMENT_RESET, PH_STR_NONE);
    schedule(conn, false, SEGMENT_RESET, PH_STR_NONE);
}

// Behind what is on its way.
static void lose(struct sim_conn *conn, bool to_engine, struct ph_str bytes)
{
    if (bytes.len > 0 && !to_engine && conn->end.unseen != NULL) {
        schedule(conn, false, SEGMENT_UNSEEN, bytes);
    }
}

void sim_conn_lose(struct sim_conn *conn, struct ph_str bytes)
{
    lose(conn, false, bytes);
}

void sim_conn_put(struct sim_conn *conn, bool to_engine, enum segment_kind kind,
                  struct ph_str bytes)
{
    struct sim *sim = conn->network->sim;
    struct flow *flow = to_engine ? &conn->to_engine : &conn->to_far;

    if (conn->broken || flow->finished) {
        lose(conn, to_engine, bytes);
        return;
    }
    if (kind != SEGMENT_DATA) {
        flow->finished = true;
        schedule(conn, to_engine, kind, PH_STR_NONE);
        return;
    }
    while (bytes.len > 0) {
        size_t most = sim->options.on[SIM_partial] && sim_chance(&sim->random, 300)
                          ? (size_t)sim_between(&sim->random, 1, bytes.len)
                          : bytes.len;
        struct ph_str part = ph_str_first(bytes, most);

        if (conn->reset_to_engine == to_engine && flow->sent + part.len > conn->reset_at &&
            !sim->calm) {
            part = ph_str_first(part, (size_t)(conn->reset_at - flow->sent));
            if (part.len > 0) {
                schedule(conn, to_engine, SEGMENT_DATA, part);
            }
            lose(conn, to_engine, ph_str_after(bytes, part.len));
            sim_trace(sim, "break", conn->number, to_engine, conn->reset_at);
            flow->finished = true;
            sim_conn_break(conn);
            return;
        }
        if (flow->sent >= conn->silent_at && !sim->calm) {
            conn->silent = true;
            lose(conn, to_engine, bytes);
            return;
        }
        schedule(conn, to_engine, SEGMENT_DATA, part);
        flow->sent += part.len;
        bytes = ph_str_after(bytes, part.len);
    }
}

// --- far ends ---

struct sim_conn *sim_conn_open(struct sim_network *network, const struct sim_far_end *end,
                               const struct ph_endpoint *from)
{
    struct sim_listener *listener = LIST_FIRST(&network->listeners);
    struct sim_conn *conn;

    if (listener == NULL) {
        return NULL;
    }
    conn = sim_conn_new(network, from);
    conn->end = *end;
    STAILQ_INSERT_TAIL(&listener->waiting, conn, accept_link);
    if (listener->op != NULL && !listener->paused) {
        sim_io_notify((struct sim_io *)listener->listener.io, listener->op, 0);
    }
    return conn;
}

void sim_conn_accept(struct sim_conn *conn, const struct sim_far_end *end)
{
    conn->end = *end;
}

uint64_t sim_conn_send(struct sim_conn *conn, struct ph_str bytes)
{
    uint64_t whole = conn->to_engine.sent + bytes.len;

    sim_conn_put(conn, true, SEGMENT_DATA, bytes);
    return conn->to_engine.sent == whole ? whole : UINT64_MAX;
}

uint64_t sim_conn_read(const struct sim_conn *conn)
{
    return conn->read;
}

void sim_conn_finish(struct sim_conn *conn)
{
    sim_conn_put(conn, true, SEGMENT_FIN, PH_STR_NONE);
}

void sim_conn_reset(struct sim_conn *conn)
{
    conn->far_ended = true;
    sim_conn_put(conn, true, SEGMENT_RESET, PH_STR_NONE);
}

// --- the end of a process ---

void sim_network_end_process(struct sim_network *network, bool power)
{
    struct sim *sim = network->sim;
    struct sim_listener *listener;
    struct sim_conn *conn;

    while ((listener = LIST_FIRST(&network->listeners)) != NULL) {
        LIST_REMOVE(listener, link);
        sim_cancel(&sim->clock, &listener->again);
        STAILQ_FOREACH(conn, &listener->waiting, accept_link)
        {
            sim_conn_put(conn, false, SEGMENT_RESET, PH_STR_NONE);
        }
    }
    LIST_FOREACH(conn, &network->conns, link)
    {
        struct sim_socket *s = conn->near;

        if (s == NULL) {
            continue;
        }
        conn->near = NULL;
        conn->near_gone = true;
        sim_cancel(&sim->clock, &s->connect_event);
        sim_cancel(&sim->clock, &s->send_event);
        sim_cancel(&sim->clock, &s->recv_event);
        sim_cancel(&sim->clock, &s->close_event);
        if (power && sim_chance(&sim->random, 500)) {
            conn->silent = true; // nobody says goodbye
        } else {
            sim_conn_put(conn, false, sim_chance(&sim->random, 500) ? SEGMENT_FIN : SEGMENT_RESET,
                         PH_STR_NONE);
        }
    }
}
