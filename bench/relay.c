// bench-relay: the floor. A bare relay on one ring and one thread that does what no durable smart
// host can leave out, and nothing else: parses, checksums, commits groups durably before each 250,
// sends with BDAT, writes a log line. It has no queue on disk that it could recover, no retries, no
// limits: what the engine costs beyond it is the price of being an engine.
//
//   bench-relay port=N to=ADDRESS:PORT spool=FILE log=FILE [connections=20] [depth=4]
//               [per-connection=0] [sites=1] [pki=DIRECTORY] [site=mx#.sites.test]
//               [spool-bytes=268435456]
//
// Mail for u@dN… goes to site N modulo `sites`, at the N-th address from `to` on (250 to a third
// byte), on at most `connections` of its own, each of which ends after `per-connection` messages
// (0: never). With `pki` they speak TLS, verified against root.pem of that directory and the name
// that `site` makes with the number; a session of the site is resumed. Understands EHLO, MAIL,
// RCPT, BDAT n LAST and QUIT, as bench-feed says them. Prints "ready"; on SIGTERM "messages N
// groups G", and ends.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/endpoint.h"
#include "base/hash.h"
#include "bench/lib/arguments.h"
#include "bench/lib/relay_ring.h"
#include "bench/lib/relay_sites.h"
#include "engine/socket_parts.h"

#define IN_BYTES 8192
#define GROUP_BYTES ((size_t)8 << 20)
#define GROUP_MESSAGES_MAX 1024
#define BLOCK ((size_t)4096)
#define BACKLOG_MAX 4096 // undelivered messages, then nothing more is acknowledged
#define LOG_FLUSH_BYTES ((size_t)64 << 10)

struct group { // of messages that are made durable by one write
    STAILQ_ENTRY(group) link;
    char *memory;
    size_t len;
    uint32_t count;
    uint32_t references; // messages that aren't delivered, and the write
    struct message *messages[GROUP_MESSAGES_MAX];
};

struct message {
    struct ph_relay_mail mail; // first: its body is in the group's memory, or as below
    struct group *group;
    struct in *from;
    char *own; // memory of its own, while the body comes in parts
    size_t filled;
    uint64_t sum;
    char sender[PH_RELAY_ADDRESS_BYTES];
};

struct in { // a client
    int fd;
    struct message *message; // whose body is coming
    bool waits;              // for its group
    bool closing;
    bool sending;
    bool gone; // the client is; only its last send is awaited
    char sender[PH_RELAY_ADDRESS_BYTES];
    char recipient[PH_RELAY_ADDRESS_BYTES];
    size_t len;
    char buffer[IN_BYTES];
    struct ph_buf replies;
    struct ph_buf flying; // replies the kernel is sending
};

static struct {
    int listen_fd;
    int spool_fd;
    int log_fd;
    uint64_t spool_at;
    uint64_t spool_bytes;
    STAILQ_HEAD(, group) free_groups;
    struct group *gathering;
    struct group *writing;
    struct ph_relay_mail_list free_messages;
    uint64_t undelivered;
    struct ph_buf log;
    struct ph_buf log_flying;
    uint64_t log_at;
    uint64_t messages;
    uint64_t groups;
    bool stop;
} relay;

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
    size_t record = 64 + strlen(m->sender) + strlen(m->mail.recipient);
    char *at;

    if (group->count == GROUP_MESSAGES_MAX || group->len + record + m->mail.size > GROUP_BYTES) {
        return false;
    }
    at = group->memory + group->len;
    memset(at, 0, 64);
    memcpy(at, &m->mail.size, sizeof(m->mail.size));
    memcpy(at + 64, m->sender, strlen(m->sender));
    memcpy(at + 64 + strlen(m->sender), m->mail.recipient, strlen(m->mail.recipient));
    memcpy(at + record, m->mail.body, m->mail.size); // the one copy
    m->sum = ph_hash_bytes(at + record, m->mail.size, 1);
    memcpy(at + 16, &m->sum, sizeof(m->sum));
    m->mail.body = at + record;
    free(m->own);
    m->own = NULL;
    m->group = group;
    group->len += record + m->mail.size;
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
    sqe = ph_relay_ring_sqe(PH_RELAY_GROUP_WRITE, group);
    ph_relay_ring_prepare(sqe, IORING_OP_WRITE, relay.spool_fd, group->memory, len, relay.spool_at);
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
    struct io_uring_sqe *sqe = ph_relay_ring_sqe(PH_RELAY_IN_RECV, in);

    if (m != NULL) { // straight to where it belongs
        ph_relay_ring_prepare(sqe, IORING_OP_RECV, in->fd, m->own + m->filled,
                              m->mail.size - m->filled, 0);
    } else {
        ph_relay_ring_prepare(sqe, IORING_OP_RECV, in->fd, in->buffer + in->len, IN_BYTES - in->len,
                              0);
    }
}

static void flush_in(struct in *in)
{
    if (!in->sending && in->replies.len > 0) {
        struct io_uring_sqe *sqe;

        ph_buf_swap(&in->flying, &in->replies);
        ph_buf_clear(&in->replies);
        sqe = ph_relay_ring_sqe(PH_RELAY_IN_SEND, in);
        ph_relay_ring_prepare(sqe, IORING_OP_SEND, in->fd, in->flying.data, in->flying.len, 0);
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

static void copy_address(char out[PH_RELAY_ADDRESS_BYTES], struct ph_str line)
{
    ptrdiff_t from = ph_str_find_char(line, '<');
    ptrdiff_t to = ph_str_rfind_char(line, '>');

    PH_CHECK(from >= 0 && to > from);
    ph_str_copy(out, PH_RELAY_ADDRESS_BYTES,
                (struct ph_str){.data = line.data + from + 1, .len = (size_t)(to - from) - 1});
}

static void begin_message(struct in *in, size_t size)
{
    struct message *m = (struct message *)STAILQ_FIRST(&relay.free_messages);

    if (m != NULL) {
        STAILQ_REMOVE_HEAD(&relay.free_messages, link);
    } else {
        m = ph_alloc(sizeof(*m));
    }
    memcpy(m->sender, in->sender, strlen(in->sender) + 1);
    memcpy(m->mail.recipient, in->recipient, strlen(in->recipient) + 1);
    m->from = in;
    m->mail.size = size;
    m->filled = 0;
    m->own = NULL;
    m->mail.envelope_len =
        (size_t)snprintf(m->mail.envelope, sizeof(m->mail.envelope),
                         "MAIL FROM:<%s> SIZE=%zu\r\nRCPT TO:<%s>\r\nBDAT %zu LAST"
                         "\r\n",
                         m->sender, size, m->mail.recipient, size);
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

            m->mail.body = (char *)rest.data;
            m->filled = rest.len < m->mail.size ? rest.len : m->mail.size;
            if (m->filled == m->mail.size) {
                message_complete(in);
            } else {
                m->own = malloc(m->mail.size);
                PH_CHECK(m->own != NULL);
                memcpy(m->own, rest.data, m->filled);
                m->mail.body = m->own;
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
        if (in->message->filled == in->message->mail.size) {
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

static void delivered(struct ph_relay_mail *mail)
{
    struct message *m = (struct message *)mail;
    struct timespec now;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    ph_buf_printf(&relay.log,
                  "{\"time\":%lld.%03ld,\"event\":\"delivered\",\"id\":\"%016llx\","
                  "\"recipient\":\"%s\",\"size\":%zu}\n",
                  (long long)now.tv_sec, now.tv_nsec / 1000000, (unsigned long long)relay.messages,
                  mail->recipient, mail->size);
    relay.messages++;
    relay.undelivered--;
    release_group(m->group);
    STAILQ_INSERT_HEAD(&relay.free_messages, mail, link);
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
        ph_relay_sites_add(&m->mail);
        relay.undelivered++;
    }
    release_group(group);
}

static void flush_log(void)
{
    if (relay.log_flying.len == 0 && relay.log.len > 0) {
        ph_buf_swap(&relay.log_flying, &relay.log);
        ph_buf_clear(&relay.log);
        ph_relay_ring_prepare(ph_relay_ring_sqe(PH_RELAY_LOG_WRITE, NULL), IORING_OP_WRITE,
                              relay.log_fd, relay.log_flying.data, relay.log_flying.len,
                              relay.log_at);
        relay.log_at += relay.log_flying.len;
    }
}

static void completed(enum ph_relay_kind kind, void *object, int result)
{
    switch (kind) {
    case PH_RELAY_ACCEPT:
        PH_CHECK(result >= 0);
        accepted(result);
        break;
    case PH_RELAY_SIGNAL:
        relay.stop = true;
        break;
    case PH_RELAY_IN_RECV:
        in_received(object, result);
        break;
    case PH_RELAY_IN_SEND:
        in_sent(object, result);
        break;
    case PH_RELAY_GROUP_WRITE:
        group_written(object, result);
        break;
    case PH_RELAY_LOG_WRITE:
        PH_CHECK(result == (int)relay.log_flying.len);
        ph_buf_clear(&relay.log_flying);
        break;
    case PH_RELAY_OUT_CONNECT:
        ph_relay_sites_connected(object, result);
        break;
    case PH_RELAY_OUT_RECV:
        ph_relay_sites_received(object, result);
        break;
    case PH_RELAY_OUT_SEND:
        ph_relay_sites_sent(object, result);
        break;
    }
}

static void turn(void)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned count = 0;
    bool accept_again = false;

    io_uring_submit_and_wait(&ph_relay_ring, 1);
    io_uring_for_each_cqe(&ph_relay_ring, head, cqe)
    {
        enum ph_relay_kind kind = ph_relay_ring_kind(cqe);

        completed(kind, ph_relay_ring_object(cqe), cqe->res);
        accept_again |= kind == PH_RELAY_ACCEPT && (cqe->flags & IORING_CQE_F_MORE) == 0;
        count++;
    }
    io_uring_cq_advance(&ph_relay_ring, count);
    if (accept_again) {
        ph_relay_ring_accept(relay.listen_fd);
    }
    begin_group_write();
    ph_relay_sites_feed();
    if (relay.log.len >= LOG_FLUSH_BYTES || relay.undelivered == 0) {
        flush_log();
    }
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
    struct ph_relay_sites_options sites = {
        .count = ph_argument_number(&arguments, "sites", 1),
        .connections = ph_argument_number(&arguments, "connections", 20),
        .depth = ph_argument_number(&arguments, "depth", 4),
        .per_connection = ph_argument_number(&arguments, "per-connection", 0),
        .pki = ph_argument(&arguments, "pki", NULL),
        .site = ph_argument(&arguments, "site", "mx#.sites.test"),
        .delivered = delivered,
    };
    struct ph_endpoint at;
    struct ph_endpoint bound;

    if (!ph_endpoint_parse(ph_str_from(ph_argument(&arguments, "to", "")), &sites.to) ||
        sites.to.family != PH_FAMILY_IPV4 || strchr(sites.site, '#') == NULL || sites.count == 0 ||
        !ph_endpoint_parse_address(PH_STR("127.0.0.1"), &at)) {
        fprintf(stderr, "bench-relay: to=ADDRESS:PORT (IPv4) is wanted, site=NAME with a '#'\n");
        return 64;
    }
    at.port = (uint16_t)ph_argument_number(&arguments, "port", 0);
    relay.spool_bytes = ph_argument_number(&arguments, "spool-bytes", 256 << 20);
    open_files(ph_argument(&arguments, "spool", ""), ph_argument(&arguments, "log", ""));
    ph_arguments_end(&arguments);
    STAILQ_INIT(&relay.free_groups);
    STAILQ_INIT(&relay.free_messages);
    relay.gathering = new_group();
    ph_relay_sites_init(&sites);
    relay.listen_fd = ph_socket_listen(&at, 4096, &bound);
    PH_CHECK(relay.listen_fd >= 0);
    ph_relay_ring_start(relay.listen_fd);
    printf("ready\n");
    fflush(stdout);
    while (!relay.stop) {
        turn();
    }
    printf("messages %llu groups %llu\n", (unsigned long long)relay.messages,
           (unsigned long long)relay.groups);
    return 0;
}
