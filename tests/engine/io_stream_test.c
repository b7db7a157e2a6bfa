// The contract of base/io.h for sockets, held by every world (ring and poll).
// Covers: base/io engine/ring engine/ring_socket engine/ring_listener engine/ring_pool engine/poll
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/socket_parts.h"
#include "io_worlds.h"

#define STREAM_BYTES ((size_t)300000)

static void expect_stream(const struct io_end *end, unsigned stream, size_t len)
{
    cr_assert_eq(end->got.len, len, "%s: %zu of %zu bytes", end->bench->name, end->got.len, len);
    for (size_t i = 0; i < len; i++) {
        cr_assert(end->got.data[i] == io_byte_at(i, stream), "%s: byte %zu is another's",
                  end->bench->name, i);
    }
}

Test(io_stream, bytes_come_in_order_and_then_the_end, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct io_bench b;
        size_t fed = 0;
        size_t step = 1;
        struct io_end *end;
        int plain;

        io_start(&b, which);
        end = io_pair(&b, &plain);
        io_receive(end);
        while (fed < STREAM_BYTES) {
            fed =
                io_feed(plain, 1, fed, fed + step < STREAM_BYTES ? fed + step : STREAM_BYTES, step);
            step = step * 3 % 7919;
            io_turn(&b);
        }
        shutdown(plain, SHUT_WR);
        IO_UNTIL(&b, end->ended);
        expect_stream(end, 1, STREAM_BYTES);
        io_close(end);
        close(plain);
        io_finish(&b);
    }
}

Test(io_stream, a_pause_holds_the_peer_up_and_loses_nothing, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct io_bench b;
        size_t most = (size_t)64 << 20;
        size_t fed = 0;
        size_t before = 1;
        unsigned steps;
        struct io_end *end;
        int plain;

        io_start(&b, which);
        end = io_pair(&b, &plain);
        io_receive(end);
        io_turn(&b);
        io_turn(&b);
        ph_io_recv_pause(end->socket, true);
        steps = end->recv_steps;
        // Until nothing goes any more, in several rounds of the loop.
        while (fed != before && fed < most) {
            before = fed;
            for (unsigned i = 0; i < 20; i++) {
                fed = io_feed(plain, 2, fed, most, 8192);
                io_turn(&b);
            }
        }
        cr_assert_lt(fed, most, "%s: a paused socket takes without end", b.name);
        cr_assert(end->recv_steps == steps && end->got.len == 0, "%s", b.name);
        ph_io_recv_pause(end->socket, false);
        shutdown(plain, SHUT_WR);
        IO_UNTIL(&b, end->ended);
        expect_stream(end, 2, fed);
        io_close(end);
        close(plain);
        io_finish(&b);
    }
}

// More than all buffers together are held by those who don't fetch.
Test(io_stream, who_does_not_fetch_takes_no_buffer_from_others, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct io_bench b;
        struct io_end *lazy[8];
        int lazy_plain[8];
        struct io_end *end;
        int plain;
        size_t fed = 0;

        io_start(&b, which);
        for (unsigned i = 0; i < 8; i++) {
            lazy[i] = io_pair(&b, &lazy_plain[i]);
            lazy[i]->leave = true;
            io_receive(lazy[i]);
            if (i % 2 == 0) {
                ph_io_recv_pause(lazy[i]->socket, true);
            }
        }
        end = io_pair(&b, &plain);
        io_receive(end);
        for (unsigned round = 0; round < 50; round++) {
            for (unsigned i = 0; i < 8; i++) {
                (void)!io_feed(lazy_plain[i], i, (size_t)round * 100, (size_t)round * 100 + 100,
                               100);
            }
            fed = io_feed(plain, 9, fed, fed + 100, 100);
            io_turn(&b);
        }
        IO_UNTIL(&b, end->got.len == fed);
        expect_stream(end, 9, fed);
        for (unsigned i = 0; i < 8; i++) {
            lazy[i]->leave = false;
            ph_io_recv_pause(lazy[i]->socket, false);
            (void)!io_feed(lazy_plain[i], i, 5000, 5100, 100); // it is told when more arrives
            IO_UNTIL(&b, lazy[i]->got.len == 5100);
            expect_stream(lazy[i], i, 5100);
            io_close(lazy[i]);
            close(lazy_plain[i]);
        }
        io_close(end);
        close(plain);
        io_finish(&b);
    }
}

// More completions at once than the tiny ring has room for.
Test(io_stream, many_at_once_overflow_nothing, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct io_bench b;
        int plain[200];

        io_start(&b, which);
        io_listen(&b);
        for (unsigned i = 0; i < PH_ARRAY_LEN(plain); i++) {
            plain[i] = io_plain_connect(&b.at);
        }
        IO_UNTIL(&b, b.accepted_count == PH_ARRAY_LEN(plain));
        for (unsigned i = 0; i < PH_ARRAY_LEN(plain); i++) {
            cr_assert_eq(io_feed(plain[i], 3, 0, 1000, 1000), 1000);
        }
        for (unsigned i = 0; i < PH_ARRAY_LEN(plain); i++) {
            IO_UNTIL(&b, b.accepted[i]->got.len == 1000);
            expect_stream(b.accepted[i], 3, 1000);
        }
        for (unsigned i = 0; i < PH_ARRAY_LEN(plain); i++) {
            io_close_begin(b.accepted[i]);
        }
        for (unsigned i = 0; i < PH_ARRAY_LEN(plain); i++) {
            IO_UNTIL(&b, b.accepted[i]->closed);
            io_end_free(b.accepted[i]);
            close(plain[i]);
        }
        io_finish(&b);
    }
}

// --- sending ---

Test(io_stream, a_send_is_whole_however_small_the_socket_is, .timeout = 60)
{
    char *big = malloc(STREAM_BYTES);

    for (size_t i = 0; i < STREAM_BYTES; i++) {
        big[i] = io_byte_at(i, 4);
    }
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        // Once in one slice, once in many, empty ones among them.
        for (int slice_count = 1; slice_count <= 7; slice_count += 6) {
            struct iovec slices[7] = {{0}};
            struct io_bench b;
            struct ph_buf read = {0};
            size_t at = 0;
            int one = 1;
            struct io_end *end;
            int plain;

            io_start(&b, which);
            end = io_pair(&b, &plain);
            cr_assert_eq(setsockopt(io_fd_facing(plain), SOL_SOCKET, SO_SNDBUF, &one, sizeof(one)),
                         0);
            for (int i = 0; i < slice_count; i++) {
                size_t len = i == slice_count - 1 ? STREAM_BYTES - at : (size_t)(i % 3) * 777;

                slices[i] = (struct iovec){.iov_base = big + at, .iov_len = len};
                at += len;
            }
            ph_io_send(end->socket, &end->send_op, slices, slice_count);
            memset(slices, 0, sizeof(slices)); // the array was copied
            while (read.len < STREAM_BYTES) {
                char part[4096];
                ssize_t got = recv(plain, part, sizeof(part), 0);

                cr_assert(got > 0 || (got < 0 && errno == EAGAIN), "%s", b.name);
                ph_buf_append_bytes(&read, part, got > 0 ? (size_t)got : 0);
                io_turn(&b);
            }
            IO_UNTIL(&b, end->sent);
            cr_assert_eq(end->send_op.result, (int64_t)STREAM_BYTES, "%s", b.name);
            cr_assert(memcmp(read.data, big, STREAM_BYTES) == 0, "%s", b.name);
            ph_buf_deinit(&read);
            io_close(end);
            close(plain);
            io_finish(&b);
        }
    }
    free(big);
}

Test(io_stream, a_send_that_fails_says_how_much_went, .timeout = 60)
{
    static char big[8 << 20];

    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct iovec slice = {.iov_base = big, .iov_len = sizeof(big)};
        struct linger reset = {.l_onoff = 1};
        struct io_bench b;
        struct io_end *end;
        char part[1000];
        int plain;

        io_start(&b, which);
        end = io_pair(&b, &plain);
        ph_io_send(end->socket, &end->send_op, &slice, 1);
        IO_UNTIL(&b, recv(plain, part, sizeof(part), 0) == (ssize_t)sizeof(part));
        setsockopt(plain, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(plain);
        IO_UNTIL(&b, end->sent);
        cr_assert(end->send_op.result == -ECONNRESET || end->send_op.result == -EPIPE, "%s: %lld",
                  b.name, (long long)end->send_op.result);
        cr_assert(end->send_op.world_data[0] >= sizeof(part) &&
                      end->send_op.world_data[0] < sizeof(big),
                  "%s: %llu", b.name, (unsigned long long)end->send_op.world_data[0]);
        io_close(end);
        io_finish(&b);
    }
}

Test(io_stream, a_connection_that_is_refused_or_reset_says_so, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct linger reset = {.l_onoff = 1};
        struct ph_endpoint nobody;
        struct io_bench b;
        struct io_end *end;
        int plain = io_plain_listen(&nobody, 1);

        close(plain);
        io_start(&b, which);
        end = io_connect(&b, &nobody);
        IO_UNTIL(&b, end->connected);
        cr_assert_eq(end->connect_op.result, -ECONNREFUSED, "%s", b.name);
        io_close(end);

        end = io_pair(&b, &plain);
        io_receive(end);
        setsockopt(plain, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(plain);
        IO_UNTIL(&b, end->error != 0);
        cr_assert_eq(end->error, -ECONNRESET, "%s", b.name);
        io_close(end);
        io_finish(&b);
    }
}

// --- closing: at each step, and the number goes to another connection at once ---

enum closing_step {
    CLOSE_CONNECTING,
    CLOSE_IDLE,
    CLOSE_RECEIVING,
    CLOSE_WITH_BYTES_WAITING,
    CLOSE_PAUSED,
    CLOSE_SENDING,
    CLOSE_SENDING_AND_RECEIVING,
    CLOSE_ENDED,
    CLOSE_BEFORE_SUBMISSION, // all in one turn
    CLOSING_STEPS,
};

// A listener whose queue is full: a connection to it stays half open.
static int full_listener(struct ph_endpoint *out_at, int fillers[4])
{
    int listening = io_plain_listen(out_at, 0);

    for (unsigned i = 0; i < 4; i++) {
        fillers[i] = io_plain_connect(out_at);
    }
    return listening;
}

static void prepare(struct io_bench *b, struct io_end *end, int plain, enum closing_step step)
{
    static char big[8 << 20];
    struct iovec slice = {.iov_base = big, .iov_len = sizeof(big)};

    if (step != CLOSE_CONNECTING && step != CLOSE_IDLE && step != CLOSE_SENDING) {
        io_receive(end);
    }
    if (step == CLOSE_SENDING || step == CLOSE_SENDING_AND_RECEIVING ||
        step == CLOSE_BEFORE_SUBMISSION) {
        ph_io_send(end->socket, &end->send_op, &slice, 1);
    }
    if (step == CLOSE_PAUSED) {
        ph_io_recv_pause(end->socket, true);
    }
    if (step == CLOSE_ENDED) {
        shutdown(plain, SHUT_WR);
        IO_UNTIL(b, end->ended);
    }
    if (step != CLOSE_BEFORE_SUBMISSION) {
        for (unsigned i = 0; i < 3; i++) {
            io_turn(b);
        }
    }
    if (step == CLOSE_WITH_BYTES_WAITING) {
        // In the kernel, or in hand and not stepped yet.
        (void)!io_feed(plain, 5, 0, 1000, 100);
        ph_io_wait(b->io, b->io->now_ns + PH_NS_PER_MS);
    } else if (plain >= 0 && step != CLOSE_ENDED) {
        (void)!io_feed(plain, 5, 0, 1000, 100);
    }
}

// The next connection works, gets its own bytes alone, and its peer only what it was sent.
static void expect_untouched(struct io_bench *b, struct io_end *end, int plain)
{
    struct iovec slice = {.iov_base = "mine", .iov_len = 4};
    char part[64];
    ssize_t got = -1;

    io_receive(end);
    (void)!io_feed(plain, 6, 0, 3000, 3000);
    ph_io_send(end->socket, &end->send_op, &slice, 1);
    IO_UNTIL(b, end->sent && end->got.len == 3000);
    expect_stream(end, 6, 3000);
    IO_UNTIL(b, (got = recv(plain, part, sizeof(part), 0)) >= 0);
    cr_assert(got == 4 && memcmp(part, "mine", 4) == 0, "%s: %zd bytes", b->name, got);
    cr_assert(!end->ended && end->error == 0);
}

static void close_at(struct io_bench *b, enum closing_step step)
{
    struct ph_endpoint at;
    struct io_end *end;
    struct io_end *next;
    int fillers[4];
    int listening = -1;
    int plain = -1;
    int next_plain;
    int number = -1;
    unsigned steps;
    size_t got;

    if (step == CLOSE_CONNECTING) {
        listening = full_listener(&at, fillers);
        end = io_connect(b, &at);
    } else {
        end = io_pair(b, &plain);
        number = io_fd_facing(plain);
    }
    prepare(b, end, plain, step);
    steps = end->recv_steps;
    got = end->got.len;
    end->sent = false;
    end->connected = step != CLOSE_CONNECTING;
    io_close_begin(end);
    // One in the same turn, one that gets the number.
    next = io_pair(b, &next_plain);
    expect_untouched(b, next, next_plain);
    io_close(next);
    close(next_plain);
    IO_UNTIL(b, end->closed);
    cr_assert_eq(end->close_op.result, 0);
    cr_assert(!end->sent && end->recv_steps == steps && end->got.len == got &&
                  end->connected == (step != CLOSE_CONNECTING),
              "%s: step %d: stepped after its close", b->name, step);
    next = io_pair(b, &next_plain);
    cr_assert(number < 0 || io_fd_facing(next_plain) <= number, "%s: the number is free", b->name);
    expect_untouched(b, next, next_plain);
    io_close(next);
    close(next_plain);
    io_end_free(end);
    if (plain >= 0) {
        close(plain);
    }
    if (listening >= 0) {
        close(listening);
        for (unsigned i = 0; i < 4; i++) {
            close(fillers[i]);
        }
    }
}

Test(io_stream, a_close_at_each_step_is_the_end_and_reaches_nobody_else, .timeout = 120)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        for (unsigned step = 0; step < CLOSING_STEPS; step++) {
            struct io_bench b;

            io_start(&b, which);
            close_at(&b, (enum closing_step)step);
            io_finish(&b);
        }
    }
}

// --- accepting ---

Test(io_stream, accepting_rests_while_descriptors_lack, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct rlimit was;
        struct rlimit low;
        struct io_bench b;
        int plain[6];

        io_start(&b, which);
        io_listen(&b);
        for (unsigned i = 0; i < PH_ARRAY_LEN(plain); i++) {
            plain[i] = io_plain_connect(&b.at);
        }
        getrlimit(RLIMIT_NOFILE, &was);
        low = was;
        low.rlim_cur = (rlim_t)plain[5] + 3; // two more
        setrlimit(RLIMIT_NOFILE, &low);
        IO_UNTIL(&b, b.accept_error == -EMFILE);
        IO_UNTIL(&b, b.accepted_count == 2);
        setrlimit(RLIMIT_NOFILE, &was);
        IO_UNTIL(&b, b.accepted_count == PH_ARRAY_LEN(plain));
        for (unsigned i = 0; i < PH_ARRAY_LEN(plain); i++) {
            io_close(b.accepted[i]);
            close(plain[i]);
        }
        io_finish(&b);
    }
}

Test(io_stream, a_paused_listener_leaves_connections_to_the_kernel, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct io_bench b;
        int plain[2];

        io_start(&b, which);
        io_listen(&b);
        io_turn(&b);
        ph_io_accept_pause(b.listener, true);
        io_turn(&b);
        io_turn(&b);
        plain[0] = io_plain_connect(&b.at);
        for (unsigned i = 0; i < 5; i++) {
            io_turn(&b);
        }
        cr_assert_eq(b.accepted_count, 0, "%s", b.name);
        ph_io_accept_pause(b.listener, false);
        plain[1] = io_plain_connect(&b.at);
        IO_UNTIL(&b, b.accepted_count == 2);
        for (unsigned i = 0; i < 2; i++) {
            io_close(b.accepted[i]);
            close(plain[i]);
        }
        io_finish(&b);
    }
}

Test(io_stream, a_closed_listener_frees_its_port_and_is_not_stepped, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct io_bench b;
        unsigned steps;
        int plain[2];

        io_start(&b, which);
        io_listen(&b);
        plain[0] = io_plain_connect(&b.at);
        ph_io_wait(b.io, b.io->now_ns + PH_NS_PER_MS); // accepted, but not fetched
        ph_io_listener_close(b.listener);
        steps = b.accept_steps;
        io_turn(&b);
        cr_assert_eq(b.accept_steps, steps, "%s", b.name);
        io_listen(&b); // the same port
        plain[1] = io_plain_connect(&b.at);
        IO_UNTIL(&b, b.accepted_count == 1);
        cr_assert_eq(io_feed(plain[1], 7, 0, 10, 10), 10);
        IO_UNTIL(&b, b.accepted[0]->got.len == 10);
        io_close(b.accepted[0]);
        close(plain[0]);
        close(plain[1]);
        io_finish(&b);
    }
}

// --- between threads ---

Test(io_stream, a_socket_moves_to_another_world_with_its_bytes, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct io_bench b;
        struct io_bench other;
        struct io_end *end;
        int plain;

        io_start(&b, which);
        io_start(&other, which);
        end = io_pair(&b, &plain);
        cr_assert_eq(io_feed(plain, 8, 0, 500, 500), 500);
        end->socket = ph_io_socket_adopt(other.io, ph_io_socket_detach(end->socket));
        end->bench = &other;
        io_receive(end);
        cr_assert_eq(io_feed(plain, 8, 500, 1000, 500), 1000);
        IO_UNTIL(&other, end->got.len == 1000);
        expect_stream(end, 8, 1000);
        io_close(end);
        close(plain);
        io_finish(&b);
        io_finish(&other);
    }
}

#define WAKES 4000U

struct waker {
    struct ph_io *io;
    _Atomic unsigned posted;
    _Atomic unsigned taken;
};

static void *wake_often(void *argument)
{
    struct waker *w = argument;

    for (unsigned i = 1; i <= WAKES; i++) {
        atomic_store(&w->posted, i);
        ph_io_wake(w->io);
        while (i % 16 == 0 && atomic_load(&w->taken) < i) {
            // The loop must come round by itself: nobody wakes it twice for the same thing.
        }
    }
    return NULL;
}

Test(io_stream, no_wake_up_is_lost, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct waker w = {0};
        struct io_bench b;
        pthread_t thread;

        io_start(&b, which);
        w.io = b.io;
        cr_assert_eq(pthread_create(&thread, NULL, wake_often, &w), 0);
        while (atomic_load(&w.taken) < WAKES) {
            ph_io_wait(b.io, PH_NEVER);
            atomic_store(&w.taken, atomic_load(&w.posted));
        }
        pthread_join(thread, NULL);
        io_finish(&b);
    }
}
