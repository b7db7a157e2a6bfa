#include "base/endpoint.h"

#include <criterion/criterion.h>

Test(endpoint, addresses_with_ports)
{
    static const struct {
        const char *text;
        const char *formatted; // NULL: refused
    } rows[] = {
        {"127.0.0.1:2525", "127.0.0.1:2525"},
        {"[::1]:25", "[::1]:25"},
        {"[2001:DB8::1]:65535", "[2001:db8::1]:65535"},
        {"0.0.0.0:0", "0.0.0.0:0"},
        {"::1:25", NULL},
        {"127.0.0.1", NULL},
        {"127.0.0.1:65536", NULL},
        {"127.0.0.1:", NULL},
        {":25", NULL},
        {"[127.0.0.1]:25", NULL},
        {"localhost:25", NULL},
        {"", NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ph_endpoint endpoint;
        char text[PH_ENDPOINT_TEXT_MAX];
        bool parsed = ph_endpoint_parse(ph_str_from(rows[i].text), &endpoint);

        cr_assert_eq(parsed, rows[i].formatted != NULL, "\"%s\"", rows[i].text);
        if (parsed) {
            cr_assert_str_eq(ph_endpoint_format(&endpoint, text), rows[i].formatted);
        }
    }
}

Test(endpoint, ranges)
{
    static const struct {
        const char *range;
        const char *address;
        bool inside;
    } rows[] = {
        {"192.0.2.0/24", "192.0.2.255", true},
        {"192.0.2.0/24", "192.0.3.0", false},
        {"10.0.0.0/9", "10.127.1.1", true},
        {"10.0.0.0/9", "10.128.0.0", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"::/0", "203.0.113.9", false},
        {"::1", "::1", true},
        {"::1", "::2", false},
        {"fe80::/10", "febf::1", true},
        {"fe80::/10", "fec0::1", false},
    };
    struct ph_cidr range;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ph_endpoint address;

        cr_assert(ph_cidr_parse(ph_str_from(rows[i].range), &range));
        cr_assert(ph_endpoint_parse_address(ph_str_from(rows[i].address), &address));
        cr_assert_eq(ph_cidr_contains(&range, &address), rows[i].inside, "%s in %s",
                     rows[i].address, rows[i].range);
    }
    cr_assert_not(ph_cidr_parse(PH_STR("10.0.0.0/33"), &range));
    cr_assert_not(ph_cidr_parse(PH_STR("10.0.0.0/"), &range));
    cr_assert_not(ph_cidr_parse(PH_STR("ten/8"), &range));
}

Test(endpoint, special_addresses_are_no_destinations)
{
    static const struct {
        const char *address;
        bool special;
    } rows[] = {
        {"127.0.0.1", true},
        {"0.1.2.3", true},
        {"10.1.2.3", true},
        {"100.64.0.1", true},
        {"169.254.1.1", true},
        {"172.31.255.255", true},
        {"192.168.0.1", true},
        {"198.19.0.1", true},
        {"224.0.0.1", true},
        {"255.255.255.255", true},
        {"::", true},
        {"::1", true},
        {"fc00::1", true},
        {"fe80::1", true},
        {"ff02::1", true},
        {"::ffff:127.0.0.1", true},
        {"64:ff9b::a00:1", true},
        {"2002:7f00:1::1", true},
        {"::ffff:8.8.8.8", false},
        {"8.8.8.8", false},
        {"172.32.0.1", false},
        {"2606:4700::1", false},
        {"2002:808:808::1", false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ph_endpoint address;

        cr_assert(ph_endpoint_parse_address(ph_str_from(rows[i].address), &address));
        cr_assert_eq(ph_endpoint_is_special(&address), rows[i].special, "%s", rows[i].address);
    }
}

Test(endpoint, any)
{
    static const struct {
        const char *text;
        bool any;
    } cases[] = {{"0.0.0.0", true}, {"::", true}, {"0.0.0.1", false}, {"::1", false}};
    struct ph_endpoint endpoint = {0};

    cr_expect(!ph_endpoint_is_any(&endpoint)); // no address at all
    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        cr_assert(ph_endpoint_parse_address(ph_str_from(cases[i].text), &endpoint));
        cr_expect_eq(ph_endpoint_is_any(&endpoint), cases[i].any, "%s", cases[i].text);
    }
}
