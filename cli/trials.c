// Verdicts on what was found of each address.
#include "cli/trials.h"

#include <stdarg.h>
#include <string.h>

#include "base/date.h"

#define PROPOSALS_MAX 4 // for one address; ours
#define PROPOSAL_BYTES_MAX 512

static const enum ph_tls_level levels[] = {PH_TLS_ENCRYPTION_ONLY, PH_TLS_CERTIFICATE_VALIDATION,
                                           PH_TLS_DOMAIN_VALIDATION};

struct verdict {
    bool passes;
    struct ph_reason reason;
};

struct verdicts {
    struct verdict level[PH_ARRAY_LEN(levels)];
    char proposals[PROPOSALS_MAX][PROPOSAL_BYTES_MAX];
    size_t proposal_count;
};

void ph_cli_trials_init(struct ph_cli_trials *trials, bool as_json)
{
    *trials = (struct ph_cli_trials){.as_json = as_json};
    ph_json_init(&trials->json, &trials->array);
    ph_json_open_array(&trials->json, NULL);
}

void ph_cli_trials_deinit(struct ph_cli_trials *trials)
{
    ph_buf_deinit(&trials->text);
    ph_buf_deinit(&trials->array);
}

// The level alone: what else the connector or the destination demands is in the policy's verdict.
static struct ph_tls_policy policy_of(const struct ph_trial *trial, enum ph_tls_level level)
{
    struct ph_tls_policy policy = *trial->policy;

    policy.level = level;
    policy.report = false;
    policy.domain_secure = false;
    policy.domain_secure_misrouted = false;
    policy.requiretls = false;
    policy.credentials_exact_host = false;
    policy.pin_count = 0;
    policy.dane_mode = PH_DANE_NONE;
    policy.sts = NULL;
    return policy;
}

static struct verdict judge(const struct ph_trial *trial, const struct ph_tls_policy *policy)
{
    struct verdict verdict = {0};

    // A handshake that failed has no facts to judge: it is what each level would say.
    if (trial->reason != NULL && !trial->subject->facts->encrypted &&
        strcmp(trial->step, "starttls") != 0) {
        verdict.reason = *trial->reason;
    } else {
        verdict.passes =
            ph_gate_judge_session(policy, trial->subject, &verdict.reason) == PH_GATE_CLEARED;
    }
    return verdict;
}

static void propose(struct verdicts *v, const char *format, ...) PH_PRINTF(2, 3);
static void propose(struct verdicts *v, const char *format, ...)
{
    va_list arguments;

    if (v->proposal_count < PROPOSALS_MAX) {
        va_start(arguments, format);
        vsnprintf(v->proposals[v->proposal_count++], PROPOSAL_BYTES_MAX, format, arguments);
        va_end(arguments);
    }
}

static const char *pin_of(const struct ph_chain *chain, char out[2 * PH_SHA256_BYTES + 1])
{
    for (size_t i = 0; i < PH_SHA256_BYTES; i++) {
        snprintf(out + 2 * i, 3, "%02x", chain->spki_sha256[i]);
    }
    return out;
}

// A name that would match, if there is one: that of the host first.
static void propose_name(struct verdicts *v, const struct ph_trial *trial)
{
    const struct ph_chain *chain = trial->subject->facts->chain;
    struct ph_tls_policy policy = policy_of(trial, PH_TLS_DOMAIN_VALIDATION);
    struct ph_str name = trial->subject->host;

    policy.name_source = PH_TLS_NAME_TLSDOMAIN;
    policy.tls_domains = &name;
    policy.tls_domain_count = 1;
    for (size_t i = 0; i <= chain->dns_name_count; i++) {
        if (name.len > 0 && judge(trial, &policy).passes) {
            propose(v, "TlsDomain = {\"%.*s\"}",
                    PH_STR_ARG(name)); // read by scripts: no more words
            return;
        }
        if (i < chain->dns_name_count) {
            name = ph_str_from(chain->dns_names[i]);
        }
    }
    policy = policy_of(trial, PH_TLS_DOMAIN_VALIDATION);
    policy.common_name = PH_TLS_COMMON_NAME_ALWAYS;
    if (judge(trial, &policy).passes) {
        propose(v, "TlsUseCommonName = %s", chain->has_dns_names ? "always" : "fallback");
    } else if (chain->common_name[0] != '\0' && !chain->has_dns_names) {
        propose(v, "TlsUseCommonName = fallback  TlsDomain = {\"%s\"}", chain->common_name);
    }
}

static void propose_trust(struct verdicts *v, const struct ph_trial *trial,
                          enum ph_reason_kind kind)
{
    const struct ph_chain *chain = trial->subject->facts->chain;
    char pin[2 * PH_SHA256_BYTES + 1];

    if (kind == PH_REASON_CERT_PARTIAL_CHAIN) {
        propose(v, "TlsIntermediates = {FILE}, a PEM file with the certificate of \"%s\"",
                chain->issuer);
    } else if (kind == PH_REASON_CERT_SELF_SIGNED) {
        propose(v, "TlsTrustAnchors = {FILE}, a PEM file with this certificate itself");
    } else if (kind == PH_REASON_CERT_UNTRUSTED_ROOT) {
        propose(v, "TlsTrustAnchors = {FILE}, a PEM file with the root above \"%s\"",
                chain->issuer);
    } else if (kind == PH_REASON_REVOCATION_UNKNOWN) {
        propose(v, "RevocationUnknown = accept");
    }
    if (kind != PH_REASON_REVOCATION_UNKNOWN && kind != PH_REASON_CERT_REVOKED) {
        propose(v, "TlsAuthLevel = EncryptionOnly  TlsPins = {\"%s\"}, as long as the key is this",
                pin_of(chain, pin));
    }
}

static void propose_all(struct verdicts *v, const struct ph_trial *trial)
{
    enum ph_reason_kind kind = trial->reason != NULL ? trial->reason->kind : PH_REASON_NONE;
    const struct verdict *chain = &v->level[1];
    const struct verdict *name = &v->level[2];

    if (trial->subject->facts->chain != NULL && !chain->passes &&
        (kind == PH_REASON_NONE || kind == chain->reason.kind)) {
        propose_trust(v, trial, chain->reason.kind);
    } else if (trial->subject->facts->chain != NULL && !name->passes &&
               name->reason.kind == PH_REASON_CERT_NAME_MISMATCH) {
        propose_name(v, trial);
    } else if (kind == PH_REASON_MUTUAL_NOT_REQUESTED) {
        propose(v, "nothing here: the host must ask its clients for a certificate");
    } else if (kind == PH_REASON_TLS_NOT_OFFERED || kind == PH_REASON_STARTTLS_REFUSED) {
        propose(v, "nothing here, while TLS is demanded: the host must offer STARTTLS");
    }
}

static void put_json(struct ph_cli_trials *trials, const struct ph_trial *trial,
                     const struct verdicts *v)
{
    struct ph_json *out = &trials->json;
    char status[PH_STATUS_TEXT_MAX];

    ph_json_open_object(out, NULL);
    ph_json_members(out, ph_buf_str(&trial->note->json));
    ph_json_text(out, "step", trial->step);
    ph_json_text(out, "result", trial->reason == NULL ? "accept" : "defer");
    if (trial->reason != NULL) {
        ph_json_text(out, "reason", ph_reason_token(trial->reason->kind));
        ph_json_text(out, "status", ph_status_format(trial->reason->status, status));
        ph_json_text(out, "text", trial->reason->sentence);
    }
    ph_json_text(out, "verified_by", ph_gate_verified_by(trial->policy, trial->subject));
    ph_json_open_object(out, "levels");
    for (size_t i = 0; i < PH_ARRAY_LEN(levels); i++) {
        ph_json_open_object(out, ph_tls_level_name(levels[i]));
        ph_json_text(out, "result", v->level[i].passes ? "accept" : "defer");
        if (!v->level[i].passes) {
            ph_json_text(out, "reason", ph_reason_token(v->level[i].reason.kind));
            ph_json_text(out, "text", v->level[i].reason.sentence);
        }
        ph_json_close_object(out);
    }
    ph_json_close_object(out);
    ph_json_open_array(out, "would_pass");
    for (size_t i = 0; i < v->proposal_count; i++) {
        ph_json_text(out, NULL, v->proposals[i]);
    }
    ph_json_close_array(out);
    ph_json_close_object(out);
}

static void put_session(struct ph_buf *out, const struct ph_tls_facts *facts)
{
    char date[PH_DATE_TEXT_MAX];

    if (facts->encrypted) {
        ph_buf_printf(out, "  session      %s, %s, %s%s\n", ph_tls_version_name(facts->version),
                      facts->cipher, facts->group,
                      facts->client_certificate_requested ? ", asked for our certificate" : "");
    }
    if (facts->chain != NULL) {
        ph_buf_printf(out, "  certificate  \"%s\" by \"%s\", until %s, for", facts->chain->subject,
                      facts->chain->issuer,
                      ph_date_format_iso((uint64_t)facts->chain->not_after_s * 1000, date));
        for (size_t i = 0; i < facts->chain->dns_name_count && i < 8; i++) {
            ph_buf_printf(out, " %s", facts->chain->dns_names[i]);
        }
        ph_buf_append(out,
                      facts->chain->dns_name_count == 0 ? PH_STR(" no DNS name\n") : PH_STR("\n"));
    }
}

static void put_text(struct ph_cli_trials *trials, const struct ph_trial *trial,
                     const struct verdicts *v)
{
    struct ph_buf *out = &trials->text;

    ph_buf_printf(out, "\n%s%s%s%s\n", trial->note->host,
                  trial->note->address[0] != '\0' ? " (" : "", trial->note->address,
                  trial->note->address[0] != '\0' ? ")" : "");
    put_session(out, trial->subject->facts);
    if (trial->reason == NULL) {
        ph_buf_printf(out, "  accepted     mail would be sent now, %s\n",
                      trial->subject->facts->encrypted ? "inside TLS" : "IN THE CLEAR");
    } else {
        ph_buf_printf(out, "  refused      at %s: %s: %s\n", trial->step,
                      ph_reason_token(trial->reason->kind), trial->reason->sentence);
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(levels); i++) {
        const struct verdict *level = &v->level[i];
        bool told =
            level->passes || (trial->reason != NULL && trial->reason->kind == level->reason.kind);

        ph_buf_printf(out, "  %-22s %s%s%s\n", ph_tls_level_name(levels[i]),
                      level->passes ? "passes" : ph_reason_token(level->reason.kind),
                      told ? "" : ": ", told ? "" : level->reason.sentence);
    }
    for (size_t i = 0; i < v->proposal_count; i++) {
        ph_buf_printf(out, "  would pass by          %s\n", v->proposals[i]);
    }
    if (v->proposal_count > 0 && trial->subject->facts->chain != NULL) {
        ph_buf_append(
            out, PH_STR("  (if this is the host you mean: ask its operator by another way)\n"));
    }
}

void ph_cli_trials_add(struct ph_cli_trials *trials, const struct ph_trial *trial)
{
    struct verdicts v = {0};

    for (size_t i = 0; i < PH_ARRAY_LEN(levels); i++) {
        struct ph_tls_policy policy = policy_of(trial, levels[i]);

        v.level[i] = judge(trial, &policy);
    }
    propose_all(&v, trial);
    trials->tried++;
    if (trial->reason == NULL) {
        trials->passed++;
        trials->passed_clear += !trial->subject->facts->encrypted;
    } else if (!ph_reason_is_tls(trials->reason.kind) || ph_reason_is_tls(trial->reason->kind)) {
        trials->reason = *trial->reason;
    }
    if (trials->as_json) {
        put_json(trials, trial, &v);
    } else {
        put_text(trials, trial, &v);
    }
}
