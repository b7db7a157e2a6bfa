// Borrowed bytes: a pointer and a length, never owned, not NUL-terminated.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"

struct ph_str {
    const char *data;
    size_t len;
};

#define PH_STR(literal) ((struct ph_str){.data = "" literal, .len = sizeof(literal) - 1})
#define PH_STR_NONE ((struct ph_str){.data = "", .len = 0})
// For printf: printf("%.*s", PH_STR_ARG(text)).
#define PH_STR_ARG(text) (int)(text).len, (text).data

static inline struct ph_str ph_str_from(const char *text) // NUL-terminated; NULL: the empty string
{
    return text != NULL ? (struct ph_str){.data = text, .len = strlen(text)} : PH_STR_NONE;
}
bool ph_str_eq(struct ph_str a, struct ph_str b);
bool ph_str_eq_nocase(struct ph_str a, struct ph_str b); // ASCII only
int ph_str_cmp(struct ph_str a, struct ph_str b);        // byte order, shorter first
bool ph_str_starts(struct ph_str text, struct ph_str prefix);
bool ph_str_starts_nocase(struct ph_str text, struct ph_str prefix);
bool ph_str_ends_nocase(struct ph_str text, struct ph_str suffix);
struct ph_str ph_str_after(struct ph_str text, size_t count);  // without its first `count` bytes
struct ph_str ph_str_first(struct ph_str text, size_t count);  // at most its first `count` bytes
struct ph_str ph_str_trim(struct ph_str text);                 // without space, tab, CR, LF at ends
ptrdiff_t ph_str_find_char(struct ph_str text, char wanted);   // offset, or -1
ptrdiff_t ph_str_rfind_char(struct ph_str text, char wanted);  // offset, or -1
ptrdiff_t ph_str_find(struct ph_str text, struct ph_str what); // offset, or -1

// Cuts the first line (ended by LF, with or without a CR before it) off the front of `input`
// into `out_line`, without its line end. False, and nothing changed, when no LF has arrived.
PH_MUST_CHECK bool ph_str_cut_line(struct ph_str *input, struct ph_str *out_line);

// Cuts the bytes before `separator` off the front of `input` into `out_part`, and the separator
// with them; without a separator the rest. False when `input` is empty.
PH_MUST_CHECK bool ph_str_cut(struct ph_str *input, char separator, struct ph_str *out_part);

// Decimal digits only, all of `text`, no sign, at least one digit, no overflow.
PH_MUST_CHECK bool ph_str_to_u64(struct ph_str text, uint64_t *out_value);

#define PH_STR_U64_DIGITS_MAX 20
// `value` in decimal digits, at the end of `digits`.
struct ph_str ph_str_u64(uint64_t value, char digits[PH_STR_U64_DIGITS_MAX]);

// Copies with NUL into `out`, cut to fit; returns the bytes stored without the NUL.
size_t ph_str_copy(char *out, size_t capacity, struct ph_str text);

// ASCII lower case, in place of the C locale's.
char ph_ascii_lower(char byte);

// What a peer wrote, on its way to people: control characters (C0, DELETE, and C1 in UTF-8) become
// spaces, so that it starts no line and steers no terminal.
void ph_text_make_plain(char *text, size_t len);

// Length of the well-formed UTF-8 sequence at the front of `text` (RFC 3629 §4), 0: there is none.
size_t ph_str_utf8_len(struct ph_str text);
