// Owned bytes that grow to a stated maximum.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/str.h"

struct ph_buf {
    char *data;
    size_t len;
    size_t cap;
    size_t max;    // bytes_max; 0 means PH_BUF_BYTES_MAX
    bool overflow; // an append didn't fit under `max` and was left out whole
};

#define PH_BUF_BYTES_MAX ((size_t)256 << 20) // ours: no buffer of one object is larger

void ph_buf_init(struct ph_buf *buf, size_t bytes_max);
void ph_buf_deinit(struct ph_buf *buf); // frees; zeroes and NULL accepted

// Appends whole or not at all: false sets `overflow` and leaves the bytes as they are.
bool ph_buf_append_slow(struct ph_buf *buf, const void *data, size_t len); // for those below
static inline bool ph_buf_append_bytes(struct ph_buf *buf, const void *data, size_t len)
{
    if (len > buf->cap - buf->len || buf->cap == 0) {
        return ph_buf_append_slow(buf, data, len);
    }
    if (len > 0) {
        memcpy(buf->data + buf->len, data, len);
    }
    buf->len += len;
    return true;
}
static inline bool ph_buf_append(struct ph_buf *buf, struct ph_str text)
{
    return ph_buf_append_bytes(buf, text.data, text.len);
}
static inline bool ph_buf_append_char(struct ph_buf *buf, char byte)
{
    return ph_buf_append_bytes(buf, &byte, 1);
}
bool ph_buf_append_u64(struct ph_buf *buf, uint64_t value); // in decimal digits
bool ph_buf_printf(struct ph_buf *buf, const char *format, ...) PH_PRINTF(2, 3);

// Room for `len` more bytes at the end, to be filled and then counted with ph_buf_grew.
// NULL when the maximum forbids it.
PH_MUST_CHECK char *ph_buf_reserve_slow(struct ph_buf *buf, size_t len); // for the one below
PH_MUST_CHECK static inline char *ph_buf_reserve(struct ph_buf *buf, size_t len)
{
    return buf->data != NULL && len <= buf->cap - buf->len ? buf->data + buf->len
                                                           : ph_buf_reserve_slow(buf, len);
}
void ph_buf_grew(struct ph_buf *buf, size_t len);

void ph_buf_consume(struct ph_buf *buf, size_t len); // drops bytes from the front
void ph_buf_clear(struct ph_buf *buf);               // keeps the memory
static inline void ph_buf_swap(struct ph_buf *a, struct ph_buf *b)
{
    struct ph_buf was = *a;

    *a = *b;
    *b = was;
}
void ph_buf_trim(struct ph_buf *buf);               // gives back what it doesn't use
struct ph_str ph_buf_str(const struct ph_buf *buf); // borrowed until the next change
// NUL-terminates behind the last byte (not counted in len) and returns the data.
const char *ph_buf_cstr(struct ph_buf *buf);
