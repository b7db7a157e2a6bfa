// DATA and BDAT content: any split gives the same bytes, and what is accepted obeys the wire form
// (no bare CR or LF, ends with CRLF); a message that is sent and taken in again is the same.
#include <string.h>

#include "smtp/body.h"
#include "tests/fuzz/input.h"

static size_t read_by(struct ph_body *body, struct ph_str text, size_t step, struct ph_buf *out)
{
    size_t at = 0;

    while (at < text.len && !body->ended) {
        struct ph_str input = ph_str_first(ph_str_after(text, at), step);
        size_t before = input.len;

        ph_body_feed(body, &input, out);
        at += before - input.len;
        PH_CHECK(body->ended || input.len == 0);
    }
    if (body->mode == PH_BODY_BDAT) {
        ph_body_finish(body, out);
    }
    return at;
}

static void check_wire_form(struct ph_str content)
{
    for (size_t i = 0; i < content.len; i++) {
        if (content.data[i] == '\r') {
            PH_CHECK(i + 1 < content.len && content.data[i + 1] == '\n');
        } else if (content.data[i] == '\n') {
            PH_CHECK(i > 0 && content.data[i - 1] == '\r');
        }
    }
    PH_CHECK(content.len == 0 || content.data[content.len - 1] == '\n');
}

// As the sender does it: dots doubled, the final dot behind.
static void stuff(struct ph_str content, struct ph_buf *out)
{
    bool line_start = true;

    for (size_t i = 0; i < content.len; i++) {
        if (line_start && content.data[i] == '.') {
            ph_buf_append_char(out, '.');
        }
        ph_buf_append_char(out, content.data[i]);
        line_start = content.data[i] == '\n';
    }
    ph_buf_append(out, PH_STR(".\r\n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .len = size};
    uint8_t choice = fuzz_byte(&input);
    enum ph_body_mode mode = choice & 1 ? PH_BODY_BDAT : PH_BODY_DATA;
    bool normalize = choice & 2;
    struct ph_str text = fuzz_rest(&input);
    struct ph_body whole;
    struct ph_body pieces;
    struct ph_buf whole_out = {0};
    struct ph_buf pieces_out = {0};

    ph_body_init(&whole, mode, normalize);
    ph_body_init(&pieces, mode, normalize);
    PH_CHECK(read_by(&whole, text, text.len > 0 ? text.len : 1, &whole_out) ==
             read_by(&pieces, text, (size_t)(choice >> 2) % 7 + 1, &pieces_out));
    PH_CHECK(ph_str_eq(ph_buf_str(&whole_out), ph_buf_str(&pieces_out)));
    PH_CHECK(whole.ended == pieces.ended && whole.bare == pieces.bare && whole.nul == pieces.nul &&
             whole.has_8bit == pieces.has_8bit && whole.size == pieces.size &&
             whole.received_count == pieces.received_count &&
             whole.header_over == pieces.header_over);
    if (!whole.bare && (mode == PH_BODY_BDAT || whole.ended)) {
        struct ph_buf sent = {0};
        struct ph_buf again = {0};
        struct ph_body receiver;

        check_wire_form(ph_buf_str(&whole_out));
        stuff(ph_buf_str(&whole_out), &sent);
        ph_body_init(&receiver, PH_BODY_DATA, false);
        PH_CHECK(read_by(&receiver, ph_buf_str(&sent), sent.len, &again) == sent.len);
        PH_CHECK(receiver.ended && ph_str_eq(ph_buf_str(&again), ph_buf_str(&whole_out)));
        ph_buf_deinit(&sent);
        ph_buf_deinit(&again);
    }
    ph_buf_deinit(&whole_out);
    ph_buf_deinit(&pieces_out);
    return 0;
}
