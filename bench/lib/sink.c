// A destination for tests, benchmarks and the demo.
#include "bench/lib/sink.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "engine/socket_parts.h"
#include "tls/boringssl.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#define READ_BYTES 65536
#define COUNT(counter, amount)                                                                     \
    atomic_store_explicit(&(counter),                                                              \
                          atomic_load_explicit(&(counter), memory_order_relaxed) + (amount),       \
                          memory_order_relaxed)

struct address {
    struct ph_sink_behaviour behaviour;
    struct ph_sink_ledger ledger;
    SSL_CTX *context;
    int fd;
    uint64_t message_number;
};

struct delayed { // a reply that waits for its time
    STAILQ_ENTRY(delayed) link;
    uint64_t due_ms;
    size_t len;
    char text[];
};

struct session {
    TAILQ_ENTRY(session) link;
    struct ph_sink *sink;
    struct address *address;
    int fd;
    uint64_t number; // in the order they came
    SSL *ssl;
    bool handshaking;
    bool closing; // when the output is sent
    bool writable_watched;
    struct ph_buf in;
    struct ph_buf out;
    STAILQ_HEAD(, delayed) delayed;
    bool in_data;
    uint64_t bdat_left;
    bool bdat_last;
    bool in_bdat;
    bool mail;
    uint32_t recipients;
    uint32_t messages;
    struct ph_buf head; // the front of the message, for its id
    struct ph_buf to;   // its recipients, where they are recorded
    uint64_t bytes;
    bool line_start; // DATA: behind CRLF
};

struct ph_sink {
    int epoll_fd;
    int stop_fd;
    struct address *addresses[PH_SINK_ADDRESSES_MAX];
    size_t address_count;
    TAILQ_HEAD(, session) sessions;
    pthread_t thread;
    bool started;
    uint8_t *seen; // by id
    FILE *record;  // NULL: none is kept
    uint64_t session_count;
    char buffer[READ_BYTES];
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct ph_sink *ph_sink_create(void)
{
    struct ph_sink *sink = ph_alloc(sizeof(*sink));

    sink->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    sink->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sink->seen = calloc(PH_SINK_IDS_MAX, 1);
    PH_CHECK(sink->seen != NULL);
    TAILQ_INIT(&sink->sessions);
    return sink;
}

static SSL_CTX *make_context(const struct ph_sink_behaviour *behaviour)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    BIO *bio = BIO_new_mem_buf(behaviour->chain_pem.data, (int)behaviour->chain_pem.len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    bool leaf = true;
    X509 *certificate;

    BIO_free(bio);
    bio = BIO_new_mem_buf(behaviour->chain_pem.data, (int)behaviour->chain_pem.len);
    while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (leaf) {
            SSL_CTX_use_certificate(context, certificate);
        } else {
            SSL_CTX_add1_chain_cert(context, certificate);
        }
        leaf = false;
        X509_free(certificate);
    }
    BIO_free(bio);
    PH_CHECK(key != NULL && SSL_CTX_use_PrivateKey(context, key) == 1);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (behaviour->request_certificate) {
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    }
    return context;
}

struct ph_sink_ledger *ph_sink_add(struct ph_sink *sink, const struct ph_sink_behaviour *behaviour,
                                   uint16_t *out_port)
{
    struct address *address = ph_alloc(sizeof(*address));
    struct ph_endpoint bound;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = address};
    char text[PH_ENDPOINT_TEXT_MAX];

    PH_CHECK(sink->address_count < PH_SINK_ADDRESSES_MAX);
    address->behaviour = *behaviour;
    address->fd = ph_socket_listen(&behaviour->at, 1024, &bound);
    if (address->fd < 0) {
        fprintf(stderr, "sink: %s: %s\n", ph_endpoint_format(&behaviour->at, text),
                strerror(-address->fd));
        free(address);
        return NULL;
    }
    if (behaviour->tls == PH_SINK_TLS_GOOD) {
        address->context = make_context(behaviour);
    }
    epoll_ctl(sink->epoll_fd, EPOLL_CTL_ADD, address->fd, &event);
    sink->addresses[sink->address_count++] = address;
    if (out_port != NULL) {
        *out_port = bound.port;
    }
    return &address->ledger;
}

void ph_sink_record(struct ph_sink *sink, FILE *file)
{
    sink->record = file;
}

uint32_t ph_sink_deliveries_of(struct ph_sink *sink, uint64_t id)
{
    return id < PH_SINK_IDS_MAX ? __atomic_load_n(&sink->seen[id], __ATOMIC_RELAXED) : 0;
}

// --- output ---

static void say(struct session *s, const char *text)
{
    uint32_t latency = s->address->behaviour.latency_ms;
    size_t len = strlen(text);

    if (latency == 0) {
        ph_buf_append_bytes(&s->out, text, len);
    } else {
        struct delayed *delayed = ph_alloc(sizeof(*delayed) + len);

        delayed->due_ms = now_ms() + latency;
        delayed->len = len;
        memcpy(delayed->text, text, len);
        STAILQ_INSERT_TAIL(&s->delayed, delayed, link);
    }
}

static void release_due(struct session *s, uint64_t now)
{
    struct delayed *delayed;

    while ((delayed = STAILQ_FIRST(&s->delayed)) != NULL && delayed->due_ms <= now) {
        STAILQ_REMOVE_HEAD(&s->delayed, link);
        ph_buf_append_bytes(&s->out, delayed->text, delayed->len);
        free(delayed);
    }
}

static void end_session(struct session *s)
{
    struct delayed *delayed;

    while ((delayed = STAILQ_FIRST(&s->delayed)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->delayed, link);
        free(delayed);
    }
    TAILQ_REMOVE(&s->sink->sessions, s, link);
    if (s->ssl != NULL) {
        SSL_free(s->ssl);
    }
    close(s->fd);
    ph_buf_deinit(&s->in);
    ph_buf_deinit(&s->out);
    ph_buf_deinit(&s->head);
    ph_buf_deinit(&s->to);
    free(s);
}

static void watch_writable(struct session *s, bool on)
{
    struct epoll_event event = {.events = on ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = s};

    if (s->writable_watched != on) {
        s->writable_watched = on;
        epoll_ctl(s->sink->epoll_fd, EPOLL_CTL_MOD, s->fd, &event);
    }
}

// False: the session is over and gone.
static bool flush(struct session *s)
{
    while (s->out.len > 0 && !s->handshaking) {
        ssize_t wrote = s->ssl != NULL
                            ? SSL_write(s->ssl, s->out.data, (int)s->out.len)
                            : send(s->fd, s->out.data, s->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (wrote <= 0) {
            if (s->ssl == NULL && errno != EAGAIN) {
                end_session(s);
                return false;
            }
            break;
        }
        ph_buf_consume(&s->out, (size_t)wrote);
    }
    if (s->closing && s->out.len == 0 && STAILQ_EMPTY(&s->delayed)) {
        end_session(s);
        return false;
    }
    watch_writable(s, s->out.len > 0);
    return true;
}

// --- messages ---

static void note_id(struct session *s)
{
    struct ph_str head = ph_buf_str(&s->head);
    ptrdiff_t at = ph_str_find(head, PH_STR("X-Ledger-Id: "));
    uint64_t id = 0;

    if (at < 0) {
        return;
    }
    head = ph_str_after(head, (size_t)at + 13);
    for (size_t i = 0; i < head.len && head.data[i] >= '0' && head.data[i] <= '9'; i++) {
        id = id * 10 + (uint64_t)(head.data[i] - '0');
    }
    if (id < PH_SINK_IDS_MAX) {
        uint8_t before = s->sink->seen[id];

        COUNT(s->address->ledger.distinct, before == 0);
        COUNT(s->address->ledger.duplicates, before > 0);
        __atomic_store_n(&s->sink->seen[id], before < 255 ? before + 1 : 255, __ATOMIC_RELAXED);
    }
}

static void record_message(const struct session *s)
{
    const char *how = s->ssl == NULL ? "clear" : SSL_session_reused(s->ssl) ? "resumed" : "full";

    if (s->sink->record != NULL) {
        fprintf(s->sink->record, "%s %llu %s%.*s\n", s->address->behaviour.name,
                (unsigned long long)s->number, how, PH_STR_ARG(ph_buf_str(&s->to)));
    }
}

// False: the session ends here.
static bool message_over(struct session *s)
{
    struct address *address = s->address;

    address->message_number++;
    if (address->behaviour.close_every > 0 &&
        address->message_number % address->behaviour.close_every == 0) {
        return false;
    }
    note_id(s);
    record_message(s);
    COUNT(address->ledger.messages, 1);
    COUNT(address->ledger.recipients, s->recipients);
    COUNT(address->ledger.bytes, s->bytes);
    ph_buf_clear(&s->head);
    s->bytes = 0;
    s->mail = false;
    s->recipients = 0;
    s->messages++;
    say(s, "250 2.0.0 taken\r\n");
    return true;
}

static void keep_head(struct session *s, const char *data, size_t len)
{
    if (s->head.len < 4096) {
        ph_buf_append_bytes(&s->head, data, len < 4096 ? len : 4096);
    }
    s->bytes += len;
}

static void say_ehlo(struct session *s)
{
    const struct ph_sink_behaviour *b = &s->address->behaviour;
    char text[512];

    snprintf(text, sizeof(text),
             "250-%s\r\n%s%s%s250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n"
             "250-SIZE 0\r\n250 ENHANCEDSTATUSCODES\r\n",
             b->name, b->no_pipelining ? "" : "250-PIPELINING\r\n",
             b->no_chunking ? "" : "250-CHUNKING\r\n",
             b->tls != PH_SINK_TLS_NONE && s->ssl == NULL ? "250-STARTTLS\r\n" : "");
    say(s, text);
}

static void start_tls(struct session *s)
{
    const struct ph_sink_behaviour *b = &s->address->behaviour;

    if (b->tls == PH_SINK_TLS_NONE || s->ssl != NULL) {
        say(s, "502 5.5.1 no\r\n");
    } else if (b->tls == PH_SINK_TLS_REFUSED) {
        say(s, "454 4.7.0 TLS is not available now\r\n");
    } else if (b->tls == PH_SINK_TLS_BROKEN) {
        say(s, "220 2.0.0 go on\r\n");
        s->closing = true;
        COUNT(s->address->ledger.handshakes_failed, 1);
    } else {
        // At once, whatever the latency: what comes next is TLS.
        ph_buf_append(&s->out, PH_STR("220 2.0.0 go on\r\n"));
        if (send(s->fd, s->out.data, s->out.len, MSG_NOSIGNAL) < 0) {
            s->closing = true;
        }
        ph_buf_clear(&s->out);
        s->ssl = SSL_new(s->address->context);
        SSL_set_fd(s->ssl, s->fd);
        SSL_set_accept_state(s->ssl);
        s->handshaking = true;
        s->mail = false;
    }
}

static bool starts(struct ph_str line, const char *command)
{
    return ph_str_starts_nocase(line, ph_str_from(command));
}

// "RCPT TO:<a@b.test> NOTIFY=NEVER" → " a@b.test".
static void keep_recipient(struct session *s, struct ph_str line)
{
    struct ph_str before;
    struct ph_str address;

    if (s->sink->record != NULL && ph_str_cut(&line, '<', &before) &&
        ph_str_cut(&line, '>', &address)) {
        ph_buf_printf(&s->to, " %.*s", PH_STR_ARG(address));
    }
}

// A recipient's local part may ask for an answer: reject-550@, defer-451@.
static void take_rcpt(struct session *s, struct ph_str line)
{
    char text[64];
    ptrdiff_t at = ph_str_find(line, PH_STR("<reject-"));

    at = at < 0 ? ph_str_find(line, PH_STR("<defer-")) + 7 : at + 8;
    if (at >= 7 && (size_t)at + 3 <= line.len && line.data[at] >= '4' && line.data[at] <= '5') {
        snprintf(text, sizeof(text), "%.3s %c.1.1 as you asked\r\n", line.data + at, line.data[at]);
        say(s, text);
    } else {
        s->recipients++;
        keep_recipient(s, line);
        say(s, "250 2.1.5 ok\r\n");
    }
}

static void take_command(struct session *s, struct ph_str line)
{
    struct ph_sink_ledger *ledger = &s->address->ledger;
    uint32_t max = s->address->behaviour.messages_max;

    if (starts(line, "EHLO")) {
        say_ehlo(s);
    } else if (starts(line, "HELO") || starts(line, "RSET") || starts(line, "NOOP")) {
        s->mail = false;
        s->recipients = 0;
        say(s, "250 2.0.0 ok\r\n");
    } else if (starts(line, "STARTTLS")) {
        start_tls(s);
    } else if (starts(line, "MAIL") && max > 0 && s->messages >= max) {
        say(s, "421 4.7.0 that is enough\r\n");
        s->closing = true;
    } else if (starts(line, "MAIL")) {
        if (s->ssl != NULL) {
            COUNT(ledger->mails_in_tls, 1);
        } else {
            COUNT(ledger->mails_in_clear, 1);
        }
        s->mail = true;
        s->recipients = 0;
        ph_buf_clear(&s->to);
        say(s, "250 2.1.0 ok\r\n");
    } else if (starts(line, "RCPT")) {
        take_rcpt(s, line);
    } else if (starts(line, "DATA")) {
        s->in_data = s->recipients > 0;
        s->line_start = true;
        say(s, s->in_data ? "354 go on\r\n" : "554 5.5.1 no valid recipients\r\n");
    } else if (starts(line, "BDAT")) {
        s->bdat_left = strtoull(line.data + 4, NULL, 10);
        s->bdat_last = ph_str_find(line, PH_STR("LAST")) >= 0;
        s->in_bdat = true;
    } else if (starts(line, "QUIT")) {
        say(s, "221 2.0.0 goodbye\r\n");
        s->closing = true;
    } else {
        say(s, "500 5.5.1 what?\r\n");
    }
}

// Content by DATA up to the dot; false: more is needed, or the session ends.
static bool take_data(struct session *s, bool *over)
{
    struct ph_str in = ph_buf_str(&s->in);
    size_t end;

    if (s->line_start && ph_str_starts(in, PH_STR(".\r\n"))) {
        end = 0;
    } else {
        ptrdiff_t at = ph_str_find(in, PH_STR("\r\n.\r\n"));

        if (at < 0) {
            // What can't be part of the end is taken.
            size_t taken = in.len > 4 ? in.len - 4 : 0;

            keep_head(s, in.data, taken);
            if (taken > 0) {
                s->line_start = false;
            }
            ph_buf_consume(&s->in, taken);
            return false;
        }
        end = (size_t)at + 2;
    }
    keep_head(s, in.data, end);
    ph_buf_consume(&s->in, end + 3);
    s->in_data = false;
    *over = !message_over(s);
    return !*over;
}

static bool take_bdat(struct session *s, bool *over)
{
    size_t part = s->in.len < s->bdat_left ? s->in.len : (size_t)s->bdat_left;

    keep_head(s, s->in.data, part);
    ph_buf_consume(&s->in, part);
    s->bdat_left -= part;
    if (s->bdat_left > 0) {
        return false;
    }
    s->in_bdat = false;
    if (!s->bdat_last) {
        say(s, "250 2.0.0 chunk\r\n");
    } else if (s->recipients == 0) {
        ph_buf_clear(&s->head);
        say(s, "503 5.5.1 no valid recipients\r\n");
    } else {
        *over = !message_over(s);
    }
    return !*over;
}

// Works off what has come; false: the session is to end at once.
static bool work_off(struct session *s)
{
    bool over = false;
    bool more = true;

    while (more && !over && !s->closing && (s->in.len > 0 || (s->in_bdat && s->bdat_left == 0))) {
        if (s->in_data) {
            more = take_data(s, &over);
        } else if (s->in_bdat) {
            more = take_bdat(s, &over);
        } else {
            struct ph_str in = ph_buf_str(&s->in);
            struct ph_str line;
            size_t before = in.len;

            more = ph_str_cut_line(&in, &line);
            if (more) {
                char copy[1024];
                size_t len = ph_str_copy(copy, sizeof(copy), line);

                ph_buf_consume(&s->in, before - in.len);
                take_command(s, (struct ph_str){.data = copy, .len = len});
            }
        }
    }
    return !over;
}

// --- the loop ---

static void accept_all(struct ph_sink *sink, struct address *address)
{
    int fd;

    while ((fd = accept4(address->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *s = ph_alloc(sizeof(*s));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
        char text[128];

        ph_socket_no_delay(fd);
        s->sink = sink;
        s->address = address;
        s->fd = fd;
        s->number = ++sink->session_count;
        STAILQ_INIT(&s->delayed);
        TAILQ_INSERT_TAIL(&sink->sessions, s, link);
        epoll_ctl(sink->epoll_fd, EPOLL_CTL_ADD, fd, &event);
        COUNT(address->ledger.sessions, 1);
        snprintf(text, sizeof(text), "220 %s ESMTP\r\n", address->behaviour.name);
        say(s, text);
        (void)flush(s);
    }
}

static bool shake_hands(struct session *s)
{
    int result = SSL_do_handshake(s->ssl);

    if (result == 1) {
        s->handshaking = false;
        if (SSL_session_reused(s->ssl)) {
            COUNT(s->address->ledger.handshakes_resumed, 1);
        } else {
            COUNT(s->address->ledger.handshakes_full, 1);
        }
        return true;
    }
    if (SSL_get_error(s->ssl, result) == SSL_ERROR_WANT_READ) {
        return true;
    }
    ERR_clear_error();
    COUNT(s->address->ledger.handshakes_failed, 1);
    return false;
}

static void session_ready(struct session *s)
{
    bool alive = true;
    bool more = true;

    while (alive && more) {
        ssize_t got;

        if (s->handshaking) {
            alive = shake_hands(s);
            if (!alive || s->handshaking) {
                break;
            }
        }
        if (s->ssl != NULL) {
            got = SSL_read(s->ssl, s->sink->buffer, READ_BYTES);
            more = got > 0;
            if (got <= 0) {
                alive = SSL_get_error(s->ssl, (int)got) == SSL_ERROR_WANT_READ;
                ERR_clear_error();
            }
        } else {
            got = recv(s->fd, s->sink->buffer, READ_BYTES, MSG_DONTWAIT);
            more = got > 0;
            alive = got > 0 || (got < 0 && errno == EAGAIN);
        }
        if (got > 0) {
            ph_buf_append_bytes(&s->in, s->sink->buffer, (size_t)got);
            alive = work_off(s);
        }
    }
    if (!alive) {
        end_session(s);
    } else {
        (void)flush(s);
    }
}

static bool is_address(const struct ph_sink *sink, const void *pointer)
{
    for (size_t i = 0; i < sink->address_count; i++) {
        if (sink->addresses[i] == pointer) {
            return true;
        }
    }
    return false;
}

// Replies whose time has come; returns how long to wait for the next one, -1: for ever.
static int serve_delayed(struct ph_sink *sink)
{
    uint64_t now = now_ms();
    uint64_t next = UINT64_MAX;
    struct session *s;
    struct session *after;

    for (s = TAILQ_FIRST(&sink->sessions); s != NULL; s = after) {
        after = TAILQ_NEXT(s, link);
        if (!STAILQ_EMPTY(&s->delayed)) {
            release_due(s, now);
            if (flush(s) && !STAILQ_EMPTY(&s->delayed) &&
                STAILQ_FIRST(&s->delayed)->due_ms < next) {
                next = STAILQ_FIRST(&s->delayed)->due_ms;
            }
        }
    }
    return next == UINT64_MAX ? -1 : (int)(next - now);
}

static void *serve(void *argument)
{
    struct ph_sink *sink = argument;
    struct epoll_event events[256];
    bool running = true;

    while (running) {
        int count = epoll_wait(sink->epoll_fd, events, 256, serve_delayed(sink));

        for (int i = 0; i < count; i++) {
            void *pointer = events[i].data.ptr;

            if (pointer == NULL) {
                running = false;
            } else if (is_address(sink, pointer)) {
                accept_all(sink, pointer);
            } else {
                session_ready(pointer);
            }
        }
    }
    return NULL;
}

void ph_sink_start(struct ph_sink *sink)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    epoll_ctl(sink->epoll_fd, EPOLL_CTL_ADD, sink->stop_fd, &event);
    PH_CHECK(pthread_create(&sink->thread, NULL, serve, sink) == 0);
    sink->started = true;
}

void ph_sink_stop(struct ph_sink *sink)
{
    struct session *s;
    uint64_t one = 1;

    if (sink->started) {
        PH_CHECK(write(sink->stop_fd, &one, sizeof(one)) == sizeof(one));
        pthread_join(sink->thread, NULL);
    }
    while ((s = TAILQ_FIRST(&sink->sessions)) != NULL) {
        end_session(s);
    }
    for (size_t i = 0; i < sink->address_count; i++) {
        close(sink->addresses[i]->fd);
        if (sink->addresses[i]->context != NULL) {
            SSL_CTX_free(sink->addresses[i]->context);
        }
        free(sink->addresses[i]);
    }
    close(sink->epoll_fd);
    close(sink->stop_fd);
    free(sink->seen);
    free(sink);
}
