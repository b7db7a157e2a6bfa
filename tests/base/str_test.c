#include "base/str.h"

#include <criterion/criterion.h>
#include <string.h>

Test(str, lines_are_cut_whole)
{
    struct ph_str input = PH_STR("220 one\r\n\n250-two\nrest");
    struct ph_str line;

    cr_assert(ph_str_cut_line(&input, &line));
    cr_assert(ph_str_eq(line, PH_STR("220 one")));
    cr_assert(ph_str_cut_line(&input, &line));
    cr_assert_eq(line.len, 0);
    cr_assert(ph_str_cut_line(&input, &line));
    cr_assert(ph_str_eq(line, PH_STR("250-two")));
    cr_assert_not(ph_str_cut_line(&input, &line));
    cr_assert(ph_str_eq(input, PH_STR("rest")));
}

Test(str, numbers)
{
    static const struct {
        const char *text;
        bool valid;
        uint64_t value;
    } rows[] = {
        {"0", true, 0},   {"25", true, 25}, {"18446744073709551615", true, UINT64_MAX},
        {"", false, 0},   {"-1", false, 0}, {"18446744073709551616", false, 0},
        {" 1", false, 0}, {"1x", false, 0}, {"99999999999999999999", false, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t value = 7;
        bool valid = ph_str_to_u64(ph_str_from(rows[i].text), &value);

        cr_assert_eq(valid, rows[i].valid, "\"%s\"", rows[i].text);
        cr_assert_eq(value, valid ? rows[i].value : 7, "\"%s\"", rows[i].text);
    }
}

Test(str, comparing_and_cutting)
{
    struct ph_str list = PH_STR("a,,b");
    struct ph_str part;
    char small[4];

    cr_assert(ph_str_eq_nocase(PH_STR("StartTLS"), PH_STR("STARTTLS")));
    cr_assert_not(ph_str_eq_nocase(PH_STR("STARTTLS"), PH_STR("STARTTLSX")));
    cr_assert(ph_str_starts_nocase(PH_STR("AUTH PLAIN"), PH_STR("auth ")));
    cr_assert(ph_str_ends_nocase(PH_STR("mx.Contoso.COM"), PH_STR(".contoso.com")));
    cr_assert_not(ph_str_ends_nocase(PH_STR("com"), PH_STR(".com")));
    cr_assert_lt(ph_str_cmp(PH_STR("ab"), PH_STR("abc")), 0);
    cr_assert_gt(ph_str_cmp(PH_STR("b"), PH_STR("abc")), 0);
    cr_assert(ph_str_eq(ph_str_trim(PH_STR(" \tx \r\n")), PH_STR("x")));
    cr_assert_eq(ph_str_find(PH_STR("250 ok"), PH_STR("ok")), 4);
    cr_assert_eq(ph_str_find(PH_STR("250 ok"), PH_STR("ko")), -1);
    cr_assert_eq(ph_str_find((struct ph_str){.data = NULL}, PH_STR("ok")), -1);
    cr_assert_eq(ph_str_find_char(PH_STR_NONE, 'x'), -1);
    cr_assert_eq(ph_str_rfind_char(PH_STR("a:b:c"), ':'), 3);
    cr_assert(ph_str_cut(&list, ',', &part) && ph_str_eq(part, PH_STR("a")));
    cr_assert(ph_str_cut(&list, ',', &part) && part.len == 0);
    cr_assert(ph_str_cut(&list, ',', &part) && ph_str_eq(part, PH_STR("b")));
    cr_assert_not(ph_str_cut(&list, ',', &part));
    cr_assert_eq(ph_str_copy(small, sizeof(small), PH_STR("abcdef")), 3);
    cr_assert_str_eq(small, "abc");
    cr_assert_eq(ph_str_after(PH_STR("ab"), 5).len, 0);
    cr_assert_eq(ph_str_first(PH_STR("ab"), 5).len, 2);
}

Test(str, what_peers_write_becomes_plain)
{
    static const struct {
        const char *in;
        const char *out;
    } cases[] = {{"", ""},
                 {"plain \xc3\xa9", "plain \xc3\xa9"},
                 {"a\r\nb\x1b[2J\x7f", "a  b [2J "},
                 {"\xc2\x9b"
                  "31m",
                  "  31m"},
                 {"\xc2\xa0\xc2", "\xc2\xa0\xc2"}};

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        char text[64];

        ph_str_copy(text, sizeof(text), ph_str_from(cases[i].in));
        ph_text_make_plain(text, strlen(text));
        cr_expect_str_eq(text, cases[i].out);
    }
}

Test(str, utf8_sequences)
{
    static const struct {
        const char *text;
        size_t len;
    } rows[] = {
        {"a", 1},
        {"", 0},
        {"\xc3\xa9x", 2},
        {"\xe2\x82\xac", 3},
        {"\xf0\x9f\x92\xa9", 4},
        {"\xc3", 0}, // cut off
        {"\xe2\x82", 0},
        {"\xf0\x9f\x92", 0},
        {"\xc0\x80", 0}, // longer than need be
        {"\xe0\x80\x80", 0},
        {"\xf0\x80\x80\x80", 0},
        {"\xed\xa0\x80", 0},     // half of a surrogate pair
        {"\xf4\x90\x80\x80", 0}, // beyond U+10FFFF
        {"\x80", 0},
        {"\xff", 0},
        {"\xc3\x28", 0},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        cr_expect_eq(ph_str_utf8_len(ph_str_from(rows[i].text)), rows[i].len, "row %zu", i);
    }
}
