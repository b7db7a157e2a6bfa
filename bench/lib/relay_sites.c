// The bare relay's destinations.
#include "bench/lib/relay_sites.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/buf.h"
#include "bench/lib/relay_ring.h"
#include "bench/lib/relay_tls.h"
#include "engine/socket_parts.h"

#define REPLY_BYTES 4096
#define JOIN_MAX 8 // messages in one send
#define EHLO "EHLO relay.test\r\n"
#define STARTTLS "STARTTLS\r\n"
#define QUIT "QUIT\r\n"

// GREETING → EHLO → READY → QUITTING; with TLS EHLO → STARTTLS → HANDSHAKE → TLS_EHLO → READY.
enum stage {
    STAGE_GREETING,
    STAGE_EHLO,
    STAGE_STARTTLS,
    STAGE_HANDSHAKE,
    STAGE_TLS_EHLO,
    STAGE_READY,
    STAGE_QUITTING, // its last messages and the QUIT are sent
    STAGE_OVER,
};

struct ph_relay_out {
    TAILQ_ENTRY(ph_relay_out) link;
    struct ph_relay_site *site;
    int fd;
    enum stage stage;
    bool sending;
    uint32_t count; // messages under way
    uint64_t taken; // messages ever
    struct ph_relay_mail_list mail;
    unsigned message_replies; // of the first of them, so far
    size_t line_len;
    char line[4];
    struct ph_relay_tls *tls;
    struct ph_buf sealed; // what the kernel is sending, where it isn't parts
    struct iovec parts[2 * JOIN_MAX + 1];
    struct msghdr header;
    char buffer[REPLY_BYTES];
};

struct ph_relay_site {
    STAILQ_ENTRY(ph_relay_site) link; // of the fed
    bool hungry;                      // is among them
    struct ph_relay_mail_list backlog;
    uint64_t waiting; // of the backlog
    TAILQ_HEAD(, ph_relay_out) outs;
    uint64_t out_count;
    uint64_t opening; // of them, not ready yet
    union ph_socket_address address;
    socklen_t address_len;
    struct ph_relay_tls_site tls;
};

static struct {
    struct ph_relay_sites_options options;
    struct ph_relay_site *sites;
    STAILQ_HEAD(, ph_relay_site) hungry; // got mail in this turn
} relay_sites;

void ph_relay_sites_init(const struct ph_relay_sites_options *options)
{
    size_t front = strcspn(options->site, "#");

    relay_sites.options = *options;
    relay_sites.sites = ph_alloc(options->count * sizeof(*relay_sites.sites));
    STAILQ_INIT(&relay_sites.hungry);
    for (uint64_t i = 0; i < options->count; i++) {
        struct ph_relay_site *site = &relay_sites.sites[i];
        struct ph_endpoint to = options->to;

        to.bytes[2] = (uint8_t)(to.bytes[2] + i / 250);
        to.bytes[3] = (uint8_t)(to.bytes[3] + i % 250);
        site->address_len = ph_socket_address_from(&site->address, &to);
        snprintf(site->tls.host, sizeof(site->tls.host), "%.*s%llu%s", (int)front, options->site,
                 (unsigned long long)i, options->site + front + 1);
        STAILQ_INIT(&site->backlog);
        TAILQ_INIT(&site->outs);
    }
    if (options->pki != NULL) {
        ph_relay_tls_init(options->pki);
    }
}

// --- connections ---

static void arm(struct ph_relay_out *out)
{
    ph_relay_ring_prepare(ph_relay_ring_sqe(PH_RELAY_OUT_RECV, out), IORING_OP_RECV, out->fd,
                          out->buffer, REPLY_BYTES, 0);
}

static void open_out(struct ph_relay_site *site)
{
    struct ph_relay_out *out = ph_alloc(sizeof(*out));

    out->site = site;
    out->fd = ph_socket_open(&relay_sites.options.to, NULL);
    PH_CHECK(out->fd >= 0);
    STAILQ_INIT(&out->mail);
    TAILQ_INSERT_TAIL(&site->outs, out, link);
    site->out_count++;
    site->opening++;
    ph_relay_ring_prepare(ph_relay_ring_sqe(PH_RELAY_OUT_CONNECT, out), IORING_OP_CONNECT, out->fd,
                          &site->address, 0, site->address_len);
}

static void end_out(struct ph_relay_out *out)
{
    TAILQ_REMOVE(&out->site->outs, out, link);
    out->site->out_count--;
    close(out->fd);
    ph_relay_tls_destroy(out->tls);
    ph_buf_deinit(&out->sealed);
    free(out);
}

static void send_sealed(struct ph_relay_out *out)
{
    struct io_uring_sqe *sqe = ph_relay_ring_sqe(PH_RELAY_OUT_SEND, out);

    ph_relay_ring_prepare(sqe, IORING_OP_SEND, out->fd, out->sealed.data, out->sealed.len, 0);
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
    out->sending = true;
}

static void send_parts(struct ph_relay_out *out, size_t count)
{
    struct io_uring_sqe *sqe;

    if (out->tls != NULL) {
        for (size_t i = 0; i < count; i++) {
            ph_relay_tls_write(out->tls, out->parts[i].iov_base, out->parts[i].iov_len);
        }
        ph_relay_tls_flush(out->tls);
        send_sealed(out);
        return;
    }
    out->header = (struct msghdr){.msg_iov = out->parts, .msg_iovlen = count};
    sqe = ph_relay_ring_sqe(PH_RELAY_OUT_SEND, out);
    ph_relay_ring_prepare(sqe, IORING_OP_SENDMSG, out->fd, &out->header, 1, 0);
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
    out->sending = true;
}

// As many messages of the backlog as the depth allows, in one send.
static void feed_out(struct ph_relay_out *out)
{
    const struct ph_relay_sites_options *options = &relay_sites.options;
    struct ph_relay_site *site = out->site;
    struct ph_relay_mail *mail;
    size_t parts = 0;

    if (out->stage != STAGE_READY || out->sending) {
        return;
    }
    while (parts < 2 * JOIN_MAX && out->count < options->depth && out->stage == STAGE_READY &&
           (mail = STAILQ_FIRST(&site->backlog)) != NULL) {
        STAILQ_REMOVE_HEAD(&site->backlog, link);
        site->waiting--;
        STAILQ_INSERT_TAIL(&out->mail, mail, link);
        out->count++;
        out->parts[parts++] = (struct iovec){mail->envelope, mail->envelope_len};
        out->parts[parts++] = (struct iovec){(void *)mail->body, mail->size};
        if (++out->taken == options->per_connection) {
            out->parts[parts++] = (struct iovec){QUIT, sizeof(QUIT) - 1};
            out->stage = STAGE_QUITTING;
        }
    }
    if (parts > 0) {
        send_parts(out, parts);
    }
}

// Opens no more connections than the mail without room can fill, and the first one of a site alone
// while no ticket could make the others cheap.
static void feed_site(struct ph_relay_site *site)
{
    const struct ph_relay_sites_options *options = &relay_sites.options;
    struct ph_relay_out *out;

    TAILQ_FOREACH(out, &site->outs, link)
    {
        if (site->waiting == 0) {
            return;
        }
        feed_out(out);
    }
    while (site->waiting > site->opening * options->depth &&
           site->out_count < options->connections &&
           (options->pki == NULL || site->tls.ticket != NULL || site->opening == 0)) {
        open_out(site);
    }
}

void ph_relay_sites_add(struct ph_relay_mail *mail)
{
    struct ph_relay_site *site = relay_sites.sites;
    const char *domain;

    if (relay_sites.options.count > 1) {
        domain = strrchr(mail->recipient, '@');
        PH_CHECK(domain != NULL && domain[1] == 'd');
        site += strtoull(domain + 2, NULL, 10) % relay_sites.options.count;
    }
    STAILQ_INSERT_TAIL(&site->backlog, mail, link);
    site->waiting++;
    if (!site->hungry) {
        site->hungry = true;
        STAILQ_INSERT_TAIL(&relay_sites.hungry, site, link);
    }
}

void ph_relay_sites_feed(void)
{
    struct ph_relay_site *site;

    while ((site = STAILQ_FIRST(&relay_sites.hungry)) != NULL) {
        STAILQ_REMOVE_HEAD(&relay_sites.hungry, link);
        site->hungry = false;
        feed_site(site);
    }
}

// --- replies ---

static void say(struct ph_relay_out *out, const char *text)
{
    ssize_t len = (ssize_t)strlen(text);

    PH_CHECK(send(out->fd, text, (size_t)len, MSG_NOSIGNAL) == len);
}

static void ready(struct ph_relay_out *out)
{
    out->stage = STAGE_READY;
    out->site->opening--;
    feed_site(out->site);
}

static void message_answered(struct ph_relay_out *out)
{
    struct ph_relay_mail *mail = STAILQ_FIRST(&out->mail);

    out->message_replies = 0;
    STAILQ_REMOVE_HEAD(&out->mail, link);
    out->count--;
    relay_sites.options.delivered(mail);
}

static void reply_over(struct ph_relay_out *out)
{
    bool with_tls = relay_sites.options.pki != NULL;

    PH_CHECK(out->line[0] == '2');
    switch (out->stage) {
    case STAGE_GREETING:
        out->stage = STAGE_EHLO;
        say(out, EHLO);
        break;
    case STAGE_EHLO:
        if (with_tls) {
            out->stage = STAGE_STARTTLS;
            say(out, STARTTLS);
        } else {
            ready(out);
        }
        break;
    case STAGE_STARTTLS:
        out->stage = STAGE_HANDSHAKE;
        out->tls = ph_relay_tls_connect(&out->site->tls, &out->sealed);
        send_sealed(out);
        break;
    case STAGE_HANDSHAKE:
        break;
    case STAGE_TLS_EHLO:
        ready(out);
        break;
    case STAGE_READY:
    case STAGE_QUITTING:
        if (out->count == 0) {
            PH_CHECK(out->stage == STAGE_QUITTING);
            out->stage = STAGE_OVER;
        } else if (++out->message_replies == 3) {
            message_answered(out);
        }
        break;
    case STAGE_OVER:
        PH_CHECK(false);
        break;
    }
}

static void take_replies(struct ph_relay_out *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char *newline = memchr(text + i, '\n', len - i);
        size_t end = newline != NULL ? (size_t)(newline - text) : len;

        for (size_t j = i; j < end && out->line_len < 4; j++) {
            out->line[out->line_len++] = text[j];
        }
        if (newline != NULL) {
            if (out->line[3] != '-') {
                reply_over(out);
            }
            out->line_len = 0;
        }
        i = end;
    }
}

static void take_tls(struct ph_relay_out *out, size_t len)
{
    static char plain[REPLY_BYTES];

    ph_relay_tls_feed(out->tls, (struct ph_str){.data = out->buffer, .len = len});
    if (out->stage == STAGE_HANDSHAKE) {
        if (!ph_relay_tls_handshake(out->tls)) {
            return;
        }
        out->stage = STAGE_TLS_EHLO;
        ph_relay_tls_write(out->tls, EHLO, sizeof(EHLO) - 1); // with the Finished
        ph_relay_tls_flush(out->tls);
        send_sealed(out);
    }
    while ((len = ph_relay_tls_read(out->tls, plain, sizeof(plain))) > 0) {
        take_replies(out, plain, len);
    }
}

void ph_relay_sites_connected(struct ph_relay_out *out, int result)
{
    PH_CHECK(result == 0);
    arm(out);
}

// Once what it answered is known to be sent.
static void end_when_over(struct ph_relay_out *out)
{
    struct ph_relay_site *site = out->site;

    if (out->stage == STAGE_OVER && !out->sending) {
        end_out(out);
        feed_site(site);
    }
}

void ph_relay_sites_received(struct ph_relay_out *out, int result)
{
    if (result <= 0) {
        fprintf(stderr, "bench-relay: the destination ended a connection\n");
        exit(1);
    }
    if (out->tls != NULL) {
        take_tls(out, (size_t)result);
    } else {
        take_replies(out, out->buffer, (size_t)result);
    }
    if (out->stage != STAGE_OVER) {
        arm(out);
        feed_out(out);
    } else {
        end_when_over(out);
    }
}

void ph_relay_sites_sent(struct ph_relay_out *out, int result)
{
    PH_CHECK(result > 0);
    out->sending = false;
    ph_buf_clear(&out->sealed);
    if (out->stage != STAGE_OVER) {
        feed_out(out);
    } else {
        end_when_over(out);
    }
}
