// A peer's bytes: TLS or none, and replies that take their time.
#include <stdarg.h>
#include <stdlib.h>

#include "tests/sim/peer_parts.h"

#include <openssl/err.h>

static struct sim *clock_of; // of the history under way: BoringSSL's callback has no owner

static void tell_time(const SSL *ssl, struct timeval *out)
{
    (void)ssl;
    out->tv_sec =
        (time_t)((int64_t)(clock_of->clock.now_ns / PH_NS_PER_MS) + clock_of->wall_offset_ms) /
        1000;
    out->tv_usec = 0;
}

// --- out ---

static void pass_on(struct peer_session *s)
{
    const uint8_t *bytes;
    size_t len;

    if (s->ssl != NULL && BIO_mem_contents(s->to_engine, &bytes, &len) && len > 0) {
        sim_conn_send(s->conn, (struct ph_str){.data = (const char *)bytes, .len = len});
        BIO_reset(s->to_engine);
    }
}

static void say_now(struct sim_event *event)
{
    struct pending_reply *reply = event->owner;
    struct peer_session *s = reply->session;

    STAILQ_REMOVE_HEAD(&s->replies, link);
    if (!s->over && reply->text.len > 0) {
        // The reply to STARTTLS itself is still in the clear.
        if (s->ssl != NULL && !s->handshaking) {
            SSL_write(s->ssl, reply->text.data, (int)reply->text.len);
            pass_on(s);
        } else {
            sim_conn_send(s->conn, ph_buf_str(&reply->text));
        }
    }
    if (!s->over && reply->resets) {
        s->over = true;
        sim_conn_reset(s->conn);
    } else if (!s->over && reply->closes) {
        s->over = true;
        sim_conn_finish(s->conn);
    }
    ph_buf_deinit(&reply->text);
    free(reply);
}

static struct pending_reply *queue_reply(struct peer_session *s)
{
    struct pending_reply *reply = ph_alloc(sizeof(*reply));
    struct sim *sim = s->sim;
    uint64_t at_ns = sim->clock.now_ns + sim_between(&sim->random, 1000, 1000 + s->reply_ns);

    reply->session = s;
    at_ns = at_ns > s->last_reply_ns ? at_ns : s->last_reply_ns + 1;
    s->last_reply_ns = at_ns;
    sim_event_init(&reply->event, say_now, reply);
    sim_at(&sim->clock, &reply->event, at_ns);
    STAILQ_INSERT_TAIL(&s->replies, reply, link);
    return reply;
}

void peer_say(struct peer_session *s, const char *format, ...)
{
    struct pending_reply *reply = queue_reply(s);
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ph_buf_append(&reply->text, ph_str_from(text));
}

void peer_hang_up(struct peer_session *s)
{
    struct pending_reply *reply = queue_reply(s);

    s->ending = true;
    reply->closes = true;
    reply->resets = sim_chance(&s->sim->random, 300);
}

void peer_break(struct peer_session *s)
{
    s->over = true;
    if (sim_chance(&s->sim->random, 500)) {
        sim_conn_reset(s->conn);
    } else {
        sim_conn_finish(s->conn);
    }
}

// --- in ---

void peer_begin_tls(struct peer_session *s)
{
    SSL_CTX *context = sim_certificates_context(s->host->site, s->host->number, s->certificate);

    clock_of = s->sim;
    SSL_CTX_set_current_time_cb(context, tell_time);
    s->ssl = SSL_new(context);
    s->from_engine = BIO_new(BIO_s_mem());
    s->to_engine = BIO_new(BIO_s_mem());
    PH_CHECK(s->ssl != NULL && s->from_engine != NULL && s->to_engine != NULL);
    SSL_set_bio(s->ssl, s->from_engine, s->to_engine);
    SSL_set_accept_state(s->ssl);
    s->handshaking = true;
    ph_buf_clear(&s->in);
    s->mail = false;
}

static bool go_on_with_handshake(struct peer_session *s)
{
    int result = SSL_do_handshake(s->ssl);

    if (result == 1) {
        s->handshaking = false;
        s->encrypted = true;
    } else if (SSL_get_error(s->ssl, result) != SSL_ERROR_WANT_READ) {
        ERR_clear_error();
        pass_on(s);
        peer_break(s);
        return false;
    }
    pass_on(s);
    return !s->handshaking;
}

static void take_tls(struct peer_session *s, struct ph_str bytes)
{
    char plain[4096];
    int got;

    BIO_write(s->from_engine, bytes.data, (int)bytes.len);
    if (s->handshaking && !go_on_with_handshake(s)) {
        return;
    }
    while ((got = SSL_read(s->ssl, plain, sizeof(plain))) > 0) {
        ph_buf_append_bytes(&s->in, plain, (size_t)got);
    }
    got = SSL_get_error(s->ssl, got);
    pass_on(s);
    if (got != SSL_ERROR_WANT_READ && !s->over) {
        ERR_clear_error();
        peer_converse(s);
        if (!s->over) {
            peer_break(s);
        }
    }
}

void peer_received(void *owner, struct ph_str bytes)
{
    struct peer_session *s = owner;

    if (s->over) {
        return;
    }
    if (s->ssl != NULL) {
        take_tls(s, bytes);
    } else {
        ph_buf_append(&s->in, bytes);
    }
    if (!s->over && !s->handshaking) {
        peer_converse(s);
    }
}

void peer_ended(void *owner, bool reset)
{
    struct peer_session *s = owner;

    if (!s->over && !reset) {
        sim_conn_finish(s->conn);
    }
    s->over = true;
}
