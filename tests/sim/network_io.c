// The engine's sockets.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "tests/sim/network_parts.h"
#include "tests/sim/scene.h"
#include "tests/sim/sim.h"

#define CONNECT_TIMES_OUT_NS (130 * 1000 * PH_NS_PER_MS) // the kernel's own patience
#define OP_NS_MAX (PH_NS_PER_MS / 2)
#define ACCEPT_AGAIN_NS (100 * PH_NS_PER_MS) // after want of a descriptor

static struct sim *sim_of(const struct ph_io *io)
{
    return ((const struct sim_io *)io)->sim;
}

static struct sim_io *io_of(const struct sim_socket *s)
{
    return (struct sim_io *)s->socket.io;
}

static void soon(struct sim *sim, struct sim_event *event)
{
    sim_after(&sim->clock, event, sim_between(&sim->random, 1000, OP_NS_MAX));
}

// --- listeners ---

// The connections are still there, and descriptors may be.
static void accept_again(struct sim_event *event)
{
    struct sim_listener *l = event->owner;

    if (!l->paused && l->op != NULL && !STAILQ_EMPTY(&l->waiting)) {
        sim_io_notify((struct sim_io *)l->listener.io, l->op, 0);
    }
}

int sim_net_listen(struct ph_io *io, const struct ph_listen_options *options,
                   struct ph_listener **out_listener, struct ph_endpoint *out_bound)
{
    struct sim_listener *l = ph_alloc(sizeof(*l));

    l->listener.io = io;
    l->at = options->at;
    STAILQ_INIT(&l->waiting);
    sim_event_init(&l->again, accept_again, l);
    LIST_INSERT_HEAD(&sim_of(io)->network->listeners, l, link);
    *out_listener = &l->listener;
    *out_bound = options->at;
    return 0;
}

void sim_net_accept_start(struct ph_listener *listener, struct ph_op *op)
{
    struct sim_listener *l = (struct sim_listener *)listener;

    l->op = op;
}

bool sim_net_accept_next(struct ph_listener *listener, struct ph_socket **out_socket,
                         struct ph_endpoint *out_peer, struct ph_endpoint *out_local)
{
    struct sim_listener *l = (struct sim_listener *)listener;
    struct sim_conn *conn = STAILQ_FIRST(&l->waiting);

    if (conn == NULL) {
        return false;
    }
    if (sim_files_short(sim_of(listener->io))) {
        sim_after(&sim_of(listener->io)->clock, &l->again, ACCEPT_AGAIN_NS);
        return false;
    }
    STAILQ_REMOVE_HEAD(&l->waiting, accept_link);
    *out_socket = &sim_socket_new(listener->io, conn)->socket;
    *out_peer = conn->far;
    *out_local = l->at;
    if (conn->end.connected != NULL && !conn->broken) {
        conn->end.connected(conn->end.owner);
    }
    return true;
}

void sim_net_accept_pause(struct ph_listener *listener, bool paused)
{
    struct sim_listener *l = (struct sim_listener *)listener;

    l->paused = paused;
    if (!paused && l->op != NULL && !STAILQ_EMPTY(&l->waiting)) {
        sim_io_notify((struct sim_io *)listener->io, l->op, 0);
    }
}

void sim_net_listener_close(struct ph_listener *listener)
{
    struct sim_listener *l = (struct sim_listener *)listener;
    struct sim_conn *conn;

    if (l->op != NULL) {
        ph_io_retract(listener->io, l->op);
    }
    STAILQ_FOREACH(conn, &l->waiting, accept_link)
    {
        sim_conn_put(conn, false, SEGMENT_RESET, PH_STR_NONE);
    }
    LIST_REMOVE(l, link);
    sim_cancel(&sim_of(listener->io)->clock, &l->again);
    free(l);
}

// --- sockets ---

static void on_connect(struct sim_event *event);
static void on_send(struct sim_event *event);
static void on_readable(struct sim_event *event);
static void on_close(struct sim_event *event);

struct sim_socket *sim_socket_new(struct ph_io *io, struct sim_conn *conn)
{
    struct sim_socket *s = ph_alloc(sizeof(*s));

    s->socket.io = io;
    s->conn = conn;
    s->error = conn->broken ? ECONNRESET : 0;
    conn->near = s;
    sim_event_init(&s->connect_event, on_connect, s);
    sim_event_init(&s->send_event, on_send, s);
    sim_event_init(&s->recv_event, on_readable, s);
    sim_event_init(&s->close_event, on_close, s);
    return s;
}

uint64_t sim_net_socket_detach(struct ph_socket *socket)
{
    struct sim_socket *s = (struct sim_socket *)socket;

    PH_CHECK(s->recv_op == NULL && s->send_op == NULL && s->connect_op == NULL);
    socket->io = NULL; // nobody's until it is adopted
    return s->conn->number;
}

struct ph_socket *sim_net_socket_adopt(struct ph_io *io, uint64_t token)
{
    struct sim_network *network = sim_of(io)->network;
    struct sim_socket *s;

    PH_CHECK(token > 0 && token <= network->conn_count);
    s = network->by_number[token]->near;
    PH_CHECK(s != NULL && s->socket.io == NULL);
    s->socket.io = io;
    return &s->socket;
}

struct ph_socket *sim_net_connect(struct ph_io *io, struct ph_op *op, const struct ph_endpoint *to,
                                  const struct ph_endpoint *from)
{
    struct sim *sim = sim_of(io);
    struct sim_conn *conn = sim_conn_new(sim->network, to);
    struct sim_socket *s = sim_socket_new(io, conn);

    (void)from;
    s->connect_op = op;
    if (sim_files_short(sim)) {
        s->connect_result = -EMFILE;
    } else if (sim_fault(sim, SIM_refused, 150)) {
        s->connect_result = -ECONNREFUSED;
    } else if (sim_fault(sim, SIM_unreachable, 150)) {
        s->connect_result = sim_chance(&sim->random, 500) ? -EHOSTUNREACH : -ETIMEDOUT;
    } else if (!sim->scene->listens(sim, to)) {
        s->connect_result = -ECONNREFUSED;
    }
    if (s->connect_result == -ETIMEDOUT) {
        sim_after(&sim->clock, &s->connect_event, CONNECT_TIMES_OUT_NS);
    } else {
        sim_after(
            &sim->clock, &s->connect_event,
            sim_between(&sim->random, sim->options.latency_min_ns, sim->options.latency_max_ns));
    }
    return &s->socket;
}

static void on_connect(struct sim_event *event)
{
    struct sim_socket *s = event->owner;
    struct ph_op *op = s->connect_op;
    struct sim *sim = s->conn->network->sim;

    s->connect_op = NULL;
    sim_trace(sim, "connect", s->conn->number, (uint64_t)-s->connect_result, 0);
    if (s->connect_result == 0) {
        sim->scene->accept(sim, s->conn, &s->conn->far);
    }
    sim_io_complete(io_of(s), op, s->connect_result);
}

// --- receiving ---

static void notify(struct sim_socket *s)
{
    if (s->recv_op != NULL && s->close_op == NULL && !s->paused) {
        sim_io_notify(io_of(s), s->recv_op, 0);
    }
}

void sim_socket_arrived(struct sim_socket *s, enum segment_kind kind, struct ph_str bytes)
{
    struct sim *sim = s->conn->network->sim;

    switch (kind) {
    case SEGMENT_UNSEEN:
        break;
    case SEGMENT_DATA:
        ph_buf_append(&s->received, bytes);
        break;
    case SEGMENT_FIN:
        s->eof = true;
        break;
    case SEGMENT_RESET:
        s->error = ECONNRESET;
        if (sim_chance(&sim->random, 500)) {
            ph_buf_clear(&s->received); // with a reset, what wasn't read may be gone
        }
        break;
    }
    if (kind == SEGMENT_RESET && s->send_op != NULL) {
        soon(sim, &s->send_event);
    }
    if (s->close_op == NULL && s->socket.io != NULL) {
        notify(s);
    }
}

void sim_net_recv_start(struct ph_socket *socket, struct ph_op *op)
{
    struct sim_socket *s = (struct sim_socket *)socket;

    PH_CHECK(s->recv_op == NULL && s->close_op == NULL);
    s->recv_op = op;
    if (s->received.len > 0 || s->eof || s->error != 0) {
        notify(s);
    }
}

static void on_readable(struct sim_event *event)
{
    struct sim_socket *s = event->owner;

    notify(s);
}

enum ph_recv_result sim_net_recv_next(struct ph_socket *socket, struct ph_str *out_slice)
{
    struct sim_socket *s = (struct sim_socket *)socket;
    struct sim *sim = sim_of(socket->io);
    size_t len = s->received.len;

    PH_CHECK(s->lent == NULL && s->close_op == NULL);
    if (len == 0) {
        if (s->told_end || (s->error == 0 && !s->eof) || s->paused) {
            return PH_RECV_NONE;
        }
        s->told_end = true;
        if (s->error != 0) {
            s->recv_op->result = -s->error;
            return PH_RECV_ERROR;
        }
        return PH_RECV_EOF;
    }
    // While paused a slice that was on its way may still come.
    if (s->paused && !sim_chance(&sim->random, 200)) {
        return PH_RECV_NONE;
    }
    if (sim->options.on[SIM_partial] && sim_chance(&sim->random, 100)) {
        soon(sim, &s->recv_event);
        return PH_RECV_NONE;
    }
    if (sim->options.on[SIM_partial] && sim_chance(&sim->random, 300)) {
        len = (size_t)sim_between(&sim->random, 1, len);
    }
    // Memory of exactly this size: who reads on is seen by a sanitizer.
    s->lent = ph_alloc(len);
    memcpy(s->lent, s->received.data, len);
    ph_buf_consume(&s->received, len);
    s->conn->read += len;
    *out_slice = (struct ph_str){.data = s->lent, .len = len};
    return PH_RECV_DATA;
}

void sim_net_recv_release(struct ph_socket *socket)
{
    struct sim_socket *s = (struct sim_socket *)socket;

    PH_CHECK(s->lent != NULL);
    free(s->lent);
    s->lent = NULL;
}

void sim_net_recv_pause(struct ph_socket *socket, bool paused)
{
    struct sim_socket *s = (struct sim_socket *)socket;

    s->paused = paused;
    if (!paused && (s->received.len > 0 || ((s->eof || s->error != 0) && !s->told_end))) {
        notify(s);
    }
}

// --- sending ---

static uint64_t sum_of(const struct sim_socket *s)
{
    uint64_t sum = 0;

    for (int i = 0; i < s->slice_count; i++) {
        sum = ph_hash_bytes(s->slices[i].iov_base, s->slices[i].iov_len, sum);
    }
    return sum;
}

void sim_net_send(struct ph_socket *socket, struct ph_op *op, const struct iovec *iov,
                  int iov_count)
{
    struct sim_socket *s = (struct sim_socket *)socket;

    PH_CHECK(s->send_op == NULL && s->close_op == NULL);
    s->send_op = op;
    s->slice_count = iov_count;
    s->slice_at = 0;
    s->slice_done = 0;
    s->sent = 0;
    s->send_total = 0;
    for (int i = 0; i < iov_count; i++) {
        s->slices[i] = iov[i];
        s->send_total += iov[i].iov_len;
    }
    s->slices_sum = sum_of(s);
    soon(sim_of(socket->io), &s->send_event);
}

static void send_some(struct sim_socket *s, size_t most)
{
    while (most > 0 && s->slice_at < s->slice_count) {
        const struct iovec *slice = &s->slices[s->slice_at];
        size_t left = slice->iov_len - s->slice_done;
        size_t len = left < most ? left : most;

        sim_conn_put(
            s->conn, false, SEGMENT_DATA,
            (struct ph_str){.data = (const char *)slice->iov_base + s->slice_done, .len = len});
        s->slice_done += len;
        s->sent += len;
        most -= len;
        if (s->slice_done == slice->iov_len) {
            s->slice_at++;
            s->slice_done = 0;
        }
    }
}

// The engine gave it away, and can't know whether it went.
static void lose_rest(struct sim_socket *s)
{
    for (; s->slice_at < s->slice_count; s->slice_at++, s->slice_done = 0) {
        const struct iovec *slice = &s->slices[s->slice_at];

        sim_conn_lose(s->conn,
                      (struct ph_str){.data = (const char *)slice->iov_base + s->slice_done,
                                      .len = slice->iov_len - s->slice_done});
    }
}

static void on_send(struct sim_event *event)
{
    struct sim_socket *s = event->owner;
    struct sim *sim = s->conn->network->sim;
    struct ph_op *op = s->send_op;
    size_t left = s->send_total - s->sent;
    bool all = !sim->options.on[SIM_partial] || sim_chance(&sim->random, 700);

    if (op == NULL) {
        return;
    }
    if (sum_of(s) != s->slices_sum) {
        sim_fail(sim, "bytes given to a send were changed before it completed");
    }
    if (s->error != 0) {
        s->send_op = NULL;
        op->world_data[0] = s->sent;
        lose_rest(s);
        sim_io_complete(io_of(s), op, sim_chance(&sim->random, 500) ? -EPIPE : -s->error);
        return;
    }
    send_some(s, all ? left : (size_t)sim_between(&sim->random, 1, left));
    if (s->sent < s->send_total) {
        soon(sim, &s->send_event);
        return;
    }
    s->send_op = NULL;
    sim_io_complete(io_of(s), op, (int64_t)s->send_total);
}

void sim_net_shutdown(struct ph_socket *socket)
{
    sim_conn_put(((struct sim_socket *)socket)->conn, false, SEGMENT_FIN, PH_STR_NONE);
}

// --- the end ---

void sim_net_close(struct ph_socket *socket, struct ph_op *op)
{
    struct sim_socket *s = (struct sim_socket *)socket;
    struct sim *sim = sim_of(socket->io);
    struct ph_op *others[] = {s->connect_op, s->recv_op, s->send_op};

    PH_CHECK(s->close_op == NULL);
    for (size_t i = 0; i < PH_ARRAY_LEN(others); i++) {
        if (others[i] != NULL) {
            ph_io_retract(socket->io, others[i]);
        }
    }
    s->close_op = op;
    sim_cancel(&sim->clock, &s->connect_event);
    sim_cancel(&sim->clock, &s->recv_event);
    // A send under way may still get some of its bytes out before it is cancelled.
    if (s->send_op != NULL && s->error == 0 && sim_chance(&sim->random, 500)) {
        send_some(s, (size_t)sim_below(&sim->random, s->send_total - s->sent + 1));
    }
    if (s->send_op != NULL) {
        lose_rest(s);
    }
    sim_cancel(&sim->clock, &s->send_event);
    s->send_op = NULL;
    soon(sim, &s->close_event);
}

static void on_close(struct sim_event *event)
{
    struct sim_socket *s = event->owner;
    struct sim_conn *conn = s->conn;
    struct ph_op *op = s->close_op;
    bool unread = s->received.len > 0;

    conn->near = NULL;
    conn->near_gone = true;
    // Bytes that nobody read make it a reset.
    sim_conn_put(conn, false, unread ? SEGMENT_RESET : SEGMENT_FIN, PH_STR_NONE);
    sim_io_complete((struct sim_io *)s->socket.io, op, 0);
    free(s->lent);
    ph_buf_deinit(&s->received);
    free(s);
}
