// Owned bytes that grow to a stated maximum.
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PH_BUF_BYTES_FIRST 256 // ours: the first allocation

void ph_buf_init(struct ph_buf *buf, size_t bytes_max)
{
    *buf = (struct ph_buf){.max = bytes_max};
}

void ph_buf_deinit(struct ph_buf *buf)
{
    if (buf != NULL) {
        free(buf->data);
        *buf = (struct ph_buf){.max = buf->max};
    }
}

char *ph_buf_reserve_slow(struct ph_buf *buf, size_t len)
{
    size_t max = buf->max > 0 ? buf->max : PH_BUF_BYTES_MAX;
    size_t cap = buf->cap > 0 ? buf->cap : PH_BUF_BYTES_FIRST;
    char *grown;

    if (len > max || buf->len > max - len) {
        buf->overflow = true;
        return NULL;
    }
    while (cap < buf->len + len) {
        cap *= 2;
    }
    cap = cap < max ? cap : max; // so that whoever looks at the room alone keeps the maximum
    grown = realloc(buf->data, cap);
    if (grown == NULL) {
        ph_out_of_memory(cap); // half a message must not pass for a whole one
    }
    buf->data = grown;
    buf->cap = cap;
    return buf->data + buf->len;
}

void ph_buf_grew(struct ph_buf *buf, size_t len)
{
    PH_CHECK(buf->len + len <= buf->cap);
    buf->len += len;
}

bool ph_buf_append_slow(struct ph_buf *buf, const void *data, size_t len)
{
    char *room = ph_buf_reserve(buf, len);

    if (room == NULL) {
        return false;
    }
    if (len > 0) {
        memcpy(room, data, len);
    }
    buf->len += len;
    return true;
}

bool ph_buf_append_u64(struct ph_buf *buf, uint64_t value)
{
    char digits[PH_STR_U64_DIGITS_MAX];

    return ph_buf_append(buf, ph_str_u64(value, digits));
}

bool ph_buf_printf(struct ph_buf *buf, const char *format, ...)
{
    va_list arguments;
    int len;
    char *room;

    va_start(arguments, format);
    len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    PH_CHECK(len >= 0);
    room = ph_buf_reserve(buf, (size_t)len + 1);
    if (room == NULL) {
        return false;
    }
    va_start(arguments, format);
    vsnprintf(room, (size_t)len + 1, format, arguments);
    va_end(arguments);
    buf->len += (size_t)len;
    return true;
}

void ph_buf_consume(struct ph_buf *buf, size_t len)
{
    PH_CHECK(len <= buf->len);
    buf->len -= len;
    if (buf->len > 0 && len > 0) {
        memmove(buf->data, buf->data + len, buf->len);
    }
}

void ph_buf_clear(struct ph_buf *buf)
{
    buf->len = 0;
    buf->overflow = false;
}

void ph_buf_trim(struct ph_buf *buf)
{
    char *smaller = buf->len > 0 && buf->len < buf->cap ? realloc(buf->data, buf->len) : NULL;

    if (buf->len == 0) {
        free(buf->data);
        buf->data = NULL;
        buf->cap = 0;
    } else if (smaller != NULL) {
        buf->data = smaller;
        buf->cap = buf->len;
    }
}

struct ph_str ph_buf_str(const struct ph_buf *buf)
{
    return (struct ph_str){.data = buf->data != NULL ? buf->data : "", .len = buf->len};
}

const char *ph_buf_cstr(struct ph_buf *buf)
{
    char *room = ph_buf_reserve(buf, 1);

    if (room == NULL) {
        return "";
    }
    *room = '\0';
    return buf->data;
}
