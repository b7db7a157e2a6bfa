// The conversation over one socket: bytes in and out, replies, messages.
#include <errno.h>
#include <string.h>

#include "engine/connection_parts.h"
#include "engine/delivery.h"

static void read_replies(struct ph_connection *c);
static void handle_event(struct ph_connection *c, enum ph_client_event event);
static void after_ehlo(struct ph_connection *c);
static void authenticate_or_open(struct ph_connection *c);
static void heed_reply(struct ph_connection *c, uint16_t code, const char *text);
static void open_session(struct ph_connection *c);
static void send_message(struct ph_connection *c, struct ph_dispatch *dispatch,
                         struct ph_clearance *take_clearance);

void ph_connection_greet(struct ph_connection *c)
{
    const struct ph_send_connector *connector = c->site->spec->connector;

    c->client = ph_client_create(&(struct ph_client_options){
        .session_id = c->session_id,
        .hostname = connector->fqdn,
        .force_helo = connector->force_helo,
    });
    ph_dialogue_begin(c);
    c->plain_facts = ph_tls_facts_plaintext(c->session_id, false);
    c->waiting_for = PH_CLIENT_WAIT_NONE;
}

// --- sending ---

static void send_plain(struct ph_connection *c)
{
    struct iovec slices[PH_SEND_IOV_MAX];
    int count = ph_client_output(c->client, slices, PH_SEND_IOV_MAX);
    uint64_t bytes = 0;

    for (int i = 0; i < count; i++) {
        bytes += slices[i].iov_len;
    }
    if (count > 0) {
        c->sending = true;
        c->sending_client_bytes = bytes;
        ph_client_handed(c->client, bytes);
        ph_io_send(c->socket, &c->send_op, slices, count);
    }
}

// One record for many small slices: a record costs more than a copy.
static enum ph_tls_result encrypt_slices(struct ph_connection *c, const struct iovec *slices,
                                         int count, uint64_t *out_taken)
{
    char gathered[16384]; // a record's most, RFC 8446 §5.1
    size_t gathered_len = 0;
    enum ph_tls_result result = PH_TLS_OK;

    *out_taken = 0;
    for (int i = 0; i < count && result == PH_TLS_OK; i++) {
        struct ph_str plain = {.data = slices[i].iov_base, .len = slices[i].iov_len};

        *out_taken += plain.len;
        while (plain.len > 0 && result == PH_TLS_OK) {
            struct ph_str part = ph_str_first(plain, sizeof(gathered) - gathered_len);

            memcpy(gathered + gathered_len, part.data, part.len);
            gathered_len += part.len;
            plain = ph_str_after(plain, part.len);
            if (gathered_len == sizeof(gathered)) {
                result = ph_tls_session_write(
                    c->tls, (struct ph_str){.data = gathered, .len = gathered_len});
                gathered_len = 0;
            }
        }
    }
    if (gathered_len > 0 && result == PH_TLS_OK) {
        result =
            ph_tls_session_write(c->tls, (struct ph_str){.data = gathered, .len = gathered_len});
    }
    return result;
}

// TLS has the stream, and nothing may be said over it yet.
static bool before_ehlo_again(const struct ph_connection *c)
{
    return c->state == PH_CONNECTION_HANDSHAKE || c->state == PH_CONNECTION_VERIFY;
}

static void send_encrypted(struct ph_connection *c)
{
    struct ph_buf *output = ph_tls_session_output(c->tls);
    bool more = !before_ehlo_again(c);

    while (more && output->len < PH_CONNECTION_SEND_BYTES_MAX) {
        struct iovec slices[PH_SEND_IOV_MAX];
        int count = ph_client_output(c->client, slices, PH_SEND_IOV_MAX);
        uint64_t taken;

        if (encrypt_slices(c, slices, count, &taken) != PH_TLS_OK) {
            struct ph_reason reason =
                ph_reason_make(PH_REASON_PEER_CLOSED, "%s (%s): TLS failed while sending: %s",
                               c->host->name, c->address, ph_tls_session_failure(c->tls));

            ph_client_sent(c->client, taken);
            ph_connection_broken(c, &reason);
            return;
        }
        // Counted as sent when it is encrypted: from here on only the network decides.
        ph_client_sent(c->client, taken);
        more = taken > 0;
    }
    if (output->len > 0) {
        struct iovec slice;

        ph_buf_swap(&c->ciphertext, output);
        ph_buf_clear(output);
        slice = (struct iovec){.iov_base = c->ciphertext.data, .iov_len = c->ciphertext.len};
        c->sending = true;
        ph_io_send(c->socket, &c->send_op, &slice, 1);
    }
}

void ph_connection_on_sent(struct ph_op *op)
{
    struct ph_connection *c = op->owner;

    c->sending = false;
    if (c->sending_client_bytes > 0 && ph_client_state(c->client) != PH_CLIENT_ENDED) {
        ph_client_sent(c->client, c->sending_client_bytes);
    }
    c->sending_client_bytes = 0;
    if (op->result < 0) {
        struct ph_reason reason =
            ph_reason_make(PH_REASON_PEER_CLOSED, "%s (%s): sending failed: %s", c->host->name,
                           c->address, strerror((int)-op->result));

        // The peer may have said why before it closed (421, an alert): that tells more.
        read_replies(c);
        ph_connection_broken(c, &reason);
    }
    ph_connection_settle(c);
}

// A session with nothing under way holds no buffers: most sessions to most sites are so, most of
// the time.
static void shed_when_idle(struct ph_connection *c)
{
    if (ph_connection_idle(c) && !c->sending && c->inbound.len == 0) {
        ph_client_shed(c->client);
        ph_buf_deinit(&c->ciphertext);
        ph_buf_deinit(&c->inbound);
        if (c->tls != NULL) {
            ph_tls_session_shed(c->tls);
        }
    }
}

void ph_connection_settle(struct ph_connection *c)
{
    if (!c->close_requested && c->client != NULL && !c->sending) {
        if (c->tls != NULL) {
            send_encrypted(c);
        } else {
            send_plain(c);
        }
    }
    if (c->close_requested) {
        if (c->socket != NULL && !c->close_issued) {
            c->close_issued = true;
            ph_io_close(c->socket, &c->close_op);
        }
    } else if (c->client != NULL && !before_ehlo_again(c)) {
        ph_connection_arm_deadline(c, false);
        shed_when_idle(c);
    }
}

// --- receiving ---

static void peer_ended(struct ph_connection *c, const char *how)
{
    struct ph_reason reason;
    bool idle = c->state == PH_CONNECTION_OPEN && ph_client_outstanding(c->client) == 0;

    if (c->close_requested) {
        return;
    }
    if (idle || c->state == PH_CONNECTION_QUIT) {
        ph_connection_request_close(c, PH_CONNECTION_THEN_END);
    } else {
        reason =
            ph_reason_make(PH_REASON_PEER_CLOSED, "%s (%s) %s", c->host->name, c->address, how);
        ph_connection_broken(c, &reason);
    }
}

// What TLS has deciphered, as far as it is wanted.
static void read_tls(struct ph_connection *c)
{
    enum ph_tls_result result = PH_TLS_OK;

    if (c->state == PH_CONNECTION_HANDSHAKE) {
        ph_connection_handshake(c);
    }
    while (!c->close_requested && !before_ehlo_again(c) && result == PH_TLS_OK) {
        result = ph_tls_session_read(c->tls, &c->inbound, PH_CONNECTION_READ_BYTES_MAX);
        read_replies(c);
    }
    if (result == PH_TLS_FAILED && !c->close_requested) {
        struct ph_reason reason =
            ph_reason_make(PH_REASON_PEER_CLOSED, "%s (%s): TLS failed: %s", c->host->name,
                           c->address, ph_tls_session_failure(c->tls));

        ph_connection_broken(c, &reason);
    } else if (result == PH_TLS_CLOSED) {
        peer_ended(c, "closed the TLS session");
    }
}

void ph_connection_on_received(struct ph_op *op)
{
    struct ph_connection *c = op->owner;
    enum ph_recv_result result = PH_RECV_DATA;
    struct ph_str slice;

    while (!c->close_requested && result == PH_RECV_DATA) {
        result = ph_io_recv_next(c->socket, &slice);
        switch (result) {
        case PH_RECV_DATA:
            if (c->tls != NULL) {
                ph_tls_session_feed(c->tls, slice);
                ph_io_recv_release(c->socket);
                read_tls(c);
            } else {
                ph_buf_append(&c->inbound, slice);
                ph_io_recv_release(c->socket);
                read_replies(c);
            }
            break;
        case PH_RECV_NONE:
            break;
        case PH_RECV_EOF:
            peer_ended(c, "closed the connection");
            break;
        case PH_RECV_ERROR:
            peer_ended(c,
                       op->result == -ECONNRESET ? "reset the connection" : "broke the connection");
            break;
        }
    }
    if (!c->close_requested && c->state == PH_CONNECTION_OPEN) {
        ph_connection_fill(c);
    }
    ph_connection_settle(c);
}

static void read_replies(struct ph_connection *c)
{
    enum ph_client_event event = PH_CLIENT_EVENT_READY;

    while (!c->close_requested && c->inbound.len > 0 && event != PH_CLIENT_EVENT_MORE) {
        struct ph_str input = ph_buf_str(&c->inbound);
        size_t before = input.len;
        uint64_t replies = ph_client_reply_count(c->client);

        c->reading = true;
        event = ph_client_feed(c->client, &input);
        c->reading = false;
        ph_dialogue_received(c, ph_str_first(ph_buf_str(&c->inbound), before - input.len));
        ph_buf_consume(&c->inbound, before - input.len);
        handle_event(c, event);
        if (!c->close_requested && c->state != PH_CONNECTION_HANDSHAKE) {
            // A part of a reply is none: a host that drips has no more time than one that is
            // silent.
            ph_connection_arm_deadline(c, ph_client_reply_count(c->client) > replies);
        }
    }
    if (c->inbound.overflow && !c->close_requested) {
        struct ph_reason reason =
            ph_reason_make(PH_REASON_PEER_PROTOCOL, "%s (%s) sends replies without end",
                           c->host->name, c->address);

        ph_connection_broken(c, &reason);
    }
}

static void handle_event(struct ph_connection *c, enum ph_client_event event)
{
    const struct ph_reply *reply = ph_client_last_reply(c->client);
    struct ph_reason reason;

    switch (event) {
    case PH_CLIENT_EVENT_MORE:
        if (c->state == PH_CONNECTION_GREETING && ph_client_state(c->client) == PH_CLIENT_EHLO) {
            c->state = PH_CONNECTION_EHLO;
        }
        break;
    case PH_CLIENT_EVENT_READY:
        if (c->state == PH_CONNECTION_EHLO_AGAIN) {
            authenticate_or_open(c);
        } else {
            after_ehlo(c);
        }
        break;
    case PH_CLIENT_EVENT_STARTTLS_READY:
        ph_connection_begin_handshake(c);
        break;
    case PH_CLIENT_EVENT_STARTTLS_REFUSED:
        reason = ph_reason_make(PH_REASON_STARTTLS_REFUSED,
                                "%s (%s) offered STARTTLS and refused it: %u", c->host->name,
                                c->address, reply->code);
        ph_connection_report_failure(c, PH_REASON_STARTTLS_REFUSED);
        if (!ph_tls_policy_forces(c->opened_for->policy) &&
            ph_gate_dane_applies(c->opened_for->policy, &c->tlsa)) {
            reason = ph_reason_make(PH_REASON_DANE_NO_TLS,
                                    "%s publishes TLSA records, which demand TLS; it offered "
                                    "STARTTLS and refused it: %u",
                                    c->host->name, reply->code);
        }
        if (ph_connection_demands_tls(c) ||
            c->opened_for->policy->fallback != PH_TLS_FALLBACK_PLAINTEXT) {
            ph_connection_address_failed(c, &reason, "starttls");
        } else {
            PH_COUNT(c->worker, fallbacks_plaintext, 1);
            authenticate_or_open(c);
        }
        break;
    case PH_CLIENT_EVENT_AUTH_OK:
        open_session(c);
        break;
    case PH_CLIENT_EVENT_AUTH_REFUSED:
        reason = ph_reason_make(PH_REASON_AUTH_FAILED,
                                "%s (%s) refused the credentials of connector %.*s: %u; check "
                                "AuthenticationCredential",
                                c->host->name, c->address, PH_STR_ARG(c->opened_for->connector),
                                reply->code);
        ph_connection_address_failed(c, &reason, "auth");
        break;
    case PH_CLIENT_EVENT_TRANSACTION_DONE:
        ph_connection_finish_done(c);
        break;
    case PH_CLIENT_EVENT_ENDED:
        reason = *ph_client_end_reason(c->client);
        c->limited |= reply->code == 421;
        if (reply->code >= 400) {
            char text[PH_CLIENT_REPLY_TEXT_MAX];

            ph_str_copy(text, sizeof(text), ph_str_trim(ph_buf_str(&reply->text)));
            heed_reply(c, reply->code, text);
        }
        // Their results are taken when the socket is closed: until then it may borrow the bodies.
        if (c->state == PH_CONNECTION_QUIT || reason.kind == PH_REASON_NONE) {
            ph_connection_request_close(c, PH_CONNECTION_THEN_END);
        } else {
            ph_connection_broken(c, &reason);
        }
        break;
    }
}

// --- from the first EHLO to an open session ---

static void after_ehlo(struct ph_connection *c)
{
    const struct ph_tls_policy *policy = c->opened_for->policy;
    bool offered = ph_client_ehlo(c->client)->starttls;
    struct ph_reason reason;

    c->plain_facts.starttls_offered = offered;
    if (offered && !c->plaintext_only &&
        (policy->level != PH_TLS_NEVER || ph_connection_demands_tls(c))) {
        c->state = PH_CONNECTION_STARTTLS;
        ph_client_starttls(c->client);
        return;
    }
    if (!offered) {
        ph_connection_note_prospect(c, &c->plain_facts);
        ph_connection_report_failure(c, PH_REASON_TLS_NOT_OFFERED);
    }
    if (!ph_connection_acceptable(c, &c->plain_facts, &reason)) {
        ph_connection_address_failed(c, &reason, "starttls");
    } else {
        authenticate_or_open(c);
    }
}

static void authenticate_or_open(struct ph_connection *c)
{
    const struct ph_send_connector *connector = c->site->spec->connector;
    bool wanted = connector->smart_host_auth == PH_SMART_HOST_AUTH_BASIC ||
                  connector->smart_host_auth == PH_SMART_HOST_AUTH_BASIC_REQUIRE_TLS;
    struct ph_gate_subject subject;
    struct ph_clearance *clearance;
    struct ph_reason reason;

    if (!wanted) {
        open_session(c);
        return;
    }
    c->state = PH_CONNECTION_AUTH;
    subject = ph_connection_subject(c, c->opened_for, ph_connection_facts(c));
    if (ph_gate_judge(c->opened_for->policy, &subject, PH_CLEARANCE_CREDENTIALS, &clearance,
                      &reason) == PH_GATE_REFUSED) {
        ph_connection_address_failed(c, &reason, "auth");
    } else if (!ph_client_send_auth(c->client, clearance, connector->auth_user,
                                    connector->auth_password)) {
        reason = ph_reason_make(PH_REASON_AUTH_NOT_OFFERED,
                                "connector %.*s authenticates; %s (%s) offers neither PLAIN nor "
                                "LOGIN",
                                PH_STR_ARG(c->opened_for->connector), c->host->name, c->address);
        ph_connection_address_failed(c, &reason, "auth");
    }
}

// The session could carry the message; it goes no further, and the next address is tried.
static void end_trial(struct ph_connection *c, struct ph_clearance *take_clearance)
{
    ph_clearance_destroy(take_clearance);
    ph_connection_report_trial(c, NULL, "mail");
    c->quits_for_next = true;
    ph_connection_quit(c);
}

static void open_session(struct ph_connection *c)
{
    struct ph_dispatch *dispatch = c->opened_for;
    struct ph_clearance *clearance;
    struct ph_reason reason;

    c->state = PH_CONNECTION_OPEN;
    if (ph_connection_judge(c, dispatch, &clearance, &reason) == PH_GATE_REFUSED) {
        ph_connection_address_failed(c, &reason, "verify");
        return;
    }
    if (ph_engine_only_tries(c->worker->engine)) {
        end_trial(c, clearance);
        return;
    }
    c->note = ph_connection_note_create(c);
    c->usable = true;
    ph_dialogue_opened(c);
    c->opened_for = NULL;
    c->refused_by_policy = false;
    ph_connection_drop_plan(c);
    PH_COUNT(c->worker, sessions_opened, 1);
    ph_site_connection_usable(c->site);
    send_message(c, dispatch, clearance);
}

// --- messages ---

static const char *unfit_remedy(enum ph_reason_kind kind)
{
    const char *what = "cannot take this message";

    if (kind == PH_REASON_SIZE_EXCEEDED) {
        what = "announces a SIZE smaller than this message";
    } else if (kind == PH_REASON_SMTPUTF8_UNSUPPORTED) {
        what = "lacks SMTPUTF8, which this message needs";
    } else if (kind == PH_REASON_EIGHTBIT_UNSUPPORTED) {
        what = "lacks 8BITMIME, which this message needs";
    }
    return what;
}

static void send_message(struct ph_connection *c, struct ph_dispatch *dispatch,
                         struct ph_clearance *take_clearance)
{
    enum ph_reason_kind unfit = ph_client_unfit(c->client, &dispatch->transaction);
    struct ph_gate_subject subject;

    ph_session_note_retain(c->note);
    ph_session_note_release(dispatch->note); // of an address that would not do
    dispatch->note = c->note;
    if (unfit != PH_REASON_NONE) {
        ph_clearance_destroy(take_clearance);
        dispatch->result = PH_DISPATCH_UNFIT;
        dispatch->reason =
            ph_reason_make(unfit, "%s (%s) %s", c->host->name, c->address, unfit_remedy(unfit));
        ph_site_message_over(c->site, dispatch);
        ph_delivery_finish(c->worker, dispatch);
        return;
    }
    subject = ph_connection_subject(c, dispatch, ph_connection_facts(c));
    dispatch->verified_by = ph_gate_verified_by(dispatch->policy, &subject);
    dispatch->step = "mail";
    dispatch->proof = ph_connection_proof(c, dispatch);
    ph_connection_note_would_defer(c, dispatch);
    dispatch->attempt_ms = ph_worker_now_ms(c->worker);
    dispatch->reused_session = c->messages_sent > 0;
    dispatch->peer_dsn = ph_client_ehlo(c->client)->dsn;
    if (dispatch->reused_session) {
        PH_COUNT(c->worker, sessions_reused, 1);
    }
    c->messages_sent++;
    c->doubtful |= dispatch->ambiguous;
    ph_client_send_envelope(c->client, take_clearance, &dispatch->transaction);
}

void ph_connection_fill(struct ph_connection *c)
{
    const struct ph_site *site = c->site;
    uint32_t outstanding;
    uint32_t depth;

    if (c->close_requested || c->state != PH_CONNECTION_OPEN) {
        return;
    }
    depth = ph_client_depth(c->client, site->shallow_until_ms > ph_worker_now_ms(c->worker)
                                           ? 1
                                           : site->spec->limits.pipeline_depth);
    outstanding = ph_client_outstanding(c->client);
    // What is sent in two parts is answered in two, and from then on always is.
    if (outstanding < depth && ph_site_more_soon(site, depth - outstanding)) {
        depth = outstanding;
    }
    while (ph_connection_usable(c) && !c->doubtful && ph_client_outstanding(c->client) < depth) {
        struct ph_clearance *clearance;
        struct ph_dispatch *dispatch = ph_site_draw(c->site, c, &clearance);

        if (dispatch == NULL) {
            break;
        }
        send_message(c, dispatch, clearance);
    }
    if (ph_connection_idle(c) && (!ph_connection_usable(c) || ph_site_makes_room(site))) {
        ph_connection_quit(c);
    }
}

void ph_connection_pump(struct ph_connection *c)
{
    ph_connection_fill(c);
    ph_connection_settle(c);
}

static bool answered(const struct ph_dispatch *dispatch)
{
    bool any = false;

    for (uint32_t i = 0; i < dispatch->recipient_count; i++) {
        enum ph_recipient_outcome outcome = dispatch->recipients[i].outcome;

        any |= outcome == PH_RECIPIENT_DELIVERED || outcome == PH_RECIPIENT_REFUSED;
    }
    return any;
}

// BackoffOn: a reply that says to slow down.
static void heed_reply(struct ph_connection *c, uint16_t code, const char *text)
{
    const struct ph_limits *limits = &c->site->spec->limits;

    if (ph_reply_pattern_matches(limits->backoff_on, limits->backoff_on_count, code, text)) {
        struct ph_reason reason = ph_reason_make(
            PH_REASON_SITE_SLOWED, "%s (%s) answered %u %s, which BackoffOn lists: the site rests",
            c->host->name, c->address, code, text);

        c->limited = true;
        c->retiring = true;
        ph_site_slow(c->site, &reason);
    }
}

void ph_connection_finish_done(struct ph_connection *c)
{
    struct ph_client_transaction *transaction;

    while ((transaction = ph_client_take_done(c->client)) != NULL) {
        struct ph_dispatch *dispatch = transaction->owner;

        dispatch->result = PH_DISPATCH_DONE;
        if (ph_client_state(c->client) == PH_CLIENT_ENDED) {
            dispatch->reason = *ph_client_end_reason(c->client);
        }
        if (answered(dispatch)) {
            c->messages_done++;
            c->site->delivered_count++;
        }
        dispatch->attempt_ms = ph_worker_now_ms(c->worker) - dispatch->attempt_ms;
        for (uint32_t i = 0; i < dispatch->recipient_count; i++) {
            if (dispatch->recipients[i].outcome == PH_RECIPIENT_REFUSED) {
                heed_reply(c, dispatch->recipients[i].code, dispatch->recipients[i].text);
            }
        }
        c->doubtful &= !dispatch->ambiguous;
        ph_site_message_over(c->site, dispatch);
        ph_delivery_finish(c->worker, dispatch);
    }
    if (ph_client_bdat_unsafe(c->client)) {
        c->site->shallow_until_ms = ph_worker_now_ms(c->worker) + PH_SITE_SHALLOW_MS;
    }
}
