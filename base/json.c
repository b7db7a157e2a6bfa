// Writes JSON into a buffer.
#include "base/json.h"

#include <math.h>
#include <string.h>

#define PH_JSON_KEY_EXTRA 4 // comma, two quotes, colon

void ph_json_init(struct ph_json *json, struct ph_buf *out)
{
    *json = (struct ph_json){.out = out};
}

static bool plain(char byte)
{
    return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
}

// How many bytes at the front need no escape: eight at a time, as long as that goes.
static size_t plain_run(struct ph_str text)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t tops = ones << 7;
    size_t run = 0;

    while (text.len - run >= sizeof(uint64_t)) {
        uint64_t word;
        uint64_t quote;
        uint64_t backslash;
        uint64_t rubout;

        memcpy(&word, text.data + run, sizeof(word));
        quote = word ^ (ones * '"');
        backslash = word ^ (ones * '\\');
        rubout = word ^ (ones * 0x7f);
        // A byte's top bit is set where it is below 0x20, 0 in one of the differences, or not
        // ASCII.
        if ((((word - ones * 0x20) | (quote - ones) | (backslash - ones) | (rubout - ones) | word) &
             tops) != 0) {
            break;
        }
        run += sizeof(word);
    }
    while (run < text.len && plain(text.data[run])) {
        run++;
    }
    return run;
}

static void append_escaped(struct ph_buf *out, struct ph_str text)
{
    while (text.len > 0) {
        size_t run = plain_run(text);

        if (run > 0) {
            ph_buf_append(out, ph_str_first(text, run));
            text = ph_str_after(text, run);
            continue;
        }
        if (text.data[0] == '"' || text.data[0] == '\\') {
            ph_buf_append_char(out, '\\');
            ph_buf_append_char(out, text.data[0]);
            run = 1;
        } else if ((unsigned char)text.data[0] < 0x20 || text.data[0] == 0x7f) {
            ph_buf_printf(out, "\\u%04x", (unsigned char)text.data[0]);
            run = 1;
        } else if (text.len > 1 && text.data[0] == '\xc2' && (unsigned char)text.data[1] < 0xa0 &&
                   ph_str_utf8_len(text) == 2) { // a control character beyond ASCII (C1)
            ph_buf_printf(out, "\\u%04x", (unsigned char)text.data[1]);
            run = 2;
        } else {
            run = ph_str_utf8_len(text);
            ph_buf_append(out, run > 0 ? ph_str_first(text, run) : PH_STR("\xef\xbf\xbd"));
            run = run > 0 ? run : 1;
        }
        text = ph_str_after(text, run);
    }
}

// A comma where something stands before, and the key: into `at`, which has the room. Returns the
// place behind.
static char *put_key(struct ph_json *json, char *at, struct ph_str key)
{
    if (json->filled[json->depth]) {
        *at++ = ',';
    }
    json->filled[json->depth] = true;
    if (key.len > 0) {
        *at++ = '"';
        memcpy(at, key.data, key.len); // ours: nothing to escape
        at += key.len;
        *at++ = '"';
        *at++ = ':';
    }
    return at;
}

static void begin_value(struct ph_json *json, const char *key)
{
    struct ph_str name = ph_str_from(key);
    char *start = ph_buf_reserve(json->out, name.len + PH_JSON_KEY_EXTRA);

    if (start != NULL) {
        ph_buf_grew(json->out, (size_t)(put_key(json, start, name) - start));
    }
}

static void open_level(struct ph_json *json, const char *key, char bracket)
{
    begin_value(json, key);
    ph_buf_append_char(json->out, bracket);
    json->depth++;
    PH_CHECK(json->depth < PH_JSON_DEPTH_MAX);
    json->filled[json->depth] = false;
}

static void close_level(struct ph_json *json, char bracket)
{
    PH_CHECK(json->depth > 0);
    json->depth--;
    ph_buf_append_char(json->out, bracket);
}

void ph_json_open_object(struct ph_json *json, const char *key)
{
    open_level(json, key, '{');
}

void ph_json_close_object(struct ph_json *json)
{
    close_level(json, '}');
}

void ph_json_open_array(struct ph_json *json, const char *key)
{
    open_level(json, key, '[');
}

void ph_json_close_array(struct ph_json *json)
{
    close_level(json, ']');
}

void ph_json_put_string(struct ph_json *json, struct ph_str key, struct ph_str text, size_t max)
{
    struct ph_str value = max > 0 ? ph_str_first(text, max) : text;
    size_t run = plain_run(value);
    char *start = ph_buf_reserve(json->out, key.len + PH_JSON_KEY_EXTRA + run + 2);
    char *at;

    if (start == NULL) {
        return;
    }
    at = put_key(json, start, key);
    *at++ = '"';
    if (run > 0) {
        memcpy(at, value.data, run);
        at += run;
    }
    if (run == value.len) { // nothing to escape, as nearly always
        *at++ = '"';
        ph_buf_grew(json->out, (size_t)(at - start));
    } else {
        ph_buf_grew(json->out, (size_t)(at - start));
        append_escaped(json->out, ph_str_after(value, run));
        ph_buf_append_char(json->out, '"');
    }
}

void ph_json_u64(struct ph_json *json, const char *key, uint64_t value)
{
    begin_value(json, key);
    ph_buf_append_u64(json->out, value);
}

void ph_json_i64(struct ph_json *json, const char *key, int64_t value)
{
    begin_value(json, key);
    ph_buf_printf(json->out, "%lld", (long long)value);
}

void ph_json_double(struct ph_json *json, const char *key, double value)
{
    if (!isfinite(value)) {
        ph_json_null(json, key);
        return;
    }
    begin_value(json, key);
    ph_buf_printf(json->out, "%.6g", value);
}

void ph_json_bool(struct ph_json *json, const char *key, bool value)
{
    begin_value(json, key);
    ph_buf_append(json->out, value ? PH_STR("true") : PH_STR("false"));
}

void ph_json_null(struct ph_json *json, const char *key)
{
    begin_value(json, key);
    ph_buf_append(json->out, PH_STR("null"));
}

void ph_json_members(struct ph_json *json, struct ph_str members)
{
    if (members.len > 0) {
        begin_value(json, NULL);
        ph_buf_append(json->out, members);
    }
}
