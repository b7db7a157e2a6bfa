// What is known of a session, put before the gate: facts, verdicts, and what the host publishes.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/connection_parts.h"
#include "engine/trial.h"
#include "tls/crls.h"
#include "tls/verify.h"

static uint64_t thread_cpu_ns(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); // for the metrics alone: decides nothing
    return (uint64_t)now.tv_sec * (1000 * PH_NS_PER_MS) + (uint64_t)now.tv_nsec;
}

// The lists it was made with are noted at the connection: its session ends with them.
const struct ph_chain_verdict *ph_connection_verdict(struct ph_connection *c,
                                                     const struct ph_chain *chain,
                                                     const struct ph_trust *trust)
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
        subject.verdict = ph_connection_verdict(c, facts->chain, policy->trust);
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

const struct ph_tls_facts *ph_connection_facts(const struct ph_connection *c)
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
            ph_connection_verdict(c, facts->chain, dispatch->policy->trust);

        proof.chain_judged = true;
        proof.chain = verdict->kind;
        proof.revocation = verdict->revocation;
    }
    return proof;
}

// Mode = report: what would the whole setting have said of this session?
void ph_connection_note_would_defer(struct ph_connection *c, struct ph_dispatch *dispatch)
{
    struct ph_tls_policy whole = *dispatch->policy;
    const struct ph_tls_facts *facts = ph_connection_facts(c);
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
    const struct ph_tls_facts *facts = ph_connection_facts(c);
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

bool ph_connection_acceptable(struct ph_connection *c, const struct ph_tls_facts *facts,
                              struct ph_reason *out_reason)
{
    struct ph_gate_subject subject = ph_connection_subject(c, c->opened_for, facts);

    return ph_gate_judge_session(c->opened_for->policy, &subject, out_reason) == PH_GATE_CLEARED;
}

void ph_connection_note_prospect(struct ph_connection *c, const struct ph_tls_facts *facts)
{
    ph_prospects_note(c->site, (size_t)(c->host - c->site->spec->hosts), facts);
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
