// By chance: connections that send, pause, break and close at any moment, and whose numbers go to
// others. Every byte that arrives is the next of its own stream, and each close is stepped once. A
// failure prints its seed; POSTHASTE_SEED runs one again. Covers: engine/ring_socket engine/poll
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io_worlds.h"

#define LINKS 24
#define ROUNDS 400
#define STREAM_MAX ((size_t)300000)
#define SEND_BYTES 20000

struct link {
    struct io_end *end;
    int plain; // -1: gone
    unsigned stream;
    bool paused;
    bool closing;
    bool cut;     // by a reset: not all that was fed arrives
    size_t fed;   // to the world
    size_t seen;  // bytes of `end->got` that were looked at
    size_t begun; // sent by the world, and what of it the plain end has
    size_t read;
    char sending[SEND_BYTES];
};

struct chance {
    struct io_bench b;
    uint64_t state;
    uint64_t seed;
    unsigned streams;
    struct link links[LINKS];
};

static uint64_t draw(struct chance *c, uint64_t below)
{
    c->state = c->state * 6364136223846793005U + 1442695040888963407U;
    return (c->state >> 33) % below;
}

static void open_link(struct chance *c, struct link *l)
{
    *l = (struct link){.stream = ++c->streams};
    l->end = io_pair(&c->b, &l->plain);
    io_receive(l->end);
}

static void check_received(struct chance *c, struct link *l)
{
    for (; l->seen < l->end->got.len; l->seen++) {
        cr_assert(l->end->got.data[l->seen] == io_byte_at(l->seen, l->stream),
                  "%s, seed %llu: byte %zu is another's", c->b.name, (unsigned long long)c->seed,
                  l->seen);
    }
    cr_assert_leq(l->end->got.len, l->fed);
}

static void read_plain(struct chance *c, struct link *l)
{
    char part[5000];
    ssize_t got = recv(l->plain, part, 1 + draw(c, sizeof(part)), 0);

    for (ssize_t i = 0; i < got; i++, l->read++) {
        cr_assert(part[i] == io_byte_at(l->read, ~l->stream), "%s, seed %llu: byte %zu sent",
                  c->b.name, (unsigned long long)c->seed, l->read);
    }
    cr_assert_leq(l->read, l->begun);
}

static void send_some(struct chance *c, struct link *l)
{
    struct iovec slices[3] = {{0}};
    size_t len = 1 + draw(c, SEND_BYTES);
    size_t at = 0;
    int count = 1 + (int)draw(c, 3);

    if (l->end->send_op.state != PH_OP_IDLE || l->begun > STREAM_MAX) {
        return;
    }
    for (size_t i = 0; i < len; i++) {
        l->sending[i] = io_byte_at(l->begun + i, ~l->stream);
    }
    for (int i = 0; i < count; i++) {
        size_t part = i == count - 1 ? len - at : draw(c, len - at + 1);

        slices[i] = (struct iovec){.iov_base = l->sending + at, .iov_len = part};
        at += part;
    }
    l->begun += len;
    ph_io_send(l->end->socket, &l->end->send_op, slices, count);
}

static void cut(struct link *l)
{
    struct linger reset = {.l_onoff = 1};

    setsockopt(l->plain, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(l->plain);
    l->plain = -1;
    l->cut = true;
}

static void act(struct chance *c, struct link *l)
{
    uint64_t what = draw(c, 100);

    if (l->closing) {
        return;
    }
    if (l->plain >= 0 && what < 40 && l->fed < STREAM_MAX) {
        l->fed =
            io_feed(l->plain, l->stream, l->fed, l->fed + 1 + draw(c, 20000), 1 + draw(c, 8192));
    } else if (l->plain >= 0 && what < 60) {
        read_plain(c, l);
    } else if (what < 75 && l->end->error == 0) {
        send_some(c, l);
    } else if (what < 88) {
        l->paused = !l->paused;
        ph_io_recv_pause(l->end->socket, l->paused);
    } else if (l->plain >= 0 && what < 90) {
        cut(l);
    } else if (what < 94) {
        l->closing = true;
        l->end->sent = false;
        l->seen = l->end->got.len;
        io_close_begin(l->end);
    }
}

static void look(struct chance *c, struct link *l)
{
    if (l->closing) {
        cr_assert(!l->end->sent && l->end->got.len == l->seen,
                  "%s, seed %llu: stepped after its close", c->b.name, (unsigned long long)c->seed);
        if (l->end->closed) {
            io_end_free(l->end);
            if (l->plain >= 0) {
                close(l->plain);
            }
            open_link(c, l);
        }
    } else {
        check_received(c, l);
    }
}

// What is left arrives, unless it was cut off.
static void finish_link(struct chance *c, struct link *l)
{
    if (!l->closing) {
        ph_io_recv_pause(l->end->socket, false);
        if (!l->cut) {
            shutdown(l->plain, SHUT_WR);
            IO_UNTIL(&c->b, l->end->ended);
            check_received(c, l);
            cr_assert_eq(l->end->got.len, l->fed, "%s, seed %llu: %zu of %zu bytes", c->b.name,
                         (unsigned long long)c->seed, l->end->got.len, l->fed);
        }
        io_close_begin(l->end);
    }
    IO_UNTIL(&c->b, l->end->closed);
    io_end_free(l->end);
    if (l->plain >= 0) {
        close(l->plain);
    }
}

static void run(unsigned which, uint64_t seed)
{
    struct chance *c = ph_alloc(sizeof(*c));

    c->seed = seed;
    c->state = seed;
    io_start(&c->b, which);
    for (unsigned i = 0; i < LINKS; i++) {
        open_link(c, &c->links[i]);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 4; i++) {
            act(c, &c->links[draw(c, LINKS)]);
        }
        if (draw(c, 3) == 0) {
            ph_io_run_ready(c->b.io);
            ph_io_wait(c->b.io, 0);
            for (unsigned i = 0; i < LINKS; i++) {
                look(c, &c->links[i]);
            }
        }
    }
    for (unsigned i = 0; i < LINKS; i++) {
        finish_link(c, &c->links[i]);
    }
    io_finish(&c->b);
    free(c);
}

Test(io_chance, whatever_happens_each_keeps_its_own_bytes, .timeout = 120)
{
    const char *given = getenv("POSTHASTE_SEED");

    for (unsigned which = 0; which < IO_WORLDS; which++) {
        if (given != NULL) {
            run(which, strtoull(given, NULL, 10));
        } else {
            run(which, 1);
            run(which, ((uint64_t)getpid() << 20) ^ (uint64_t)(uintptr_t)&given);
        }
    }
}
