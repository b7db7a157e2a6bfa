// Sockets of the ring world.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/ring_parts.h"

static struct ph_ring_socket *of(struct ph_socket *socket)
{
    return (struct ph_ring_socket *)socket;
}

static struct ph_ring *ring_of(const struct ph_ring_socket *s)
{
    return ph_ring_of(s->socket.io);
}

// A submission for this socket: it has one more to wait for.
static struct io_uring_sqe *submission(struct ph_ring_socket *s)
{
    s->in_flight++;
    PH_CHECK(s->in_flight > 0);
    return ph_ring_submission(ring_of(s));
}

static void tag(struct io_uring_sqe *sqe, enum ph_ring_tag_kind kind, struct ph_ring_socket *s)
{
    ph_ring_tag(sqe, kind, s->generation, s);
}

struct ph_ring_socket *ph_ring_socket_new(struct ph_ring *r, int fd)
{
    struct ph_ring_socket *s = LIST_FIRST(&r->free_sockets);
    uint16_t generation = 0;
    struct iovec *many = NULL;

    if (s != NULL) {
        LIST_REMOVE(s, link);
        generation = s->generation;
        many = s->many;
    } else {
        s = ph_alloc(sizeof(*s));
    }
    *s = (struct ph_ring_socket){.socket = {.io = &r->host.io},
                                 .fd = fd,
                                 .generation = (uint16_t)(generation + 1),
                                 .many = many};
    STAILQ_INIT(&s->chunks);
    LIST_INSERT_HEAD(&r->sockets, s, link);
    return s;
}

static void drop_chunks(struct ph_ring_socket *s)
{
    struct ph_ring *r = ring_of(s);
    struct ph_ring_chunk *chunk;

    if (s->out != NULL) {
        ph_ring_chunk_release(&r->pool, s->out);
        s->out = NULL;
    }
    while ((chunk = STAILQ_FIRST(&s->chunks)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->chunks, link);
        ph_ring_chunk_release(&r->pool, chunk);
    }
    s->held_bytes = 0;
    if (s->holding) {
        s->holding = false;
        TAILQ_REMOVE(&r->holders, s, holder_link);
    }
    if (s->recv_starved) {
        s->recv_starved = false;
        STAILQ_REMOVE(&r->starved_sockets, s, ph_ring_socket, starved_link);
    }
}

static void release(struct ph_ring_socket *s)
{
    struct ph_ring *r = ring_of(s);

    PH_CHECK(s->in_flight == 0);
    drop_chunks(s);
    LIST_REMOVE(s, link);
    LIST_INSERT_HEAD(&r->free_sockets, s, link);
}

void ph_ring_sockets_free(struct ph_ring *r)
{
    struct ph_ring_socket *s;

    PH_CHECK(LIST_EMPTY(&r->sockets));
    while ((s = LIST_FIRST(&r->free_sockets)) != NULL) {
        LIST_REMOVE(s, link);
        free(s->many);
        free(s);
    }
}

// --- connecting ---

struct ph_socket *ph_ring_connect(struct ph_io *io, struct ph_op *op, const struct ph_endpoint *to,
                                  const struct ph_endpoint *from)
{
    struct ph_ring_socket *s = ph_ring_socket_new(ph_ring_of(io), ph_socket_open(to, from));
    socklen_t len = ph_socket_address_from(&s->address, to);
    struct io_uring_sqe *sqe;

    op->world_object = s;
    if (s->fd < 0) {
        ph_io_complete(io, op, s->fd);
    } else {
        ph_socket_block(s->fd);
        s->connect_op = op;
        sqe = submission(s);
        io_uring_prep_connect(sqe, s->fd, &s->address.any, len);
        tag(sqe, PH_RING_CONNECTED, s);
    }
    return &s->socket;
}

// --- closing: cancel, drain, close ---

static void close_when_drained(struct ph_ring_socket *s)
{
    struct io_uring_sqe *sqe;

    if (s->in_flight == 0) {
        sqe = submission(s);
        io_uring_prep_close(sqe, s->fd);
        tag(sqe, PH_RING_CLOSED, s);
    }
}

static void cancel_all(struct ph_ring_socket *s)
{
    struct io_uring_sqe *sqe = submission(s);

    s->close_attempts++;
    io_uring_prep_cancel_fd(sqe, s->fd, IORING_ASYNC_CANCEL_ALL);
    tag(sqe, PH_RING_CANCELLED, s);
}

void ph_ring_close(struct ph_socket *socket, struct ph_op *op)
{
    struct ph_ring_socket *s = of(socket);
    struct ph_op *others[] = {s->connect_op, s->recv_op, s->send_op};

    for (size_t i = 0; i < PH_ARRAY_LEN(others); i++) {
        if (others[i] != NULL) {
            ph_io_retract(socket->io, others[i]);
        }
    }
    ph_io_retract_all_of(socket->io, s); // what was done, but not stepped yet
    s->connect_op = NULL;
    s->recv_op = NULL;
    s->send_op = NULL;
    s->close_op = op;
    s->closing = true;
    drop_chunks(s);
    if (s->fd < 0) {
        ph_ring_socket_closed(s);
    } else if (s->in_flight > 0) {
        cancel_all(s);
    } else {
        close_when_drained(s);
    }
}

void ph_ring_socket_cancelled(struct ph_ring_socket *s, int result)
{
    int found = result > 0 ? result : 0;

    // A cancellation may miss what is just going from one state to another. On a socket that was
    // shut down nothing has to wait.
    if (s->in_flight > found && s->close_attempts == 1) {
        shutdown(s->fd, SHUT_RDWR);
        cancel_all(s);
    }
    close_when_drained(s);
}

void ph_ring_socket_closed(struct ph_ring_socket *s)
{
    ph_io_complete(s->socket.io, s->close_op, 0);
    release(s);
}

void ph_ring_socket_connected(struct ph_ring_socket *s, int result)
{
    struct ph_op *op = s->connect_op;

    if (s->closing) {
        close_when_drained(s);
    } else {
        s->connect_op = NULL;
        ph_io_complete(s->socket.io, op, result);
    }
}

void ph_ring_shutdown(struct ph_socket *socket)
{
    shutdown(of(socket)->fd, SHUT_WR);
}

uint64_t ph_ring_socket_detach(struct ph_socket *socket)
{
    struct ph_ring_socket *s = of(socket);
    uint64_t token = (uint64_t)s->fd + 1;

    PH_CHECK(s->recv_op == NULL && s->send_op == NULL && s->connect_op == NULL);
    release(s);
    return token;
}

struct ph_socket *ph_ring_socket_adopt(struct ph_io *io, uint64_t token)
{
    return &ph_ring_socket_new(ph_ring_of(io), (int)(token - 1))->socket;
}

// --- receiving ---

static void arm_recv(struct ph_ring_socket *s)
{
    struct io_uring_sqe *sqe = submission(s);

    io_uring_prep_recv_multishot(sqe, s->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = PH_RING_BUFFER_GROUP;
    tag(sqe, PH_RING_RECEIVED, s);
    s->recv_armed = true;
}

// Receiving goes on, unless it does, is over, or too much is held already.
static void go_on_receiving(struct ph_ring_socket *s)
{
    struct ph_ring *r = ring_of(s);

    if (s->closing || s->recv_op == NULL || s->recv_armed || s->recv_starved || s->recv_ended ||
        s->recv_error != 0 || s->held_bytes > PH_RING_HELD_BYTES_MAX) {
        return;
    }
    if (r->pool.free == 0) {
        s->recv_starved = true;
        STAILQ_INSERT_TAIL(&r->starved_sockets, s, starved_link);
    } else {
        arm_recv(s);
    }
}

static void stop_receiving(struct ph_ring_socket *s)
{
    struct io_uring_sqe *sqe;

    if (s->recv_armed && !s->recv_cancelling) {
        s->recv_cancelling = true;
        sqe = ph_ring_submission(ring_of(s));
        io_uring_prep_cancel64(sqe, ph_ring_tag_value(PH_RING_RECEIVED, s->generation, s), 0);
        ph_ring_tag(sqe, PH_RING_IGNORED, 0, NULL);
    }
}

static void hold(struct ph_ring_socket *s, struct ph_ring_chunk *chunk)
{
    STAILQ_INSERT_TAIL(&s->chunks, chunk, link);
    s->held_bytes += chunk->len;
    if (!s->holding) {
        s->holding = true;
        TAILQ_INSERT_TAIL(&ring_of(s)->holders, s, holder_link);
    }
}

// What may be asked for again says so; the rest of the errors are the connection's end.
static bool recv_may_go_on(int error)
{
    return error == -ENOBUFS || error == -ECANCELED || error == -EINTR || error == -EAGAIN;
}

void ph_ring_socket_received(struct ph_ring_socket *s, int result, uint32_t cqe_flags)
{
    struct ph_ring *r = ring_of(s);
    struct ph_ring_chunk *chunk = NULL;

    if (!(cqe_flags & IORING_CQE_F_MORE)) {
        s->recv_armed = false;
        s->recv_cancelling = false;
    }
    if (cqe_flags & IORING_CQE_F_BUFFER) {
        chunk = ph_ring_pool_take(&r->pool, cqe_flags, result > 0 ? (size_t)result : 0);
    }
    if (chunk != NULL && (result <= 0 || s->closing)) {
        ph_ring_chunk_release(&r->pool, chunk);
        chunk = NULL;
    }
    if (s->closing) {
        close_when_drained(s);
        return;
    }
    if (chunk != NULL) {
        hold(s, chunk);
    } else if (result == 0) {
        s->recv_ended = true;
    } else if (!recv_may_go_on(result)) {
        s->recv_error = result;
    }
    if (s->paused && s->held_bytes > PH_RING_HELD_BYTES_MAX) {
        stop_receiving(s);
    }
    go_on_receiving(s);
    if (!s->paused && (chunk != NULL || s->recv_ended || s->recv_error != 0)) {
        ph_io_notify(s->socket.io, s->recv_op, 0);
    }
}

void ph_ring_recv_start(struct ph_socket *socket, struct ph_op *op)
{
    struct ph_ring_socket *s = of(socket);

    op->world_object = s;
    s->recv_op = op;
    go_on_receiving(s);
}

enum ph_recv_result ph_ring_recv_next(struct ph_socket *socket, struct ph_str *out_slice)
{
    struct ph_ring_socket *s = of(socket);
    struct ph_ring *r = ring_of(s);

    PH_CHECK(s->out == NULL);
    if (s->paused) {
        return PH_RECV_NONE;
    }
    if (STAILQ_EMPTY(&s->chunks)) {
        go_on_receiving(s);
        if (s->recv_error != 0) {
            s->recv_op->result = s->recv_error;
            return PH_RECV_ERROR;
        }
        return s->recv_ended ? PH_RECV_EOF : PH_RECV_NONE;
    }
    s->out = STAILQ_FIRST(&s->chunks);
    STAILQ_REMOVE_HEAD(&s->chunks, link);
    s->held_bytes -= s->out->len;
    if (STAILQ_EMPTY(&s->chunks)) {
        s->holding = false;
        TAILQ_REMOVE(&r->holders, s, holder_link);
    }
    *out_slice = (struct ph_str){.data = s->out->data, .len = s->out->len};
    return PH_RECV_DATA;
}

void ph_ring_recv_release(struct ph_socket *socket)
{
    struct ph_ring_socket *s = of(socket);

    if (s->out != NULL) {
        ph_ring_chunk_release(&ring_of(s)->pool, s->out);
        s->out = NULL;
    }
}

// A pause costs nothing where the peer keeps still: only more than a little ends the receive.
void ph_ring_recv_pause(struct ph_socket *socket, bool paused)
{
    struct ph_ring_socket *s = of(socket);

    s->paused = paused;
    if (!paused && s->recv_op != NULL) {
        go_on_receiving(s);
        if (!STAILQ_EMPTY(&s->chunks) || s->recv_ended || s->recv_error != 0) {
            ph_io_notify(socket->io, s->recv_op, 0);
        }
    }
}

static void copy_out(struct ph_ring_socket *s)
{
    struct ph_ring *r = ring_of(s);
    struct ph_ring_chunk_list copies = STAILQ_HEAD_INITIALIZER(copies);
    struct ph_ring_chunk *chunk;

    while ((chunk = STAILQ_FIRST(&s->chunks)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->chunks, link);
        chunk = ph_ring_chunk_copy_out(&r->pool, chunk);
        STAILQ_INSERT_TAIL(&copies, chunk, link);
    }
    STAILQ_CONCAT(&s->chunks, &copies);
}

void ph_ring_sockets_tend(struct ph_ring *r)
{
    struct ph_ring_socket *s;

    // Their owners have had their turn. Who hasn't fetched doesn't keep buffers from the others.
    if (r->pool.free <= r->pool.count / 2) {
        TAILQ_FOREACH(s, &r->holders, holder_link)
        {
            copy_out(s);
            if (s->held_bytes > PH_RING_HELD_BYTES_MAX) {
                stop_receiving(s);
            }
        }
    }
    while (r->pool.free > 0 && (s = STAILQ_FIRST(&r->starved_sockets)) != NULL) {
        STAILQ_REMOVE_HEAD(&r->starved_sockets, starved_link);
        s->recv_starved = false;
        go_on_receiving(s);
    }
}

// --- sending ---

static void go_on_sending(struct ph_ring_socket *s)
{
    struct io_uring_sqe *sqe = submission(s);

    if (s->slice_count == 1) {
        io_uring_prep_send(sqe, s->fd, s->slices->iov_base, s->slices->iov_len,
                           MSG_NOSIGNAL | MSG_WAITALL);
    } else {
        s->message = (struct msghdr){.msg_iov = s->slices, .msg_iovlen = (size_t)s->slice_count};
        io_uring_prep_sendmsg(sqe, s->fd, &s->message, MSG_NOSIGNAL | MSG_WAITALL);
    }
    tag(sqe, PH_RING_SENT, s);
}

// True: there are bytes left.
static bool advance(struct ph_ring_socket *s, size_t sent)
{
    while (s->slice_count > 0 && sent >= s->slices->iov_len) {
        sent -= s->slices->iov_len;
        s->slices++;
        s->slice_count--;
    }
    if (sent > 0) {
        s->slices->iov_base = (char *)s->slices->iov_base + sent;
        s->slices->iov_len -= sent;
    }
    return s->slice_count > 0;
}

static void complete_send(struct ph_ring_socket *s, int64_t result)
{
    struct ph_op *op = s->send_op;

    s->send_op = NULL;
    op->world_data[0] = s->sent;
    ph_io_complete(s->socket.io, op, result);
}

void ph_ring_send(struct ph_socket *socket, struct ph_op *op, const struct iovec *iov,
                  int iov_count)
{
    struct ph_ring_socket *s = of(socket);

    PH_CHECK(s->send_op == NULL && !s->closing);
    if (iov_count == 1) {
        s->one = iov[0];
        s->slices = &s->one;
    } else {
        if (s->many == NULL) {
            s->many = ph_alloc(PH_SEND_IOV_MAX * sizeof(*s->many));
        }
        memcpy(s->many, iov, (size_t)iov_count * sizeof(*iov));
        s->slices = s->many;
    }
    s->slice_count = iov_count;
    s->sent = 0;
    op->world_object = s;
    s->send_op = op;
    if (advance(s, 0)) {
        go_on_sending(s);
    } else {
        complete_send(s, 0);
    }
}

void ph_ring_socket_sent(struct ph_ring_socket *s, int result)
{
    if (s->closing) {
        close_when_drained(s);
        return;
    }
    if (result > 0) {
        s->sent += (uint64_t)result;
        if (!advance(s, (size_t)result)) {
            complete_send(s, (int64_t)s->sent);
            return;
        }
    } else if (result != -EINTR && result != -EAGAIN) {
        complete_send(s, result < 0 ? result : -EPIPE);
        return;
    }
    go_on_sending(s);
}
