#include "smtp/reply.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct {
    const char *input;
    size_t len; // 0: of the string
    enum ph_reply_result result;
    uint16_t code;
    const char *text;
    const char *rest;
} rows[] = {
    {"220 mx1 ESMTP\r\n", 0, PH_REPLY_COMPLETE, 220, "mx1 ESMTP\n", ""},
    {"250\r\n", 0, PH_REPLY_COMPLETE, 250, "\n", ""},
    {"250 \r\n", 0, PH_REPLY_COMPLETE, 250, "\n", ""},
    {"250-one\r\n250-two\r\n250 three\r\n", 0, PH_REPLY_COMPLETE, 250, "one\ntwo\nthree\n", ""},
    {"250 ok\n354 go\r\n", 0, PH_REPLY_COMPLETE, 250, "ok\n", "354 go\r\n"},
    {"421-a\r\n421 b\r\nx", 0, PH_REPLY_COMPLETE, 421, "a\nb\n", "x"},
    {"250-one\r\n", 0, PH_REPLY_MORE, 250, "one\n", ""},
    {"25", 0, PH_REPLY_MORE, 0, "", "25"},
    {"250-one\r\n550 two\r\n", 0, PH_REPLY_MALFORMED, 0, NULL, NULL},
    {"199 x\r\n", 0, PH_REPLY_MALFORMED, 0, NULL, NULL},
    {"600 x\r\n", 0, PH_REPLY_MALFORMED, 0, NULL, NULL},
    {"25x x\r\n", 0, PH_REPLY_MALFORMED, 0, NULL, NULL},
    {"250+x\r\n", 0, PH_REPLY_MALFORMED, 0, NULL, NULL},
    {"2500 x\r\n", 0, PH_REPLY_MALFORMED, 0, NULL, NULL},
    {"\r\n", 0, PH_REPLY_MALFORMED, 0, NULL, NULL},
    {"ok\r\n", 0, PH_REPLY_MALFORMED, 0, NULL, NULL},
    {"250 a\rb\r\n", 0, PH_REPLY_MALFORMED, 0, NULL, NULL},
    {"250 a\0b\r\n", 9, PH_REPLY_MALFORMED, 0, NULL, NULL},
};

// Fed in pieces that end anywhere: the same answer as whole.
static enum ph_reply_result feed_in_pieces(struct ph_reply *reply, struct ph_str input,
                                           size_t piece, struct ph_str *out_rest)
{
    enum ph_reply_result result = PH_REPLY_MORE;
    size_t arrived = 0;

    *out_rest = ph_str_first(input, 0);
    while (result == PH_REPLY_MORE && arrived < input.len) {
        size_t used = (size_t)(out_rest->data - input.data);

        arrived = arrived + piece < input.len ? arrived + piece : input.len;
        *out_rest = (struct ph_str){input.data + used, arrived - used};
        result = ph_reply_feed(reply, out_rest);
    }
    *out_rest = (struct ph_str){out_rest->data, input.len - (size_t)(out_rest->data - input.data)};
    return result;
}

Test(reply, the_same_whole_and_in_pieces)
{
    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_str input = {rows[i].input, rows[i].len ? rows[i].len : strlen(rows[i].input)};

        for (size_t piece = 1; piece <= input.len; piece++) {
            struct ph_reply reply;
            struct ph_str rest;
            enum ph_reply_result result;

            ph_reply_init(&reply);
            result = feed_in_pieces(&reply, input, piece, &rest);
            cr_assert_eq(result, rows[i].result, "row %zu, pieces of %zu", i, piece);
            if (result != PH_REPLY_MALFORMED) {
                cr_assert_eq(reply.code, rows[i].code, "row %zu", i);
                cr_assert(ph_str_eq(ph_buf_str(&reply.text), ph_str_from(rows[i].text)), "row %zu",
                          i);
                cr_assert(ph_str_eq(rest, ph_str_from(rows[i].rest)), "row %zu", i);
            }
            ph_reply_deinit(&reply);
        }
    }
}

Test(reply, limits_hold_and_one_past_them_does_not)
{
    char line[PH_REPLY_LINE_BYTES_MAX + 2];
    struct ph_reply reply;
    struct ph_str input;

    memset(line, 'x', sizeof(line));
    memcpy(line, "250 ", 4);
    ph_reply_init(&reply);
    memcpy(line + PH_REPLY_LINE_BYTES_MAX - 2, "\r\n", 2);
    input = (struct ph_str){line, PH_REPLY_LINE_BYTES_MAX};
    cr_assert_eq(ph_reply_feed(&reply, &input), PH_REPLY_COMPLETE);
    ph_reply_reset(&reply);
    memset(line + 4, 'x', sizeof(line) - 4);
    memcpy(line + PH_REPLY_LINE_BYTES_MAX - 1, "\r\n", 2);
    input = (struct ph_str){line, PH_REPLY_LINE_BYTES_MAX + 1};
    cr_assert_eq(ph_reply_feed(&reply, &input), PH_REPLY_MALFORMED);
    ph_reply_reset(&reply);
    memset(line + 4, 'x', sizeof(line) - 4);
    input = (struct ph_str){line, PH_REPLY_LINE_BYTES_MAX + 1}; // no end in sight
    cr_assert_eq(ph_reply_feed(&reply, &input), PH_REPLY_MALFORMED);
    ph_reply_reset(&reply);
    for (int i = 0; i < PH_REPLY_LINES_MAX; i++) {
        input = PH_STR("250-x\r\n");
        cr_assert_eq(ph_reply_feed(&reply, &input), PH_REPLY_MORE);
    }
    input = PH_STR("250 x\r\n");
    cr_assert_eq(ph_reply_feed(&reply, &input), PH_REPLY_MALFORMED);
    ph_reply_deinit(&reply);
}

Test(reply, enhanced_status_of_the_last_line)
{
    static const struct {
        const char *input;
        uint8_t class;
        uint16_t detail;
        const char *text;
    } cases[] = {
        {"550 5.1.1 no such user\r\n", 5, 1, "no such user"},
        {"550-5.1.9 a\r\n550 5.1.2 b\r\n", 5, 2, "b"},
        {"450 5.1.1 odd\r\n", 0, 0, "odd"},
        {"550 no status\r\n", 0, 0, "no status"},
        {"250\r\n", 0, 0, ""},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_reply reply;
        struct ph_str input = ph_str_from(cases[i].input);
        struct ph_str text;
        struct ph_status status;

        ph_reply_init(&reply);
        cr_assert_eq(ph_reply_feed(&reply, &input), PH_REPLY_COMPLETE);
        status = ph_reply_status(&reply, &text);
        cr_assert_eq(status.class, cases[i].class, "case %zu", i);
        cr_assert_eq(status.detail, cases[i].detail, "case %zu", i);
        cr_assert(ph_str_eq(text, ph_str_from(cases[i].text)), "case %zu", i);
        ph_reply_deinit(&reply);
    }
}
