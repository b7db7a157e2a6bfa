// What a session says for TLS reports: by what its destination publishes, never by what a connector
// demands of its own.
#include "engine/connection_parts.h"
#include "engine/tlsrpt.h"

static bool reported(const struct ph_connection *c)
{
    const struct ph_tls_policy *policy = c->opened_for->policy;

    // Where nobody would have tried TLS, or what the destination publishes is passed over (a report
    // itself, RFC 8460 §3), there is nothing to tell.
    return c->opened_for->tls_reporting && !policy->destination_waived && !c->plaintext_only &&
           (policy->level != PH_TLS_NEVER || ph_connection_demands_tls(c));
}

static void count(struct ph_connection *c, enum ph_reason_kind kind)
{
    const struct ph_dispatch *dispatch = c->opened_for;
    const struct ph_tls_policy *policy = dispatch->policy;
    const struct ph_endpoint *source = ph_connection_source(c);
    char source_text[PH_ENDPOINT_TEXT_MAX] = "";
    struct ph_tlsrpt_session session = {
        .domain = policy->sts != NULL ? ph_str_from(policy->sts->domain) : dispatch->policy_domain,
        .policy = PH_TLSRPT_NO_POLICY,
        .result = ph_tlsrpt_result_of(kind),
        .receiving_host = ph_str_from(c->host->name),
        .receiving_ip = ph_str_from(c->address),
        .reason = ph_str_from(ph_reason_token(kind)),
    };

    if (source != NULL) {
        ph_endpoint_format_address(source, source_text);
    }
    session.sending_ip = ph_str_from(source_text);
    if (ph_gate_dane_applies(policy, &c->tlsa) || kind == PH_REASON_DNSSEC_BOGUS) {
        session.policy = PH_TLSRPT_TLSA;
        session.tlsa = &c->tlsa;
    } else if (policy->sts != NULL) {
        session.policy = PH_TLSRPT_STS;
        session.sts = dispatch->sts;
    }
    if (session.domain.len > 0) {
        ph_tlsrpt_count(ph_engine_tlsrpt(c->worker->engine), &session,
                        ph_worker_wall_ms(c->worker));
    }
}

void ph_connection_report_failure(struct ph_connection *c, enum ph_reason_kind kind)
{
    if (reported(c)) {
        count(c, kind);
    }
}

void ph_connection_report(struct ph_connection *c, const struct ph_tls_facts *facts)
{
    const struct ph_tls_policy *policy = c->opened_for->policy;
    struct ph_gate_subject subject;
    struct ph_reason reason = {0};
    bool good = true;

    if (!reported(c)) {
        return;
    }
    subject = ph_connection_subject(c, c->opened_for, facts);
    if (ph_gate_dane_applies(policy, &c->tlsa)) {
        good = ph_gate_meets_dane(policy, &subject, &reason);
    } else if (policy->sts != NULL) {
        good = ph_gate_meets_sts(policy, &subject, &reason);
    }
    count(c, good ? PH_REASON_NONE : reason.kind);
}
