// The conversation over one socket: bytes in and out, STARTTLS, the gate, messages.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/connection_parts.h"
#include "engine/delivery.h"
#include "engine/revocation.h"
#include "engine/trial.h"
#include "tls/crls.h"
#include "tls/verify.h"

#define PH_RESUMPTION_KEY_MAX 600 // sending identity, host, port and server name as text

static void read_replies(struct ph_connection *c);
static void handle_event(struct ph_connection *c, enum ph_client_event event);
static void after_ehlo(struct ph_connection *c);
static void begin_handshake(struct ph_connection *c);
static void go_on_with_handshake(struct ph_connection *c);
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

// --- the gate ---

static uint64_t thread_cpu_ns(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); // for the metrics alone: decides nothing
    return (uint64_t)now.tv_sec * (1000 * PH_NS_PER_MS) + (uint64_t)now.tv_nsec;
}

// The lists it was made with are noted at the connection: its session ends with them.
static const struct ph_chain_verdict *
verify_chain(struct ph_connection *c, const struct ph_chain *chain, const struct ph_trust *trust)
{
    struct ph_worker *worker = c->worker;
    const struct ph_crls *crls = ph_tls_context_crls(worker->tls);
    const struct ph_chain_verdict *verdict =
        ph_verify_cached(worker->tls, chain, trust, ph_worker_wall_ms(worker));

    if (verdict == NULL) {
        uint64_t began_ns = thread_cpu_ns(); // a system call: not for each message

        verdict = ph_verify_chain(worker->tls, chain, trust, ph_worker_wall_ms(worker));
        PH_COUNT(worker, verify_cpu_ns, thread_cpu_ns() - began_ns);
    }
    if (ph_crls_changed_since(crls, &c->lists)) {
        c->lists = (struct ph_crls_asked){0};
    }
    ph_crls_ask(&c->lists, crls, &verdict->crl_issuers);
    return verdict;
}

// The verdict on this chain by the host's TLSA records; made anew for another chain, or when a date
// in it has come.
static const struct ph_dane_verdict *dane_verdict(struct ph_connection *c,
                                                  const struct ph_chain *chain, uint64_t wall_ms)
{
    struct ph_dane_verdict *verdict = c->dane_verdict;

    if (verdict == NULL) {
        verdict = c->dane_verdict = ph_alloc(sizeof(*verdict));
    }
    if (memcmp(verdict->chain_hash, chain->hash, PH_SHA256_BYTES) != 0 ||
        (int64_t)(wall_ms / 1000) >= verdict->valid_until_s) {
        ph_dane_verify(chain, &c->tlsa, wall_ms, verdict);
    }
    return verdict;
}

static struct ph_gate_subject subject_by(struct ph_connection *c,
                                         const struct ph_dispatch *dispatch,
                                         const struct ph_tls_policy *policy,
                                         const struct ph_tls_facts *facts)
{
    struct ph_gate_subject subject = {
        .facts = facts,
        .tlsa = &c->tlsa,
        .connector = dispatch->connector,
        .recipient_domain = dispatch->domain,
        .host = c->host->is_literal ? PH_STR_NONE : ph_str_from(c->host->name),
        .address = ph_str_from(c->address),
        .wall_ms = ph_worker_wall_ms(c->worker),
    };

    if (facts == NULL) {
        return subject;
    }
    if (facts->chain != NULL && c->tlsa.status == PH_TLSA_USABLE) {
        subject.dane = dane_verdict(c, facts->chain, subject.wall_ms);
    }
    if (facts->chain != NULL && policy->trust != NULL && ph_tls_policy_wants_verdict(policy)) {
        subject.verdict = verify_chain(c, facts->chain, policy->trust);
    }
    if (c->state == PH_CONNECTION_EHLO_AGAIN || c->state == PH_CONNECTION_AUTH ||
        c->state == PH_CONNECTION_OPEN) {
        subject.peer_offers_requiretls = ph_client_ehlo(c->client)->requiretls;
    }
    return subject;
}

struct ph_gate_subject ph_connection_subject(struct ph_connection *c,
                                             const struct ph_dispatch *dispatch,
                                             const struct ph_tls_facts *facts)
{
    return subject_by(c, dispatch, dispatch->policy, facts);
}

static const struct ph_tls_facts *facts_of(const struct ph_connection *c)
{
    return c->tls != NULL ? ph_tls_session_facts(c->tls) : &c->plain_facts;
}

const struct ph_tls_facts *ph_connection_known_facts(const struct ph_connection *c)
{
    return c->tls != NULL && ph_tls_session_complete(c->tls) ? ph_tls_session_facts(c->tls)
                                                             : &c->plain_facts;
}

struct ph_session_proof ph_connection_proof(struct ph_connection *c,
                                            const struct ph_dispatch *dispatch)
{
    const struct ph_tls_facts *facts = ph_connection_known_facts(c);
    struct ph_session_proof proof = {.dane = c->tlsa.status};

    if (facts->chain != NULL && dispatch->policy->trust != NULL) {
        const struct ph_chain_verdict *verdict =
            verify_chain(c, facts->chain, dispatch->policy->trust);

        proof.chain_judged = true;
        proof.chain = verdict->kind;
        proof.revocation = verdict->revocation;
    }
    return proof;
}

// Mode = report: what would the whole setting have said of this session?
static void note_report(struct ph_connection *c, struct ph_dispatch *dispatch)
{
    struct ph_tls_policy whole = *dispatch->policy;
    const struct ph_tls_facts *facts = facts_of(c);
    struct ph_gate_subject subject;
    struct ph_reason reason;

    if (!whole.report) {
        return;
    }
    whole.report = false;
    subject = subject_by(c, dispatch, &whole, facts);
    PH_COUNT(c->worker, report_messages, 1);
    if (ph_gate_judge_session(&whole, &subject, &reason) == PH_GATE_REFUSED) {
        if (c->plaintext_only && reason.kind == PH_REASON_STARTTLS_REFUSED) {
            // This session is the one after the handshake that failed.
            reason = ph_reason_make(PH_REASON_TLS_HANDSHAKE_FAILED,
                                    "connector %.*s demands TLS; the TLS handshake with %s (%s) "
                                    "failed, and Mode = report let the mail go in the clear",
                                    PH_STR_ARG(dispatch->connector), c->host->name, c->address);
        }
        free(dispatch->would_defer);
        dispatch->would_defer = ph_alloc(sizeof(reason));
        *dispatch->would_defer = reason;
        PH_COUNT(c->worker, would_defer[reason.kind], 1);
    }
}

enum ph_gate_result ph_connection_judge(struct ph_connection *c, struct ph_dispatch *dispatch,
                                        struct ph_clearance **out_clearance,
                                        struct ph_reason *out_reason)
{
    const struct ph_tls_facts *facts = facts_of(c);
    struct ph_gate_subject subject;

    ph_hops_face(dispatch, c->host->name, ph_worker_wall_ms(c->worker));
    subject = ph_connection_subject(c, dispatch, facts);
    // A session that went on in the clear after a failed handshake is for those who allow that.
    if (!facts->encrypted && facts->starttls_offered && dispatch->policy->level != PH_TLS_NEVER &&
        dispatch->policy->fallback == PH_TLS_FALLBACK_DEFER) {
        *out_reason = ph_reason_make(
            PH_REASON_STARTTLS_REFUSED,
            "connector %.*s has OpportunisticFallback = defer; %s (%s) offered STARTTLS, but the "
            "session is not encrypted",
            PH_STR_ARG(dispatch->connector), c->host->name, c->address);
        return PH_GATE_REFUSED;
    }
    return ph_gate_judge(dispatch->policy, &subject, PH_CLEARANCE_ENVELOPE, out_clearance,
                         out_reason);
}

static bool session_acceptable(struct ph_connection *c, const struct ph_tls_facts *facts,
                               struct ph_reason *out_reason)
{
    struct ph_gate_subject subject = ph_connection_subject(c, c->opened_for, facts);

    return ph_gate_judge_session(c->opened_for->policy, &subject, out_reason) == PH_GATE_CLEARED;
}

// A ticket is offered only where the facts behind it would be accepted today.
static bool ticket_acceptable(void *owner, const struct ph_tls_facts *facts)
{
    struct ph_reason unused;

    return session_acceptable(owner, facts, &unused);
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
        struct ph_buf swapped = c->ciphertext;
        struct iovec slice;

        c->ciphertext = *output;
        *output = swapped;
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

static void handshake_failed(struct ph_connection *c)
{
    struct ph_reason reason =
        ph_reason_make(PH_REASON_TLS_HANDSHAKE_FAILED, "the TLS handshake with %s (%s) failed: %s",
                       c->host->name, c->address, ph_tls_session_failure(c->tls));

    ph_connection_broken(c, &reason);
}

// What TLS has deciphered, as far as it is wanted.
static void read_tls(struct ph_connection *c)
{
    enum ph_tls_result result = PH_TLS_OK;

    if (c->state == PH_CONNECTION_HANDSHAKE) {
        go_on_with_handshake(c);
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
        begin_handshake(c);
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

static void note_prospect(struct ph_connection *c, const struct ph_tls_facts *facts)
{
    ph_prospects_note(c->site, (size_t)(c->host - c->site->spec->hosts), facts);
}

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
        note_prospect(c, &c->plain_facts);
        ph_connection_report_failure(c, PH_REASON_TLS_NOT_OFFERED);
    }
    if (!session_acceptable(c, &c->plain_facts, &reason)) {
        ph_connection_address_failed(c, &reason, "starttls");
    } else {
        authenticate_or_open(c);
    }
}

// What the handshake asks for: the host, or where its TLSA records were found (RFC 7672 §8.1).
static struct ph_str server_name(const struct ph_connection *c)
{
    if (c->host->is_literal) {
        return PH_STR_NONE;
    }
    return ph_str_from(ph_gate_dane_applies(c->opened_for->policy, &c->tlsa) ? c->tlsa.base_domain
                                                                             : c->host->name);
}

static void begin_handshake(struct ph_connection *c)
{
    const struct ph_send_connector *connector = c->site->spec->connector;
    const struct ph_tls_policy *policy = c->opened_for->policy;
    struct ph_flight flight = ph_flights_of(c->worker, &c->endpoint);
    char key[PH_RESUMPTION_KEY_MAX];
    int key_len = snprintf(key, sizeof(key), "%016llx %s %u %.*s",
                           (unsigned long long)connector->sending_identity, c->host->name,
                           c->endpoint.port, PH_STR_ARG(server_name(c)));

    c->state = PH_CONNECTION_HANDSHAKE;
    c->handshake_began_ns = c->worker->io->now_ns;
    c->small_hello = flight.small;
    c->tls = ph_tls_session_connect(c->worker->tls,
                                    &(struct ph_tls_client_options){
                                        .session_id = c->session_id,
                                        .sni = server_name(c),
                                        .resumption_key = {.data = key, .len = (size_t)key_len},
                                        .identity = connector->identity,
                                        .version_min = policy->version_min,
                                        .groups = connector->tls_groups,
                                        .key_share = flight.key_share,
                                        .small_hello = flight.small,
                                        .ticket_acceptable = ticket_acceptable,
                                        .owner = c,
                                    });
    ph_connection_set_timer(c, connector->timeouts.tls_ms);
    go_on_with_handshake(c);
}

static void note_full_handshake(struct ph_connection *c, const struct ph_tls_facts *facts)
{
    const struct ph_dispatch *dispatch = c->opened_for;
    uint64_t verified = ph_verify_stats(c->worker->tls).full;
    struct ph_session_proof proof = ph_connection_proof(c, dispatch);

    PH_COUNT(c->worker, handshakes_full, 1);
    if (proof.chain_judged && ph_verify_stats(c->worker->tls).full == verified) {
        PH_COUNT(c->worker, handshakes_chain_cached, 1);
    }
    if (facts->chain != NULL) {
        ph_peers_seen(c->worker, c->host->name, dispatch, facts->chain,
                      ph_tls_policy_needs_chain(dispatch->policy) && proof.chain_judged &&
                          proof.chain == PH_REASON_NONE);
    }
}

// A good chain of which nothing is known yet but where to ask.
static bool lacks_revocation(struct ph_connection *c, const struct ph_tls_facts *facts)
{
    const struct ph_tls_policy *policy = c->opened_for->policy;
    const struct ph_chain_verdict *verdict;

    if (facts->chain == NULL || policy->trust == NULL || !ph_tls_policy_needs_chain(policy) ||
        !ph_trust_fetches(policy->trust)) {
        return false;
    }
    verdict = verify_chain(c, facts->chain, policy->trust);
    return verdict->kind == PH_REASON_NONE && verdict->revocation == PH_REVOCATION_UNKNOWN;
}

static void go_on_with_handshake(struct ph_connection *c)
{
    struct ph_tls_facts *facts;

    switch (ph_tls_session_handshake(c->tls)) {
    case PH_TLS_MORE:
        return;
    case PH_TLS_CLOSED:
    case PH_TLS_FAILED:
        handshake_failed(c);
        return;
    case PH_TLS_OK:
        break;
    }
    facts = ph_tls_session_facts(c->tls);
    facts->starttls_offered = true;
    facts->handshake_us = (c->worker->io->now_ns - c->handshake_began_ns) / 1000;
    ph_flights_succeeded(c->worker, &c->endpoint, facts);
    if (facts->handshake == PH_HANDSHAKE_RESUMED) {
        PH_COUNT(c->worker, handshakes_resumed, 1);
    } else {
        note_full_handshake(c, facts);
    }
    ph_dialogue_note(c, "%s %s%s%s%s%s%s, certificate %s, issued by %s",
                     ph_tls_version_name(facts->version), facts->cipher,
                     facts->group[0] != '\0' ? " " : "", facts->group,
                     facts->hello_retried ? " (it asked for that group)" : "",
                     facts->handshake == PH_HANDSHAKE_RESUMED ? ", resumed" : "",
                     facts->client_certificate_requested ? ", asks for ours" : "",
                     facts->chain != NULL ? facts->chain->subject : "none",
                     facts->chain != NULL ? facts->chain->issuer : "nobody");
    c->state = PH_CONNECTION_VERIFY;
    if (lacks_revocation(c, facts)) {
        c->revocation_ticket =
            ph_revocation_ask(c->worker, facts->chain, c->opened_for->policy->trust);
        TAILQ_INSERT_TAIL(&c->worker->revocation_waiting, c, revocation_link);
        ph_connection_set_timer(c, PH_CONNECTION_VERIFY_MS);
    } else {
        ph_connection_verify(c);
    }
}

void ph_connection_stop_waiting(struct ph_connection *c)
{
    if (c->revocation_ticket != 0) {
        TAILQ_REMOVE(&c->worker->revocation_waiting, c, revocation_link);
        c->revocation_ticket = 0;
    }
}

void ph_connection_verify(struct ph_connection *c)
{
    struct ph_reason reason;

    ph_connection_stop_waiting(c);
    note_prospect(c, facts_of(c));
    ph_connection_report(c, facts_of(c));
    if (!session_acceptable(c, facts_of(c), &reason)) {
        ph_connection_address_failed(c, &reason, "verify");
        return;
    }
    c->state = PH_CONNECTION_EHLO_AGAIN;
    ph_client_tls_established(c->client);
    ph_connection_arm_deadline(c, true);
}

void ph_connection_revocation_settled(struct ph_worker *worker, uint64_t ticket)
{
    struct ph_connection *c;

    TAILQ_FOREACH(c, &worker->revocation_waiting, revocation_link)
    {
        if (c->revocation_ticket == ticket) {
            ph_connection_verify(c);
            ph_connection_settle(c);
            return;
        }
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
    subject = ph_connection_subject(c, c->opened_for, facts_of(c));
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

void ph_connection_report_trial(struct ph_connection *c, const struct ph_reason *reason,
                                const char *step)
{
    const struct ph_dispatch *dispatch = c->opened_for;
    struct ph_tls_policy strict = *dispatch->policy;
    struct ph_session_note *note = ph_connection_note_create(c);
    struct ph_gate_subject subject;

    strict.level = PH_TLS_DOMAIN_VALIDATION;
    strict.report = false;
    subject = subject_by(c, dispatch, &strict, ph_connection_known_facts(c));
    ph_engine_report_trial(c->worker->engine, &(struct ph_trial){.reason = reason,
                                                                 .step = step,
                                                                 .note = note,
                                                                 .policy = dispatch->policy,
                                                                 .subject = &subject});
    ph_session_note_release(note);
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
    subject = ph_connection_subject(c, dispatch, facts_of(c));
    dispatch->verified_by = ph_gate_verified_by(dispatch->policy, &subject);
    dispatch->step = "mail";
    dispatch->proof = ph_connection_proof(c, dispatch);
    note_report(c, dispatch);
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
    uint32_t depth;

    if (c->close_requested || c->state != PH_CONNECTION_OPEN) {
        return;
    }
    depth = ph_client_depth(c->client, site->shallow_until_ms > ph_worker_now_ms(c->worker)
                                           ? 1
                                           : site->spec->limits.pipeline_depth);
    while (ph_connection_usable(c) && !c->doubtful && ph_client_outstanding(c->client) < depth) {
        struct ph_clearance *clearance;
        struct ph_dispatch *dispatch = ph_site_draw(c->site, c, &clearance);

        if (dispatch == NULL) {
            break;
        }
        send_message(c, dispatch, clearance);
    }
    if (!ph_connection_usable(c) && ph_connection_idle(c)) {
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
