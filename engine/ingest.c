// One client's connection.
#include "engine/ingest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/date.h"
#include "engine/guesses.h"
#include "engine/protocol_log.h"
#include "engine/storing.h"
#include "engine/worker_ingest.h"
#include "queue/content.h"
#include "smtp/address.h"
#include "smtp/server.h"
#include "tls/partner.h"
#include "tls/verify.h"

#define PH_INGEST_READ_BYTES_MAX ((size_t)128 << 10) // plaintext taken from TLS at a time; ours
// Who hides which users exist answers in the same time: this hash is of nobody's password.
#define PH_INGEST_NOBODY_HASH                                                                      \
    "$6$posthaste$Qb5J9AqR7Gvw2g0FqfQ2oHcV2v3nC3oO1w0iN3zW8Xb1rYk5m7Y3b0p6a4t1u9s8d7f6g5h4j3k2l"

struct ph_ingest {
    TAILQ_ENTRY(ph_ingest) link;
    struct ph_worker *worker;
    struct ph_config *config; // referenced
    const struct ph_receive_connector *connector;
    struct ph_endpoint peer;
    char peer_address[PH_ENDPOINT_TEXT_MAX];
    struct ph_socket *socket;
    struct ph_op recv_op;
    struct ph_op send_op;
    struct ph_op close_op;
    struct ph_server *server;
    struct ph_tls_session *tls;
    bool handshaking;
    struct ph_buf inbound;  // received, not yet taken by the server
    struct ph_str arrived;  // in the clear, as the world holds it; then `inbound` is empty
    struct ph_buf outbound; // to be sent
    struct ph_buf sending;  // being sent
    bool send_pending;
    bool ending; // closes when all was sent
    bool stop;   // 421 at the next chance
    bool paused;
    bool closing;
    bool closed;
    bool storing;    // storing or a password check will call back
    bool tarpitting; // a refusal waits for TarpitInterval: nothing is read or sent meanwhile
    uint64_t session_id;
    uint32_t said; // lines of the protocol log
    struct ph_timer timer;
    uint64_t opened_ms;
    struct ph_password_op password;
    char partner[PH_DOMAIN_BYTES_MAX + 1]; // Domain Security: who this message comes from; or empty
    // The message under way.
    uint64_t message_id;
    struct ph_spool_writer *writer; // of a large one
    struct ph_spool_ticket ticket;  // of its pieces
    struct ph_buf extent;
    size_t extent_writing;
    bool message_whole;
};

static void on_received(struct ph_op *op);
static void on_sent(struct ph_op *op);
static void on_closed(struct ph_op *op);
static void on_timer(struct ph_timer *timer);
static void on_password(struct ph_op *op);
static void on_piece(struct ph_op *op);
static void on_stored(void *owner, uint64_t id, int64_t result);
static void write_trace(void *owner, struct ph_server *server, struct ph_buf *out);
static void process(struct ph_ingest *i);
static void flush(struct ph_ingest *i);
static void begin_close(struct ph_ingest *i);

static bool may_relay(const struct ph_receive_connector *connector, const struct ph_endpoint *peer)
{
    bool may = false;

    for (size_t n = 0; n < connector->remote_ip_range_count; n++) {
        may |= ph_cidr_contains(&connector->remote_ip_ranges[n], peer);
    }
    return may;
}

static void log_protocol(struct ph_ingest *i, enum ph_protocol_event event, struct ph_str text)
{
    if (i->connector->protocol_logging) {
        ph_protocol_log(i->worker,
                        &(struct ph_protocol_session){.connector = i->connector->name,
                                                      .id = i->session_id,
                                                      .remote = &i->peer,
                                                      .sequence = &i->said},
                        event, text);
    }
}

static void heard(void *owner, struct ph_str line)
{
    log_protocol(owner, PH_PROTOCOL_RECEIVED, line);
}

// How long the connection may go on. A message that is under way then has the time of one silence
// to end: beyond it a client that drips holds a place for ever.
static uint64_t time_left_ms(const struct ph_ingest *i)
{
    uint64_t end_ms = i->opened_ms + i->connector->connection_timeout_ms;
    uint64_t now_ms = ph_worker_now_ms(i->worker);

    if (ph_server_in_message(i->server)) {
        end_ms += i->connector->connection_inactivity_timeout_ms;
    }
    return end_ms > now_ms ? end_ms - now_ms : 0;
}

static void set_silence_timer(struct ph_ingest *i)
{
    if (i->tarpitting) {
        return;
    }
    ph_wheel_set(&i->worker->wheel, &i->timer,
                 i->worker->io->now_ns +
                     i->connector->connection_inactivity_timeout_ms * PH_NS_PER_MS);
}

static void set_timer(struct ph_ingest *i)
{
    uint64_t left_ms = time_left_ms(i);
    bool over = left_ms == 0 && !ph_server_in_message(i->server);

    if (i->tarpitting) {
        return;
    }
    i->stop |= over; // said at the next chance; what is being answered gets its answer
    if (over || left_ms >= i->connector->connection_inactivity_timeout_ms) {
        set_silence_timer(i);
    } else {
        ph_wheel_set(&i->worker->wheel, &i->timer, i->worker->io->now_ns + left_ms * PH_NS_PER_MS);
    }
}

static void begin_tls(struct ph_ingest *i)
{
    i->tls = ph_tls_session_accept(i->connector->tls, i->session_id);
    i->handshaking = true;
    if (i->connector->domain_secure_enabled) {
        ph_tls_session_keep_chain(i->tls, i->worker->tls);
    }
}

// Domain Security: mail from a listed domain comes by a session that proved to be that partner's.
static bool judge_sender(void *owner, struct ph_str domain, struct ph_reason *out_reason)
{
    struct ph_ingest *i = owner;
    struct ph_tls_facts plain = ph_tls_facts_plaintext(1, i->connector->tls != NULL);
    struct ph_partner_subject subject = {
        .facts = i->tls != NULL ? ph_tls_session_facts(i->tls) : &plain,
        .domain = domain,
        .wall_ms = ph_worker_wall_ms(i->worker),
    };

    i->partner[0] = '\0';
    if (!i->connector->domain_secure_enabled || !ph_config_receives_secure(i->config, domain)) {
        return true;
    }
    if (subject.facts->chain != NULL) {
        subject.verdict = ph_verify_chain(i->worker->tls, subject.facts->chain, i->connector->trust,
                                          subject.wall_ms);
    }
    if (!ph_partner_judge(&subject, out_reason)) {
        PH_COUNT(i->worker, partners_refused, 1);
        return false;
    }
    ph_str_copy(i->partner, sizeof(i->partner), domain);
    return true;
}

void ph_ingest_accept(struct ph_worker *worker, struct ph_socket *socket, struct ph_config *config,
                      const struct ph_receive_connector *connector, bool implicit_tls,
                      const struct ph_endpoint *peer)
{
    struct ph_ingest *i = ph_alloc(sizeof(*i));
    bool basic = connector->auth_mechanism & (PH_AUTH_BASIC | PH_AUTH_BASIC_REQUIRE_TLS);

    i->worker = worker;
    i->config = ph_config_retain(config);
    i->connector = connector;
    i->peer = *peer;
    i->socket = socket;
    i->opened_ms = ph_worker_now_ms(worker);
    i->session_id = ph_worker_next_session_id(worker);
    ph_endpoint_format_address(peer, i->peer_address);
    ph_op_init(&i->recv_op, on_received, i);
    ph_op_init(&i->send_op, on_sent, i);
    ph_op_init(&i->close_op, on_closed, i);
    ph_op_init(&i->password.op, on_password, i);
    ph_op_init(&i->ticket.op, on_piece, i);
    ph_timer_init(&i->timer, on_timer, i);
    i->server = ph_server_create(&(struct ph_server_options){
        .hostname = connector->fqdn,
        .banner = connector->banner,
        .connector = connector->name,
        .client_address = ph_str_from(i->peer_address),
        .starttls_offered =
            connector->tls != NULL && !implicit_tls && (connector->auth_mechanism & PH_AUTH_TLS),
        .require_tls = connector->require_tls,
        .auth_offered = basic && connector->user_count > 0,
        .may_relay = may_relay(connector, peer),
        .normalize = connector->bare_line_endings == PH_BARE_NORMALIZE,
        .message_size_max = connector->max_message_size,
        .recipients_max = connector->max_recipients_per_message,
        .protocol_errors_max = connector->max_protocol_errors,
        .hops_max = connector->max_hop_count,
        .tarpits = connector->tarpit_interval_ms > 0,
        .heard = connector->protocol_logging ? heard : NULL,
        .judge_sender = connector->domain_secure_enabled ? judge_sender : NULL,
        .trace = write_trace,
        .owner = i,
    });
    ph_worker_ingest_add(worker, i);
    PH_COUNT(worker, ingest_connections, 1);
    log_protocol(i, PH_PROTOCOL_CONNECTED, PH_STR_NONE);
    set_timer(i);
    ph_io_recv_start(socket, &i->recv_op);
    if (implicit_tls) {
        begin_tls(i);
    }
    flush(i);
}

bool ph_ingest_judges_partners(const struct ph_ingest *i)
{
    return i->connector->domain_secure_enabled;
}

struct ph_ingest *ph_ingest_next(const struct ph_ingest *i)
{
    return TAILQ_NEXT(i, link);
}

// RFC 5321 §4.4.
static void write_trace(void *owner, struct ph_server *server, struct ph_buf *out)
{
    struct ph_ingest *i = owner;
    uint64_t message_id = ph_spool_take_id(i->worker->spool);
    char id[PH_MESSAGE_ID_TEXT_MAX];
    char date[PH_DATE_TEXT_MAX];
    const struct ph_str parts[] = {
        PH_STR("Received: from "),
        ph_server_client_name(server),
        PH_STR(" (["),
        i->peer.family == PH_FAMILY_IPV6 ? PH_STR("IPv6:") : PH_STR_NONE,
        ph_str_from(i->peer_address),
        PH_STR("])\r\n\tby "),
        i->connector->fqdn,
        PH_STR(" with "),
        ph_str_from(ph_server_protocol(server)),
        PH_STR(" id "),
        ph_str_from(ph_message_id_format(message_id, id)),
        PH_STR(";\r\n\t"),
        ph_str_from(ph_date_format(ph_worker_wall_ms(i->worker), date)),
        PH_STR("\r\n"),
    };

    i->message_id = message_id;
    i->message_whole = false;
    if (i->partner[0] != '\0') {
        // Nobody else can have written these: they are taken from no client.
        ph_buf_printf(out,
                      PH_CONTENT_MARK "AuthAs: Partner\r\n" PH_CONTENT_MARK
                                      "AuthDomain: %s\r\n" PH_CONTENT_MARK "AuthSource: %.*s\r\n",
                      i->partner, PH_STR_ARG(i->connector->fqdn));
    }
    for (size_t n = 0; n < PH_ARRAY_LEN(parts); n++) {
        ph_buf_append(out, parts[n]);
    }
}

// --- input ---

// A message that comes whole needs memory between its first byte and its place in a group only: the
// worker has one such buffer, which stays warm, and a silent client has none.
static void lend_content(struct ph_ingest *i)
{
    struct ph_buf *content = ph_server_content(i->server);

    if (content->cap == 0) {
        ph_buf_swap(content, &i->worker->content_spare);
    }
}

static void take_content_back(struct ph_ingest *i)
{
    struct ph_buf *content = ph_server_content(i->server);

    if (content->len == 0 && i->worker->content_spare.cap == 0) {
        ph_buf_swap(content, &i->worker->content_spare);
    } else if (content->len == 0) {
        ph_buf_deinit(content);
    }
}

// What comes in the clear is read where it lies, unless something stands before it.
static void arrive(struct ph_ingest *i, struct ph_str slice)
{
    if (i->inbound.len > 0) {
        ph_buf_append(&i->inbound, slice);
    } else {
        i->arrived = slice;
    }
}

static void take(struct ph_ingest *i, size_t len)
{
    if (i->arrived.len > 0) {
        i->arrived = ph_str_after(i->arrived, len);
    } else {
        ph_buf_consume(&i->inbound, len);
    }
}

// The slice goes back to the world: what wasn't taken of it waits.
static void keep_arrived(struct ph_ingest *i)
{
    ph_buf_append(&i->inbound, i->arrived);
    i->arrived = PH_STR_NONE;
}

static void on_received(struct ph_op *op)
{
    struct ph_ingest *i = op->owner;
    enum ph_recv_result result = PH_RECV_DATA;
    struct ph_str slice;

    while (!i->closing && result == PH_RECV_DATA) {
        result = ph_io_recv_next(i->socket, &slice);
        if (result == PH_RECV_DATA) {
            if (i->tls != NULL) {
                ph_tls_session_feed(i->tls, slice);
            } else {
                arrive(i, slice);
            }
            set_timer(i);
            process(i);
            keep_arrived(i);
            ph_io_recv_release(i->socket);
        }
    }
    if (!i->closing && (result == PH_RECV_EOF || result == PH_RECV_ERROR)) {
        begin_close(i);
    } else if (!i->storing) {
        flush(i); // else its end sends these replies with its own
    }
}

// What TLS has deciphered goes to `inbound`. False: the session is over.
static bool read_tls(struct ph_ingest *i)
{
    enum ph_tls_result result;

    if (i->tls == NULL) {
        return true;
    }
    if (i->handshaking) {
        result = ph_tls_session_handshake(i->tls);
        if (result != PH_TLS_OK) {
            return result == PH_TLS_MORE;
        }
        i->handshaking = false;
        log_protocol(i, PH_PROTOCOL_NOTE, PH_STR("TLS is established"));
        ph_server_tls_established(i->server);
    }
    do {
        result = ph_tls_session_read(i->tls, &i->inbound, PH_INGEST_READ_BYTES_MAX);
    } while (result == PH_TLS_OK && i->inbound.len < PH_INGEST_READ_BYTES_MAX);
    return result == PH_TLS_OK || result == PH_TLS_MORE;
}

static void set_paused(struct ph_ingest *i, bool paused)
{
    if (i->paused != paused && !i->closing) {
        i->paused = paused;
        ph_io_recv_pause(i->socket, paused);
    }
}

static void check_password(struct ph_ingest *i)
{
    const struct ph_auth_user *found = NULL;
    struct ph_str user;
    struct ph_str password;

    ph_server_credentials(i->server, &user, &password);
    // Who may relay anyhow gains nothing by guessing, and may be many behind one address.
    if (!may_relay(i->connector, &i->peer) &&
        !ph_guesses_allow(ph_engine_guesses(i->worker->engine), i->worker->io->now_ns, &i->peer,
                          user)) {
        PH_COUNT(i->worker, passwords_put_off, 1);
        ph_server_authentication_put_off(i->server);
        return;
    }
    for (size_t n = 0; n < i->connector->user_count; n++) {
        if (ph_str_eq(i->connector->users[n].user, user)) {
            found = &i->connector->users[n];
        }
    }
    ph_str_copy(i->password.password, sizeof(i->password.password), password);
    ph_str_copy(i->password.hash, sizeof(i->password.hash),
                found != NULL ? found->hash : PH_STR(PH_INGEST_NOBODY_HASH));
    i->storing = true;
    ph_io_check_password(i->worker->io, &i->password);
}

static void refuse(struct ph_ingest *i, enum ph_spool_result result)
{
    if (result == PH_SPOOL_FULL) {
        PH_COUNT(i->worker, ingest_refused_space, 1);
        ph_server_refused(i->server, 452, "4.3.1", "there is no room now, try later");
    } else {
        ph_server_refused(i->server, 451, "4.3.0", "the spool can't be written now, try later");
    }
}

static void store(struct ph_ingest *i)
{
    struct ph_envelope *envelope = ph_server_envelope(i->server);
    uint64_t now_ms = ph_worker_now_ms(i->worker);
    enum ph_spool_result result;

    envelope->arrival_ms = now_ms;
    envelope->expiry_ms = now_ms + i->worker->config->retry.expiration_ms;
    result = ph_storing_begin(
        i->worker,
        &(struct ph_storing_options){
            .id = i->message_id,
            .envelope = envelope,
            .content = i->writer == NULL ? ph_buf_str(ph_server_content(i->server)) : PH_STR_NONE,
            .take_extents = i->writer,
            .size = ph_server_content_size(i->server),
            .done = on_stored,
            .owner = i,
        });
    if (result == PH_SPOOL_OK) {
        i->writer = NULL;
        i->storing = true;
        ph_buf_clear(ph_server_content(i->server)); // it is in the group
    } else {
        ph_spool_writer_abandon(i->writer);
        i->writer = NULL;
        refuse(i, result);
    }
}

// The next piece of a large message goes to the disk; false: nothing more has to.
static bool write_piece(struct ph_ingest *i)
{
    struct ph_str piece = ph_str_first(ph_buf_str(&i->extent), PH_SPOOL_EXTENT_BYTES_MAX);

    if (piece.len == 0 || (piece.len < PH_SPOOL_EXTENT_BYTES_MAX && !i->message_whole)) {
        return false;
    }
    i->extent_writing = piece.len;
    i->storing = true;
    if (ph_spool_writer_append(i->writer, &i->ticket, piece) != PH_SPOOL_OK) {
        i->storing = false;
        return false;
    }
    return true;
}

static void take_chunk(struct ph_ingest *i)
{
    struct ph_buf *content = ph_server_content(i->server);
    enum ph_spool_result result = PH_SPOOL_OK;

    if (i->writer == NULL) {
        result = ph_spool_writer_create(i->worker->spool, i->message_id, &i->writer);
    }
    if (result != PH_SPOOL_OK) {
        refuse(i, result);
        return;
    }
    ph_buf_append(&i->extent, ph_buf_str(content));
    ph_buf_clear(content);
    if (!write_piece(i)) {
        ph_server_chunk_stored(i->server);
    }
}

static void take_message(struct ph_ingest *i)
{
    struct ph_buf *content = ph_server_content(i->server);

    if (i->writer == NULL && content->len > PH_SPOOL_INLINE_BYTES_MAX) {
        // A little more than fits inline: the last lines came with the end.
        enum ph_spool_result result =
            ph_spool_writer_create(i->worker->spool, i->message_id, &i->writer);

        if (result != PH_SPOOL_OK) {
            refuse(i, result);
            return;
        }
    }
    if (i->writer == NULL) {
        store(i);
        return;
    }
    i->message_whole = true;
    ph_buf_append(&i->extent, ph_buf_str(content));
    ph_buf_clear(content);
    if (!write_piece(i)) {
        store(i);
    }
}

static void discard(struct ph_ingest *i)
{
    ph_spool_writer_abandon(i->writer);
    i->writer = NULL;
    ph_buf_clear(&i->extent);
}

static void tarpit(struct ph_ingest *i)
{
    ph_wheel_set(&i->worker->wheel, &i->timer,
                 i->worker->io->now_ns + i->connector->tarpit_interval_ms * PH_NS_PER_MS);
    i->tarpitting = true;
}

// Gives the server what has come, and does what it asks for.
static void process(struct ph_ingest *i)
{
    enum ph_server_event event = PH_SERVER_EVENT_DISCARD;

    while (!i->tarpitting && !i->closing && !i->ending && event != PH_SERVER_EVENT_MORE) {
        struct ph_str input;
        size_t before;

        if (!read_tls(i)) {
            flush(i);
            begin_close(i);
            return;
        }
        if (i->handshaking) {
            return;
        }
        if (i->stop && !ph_server_in_message(i->server) && !ph_server_awaits_owner(i->server)) {
            ph_server_end(i->server, "4.3.2", "the service is going down, try later");
        }
        input = i->arrived.len > 0 ? i->arrived : ph_buf_str(&i->inbound);
        before = input.len;
        lend_content(i);
        event = ph_server_feed(i->server, &input);
        take(i, before - input.len);
        switch (event) {
        case PH_SERVER_EVENT_MORE:
            break;
        case PH_SERVER_EVENT_STARTTLS:
            flush(i); // the 220 in the clear
            ph_buf_clear(&i->inbound);
            i->arrived = PH_STR_NONE;
            begin_tls(i);
            break;
        case PH_SERVER_EVENT_AUTH:
            check_password(i);
            break;
        case PH_SERVER_EVENT_CHUNK:
            take_chunk(i);
            break;
        case PH_SERVER_EVENT_MESSAGE:
            take_message(i);
            break;
        case PH_SERVER_EVENT_DISCARD:
            discard(i);
            break;
        case PH_SERVER_EVENT_TARPIT:
            if (!i->stop) {
                tarpit(i);
            }
            break;
        case PH_SERVER_EVENT_ENDED:
            i->ending = true;
            break;
        }
        take_content_back(i);
    }
    set_paused(i, i->tarpitting || (ph_server_awaits_owner(i->server) && !i->handshaking));
}

static void on_password(struct ph_op *op)
{
    struct ph_ingest *i = op->owner;

    i->storing = false;
    if (i->closing) {
        begin_close(i);
        return;
    }
    if (op->result != 1) {
        struct ph_str user;
        struct ph_str password;

        ph_server_credentials(i->server, &user, &password);
        PH_COUNT(i->worker, passwords_wrong, 1);
        ph_guesses_wrong(ph_engine_guesses(i->worker->engine), i->worker->io->now_ns, &i->peer,
                         user);
    }
    ph_server_authenticated(i->server, op->result == 1);
    process(i);
    flush(i);
}

static void on_piece(struct ph_op *op)
{
    struct ph_ingest *i = op->owner;

    i->storing = false;
    if (i->closing) {
        begin_close(i);
        return;
    }
    ph_buf_consume(&i->extent, i->extent_writing);
    if (op->result < 0) {
        discard(i);
        refuse(i, op->result == -ENOSPC ? PH_SPOOL_FULL : PH_SPOOL_FAILED);
    } else if (!write_piece(i)) {
        if (i->message_whole) {
            store(i);
        } else {
            ph_server_chunk_stored(i->server);
        }
    }
    set_timer(i);
    process(i);
    flush(i);
}

static void on_stored(void *owner, uint64_t id, int64_t result)
{
    struct ph_ingest *i = owner;
    char text[PH_MESSAGE_ID_TEXT_MAX];

    i->storing = false;
    if (i->closing) {
        begin_close(i);
        return;
    }
    if (result == 0) {
        ph_server_stored(i->server, ph_str_from(ph_message_id_format(id, text)));
    } else {
        refuse(i, result == -ENOSPC ? PH_SPOOL_FULL : PH_SPOOL_FAILED);
    }
    set_timer(i);
    process(i);
    flush(i);
}

// --- output ---

static void flush(struct ph_ingest *i)
{
    struct ph_buf *output = ph_server_output(i->server);
    struct iovec slice;

    if (i->closing || i->tarpitting) {
        return;
    }
    if (output->len > 0 && !i->handshaking) {
        log_protocol(i, PH_PROTOCOL_SENT, ph_buf_str(output));
    }
    if (i->tls == NULL && i->outbound.len == 0) {
        ph_buf_swap(&i->outbound, output);
    } else if (i->tls == NULL) {
        ph_buf_append(&i->outbound, ph_buf_str(output));
        ph_buf_clear(output);
    } else {
        struct ph_buf *encrypted = ph_tls_session_output(i->tls);

        if (!i->handshaking && output->len > 0) {
            (void)!ph_tls_session_write(i->tls, ph_buf_str(output));
            ph_buf_clear(output);
        }
        if (i->ending && !i->send_pending && i->outbound.len == 0 && !i->handshaking) {
            ph_tls_session_close(i->tls);
        }
        ph_buf_append(&i->outbound, ph_buf_str(encrypted));
        ph_buf_clear(encrypted);
    }
    if (!i->send_pending && i->outbound.len > 0) {
        ph_buf_swap(&i->sending, &i->outbound);
        ph_buf_clear(&i->outbound);
        slice = (struct iovec){.iov_base = i->sending.data, .iov_len = i->sending.len};
        i->send_pending = true;
        ph_io_send(i->socket, &i->send_op, &slice, 1);
    } else if (!i->send_pending && i->ending) {
        begin_close(i);
    }
}

static void on_sent(struct ph_op *op)
{
    struct ph_ingest *i = op->owner;

    i->send_pending = false;
    if (op->result < 0) {
        begin_close(i);
    } else if (i->ending && i->outbound.len == 0) {
        begin_close(i);
    } else {
        flush(i);
    }
}

static void on_timer(struct ph_timer *timer)
{
    struct ph_ingest *i = timer->owner;

    if (i->closing) {
        return;
    }
    if (i->tarpitting) {
        i->tarpitting = false;
        set_timer(i);
        process(i);
        flush(i);
    } else if (i->storing) {
        set_silence_timer(i); // it is us who are late
    } else if (i->handshaking || i->ending || i->send_pending) {
        begin_close(i);
    } else {
        ph_server_end(i->server, "4.4.2",
                      time_left_ms(i) == 0 ? "this connection has lasted long enough"
                                           : "nothing came for too long");
        set_silence_timer(i); // for a client that doesn't read it either
        process(i);
        flush(i);
    }
}

void ph_ingest_stop(struct ph_ingest *i)
{
    i->stop = true;
    i->tarpitting = false;
    process(i);
    flush(i);
}

void ph_ingest_abort(struct ph_ingest *i)
{
    begin_close(i);
}

// --- the end ---

static void free_if_over(struct ph_ingest *i)
{
    if (!i->closed || i->storing) {
        return;
    }
    ph_spool_writer_abandon(i->writer);
    ph_worker_ingest_remove(i->worker, i, i->connector, &i->peer);
    ph_server_destroy(i->server);
    ph_tls_session_destroy(i->tls);
    ph_buf_deinit(&i->inbound);
    ph_buf_deinit(&i->outbound);
    ph_buf_deinit(&i->sending);
    ph_buf_deinit(&i->extent);
    ph_config_release(i->config);
    free(i);
}

// Also what comes back after the close began: the object goes with the last of them.
static void begin_close(struct ph_ingest *i)
{
    if (!i->closing) {
        i->closing = true;
        log_protocol(i, PH_PROTOCOL_DISCONNECTED, PH_STR_NONE);
        ph_wheel_cancel(&i->worker->wheel, &i->timer);
        ph_io_close(i->socket, &i->close_op);
    } else {
        free_if_over(i);
    }
}

static void on_closed(struct ph_op *op)
{
    struct ph_ingest *i = op->owner;

    i->closed = true;
    free_if_over(i);
}

void ph_worker_ingest_add(struct ph_worker *worker, struct ph_ingest *i)
{
    TAILQ_INSERT_TAIL(&worker->ingests, i, link);
    PH_COUNT(worker, connections_in, 1);
}

void ph_worker_ingest_forget(struct ph_worker *worker, struct ph_ingest *i)
{
    TAILQ_REMOVE(&worker->ingests, i, link);
    PH_COUNT(worker, connections_in, -1);
}
