// The reader of replies and of what EHLO announces: cut anywhere, the same reading.
#include <string.h>

#include "smtp/ehlo.h"
#include "smtp/reply.h"
#include "tests/fuzz/input.h"

// Feeds `text` in steps of `step` bytes; returns the last result.
static enum ph_reply_result read_by(struct ph_reply *reply, struct ph_str text, size_t step,
                                    size_t *out_taken)
{
    enum ph_reply_result result = PH_REPLY_MORE;
    size_t given = 0;
    size_t taken = 0;

    while (result == PH_REPLY_MORE && given < text.len) {
        struct ph_str input;
        size_t before;

        given = given + step < text.len ? given + step : text.len;
        input = (struct ph_str){.data = text.data + taken, .len = given - taken};
        before = input.len;
        result = ph_reply_feed(reply, &input);
        PH_CHECK(input.len <= before);
        taken += before - input.len;
    }
    *out_taken = taken;
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ph_str text = {.data = (const char *)data, .len = size};
    struct ph_reply whole;
    struct ph_reply pieces;
    size_t whole_taken;
    size_t pieces_taken;
    enum ph_reply_result result;

    ph_reply_init(&whole);
    ph_reply_init(&pieces);
    result = read_by(&whole, text, size > 0 ? size : 1, &whole_taken);
    PH_CHECK(read_by(&pieces, text, 1, &pieces_taken) == result);
    if (result == PH_REPLY_COMPLETE) {
        struct ph_str rest;
        struct ph_status status = ph_reply_status(&whole, &rest);

        PH_CHECK(whole_taken == pieces_taken && whole.code == pieces.code);
        PH_CHECK(ph_str_eq(ph_buf_str(&whole.text), ph_buf_str(&pieces.text)));
        PH_CHECK(whole.code >= 200 && whole.code <= 599 && whole.line_count > 0);
        PH_CHECK(status.class == 0 || status.class == whole.code / 100);
        if (whole.code == 250) {
            (void)ph_ehlo_parse(&whole);
        }
    }
    ph_reply_deinit(&whole);
    ph_reply_deinit(&pieces);
    return 0;
}
