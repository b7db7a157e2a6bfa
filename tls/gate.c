// Facts × policy → a clearance, or a reasoned refusal.
#include "tls/gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls/identity.h"
#include "tls/mta_sts.h"

#define PH_GATE_NAMES_SHOWN 3 // of a certificate, in a sentence

struct ph_clearance {
    enum ph_clearance_kind kind;
    uint64_t session_id;
};

enum stage {
    STAGE_HOST,    // nothing is connected yet
    STAGE_SESSION, // the handshake is done, the second EHLO isn't
    STAGE_ENVELOPE,
    STAGE_CREDENTIALS,
};

// A judgement in progress: what every step needs, and the refusal it may end in.
struct judgement {
    const struct ph_tls_policy *policy;
    const struct ph_gate_subject *subject;
    enum stage stage;
    enum ph_tls_level level;
    bool authenticated_by_dane;
    char host[PH_REASON_SENTENCE_MAX / 2]; // host_of writes it, for a refusal only
    char who[PH_REASON_SENTENCE_MAX / 3];  // who_of does
    struct ph_reason *out_reason;
};

// Each step returns true when it has nothing against the session.
static bool check_routing(struct judgement *j);
static bool check_host(struct judgement *j);
static bool check_encryption(struct judgement *j);
static bool check_version(struct judgement *j);
static bool check_group(struct judgement *j);
static bool check_chain(struct judgement *j);
static bool check_revocation(struct judgement *j);
static bool check_pins(struct judgement *j);
static bool check_names(struct judgement *j);
static bool check_mutual(struct judgement *j);
static bool check_dane(struct judgement *j);
static bool check_sts(struct judgement *j);
static bool check_requiretls(struct judgement *j);
static bool authenticated_by_dane(const struct ph_tls_policy *policy,
                                  const struct ph_gate_subject *subject);

// "mx1.example.org (192.0.2.7)". Sentences are made for refusals: what is cleared, envelope by
// envelope, formats nothing.
static const char *host_of(struct judgement *j)
{
    const struct ph_gate_subject *subject = j->subject;

    if (subject->host.len > 0) {
        snprintf(j->host, sizeof(j->host), "%.*s (%.*s)", PH_STR_ARG(subject->host),
                 PH_STR_ARG(subject->address));
    } else {
        snprintf(j->host, sizeof(j->host), "%.*s", PH_STR_ARG(subject->address));
    }
    return j->host;
}

// "connector contoso (posthaste.conf:31)": the file's own name, since senders read it too.
static const char *who_of(struct judgement *j)
{
    ptrdiff_t end = ph_str_find(j->policy->source, PH_STR(" SendConnector "));
    struct ph_str path = end > 0 ? ph_str_first(j->policy->source, (size_t)end) : PH_STR_NONE;
    struct ph_str place = PH_STR_NONE;

    while (ph_str_cut(&path, '/', &place)) {
    }
    snprintf(j->who, sizeof(j->who), "connector %.*s%s%.*s%s", PH_STR_ARG(j->subject->connector),
             place.len > 0 ? " (" : "", PH_STR_ARG(place), place.len > 0 ? ")" : "");
    return j->who;
}

// What the policy asks for, in words.
static const char *demand_of(const struct judgement *j)
{
    const char *demand = "no TLS";

    if (j->policy->domain_secure) {
        demand = "Domain Security (mutual TLS)";
    } else if (j->policy->requiretls) {
        demand = "REQUIRETLS";
    } else if (j->level == PH_TLS_DOMAIN_VALIDATION) {
        demand = "RequireTLS with DomainValidation";
    } else if (j->level == PH_TLS_CERTIFICATE_VALIDATION) {
        demand = "RequireTLS with CertificateValidation";
    } else if (j->level == PH_TLS_ENCRYPTION_ONLY) {
        demand = "RequireTLS";
    } else if (j->policy->credentials_exact_host) {
        demand = "BasicAuthRequireTLS";
    }
    return demand;
}

static bool judge(const struct ph_tls_policy *policy, const struct ph_gate_subject *subject,
                  enum stage stage, struct ph_reason *out_reason)
{
    struct judgement j = {
        .policy = policy,
        .subject = subject,
        .stage = stage,
        .level = ph_tls_policy_level(policy),
        .authenticated_by_dane = authenticated_by_dane(policy, subject),
        .out_reason = out_reason,
    };

    if (stage == STAGE_HOST) {
        return check_routing(&j) && check_host(&j);
    }
    // What the connector demands before what the destination does. The chain comes before the name:
    // an expired certificate is not called a wrong one.
    return check_routing(&j) && check_host(&j) && check_encryption(&j) && check_version(&j) &&
           check_group(&j) && check_chain(&j) && check_revocation(&j) && check_pins(&j) &&
           check_names(&j) && check_mutual(&j) && check_dane(&j) && check_sts(&j) &&
           check_requiretls(&j);
}

enum ph_gate_result ph_gate_judge_host(const struct ph_tls_policy *policy,
                                       const struct ph_gate_subject *subject,
                                       struct ph_reason *out_reason)
{
    return judge(policy, subject, STAGE_HOST, out_reason) ? PH_GATE_CLEARED : PH_GATE_REFUSED;
}

enum ph_gate_result ph_gate_judge_session(const struct ph_tls_policy *policy,
                                          const struct ph_gate_subject *subject,
                                          struct ph_reason *out_reason)
{
    return judge(policy, subject, STAGE_SESSION, out_reason) ? PH_GATE_CLEARED : PH_GATE_REFUSED;
}

enum ph_gate_result ph_gate_judge(const struct ph_tls_policy *policy,
                                  const struct ph_gate_subject *subject,
                                  enum ph_clearance_kind kind, struct ph_clearance **out_clearance,
                                  struct ph_reason *out_reason)
{
    enum stage stage = kind == PH_CLEARANCE_ENVELOPE ? STAGE_ENVELOPE : STAGE_CREDENTIALS;
    struct ph_clearance *clearance;

    PH_CHECK(subject->facts->session_id != 0);
    if (!judge(policy, subject, stage, out_reason)) {
        return PH_GATE_REFUSED;
    }
    clearance = ph_alloc(sizeof(*clearance));
    clearance->kind = kind;
    clearance->session_id = subject->facts->session_id;
    *out_clearance = clearance;
    return PH_GATE_CLEARED;
}

bool ph_clearance_spend(struct ph_clearance *clearance, enum ph_clearance_kind kind,
                        uint64_t session_id)
{
    bool valid = clearance->kind == kind && clearance->session_id == session_id;

    free(clearance);
    return valid;
}

void ph_clearance_destroy(struct ph_clearance *clearance)
{
    free(clearance);
}

const char *ph_gate_verified_by(const struct ph_tls_policy *policy,
                                const struct ph_gate_subject *subject)
{
    const char *verified_by = "none";
    bool names = ph_tls_policy_level(policy) == PH_TLS_DOMAIN_VALIDATION ||
                 policy->credentials_exact_host || policy->requiretls ||
                 ph_tls_policy_enforces_sts(policy);

    if (!subject->facts->encrypted) {
        verified_by = "none";
    } else if (policy->domain_secure) {
        verified_by = "mutual";
    } else if (authenticated_by_dane(policy, subject)) {
        verified_by = "dane";
    } else if (names) {
        verified_by = "chain+name";
    } else if (ph_tls_policy_needs_chain(policy)) {
        verified_by = "chain";
    }
    return verified_by;
}

// --- The steps, in the order they are taken
// -------------------------------------------------------

static bool check_routing(struct judgement *j)
{
    if (j->policy->domain_secure_misrouted) {
        *j->out_reason =
            ph_reason_make(PH_REASON_DOMAIN_SECURE_MISROUTED,
                           "%.*s is in TLSSendDomainSecureList, but %s has no DomainSecureEnabled; "
                           "set it there, or take the domain off the list",
                           PH_STR_ARG(j->subject->recipient_domain), who_of(j));
        return false;
    }
    return true;
}

static bool check_encryption(struct judgement *j)
{
    const struct ph_tls_facts *facts = j->subject->facts;
    bool forced = ph_tls_policy_forces(j->policy);

    if (facts->encrypted) {
        return true;
    }
    if (forced && facts->starttls_offered) {
        *j->out_reason = ph_reason_make(PH_REASON_STARTTLS_REFUSED,
                                        "%s demands %s; %s offered STARTTLS, but the "
                                        "session is not encrypted",
                                        who_of(j), demand_of(j), host_of(j));
        return false;
    }
    if (forced) {
        *j->out_reason = ph_reason_make(
            PH_REASON_TLS_NOT_OFFERED,
            "STARTTLS is required to send mail: %s demands %s; %s does not offer "
            "STARTTLS; its operator must enable it, or the connector's RequireTLS must go",
            who_of(j), demand_of(j), host_of(j));
        return false;
    }
    if (ph_gate_dane_applies(j->policy, j->subject->tlsa)) {
        *j->out_reason = ph_reason_make(
            PH_REASON_DANE_NO_TLS, "%.*s publishes TLSA records, which demand TLS; %s %s",
            PH_STR_ARG(j->subject->host), host_of(j),
            facts->starttls_offered ? "offered STARTTLS, but the session is not encrypted"
                                    : "does not offer STARTTLS");
        return false;
    }
    if (ph_tls_policy_enforces_sts(j->policy)) {
        *j->out_reason = ph_reason_make(
            facts->starttls_offered ? PH_REASON_STARTTLS_REFUSED : PH_REASON_TLS_NOT_OFFERED,
            "the MTA-STS policy of %s demands TLS; %s %s", j->policy->sts->domain, host_of(j),
            facts->starttls_offered ? "offered STARTTLS, but the session is not encrypted"
                                    : "does not offer STARTTLS");
        return false;
    }
    if (j->policy->credentials_exact_host ||
        (j->stage == STAGE_CREDENTIALS && !j->policy->credentials_in_clear)) {
        *j->out_reason = ph_reason_make(PH_REASON_AUTH_NEEDS_TLS,
                                        "%s authenticates over TLS only; %s offers no STARTTLS",
                                        who_of(j), host_of(j));
        return false;
    }
    return true;
}

static bool check_version(struct judgement *j)
{
    const struct ph_tls_facts *facts = j->subject->facts;

    if (facts->encrypted && facts->version < j->policy->version_min &&
        ph_tls_policy_forces(j->policy)) {
        *j->out_reason = ph_reason_make(PH_REASON_TLS_HANDSHAKE_FAILED,
                                        "%s demands at least %s; %s negotiated %s", who_of(j),
                                        ph_tls_version_name(j->policy->version_min), host_of(j),
                                        ph_tls_version_name(facts->version));
        return false;
    }
    return true;
}

// A session without a group (RSA key exchange) has none of those demanded.
static bool check_group(struct judgement *j)
{
    const struct ph_tls_facts *facts = j->subject->facts;
    struct ph_str rest = j->policy->require_groups;
    struct ph_str name;
    bool found = rest.len == 0 || !facts->encrypted || !ph_tls_policy_forces(j->policy);

    while (!found && ph_str_cut(&rest, ':', &name)) {
        found = facts->group[0] != '\0' &&
                ph_str_eq_nocase(ph_str_trim(name), ph_str_from(facts->group));
    }
    if (!found) {
        *j->out_reason = ph_reason_make(
            PH_REASON_TLS_HANDSHAKE_FAILED,
            "%s demands a key exchange by %.*s (TlsRequireGroups); with %s it was %s", who_of(j),
            PH_STR_ARG(j->policy->require_groups), host_of(j),
            facts->group[0] != '\0' ? facts->group : "without a group");
    }
    return found;
}

// DANE stands in for the chain where AcceptDane allows it, and for REQUIRETLS (RFC 8689 §4.2.1).
static bool needs_chain(const struct judgement *j)
{
    const struct ph_tls_policy *policy = j->policy;
    bool by_connector = j->level <= PH_TLS_CERTIFICATE_VALIDATION || policy->credentials_exact_host;

    return policy->domain_secure ||
           (by_connector && !(policy->accept_dane && j->authenticated_by_dane)) ||
           (policy->requiretls && !j->authenticated_by_dane);
}

static bool check_chain(struct judgement *j)
{
    const struct ph_chain *chain = j->subject->facts->chain;
    const struct ph_chain_verdict *verdict = j->subject->verdict;

    if (!needs_chain(j)) {
        return true;
    }
    if (chain == NULL) {
        *j->out_reason = ph_reason_make(PH_REASON_TLS_HANDSHAKE_FAILED,
                                        "%s demands %s; %s showed no certificate", who_of(j),
                                        demand_of(j), host_of(j));
        return false;
    }
    // A verdict on another chain, or by another trust store, is a mistake of ours.
    PH_CHECK(verdict != NULL && verdict->trust_id == j->policy->trust_id &&
             memcmp(verdict->chain_hash, chain->hash, PH_SHA256_BYTES) == 0);
    if (verdict->kind != PH_REASON_NONE) {
        *j->out_reason = ph_reason_make(verdict->kind, "%s demands %s; %s: %s", who_of(j),
                                        demand_of(j), host_of(j), verdict->detail);
        return false;
    }
    if ((int64_t)(j->subject->wall_ms / 1000) >= verdict->valid_until_s) {
        *j->out_reason = ph_reason_make(PH_REASON_CERT_EXPIRED,
                                        "%s demands %s; the certificate of %s has expired",
                                        who_of(j), demand_of(j), host_of(j));
        return false;
    }
    return true;
}

static bool check_revocation(struct judgement *j)
{
    const struct ph_chain_verdict *verdict = j->subject->verdict;

    if (!needs_chain(j)) {
        return true;
    }
    if (verdict->revocation == PH_REVOCATION_REVOKED) {
        *j->out_reason = ph_reason_make(
            PH_REASON_CERT_REVOKED, "%s demands %s; a certificate of %s is revoked: %s", who_of(j),
            demand_of(j), host_of(j), verdict->revocation_detail);
        return false;
    }
    if (verdict->revocation == PH_REVOCATION_UNKNOWN && !j->policy->revocation_unknown_accept) {
        *j->out_reason =
            ph_reason_make(PH_REASON_REVOCATION_UNKNOWN,
                           "%s demands %s; whether the certificate of %s is revoked can't be "
                           "ascertained: %s; RevocationUnknown = accept would deliver",
                           who_of(j), demand_of(j), host_of(j), verdict->revocation_detail);
        return false;
    }
    return true;
}

static bool check_pins(struct judgement *j)
{
    const struct ph_chain *chain = j->subject->facts->chain;
    bool pinned = j->policy->pin_count == 0 || !ph_tls_policy_forces(j->policy);

    for (size_t i = 0; !pinned && chain != NULL && i < j->policy->pin_count; i++) {
        pinned = memcmp(j->policy->pins[i].spki_sha256, chain->spki_sha256, PH_SHA256_BYTES) == 0;
    }
    if (!pinned) {
        *j->out_reason =
            ph_reason_make(PH_REASON_CERT_UNTRUSTED_ROOT,
                           "%s pins the key of its peers; the one of %s is not among TlsPins",
                           who_of(j), host_of(j));
    }
    return pinned;
}

// Credentials and REQUIRETLS are for this very host, beside what the level asks for. A smart host
// that is an IP literal has no name to match: then the level's TlsDomain must have done it.
static bool needs_host_name(const struct judgement *j)
{
    bool named_by_level = j->level == PH_TLS_DOMAIN_VALIDATION && j->policy->tls_domain_count > 0;

    return (j->policy->credentials_exact_host ||
            (j->policy->requiretls && !j->authenticated_by_dane)) &&
           !(j->subject->host.len == 0 && named_by_level);
}

static void join_names(char *out, size_t capacity, const struct ph_str *references, size_t count,
                       const struct ph_chain *chain)
{
    size_t total = chain != NULL ? chain->dns_name_count : count;
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < total && i < PH_GATE_NAMES_SHOWN && used < capacity - 1; i++) {
        struct ph_str name = chain != NULL ? ph_str_from(chain->dns_names[i]) : references[i];

        used += (size_t)snprintf(out + used, capacity - used, "%s%.*s", i > 0 ? ", " : "",
                                 (int)(name.len < 80 ? name.len : 80), name.data);
    }
    if (total > PH_GATE_NAMES_SHOWN && used < capacity - 1) {
        snprintf(out + used, capacity - used, " and %zu more", total - PH_GATE_NAMES_SHOWN);
    }
}

// Whose word the names are, and what helps where the certificate has none of them.
struct naming {
    const char *origin;
    const char *remedy;
};

static struct naming naming_of(const struct judgement *j)
{
    const struct ph_tls_policy *policy = j->policy;
    struct naming naming = {"the recipient's domain",
                            "its operator must get one with that name, or, if this is the right "
                            "host, list a name it has in TlsDomain"};

    if (policy->domain_secure) {
        naming.remedy = "the partner must get one with that name (TlsDomain does not count for "
                        "Domain Security)";
    } else if (policy->name_source == PH_TLS_NAME_HOST) {
        naming = (struct naming){"the host's name: TlsNameSource",
                                 "its operator must get one with that name, or TlsDomain must name "
                                 "another and TlsNameSource go"};
    } else if (policy->name_source == PH_TLS_NAME_TLSDOMAIN && policy->tls_domain_count > 0) {
        naming.origin = "TlsDomain";
    }
    return naming;
}

static bool match_names(struct judgement *j, const struct ph_str *references, size_t count,
                        struct naming naming)
{
    const struct ph_chain *chain = j->subject->facts->chain;
    const struct ph_chain_verdict *verdict = j->subject->verdict;
    struct ph_identity_result result =
        ph_identity_match(chain, references, count, j->policy->common_name);
    char wanted[200];
    char shown[200];

    if (!result.matches) {
        join_names(wanted, sizeof(wanted), references, count, NULL);
        join_names(shown, sizeof(shown), NULL, 0, chain);
        if (result.common_name_would) {
            naming.remedy = chain->has_dns_names
                                ? "its Common Name would do: TlsUseCommonName = always"
                                : "its Common Name would do: TlsUseCommonName = fallback";
        } else if (shown[0] == '\0') {
            naming.remedy = "its operator must get one with that name";
        }
        *j->out_reason = ph_reason_make(
            PH_REASON_CERT_NAME_MISMATCH,
            "%s demands %s and a certificate for %s (%s); %s showed %s for %s; %s", who_of(j),
            demand_of(j), wanted, naming.origin, host_of(j),
            verdict != NULL && verdict->kind == PH_REASON_NONE ? "a valid one" : "one",
            shown[0] != '\0' ? shown : "no DNS name", naming.remedy);
    }
    return result.matches;
}

static bool check_names(struct judgement *j)
{
    static const struct naming credentials = {
        "the host's own name", "its operator must get one with that name: credentials go to no "
                               "other"};
    static const struct naming requiretls = {
        "the host's own name", "its operator must get one with that name: REQUIRETLS takes no "
                               "other"};
    struct ph_str references[PH_TLS_DOMAINS_MAX];
    size_t count = ph_tls_policy_names(j->policy, j->level, j->subject->recipient_domain,
                                       j->subject->host, references);

    return (count == 0 || match_names(j, references, count, naming_of(j))) &&
           (!needs_host_name(j) ||
            match_names(j, &j->subject->host, 1,
                        j->policy->credentials_exact_host ? credentials : requiretls));
}

static bool check_mutual(struct judgement *j)
{
    const struct ph_tls_facts *facts = j->subject->facts;

    if (!j->policy->domain_secure) {
        return true;
    }
    if (!facts->client_certificate_requested) {
        *j->out_reason = ph_reason_make(
            PH_REASON_MUTUAL_NOT_REQUESTED,
            "Domain security requires mutual TLS with %.*s: %s did not ask for our certificate",
            PH_STR_ARG(j->subject->recipient_domain), host_of(j));
        return false;
    }
    if (!facts->client_certificate_sent) {
        *j->out_reason = ph_reason_make(
            PH_REASON_CLIENT_CERT_MISSING,
            "Domain security requires mutual TLS with %.*s: %s asked for our certificate, and the "
            "one in TlsCertificateName of %s could not be sent",
            PH_STR_ARG(j->subject->recipient_domain), host_of(j), who_of(j));
        return false;
    }
    return true;
}

// --- What the destination publishes ---

bool ph_gate_dane_applies(const struct ph_tls_policy *policy, const struct ph_tlsa *tlsa)
{
    return policy->dane_mode != PH_DANE_NONE && tlsa != NULL &&
           (tlsa->status == PH_TLSA_USABLE || tlsa->status == PH_TLSA_UNUSABLE);
}

bool ph_gate_demands_tls(const struct ph_tls_policy *policy, const struct ph_tlsa *tlsa)
{
    return ph_tls_policy_forces(policy) || ph_tls_policy_enforces_sts(policy) ||
           policy->dane_mode == PH_DANE_MANDATORY || ph_gate_dane_applies(policy, tlsa);
}

// The names one of which a certificate below a published authority must have (RFC 7672 §3.2.2).
static bool dane_names_match(const struct ph_gate_subject *subject)
{
    struct ph_str references[3];
    size_t count = 0;

    references[count++] = ph_str_from(subject->tlsa->base_domain);
    references[count++] = subject->recipient_domain;
    if (subject->host.len > 0) {
        references[count++] = subject->host;
    }
    return ph_identity_match(subject->facts->chain, references, count, PH_TLS_COMMON_NAME_NEVER)
        .matches;
}

static bool authenticated_by_dane(const struct ph_tls_policy *policy,
                                  const struct ph_gate_subject *subject)
{
    const struct ph_chain *chain = subject->facts != NULL ? subject->facts->chain : NULL;
    const struct ph_dane_verdict *dane = subject->dane;

    if (!ph_gate_dane_applies(policy, subject->tlsa) || subject->tlsa->status != PH_TLSA_USABLE ||
        chain == NULL) {
        return false;
    }
    // As with a chain verdict: one on another chain is a mistake of ours.
    PH_CHECK(dane != NULL && memcmp(dane->chain_hash, chain->hash, PH_SHA256_BYTES) == 0);
    return (int64_t)(subject->wall_ms / 1000) < dane->valid_until_s &&
           (dane->match == PH_DANE_MATCH_EE ||
            (dane->match == PH_DANE_MATCH_TA && dane_names_match(subject)));
}

static bool refuse_unpublished(struct judgement *j, const char *why)
{
    *j->out_reason =
        ph_reason_make(PH_REASON_DANE_REQUIRED,
                       "%s has SmtpDaneMode = Mandatory; %.*s %s; its operator must publish TLSA "
                       "records in a signed zone, or the connector's mode must be Opportunistic",
                       who_of(j), PH_STR_ARG(j->subject->recipient_domain), why);
    return false;
}

// Before a session: DANE that isn't known or is missing, an MX host that MTA-STS doesn't name.
static bool check_host(struct judgement *j)
{
    const struct ph_tls_policy *policy = j->policy;
    const struct ph_tlsa *tlsa = j->subject->tlsa;
    bool usable = tlsa != NULL && tlsa->status == PH_TLSA_USABLE;

    if (policy->dane_mode != PH_DANE_NONE &&
        (tlsa == NULL || tlsa->status == PH_TLSA_UNKNOWN || tlsa->status == PH_TLSA_FAILED)) {
        *j->out_reason = ph_reason_make(
            PH_REASON_DNS_FAILURE, "whether %s publishes TLSA records is not known", host_of(j));
        return false;
    }
    if (policy->dane_mode == PH_DANE_MANDATORY && !usable) {
        return refuse_unpublished(j, "has a mail host without usable TLSA records");
    }
    if (policy->dane_mode == PH_DANE_MANDATORY && !policy->mx_secure) {
        return refuse_unpublished(j, "has MX records that DNSSEC does not vouch for");
    }
    // DANE stands above MTA-STS: it needs no third party.
    if (ph_tls_policy_enforces_sts(policy) && !ph_gate_dane_applies(policy, tlsa) &&
        !ph_sts_mx_matches(policy->sts, j->subject->host)) {
        *j->out_reason = ph_reason_make(
            PH_REASON_STS_MX_MISMATCH,
            "MX hosts of '%s' failed MTA-STS validation: its policy (id %s) does not name %s",
            policy->sts->domain, policy->sts->id, host_of(j));
        return false;
    }
    return true;
}

static bool check_dane(struct judgement *j)
{
    const struct ph_gate_subject *subject = j->subject;
    const struct ph_dane_verdict *dane = subject->dane;
    enum ph_reason_kind kind = PH_REASON_DANE_HOST_MISMATCH;
    char shown[200];

    if (!ph_gate_dane_applies(j->policy, subject->tlsa) ||
        subject->tlsa->status != PH_TLSA_USABLE || j->authenticated_by_dane) {
        return true;
    }
    if (subject->facts->chain == NULL || dane->match == PH_DANE_NO_MATCH) {
        *j->out_reason =
            ph_reason_make(PH_REASON_DANE_MISMATCH,
                           "DANE: the certificate of %s is not the one that %s "
                           "publishes: %s",
                           host_of(j), subject->tlsa->base_domain,
                           subject->facts->chain == NULL ? "it showed none" : dane->detail);
        return false;
    }
    if (dane->match != PH_DANE_MATCH_TA ||
        (int64_t)(subject->wall_ms / 1000) >= dane->valid_until_s) {
        kind = PH_REASON_DANE_EXPIRED;
        *j->out_reason = ph_reason_make(kind, "DANE: of the chain that %s showed, %s", host_of(j),
                                        dane->match == PH_DANE_MATCH_STALE
                                            ? dane->detail
                                            : "a certificate has expired meanwhile");
        return false;
    }
    join_names(shown, sizeof(shown), NULL, 0, subject->facts->chain);
    *j->out_reason = ph_reason_make(
        kind, "DANE: %s showed a certificate of the published authority for %s, not for %s",
        host_of(j), shown[0] != '\0' ? shown : "no DNS name", subject->tlsa->base_domain);
    return false;
}

// What is wrong with the certificate by RFC 8461 §4.2: chain and the MX host's name. NULL: nothing.
static const char *sts_certificate_problem(const struct judgement *j, enum ph_reason_kind *out_kind)
{
    const struct ph_chain *chain = j->subject->facts->chain;
    const struct ph_chain_verdict *verdict = j->subject->verdict;

    *out_kind = PH_REASON_CERT_UNTRUSTED_ROOT;
    if (chain == NULL) {
        return "no certificate was shown";
    }
    if (verdict == NULL) {
        return "there is no trust store to verify it by";
    }
    PH_CHECK(verdict->trust_id == j->policy->trust_id &&
             memcmp(verdict->chain_hash, chain->hash, PH_SHA256_BYTES) == 0);
    if (verdict->kind != PH_REASON_NONE) {
        *out_kind = verdict->kind;
        return verdict->detail;
    }
    if ((int64_t)(j->subject->wall_ms / 1000) >= verdict->valid_until_s) {
        *out_kind = PH_REASON_CERT_EXPIRED;
        return "it has expired";
    }
    if (verdict->revocation == PH_REVOCATION_REVOKED) {
        *out_kind = PH_REASON_CERT_REVOKED;
        return "it is revoked";
    }
    if (!ph_identity_match(chain, &j->subject->host, 1, PH_TLS_COMMON_NAME_NEVER).matches) {
        *out_kind = PH_REASON_CERT_NAME_MISMATCH;
        return "it is for other names";
    }
    return NULL;
}

static bool check_sts(struct judgement *j)
{
    enum ph_reason_kind unused;
    const char *problem;

    if (!ph_tls_policy_enforces_sts(j->policy) ||
        ph_gate_dane_applies(j->policy, j->subject->tlsa)) {
        return true;
    }
    problem = sts_certificate_problem(j, &unused);
    if (problem != NULL) {
        *j->out_reason = ph_reason_make(
            PH_REASON_STS_CERT,
            "Remote certificate failed MTA-STS validation (policy of %s, id %s). Reason: %s: %s",
            j->policy->sts->domain, j->policy->sts->id, host_of(j), problem);
    }
    return problem == NULL;
}

bool ph_gate_meets_dane(const struct ph_tls_policy *policy, const struct ph_gate_subject *subject,
                        struct ph_reason *out_reason)
{
    struct judgement j = {.policy = policy,
                          .subject = subject,
                          .authenticated_by_dane = authenticated_by_dane(policy, subject),
                          .out_reason = out_reason};

    return check_dane(&j);
}

bool ph_gate_meets_sts(const struct ph_tls_policy *policy, const struct ph_gate_subject *subject,
                       struct ph_reason *out_reason)
{
    struct judgement j = {.policy = policy, .subject = subject, .out_reason = out_reason};
    enum ph_reason_kind kind = PH_REASON_STS_MX_MISMATCH;
    const char *problem = "the policy does not name it";

    if (ph_sts_mx_matches(policy->sts, subject->host)) {
        problem = sts_certificate_problem(&j, &kind);
    }
    if (problem != NULL) {
        *out_reason = ph_reason_make(kind, "%s: %s", host_of(&j), problem);
    }
    return problem == NULL;
}

// RFC 8689 §4.2.1: the host's name must be vouched for, and the next hop must offer REQUIRETLS, in
// the EHLO reply inside TLS.
static bool check_requiretls(struct judgement *j)
{
    bool vouched =
        j->policy->mx_secure || (j->policy->sts != NULL && j->policy->sts->mode != PH_STS_NONE &&
                                 ph_sts_mx_matches(j->policy->sts, j->subject->host));
    bool lacks =
        j->stage == STAGE_ENVELOPE && j->policy->requiretls && !j->subject->peer_offers_requiretls;

    if (j->policy->requiretls && !vouched) {
        *j->out_reason = ph_reason_make(
            PH_REASON_MX_INSECURE,
            "the sender asked for REQUIRETLS; neither DNSSEC nor an MTA-STS policy of %.*s vouches "
            "for the name of its mail host %s",
            PH_STR_ARG(j->subject->recipient_domain), host_of(j));
        return false;
    }
    if (lacks) {
        *j->out_reason =
            ph_reason_make(PH_REASON_REQUIRETLS_UNSUPPORTED,
                           "the sender asked for REQUIRETLS; %s does not offer it", host_of(j));
    }
    return !lacks;
}
