// Covers: base/base64 base/date base/log
#include <criterion/criterion.h>

#include "base/base64.h"
#include "base/date.h"
#include "base/json.h"
#include "base/log.h"

Test(json, members_commas_and_escapes)
{
    struct ph_buf out = {0};
    struct ph_json json;

    ph_json_init(&json, &out);
    ph_json_open_object(&json, NULL);
    ph_json_text(&json, "a", "x\"y\\z\n");
    ph_json_u64(&json, "b", UINT64_MAX);
    ph_json_i64(&json, "c", -5);
    ph_json_open_array(&json, "d");
    ph_json_bool(&json, NULL, true);
    ph_json_null(&json, NULL);
    ph_json_open_object(&json, NULL);
    ph_json_close_object(&json);
    ph_json_close_array(&json);
    ph_json_double(&json, "e", 0.5);
    ph_json_members(&json, PH_STR("\"f\":1"));
    ph_json_members(&json, PH_STR_NONE);
    ph_json_close_object(&json);
    cr_assert_str_eq(ph_buf_cstr(&out),
                     "{\"a\":\"x\\\"y\\\\z\\u000a\",\"b\":18446744073709551615,\"c\":-5,"
                     "\"d\":[true,null,{}],\"e\":0.5,\"f\":1}");
    ph_buf_deinit(&out);
}

// Eight bytes are looked at together: each byte at each place must come out as it does alone.
Test(json, escapes_at_every_place)
{
    for (unsigned byte = 0; byte < 0x80; byte++) {
        char alone[] = {(char)byte};
        struct ph_buf escaped = {0};
        struct ph_json json;

        ph_json_init(&json, &escaped);
        ph_json_string(&json, NULL, (struct ph_str){.data = alone, .len = 1}, 0);
        for (size_t at = 0; at < 17; at++) {
            char text[17];
            struct ph_buf out = {0};
            struct ph_buf wanted = {0};

            memset(text, '~', sizeof(text));
            text[at] = (char)byte;
            ph_json_init(&json, &out);
            ph_json_string(&json, NULL, (struct ph_str){.data = text, .len = sizeof(text)}, 0);
            ph_buf_printf(&wanted, "\"%.*s%.*s%.*s\"", (int)at, "~~~~~~~~~~~~~~~~~",
                          (int)escaped.len - 2, escaped.data + 1, (int)(16 - at),
                          "~~~~~~~~~~~~~~~~~");
            cr_expect_str_eq(ph_buf_cstr(&out), ph_buf_cstr(&wanted));
            ph_buf_deinit(&out);
            ph_buf_deinit(&wanted);
        }
        ph_buf_deinit(&escaped);
    }
}

Test(json, bytes_that_are_no_utf8_are_replaced)
{
    static const struct {
        struct ph_str in;
        const char *out;
    } rows[] = {
        {{"\xc3\xa4", 2}, "\"\xc3\xa4\""},
        {{"\xc3", 1}, "\"\xef\xbf\xbd\""},
        {{"\xc0\x80", 2}, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xed\xa0\x80", 3}, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xf0\x9f\x98\x80", 4}, "\"\xf0\x9f\x98\x80\""},
        {{"\0", 1}, "\"\\u0000\""},
        {{"\xc2\x9b\xc2\xa0", 4}, "\"\\u009b\xc2\xa0\""},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_buf out = {0};
        struct ph_json json;

        ph_json_init(&json, &out);
        ph_json_string(&json, NULL, rows[i].in, 0);
        cr_expect_str_eq(ph_buf_cstr(&out), rows[i].out, "row %zu", i);
        ph_buf_deinit(&out);
    }
}

Test(base64, there_and_back_and_strict)
{
    static const char *const bad[] = {
        "A", "AA", "AAA", "A===", "AA=A", "AB==", "AAB=", "A A=", "AAAA====", "====", "AA==AAAA"};
    struct ph_buf text = {0};
    struct ph_buf back = {0};

    for (size_t len = 0; len < 70; len++) {
        char bytes[70];

        for (size_t i = 0; i < len; i++) {
            bytes[i] = (char)(i * 37 + len);
        }
        ph_buf_clear(&text);
        ph_buf_clear(&back);
        ph_base64_encode((struct ph_str){.data = bytes, .len = len}, &text);
        cr_assert(ph_base64_decode(ph_buf_str(&text), &back));
        cr_assert(ph_str_eq(ph_buf_str(&back), (struct ph_str){.data = bytes, .len = len}));
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(bad); i++) {
        ph_buf_clear(&back);
        cr_expect(!ph_base64_decode(ph_str_from(bad[i]), &back), "%s", bad[i]);
        cr_expect_eq(back.len, 0, "%s", bad[i]);
    }
    ph_buf_deinit(&text);
    ph_buf_deinit(&back);
}

Test(date, both_forms)
{
    char out[PH_DATE_TEXT_MAX];

    cr_expect_str_eq(ph_date_format(0, out), "Thu, 1 Jan 1970 00:00:00 +0000");
    cr_expect_str_eq(ph_date_format(UINT64_C(1795508260123), out),
                     "Tue, 24 Nov 2026 08:17:40 +0000");
    cr_expect_str_eq(ph_date_format_iso(UINT64_C(1795508260123), out), "2026-11-24T08:17:40.123Z");
}

static char caught[PH_LOG_LINE_MAX];

static void catch_line(void *owner, enum ph_log_level level, const char *line)
{
    (void)owner;
    (void)level;
    ph_str_copy(caught, sizeof(caught), ph_str_from(line));
}

Test(log, one_line_and_levels)
{
    enum ph_log_level level;

    ph_log_set_sink(catch_line, NULL);
    ph_log(PH_LOG_WARN, "a\nforged: line %d", 1);
    cr_expect_str_eq(caught, "a forged: line 1");
    ph_log(PH_LOG_DEBUG, "not told");
    cr_expect_str_eq(caught, "a forged: line 1");
    cr_expect(ph_log_level_from(PH_STR("DEBUG"), &level) && level == PH_LOG_DEBUG);
    cr_expect(!ph_log_level_from(PH_STR("loud"), &level));
    ph_log_set_sink(NULL, NULL);
}
