// bench-drain: the cheapest destination we can make. All addresses of one port, one thread, one
// receive and one send for as much as has come.
//
//   bench-drain port=N tally=FILE [at=0.0.0.0] [latency=MS] [chunking=1] [pki=DIRECTORY]
//               [sites=N] [site=mx#.sites.test] [key=ecdsa|rsa]
//
// With `pki`, STARTTLS is offered: `sites` certificates of their own keys, each for the name that
// `site` makes with its number, chosen by SNI (a wildcard's without it); root.pem and each site's
// chain are written into the directory. With `latency`, each reply leaves so long after its command
// came. Prints "ready".
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/endpoint.h"
#include "bench/lib/arguments.h"
#include "bench/lib/bytes_bio.h"
#include "bench/lib/certs.h"
#include "bench/lib/tally.h"
#include "engine/socket_parts.h"
#include "tls/boringssl.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>

#define READ_BYTES ((size_t)128 << 10)
#define LINE_BYTES_MAX 2048
#define IDS_MAX (UINT64_C(1) << 25)
#define SITES_MAX 4096

enum state {
    STATE_COMMAND,
    STATE_BDAT,
    STATE_DATA,
};

struct session {
    int fd;
    SSL *ssl;
    bool handshaking;
    bool closing; // once the output is sent
    bool writable_watched;
    enum state state;
    uint64_t bdat_left;
    bool bdat_last;
    uint8_t dot; // DATA: how many bytes of CRLF.CRLF have matched
    uint32_t recipients;
    bool head_seen; // the message's id was looked for
    char line[LINE_BYTES_MAX];
    size_t line_len;
    struct ph_buf out; // bytes for the socket
    struct ph_bytes_bio bytes;
    struct ph_buf replies; // plain; encrypted and sent together
    struct ph_buf delayed; // plain; whose time hasn't come
    uint32_t waiting;      // entries of the delay queue that name this session
};

struct delayed { // `len` bytes of a session's `delayed` are due
    STAILQ_ENTRY(delayed) link;
    uint64_t due_ns;
    struct session *session;
    size_t len;
};

static struct {
    struct ph_tally *tally;
    uint64_t latency_ns;
    bool chunking;
    SSL_CTX *contexts[SITES_MAX + 1]; // of site i; the last one's where no site was named
    uint64_t site_count;
    const char *site;
    int epoll_fd;
    int listen_fd;
    uint8_t *seen; // bit per id
    STAILQ_HEAD(, delayed) delays;
    uint64_t now_ns; // read once a turn
    char raw[READ_BYTES];
    char plain[READ_BYTES];
} drain;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// --- output ---

static void end_session(struct session *s)
{
    close(s->fd);
    s->fd = -1;
    s->closing = true;
    if (s->waiting > 0) {
        return; // the delay queue still names it
    }
    SSL_free(s->ssl);
    ph_buf_deinit(&s->out);
    ph_buf_deinit(&s->replies);
    ph_buf_deinit(&s->delayed);
    free(s);
}

static void watch_writable(struct session *s, bool on)
{
    struct epoll_event event = {.events = on ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = s};

    if (s->writable_watched != on) {
        s->writable_watched = on;
        epoll_ctl(drain.epoll_fd, EPOLL_CTL_MOD, s->fd, &event);
    }
}

// False: the session is over and gone.
static bool flush(struct session *s)
{
    ssize_t wrote = 0;

    if (s->replies.len > 0 && !s->handshaking) {
        if (s->ssl != NULL) {
            SSL_write(s->ssl, s->replies.data, (int)s->replies.len);
        } else {
            ph_buf_append(&s->out, ph_buf_str(&s->replies));
        }
        ph_buf_clear(&s->replies);
    }
    if (s->out.len > 0) {
        wrote = send(s->fd, s->out.data, s->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (wrote < 0 && errno != EAGAIN) {
            end_session(s);
            return false;
        }
        if (wrote > 0) {
            ph_buf_consume(&s->out, (size_t)wrote);
        }
        watch_writable(s, s->out.len > 0);
    }
    if (s->closing && s->out.len == 0 && s->waiting == 0) {
        end_session(s);
        return false;
    }
    return true;
}

static void say(struct session *s, struct ph_str text)
{
    struct delayed *delayed;

    if (drain.latency_ns == 0) {
        ph_buf_append(&s->replies, text);
        return;
    }
    ph_buf_append(&s->delayed, text);
    delayed = malloc(sizeof(*delayed));
    PH_CHECK(delayed != NULL);
    *delayed =
        (struct delayed){.due_ns = drain.now_ns + drain.latency_ns, .session = s, .len = text.len};
    s->waiting++;
    STAILQ_INSERT_TAIL(&drain.delays, delayed, link);
}

// Sends what is due; returns ns until the next is, or -1. Replies of one session that are due
// together leave together.
static int64_t serve_delays(void)
{
    struct delayed *delayed;

    while ((delayed = STAILQ_FIRST(&drain.delays)) != NULL) {
        struct session *s = delayed->session;

        if (delayed->due_ns > drain.now_ns) {
            return (int64_t)(delayed->due_ns - drain.now_ns);
        }
        STAILQ_REMOVE_HEAD(&drain.delays, link);
        s->waiting--;
        if (s->fd >= 0) {
            struct delayed *next = STAILQ_FIRST(&drain.delays);

            ph_buf_append(&s->replies, ph_str_first(ph_buf_str(&s->delayed), delayed->len));
            ph_buf_consume(&s->delayed, delayed->len);
            if (next == NULL || next->session != s || next->due_ns > drain.now_ns) {
                (void)flush(s);
            }
        } else if (s->waiting == 0) {
            end_session(s);
        }
        free(delayed);
    }
    return -1;
}

// --- TLS ---

// The site's number stands where `site` has its '#'.
static int choose_site(SSL *ssl, int *alert, void *unused)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    size_t front = strcspn(drain.site, "#");
    uint64_t number = drain.site_count; // nobody: the wildcard

    (void)alert;
    (void)unused;
    if (name != NULL && strncmp(name, drain.site, front) == 0) {
        number = strtoull(name + front, NULL, 10);
    }
    if (number < drain.site_count) {
        SSL_set_SSL_CTX(ssl, drain.contexts[number]);
    }
    return SSL_TLSEXT_ERR_OK;
}

static void write_text(const char *directory, const char *name, struct ph_buf *text)
{
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    file = fopen(path, "w");
    if (file == NULL || fwrite(text->data, 1, text->len, file) != text->len || fclose(file) != 0) {
        fprintf(stderr, "bench-drain: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    ph_buf_deinit(text);
}

static SSL_CTX *make_context(const char *chain_path)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    PH_CHECK(SSL_CTX_use_certificate_chain_file(context, chain_path) == 1);
    PH_CHECK(SSL_CTX_use_PrivateKey_file(context, chain_path, SSL_FILETYPE_PEM) == 1);
    SSL_CTX_set_tlsext_servername_callback(context, choose_site);
    return context;
}

static void make_sites(const char *directory, bool rsa)
{
    struct ph_cert *root = ph_certs_root("Bench root");
    struct ph_cert *intermediate = ph_certs_intermediate(root, "Bench intermediate");
    struct ph_buf text = {0};

    ph_certs_append(root, &text);
    write_text(directory, "root.pem", &text);
    for (uint64_t i = 0; i <= drain.site_count; i++) {
        size_t front = strcspn(drain.site, "#");
        const char *domain = strchr(drain.site, '.');
        char name[256];
        char path[4096];
        struct ph_str dns;
        struct ph_cert *leaf;

        if (i < drain.site_count) {
            snprintf(name, sizeof(name), "%.*s%llu%s", (int)front, drain.site,
                     (unsigned long long)i, drain.site + front + 1);
        } else { // for clients that don't say whom they want
            snprintf(name, sizeof(name), "*%s", domain != NULL ? domain : "");
        }
        dns = ph_str_from(name);
        leaf = ph_certs_make(intermediate, &(struct ph_certs_options){.common_name = name,
                                                                      .dns_names = &dns,
                                                                      .dns_name_count = 1,
                                                                      .key = rsa ? PH_CERTS_RSA_2048
                                                                                 : PH_CERTS_P256});
        ph_certs_append_chain(leaf, &text);
        ph_certs_append_key(leaf, &text);
        snprintf(path, sizeof(path), "%llu.pem", (unsigned long long)i);
        write_text(directory, path, &text);
        snprintf(path, sizeof(path), "%s/%llu.pem", directory, (unsigned long long)i);
        drain.contexts[i] = make_context(path);
        ph_certs_destroy(leaf);
    }
    ph_certs_destroy(intermediate);
    ph_certs_destroy(root);
}

static void start_tls(struct session *s)
{
    BIO *bio;

    if (drain.site_count == 0 || s->ssl != NULL) {
        say(s, PH_STR("502 5.5.1 no\r\n"));
        return;
    }
    // At once, whatever the latency: what comes next is TLS.
    ph_buf_append(&s->out, PH_STR("220 2.0.0 go on\r\n"));
    s->ssl = SSL_new(drain.contexts[drain.site_count]);
    s->bytes.output = &s->out;
    bio = ph_bytes_bio_new(&s->bytes);
    SSL_set_bio(s->ssl, bio, bio);
    SSL_set_accept_state(s->ssl);
    s->handshaking = true;
}

static bool shake_hands(struct session *s)
{
    int result = SSL_do_handshake(s->ssl);

    if (result == 1) {
        s->handshaking = false;
        PH_TALLY_ADD(
            drain.tally,
            SSL_session_reused(s->ssl) ? PH_TALLY_HANDSHAKES_RESUMED : PH_TALLY_HANDSHAKES_FULL, 1);
    } else if (SSL_get_error(s->ssl, result) != SSL_ERROR_WANT_READ) {
        PH_TALLY_ADD(drain.tally, PH_TALLY_HANDSHAKES_FAILED, 1);
        return false;
    }
    return true;
}

// --- messages ---

static void note_id(struct session *s, struct ph_str part)
{
    ptrdiff_t at = ph_str_find(ph_str_first(part, 2048), PH_STR("X-Ledger-Id: "));
    uint64_t id = 0;

    if (at < 0) {
        return;
    }
    s->head_seen = true;
    part = ph_str_after(part, (size_t)at + 13);
    for (size_t i = 0; i < part.len && part.data[i] >= '0' && part.data[i] <= '9'; i++) {
        id = id * 10 + (uint64_t)(part.data[i] - '0');
    }
    if (id < IDS_MAX && (drain.seen[id / 8] >> id % 8 & 1) == 0) {
        drain.seen[id / 8] |= (uint8_t)(1 << id % 8);
        PH_TALLY_ADD(drain.tally, PH_TALLY_DISTINCT, 1);
    }
}

static void take_body(struct session *s, struct ph_str part)
{
    if (!s->head_seen) {
        note_id(s, part);
    }
    PH_TALLY_ADD(drain.tally, PH_TALLY_BYTES, part.len);
}

static void message_over(struct session *s)
{
    PH_TALLY_ADD(drain.tally, PH_TALLY_MESSAGES, 1);
    s->state = STATE_COMMAND;
    s->recipients = 0;
    s->head_seen = false;
    say(s, PH_STR("250 2.0.0 taken\r\n"));
}

static size_t take_bdat(struct session *s, struct ph_str in)
{
    size_t part = in.len < s->bdat_left ? in.len : (size_t)s->bdat_left;

    take_body(s, ph_str_first(in, part));
    s->bdat_left -= part;
    if (s->bdat_left == 0) {
        s->state = STATE_COMMAND;
        if (!s->bdat_last) {
            say(s, PH_STR("250 2.0.0 chunk\r\n"));
        } else {
            message_over(s);
        }
    }
    return part;
}

// Up to and with CRLF.CRLF, wherever it is cut.
static size_t take_data(struct session *s, struct ph_str in)
{
    static const char end[] = "\r\n.\r\n";
    size_t i = 0;

    while (i < in.len) {
        if (s->dot == 0) {
            const char *cr = memchr(in.data + i, '\r', in.len - i);

            if (cr == NULL) {
                i = in.len;
                break;
            }
            i = (size_t)(cr - in.data);
        }
        if (in.data[i] == end[s->dot]) {
            s->dot++;
        } else {
            s->dot = in.data[i] == '\r';
        }
        i++;
        if (s->dot == 5) {
            take_body(s, ph_str_first(in, i));
            message_over(s);
            return i;
        }
    }
    take_body(s, in);
    return i;
}

static void say_ehlo(struct session *s)
{
    say(s, drain.chunking ? PH_STR("250-drain.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n")
                          : PH_STR("250-drain.test\r\n250-PIPELINING\r\n"));
    if (drain.site_count > 0 && s->ssl == NULL) {
        say(s, PH_STR("250-STARTTLS\r\n"));
    }
    say(s, PH_STR("250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-SIZE 0\r\n"
                  "250 ENHANCEDSTATUSCODES\r\n"));
}

static void take_command(struct session *s, struct ph_str line)
{
    char verb = line.len >= 4 ? line.data[0] & ~0x20 : '?';

    if (verb == 'M') {
        if (s->ssl == NULL) {
            PH_TALLY_ADD(drain.tally, PH_TALLY_IN_CLEAR, 1);
        }
        say(s, PH_STR("250 2.1.0 ok\r\n"));
    } else if (verb == 'R' && (line.data[1] & ~0x20) == 'C') {
        s->recipients++;
        say(s, PH_STR("250 2.1.5 ok\r\n"));
    } else if (verb == 'B') {
        s->bdat_left = strtoull(line.data + 4, NULL, 10);
        s->bdat_last = ph_str_find(line, PH_STR("LAST")) >= 0;
        s->state = STATE_BDAT;
    } else if (verb == 'D') {
        s->state = STATE_DATA;
        s->dot = 2;
        say(s, PH_STR("354 go on\r\n"));
    } else if (verb == 'E') {
        say_ehlo(s);
    } else if (verb == 'S') {
        start_tls(s);
    } else if (verb == 'Q') {
        s->closing = true;
        say(s, PH_STR("221 2.0.0 goodbye\r\n"));
    } else {
        s->recipients = 0;
        say(s, PH_STR("250 2.0.0 ok\r\n")); // HELO, RSET, NOOP
    }
}

// One line, or the part of it that has come.
static size_t take_line(struct session *s, struct ph_str in)
{
    const char *newline = memchr(in.data, '\n', in.len);
    size_t part = newline != NULL ? (size_t)(newline - in.data) + 1 : in.len;

    if (newline != NULL && s->line_len == 0) {
        take_command(s, ph_str_first(in, part));
        return part;
    }
    PH_CHECK(s->line_len + part < LINE_BYTES_MAX);
    memcpy(s->line + s->line_len, in.data, part);
    s->line_len += part;
    if (newline != NULL) {
        size_t len = s->line_len;

        s->line_len = 0;
        take_command(s, (struct ph_str){.data = s->line, .len = len});
    }
    return part;
}

static void take_bytes(struct session *s, struct ph_str in)
{
    while (in.len > 0 && !s->closing && !s->handshaking) {
        size_t taken = 0;

        switch (s->state) {
        case STATE_COMMAND:
            taken = take_line(s, in);
            break;
        case STATE_BDAT:
            taken = take_bdat(s, in);
            break;
        case STATE_DATA:
            taken = take_data(s, in);
            break;
        }
        in = ph_str_after(in, taken);
    }
}

// --- the loop ---

static void accept_all(void)
{
    int fd;

    while ((fd = accept4(drain.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *s = ph_alloc(sizeof(*s));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};

        ph_socket_no_delay(fd);
        s->fd = fd;
        epoll_ctl(drain.epoll_fd, EPOLL_CTL_ADD, fd, &event);
        PH_TALLY_ADD(drain.tally, PH_TALLY_CONNECTIONS, 1);
        say(s, PH_STR("220 drain.test ESMTP\r\n"));
        (void)flush(s);
    }
}

static bool take_tls(struct session *s, size_t got)
{
    bool alive = true;
    int len = 0;

    s->bytes.input = (struct ph_str){.data = drain.raw, .len = got};
    if (s->handshaking) {
        alive = shake_hands(s);
    }
    while (alive && !s->handshaking &&
           (len = SSL_read(s->ssl, drain.plain, sizeof(drain.plain))) > 0) {
        take_bytes(s, (struct ph_str){.data = drain.plain, .len = (size_t)len});
    }
    if (alive && !s->handshaking && SSL_get_error(s->ssl, len) != SSL_ERROR_WANT_READ) {
        alive = s->closing && s->out.len > 0;
    }
    ERR_clear_error();
    return alive;
}

static void session_ready(struct session *s)
{
    ssize_t got = recv(s->fd, drain.raw, sizeof(drain.raw), MSG_DONTWAIT);
    bool alive = got > 0 || (got < 0 && errno == EAGAIN);

    if (got > 0 && s->ssl != NULL) {
        alive = take_tls(s, (size_t)got);
    } else if (got > 0) {
        take_bytes(s, (struct ph_str){.data = drain.raw, .len = (size_t)got});
    }
    if (!alive) {
        end_session(s);
    } else {
        (void)flush(s);
    }
}

static void serve(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    drain.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(drain.epoll_fd, EPOLL_CTL_ADD, drain.listen_fd, &event);
    printf("ready\n");
    fflush(stdout);
    while (true) {
        struct epoll_event events[256];
        int64_t wait_ns;
        struct timespec wait;
        int count;

        drain.now_ns = now_ns();
        wait_ns = serve_delays();
        wait = (struct timespec){wait_ns / 1000000000, wait_ns % 1000000000};
        count = epoll_pwait2(drain.epoll_fd, events, 256, wait_ns < 0 ? NULL : &wait, NULL);
        drain.now_ns = now_ns();
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL) {
                accept_all();
            } else {
                session_ready(events[i].data.ptr);
            }
        }
    }
}

int main(int argc, char **argv)
{
    struct ph_arguments arguments = ph_arguments_of(argc, argv);
    struct ph_endpoint at;
    struct ph_endpoint bound;
    const char *pki = ph_argument(&arguments, "pki", NULL);
    bool rsa = strcmp(ph_argument(&arguments, "key", "ecdsa"), "rsa") == 0;

    if (!ph_endpoint_parse_address(ph_str_from(ph_argument(&arguments, "at", "0.0.0.0")), &at)) {
        fprintf(stderr, "bench-drain: at=ADDRESS is wanted\n");
        return 64;
    }
    at.port = (uint16_t)ph_argument_number(&arguments, "port", 0);
    drain.latency_ns = ph_argument_number(&arguments, "latency", 0) * 1000000;
    drain.chunking = ph_argument_number(&arguments, "chunking", 1) != 0;
    drain.site = ph_argument(&arguments, "site", "mx#.sites.test");
    drain.site_count = pki != NULL ? ph_argument_number(&arguments, "sites", 1) : 0;
    drain.tally = ph_tally_create(ph_argument(&arguments, "tally", "/dev/null"));
    ph_arguments_end(&arguments);
    PH_CHECK(drain.site_count <= SITES_MAX && strchr(drain.site, '#') != NULL);
    signal(SIGPIPE, SIG_IGN);
    drain.seen = ph_alloc(IDS_MAX / 8);
    STAILQ_INIT(&drain.delays);
    if (pki != NULL) {
        make_sites(pki, rsa);
    }
    drain.listen_fd = ph_socket_listen(&at, 4096, &bound);
    // All addresses of the port, but none that others could reach.
    if (drain.listen_fd >= 0 &&
        setsockopt(drain.listen_fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) != 0) {
        drain.listen_fd = -errno;
    }
    if (drain.listen_fd < 0) {
        fprintf(stderr, "bench-drain: port %u: %s\n", at.port, strerror(-drain.listen_fd));
        return 1;
    }
    serve();
    return 0;
}
