// Does the ring work here? Asked of the kernel by using it: versions lie where features are patched
// in, switched off or filtered.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/ring.h"
#include "engine/ring_parts.h"

#define PROBE_WAIT_S 5 // all of it is at hand: a kernel that takes longer doesn't answer
#define PROBE_BUFFERS 4
#define PROBE_BUFFER_BYTES 64

static const uint8_t needed[] = {
    IORING_OP_READ,         IORING_OP_WRITE,   IORING_OP_FSYNC,   IORING_OP_POLL_ADD,
    IORING_OP_ACCEPT,       IORING_OP_CONNECT, IORING_OP_RECV,    IORING_OP_SEND,
    IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE,   IORING_OP_SENDMSG,
};

struct probe {
    struct io_uring uring;
    struct ph_ring_pool pool;
    int listening;
    int client;
    int served;
    int wake_fd;
};

// What is said of a failure, for people.
static void explain(struct ph_buf *why, const char *what, int error)
{
    const char *hint = "";

    if (error == -ENOSYS) {
        hint = ": the kernel has no io_uring, or a seccomp profile hides it";
    } else if (error == -EPERM || error == -EACCES) {
        hint = ": it is forbidden here (sysctl kernel.io_uring_disabled, or a seccomp profile)";
    } else if (error == -EINVAL) {
        hint = ": Linux 6.1 or newer is needed";
    } else if (error == -ENOMEM) {
        hint = ": more locked memory must be allowed (RLIMIT_MEMLOCK)";
    }
    ph_buf_printf(why, "%s: %s%s", what, strerror(-error), hint);
}

static bool has_operations(struct probe *p)
{
    struct io_uring_probe *known = io_uring_get_probe_ring(&p->uring);
    bool all = known != NULL;

    for (size_t i = 0; all && i < PH_ARRAY_LEN(needed); i++) {
        all = io_uring_opcode_supported(known, needed[i]);
    }
    io_uring_free_probe(known);
    return all;
}

static struct io_uring_sqe *submission(struct probe *p)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&p->uring);

    PH_CHECK(sqe != NULL);
    return sqe;
}

// Waits for the completion of this kind. Its result, with its flags; -ETIME if it doesn't come.
static int wait_for(struct probe *p, enum ph_ring_tag_kind kind, uint32_t *out_flags)
{
    struct __kernel_timespec limit = {.tv_sec = PROBE_WAIT_S};
    struct io_uring_cqe *cqe;
    int result = 0;

    while (result >= 0) {
        result = io_uring_submit_and_wait_timeout(&p->uring, &cqe, 1, &limit, NULL);
        if (result >= 0 && cqe->user_data == kind) {
            result = cqe->res;
            *out_flags = cqe->flags;
            io_uring_cqe_seen(&p->uring, cqe);
            return result;
        }
        if (result >= 0) {
            io_uring_cqe_seen(&p->uring, cqe);
        }
        result = result == -EINTR ? 0 : result;
    }
    return result;
}

static int try_wake(struct probe *p)
{
    struct io_uring_sqe *sqe = submission(p);
    uint64_t one = 1;
    uint32_t flags = 0;
    int result;

    io_uring_prep_poll_multishot(sqe, p->wake_fd, EPOLLIN);
    sqe->user_data = PH_RING_WOKEN;
    (void)!write(p->wake_fd, &one, sizeof(one));
    result = wait_for(p, PH_RING_WOKEN, &flags);
    return result >= 0 && !(flags & IORING_CQE_F_MORE) ? -EINVAL : result;
}

// An abstract name that the kernel chooses: no network is needed.
static int connect_to_self(struct probe *p)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(address);

    if (bind(p->listening, (struct sockaddr *)&address, sizeof(sa_family_t)) != 0 ||
        listen(p->listening, 1) != 0 ||
        getsockname(p->listening, (struct sockaddr *)&address, &len) != 0 ||
        connect(p->client, (struct sockaddr *)&address, len) != 0) {
        return -errno;
    }
    return 0;
}

static int try_accept(struct probe *p)
{
    struct io_uring_sqe *sqe;
    uint32_t flags = 0;
    int result = connect_to_self(p);

    if (result < 0) {
        return result;
    }
    sqe = submission(p);
    io_uring_prep_multishot_accept(sqe, p->listening, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = PH_RING_ACCEPTED;
    p->served = wait_for(p, PH_RING_ACCEPTED, &flags);
    return p->served >= 0 && !(flags & IORING_CQE_F_MORE) ? -EINVAL : p->served;
}

static int try_receive(struct probe *p)
{
    static const char text[] = "to be, or not to be";
    struct io_uring_sqe *sqe = submission(p);
    uint32_t flags = 0;
    int result;

    io_uring_prep_recv_multishot(sqe, p->served, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = PH_RING_BUFFER_GROUP;
    sqe->user_data = PH_RING_RECEIVED;
    sqe = submission(p);
    io_uring_prep_send(sqe, p->client, text, sizeof(text), MSG_NOSIGNAL | MSG_WAITALL);
    sqe->user_data = PH_RING_SENT;
    result = wait_for(p, PH_RING_RECEIVED, &flags);
    if (result >= 0 &&
        (result != sizeof(text) || !(flags & IORING_CQE_F_BUFFER) || !(flags & IORING_CQE_F_MORE) ||
         memcmp(p->pool.memory + (size_t)(flags >> IORING_CQE_BUFFER_SHIFT) * p->pool.bytes, text,
                sizeof(text)) != 0)) {
        result = -EINVAL;
    }
    return result;
}

static int try_cancel(struct probe *p)
{
    struct io_uring_sqe *sqe = submission(p);
    uint32_t flags = 0;

    io_uring_prep_cancel_fd(sqe, p->served, IORING_ASYNC_CANCEL_ALL);
    sqe->user_data = PH_RING_CANCELLED;
    return wait_for(p, PH_RING_CANCELLED, &flags);
}

static bool try_all(struct probe *p, struct ph_buf *why)
{
    static const struct {
        int (*attempt)(struct probe *p);
        const char *what;
    } steps[] = {
        {try_wake, "a multishot poll"},
        {try_accept, "a multishot accept"},
        {try_receive, "a multishot receive into provided buffers"},
        {try_cancel, "cancelling by descriptor"},
    };
    int result = ph_ring_pool_init(&p->pool, &p->uring, PROBE_BUFFERS, PROBE_BUFFER_BYTES);

    if (result < 0) {
        explain(why, "a ring of provided buffers", result);
        return false;
    }
    result = ph_ring_enable(&p->uring);
    if (result < 0) {
        explain(why, "enabling a ring", result);
        return false;
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(steps); i++) {
        result = steps[i].attempt(p);
        if (result < 0) {
            explain(why, steps[i].what, result);
            return false;
        }
    }
    return true;
}

static void close_if_open(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

bool ph_ring_works(struct ph_buf *why)
{
    struct probe p = {.served = -1};
    int result = ph_ring_set_up(&p.uring, 16, 32);
    bool works = false;

    if (result < 0) {
        explain(why, "io_uring_setup", result);
        return false;
    }
    p.listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    p.client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    p.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p.listening < 0 || p.client < 0 || p.wake_fd < 0) {
        explain(why, "descriptors to try it with", -errno);
    } else if (!has_operations(&p) || !(p.uring.features & IORING_FEAT_EXT_ARG) ||
               !(p.uring.features & IORING_FEAT_NODROP)) {
        explain(why, "its operations", -EINVAL);
    } else {
        works = try_all(&p, why);
    }
    io_uring_queue_exit(&p.uring);
    ph_ring_pool_deinit(&p.pool);
    close_if_open(p.listening);
    close_if_open(p.client);
    close_if_open(p.served);
    close_if_open(p.wake_fd);
    return works;
}
