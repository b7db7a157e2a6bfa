#include "tls/identity.h"

#include <criterion/criterion.h>

// docs/ARCHITECTURE.md: the name rows of Exchange's truth table, and RFC 9525 §6.
Test(identity, references_and_presented_names)
{
    static const struct {
        const char *reference;
        const char *presented;
        bool matches;
    } rows[] = {
        {"contoso.com", "contoso.com", true},
        {"contoso.com", "CONTOSO.com", true},
        {"contoso.com.", "contoso.com", true},
        {"MAIL.Contoso.COM", "mail.contoso.com", true},
        {"contoso.com", "mx1.contoso.com", false},
        {"contoso.com", "*.contoso.com", false},
        {"mail.contoso.com", "*.contoso.com", true},
        {"a.b.contoso.com", "*.contoso.com", false},
        {"xn--bcher-kva.example.com", "*.example.com", true},
        {"mail.contoso.com", "m*.contoso.com", false},
        {"mail.contoso.com", "*mail.contoso.com", false},
        {"mail.contoso.com", "mail.*.com", false},
        {"contoso.com", "*.com", false},
        {"com", "*", false},
        {"contoso.com", "contoso.com.", false},
        {"contoso.com", "contoso.com.evil.org", false},
        {"contoso.com", "notcontoso.com", false},
        {"contoso.com", "", false},
        {"", "", false},
        {"mx1.contoso.com", "mx1 .contoso.com", false},
        {"mx1.contoso.com", "mx1..contoso.com", false},
        {"b\xc3\xbc"
         "cher.example",
         "b\xc3\xbc"
         "cher.example",
         false},
        {"*.contoso.com", "contoso.com", true},
        {"*.contoso.com", "mx1.contoso.com", true},
        {"*.contoso.com", "a.b.contoso.com", true},
        {"*.contoso.com", "*.contoso.com", true},
        {"*.contoso.com", "*.eu.contoso.com", true},
        {"*.contoso.com", "*.com", false},
        {"*.contoso.com", "notcontoso.com", false},
        {"*.contoso.com", "contoso.com.evil.org", false},
        {"*.contoso.com", "m*.contoso.com", false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_assert_eq(ph_identity_name_matches(ph_str_from(rows[i].reference),
                                              ph_str_from(rows[i].presented)),
                     rows[i].matches, "reference \"%s\", presented \"%s\"", rows[i].reference,
                     rows[i].presented);
    }
    cr_assert_not(
        ph_identity_name_matches(PH_STR("mx1.contoso.com"), PH_STR("mx1.contoso.com\0.evil.org")));
}

Test(identity, limits_of_a_presentable_name)
{
    char label[65];
    char name[300];

    memset(label, 'a', sizeof(label));
    memset(name, 'b', sizeof(name));
    for (size_t i = 60; i < sizeof(name); i += 60) {
        name[i] = '.';
    }
    cr_assert(ph_identity_is_presentable((struct ph_str){label, 63}));
    cr_assert_not(ph_identity_is_presentable((struct ph_str){label, 64}));
    cr_assert(ph_identity_is_presentable((struct ph_str){name, 253}));
    cr_assert_not(ph_identity_is_presentable((struct ph_str){name, 254}));
}

Test(identity, the_common_name_counts_only_when_asked_for)
{
    static const char *other[] = {"other.org"};
    struct ph_str reference = PH_STR("contoso.com");
    static const struct {
        enum ph_tls_common_name mode;
        bool has_names;
        bool matches;
        bool would;
    } rows[] = {
        {PH_TLS_COMMON_NAME_NEVER, false, false, true},
        {PH_TLS_COMMON_NAME_NEVER, true, false, true},
        {PH_TLS_COMMON_NAME_FALLBACK, false, true, false},
        {PH_TLS_COMMON_NAME_FALLBACK, true, false, true},
        {PH_TLS_COMMON_NAME_ALWAYS, false, true, false},
        {PH_TLS_COMMON_NAME_ALWAYS, true, true, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ph_chain chain = {
            .common_name = "contoso.com",
            .dns_names = other,
            .dns_name_count = rows[i].has_names ? 1 : 0,
            .has_dns_names = rows[i].has_names,
        };
        struct ph_identity_result result = ph_identity_match(&chain, &reference, 1, rows[i].mode);

        cr_assert_eq(result.matches, rows[i].matches, "row %zu", i);
        cr_assert_eq(result.common_name_would, rows[i].would, "row %zu", i);
    }
}
