// The TLS handshake of a session, from STARTTLS's 220 to the judgement of what it proved.
#include <stdio.h>

#include "engine/connection_parts.h"
#include "engine/delivery_log.h"
#include "engine/revocation.h"
#include "tls/verify.h"

#define PH_RESUMPTION_KEY_MAX 600 // sending identity, host, port and server name as text

static void handshake_failed(struct ph_connection *c);

// A ticket is offered only where the facts behind it would be accepted today.
static bool ticket_acceptable(void *owner, const struct ph_tls_facts *facts)
{
    struct ph_reason unused;

    return ph_connection_acceptable(owner, facts, &unused);
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

void ph_connection_begin_handshake(struct ph_connection *c)
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
    ph_connection_handshake(c);
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
    verdict = ph_connection_verdict(c, facts->chain, policy->trust);
    return verdict->kind == PH_REASON_NONE && verdict->revocation == PH_REVOCATION_UNKNOWN;
}

void ph_connection_handshake(struct ph_connection *c)
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
    ph_connection_note_prospect(c, ph_connection_facts(c));
    ph_connection_report(c, ph_connection_facts(c));
    if (!ph_connection_acceptable(c, ph_connection_facts(c), &reason)) {
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

static void handshake_failed(struct ph_connection *c)
{
    struct ph_reason reason =
        ph_reason_make(PH_REASON_TLS_HANDSHAKE_FAILED, "the TLS handshake with %s (%s) failed: %s",
                       c->host->name, c->address, ph_tls_session_failure(c->tls));

    ph_connection_broken(c, &reason);
}

// A ClientHello of several segments got no answer, and a shorter one can be sent: some hosts read
// but one segment, and some boxes on the way drop what doesn't fit it.
static bool hello_lost(const struct ph_connection *c)
{
    return ph_tls_session_unanswered_hello(c->tls) > PH_TLS_HELLO_BYTES && !c->small_hello &&
           ph_tls_groups_shrinkable(c->site->spec->connector->tls_groups);
}

// By the same policy: TlsRequireGroups stands, and nothing goes in the clear for it.
bool ph_connection_retry_smaller(struct ph_connection *c, const struct ph_reason *reason)
{
    struct ph_session_note *note;
    struct ph_reason told;

    if (!hello_lost(c)) {
        return false;
    }
    note = ph_connection_note_create(c);
    told = ph_reason_make(reason->kind,
                          "%s; our ClientHello of %zu bytes needs two segments: once more in one",
                          reason->sentence, ph_tls_session_unanswered_hello(c->tls));

    ph_flights_failed(c->worker, &c->endpoint);
    ph_dialogue_failed(c, &told);
    PH_COUNT(c->worker, attempts, 1);
    c->opened_for->step = "handshake";
    c->opened_for->proof = ph_connection_proof(c, c->opened_for);
    ph_delivery_log_attempt(c->worker, c->opened_for, note, &told);
    ph_session_note_release(note);
    ph_connection_request_close(c, PH_CONNECTION_THEN_SMALLER);
    return true;
}
