// What the contract tests of base/io.h share: the worlds, and both ends of a connection. One end is
// the world's, the other a plain descriptor that doesn't block, so one thread turns both.
#pragma once

#include <criterion/criterion.h>
#include <string.h>

#include "base/io.h"
#include "engine/host_io.h"

#define IO_WORLDS 3
#define IO_HANG_NS                                                                                 \
    (UINT64_C(20) * 1000 * PH_NS_PER_MS) // a promise that isn't kept by then never is

struct io_end {
    struct io_bench *bench;
    struct ph_socket *socket;
    struct ph_op connect_op;
    struct ph_op recv_op;
    struct ph_op send_op;
    struct ph_op close_op;
    struct ph_buf got;
    struct ph_endpoint peer;
    bool connected; // the operation was stepped
    bool ended;
    bool sent;
    bool closed;
    bool leave; // doesn't fetch what has come
    unsigned recv_steps;
    int64_t error; // of the receive
};

struct io_bench {
    const char *name;
    struct ph_offload *offload;
    struct ph_io *io;
    struct ph_listener *listener;
    struct ph_op accept_op;
    struct ph_endpoint at; // where it listens
    struct io_end *accepted[512];
    unsigned accepted_count;
    unsigned accept_steps;
    int64_t accept_error;
};

// For tests that run once a world: the one that POSTHASTE_IO names, without it the ring.
struct ph_io *io_world_named(const struct ph_host_threads *threads);
// World 0 is poll, 1 the ring, 2 a ring with hardly any room: 8 submissions, 8 completions, 4
// buffers of 64 bytes.
struct ph_io *io_world(unsigned which, struct ph_offload *offload);
void io_start(struct io_bench *b, unsigned which);
void io_finish(struct io_bench *b); // all ends must be closed
void io_turn(struct io_bench *b);

#define IO_UNTIL(b, condition)                                                                     \
    do {                                                                                           \
        uint64_t hang_ns = (b)->io->now_ns + IO_HANG_NS;                                           \
        while (!(condition)) {                                                                     \
            io_turn(b);                                                                            \
            cr_assert((b)->io->now_ns < hang_ns, "%s: never: %s", (b)->name, #condition);          \
        }                                                                                          \
    } while (false)

// Listens and accepts; each accepted end receives at once.
void io_listen(struct io_bench *b);
// An end of the world's and a plain descriptor, connected.
struct io_end *io_pair(struct io_bench *b, int *out_plain);
struct io_end *io_connect(struct io_bench *b, const struct ph_endpoint *to);
void io_receive(struct io_end *end);
void io_close(struct io_end *end); // and waits for it; the end is freed
void io_close_begin(struct io_end *end);
void io_end_free(struct io_end *end);

int io_plain_connect(const struct ph_endpoint *to);           // doesn't block
int io_plain_listen(struct ph_endpoint *out_at, int backlog); // doesn't block
int io_plain_accept(struct io_bench *b, int listening);       // turns the world until it can
// The world's descriptor whose peer is this plain one; -1: none.
int io_fd_facing(int plain);

// Streams that can be told apart, byte for byte.
char io_byte_at(size_t at, unsigned stream);
// Sends what goes now of the stream's bytes `from` to `to`; returns how far it has come.
size_t io_feed(int plain, unsigned stream, size_t from, size_t to, size_t step);
