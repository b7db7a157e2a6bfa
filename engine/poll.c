// struct ph_io on epoll and a small thread pool.
#include "engine/poll.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "engine/file_jobs.h"
#include "engine/host_io.h"
#include "engine/socket_parts.h"

#define PH_POLL_EVENTS_MAX 256                  // fetched at a time; ours
#define PH_POLL_RECV_BYTES 65536                // read at a time; ours
#define PH_POLL_STARVED_NS (100 * PH_NS_PER_MS) // without descriptors: accepting rests so long

enum watched_kind {
    WATCHED_WAKE,
    WATCHED_LISTENER,
    WATCHED_SOCKET,
};

struct poll_io {
    struct ph_host_io host;
    int epoll_fd;
    enum watched_kind wake_kind; // its address is the wake descriptor's mark
    uint64_t starved_until_ns;
    LIST_HEAD(, poll_listener) listeners;
    char received[PH_POLL_RECV_BYTES]; // the slice that is out
};

struct poll_listener {
    struct ph_listener listener;
    enum watched_kind kind;
    int fd;
    struct ph_op *op;
    bool paused;
    bool starved;
    LIST_ENTRY(poll_listener) link;
};

struct poll_socket {
    struct ph_socket socket;
    enum watched_kind kind;
    int fd;
    struct ph_op *connect_op; // pending
    struct ph_op *recv_op;
    struct ph_op *send_op; // pending
    bool readable;         // perhaps: until a read says it would block
    bool paused;
    struct iovec slices[PH_SEND_IOV_MAX];
    int slice_at;
    int slice_count;
    uint64_t sent;
};

static struct poll_io *of(struct ph_io *io)
{
    return (struct poll_io *)io;
}

// --- sockets ---

static void complete_send(struct poll_socket *s, int64_t result)
{
    struct ph_op *op = s->send_op;

    s->send_op = NULL;
    op->world_data[0] = s->sent;
    ph_io_complete(s->socket.io, op, result);
}

static void go_on_sending(struct poll_socket *s)
{
    while (s->slice_at < s->slice_count) {
        struct msghdr message = {.msg_iov = s->slices + s->slice_at,
                                 .msg_iovlen = (size_t)(s->slice_count - s->slice_at)};
        ssize_t sent = sendmsg(s->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            if (errno != EAGAIN) {
                complete_send(s, -errno);
            }
            return;
        }
        s->sent += (uint64_t)sent;
        while (sent > 0 && (size_t)sent >= s->slices[s->slice_at].iov_len) {
            sent -= (ssize_t)s->slices[s->slice_at].iov_len;
            s->slice_at++;
        }
        if (sent > 0) {
            s->slices[s->slice_at].iov_base = (char *)s->slices[s->slice_at].iov_base + sent;
            s->slices[s->slice_at].iov_len -= (size_t)sent;
        }
        while (s->slice_at < s->slice_count && s->slices[s->slice_at].iov_len == 0) {
            s->slice_at++;
        }
    }
    complete_send(s, (int64_t)s->sent);
}

static void socket_event(struct poll_socket *s, uint32_t events)
{
    struct ph_io *io = s->socket.io;

    if (s->connect_op != NULL && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        struct ph_op *op = s->connect_op;
        int error = 0;
        socklen_t len = sizeof(error);

        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        s->connect_op = NULL;
        ph_io_complete(io, op, -error);
        return;
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) {
        s->readable = true;
        if (s->recv_op != NULL && !s->paused) {
            ph_io_notify(io, s->recv_op, 0);
        }
    }
    if (s->send_op != NULL && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        go_on_sending(s);
    }
}

static int watch(struct poll_io *p, int fd, uint32_t events, void *mark)
{
    struct epoll_event event = {.events = events, .data.ptr = mark};

    return epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

static struct poll_socket *socket_new(struct ph_io *io, int fd)
{
    struct poll_socket *s = ph_alloc(sizeof(*s));

    s->socket.io = io;
    s->kind = WATCHED_SOCKET;
    s->fd = fd;
    return s;
}

static void watch_socket(struct poll_socket *s)
{
    PH_CHECK(watch(of(s->socket.io), s->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &s->kind) ==
             0);
}

static struct ph_socket *poll_connect(struct ph_io *io, struct ph_op *op,
                                      const struct ph_endpoint *to, const struct ph_endpoint *from)
{
    union ph_socket_address address;
    socklen_t len = ph_socket_address_from(&address, to);
    struct poll_socket *s = socket_new(io, ph_socket_open(to, from));

    op->world_object = s;
    if (s->fd < 0) {
        ph_io_complete(io, op, s->fd);
    } else if (connect(s->fd, &address.any, len) == 0) {
        ph_io_complete(io, op, 0);
        watch_socket(s);
    } else if (errno == EINPROGRESS) {
        s->connect_op = op;
        watch_socket(s);
    } else {
        ph_io_complete(io, op, -errno);
    }
    return &s->socket;
}

static void poll_recv_start(struct ph_socket *socket, struct ph_op *op)
{
    struct poll_socket *s = (struct poll_socket *)socket;

    op->world_object = s;
    s->recv_op = op;
    s->readable = true; // what came before was told then, if ever
    ph_io_notify(socket->io, op, 0);
}

static enum ph_recv_result poll_recv_next(struct ph_socket *socket, struct ph_str *out_slice)
{
    struct poll_socket *s = (struct poll_socket *)socket;
    struct poll_io *p = of(socket->io);
    ssize_t got;

    if (!s->readable || s->paused) {
        return PH_RECV_NONE;
    }
    do {
        got = recv(s->fd, p->received, sizeof(p->received), MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        *out_slice = (struct ph_str){.data = p->received, .len = (size_t)got};
        return PH_RECV_DATA;
    }
    if (got < 0 && errno == EAGAIN) {
        s->readable = false;
        return PH_RECV_NONE;
    }
    if (got < 0) {
        s->recv_op->result = -errno;
        s->readable = false;
        return PH_RECV_ERROR;
    }
    s->readable = false;
    return PH_RECV_EOF;
}

static void poll_recv_release(struct ph_socket *socket)
{
    (void)socket; // the slice is the world's own buffer
}

static void poll_recv_pause(struct ph_socket *socket, bool paused)
{
    struct poll_socket *s = (struct poll_socket *)socket;

    s->paused = paused;
    if (!paused && s->readable && s->recv_op != NULL) {
        ph_io_notify(socket->io, s->recv_op, 0);
    }
}

static void poll_send(struct ph_socket *socket, struct ph_op *op, const struct iovec *iov,
                      int iov_count)
{
    struct poll_socket *s = (struct poll_socket *)socket;

    PH_CHECK(s->send_op == NULL && iov_count <= PH_SEND_IOV_MAX);
    memcpy(s->slices, iov, (size_t)iov_count * sizeof(*iov));
    s->slice_at = 0;
    s->slice_count = iov_count;
    s->sent = 0;
    op->world_object = s;
    s->send_op = op;
    go_on_sending(s);
}

static void poll_shutdown(struct ph_socket *socket)
{
    shutdown(((struct poll_socket *)socket)->fd, SHUT_WR);
}

static void poll_close(struct ph_socket *socket, struct ph_op *op)
{
    struct poll_socket *s = (struct poll_socket *)socket;
    struct ph_op *others[] = {s->connect_op, s->recv_op, s->send_op};

    for (size_t i = 0; i < PH_ARRAY_LEN(others); i++) {
        if (others[i] != NULL) {
            ph_io_retract(socket->io, others[i]);
        }
    }
    ph_io_retract_all_of(socket->io, s); // what was done, but not stepped yet
    if (s->fd >= 0) {
        close(s->fd);
    }
    ph_io_complete(socket->io, op, 0);
    free(s);
}

// --- listeners ---

static int poll_listen(struct ph_io *io, const struct ph_listen_options *options,
                       struct ph_listener **out_listener, struct ph_endpoint *out_bound)
{
    int fd = ph_socket_listen(&options->at, options->backlog, out_bound);
    struct poll_listener *l;

    if (fd < 0) {
        return fd;
    }
    l = ph_alloc(sizeof(*l));
    l->listener.io = io;
    l->kind = WATCHED_LISTENER;
    l->fd = fd;
    LIST_INSERT_HEAD(&of(io)->listeners, l, link);
    PH_CHECK(watch(of(io), fd, 0, &l->kind) == 0);
    *out_listener = &l->listener;
    return 0;
}

static void listen_for(struct poll_listener *l, bool on)
{
    struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.ptr = &l->kind};

    PH_CHECK(epoll_ctl(of(l->listener.io)->epoll_fd, EPOLL_CTL_MOD, l->fd, &event) == 0);
}

static void poll_accept_start(struct ph_listener *listener, struct ph_op *op)
{
    struct poll_listener *l = (struct poll_listener *)listener;

    l->op = op;
    listen_for(l, true);
}

static bool poll_accept_next(struct ph_listener *listener, struct ph_socket **out_socket,
                             struct ph_endpoint *out_peer, struct ph_endpoint *out_local)
{
    struct poll_listener *l = (struct poll_listener *)listener;
    struct poll_io *p = of(listener->io);
    union ph_socket_address address;
    socklen_t len = sizeof(address);
    int fd = accept4(l->fd, &address.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct poll_socket *s;

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            l->op->result = -errno;
            l->starved = true;
            p->starved_until_ns = listener->io->now_ns + PH_POLL_STARVED_NS;
            listen_for(l, false);
        }
        return false;
    }
    *out_peer = ph_socket_address_endpoint(&address);
    len = sizeof(address);
    getsockname(fd, &address.any, &len);
    *out_local = ph_socket_address_endpoint(&address);
    s = socket_new(listener->io, fd);
    watch_socket(s);
    *out_socket = &s->socket;
    return true;
}

static void poll_accept_pause(struct ph_listener *listener, bool paused)
{
    struct poll_listener *l = (struct poll_listener *)listener;

    l->paused = paused;
    listen_for(l, !paused && !l->starved && l->op != NULL);
}

static void poll_listener_close(struct ph_listener *listener)
{
    struct poll_listener *l = (struct poll_listener *)listener;

    if (l->op != NULL) {
        ph_io_retract(listener->io, l->op);
    }
    LIST_REMOVE(l, link);
    close(l->fd);
    free(l);
}

static uint64_t poll_socket_detach(struct ph_socket *socket)
{
    struct poll_socket *s = (struct poll_socket *)socket;
    uint64_t token = (uint64_t)s->fd + 1;

    PH_CHECK(s->recv_op == NULL && s->send_op == NULL && s->connect_op == NULL);
    epoll_ctl(of(socket->io)->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    free(s);
    return token;
}

static struct ph_socket *poll_socket_adopt(struct ph_io *io, uint64_t token)
{
    struct poll_socket *s = socket_new(io, (int)(token - 1));

    watch_socket(s);
    return &s->socket;
}

// --- the loop ---

static int timeout_of(struct poll_io *p, uint64_t deadline_ns)
{
    uint64_t left_ms;

    if (p->starved_until_ns != 0 && p->starved_until_ns < deadline_ns) {
        deadline_ns = p->starved_until_ns;
    }
    if (deadline_ns == PH_NEVER) {
        return -1;
    }
    if (deadline_ns <= p->host.io.now_ns) {
        return 0;
    }
    left_ms = (deadline_ns - p->host.io.now_ns + PH_NS_PER_MS - 1) / PH_NS_PER_MS;
    return left_ms > 60000 ? 60000 : (int)left_ms;
}

static void feed_starved(struct poll_io *p)
{
    struct poll_listener *l;

    if (p->starved_until_ns == 0 || p->host.io.now_ns < p->starved_until_ns) {
        return;
    }
    p->starved_until_ns = 0;
    LIST_FOREACH(l, &p->listeners, link)
    {
        if (l->starved) {
            l->starved = false;
            listen_for(l, !l->paused);
        }
    }
}

static void poll_wait(struct ph_io *io, uint64_t deadline_ns)
{
    struct poll_io *p = of(io);
    struct epoll_event events[PH_POLL_EVENTS_MAX];
    int timeout_ms;
    int count;

    ph_host_io_read_clocks(io);
    timeout_ms = ph_io_has_ready(io) ? 0 : timeout_of(p, deadline_ns);
    if (timeout_ms != 0 && !ph_host_io_fall_asleep(&p->host)) {
        timeout_ms = 0;
    }
    count = epoll_wait(p->epoll_fd, events, PH_POLL_EVENTS_MAX, timeout_ms);
    ph_host_io_rise(&p->host);
    ph_host_io_read_clocks(io);
    for (int i = 0; i < count; i++) {
        enum watched_kind *mark = events[i].data.ptr;

        switch (*mark) {
        case WATCHED_WAKE:
            break; // edge-triggered: it need not be read, and 2^64 wake-ups never come
        case WATCHED_LISTENER: {
            struct poll_listener *l = PH_CONTAINER_OF(mark, struct poll_listener, kind);

            ph_io_notify(io, l->op, 0);
            break;
        }
        case WATCHED_SOCKET:
            socket_event(PH_CONTAINER_OF(mark, struct poll_socket, kind), events[i].events);
            break;
        }
    }
    ph_offload_sink_drain(&p->host.files.sink);
    feed_starved(p);
}

static void poll_file_read(struct ph_file *file, struct ph_op *op, void *out, size_t len,
                           uint64_t offset)
{
    ph_file_jobs_read(&of(file->io)->host.files, file, op, out, len, offset);
}

static void poll_file_write(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                            uint64_t offset, bool durable)
{
    ph_file_jobs_write(&of(file->io)->host.files, file, op, data, len, offset, durable);
}

static void poll_file_sync(struct ph_file *file, struct ph_op *op)
{
    ph_file_jobs_sync(&of(file->io)->host.files, file, op);
}

static void poll_destroy(struct ph_io *io)
{
    struct poll_io *p = of(io);

    PH_CHECK(LIST_EMPTY(&p->listeners));
    close(p->epoll_fd);
    ph_host_io_deinit(&p->host);
    free(p);
}

static const struct ph_io_vtable poll_vtable = {
    .name = "poll",
    .wait = poll_wait,
    .wake = ph_host_io_wake,
    .random = ph_host_io_random,
    .listen = poll_listen,
    .accept_start = poll_accept_start,
    .accept_next = poll_accept_next,
    .accept_pause = poll_accept_pause,
    .listener_close = poll_listener_close,
    .socket_detach = poll_socket_detach,
    .socket_adopt = poll_socket_adopt,
    .connect = poll_connect,
    .recv_start = poll_recv_start,
    .recv_next = poll_recv_next,
    .recv_release = poll_recv_release,
    .recv_pause = poll_recv_pause,
    .send = poll_send,
    .shutdown = poll_shutdown,
    .close = poll_close,
    .file_open = ph_host_io_file_open,
    .file_close = ph_file_jobs_close,
    .file_allocate = ph_host_io_file_allocate,
    .file_read = poll_file_read,
    .file_write = poll_file_write,
    .file_sync = poll_file_sync,
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
    .destroy = poll_destroy,
};

int ph_poll_create(const struct ph_poll_options *options, struct ph_io **out)
{
    struct poll_io *p = ph_alloc(sizeof(*p));
    int result = ph_host_io_init(&p->host, &poll_vtable,
                                 &(struct ph_host_threads){.offload = options->offload,
                                                           .resolver = options->resolver,
                                                           .fetch = options->fetch});

    if (result < 0) {
        free(p);
        return result;
    }
    LIST_INIT(&p->listeners);
    p->wake_kind = WATCHED_WAKE;
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll_fd < 0) {
        result = -errno;
    } else {
        result = watch(p, p->host.wake_fd, EPOLLIN | EPOLLET, &p->wake_kind);
    }
    if (result < 0) {
        poll_destroy(&p->host.io);
        return result;
    }
    *out = &p->host.io;
    return 0;
}
