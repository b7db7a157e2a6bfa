// bench-feed: the cheapest source of mail we can make. One send and one receive per message.
//
//   bench-feed to=ADDRESS:PORT tally=FILE [connections=20] [messages=20000] [size=4096]
//              [per-connection=100] [recipient=u@d#.test] [modulo=1] [first=1] [sender=…]
//
// '#' in the recipient stands for the message's id modulo `modulo`. Speaks BDAT where the server
// announces CHUNKING, pipelines where it announces PIPELINING, else waits for each reply. Ends when
// all messages are acknowledged; a refused one is counted and not sent again.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/endpoint.h"
#include "bench/lib/arguments.h"
#include "bench/lib/tally.h"
#include "engine/socket_parts.h"

#define ENVELOPE_BYTES_MAX 1024
#define REPLY_BYTES_MAX 4096

enum step {
    STEP_GREETING,
    STEP_EHLO,
    STEP_MAIL, // one by one, where the server can't pipeline
    STEP_RCPT,
    STEP_DATA,    // its 354
    STEP_MESSAGE, // the replies that are left, up to the message's own
    STEP_QUIT,
};

struct channel {
    int fd; // -1: closed
    enum step step;
    unsigned due; // replies to come
    bool refused;
    bool pipelining;
    bool chunking;
    uint64_t id;
    uint64_t sent; // messages on this connection
    char line[8];  // the front of an unfinished reply line
    size_t line_len;
    char envelope[ENVELOPE_BYTES_MAX];
    size_t rest_at; // what a full socket buffer left unsent: offset in envelope and body
    size_t rest_envelope;
    bool rest_body;
    char head[96];
    size_t head_len;
};

static struct {
    struct ph_endpoint to;
    struct ph_tally *tally;
    uint64_t messages;
    uint64_t per_connection;
    uint64_t modulo;
    uint64_t next_id;
    uint64_t begun;
    uint64_t over;
    const char *recipient_front;
    const char *recipient_back; // behind the '#'; NULL without one
    const char *sender;
    char *body; // behind the head; ends with ".\r\n" that BDAT leaves out
    size_t body_len;
    int epoll_fd;
} feed;

static void make_body(size_t size)
{
    size_t lines = size > 128 ? (size - 64) / 64 : 1;

    feed.body = ph_alloc(lines * 64 + 3);
    for (size_t i = 0; i < lines * 64; i++) {
        feed.body[i] = (char)('a' + (i * 7 + i / 64) % 26);
    }
    for (size_t i = 0; i < lines; i++) {
        memcpy(feed.body + i * 64 + 62, "\r\n", 2);
    }
    feed.body_len = lines * 64;
    memcpy(feed.body + feed.body_len, ".\r\n", 3);
}

static void fail(const char *what)
{
    fprintf(stderr, "bench-feed: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void open_channel(struct channel *c)
{
    union ph_socket_address address;
    socklen_t len = ph_socket_address_from(&address, &feed.to);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    *c = (struct channel){.fd = ph_socket_open(&feed.to, NULL), .step = STEP_GREETING, .due = 1};
    if (c->fd < 0 || (connect(c->fd, &address.any, len) != 0 && errno != EINPROGRESS)) {
        fail("connect");
    }
    epoll_ctl(feed.epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    PH_TALLY_ADD(feed.tally, PH_TALLY_CONNECTIONS, 1);
}

static void say(struct channel *c, const char *text, size_t len)
{
    if (send(c->fd, text, len, MSG_NOSIGNAL) != (ssize_t)len) {
        fail("send");
    }
}

static void watch(const struct channel *c, bool writable)
{
    struct epoll_event event = {.events = writable ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                .data.ptr = (void *)c};

    epoll_ctl(feed.epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

// The envelope (or nothing of it), then the message: as far as the socket takes it.
static void send_rest(struct channel *c)
{
    size_t body_len = feed.body_len + (c->chunking ? 0 : 3);
    struct iovec parts[3] = {{c->envelope, c->rest_envelope},
                             {c->head, c->rest_body ? c->head_len : 0},
                             {feed.body, c->rest_body ? body_len : 0}};
    size_t total = parts[0].iov_len + parts[1].iov_len + parts[2].iov_len;
    size_t skip = c->rest_at;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    ssize_t wrote;

    for (int i = 0; i < 3; i++) {
        size_t part = skip < parts[i].iov_len ? skip : parts[i].iov_len;

        parts[i].iov_base = (char *)parts[i].iov_base + part;
        parts[i].iov_len -= part;
        skip -= part;
    }
    wrote = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (wrote < 0 && errno != EAGAIN) {
        fail("send");
    }
    if (wrote > 0) {
        c->rest_at += (size_t)wrote;
    }
    if (c->rest_at == total) {
        if (c->rest_at != (size_t)wrote) {
            watch(c, false);
        }
        c->rest_at = 0;
        c->rest_body = false;
        c->rest_envelope = 0;
    } else {
        watch(c, true);
    }
}

static void begin_message(struct channel *c)
{
    int len;

    c->id = feed.next_id++;
    feed.begun++;
    c->sent++;
    c->refused = false;
    c->head_len = (size_t)snprintf(c->head, sizeof(c->head),
                                   "X-Ledger-Id: %llu\r\nSubject: a message\r\n\r\n",
                                   (unsigned long long)c->id);
    if (!c->pipelining) {
        c->step = STEP_MAIL;
        c->due = 1;
        len = snprintf(c->envelope, sizeof(c->envelope), "MAIL FROM:<%s>\r\n", feed.sender);
        say(c, c->envelope, (size_t)len);
        return;
    }
    len = snprintf(c->envelope, sizeof(c->envelope), "MAIL FROM:<%s>\r\nRCPT TO:<%s", feed.sender,
                   feed.recipient_front);
    if (feed.recipient_back != NULL) {
        len += snprintf(c->envelope + len, sizeof(c->envelope) - (size_t)len, "%llu%s",
                        (unsigned long long)(c->id % feed.modulo), feed.recipient_back);
    }
    if (c->chunking) {
        len += snprintf(c->envelope + len, sizeof(c->envelope) - (size_t)len,
                        ">\r\nBDAT %zu LAST\r\n", c->head_len + feed.body_len);
        c->step = STEP_MESSAGE;
        c->due = 3;
        c->rest_body = true;
    } else {
        len += snprintf(c->envelope + len, sizeof(c->envelope) - (size_t)len, ">\r\nDATA\r\n");
        c->step = STEP_DATA;
        c->due = 3;
    }
    c->rest_envelope = (size_t)len;
    send_rest(c);
}

static void say_rcpt(struct channel *c)
{
    int len = snprintf(c->envelope, sizeof(c->envelope), "RCPT TO:<%s", feed.recipient_front);

    if (feed.recipient_back != NULL) {
        len += snprintf(c->envelope + len, sizeof(c->envelope) - (size_t)len, "%llu%s",
                        (unsigned long long)(c->id % feed.modulo), feed.recipient_back);
    }
    len += snprintf(c->envelope + len, sizeof(c->envelope) - (size_t)len, ">\r\n");
    say(c, c->envelope, (size_t)len);
}

// What follows a message, or the EHLO.
static void go_on(struct channel *c)
{
    bool spent = feed.per_connection > 0 && c->sent >= feed.per_connection;

    if (feed.begun < feed.messages && !spent) {
        begin_message(c);
    } else {
        c->step = STEP_QUIT;
        c->due = 1;
        say(c, "QUIT\r\n", 6);
    }
}

static void reply_over(struct channel *c, char class)
{
    c->refused |= class >= '4';
    if (--c->due > 0) {
        return;
    }
    switch (c->step) {
    case STEP_GREETING:
        c->step = STEP_EHLO;
        c->due = 1;
        say(c, "EHLO feed.test\r\n", 16);
        break;
    case STEP_EHLO:
        go_on(c);
        break;
    case STEP_MAIL:
        c->step = STEP_RCPT;
        c->due = 1;
        say_rcpt(c);
        break;
    case STEP_RCPT:
        c->step = STEP_DATA;
        c->due = 1;
        say(c, "DATA\r\n", 6);
        break;
    case STEP_DATA:
        if (c->refused) {
            errno = EPROTO;
            fail("the server refused before the message");
        }
        c->step = STEP_MESSAGE;
        c->due = 1;
        c->rest_body = true;
        send_rest(c);
        break;
    case STEP_MESSAGE:
        feed.over++;
        PH_TALLY_ADD(feed.tally, c->refused ? PH_TALLY_REFUSED : PH_TALLY_MESSAGES, 1);
        go_on(c);
        break;
    case STEP_QUIT:
        close(c->fd);
        c->fd = -1;
        if (feed.begun < feed.messages) {
            open_channel(c);
        }
        break;
    }
}

static void take_reply_bytes(struct channel *c, const char *data, size_t len)
{
    const char *end = data + len;

    while (data < end) {
        const char *newline = memchr(data, '\n', (size_t)(end - data));
        size_t part = (size_t)((newline != NULL ? newline : end) - data);

        if (c->step == STEP_EHLO) {
            c->pipelining |= memmem(data, part, "PIPELINING", 10) != NULL;
            c->chunking |= memmem(data, part, "CHUNKING", 8) != NULL;
        }
        if (c->line_len < sizeof(c->line)) {
            size_t room = sizeof(c->line) - c->line_len;

            memcpy(c->line + c->line_len, data, part < room ? part : room);
            c->line_len += part < room ? part : room;
        }
        if (newline == NULL) {
            return;
        }
        data = newline + 1;
        if (c->line_len >= 4 && c->line[3] != '-') {
            c->line_len = 0;
            reply_over(c, c->line[0]);
        }
        c->line_len = 0;
    }
}

static void channel_ready(struct channel *c, uint32_t events)
{
    char buffer[REPLY_BYTES_MAX];
    ssize_t got;

    if ((events & EPOLLOUT) != 0 && (c->rest_envelope > 0 || c->rest_body)) {
        send_rest(c);
    }
    if ((events & ~(uint32_t)EPOLLOUT) == 0) {
        return;
    }
    got = recv(c->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        errno = got == 0 ? ECONNRESET : errno;
        fail("the server ended a connection");
    }
    if (got > 0) {
        take_reply_bytes(c, buffer, (size_t)got);
    }
}

static void read_arguments(struct ph_arguments *arguments, uint64_t *out_connections)
{
    char *recipient = ph_strdup(ph_argument(arguments, "recipient", "u@d#.test"));
    char *hash = strchr(recipient, '#');

    feed.recipient_front = recipient;
    if (hash != NULL) {
        *hash = '\0';
        feed.recipient_back = hash + 1;
    }
    feed.sender = ph_argument(arguments, "sender", "sender@feed.test");
    feed.messages = ph_argument_number(arguments, "messages", 20000);
    feed.per_connection = ph_argument_number(arguments, "per-connection", 100);
    feed.modulo = ph_argument_number(arguments, "modulo", 1);
    feed.next_id = ph_argument_number(arguments, "first", 1);
    *out_connections = ph_argument_number(arguments, "connections", 20);
    make_body(ph_argument_number(arguments, "size", 4096));
    if (!ph_endpoint_parse(ph_str_from(ph_argument(arguments, "to", "")), &feed.to)) {
        fprintf(stderr, "bench-feed: to=ADDRESS:PORT is wanted\n");
        exit(64);
    }
    feed.tally = ph_tally_create(ph_argument(arguments, "tally", "/dev/null"));
    ph_arguments_end(arguments);
}

int main(int argc, char **argv)
{
    struct ph_arguments arguments = ph_arguments_of(argc, argv);
    struct channel *channels;
    uint64_t connections;

    read_arguments(&arguments, &connections);
    feed.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    channels = ph_alloc(connections * sizeof(*channels));
    for (uint64_t i = 0; i < connections; i++) {
        open_channel(&channels[i]);
    }
    while (feed.over < feed.messages) {
        struct epoll_event events[256];
        int count = epoll_wait(feed.epoll_fd, events, 256, 20000);

        if (count == 0) {
            errno = ETIMEDOUT;
            fail("nothing came for 20 s");
        }
        for (int i = 0; i < count; i++) {
            channel_ready(events[i].data.ptr, events[i].events);
        }
    }
    return 0;
}
