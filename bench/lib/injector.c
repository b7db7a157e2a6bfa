// A client for tests, benchmarks and the demo.
#include "bench/lib/injector.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "bench/lib/sink.h"
#include "engine/socket_parts.h"

#define RECONNECT_PAUSE_MS 20

enum step {
    STEP_IDLE, // not connected
    STEP_CONNECT,
    STEP_GREETING,
    STEP_EHLO, // its lines
    STEP_MESSAGE,
};

struct channel {
    struct ph_injector *injector;
    int fd;
    enum step step;
    uint64_t id;
    unsigned replies_due; // of the message under way: MAIL, RCPT, BDAT
    bool refused;
    unsigned sent_on_it;
    struct ph_buf in;
    struct ph_buf out;
};

struct ph_injector {
    struct ph_injector_options options;
    pthread_t thread;
    int epoll_fd;
    struct channel *channels;
    char *body;
    size_t body_len;
    uint8_t *acknowledged_ids;
    uint64_t begun; // messages under way or acknowledged
    _Atomic uint64_t next_id;
    _Atomic uint64_t acknowledged;
    _Atomic uint64_t refused;
    _Atomic bool stop;
    _Atomic bool done;
};

static void make_body(struct ph_injector *injector)
{
    size_t size = injector->options.size > 128 ? injector->options.size - 128 : 64;
    size_t lines = size / 64;

    injector->body = ph_alloc(lines * 64 + 1);
    for (size_t i = 0; i < lines; i++) {
        memset(injector->body + i * 64, 'a' + (int)(i % 26), 62);
        memcpy(injector->body + i * 64 + 62, "\r\n", 2);
    }
    injector->body_len = lines * 64;
}

static void say_message(struct channel *c)
{
    struct ph_injector *injector = c->injector;
    const struct ph_injector_options *o = &injector->options;
    char head[256];
    char recipient[256];
    int head_len;
    const char *pattern;
    const char *hash;

    c->id = atomic_fetch_add(&injector->next_id, 1);
    head_len = snprintf(head, sizeof(head), "X-Ledger-Id: %llu\r\nSubject: message %llu\r\n\r\n",
                        (unsigned long long)c->id, (unsigned long long)c->id);
    pattern = o->recipients[c->id % o->recipient_count];
    hash = strchr(pattern, '#');
    if (hash != NULL) {
        snprintf(recipient, sizeof(recipient), "%.*s%llu%s", (int)(hash - pattern), pattern,
                 (unsigned long long)c->id, hash + 1);
    } else {
        snprintf(recipient, sizeof(recipient), "%s", pattern);
    }
    ph_buf_printf(&c->out, "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nBDAT %zu LAST\r\n", o->sender,
                  recipient, (size_t)head_len + injector->body_len);
    ph_buf_append_bytes(&c->out, head, (size_t)head_len);
    ph_buf_append_bytes(&c->out, injector->body, injector->body_len);
    c->replies_due = 3;
    c->refused = false;
    c->step = STEP_MESSAGE;
    injector->begun++;
}

static bool wants_more(const struct ph_injector *injector)
{
    return !atomic_load(&injector->stop) &&
           (injector->options.messages == 0 || injector->begun < injector->options.messages);
}

static void disconnect(struct channel *c)
{
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    if (c->step == STEP_MESSAGE && c->replies_due > 0) {
        c->injector->begun--; // sent again, under a new id
    }
    c->step = STEP_IDLE;
    c->replies_due = 0;
    c->sent_on_it = 0;
    ph_buf_clear(&c->in);
    ph_buf_clear(&c->out);
}

static void begin_connect(struct channel *c)
{
    union ph_socket_address address;
    socklen_t len = ph_socket_address_from(&address, &c->injector->options.to);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};

    c->fd = ph_socket_open(&c->injector->options.to, NULL);
    if (c->fd < 0) {
        return;
    }
    if (connect(c->fd, &address.any, len) != 0 && errno != EINPROGRESS) {
        disconnect(c);
        return;
    }
    c->step = STEP_CONNECT;
    epoll_ctl(c->injector->epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
}

static bool flush(struct channel *c)
{
    while (c->out.len > 0) {
        ssize_t wrote = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (wrote <= 0) {
            return errno == EAGAIN;
        }
        ph_buf_consume(&c->out, (size_t)wrote);
    }
    return true;
}

static void message_over(struct channel *c)
{
    struct ph_injector *injector = c->injector;
    unsigned max = injector->options.messages_per_connection;

    if (c->refused) {
        atomic_fetch_add(&injector->refused, 1);
        injector->begun--;
    } else {
        __atomic_store_n(&injector->acknowledged_ids[c->id], 1, __ATOMIC_RELEASE);
        atomic_fetch_add(&injector->acknowledged, 1);
    }
    c->sent_on_it++;
    if (max > 0 && c->sent_on_it >= max) {
        disconnect(c);
    } else if (wants_more(injector)) {
        say_message(c);
    }
}

static void take_line(struct channel *c, struct ph_str line)
{
    bool last = line.len < 4 || line.data[3] != '-';

    if (!last) {
        return;
    }
    if (c->step == STEP_GREETING) {
        ph_buf_append(&c->out, PH_STR("EHLO injector.test\r\n"));
        c->step = STEP_EHLO;
    } else if (c->step == STEP_EHLO) {
        if (wants_more(c->injector)) {
            say_message(c);
        } else {
            c->replies_due = 0;
            c->step = STEP_MESSAGE;
        }
    } else if (c->replies_due > 0) {
        c->refused |= line.data[0] != '2';
        c->replies_due--;
        if (c->replies_due == 0) {
            message_over(c);
        }
    }
}

static void channel_ready(struct channel *c)
{
    static __thread char buffer[65536];
    bool alive = true;

    if (c->step == STEP_CONNECT) {
        int error = 0;
        socklen_t len = sizeof(error);

        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        alive = error == 0;
        c->step = STEP_GREETING;
    }
    while (alive && c->fd >= 0) {
        ssize_t got = recv(c->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        struct ph_str in;
        struct ph_str line;

        if (got <= 0) {
            alive = got < 0 && errno == EAGAIN;
            break;
        }
        ph_buf_append_bytes(&c->in, buffer, (size_t)got);
        in = ph_buf_str(&c->in);
        while (c->fd >= 0 && ph_str_cut_line(&in, &line)) {
            take_line(c, line);
        }
        if (c->fd >= 0) {
            ph_buf_consume(&c->in, c->in.len - in.len);
            alive = flush(c);
        }
    }
    if (!alive) {
        disconnect(c);
    } else if (c->fd >= 0 && !flush(c)) {
        disconnect(c);
    }
}

static void *serve(void *argument)
{
    struct ph_injector *injector = argument;
    struct epoll_event events[256];
    bool running = true;

    while (running) {
        bool busy = false;
        int count;

        for (unsigned i = 0; i < injector->options.connections; i++) {
            struct channel *c = &injector->channels[i];

            if (c->step == STEP_IDLE && wants_more(injector)) {
                begin_connect(c);
            }
            busy |= c->step == STEP_MESSAGE && c->replies_due > 0;
        }
        count = epoll_wait(injector->epoll_fd, events, 256, RECONNECT_PAUSE_MS);
        for (int i = 0; i < count; i++) {
            channel_ready(events[i].data.ptr);
        }
        running = wants_more(injector) || (busy && !atomic_load(&injector->stop));
        for (unsigned i = 0; !running && i < injector->options.connections; i++) {
            running = injector->channels[i].replies_due > 0 && !atomic_load(&injector->stop);
        }
    }
    for (unsigned i = 0; i < injector->options.connections; i++) {
        disconnect(&injector->channels[i]);
        ph_buf_deinit(&injector->channels[i].in);
        ph_buf_deinit(&injector->channels[i].out);
    }
    atomic_store(&injector->done, true);
    return NULL;
}

struct ph_injector *ph_injector_start(const struct ph_injector_options *options)
{
    struct ph_injector *injector = ph_alloc(sizeof(*injector));

    injector->options = *options;
    injector->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    injector->acknowledged_ids = calloc(PH_SINK_IDS_MAX, 1);
    PH_CHECK(injector->acknowledged_ids != NULL && options->recipient_count > 0);
    injector->channels = ph_alloc(options->connections * sizeof(*injector->channels));
    for (unsigned i = 0; i < options->connections; i++) {
        injector->channels[i].injector = injector;
        injector->channels[i].fd = -1;
    }
    atomic_init(&injector->next_id, options->first_id);
    make_body(injector);
    PH_CHECK(pthread_create(&injector->thread, NULL, serve, injector) == 0);
    return injector;
}

uint64_t ph_injector_acknowledged(const struct ph_injector *injector)
{
    return atomic_load(&injector->acknowledged);
}

uint64_t ph_injector_refused(const struct ph_injector *injector)
{
    return atomic_load(&injector->refused);
}

uint64_t ph_injector_next_id(const struct ph_injector *injector)
{
    return atomic_load(&injector->next_id);
}

bool ph_injector_done(const struct ph_injector *injector)
{
    return atomic_load(&injector->done);
}

bool ph_injector_is_acknowledged(const struct ph_injector *injector, uint64_t id)
{
    return id < PH_SINK_IDS_MAX &&
           __atomic_load_n(&injector->acknowledged_ids[id], __ATOMIC_ACQUIRE) != 0;
}

void ph_injector_stop(struct ph_injector *injector)
{
    atomic_store(&injector->stop, true);
    pthread_join(injector->thread, NULL);
}

void ph_injector_destroy(struct ph_injector *injector)
{
    close(injector->epoll_fd);
    free(injector->acknowledged_ids);
    free(injector->channels);
    free(injector->body);
    free(injector);
}
