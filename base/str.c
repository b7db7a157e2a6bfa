// Borrowed bytes.
#include "base/str.h"

#include <string.h>

bool ph_str_eq(struct ph_str a, struct ph_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

char ph_ascii_lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

bool ph_str_eq_nocase(struct ph_str a, struct ph_str b)
{
    bool equal = a.len == b.len;

    for (size_t i = 0; equal && i < a.len; i++) {
        equal = ph_ascii_lower(a.data[i]) == ph_ascii_lower(b.data[i]);
    }
    return equal;
}

int ph_str_cmp(struct ph_str a, struct ph_str b)
{
    size_t shared = a.len < b.len ? a.len : b.len;
    int order = shared > 0 ? memcmp(a.data, b.data, shared) : 0;

    if (order == 0 && a.len != b.len) {
        order = a.len < b.len ? -1 : 1;
    }
    return order;
}

bool ph_str_starts(struct ph_str text, struct ph_str prefix)
{
    return text.len >= prefix.len && ph_str_eq(ph_str_first(text, prefix.len), prefix);
}

bool ph_str_starts_nocase(struct ph_str text, struct ph_str prefix)
{
    return text.len >= prefix.len && ph_str_eq_nocase(ph_str_first(text, prefix.len), prefix);
}

bool ph_str_ends_nocase(struct ph_str text, struct ph_str suffix)
{
    return text.len >= suffix.len &&
           ph_str_eq_nocase(ph_str_after(text, text.len - suffix.len), suffix);
}

struct ph_str ph_str_after(struct ph_str text, size_t count)
{
    size_t cut = count < text.len ? count : text.len;

    return (struct ph_str){.data = text.data + cut, .len = text.len - cut};
}

struct ph_str ph_str_first(struct ph_str text, size_t count)
{
    return (struct ph_str){.data = text.data, .len = count < text.len ? count : text.len};
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

struct ph_str ph_str_trim(struct ph_str text)
{
    while (text.len > 0 && is_blank(text.data[0])) {
        text = ph_str_after(text, 1);
    }
    while (text.len > 0 && is_blank(text.data[text.len - 1])) {
        text.len--;
    }
    return text;
}

ptrdiff_t ph_str_find_char(struct ph_str text, char wanted)
{
    const char *found = text.len > 0 ? memchr(text.data, wanted, text.len) : NULL;

    return found == NULL ? -1 : found - text.data;
}

ptrdiff_t ph_str_rfind_char(struct ph_str text, char wanted)
{
    const char *found = text.len > 0 ? memrchr(text.data, wanted, text.len) : NULL;

    return found == NULL ? -1 : found - text.data;
}

ptrdiff_t ph_str_find(struct ph_str text, struct ph_str what)
{
    // Text of none has no address either.
    const char *found = text.len > 0 ? memmem(text.data, text.len, what.data, what.len) : NULL;

    return found == NULL ? -1 : found - text.data;
}

bool ph_str_cut_line(struct ph_str *input, struct ph_str *out_line)
{
    ptrdiff_t line_end = ph_str_find_char(*input, '\n');

    if (line_end < 0) {
        return false;
    }
    *out_line = ph_str_first(*input, (size_t)line_end);
    if (out_line->len > 0 && out_line->data[out_line->len - 1] == '\r') {
        out_line->len--;
    }
    *input = ph_str_after(*input, (size_t)line_end + 1);
    return true;
}

bool ph_str_cut(struct ph_str *input, char separator, struct ph_str *out_part)
{
    ptrdiff_t end = ph_str_find_char(*input, separator);

    if (input->len == 0) {
        return false;
    }
    if (end < 0) {
        *out_part = *input;
        *input = ph_str_after(*input, input->len);
    } else {
        *out_part = ph_str_first(*input, (size_t)end);
        *input = ph_str_after(*input, (size_t)end + 1);
    }
    return true;
}

bool ph_str_to_u64(struct ph_str text, uint64_t *out_value)
{
    uint64_t value = 0;
    bool valid = text.len > 0;

    for (size_t i = 0; valid && i < text.len; i++) {
        valid = text.data[i] >= '0' && text.data[i] <= '9' &&
                !__builtin_mul_overflow(value, 10, &value) &&
                !__builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value);
    }
    if (valid) {
        *out_value = value;
    }
    return valid;
}

struct ph_str ph_str_u64(uint64_t value, char digits[PH_STR_U64_DIGITS_MAX])
{
    size_t at = PH_STR_U64_DIGITS_MAX;

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return (struct ph_str){.data = digits + at, .len = PH_STR_U64_DIGITS_MAX - at};
}

size_t ph_str_copy(char *out, size_t capacity, struct ph_str text)
{
    size_t count = text.len < capacity ? text.len : capacity - 1;

    PH_CHECK(capacity > 0);
    if (count > 0) {
        memcpy(out, text.data, count);
    }
    out[count] = '\0';
    return count;
}

void ph_text_make_plain(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];

        if (byte < 0x20 || byte == 0x7f) {
            text[i] = ' ';
        } else if (byte == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] >= 0x80 &&
                   (unsigned char)text[i + 1] < 0xa0) {
            text[i] = ' ';
            text[i + 1] = ' ';
        }
    }
}

size_t ph_str_utf8_len(struct ph_str text)
{
    const unsigned char *s = (const unsigned char *)text.data;
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    size_t len = 0;

    if (text.len > 0 && s[0] < 0x80) {
        return 1;
    }
    if (text.len == 0) {
        return 0;
    }
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        len = 2;
    } else if (s[0] >= 0xe0 && s[0] <= 0xef) {
        len = 3;
        low = s[0] == 0xe0 ? 0xa0 : 0x80;
        high = s[0] == 0xed ? 0x9f : 0xbf;
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        len = 4;
        low = s[0] == 0xf0 ? 0x90 : 0x80;
        high = s[0] == 0xf4 ? 0x8f : 0xbf;
    }
    if (len == 0 || text.len < len || s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if (s[i] < 0x80 || s[i] > 0xbf) {
            return 0;
        }
    }
    return len;
}
