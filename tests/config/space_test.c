#include "config/space.h"

#include <criterion/criterion.h>

static bool reads(const char *text, const char *domain, bool subdomains, uint32_t cost)
{
    char room[PH_DOMAIN_BYTES_MAX + 1];
    struct ph_address_space space;

    return ph_space_read(ph_str_from(text), room, &space) &&
           ph_str_eq(space.domain, ph_str_from(domain)) && space.subdomains == subdomains &&
           space.cost == cost && space.all == (text[0] == '*' && text[1] != '.');
}

Test(space, texts_of_exchange)
{
    static const char *const refused[] = {"",
                                          ";",
                                          ";1",
                                          "contoso.com;0",
                                          "contoso.com;101",
                                          "contoso.com;1;2",
                                          "**",
                                          "*contoso.com",
                                          "a.*.com",
                                          "*.*.com",
                                          "X400:c=us",
                                          "--",
                                          "contoso..com",
                                          "a b.com"};

    cr_expect(reads("contoso.com", "contoso.com", false, 1));
    cr_expect(reads("SMTP:Contoso.COM.;1", "contoso.com", false, 1));
    cr_expect(reads("smtp:*.contoso.com;100", "contoso.com", true, 100));
    cr_expect(reads("*.com", "com", true, 1));
    cr_expect(reads("*", "", false, 1));
    cr_expect(reads("*;7", "", false, 7));
    cr_expect(reads("b\xc3\xbc"
                    "cher.example",
                    "xn--bcher-kva.example", false, 1));
    for (size_t i = 0; i < PH_ARRAY_LEN(refused); i++) {
        char room[PH_DOMAIN_BYTES_MAX + 1];
        struct ph_address_space space;

        cr_expect(!ph_space_read(ph_str_from(refused[i]), room, &space), "\"%s\"", refused[i]);
    }
}

Test(space, the_most_specific_then_the_cheapest_then_the_name_wins)
{
    static const struct ph_address_space spaces[] = {
        {.domain = PH_STR("contoso.com"), .cost = 9},
        {.domain = PH_STR("eu.contoso.com"), .subdomains = true, .cost = 9},
        {.domain = PH_STR("contoso.com"), .subdomains = true, .cost = 1},
        {.domain = PH_STR_NONE, .all = true, .cost = 1},
    };
    static const struct {
        const char *domain;
        int best; // of `spaces`
    } cases[] = {{"contoso.com", 0},    {"eu.contoso.com", 1}, {"a.eu.contoso.com", 1},
                 {"us.contoso.com", 2}, {"notcontoso.com", 3}, {"com", 3}};
    struct ph_send_connector a = {
        .name = PH_STR("a"), .address_spaces = spaces, .address_space_count = PH_ARRAY_LEN(spaces)};
    struct ph_send_connector b = {.name = PH_STR("b")};

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_space_match match = ph_space_match(&a, ph_str_from(cases[i].domain));

        cr_expect_eq(match.space, &spaces[cases[i].best], "%s", cases[i].domain);
    }
    for (size_t i = 0; i < 2; i++) {
        struct ph_address_space dear = {.domain = PH_STR("x.test"), .cost = 2};
        struct ph_address_space cheap = {.domain = PH_STR("x.test"), .cost = 2 - (uint32_t)i};
        struct ph_space_match left = {.connector = &b, .space = &cheap};
        struct ph_space_match right = {.connector = &a, .space = &dear};

        cr_expect_eq(ph_space_better(&left, &right, PH_STR("x.test")), i == 1);
        cr_expect_eq(ph_space_better(&right, &left, PH_STR("x.test")), i == 0);
    }
    cr_expect_null(ph_space_match(&b, PH_STR("x.test")).connector);
}
