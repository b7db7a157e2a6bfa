// Listeners of the ring world: one multishot accept each.
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/ring_parts.h"

static struct ph_ring_listener *of(struct ph_listener *listener)
{
    return (struct ph_ring_listener *)listener;
}

int ph_ring_listen(struct ph_io *io, const struct ph_listen_options *options,
                   struct ph_listener **out_listener, struct ph_endpoint *out_bound)
{
    struct ph_ring *r = ph_ring_of(io);
    int fd = ph_socket_listen(&options->at, options->backlog, out_bound);
    struct ph_ring_listener *l;

    if (fd < 0) {
        return fd;
    }
    l = ph_alloc(sizeof(*l));
    l->listener.io = io;
    ph_socket_block(fd);
    l->fd = fd;
    l->generation = ++r->listener_generation;
    LIST_INSERT_HEAD(&r->listeners, l, link);
    *out_listener = &l->listener;
    return 0;
}

static void arm(struct ph_ring_listener *l)
{
    struct io_uring_sqe *sqe;

    if (l->op == NULL || l->armed || l->paused || l->starved || l->closing) {
        return;
    }
    sqe = ph_ring_submission(ph_ring_of(l->listener.io));
    io_uring_prep_multishot_accept(sqe, l->fd, NULL, NULL, SOCK_CLOEXEC);
    ph_ring_tag(sqe, PH_RING_ACCEPTED, l->generation, l);
    l->armed = true;
}

static void disarm(struct ph_ring_listener *l)
{
    struct io_uring_sqe *sqe;

    if (l->armed) {
        sqe = ph_ring_submission(ph_ring_of(l->listener.io));
        io_uring_prep_cancel64(sqe, ph_ring_tag_value(PH_RING_ACCEPTED, l->generation, l), 0);
        ph_ring_tag(sqe, PH_RING_IGNORED, 0, NULL);
    }
}

void ph_ring_accept_start(struct ph_listener *listener, struct ph_op *op)
{
    of(listener)->op = op;
    arm(of(listener));
}

void ph_ring_accept_pause(struct ph_listener *listener, bool paused)
{
    struct ph_ring_listener *l = of(listener);

    l->paused = paused;
    if (paused) {
        disarm(l);
    } else {
        arm(l);
    }
}

static bool pop(struct ph_ring_listener *l, int *out_fd)
{
    if (l->accepted.len == 0) {
        return false;
    }
    *out_fd = *(const int *)(const void *)l->accepted.data;
    ph_buf_consume(&l->accepted, sizeof(*out_fd));
    return true;
}

bool ph_ring_accept_next(struct ph_listener *listener, struct ph_socket **out_socket,
                         struct ph_endpoint *out_peer, struct ph_endpoint *out_local)
{
    struct ph_ring_listener *l = of(listener);
    union ph_socket_address address;
    socklen_t len;
    int fd;

    while (pop(l, &fd)) {
        len = sizeof(address);
        if (getpeername(fd, &address.any, &len) != 0) {
            close(fd); // gone already
            continue;
        }
        *out_peer = ph_socket_address_endpoint(&address);
        len = sizeof(address);
        getsockname(fd, &address.any, &len);
        *out_local = ph_socket_address_endpoint(&address);
        *out_socket = &ph_ring_socket_new(ph_ring_of(listener->io), fd)->socket;
        return true;
    }
    return false;
}

static void close_accepted(struct ph_ring_listener *l)
{
    int fd;

    while (pop(l, &fd)) {
        close(fd);
    }
}

static void release(struct ph_ring_listener *l)
{
    close_accepted(l);
    LIST_REMOVE(l, link);
    close(l->fd);
    ph_buf_deinit(&l->accepted);
    free(l);
}

void ph_ring_listener_close(struct ph_listener *listener)
{
    struct ph_ring_listener *l = of(listener);

    if (l->op != NULL) {
        ph_io_retract(listener->io, l->op);
        l->op = NULL;
    }
    l->closing = true;
    close_accepted(l);
    if (l->armed) {
        // The port is free from now on; the descriptor goes with the last completion.
        shutdown(l->fd, SHUT_RDWR);
        disarm(l);
    } else {
        release(l);
    }
}

static void starve(struct ph_ring_listener *l)
{
    struct ph_ring *r = ph_ring_of(l->listener.io);

    l->starved = true;
    r->starved_until_ns = r->host.io.now_ns + PH_RING_STARVED_NS;
}

void ph_ring_listener_accepted(struct ph_ring_listener *l, int result, uint32_t cqe_flags)
{
    if (!(cqe_flags & IORING_CQE_F_MORE)) {
        l->armed = false;
    }
    if (l->closing) {
        if (result >= 0) {
            close(result);
        }
        if (!l->armed) {
            release(l);
        }
        return;
    }
    if (result >= 0) {
        PH_CHECK(ph_buf_append_bytes(&l->accepted, &result, sizeof(result)));
        ph_io_notify(l->listener.io, l->op, 0);
    } else if (result != -ECANCELED && result != -ECONNABORTED && result != -EINTR &&
               result != -EAGAIN) {
        starve(l);
        ph_io_notify(l->listener.io, l->op, result);
    }
    arm(l);
}

void ph_ring_listeners_feed(struct ph_ring *r)
{
    struct ph_ring_listener *l;

    if (r->starved_until_ns == 0 || r->host.io.now_ns < r->starved_until_ns) {
        return;
    }
    r->starved_until_ns = 0;
    LIST_FOREACH(l, &r->listeners, link)
    {
        l->starved = false;
        arm(l);
    }
}

void ph_ring_listeners_free(struct ph_ring *r)
{
    struct ph_ring_listener *l;

    while ((l = LIST_FIRST(&r->listeners)) != NULL) {
        PH_CHECK(l->closing);
        release(l);
    }
}
