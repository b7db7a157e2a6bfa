// struct ph_io on io_uring: the loop.
#include "engine/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "engine/ring_parts.h"

#define PH_RING_SUBMISSIONS 512
#define PH_RING_COMPLETIONS 4096
#define PH_RING_BUFFER_COUNT 256
#define PH_RING_BUFFER_BYTES 8192
#define PH_RING_FILE_THREADS_MAX 8   // the kernel's, for files that would block; ours
#define PH_RING_SOCKET_THREADS_MAX 1 // sockets are polled, never given to a thread

#define TAG_KIND_SHIFT 60
#define TAG_GENERATION_SHIFT 48 // user space ends below 2^47
#define TAG_GENERATION_MASK 0xfffU
#define TAG_OBJECT_MASK ((UINT64_C(1) << TAG_GENERATION_SHIFT) - 1)

static const struct ph_io_vtable ring_vtable;

uint64_t ph_ring_tag_value(enum ph_ring_tag_kind kind, uint16_t generation, const void *object)
{
    return (uint64_t)kind << TAG_KIND_SHIFT |
           (uint64_t)(generation & TAG_GENERATION_MASK) << TAG_GENERATION_SHIFT |
           (uint64_t)(uintptr_t)object;
}

void ph_ring_tag(struct io_uring_sqe *sqe, enum ph_ring_tag_kind kind, uint16_t generation,
                 const void *object)
{
    sqe->user_data = ph_ring_tag_value(kind, generation, object);
}

static void watch_wake(struct ph_ring *r)
{
    struct io_uring_sqe *sqe = ph_ring_submission(r);

    io_uring_prep_poll_multishot(sqe, r->host.wake_fd, EPOLLIN);
    ph_ring_tag(sqe, PH_RING_WOKEN, 0, NULL);
}

// On the thread that is to use it: the kernel takes submissions from this one only.
static void enable(struct ph_ring *r)
{
    r->enabled = true;
    r->thread = pthread_self();
    PH_CHECK(ph_ring_enable(&r->uring) == 0);
    // Saves looking up the descriptor at each entry; it does without as well.
    (void)!io_uring_register_ring_fd(&r->uring);
    watch_wake(r);
}

// These mean: not now. Anything else is a mistake of ours.
static void check_entered(int result)
{
    PH_CHECK(result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN ||
             result == -EBUSY);
}

struct io_uring_sqe *ph_ring_submission(struct ph_ring *r)
{
    ph_ring_reserve(r, 1);
    return io_uring_get_sqe(&r->uring);
}

void ph_ring_reserve(struct ph_ring *r, unsigned count)
{
    if (!r->enabled) {
        enable(r);
    }
    while (io_uring_sq_space_left(&r->uring) < count) {
        check_entered(io_uring_submit(&r->uring));
    }
}

// --- completions ---

static void take_socket_completion(enum ph_ring_tag_kind kind, struct ph_ring_socket *s,
                                   uint16_t generation, const struct io_uring_cqe *cqe)
{
    PH_CHECK((s->generation & TAG_GENERATION_MASK) == generation && s->in_flight > 0);
    if (!(cqe->flags & IORING_CQE_F_MORE)) {
        s->in_flight--;
    }
    if (kind == PH_RING_CONNECTED) {
        ph_ring_socket_connected(s, cqe->res);
    } else if (kind == PH_RING_RECEIVED) {
        ph_ring_socket_received(s, cqe->res, cqe->flags);
    } else if (kind == PH_RING_SENT) {
        ph_ring_socket_sent(s, cqe->res);
    } else if (kind == PH_RING_CANCELLED) {
        ph_ring_socket_cancelled(s, cqe->res);
    } else {
        ph_ring_socket_closed(s);
    }
}

static void take_completion(struct ph_ring *r, const struct io_uring_cqe *cqe)
{
    enum ph_ring_tag_kind kind = (enum ph_ring_tag_kind)(cqe->user_data >> TAG_KIND_SHIFT);
    uint16_t generation = (cqe->user_data >> TAG_GENERATION_SHIFT) & TAG_GENERATION_MASK;
    void *object = (void *)(uintptr_t)(cqe->user_data & TAG_OBJECT_MASK);

    switch (kind) {
    case PH_RING_IGNORED:
        break;
    case PH_RING_WOKEN:
        if (!(cqe->flags & IORING_CQE_F_MORE)) {
            watch_wake(r);
        }
        break;
    case PH_RING_ACCEPTED: {
        struct ph_ring_listener *l = object;

        PH_CHECK((l->generation & TAG_GENERATION_MASK) == generation);
        ph_ring_listener_accepted(l, cqe->res, cqe->flags);
        break;
    }
    case PH_RING_CONNECTED:
    case PH_RING_RECEIVED:
    case PH_RING_SENT:
    case PH_RING_CANCELLED:
    case PH_RING_CLOSED:
        take_socket_completion(kind, object, generation, cqe);
        break;
    case PH_RING_FILE_TRANSFERRED:
        ph_ring_file_transferred(object, cqe->res);
        break;
    case PH_RING_FILE_SYNCED:
        ph_ring_file_synced(object, cqe->res);
        break;
    }
}

static void take_completions(struct ph_ring *r)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned count = 0;

    io_uring_for_each_cqe(&r->uring, head, cqe)
    {
        take_completion(r, cqe);
        count++;
    }
    io_uring_cq_advance(&r->uring, count);
}

// --- the loop ---

// Completions wait in the kernel for us to come: ready ones to be posted, or more than there was
// room for.
static bool kernel_has_work(const struct ph_ring *r)
{
    return __atomic_load_n(r->uring.sq.kflags, __ATOMIC_RELAXED) &
           (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static void enter(struct ph_ring *r, bool sleep, uint64_t until_ns)
{
    struct io_uring_cqe *unused;
    struct __kernel_timespec limit;
    uint64_t left_ns;

    if (!sleep) {
        if (io_uring_sq_ready(&r->uring) > 0 || kernel_has_work(r)) {
            check_entered(io_uring_submit_and_get_events(&r->uring));
        }
        return;
    }
    left_ns = until_ns - r->host.io.now_ns;
    limit.tv_sec = (long long)(left_ns / 1000000000);
    limit.tv_nsec = (long long)(left_ns % 1000000000);
    check_entered(io_uring_submit_and_wait_timeout(&r->uring, &unused, 1,
                                                   until_ns == PH_NEVER ? NULL : &limit, NULL));
}

static void ring_wait(struct ph_io *io, uint64_t deadline_ns)
{
    struct ph_ring *r = ph_ring_of(io);
    bool sleep;

    if (!r->enabled) {
        enable(r);
    }
    ph_ring_sockets_tend(r);
    ph_host_io_read_clocks(io);
    if (r->starved_until_ns != 0 && r->starved_until_ns < deadline_ns) {
        deadline_ns = r->starved_until_ns;
    }
    sleep = !ph_io_has_ready(io) && deadline_ns > io->now_ns && ph_host_io_fall_asleep(&r->host);
    enter(r, sleep, deadline_ns);
    ph_host_io_rise(&r->host);
    ph_host_io_read_clocks(io);
    take_completions(r);
    ph_offload_sink_drain(&r->host.files.sink);
    ph_ring_listeners_feed(r);
}

static void ring_destroy(struct ph_io *io)
{
    struct ph_ring *r = ph_ring_of(io);

    // A registered descriptor belongs to its thread. The end of that took it back; here the number
    // would mean another ring.
    if (r->enabled && !pthread_equal(r->thread, pthread_self())) {
        r->uring.enter_ring_fd = -1;
    }
    io_uring_queue_exit(&r->uring);
    ph_ring_listeners_free(r);
    ph_ring_sockets_free(r);
    ph_ring_pool_deinit(&r->pool);
    ph_host_io_deinit(&r->host);
    free(r);
}

static const struct ph_io_vtable ring_vtable = {
    .name = "ring",
    .wait = ring_wait,
    .wake = ph_host_io_wake,
    .random = ph_host_io_random,
    .listen = ph_ring_listen,
    .accept_start = ph_ring_accept_start,
    .accept_next = ph_ring_accept_next,
    .accept_pause = ph_ring_accept_pause,
    .listener_close = ph_ring_listener_close,
    .socket_detach = ph_ring_socket_detach,
    .socket_adopt = ph_ring_socket_adopt,
    .connect = ph_ring_connect,
    .recv_start = ph_ring_recv_start,
    .recv_next = ph_ring_recv_next,
    .recv_release = ph_ring_recv_release,
    .recv_pause = ph_ring_recv_pause,
    .send = ph_ring_send,
    .shutdown = ph_ring_shutdown,
    .close = ph_ring_close,
    .file_open = ph_host_io_file_open,
    .file_close = ph_file_jobs_close,
    .file_allocate = ph_host_io_file_allocate,
    .file_read = ph_ring_file_read,
    .file_write = ph_ring_file_write,
    .file_sync = ph_ring_file_sync,
    .file_size = ph_host_io_file_size,
    .directory_sync = ph_host_io_directory_sync,
    .file_rename = ph_host_io_file_rename,
    .file_unlink = ph_host_io_file_unlink,
    .directory_create = ph_host_io_directory_create,
    .directory_list = ph_host_io_directory_list,
    .space_free = ph_host_io_space_free,
    .resolve = ph_host_io_resolve,
    .check_password = ph_host_io_check_password,
    .fetch = ph_host_io_fetch,
    .fetch_cancel = ph_host_io_fetch_cancel,
    .work = ph_host_io_work,
    .destroy = ring_destroy,
};

static unsigned or_default(unsigned value, unsigned fallback)
{
    return value != 0 ? value : fallback;
}

int ph_ring_set_up(struct io_uring *out, unsigned submissions, unsigned completions)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = completions};

    return io_uring_queue_init_params(submissions, out, &params);
}

int ph_ring_enable(struct io_uring *uring)
{
    // liburing 2.3 declares io_uring_enable_rings, but its library lacks it.
    return io_uring_register((unsigned)uring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

int ph_ring_create(const struct ph_ring_options *options, struct ph_io **out)
{
    struct ph_ring *r = ph_alloc(sizeof(*r));
    unsigned threads[2] = {PH_RING_FILE_THREADS_MAX, PH_RING_SOCKET_THREADS_MAX};
    int result = ph_host_io_init(&r->host, &ring_vtable, &options->threads);

    if (result < 0) {
        free(r);
        return result;
    }
    LIST_INIT(&r->sockets);
    LIST_INIT(&r->free_sockets);
    LIST_INIT(&r->listeners);
    TAILQ_INIT(&r->holders);
    STAILQ_INIT(&r->starved_sockets);
    result = ph_ring_set_up(&r->uring, or_default(options->submissions, PH_RING_SUBMISSIONS),
                            or_default(options->completions, PH_RING_COMPLETIONS));
    if (result < 0) {
        ph_host_io_deinit(&r->host);
        free(r);
        return result;
    }
    (void)!io_uring_register_iowq_max_workers(&r->uring, threads);
    result = ph_ring_pool_init(&r->pool, &r->uring,
                               or_default(options->buffer_count, PH_RING_BUFFER_COUNT),
                               or_default(options->buffer_bytes, PH_RING_BUFFER_BYTES));
    if (result < 0) {
        ring_destroy(&r->host.io);
        return result;
    }
    *out = &r->host.io;
    return 0;
}
