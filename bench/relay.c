// bench-relay: the floor. A bare relay on one ring and one thread that does what no durable smart
// host can leave out, and nothing else: parses, checksums, commits groups durably before each 250,
// sends with BDAT, writes a log line. It has no queue on disk that it could recover, no retries, no
// limits, no TLS: what the engine costs beyond it is the price of being an engine.
//
//   bench-relay port=N to=ADDRESS:PORT spool=FILE log=FILE [connections=20] [depth=4]
//               [spool-bytes=268435456]
//
// Understands EHLO, MAIL, RCPT, BDAT n LAST and QUIT, as bench-feed says them. Prints "ready"; on
// SIGTERM "messages N groups G", and ends.
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/endpoint.h"
#include "base/hash.h"
#include "bench/lib/arguments.h"
#include "engine/socket_parts.h"

#define RING_ENTRIES 1024
#define IN_BYTES 8192
#define REPLY_BYTES 4096
#define ADDRESS_BYTES 256
#define GROUP_BYTES ((size_t)8 << 20)
#define GROUP_MESSAGES_MAX 1024
#define BLOCK ((size_t)4096)
#define BACKLOG_MAX 4096 // undelivered messages, then nothing more is acknowledged
#define JOIN_MAX 8       // messages in one send
#define LOG_FLUSH_BYTES ((size_t)64 << 10)

enum kind {
    KIND_ACCEPT,
    KIND_SIGNAL,
    KIND_IN_RECV,
    KIND_IN_SEND,
    KIND_GROUP_WRITE,
    KIND_LOG_WRITE,
    KIND_OUT_CONNECT,
    KIND_OUT_RECV,
    KIND_OUT_SEND,
};

struct group { // of messages that are made durable by one write
    STAILQ_ENTRY(group) link;
    char *memory;
    size_t len;
    uint32_t count;
    uint32_t references; // messages that aren't delivered, and the write
    struct message *messages[GROUP_MESSAGES_MAX];
};

struct message {
    STAILQ_ENTRY(message) link;
    struct group *group;
    struct in *from;
    char *body; // in the group's memory, or memory of its own while it comes in parts
    char *own;
    size_t size;
    size_t filled;
    uint64_t sum;
    char sender[ADDRESS_BYTES];
    char recipient[ADDRESS_BYTES];
    char envelope[2 * ADDRESS_BYTES + 64];
    size_t envelope_len;
};

struct in { // a client
    int fd;
    struct message *message; // whose body is coming
    bool waits;              // for its group
    bool closing;
    bool sending;
    bool gone; // the client is; only its last send is awaited
    char sender[ADDRESS_BYTES];
    char recipient[ADDRESS_BYTES];
    size_t len;
    char buffer[IN_BYTES];
    struct ph_buf replies;
    struct ph_buf flying; // replies the kernel is sending
};

STAILQ_HEAD(message_list, message);

struct out { // a connection to the destination
    int fd;
    bool ready; // the EHLO is answered
    bool sending;
    unsigned replies_due; // of the greeting and the EHLO
    uint32_t count;       // messages under way
    struct message_list messages;
    unsigned message_replies; // of the first of them, so far
    struct iovec parts[2 * JOIN_MAX];
    struct msghdr header;
    size_t line_len;
    char line[4];
    char buffer[REPLY_BYTES];
};

static struct {
    struct io_uring ring;
    struct ph_endpoint to;
    union ph_socket_address to_address;
    socklen_t to_len;
    int listen_fd;
    int spool_fd;
    int log_fd;
    uint64_t spool_at;
    uint64_t spool_bytes;
    STAILQ_HEAD(, group) free_groups;
    struct group *gathering;
    struct group *writing;
    struct message_list free_messages;
    struct message_list backlog;
    uint64_t undelivered;
    struct out *outs;
    uint64_t out_count;
    uint64_t depth;
    struct ph_buf log;
    struct ph_buf log_flying;
    uint64_t log_at;
    uint64_t messages;
    uint64_t groups;
    struct signalfd_siginfo signal;
    bool stop;
} relay;

static struct io_uring_sqe *sqe_for(enum kind kind, void *object)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&relay.ring);

    if (sqe == NULL) {
        io_uring_submit(&relay.ring);
        sqe = io_uring_get_sqe(&relay.ring);
    }
    PH_CHECK(sqe != NULL);
    memset(sqe, 0, sizeof(*sqe));
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)object | (uint64_t)kind << 56);
    return sqe;
}

static void prepare(struct io_uring_sqe *sqe, uint8_t opcode, int fd, const void *address,
                    size_t len, uint64_t offset)
{
    sqe->opcode = opcode;
    sqe->fd = fd;
    sqe->addr = (uint64_t)(uintptr_t)address;
    sqe->len = (uint32_t)len;
    sqe->off = offset;
}

// --- groups ---

static struct group *new_group(void)
{
    struct group *group = STAILQ_FIRST(&relay.free_groups);

    if (group != NULL) {
        STAILQ_REMOVE_HEAD(&relay.free_groups, link);
    } else {
        group = ph_alloc(sizeof(*group));
        PH_CHECK(posix_memalign((void **)&group->memory, BLOCK, GROUP_BYTES + BLOCK) == 0);
    }
    group->len = 64; // its head
    group->count = 0;
    group->references = 1;
    return group;
}

static void release_group(struct group *group)
{
    if (--group->references == 0) {
        STAILQ_INSERT_HEAD(&relay.free_groups, group, link);
    }
}

// The record of a message whose body is complete, in front of its body. False: the group is full.
static bool gather(struct message *m)
{
    struct group *group = relay.gathering;
    size_t record = 64 + strlen(m->sender) + strlen(m->recipient);
    char *at;

    if (group->count == GROUP_MESSAGES_MAX || group->len + record + m->size > GROUP_BYTES) {
        return false;
    }
    at = group->memory + group->len;
    memset(at, 0, 64);
    memcpy(at, &m->size, sizeof(m->size));
    memcpy(at + 64, m->sender, strlen(m->sender));
    memcpy(at + 64 + strlen(m->sender), m->recipient, strlen(m->recipient));
    memcpy(at + record, m->body, m->size); // the one copy
    m->sum = ph_hash_bytes(at + record, m->size, 1);
    memcpy(at + 16, &m->sum, sizeof(m->sum));
    m->body = at + record;
    free(m->own);
    m->own = NULL;
    m->group = group;
    group->len += record + m->size;
    group->messages[group->count++] = m;
    group->references++;
    return true;
}

static void begin_group_write(void)
{
    struct group *group = relay.gathering;
    struct io_uring_sqe *sqe;
    size_t len;
    uint64_t sum;

    if (relay.writing != NULL || group->count == 0 || relay.undelivered >= BACKLOG_MAX) {
        return;
    }
    len = (group->len + BLOCK - 1) / BLOCK * BLOCK;
    memset(group->memory + group->len, 0, len - group->len);
    memset(group->memory, 0, 64);
    memcpy(group->memory, &group->len, sizeof(group->len));
    memcpy(group->memory + 8, &relay.groups, sizeof(relay.groups));
    sum = ph_hash_bytes(group->memory, 56, 1);
    memcpy(group->memory + 56, &sum, sizeof(sum));
    if (relay.spool_at + len > relay.spool_bytes) {
        relay.spool_at = 0;
    }
    sqe = sqe_for(KIND_GROUP_WRITE, group);
    prepare(sqe, IORING_OP_WRITE, relay.spool_fd, group->memory, len, relay.spool_at);
    sqe->rw_flags = RWF_DSYNC;
    relay.spool_at += len;
    relay.groups++;
    relay.writing = group;
    relay.gathering = new_group();
}

// --- clients ---

static void arm_in(struct in *in)
{
    struct message *m = in->message;
    struct io_uring_sqe *sqe = sqe_for(KIND_IN_RECV, in);

    if (m != NULL) { // straight to where it belongs
        prepare(sqe, IORING_OP_RECV, in->fd, m->own + m->filled, m->size - m->filled, 0);
    } else {
        prepare(sqe, IORING_OP_RECV, in->fd, in->buffer + in->len, IN_BYTES - in->len, 0);
    }
}

static void flush_in(struct in *in)
{
    if (!in->sending && in->replies.len > 0) {
        struct ph_buf swap = in->flying;
        struct io_uring_sqe *sqe;

        in->flying = in->replies;
        in->replies = swap;
        ph_buf_clear(&in->replies);
        sqe = sqe_for(KIND_IN_SEND, in);
        prepare(sqe, IORING_OP_SEND, in->fd, in->flying.data, in->flying.len, 0);
        sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
        in->sending = true;
    }
}

static void end_in(struct in *in)
{
    close(in->fd);
    ph_buf_deinit(&in->replies);
    ph_buf_deinit(&in->flying);
    free(in);
}

static void accepted(int fd)
{
    struct in *in = ph_alloc(sizeof(*in));

    ph_socket_no_delay(fd);
    in->fd = fd;
    ph_buf_append(&in->replies, PH_STR("220 relay.test ESMTP\r\n"));
    flush_in(in);
    arm_in(in);
}

static void copy_address(char out[ADDRESS_BYTES], struct ph_str line)
{
    ptrdiff_t from = ph_str_find_char(line, '<');
    ptrdiff_t to = ph_str_rfind_char(line, '>');

    PH_CHECK(from >= 0 && to > from);
    ph_str_copy(out, ADDRESS_BYTES,
                (struct ph_str){.data = line.data + from + 1, .len = (size_t)(to - from) - 1});
}

static void begin_message(struct in *in, size_t size)
{
    struct message *m = STAILQ_FIRST(&relay.free_messages);

    if (m != NULL) {
        STAILQ_REMOVE_HEAD(&relay.free_messages, link);
    } else {
        m = ph_alloc(sizeof(*m));
    }
    memcpy(m->sender, in->sender, strlen(in->sender) + 1);
    memcpy(m->recipient, in->recipient, strlen(in->recipient) + 1);
    m->from = in;
    m->size = size;
    m->filled = 0;
    m->own = NULL;
    m->envelope_len = (size_t)snprintf(m->envelope, sizeof(m->envelope),
                                       "MAIL FROM:<%s> SIZE=%zu\r\nRCPT TO:<%s>\r\nBDAT %zu LAST"
                                       "\r\n",
                                       m->sender, size, m->recipient, size);
    in->message = m;
}

static void message_complete(struct in *in)
{
    struct message *m = in->message;

    in->message = NULL;
    in->waits = true;
    if (!gather(m)) {
        fprintf(stderr, "bench-relay: clients sent more than %zu bytes during one write\n",
                GROUP_BYTES);
        exit(1);
    }
}

static void take_command(struct in *in, struct ph_str line)
{
    char verb = line.len >= 4 ? line.data[0] : '?';

    if (verb == 'M') {
        copy_address(in->sender, line);
        ph_buf_append(&in->replies, PH_STR("250 2.1.0 ok\r\n"));
    } else if (verb == 'R') {
        copy_address(in->recipient, line);
        ph_buf_append(&in->replies, PH_STR("250 2.1.5 ok\r\n"));
    } else if (verb == 'B') {
        begin_message(in, strtoull(line.data + 5, NULL, 10));
    } else if (verb == 'E') {
        ph_buf_append(&in->replies, PH_STR("250-relay.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n"));
    } else {
        in->closing = true;
        ph_buf_append(&in->replies, PH_STR("221 2.0.0 goodbye\r\n"));
    }
}

// The bytes of the buffer, as far as they go; a message's body that isn't all there gets memory of
// its own and is received into it.
static void take_in(struct in *in)
{
    struct ph_str rest = {.data = in->buffer, .len = in->len};
    struct ph_str line;

    while (in->message == NULL && ph_str_cut_line(&rest, &line)) {
        take_command(in, line);
        if (in->message != NULL) {
            struct message *m = in->message;

            m->body = (char *)rest.data;
            m->filled = rest.len < m->size ? rest.len : m->size;
            if (m->filled == m->size) {
                message_complete(in);
            } else {
                m->own = malloc(m->size);
                PH_CHECK(m->own != NULL);
                memcpy(m->own, rest.data, m->filled);
                m->body = m->own;
            }
            rest = ph_str_after(rest, m->filled);
        }
    }
    memmove(in->buffer, rest.data, rest.len);
    in->len = rest.len;
}

static void in_received(struct in *in, int result)
{
    if (result <= 0) {
        in->gone = true;
        if (!in->sending) {
            end_in(in);
        }
        return;
    }
    if (in->message != NULL) {
        in->message->filled += (size_t)result;
        if (in->message->filled == in->message->size) {
            message_complete(in);
        }
    } else {
        in->len += (size_t)result;
        take_in(in);
    }
    if (!in->waits) { // else its replies leave with the 250
        flush_in(in);
    }
    arm_in(in);
}

static void in_sent(struct in *in, int result)
{
    PH_CHECK(result == (int)in->flying.len || result < 0);
    in->sending = false;
    ph_buf_clear(&in->flying);
    if (in->gone) {
        end_in(in);
    } else if (in->closing && in->replies.len == 0) {
        shutdown(in->fd, SHUT_RDWR); // its receive ends
    } else {
        flush_in(in);
    }
}

// --- the destination ---

static void arm_out(struct out *out)
{
    struct io_uring_sqe *sqe = sqe_for(KIND_OUT_RECV, out);

    prepare(sqe, IORING_OP_RECV, out->fd, out->buffer, REPLY_BYTES, 0);
}

static void connect_out(struct out *out)
{
    out->fd = ph_socket_open(&relay.to, NULL);
    PH_CHECK(out->fd >= 0);
    out->replies_due = 2;
    STAILQ_INIT(&out->messages);
    prepare(sqe_for(KIND_OUT_CONNECT, out), IORING_OP_CONNECT, out->fd, &relay.to_address, 0,
            relay.to_len);
}

// As many messages of the backlog as the depth allows, in one send.
static void feed_out(struct out *out)
{
    struct message *m;
    int parts = 0;
    struct io_uring_sqe *sqe;

    if (!out->ready || out->sending) {
        return;
    }
    while (parts < 2 * JOIN_MAX && out->count < relay.depth &&
           (m = STAILQ_FIRST(&relay.backlog)) != NULL) {
        STAILQ_REMOVE_HEAD(&relay.backlog, link);
        STAILQ_INSERT_TAIL(&out->messages, m, link);
        out->count++;
        out->parts[parts++] = (struct iovec){m->envelope, m->envelope_len};
        out->parts[parts++] = (struct iovec){m->body, m->size};
    }
    if (parts > 0) {
        out->header = (struct msghdr){.msg_iov = out->parts, .msg_iovlen = (size_t)parts};
        sqe = sqe_for(KIND_OUT_SEND, out);
        prepare(sqe, IORING_OP_SENDMSG, out->fd, &out->header, 1, 0);
        sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
        out->sending = true;
    }
}

static void feed_outs(void)
{
    for (uint64_t i = 0; i < relay.out_count && !STAILQ_EMPTY(&relay.backlog); i++) {
        feed_out(&relay.outs[i]);
    }
}

static void message_delivered(struct out *out)
{
    struct message *m = STAILQ_FIRST(&out->messages);
    struct timespec now;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    STAILQ_REMOVE_HEAD(&out->messages, link);
    out->count--;
    ph_buf_printf(&relay.log,
                  "{\"time\":%lld.%03ld,\"event\":\"delivered\",\"id\":\"%016llx\","
                  "\"recipient\":\"%s\",\"size\":%zu}\n",
                  (long long)now.tv_sec, now.tv_nsec / 1000000, (unsigned long long)relay.messages,
                  m->recipient, m->size);
    relay.messages++;
    relay.undelivered--;
    release_group(m->group);
    STAILQ_INSERT_HEAD(&relay.free_messages, m, link);
}

static void reply_over(struct out *out)
{
    PH_CHECK(out->line[0] == '2');
    if (out->replies_due > 0) {
        if (--out->replies_due == 1) {
            PH_CHECK(send(out->fd, "EHLO relay.test\r\n", 17, MSG_NOSIGNAL) == 17);
        } else {
            out->ready = true;
        }
    } else if (++out->message_replies == 3) {
        out->message_replies = 0;
        message_delivered(out);
    }
}

static void out_received(struct out *out, int result)
{
    if (result <= 0) {
        fprintf(stderr, "bench-relay: the destination ended a connection\n");
        exit(1);
    }
    for (int i = 0; i < result; i++) {
        const char *newline = memchr(out->buffer + i, '\n', (size_t)(result - i));
        int end = newline != NULL ? (int)(newline - out->buffer) : result;

        for (int j = i; j < end && out->line_len < 4; j++) {
            out->line[out->line_len++] = out->buffer[j];
        }
        if (newline != NULL) {
            if (out->line[3] != '-') {
                reply_over(out);
            }
            out->line_len = 0;
        }
        i = end;
    }
    arm_out(out);
    feed_out(out);
}

// --- the loop ---

static void group_written(struct group *group, int result)
{
    PH_CHECK(result > 0);
    relay.writing = NULL;
    for (uint32_t i = 0; i < group->count; i++) {
        struct message *m = group->messages[i];
        struct in *in = m->from;

        in->waits = false;
        ph_buf_append(&in->replies, PH_STR("250 2.0.0 kept\r\n"));
        flush_in(in);
        STAILQ_INSERT_TAIL(&relay.backlog, m, link);
        relay.undelivered++;
    }
    release_group(group);
}

static void flush_log(void)
{
    if (relay.log_flying.len == 0 && relay.log.len > 0) {
        struct ph_buf swap = relay.log_flying;

        relay.log_flying = relay.log;
        relay.log = swap;
        ph_buf_clear(&relay.log);
        prepare(sqe_for(KIND_LOG_WRITE, NULL), IORING_OP_WRITE, relay.log_fd, relay.log_flying.data,
                relay.log_flying.len, relay.log_at);
        relay.log_at += relay.log_flying.len;
    }
}

static void completed(enum kind kind, void *object, int result)
{
    struct out *out = object;

    switch (kind) {
    case KIND_ACCEPT:
        PH_CHECK(result >= 0);
        accepted(result);
        break;
    case KIND_SIGNAL:
        relay.stop = true;
        break;
    case KIND_IN_RECV:
        in_received(object, result);
        break;
    case KIND_IN_SEND:
        in_sent(object, result);
        break;
    case KIND_GROUP_WRITE:
        group_written(object, result);
        break;
    case KIND_LOG_WRITE:
        PH_CHECK(result == (int)relay.log_flying.len);
        ph_buf_clear(&relay.log_flying);
        break;
    case KIND_OUT_CONNECT:
        PH_CHECK(result == 0);
        arm_out(out);
        break;
    case KIND_OUT_RECV:
        out_received(out, result);
        break;
    case KIND_OUT_SEND:
        PH_CHECK(result > 0);
        out->sending = false;
        feed_out(out);
        break;
    }
}

static void turn(void)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned count = 0;
    bool accept_again = false;

    io_uring_submit_and_wait(&relay.ring, 1);
    io_uring_for_each_cqe(&relay.ring, head, cqe)
    {
        uint64_t data = io_uring_cqe_get_data64(cqe);

        completed((enum kind)(data >> 56), (void *)(uintptr_t)(data << 8 >> 8), cqe->res);
        accept_again |= data >> 56 == KIND_ACCEPT && (cqe->flags & IORING_CQE_F_MORE) == 0;
        count++;
    }
    io_uring_cq_advance(&relay.ring, count);
    if (accept_again) {
        struct io_uring_sqe *sqe = sqe_for(KIND_ACCEPT, NULL);

        io_uring_prep_multishot_accept(sqe, relay.listen_fd, NULL, NULL, SOCK_CLOEXEC);
        io_uring_sqe_set_data64(sqe, (uint64_t)KIND_ACCEPT << 56);
    }
    begin_group_write();
    feed_outs();
    if (relay.log.len >= LOG_FLUSH_BYTES || relay.undelivered == 0) {
        flush_log();
    }
}

static void start_ring(void)
{
    struct io_uring_params parameters = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                                  IORING_SETUP_DEFER_TASKRUN |
                                                  IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE,
                                         .cq_entries = 4 * RING_ENTRIES};
    int error = io_uring_queue_init_params(RING_ENTRIES, &relay.ring, &parameters);
    struct io_uring_sqe *sqe;
    sigset_t signals;
    int signal_fd;

    if (error != 0) {
        fprintf(stderr, "bench-relay: io_uring: %s\n", strerror(-error));
        exit(1);
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    prepare(sqe_for(KIND_SIGNAL, NULL), IORING_OP_READ, signal_fd, &relay.signal,
            sizeof(relay.signal), 0);
    sqe = sqe_for(KIND_ACCEPT, NULL);
    io_uring_prep_multishot_accept(sqe, relay.listen_fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, (uint64_t)KIND_ACCEPT << 56);
}

// Written once with zeros, as the engine's recycled segments are.
static void open_files(const char *spool, const char *log)
{
    char *zeros = ph_alloc(1 << 20);
    int fd = open(spool, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    for (uint64_t at = 0; fd >= 0 && at < relay.spool_bytes; at += 1 << 20) {
        PH_CHECK(write(fd, zeros, 1 << 20) == 1 << 20);
    }
    free(zeros);
    relay.log_fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || relay.log_fd < 0 || fsync(fd) != 0 ||
        (relay.spool_fd = open(spool, O_WRONLY | O_DIRECT | O_CLOEXEC)) < 0) {
        fprintf(stderr, "bench-relay: spool or log: %s\n", strerror(errno));
        exit(1);
    }
    close(fd);
}

int main(int argc, char **argv)
{
    struct ph_arguments arguments = ph_arguments_of(argc, argv);
    struct ph_endpoint at;
    struct ph_endpoint bound;

    if (!ph_endpoint_parse(ph_str_from(ph_argument(&arguments, "to", "")), &relay.to) ||
        !ph_endpoint_parse_address(PH_STR("127.0.0.1"), &at)) {
        fprintf(stderr, "bench-relay: to=ADDRESS:PORT is wanted\n");
        return 64;
    }
    relay.to_len = ph_socket_address_from(&relay.to_address, &relay.to);
    at.port = (uint16_t)ph_argument_number(&arguments, "port", 0);
    relay.out_count = ph_argument_number(&arguments, "connections", 20);
    relay.depth = ph_argument_number(&arguments, "depth", 4);
    relay.spool_bytes = ph_argument_number(&arguments, "spool-bytes", 256 << 20);
    open_files(ph_argument(&arguments, "spool", ""), ph_argument(&arguments, "log", ""));
    ph_arguments_end(&arguments);
    STAILQ_INIT(&relay.free_groups);
    STAILQ_INIT(&relay.free_messages);
    STAILQ_INIT(&relay.backlog);
    relay.gathering = new_group();
    relay.outs = ph_alloc(relay.out_count * sizeof(*relay.outs));
    relay.listen_fd = ph_socket_listen(&at, 4096, &bound);
    PH_CHECK(relay.listen_fd >= 0);
    start_ring();
    for (uint64_t i = 0; i < relay.out_count; i++) {
        connect_out(&relay.outs[i]);
    }
    printf("ready\n");
    fflush(stdout);
    while (!relay.stop) {
        turn();
    }
    printf("messages %llu groups %llu\n", (unsigned long long)relay.messages,
           (unsigned long long)relay.groups);
    return 0;
}
