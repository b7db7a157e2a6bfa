// What the contract tests of base/io.h share.
#include "io_worlds.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/ring.h"
#include "engine/socket_parts.h"
#include "engine/world.h"

static const char *const names[IO_WORLDS] = {"poll", "ring", "tiny ring"};

static struct ph_io *make(enum ph_io_world wanted, const struct ph_host_threads *threads)
{
    struct ph_buf why = {0};
    struct ph_io *io = NULL;

    cr_assert_eq(ph_world_create(&(struct ph_world_options){.wanted = wanted, .threads = *threads},
                                 &io, 1, &why),
                 0, "%s", ph_buf_cstr(&why));
    return io;
}

struct ph_io *io_world_named(const struct ph_host_threads *threads)
{
    const char *name = getenv("POSTHASTE_IO");

    return make(name != NULL && strcmp(name, "poll") == 0 ? PH_IO_POLL : PH_IO_RING, threads);
}

struct ph_io *io_world(unsigned which, struct ph_offload *offload)
{
    struct ph_host_threads threads = {.offload = offload};
    struct ph_ring_options tiny = {.threads = threads,
                                   .submissions = 8,
                                   .completions = 8,
                                   .buffer_count = 4,
                                   .buffer_bytes = 64};
    struct ph_io *io = NULL;

    if (which < 2) {
        return make(which == 0 ? PH_IO_POLL : PH_IO_RING, &threads);
    }
    cr_assert_eq(ph_ring_create(&tiny, &io), 0, "%s can't be made", names[which]);
    return io;
}

void io_start(struct io_bench *b, unsigned which)
{
    *b = (struct io_bench){.name = names[which]};
    b->offload = ph_offload_create(2);
    b->io = io_world(which, b->offload);
}

void io_finish(struct io_bench *b)
{
    if (b->listener != NULL) {
        ph_io_listener_close(b->listener);
    }
    b->io->vtable->destroy(b->io);
    ph_offload_destroy(b->offload);
}

void io_turn(struct io_bench *b)
{
    ph_io_run_ready(b->io);
    ph_io_wait(b->io, b->io->now_ns + PH_NS_PER_MS);
}

// --- the world's end ---

static void on_connected(struct ph_op *op)
{
    ((struct io_end *)op->owner)->connected = true;
}

static void on_received(struct ph_op *op)
{
    struct io_end *end = op->owner;
    enum ph_recv_result result = PH_RECV_DATA;
    struct ph_str slice;

    end->recv_steps++;
    while (result == PH_RECV_DATA && !end->leave) {
        result = ph_io_recv_next(end->socket, &slice);
        if (result == PH_RECV_DATA) {
            cr_assert(slice.len > 0);
            cr_assert(ph_buf_append(&end->got, slice));
            ph_io_recv_release(end->socket);
        }
    }
    end->ended |= result == PH_RECV_EOF;
    end->error = result == PH_RECV_ERROR ? op->result : end->error;
}

static void on_sent(struct ph_op *op)
{
    ((struct io_end *)op->owner)->sent = true;
}

static void on_closed(struct ph_op *op)
{
    ((struct io_end *)op->owner)->closed = true;
}

static struct io_end *end_new(struct io_bench *b)
{
    struct io_end *end = ph_alloc(sizeof(*end));

    end->bench = b;
    ph_op_init(&end->connect_op, on_connected, end);
    ph_op_init(&end->recv_op, on_received, end);
    ph_op_init(&end->send_op, on_sent, end);
    ph_op_init(&end->close_op, on_closed, end);
    return end;
}

void io_end_free(struct io_end *end)
{
    ph_buf_deinit(&end->got);
    free(end);
}

void io_receive(struct io_end *end)
{
    ph_io_recv_start(end->socket, &end->recv_op);
}

void io_close_begin(struct io_end *end)
{
    ph_io_close(end->socket, &end->close_op);
}

void io_close(struct io_end *end)
{
    io_close_begin(end);
    IO_UNTIL(end->bench, end->closed);
    io_end_free(end);
}

struct io_end *io_connect(struct io_bench *b, const struct ph_endpoint *to)
{
    struct io_end *end = end_new(b);

    end->socket = ph_io_connect(b->io, &end->connect_op, to, NULL);
    return end;
}

static void on_accepted(struct ph_op *op)
{
    struct io_bench *b = op->owner;
    struct ph_socket *socket;
    struct ph_endpoint peer;
    struct ph_endpoint local;

    b->accept_steps++;
    b->accept_error = op->result < 0 ? op->result : b->accept_error;
    while (ph_io_accept_next(b->listener, &socket, &peer, &local)) {
        struct io_end *end = end_new(b);

        cr_assert(ph_endpoint_eq(&local, &b->at));
        end->socket = socket;
        end->peer = peer;
        cr_assert(b->accepted_count < PH_ARRAY_LEN(b->accepted));
        b->accepted[b->accepted_count++] = end;
        io_receive(end);
    }
    b->accept_error = op->result < 0 ? op->result : b->accept_error;
}

void io_listen(struct io_bench *b)
{
    struct ph_listen_options options = {
        .at = {.family = PH_FAMILY_IPV4, .bytes = {127, 0, 0, 1}, .port = b->at.port},
        .backlog = 512};

    cr_assert_eq(ph_io_listen(b->io, &options, &b->listener, &b->at), 0);
    ph_op_init(&b->accept_op, on_accepted, b);
    ph_io_accept_start(b->listener, &b->accept_op);
}

struct io_end *io_pair(struct io_bench *b, int *out_plain)
{
    struct ph_endpoint at;
    int listening = io_plain_listen(&at, 8);
    struct io_end *end = io_connect(b, &at);

    IO_UNTIL(b, end->connected);
    cr_assert_eq(end->connect_op.result, 0);
    *out_plain = io_plain_accept(b, listening);
    close(listening);
    return end;
}

// --- the plain end ---

int io_plain_connect(const struct ph_endpoint *to)
{
    union ph_socket_address address;
    socklen_t len = ph_socket_address_from(&address, to);
    int fd = ph_socket_open(to, NULL);

    cr_assert_geq(fd, 0);
    cr_assert(connect(fd, &address.any, len) == 0 || errno == EINPROGRESS);
    return fd;
}

int io_plain_listen(struct ph_endpoint *out_at, int backlog)
{
    struct ph_endpoint any = {.family = PH_FAMILY_IPV4, .bytes = {127, 0, 0, 1}};
    int fd = ph_socket_listen(&any, backlog, out_at);

    cr_assert_geq(fd, 0);
    return fd;
}

int io_plain_accept(struct io_bench *b, int listening)
{
    int fd = -1;

    IO_UNTIL(b, (fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
    return fd;
}

char io_byte_at(size_t at, unsigned stream)
{
    return (char)((at * 31 + at / 251 + stream * 7) & 0xff);
}

size_t io_feed(int plain, unsigned stream, size_t from, size_t to, size_t step)
{
    char part[8192];
    ssize_t sent = 1;

    while (from < to && sent > 0) {
        size_t len = to - from < step ? to - from : step;

        for (size_t i = 0; i < len; i++) {
            part[i] = io_byte_at(from + i, stream);
        }
        sent = send(plain, part, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        from += sent > 0 ? (size_t)sent : 0;
    }
    return from;
}

int io_fd_facing(int plain)
{
    union ph_socket_address mine = {0};
    union ph_socket_address its = {0};
    struct ph_endpoint a;
    struct ph_endpoint b;
    socklen_t len = sizeof(mine);

    cr_assert_eq(getsockname(plain, &mine.any, &len), 0);
    a = ph_socket_address_endpoint(&mine);
    for (int fd = 3; fd < 2048; fd++) {
        len = sizeof(its);
        if (fd != plain && getpeername(fd, &its.any, &len) == 0) {
            b = ph_socket_address_endpoint(&its);
            if (ph_endpoint_eq(&a, &b)) {
                return fd;
            }
        }
    }
    return -1;
}
