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

Test(policy, names_that_are_demanded)
{
    static const struct ph_str listed[] = {{"mx.a.test", 9}, {"*.b.test", 8}};
    static const struct {
        struct ph_tls_policy policy;
        enum ph_tls_level level;
        size_t count;
        const char *first;
    } rows[] = {
        {{.tls_domains = listed, .tls_domain_count = 2}, PH_TLS_DOMAIN_VALIDATION, 2, "mx.a.test"},
        {{.tls_domains = listed, .tls_domain_count = 2}, PH_TLS_CERTIFICATE_VALIDATION, 0, ""},
        {{.tls_domains = NULL}, PH_TLS_DOMAIN_VALIDATION, 1, "rcpt.test"},
        {{.tls_domains = listed, .tls_domain_count = 2, .name_source = PH_TLS_NAME_RECIPIENT},
         PH_TLS_DOMAIN_VALIDATION,
         1,
         "rcpt.test"},
        {{.tls_domains = listed, .tls_domain_count = 2, .name_source = PH_TLS_NAME_HOST},
         PH_TLS_DOMAIN_VALIDATION,
         1,
         "mx.host.test"},
        {{.tls_domains = listed, .tls_domain_count = 2, .domain_secure = true},
         PH_TLS_OPPORTUNISTIC,
         1,
         "rcpt.test"},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_str names[PH_TLS_DOMAINS_MAX] = {PH_STR_NONE};

        cr_expect_eq(ph_tls_policy_names(&rows[i].policy, rows[i].level, PH_STR("rcpt.test"),
                                         PH_STR("mx.host.test"), names),
                     rows[i].count, "%zu", i);
        cr_expect(ph_str_eq(names[0], ph_str_from(rows[i].first)), "%zu", i);
    }
}
