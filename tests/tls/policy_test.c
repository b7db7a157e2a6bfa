#include "tls/policy.h"

#include <criterion/criterion.h>

Test(policy, zero_is_the_strictest)
{
    struct ph_tls_policy zero = {0};

    cr_assert_eq(ph_tls_policy_level(&zero), PH_TLS_DOMAIN_VALIDATION);
    cr_assert(ph_tls_policy_forces(&zero));
    cr_assert(ph_tls_policy_needs_chain(&zero));
}

Test(policy, report_mode_lowers_the_level_only)
{
    struct ph_tls_policy policy = {
        .level = PH_TLS_DOMAIN_VALIDATION, .report = true, .report_floor = PH_TLS_OPPORTUNISTIC};

    cr_assert_not(ph_tls_policy_forces(&policy));
    policy.domain_secure = true; // stays enforced
    cr_assert(ph_tls_policy_forces(&policy));
    cr_assert(ph_tls_policy_needs_chain(&policy));
    policy.level = PH_TLS_OPPORTUNISTIC;
    policy.report_floor = PH_TLS_ENCRYPTION_ONLY;
    cr_assert_eq(ph_tls_policy_level(&policy), PH_TLS_OPPORTUNISTIC);
}

Test(policy, equal_means_the_same_demand)
{
    static const struct ph_str one[] = {{"mx.contoso.com", 14}};
    static const struct ph_str same[] = {{"MX.contoso.com", 14}};
    struct ph_tls_policy a = {.tls_domains = one, .tls_domain_count = 1};
    struct ph_tls_policy b = {.tls_domains = same, .tls_domain_count = 1};

    cr_assert(ph_tls_policy_eq(&a, &b));
    b.trust_id = 9;
    cr_assert_not(ph_tls_policy_eq(&a, &b));
    b = a;
    b.domain_secure = true;
    cr_assert_not(ph_tls_policy_eq(&a, &b));
    b = a;
    b.tls_domain_count = 0;
    cr_assert_not(ph_tls_policy_eq(&a, &b));
}
