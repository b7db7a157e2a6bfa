// Base64, strict.
#include "base/base64.h"

#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void ph_base64_encode(struct ph_str bytes, struct ph_buf *out)
{
    const unsigned char *b = (const unsigned char *)bytes.data;

    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t group = (uint32_t)b[i] << 16 | (left > 1 ? (uint32_t)b[i + 1] << 8 : 0) |
                         (left > 2 ? b[i + 2] : 0);
        char text[4] = {digits[group >> 18], digits[group >> 12 & 63],
                        left > 1 ? digits[group >> 6 & 63] : '=',
                        left > 2 ? digits[group & 63] : '='};

        ph_buf_append_bytes(out, text, sizeof(text));
    }
}

static int value_of(char digit)
{
    const char *found = digit != '\0' ? strchr(digits, digit) : NULL;

    return found != NULL ? (int)(found - digits) : -1;
}

bool ph_base64_decode(struct ph_str text, struct ph_buf *out)
{
    size_t before = out->len;

    if (text.len % 4 != 0) {
        return false;
    }
    for (size_t i = 0; i < text.len; i += 4) {
        bool last = i + 4 == text.len;
        size_t padding = last ? (size_t)(text.data[i + 3] == '=') +
                                    (size_t)(text.data[i + 3] == '=' && text.data[i + 2] == '=')
                              : 0;
        uint32_t group = 0;

        for (size_t j = 0; j < 4; j++) {
            int value = j < 4 - padding ? value_of(text.data[i + j]) : 0;

            if (value < 0) {
                out->len = before;
                return false;
            }
            group = group << 6 | (uint32_t)value;
        }
        // Bits that the padding leaves over are zero, or two texts would mean the same.
        if ((padding == 1 && (group & 0xff) != 0) || (padding == 2 && (group & 0xffff) != 0)) {
            out->len = before;
            return false;
        }
        for (size_t j = 0; j < 3 - padding; j++) {
            ph_buf_append_char(out, (char)(group >> (16 - 8 * j)));
        }
    }
    return true;
}
