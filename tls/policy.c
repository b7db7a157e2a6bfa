// Demands on TLS: which level is in force, and what it takes to judge it.
#include "tls/policy.h"

#include <string.h>

#include "base/check.h"
#include "tls/mta_sts.h"

const char *ph_tls_level_name(enum ph_tls_level level)
{
    static const char *const names[] = {
        [PH_TLS_DOMAIN_VALIDATION] = "DomainValidation",
        [PH_TLS_CERTIFICATE_VALIDATION] = "CertificateValidation",
        [PH_TLS_ENCRYPTION_ONLY] = "EncryptionOnly",
        [PH_TLS_OPPORTUNISTIC] = "Opportunistic",
        [PH_TLS_NEVER] = "Never",
    };

    return names[level];
}

enum ph_tls_level ph_tls_policy_level(const struct ph_tls_policy *policy)
{
    // A floor that asks for more than the setting would raise it: then the setting stands.
    return policy->report && policy->report_floor > policy->level ? policy->report_floor
                                                                  : policy->level;
}

bool ph_tls_policy_forces(const struct ph_tls_policy *policy)
{
    return ph_tls_policy_level(policy) <= PH_TLS_ENCRYPTION_ONLY || policy->domain_secure ||
           policy->domain_secure_misrouted || policy->requiretls;
}

bool ph_tls_policy_needs_chain(const struct ph_tls_policy *policy)
{
    return ph_tls_policy_level(policy) <= PH_TLS_CERTIFICATE_VALIDATION || policy->domain_secure ||
           policy->requiretls || policy->credentials_exact_host;
}

bool ph_tls_policy_wants_verdict(const struct ph_tls_policy *policy)
{
    return ph_tls_policy_needs_chain(policy) || policy->sts != NULL;
}

bool ph_tls_policy_enforces_sts(const struct ph_tls_policy *policy)
{
    return policy->sts != NULL && policy->sts->mode == PH_STS_ENFORCE;
}

size_t ph_tls_policy_names(const struct ph_tls_policy *policy, enum ph_tls_level level,
                           struct ph_str recipient_domain, struct ph_str host,
                           struct ph_str out[PH_TLS_DOMAINS_MAX])
{
    size_t count = 1;

    if (policy->domain_secure) {
        out[0] = recipient_domain; // exact; TlsDomain doesn't count
    } else if (level != PH_TLS_DOMAIN_VALIDATION) {
        count = 0;
    } else if (policy->name_source == PH_TLS_NAME_HOST) {
        out[0] = host;
    } else if (policy->name_source == PH_TLS_NAME_TLSDOMAIN && policy->tls_domain_count > 0) {
        PH_CHECK(policy->tls_domain_count <= PH_TLS_DOMAINS_MAX);
        count = policy->tls_domain_count;
        memcpy(out, policy->tls_domains, count * sizeof(*out));
    } else {
        out[0] = recipient_domain;
    }
    return count;
}

void ph_tls_policy_waive_destination(struct ph_tls_policy *policy)
{
    if (policy->dane_mode == PH_DANE_OPPORTUNISTIC) {
        policy->dane_mode = PH_DANE_NONE;
    }
    policy->sts = NULL;
    policy->destination_waived = true;
}

static bool same_names(const struct ph_tls_policy *a, const struct ph_tls_policy *b)
{
    bool same = a->tls_domain_count == b->tls_domain_count;

    for (size_t i = 0; same && i < a->tls_domain_count; i++) {
        same = ph_str_eq_nocase(a->tls_domains[i], b->tls_domains[i]);
    }
    return same;
}

static bool same_pins(const struct ph_tls_policy *a, const struct ph_tls_policy *b)
{
    return a->pin_count == b->pin_count &&
           (a->pin_count == 0 || memcmp(a->pins, b->pins, a->pin_count * sizeof(*a->pins)) == 0);
}

bool ph_tls_policy_eq(const struct ph_tls_policy *a, const struct ph_tls_policy *b)
{
    return ph_tls_policy_level(a) == ph_tls_policy_level(b) &&
           a->domain_secure == b->domain_secure &&
           a->domain_secure_misrouted == b->domain_secure_misrouted &&
           a->requiretls == b->requiretls &&
           a->credentials_exact_host == b->credentials_exact_host &&
           a->credentials_in_clear == b->credentials_in_clear && a->fallback == b->fallback &&
           a->name_source == b->name_source && a->common_name == b->common_name &&
           a->revocation_unknown_accept == b->revocation_unknown_accept &&
           a->version_min == b->version_min &&
           ph_str_eq_nocase(a->require_groups, b->require_groups) && a->trust_id == b->trust_id &&
           a->dane_mode == b->dane_mode && a->accept_dane == b->accept_dane &&
           a->mx_secure == b->mx_secure && a->sts == b->sts && same_names(a, b) && same_pins(a, b);
}
