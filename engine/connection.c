// One attempt's way to a host: addresses in order, the socket, deadlines, and how it ends.
#include "engine/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/connection_parts.h"
#include "engine/delivery.h"
#include "engine/delivery_log.h"
#include "tls/crls.h"

static void resolve_next_host(struct ph_connection *c);
static void try_next_address(struct ph_connection *c);
static void start_connect(struct ph_connection *c);
static void on_lookup(struct ph_op *op);
static void on_dane_lookup(struct ph_op *op);
static void host_known(struct ph_connection *c);
static void on_connected(struct ph_op *op);
static void on_closed(struct ph_op *op);
static void on_timer(struct ph_timer *timer);
static bool keep_reason(struct ph_connection *c, const struct ph_reason *reason);
static void end(struct ph_connection *c);

static const struct ph_send_connector *connector_of(const struct ph_connection *c)
{
    return c->site->spec->connector;
}

static const struct ph_timeouts *timeouts_of(const struct ph_connection *c)
{
    return &connector_of(c)->timeouts;
}

void ph_connection_set_timer(struct ph_connection *c, uint64_t delay_ms)
{
    ph_wheel_set(&c->worker->wheel, &c->timer, c->worker->io->now_ns + delay_ms * PH_NS_PER_MS);
}

// By preference; random among equals (RFC 5321 §5.1), but for those that would only be refused.
static void plan_hosts(struct ph_connection *c)
{
    const struct ph_site_spec *spec = c->site->spec;

    c->order_count =
        spec->host_count < PH_CONNECTION_HOSTS_MAX ? spec->host_count : PH_CONNECTION_HOSTS_MAX;
    for (size_t i = 0; i < c->order_count; i++) {
        c->order[i] = (uint16_t)i;
    }
    for (size_t i = 0; i < c->order_count;) {
        size_t end = i + 1;

        while (end < c->order_count && spec->hosts[end].preference == spec->hosts[i].preference) {
            end++;
        }
        for (size_t last = end - 1; last > i; last--) {
            size_t other = i + ph_io_random_below(c->worker->io, last - i + 1);
            uint16_t swapped = c->order[last];

            c->order[last] = c->order[other];
            c->order[other] = swapped;
        }
        i = end;
    }
    ph_prospects_order(c->site, c->opened_for, c->order, c->order_count);
}

// A certificate of ours that TlsCertificateName names and that isn't there, or has expired: the
// attempt would show another face than the one the partner was told of.
static bool identity_there(struct ph_connection *c)
{
    const struct ph_send_connector *connector = connector_of(c);
    enum ph_reason_kind fault = connector->identity_fault;
    int64_t now_s = (int64_t)(ph_worker_wall_ms(c->worker) / 1000);
    struct ph_reason reason;

    if (connector->identity != NULL && ph_tls_identity_not_after_s(connector->identity) <= now_s) {
        fault = PH_REASON_CLIENT_CERT_EXPIRED;
    }
    if (fault == PH_REASON_NONE || c->opened_for->policy->level == PH_TLS_NEVER) {
        return true;
    }
    reason = ph_reason_make(
        fault, "the certificate specified in TlsCertificateName of connector %.*s %s",
        PH_STR_ARG(connector->name),
        fault == PH_REASON_CLIENT_CERT_MISSING ? "could not be found; put it back"
        : fault == PH_REASON_CLIENT_CERT_NO_KEY
            ? "can't be used: it holds no certificate with its private key"
            : "has expired; put a renewed one beside it");
    (void)keep_reason(c, &reason);
    return false;
}

void ph_connection_open(struct ph_site *site, struct ph_dispatch *dispatch)
{
    struct ph_connection *c = ph_alloc(sizeof(*c));

    c->site = site;
    c->worker = site->worker;
    c->opened_for = dispatch;
    c->opened_ms = ph_worker_now_ms(c->worker);
    ph_op_init(&c->connect_op, on_connected, c);
    ph_op_init(&c->recv_op, ph_connection_on_received, c);
    ph_op_init(&c->send_op, ph_connection_on_sent, c);
    ph_op_init(&c->close_op, on_closed, c);
    ph_timer_init(&c->timer, on_timer, c);
    c->addresses = ph_alloc(PH_CONNECTION_ADDRESSES_MAX * sizeof(*c->addresses));
    ph_buf_init(&c->ciphertext, 0);
    ph_buf_init(&c->inbound, PH_CONNECTION_INBOUND_BYTES_MAX);
    TAILQ_INSERT_TAIL(&site->connections, c, link);
    site->connection_count++;
    site->opening_count++;
    PH_COUNT(c->worker, connections_out, 1);
    plan_hosts(c);
    if (!identity_there(c)) {
        end(c);
    } else {
        resolve_next_host(c);
    }
}

static void set_reason(struct ph_connection *c, const struct ph_reason *reason)
{
    if (c->reason == NULL) {
        c->reason = ph_alloc(sizeof(*c->reason));
    }
    *c->reason = *reason;
}

static struct ph_reason reason_of(const struct ph_connection *c)
{
    return c->reason != NULL ? *c->reason : (struct ph_reason){0};
}

// Where no host takes REQUIRETLS the mail can't be sent; where one of them had another trouble it
// may be, later.
static bool lacks_requiretls(const struct ph_connection *c)
{
    return reason_of(c).kind == PH_REASON_REQUIRETLS_UNSUPPORTED && !c->failed_otherwise;
}

// The connection is over: its site takes the grant back.
static void end(struct ph_connection *c)
{
    struct ph_site *site = c->site;
    struct ph_dispatch *dispatch = c->opened_for;
    enum ph_site_release how = c->limited ? PH_SITE_RELEASE_LIMITED : PH_SITE_RELEASE_GOOD;
    struct ph_reason reason = reason_of(c);

    // A session that broke before it got anything done is a host that is down: coming back at once
    // would go round for ever.
    if (dispatch == NULL && c->messages_done == 0 && reason.kind != PH_REASON_NONE) {
        how = PH_SITE_RELEASE_DOWN;
    }
    if (dispatch != NULL && c->worker->stopping) {
        dispatch->result = PH_DISPATCH_RETURNED;
        how = PH_SITE_RELEASE_UNUSED;
    } else if (dispatch != NULL && ph_engine_only_tries(c->worker->engine)) {
        // Once is enough: its queue waits, whatever was found.
        dispatch->result = PH_DISPATCH_REFUSED;
        dispatch->reason = reason.kind != PH_REASON_NONE
                               ? reason
                               : ph_reason_make(PH_REASON_SHUTDOWN, "the test is over");
    } else if (dispatch != NULL && lacks_requiretls(c)) {
        dispatch->result = PH_DISPATCH_UNFIT;
        dispatch->reason = reason;
    } else if (dispatch != NULL) {
        dispatch->result = c->refused_by_policy ? PH_DISPATCH_REFUSED : PH_DISPATCH_UNREACHABLE;
        dispatch->reason = reason;
        if (!c->refused_by_policy) {
            how = PH_SITE_RELEASE_DOWN;
        }
    }
    ph_wheel_cancel(&c->worker->wheel, &c->timer);
    TAILQ_REMOVE(&site->connections, c, link);
    site->connection_count--;
    if (!c->usable) {
        site->opening_count--;
    }
    PH_COUNT(c->worker, connections_out, -1);
    ph_buf_deinit(&c->dialogue);
    ph_buf_deinit(&c->answering);
    ph_session_note_release(c->note);
    ph_tlsa_deinit(&c->tlsa);
    free(c->dane_verdict);
    free(c->addresses);
    free(c->reason);
    ph_buf_deinit(&c->ciphertext);
    ph_buf_deinit(&c->inbound);
    // The dispatch first: what it says of its queue comes before what the site does next.
    if (dispatch != NULL) {
        ph_site_message_over(site, dispatch);
        ph_delivery_finish(c->worker, dispatch);
    }
    ph_site_connection_ended(site, how, &reason);
    free(c);
}

// A policy refusal tells more than a later timeout: it is kept as the attempt's reason. True: it is
// the reason now.
static bool keep_reason(struct ph_connection *c, const struct ph_reason *reason)
{
    bool lacks = reason->kind == PH_REASON_REQUIRETLS_UNSUPPORTED;
    bool tls = ph_reason_is_tls(reason->kind);
    bool kept = tls || (!c->refused_by_policy && !(lacks && c->failed_otherwise));

    c->refused_by_policy |= tls;
    if (kept) {
        set_reason(c, reason);
    }
    return kept;
}

static const char *const step_names[] = {
    [PH_CONNECTION_RESOLVE] = "dns",       [PH_CONNECTION_CONNECT] = "connect",
    [PH_CONNECTION_GREETING] = "banner",   [PH_CONNECTION_EHLO] = "ehlo",
    [PH_CONNECTION_STARTTLS] = "starttls", [PH_CONNECTION_HANDSHAKE] = "handshake",
    [PH_CONNECTION_VERIFY] = "verify",     [PH_CONNECTION_EHLO_AGAIN] = "ehlo",
    [PH_CONNECTION_AUTH] = "auth",         [PH_CONNECTION_OPEN] = "mail",
    [PH_CONNECTION_QUIT] = "quit",         [PH_CONNECTION_CLOSING] = "close",
};

// Another revocation list may turn this refusal.
static bool is_of_revocation(const struct ph_dispatch *dispatch, const struct ph_reason *reason)
{
    return reason->kind == PH_REASON_CERT_REVOKED || reason->kind == PH_REASON_REVOCATION_UNKNOWN ||
           (reason->kind == PH_REASON_STS_CERT && dispatch->proof.chain == PH_REASON_CERT_REVOKED);
}

static void note_failure(struct ph_connection *c, const struct ph_reason *reason, const char *step)
{
    struct ph_dispatch *dispatch = c->opened_for;
    bool kept = keep_reason(c, reason);

    ph_dialogue_failed(c, reason);
    c->failed_otherwise |= reason->kind != PH_REASON_REQUIRETLS_UNSUPPORTED;
    PH_COUNT(c->worker, attempts, 1);
    if (dispatch != NULL) {
        struct ph_session_note *note = ph_connection_note_create(c);
        const char *told_step = dispatch->step;
        struct ph_session_proof told_proof = dispatch->proof;

        dispatch->step = step;
        dispatch->proof = ph_connection_proof(c, dispatch);
        if (is_of_revocation(dispatch, reason)) {
            ph_crls_ask(&dispatch->lists, ph_tls_context_crls(c->worker->tls), &c->lists.issuers);
        }
        ph_delivery_log_attempt(c->worker, dispatch, note, reason);
        if (ph_engine_only_tries(c->worker->engine)) {
            ph_connection_report_trial(c, reason, step);
        }
        // What the outcome's line tells of the way is of the address whose reason it has.
        if (kept) {
            ph_session_note_release(dispatch->note);
            dispatch->note = note;
        } else {
            dispatch->step = told_step;
            dispatch->proof = told_proof;
            ph_session_note_release(note);
        }
    }
}

void ph_connection_request_close(struct ph_connection *c, enum ph_connection_after_close after)
{
    if (!c->close_requested) {
        c->close_requested = true;
        c->after_close = c->quits_for_next ? PH_CONNECTION_THEN_NEXT_ADDRESS : after;
        c->state = PH_CONNECTION_CLOSING;
        ph_connection_stop_waiting(c);
        ph_wheel_cancel(&c->worker->wheel, &c->timer);
    }
}

// This address won't do for the message the connection was opened for.
void ph_connection_address_failed(struct ph_connection *c, const struct ph_reason *reason,
                                  const char *step)
{
    note_failure(c, reason, step);
    ph_connection_request_close(c, PH_CONNECTION_THEN_NEXT_ADDRESS);
}

void ph_connection_drop_plan(struct ph_connection *c)
{
    free(c->addresses);
    c->addresses = NULL;
    free(c->reason);
    c->reason = NULL;
    c->address_count = 0;
    c->address_next = 0;
    c->order_next = c->order_count;
}

static bool enough_tries(const struct ph_connection *c)
{
    return c->tries >= PH_CONNECTION_TRIES_MAX && !ph_engine_only_tries(c->worker->engine);
}

static void resolve_next_host(struct ph_connection *c)
{
    static const enum ph_rrtype types[2] = {PH_RRTYPE_AAAA, PH_RRTYPE_A};

    c->state = PH_CONNECTION_RESOLVE;
    c->close_requested = false; // the last host's session is closed by now
    c->close_issued = false;
    if (c->order_next == c->order_count || enough_tries(c)) {
        end(c);
        return;
    }
    c->host = &c->site->spec->hosts[c->order[c->order_next++]];
    ph_hops_face(c->opened_for, c->host->name, ph_worker_wall_ms(c->worker));
    c->address_count = 0;
    c->address_next = 0;
    ph_tlsa_deinit(&c->tlsa);
    free(c->dane_verdict);
    c->dane_verdict = NULL;
    c->tlsa_until_ms = PH_NEVER;
    if (c->host->is_literal) {
        c->tlsa.status = PH_TLSA_NONE; // it has no name to publish under
        c->addresses[c->address_count++] = c->host->literal;
        host_known(c);
        return;
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(types); i++) {
        c->lookups[i] = ph_alloc(sizeof(*c->lookups[i]));
        ph_op_init(&c->lookups[i]->op, on_lookup, c);
        ph_str_copy(c->lookups[i]->name, sizeof(c->lookups[i]->name), ph_str_from(c->host->name));
        c->lookups[i]->rrtype = types[i];
        c->lookups_pending++;
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(types); i++) {
        ph_io_resolve(c->worker->io, c->lookups[i]);
    }
}

// Where we listen ourselves, mail would only come back. Bindings to any address don't tell: there
// hops are counted.
static bool is_own_address(const struct ph_connection *c, const struct ph_endpoint *endpoint)
{
    const struct ph_config *config = c->site->spec->config;
    struct ph_endpoint at = *endpoint;
    bool own = false;

    at.port = c->site->spec->port;
    for (size_t i = 0; i < config->receive_connector_count; i++) {
        const struct ph_receive_connector *connector = &config->receive_connectors[i];

        for (size_t j = 0; connector->enabled && j < connector->binding_count; j++) {
            own |= ph_endpoint_eq(&connector->bindings[j].at, &at);
        }
    }
    return own;
}

static bool address_allowed(const struct ph_connection *c, const struct ph_endpoint *endpoint)
{
    const struct ph_resolver_settings *settings = &c->site->spec->config->resolver;
    bool allowed = c->site->spec->smart || !ph_endpoint_is_special(endpoint);

    if (is_own_address(c, endpoint)) {
        return false;
    }
    for (size_t i = 0; !allowed && i < settings->allowed_destination_count; i++) {
        allowed = ph_cidr_contains(&settings->allowed_destinations[i], endpoint);
    }
    return allowed;
}

static void take_addresses(struct ph_connection *c, const struct ph_resolve_op *answer,
                           struct ph_endpoint *out_refused)
{
    struct ph_str rest = ph_buf_str(&answer->rdata);
    size_t wanted = answer->rrtype == PH_RRTYPE_A ? 4 : 16;

    while (rest.len >= 2 && c->address_count < PH_CONNECTION_ADDRESSES_MAX) {
        size_t len = (size_t)((uint8_t)rest.data[0] << 8 | (uint8_t)rest.data[1]);
        struct ph_endpoint endpoint = {.family = answer->rrtype == PH_RRTYPE_A ? PH_FAMILY_IPV4
                                                                               : PH_FAMILY_IPV6};

        rest = ph_str_after(rest, 2);
        if (len == wanted && rest.len >= len) {
            memcpy(endpoint.bytes, rest.data, len);
            if (address_allowed(c, &endpoint)) {
                c->addresses[c->address_count++] = endpoint;
            } else {
                *out_refused = endpoint;
            }
        }
        rest = ph_str_after(rest, len);
    }
}

static struct ph_reason lookup_reason(const struct ph_connection *c,
                                      const struct ph_resolve_op *aaaa,
                                      const struct ph_resolve_op *a,
                                      const struct ph_endpoint *refused)
{
    char address[PH_ENDPOINT_TEXT_MAX];
    const struct ph_resolve_op *worse = a->status < aaaa->status ? a : aaaa;

    if (refused->family != PH_FAMILY_NONE && is_own_address(c, refused)) {
        struct ph_reason reason =
            ph_reason_make(PH_REASON_DNS_MX_LOOP,
                           "%s has the address %s, where this host listens: mail for it would come "
                           "back",
                           c->host->name, ph_endpoint_format_address(refused, address));

        // Unlike the name of an MX record an address may be wrong for a time: the mail waits.
        reason.code = 451;
        reason.status = (struct ph_status){.class = 4, .subject = 4, .detail = 6};
        return reason;
    }
    if (refused->family != PH_FAMILY_NONE) {
        return ph_reason_make(PH_REASON_DNS_TARGET_REFUSED,
                              "%s has the address %s, a loopback, private or special one that DNS "
                              "may not choose; list it in Resolver.AllowedDestinations if it is "
                              "meant",
                              c->host->name, ph_endpoint_format_address(refused, address));
    }
    if (worse->status == PH_RESOLVE_BOGUS) {
        return ph_reason_make(PH_REASON_DNSSEC_BOGUS,
                              "the address of %s fails DNSSEC validation: %s", c->host->name,
                              worse->detail);
    }
    if (worse->status == PH_RESOLVE_SERVFAIL || worse->status == PH_RESOLVE_TIMEOUT) {
        return ph_reason_make(PH_REASON_DNS_FAILURE, "the address of %s could not be looked up: %s",
                              c->host->name,
                              worse->detail[0] != '\0' ? worse->detail : "no answer");
    }
    return ph_reason_make(PH_REASON_DNS_NO_ADDRESS, "%s has no address", c->host->name);
}

static void on_lookup(struct ph_op *op)
{
    struct ph_connection *c = op->owner;
    struct ph_endpoint refused = {0};

    c->lookups_pending--;
    if (c->lookups_pending > 0) {
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        if (c->lookups[i]->status == PH_RESOLVE_OK) {
            take_addresses(c, c->lookups[i], &refused);
        }
    }
    if (c->address_count == 0) {
        struct ph_reason reason = lookup_reason(c, c->lookups[0], c->lookups[1], &refused);

        c->endpoint = (struct ph_endpoint){0};
        note_failure(c, &reason, "dns");
    }
    if (c->address_count > 0 && !c->close_requested &&
        c->opened_for->policy->dane_mode != PH_DANE_NONE) {
        c->dane_lookup = ph_alloc(sizeof(*c->dane_lookup));
        ph_op_init(&c->dane_lookup->op, on_dane_lookup, c);
        ph_dane_lookup_start(c->dane_lookup, c->worker->io, c->host->name, c->site->spec->port,
                             c->lookups[0], c->lookups[1]);
    }
    for (size_t i = 0; i < 2; i++) {
        ph_buf_deinit(&c->lookups[i]->rdata);
        free(c->lookups[i]);
        c->lookups[i] = NULL;
    }
    if (c->dane_lookup == NULL) {
        host_known(c);
    }
}

// A host that may not be used by policy: the next one, without a connection.
static void host_refused(struct ph_connection *c, const struct ph_reason *reason)
{
    c->endpoint = (struct ph_endpoint){0};
    c->address[0] = '\0';
    note_failure(c, reason, "dns");
    ph_connection_report_failure(c, reason->kind);
    c->refused_by_policy = true; // also where the failure is one of DNS: its zone is signed
    set_reason(c, reason);
    resolve_next_host(c);
}

static void on_dane_lookup(struct ph_op *op)
{
    struct ph_connection *c = op->owner;
    struct ph_reason reason = c->dane_lookup->reason;
    uint32_t ttl_s = c->dane_lookup->tlsa.ttl_s;

    c->tlsa = c->dane_lookup->tlsa;
    c->dane_lookup->tlsa = (struct ph_tlsa){0};
    ph_dane_lookup_deinit(c->dane_lookup);
    free(c->dane_lookup);
    c->dane_lookup = NULL;
    if (c->tlsa.status == PH_TLSA_USABLE || c->tlsa.status == PH_TLSA_UNUSABLE) {
        ttl_s = ttl_s > PH_CONNECTION_TLSA_MIN_S ? ttl_s : PH_CONNECTION_TLSA_MIN_S;
        c->tlsa_until_ms = ph_worker_now_ms(c->worker) + (uint64_t)ttl_s * 1000;
    }
    if (c->tlsa.status == PH_TLSA_FAILED && !c->close_requested) {
        host_refused(c, &reason);
    } else {
        host_known(c);
    }
}

static void host_known(struct ph_connection *c)
{
    struct ph_gate_subject subject;
    struct ph_reason reason;

    if (c->close_requested) {
        end(c);
        return;
    }
    if (c->address_count > 0) {
        c->address[0] = '\0';
        subject = ph_connection_subject(c, c->opened_for, NULL);
        if (ph_gate_judge_host(c->opened_for->policy, &subject, &reason) == PH_GATE_REFUSED) {
            host_refused(c, &reason);
            return;
        }
    }
    try_next_address(c);
}

bool ph_connection_demands_tls(const struct ph_connection *c)
{
    return ph_gate_demands_tls(c->opened_for->policy, &c->tlsa);
}

static void try_next_address(struct ph_connection *c)
{
    if (c->address_next == c->address_count || enough_tries(c)) {
        resolve_next_host(c);
        return;
    }
    c->endpoint = c->addresses[c->address_next++];
    c->endpoint.port = c->site->spec->port;
    c->plaintext_only = false;
    c->tries++;
    start_connect(c);
}

const struct ph_endpoint *ph_connection_source(const struct ph_connection *c)
{
    return c->source;
}

// One of the connector's addresses of this family, by weight. NULL: any.
static const struct ph_endpoint *choose_source(const struct ph_connection *c)
{
    const struct ph_send_connector *connector = connector_of(c);
    const struct ph_endpoint *chosen = NULL;
    uint64_t total = 0;

    for (size_t i = 0; i < connector->source_count; i++) {
        const struct ph_source *source = &connector->sources[i];

        if (source->address.family == c->endpoint.family) {
            total += source->weight;
            if (ph_io_random_below(c->worker->io, total) < source->weight) {
                chosen = &source->address;
            }
        }
    }
    return chosen;
}

static void start_connect(struct ph_connection *c)
{
    c->session_id = ph_worker_next_session_id(c->worker);
    c->lists = (struct ph_crls_asked){0};
    ph_endpoint_format_address(&c->endpoint, c->address);
    c->state = PH_CONNECTION_CONNECT;
    ph_connection_set_timer(c, timeouts_of(c)->connect_ms);
    c->source = choose_source(c);
    c->socket = ph_io_connect(c->worker->io, &c->connect_op, &c->endpoint, c->source);
}

static void on_connected(struct ph_op *op)
{
    struct ph_connection *c = op->owner;

    if (op->result < 0) {
        bool refused = op->result == -ECONNREFUSED;
        struct ph_reason reason =
            ph_reason_make(op->result == -ETIMEDOUT ? PH_REASON_CONNECT_TIMEOUT
                           : refused                ? PH_REASON_CONNECT_REFUSED
                                                    : PH_REASON_CONNECT_FAILED,
                           "%s (%s): %s", c->host->name, c->address, strerror((int)-op->result));

        PH_COUNT(c->worker, connect_failures, 1);
        ph_connection_address_failed(c, &reason, "connect");
    } else {
        c->state = PH_CONNECTION_GREETING;
        ph_connection_greet(c);
        ph_io_recv_start(c->socket, &c->recv_op);
    }
    ph_connection_settle(c);
}

static uint64_t limit_of(const struct ph_connection *c, enum ph_client_wait wait)
{
    const struct ph_timeouts *timeouts = timeouts_of(c);
    uint64_t limit_ms = timeouts->mail_ms;

    switch (wait) {
    case PH_CLIENT_WAIT_NONE:
        limit_ms = c->site->spec->limits.inactivity_timeout_ms;
        break;
    case PH_CLIENT_WAIT_GREETING:
        limit_ms = timeouts->greeting_ms;
        break;
    case PH_CLIENT_WAIT_EHLO:
        limit_ms = timeouts->ehlo_ms;
        break;
    case PH_CLIENT_WAIT_STARTTLS:
        limit_ms = timeouts->tls_ms;
        break;
    case PH_CLIENT_WAIT_AUTH:
    case PH_CLIENT_WAIT_MAIL:
        limit_ms = timeouts->mail_ms;
        break;
    case PH_CLIENT_WAIT_RCPT:
        limit_ms = timeouts->rcpt_ms;
        break;
    case PH_CLIENT_WAIT_DATA:
        limit_ms = timeouts->data_ms;
        break;
    case PH_CLIENT_WAIT_FINAL:
        limit_ms = timeouts->final_dot_ms;
        break;
    case PH_CLIENT_WAIT_QUIT:
        limit_ms = PH_CONNECTION_QUIT_MS;
        break;
    }
    return limit_ms;
}

// Each reply awaited has its time from when the one before it was read. `progress`: one was.
void ph_connection_arm_deadline(struct ph_connection *c, bool progress)
{
    enum ph_client_wait wait = ph_client_waits_for(c->client);

    if (progress || wait != c->waiting_for || !ph_timer_armed(&c->timer)) {
        c->waiting_for = wait;
        ph_connection_set_timer(c, limit_of(c, wait));
    }
}

static const char *wait_name(enum ph_client_wait wait)
{
    static const char *const names[] = {
        [PH_CLIENT_WAIT_NONE] = "anything",     [PH_CLIENT_WAIT_GREETING] = "the greeting",
        [PH_CLIENT_WAIT_EHLO] = "EHLO",         [PH_CLIENT_WAIT_STARTTLS] = "STARTTLS",
        [PH_CLIENT_WAIT_AUTH] = "AUTH",         [PH_CLIENT_WAIT_MAIL] = "MAIL",
        [PH_CLIENT_WAIT_RCPT] = "RCPT",         [PH_CLIENT_WAIT_DATA] = "DATA",
        [PH_CLIENT_WAIT_FINAL] = "the message", [PH_CLIENT_WAIT_QUIT] = "QUIT",
    };

    return names[wait];
}

void ph_connection_quit(struct ph_connection *c)
{
    c->state = PH_CONNECTION_QUIT;
    ph_client_quit(c->client);
    c->waiting_for = PH_CLIENT_WAIT_QUIT;
    ph_connection_set_timer(c, PH_CONNECTION_QUIT_MS);
}

static void on_timer(struct ph_timer *timer)
{
    struct ph_connection *c = timer->owner;
    struct ph_reason reason;

    switch (c->state) {
    case PH_CONNECTION_CONNECT:
        reason = ph_reason_make(
            PH_REASON_CONNECT_TIMEOUT, "%s (%s) did not accept the connection within %llu s",
            c->host->name, c->address, (unsigned long long)timeouts_of(c)->connect_ms / 1000);
        PH_COUNT(c->worker, connect_failures, 1);
        ph_connection_address_failed(c, &reason, "connect");
        break;
    case PH_CONNECTION_HANDSHAKE:
        reason =
            ph_reason_make(PH_REASON_TLS_HANDSHAKE_FAILED,
                           "%s (%s) did not finish the TLS handshake within %llu s", c->host->name,
                           c->address, (unsigned long long)timeouts_of(c)->tls_ms / 1000);
        ph_connection_broken(c, &reason);
        break;
    case PH_CONNECTION_VERIFY:
        ph_connection_verify(c);
        break;
    case PH_CONNECTION_OPEN:
        if (ph_client_outstanding(c->client) == 0) {
            ph_connection_quit(c);
            break;
        }
        // fall through
    case PH_CONNECTION_GREETING:
    case PH_CONNECTION_EHLO:
    case PH_CONNECTION_STARTTLS:
    case PH_CONNECTION_EHLO_AGAIN:
    case PH_CONNECTION_AUTH:
        reason = ph_reason_make(PH_REASON_PEER_TIMEOUT, "%s (%s) did not answer %s within %llu s",
                                c->host->name, c->address, wait_name(c->waiting_for),
                                (unsigned long long)limit_of(c, c->waiting_for) / 1000);
        ph_connection_broken(c, &reason);
        break;
    case PH_CONNECTION_QUIT:
        ph_connection_request_close(c, PH_CONNECTION_THEN_END);
        break;
    case PH_CONNECTION_RESOLVE:
    case PH_CONNECTION_CLOSING:
        break;
    }
    ph_connection_settle(c);
}

// The connection is lost, or the peer can't be talked to any more.
void ph_connection_broken(struct ph_connection *c, const struct ph_reason *reason)
{
    struct ph_reason kept = *reason;
    const struct ph_tls_policy *policy = c->opened_for != NULL ? c->opened_for->policy : NULL;
    bool handshake = c->state == PH_CONNECTION_HANDSHAKE;

    if (c->close_requested) {
        return;
    }
    if (handshake && kept.kind != PH_REASON_TLS_HANDSHAKE_FAILED) {
        kept = ph_reason_make(PH_REASON_TLS_HANDSHAKE_FAILED, "in the TLS handshake %s",
                              reason->sentence);
    }
    // TLS 1.3 may refuse our missing certificate only after the handshake: still the handshake's.
    if (c->tls != NULL && !handshake && ph_tls_session_unconfirmed(c->tls) &&
        c->opened_for != NULL && kept.kind != PH_REASON_PEER_TIMEOUT) {
        handshake = true;
        if (kept.kind != PH_REASON_TLS_HANDSHAKE_FAILED) {
            kept = ph_reason_make(PH_REASON_TLS_HANDSHAKE_FAILED,
                                  "%s (%s) ended the session right after the TLS handshake: %s",
                                  c->host->name, c->address, reason->sentence);
        }
    }
    if (handshake) {
        PH_COUNT(c->worker, handshakes_failed, 1);
    }
    if (c->state == PH_CONNECTION_HANDSHAKE && ph_connection_retry_smaller(c, &kept)) {
        return;
    }
    if (c->state == PH_CONNECTION_HANDSHAKE &&
        ph_tls_session_unanswered_hello(c->tls) > PH_TLS_HELLO_BYTES) {
        struct ph_reason bare = kept;

        kept = ph_reason_make(bare.kind, "%s; our ClientHello of %zu bytes needs two segments%s",
                              bare.sentence, ph_tls_session_unanswered_hello(c->tls),
                              c->small_hello ? "" : ", and TlsGroups allows no shorter one");
    }
    if (c->opened_for != NULL && (handshake || kept.kind == PH_REASON_STARTTLS_INJECTION)) {
        ph_connection_report_failure(c, kept.kind);
    }
    if (handshake && policy != NULL && !ph_tls_policy_forces(policy) &&
        ph_gate_dane_applies(policy, &c->tlsa)) {
        kept =
            ph_reason_make(PH_REASON_DANE_NO_TLS, "%s publishes TLSA records, which demand TLS: %s",
                           c->host->name, reason->sentence);
    }
    if (c->opened_for == NULL) {
        (void)keep_reason(c, &kept);
        ph_connection_request_close(c, PH_CONNECTION_THEN_END);
    } else if (handshake && !ph_connection_demands_tls(c) &&
               policy->fallback == PH_TLS_FALLBACK_PLAINTEXT && !c->plaintext_only) {
        PH_COUNT(c->worker, fallbacks_plaintext, 1);
        note_failure(c, &kept, "handshake");
        c->refused_by_policy = false;
        ph_connection_request_close(c, PH_CONNECTION_THEN_SAME_ADDRESS);
    } else {
        ph_connection_address_failed(c, &kept, step_names[c->state]);
    }
}

static void on_closed(struct ph_op *op)
{
    struct ph_connection *c = op->owner;

    c->socket = NULL;
    if (c->client != NULL) {
        ph_dialogue_closed(c);
        if (ph_client_state(c->client) != PH_CLIENT_ENDED) {
            struct ph_reason reason = reason_of(c);

            ph_client_abort(c->client, &reason);
        }
        ph_connection_finish_done(c);
        ph_client_destroy(c->client);
        c->client = NULL;
    }
    ph_tls_session_destroy(c->tls);
    c->tls = NULL;
    c->sending = false;
    c->sending_client_bytes = 0;
    ph_buf_clear(&c->ciphertext);
    ph_buf_clear(&c->inbound);
    // From here on it is asked for anew, while the next host is being looked up too.
    c->close_requested = false;
    c->quits_for_next = false;
    c->close_issued = false;
    switch (c->after_close) {
    case PH_CONNECTION_THEN_NEXT_ADDRESS:
        if (c->worker->stopping) {
            end(c);
        } else {
            try_next_address(c);
        }
        break;
    case PH_CONNECTION_THEN_SMALLER:
        if (c->worker->stopping) {
            end(c);
        } else {
            start_connect(c);
        }
        break;
    case PH_CONNECTION_THEN_SAME_ADDRESS:
        c->plaintext_only = true;
        start_connect(c);
        break;
    case PH_CONNECTION_THEN_END:
        end(c);
        break;
    }
}

bool ph_connection_usable(const struct ph_connection *c)
{
    const struct ph_limits *limits = &c->site->spec->limits;
    bool spent = limits->max_messages_per_connection > 0 &&
                 c->messages_sent >= limits->max_messages_per_connection;
    bool old = limits->max_connection_age_ms > 0 &&
               ph_worker_now_ms(c->worker) - c->opened_ms >= limits->max_connection_age_ms;
    bool stale = ph_worker_now_ms(c->worker) >= c->tlsa_until_ms;

    return c->state == PH_CONNECTION_OPEN && !c->close_requested && !c->retiring &&
           c->opened_for == NULL && !spent && !old && !stale;
}

bool ph_connection_idle(const struct ph_connection *c)
{
    return c->state == PH_CONNECTION_OPEN && !c->close_requested &&
           ph_client_outstanding(c->client) == 0;
}

void ph_connection_retire(struct ph_connection *c)
{
    c->retiring = true;
    if (ph_connection_idle(c)) {
        ph_connection_quit(c);
        ph_connection_settle(c);
    }
}

bool ph_connection_end_by_lists(struct ph_connection *c)
{
    // One that isn't open yet is judged before it is.
    bool ends = c->state == PH_CONNECTION_OPEN && !c->close_requested && !c->retiring &&
                ph_crls_changed_since(ph_tls_context_crls(c->worker->tls), &c->lists);

    if (ends) {
        ph_connection_retire(c);
    }
    return ends;
}

void ph_connection_abort(struct ph_connection *c, const struct ph_reason *reason)
{
    if (!c->close_requested) {
        (void)keep_reason(c, reason);
        ph_connection_request_close(c, PH_CONNECTION_THEN_END);
    } else {
        c->after_close = PH_CONNECTION_THEN_END;
    }
    ph_connection_settle(c);
}

struct ph_connection *ph_connection_next(const struct ph_connection *c)
{
    return TAILQ_NEXT(c, link);
}

const char *ph_connection_state_name(const struct ph_connection *c)
{
    return step_names[c->state];
}
