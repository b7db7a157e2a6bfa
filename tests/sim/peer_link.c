// A peer's bytes: TLS or none, and replies that take their time.
#include <stdarg.h>
#include <stdlib.h>

#include "tests/sim/peer_link.h"

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

static uint64_t pass_on(struct peer_link *link)
{
    const uint8_t *bytes;
    size_t len;
    uint64_t read_by = UINT64_MAX;

    if (link->ssl != NULL && BIO_mem_contents(link->to_engine, &bytes, &len) && len > 0) {
        read_by =
            sim_conn_send(link->conn, (struct ph_str){.data = (const char *)bytes, .len = len});
        BIO_reset(link->to_engine);
    }
    return read_by;
}

static void say_now(struct sim_event *event)
{
    struct peer_reply *reply = event->owner;
    struct peer_link *link = reply->link;
    uint64_t read_by = UINT64_MAX;

    STAILQ_REMOVE_HEAD(&link->replies, entry);
    if (!link->over && reply->text.len > 0) {
        // The reply to STARTTLS itself is still in the clear.
        if (link->ssl != NULL && !link->handshaking) {
            SSL_write(link->ssl, reply->text.data, (int)reply->text.len);
            read_by = pass_on(link);
        } else {
            read_by = sim_conn_send(link->conn, ph_buf_str(&reply->text));
        }
    }
    for (size_t i = 0; i < reply->whole_count; i++) {
        link->sim->ledger.wholes[reply->whole_at + i].answered_at = read_by;
    }
    if (!link->over && reply->resets) {
        link->over = true;
        sim_conn_reset(link->conn);
    } else if (!link->over && reply->closes) {
        link->over = true;
        sim_conn_finish(link->conn);
    }
    ph_buf_deinit(&reply->text);
    free(reply);
}

static struct peer_reply *queue_reply(struct peer_link *link)
{
    struct peer_reply *reply = ph_alloc(sizeof(*reply));
    struct sim *sim = link->sim;
    uint64_t at_ns = sim->clock.now_ns + sim_between(&sim->random, 1000, 1000 + link->reply_ns);

    reply->link = link;
    at_ns = at_ns > link->last_reply_ns ? at_ns : link->last_reply_ns + 1;
    link->last_reply_ns = at_ns;
    sim_event_init(&reply->event, say_now, reply);
    sim_at(&sim->clock, &reply->event, at_ns);
    STAILQ_INSERT_TAIL(&link->replies, reply, entry);
    link->last_reply = reply;
    return reply;
}

void peer_say(struct peer_link *link, const char *format, ...)
{
    struct peer_reply *reply = queue_reply(link);
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ph_buf_append(&reply->text, ph_str_from(text));
}

void peer_say_bytes(struct peer_link *link, struct ph_str bytes)
{
    ph_buf_append(&queue_reply(link)->text, bytes);
}

void peer_answers(struct peer_link *link, size_t whole_at, size_t whole_count)
{
    link->last_reply->whole_at = whole_at;
    link->last_reply->whole_count = whole_count;
}

void peer_hang_up(struct peer_link *link)
{
    struct peer_reply *reply = queue_reply(link);

    link->ending = true;
    reply->closes = true;
    reply->resets = !link->gentle && sim_chance(&link->sim->random, 300);
}

void peer_break(struct peer_link *link)
{
    link->over = true;
    if (!link->gentle && sim_chance(&link->sim->random, 500)) {
        sim_conn_reset(link->conn);
    } else {
        sim_conn_finish(link->conn);
    }
}

// --- in ---

void peer_begin_tls(struct peer_link *link, SSL_CTX *context)
{
    clock_of = link->sim;
    SSL_CTX_set_current_time_cb(context, tell_time);
    link->ssl = SSL_new(context);
    link->from_engine = BIO_new(BIO_s_mem());
    link->to_engine = BIO_new(BIO_s_mem());
    PH_CHECK(link->ssl != NULL && link->from_engine != NULL && link->to_engine != NULL);
    SSL_set_bio(link->ssl, link->from_engine, link->to_engine);
    SSL_set_accept_state(link->ssl);
    link->handshaking = true;
    ph_buf_clear(&link->in);
}

static bool go_on_with_handshake(struct peer_link *link)
{
    int result = SSL_do_handshake(link->ssl);

    if (result == 1) {
        link->handshaking = false;
        link->encrypted = true;
    } else if (SSL_get_error(link->ssl, result) != SSL_ERROR_WANT_READ) {
        ERR_clear_error();
        pass_on(link);
        peer_break(link);
        return false;
    }
    pass_on(link);
    return !link->handshaking;
}

static void take_tls(struct peer_link *link, struct ph_str bytes)
{
    char plain[4096];
    int got;

    BIO_write(link->from_engine, bytes.data, (int)bytes.len);
    if (link->handshaking && !go_on_with_handshake(link)) {
        return;
    }
    while ((got = SSL_read(link->ssl, plain, sizeof(plain))) > 0) {
        ph_buf_append_bytes(&link->in, plain, (size_t)got);
    }
    got = SSL_get_error(link->ssl, got);
    pass_on(link);
    if (got != SSL_ERROR_WANT_READ && !link->over) {
        ERR_clear_error();
        link->converse(link);
        if (!link->over) {
            peer_break(link);
        }
    }
}

// Nobody is there any more, or it never arrived; but the engine can't know that.
static void unseen(void *owner, struct ph_str bytes)
{
    struct peer_link *link = owner;
    char plain[4096];
    int got;

    if (link->unseen == NULL) {
        return;
    }
    if (link->ssl != NULL) {
        BIO_write(link->from_engine, bytes.data, (int)bytes.len);
        link->handshaking = link->handshaking && SSL_do_handshake(link->ssl) != 1;
        while (!link->handshaking && (got = SSL_read(link->ssl, plain, sizeof(plain))) > 0) {
            ph_buf_append_bytes(&link->in, plain, (size_t)got);
        }
        ERR_clear_error();
    } else {
        ph_buf_append(&link->in, bytes);
    }
    link->over = true;
    link->unseen(link);
}

static void received(void *owner, struct ph_str bytes)
{
    struct peer_link *link = owner;

    if (link->over) {
        unseen(link, bytes);
        return;
    }
    if (link->ssl != NULL) {
        take_tls(link, bytes);
    } else {
        ph_buf_append(&link->in, bytes);
    }
    if (!link->over && !link->handshaking) {
        link->converse(link);
    }
    if ((link->over || link->ending) && link->unseen != NULL && !link->handshaking) {
        link->unseen(link); // what it doesn't read any more
    }
}

static void ended(void *owner, bool reset)
{
    struct peer_link *link = owner;

    if (!link->over && !reset) {
        sim_conn_finish(link->conn);
    }
    link->over = true;
}

void peer_link_init(struct peer_link *link, struct sim *sim, struct sim_conn *conn,
                    void (*converse)(struct peer_link *link))
{
    link->sim = sim;
    link->conn = conn;
    link->converse = converse;
    STAILQ_INIT(&link->replies);
    sim_conn_accept(conn,
                    &(struct sim_far_end){
                        .received = received, .ended = ended, .unseen = unseen, .owner = link});
}
