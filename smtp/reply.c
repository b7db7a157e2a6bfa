// Reads one SMTP reply out of bytes as they arrive.
#include "smtp/reply.h"

static enum ph_reply_result read_line(struct ph_reply *reply, struct ph_str line);
static uint16_t parse_code(struct ph_str line);

void ph_reply_init(struct ph_reply *reply)
{
    *reply = (struct ph_reply){0};
    ph_buf_init(&reply->text, PH_REPLY_BYTES_MAX);
}

void ph_reply_deinit(struct ph_reply *reply)
{
    ph_buf_deinit(&reply->text);
}

void ph_reply_reset(struct ph_reply *reply)
{
    reply->code = 0;
    reply->line_count = 0;
    ph_buf_clear(&reply->text);
}

enum ph_reply_result ph_reply_feed(struct ph_reply *reply, struct ph_str *input)
{
    enum ph_reply_result result = PH_REPLY_MORE;
    struct ph_str line;

    while (result == PH_REPLY_MORE && ph_str_cut_line(input, &line)) {
        result = read_line(reply, line);
    }
    // A line that never ends would have the caller buffer without bound.
    if (result == PH_REPLY_MORE && input->len > PH_REPLY_LINE_BYTES_MAX) {
        result = PH_REPLY_MALFORMED;
    }
    return result;
}

// "250-text", "250 text" or "250", without its line end.
static enum ph_reply_result read_line(struct ph_reply *reply, struct ph_str line)
{
    uint16_t code = parse_code(line);
    bool differs = reply->line_count > 0 && code != reply->code;
    bool too_long = line.len + 2 > PH_REPLY_LINE_BYTES_MAX; // 2: the CRLF
    bool last = line.len <= 3 || line.data[3] == ' ';
    bool separator_bad = !last && line.data[3] != '-';
    // A bare CR or a NUL inside a line is nobody's honest text.
    bool bytes_bad = ph_str_find_char(line, '\r') >= 0 || ph_str_find_char(line, '\0') >= 0;

    if (code == 0 || differs || too_long || separator_bad || bytes_bad ||
        reply->line_count == PH_REPLY_LINES_MAX ||
        !ph_buf_append(&reply->text, ph_str_after(line, 4)) ||
        !ph_buf_append_char(&reply->text, '\n')) {
        return PH_REPLY_MALFORMED;
    }
    reply->code = code;
    reply->line_count++;
    return last ? PH_REPLY_COMPLETE : PH_REPLY_MORE;
}

// 0 unless the line begins with three digits that are a code of RFC 5321 §4.2.1.
static uint16_t parse_code(struct ph_str line)
{
    uint64_t code;

    if (line.len < 3 || !ph_str_to_u64(ph_str_first(line, 3), &code) || code < 200 || code > 599) {
        return 0;
    }
    return (uint16_t)code;
}

struct ph_status ph_reply_status(const struct ph_reply *reply, struct ph_str *out_text)
{
    struct ph_str text = ph_buf_str(&reply->text);
    struct ph_status status = {0};
    ptrdiff_t line_start;

    if (text.len > 0) {
        text.len--; // the last line's '\n'
    }
    line_start = ph_str_rfind_char(text, '\n');
    text = ph_str_after(text, (size_t)(line_start + 1));
    if (ph_status_parse(&text, &status) && status.class != reply->code / 100) {
        status = (struct ph_status){0};
    }
    if (out_text != NULL) {
        *out_text = text;
    }
    return status;
}
