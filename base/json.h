// Writes JSON into a buffer, member by member; commas come by themselves.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

#define PH_JSON_DEPTH_MAX 16 // objects and arrays within each other; ours

struct ph_json {
    struct ph_buf *out; // borrowed
    unsigned depth;
    bool filled[PH_JSON_DEPTH_MAX]; // something stands in this object or array: a comma comes first
};

// Appends to what `out` holds.
void ph_json_init(struct ph_json *json, struct ph_buf *out);
// `key` NULL: an element of an array, or the outermost value.
void ph_json_open_object(struct ph_json *json, const char *key);
void ph_json_close_object(struct ph_json *json);
void ph_json_open_array(struct ph_json *json, const char *key);
void ph_json_close_array(struct ph_json *json);
// Control characters are escaped, bytes that aren't UTF-8 become U+FFFD, and what is longer than
// `max` bytes is cut (0: never).
void ph_json_put_string(struct ph_json *json, struct ph_str key, struct ph_str text, size_t max);
static inline void ph_json_string(struct ph_json *json, const char *key, struct ph_str text,
                                  size_t max)
{
    ph_json_put_string(json, ph_str_from(key), text, max); // a literal's length is known here
}
static inline void ph_json_text(struct ph_json *json, const char *key, const char *text)
{
    ph_json_put_string(json, ph_str_from(key), ph_str_from(text), 0); // NUL-terminated
}
void ph_json_u64(struct ph_json *json, const char *key, uint64_t value);
void ph_json_i64(struct ph_json *json, const char *key, int64_t value);
void ph_json_double(struct ph_json *json, const char *key, double value); // not a number: null
void ph_json_bool(struct ph_json *json, const char *key, bool value);
void ph_json_null(struct ph_json *json, const char *key);
// Members rendered before ("a":1,"b":2), as they are.
void ph_json_members(struct ph_json *json, struct ph_str members);
