// Ranges of addresses → CIDR.
#include "config/ranges.h"

#include <stdio.h>
#include <string.h>

#include "base/endpoint.h"

typedef unsigned __int128 u128;

static u128 number_of(const struct ph_endpoint *endpoint)
{
    size_t len = endpoint->family == PH_FAMILY_IPV4 ? 4 : 16;
    u128 number = 0;

    for (size_t i = 0; i < len; i++) {
        number = number << 8 | endpoint->bytes[i];
    }
    return number;
}

static void put_cidr(struct ph_buf *out, enum ph_family family, u128 number, unsigned prefix_len)
{
    struct ph_endpoint endpoint = {.family = family};
    size_t len = family == PH_FAMILY_IPV4 ? 4 : 16;
    char text[PH_ENDPOINT_TEXT_MAX];

    for (size_t i = len; i-- > 0; number >>= 8) {
        endpoint.bytes[i] = (uint8_t)number;
    }
    ph_buf_printf(out, "%s/%u", ph_endpoint_format_address(&endpoint, text), prefix_len);
    ph_buf_append_char(out, '\0');
}

// The fewest blocks from `first` to `last`: each as large as its place and what is left allow.
static void put_blocks(struct ph_buf *out, enum ph_family family, u128 first, u128 last)
{
    unsigned bits = family == PH_FAMILY_IPV4 ? 32 : 128;

    for (;;) {
        unsigned size = 0; // of the block, in bits

        while (size < bits && (first & ((u128)1 << size)) == 0) {
            u128 end = first + (((u128)1 << size << 1) - 1);

            if (size + 1 == bits) {
                end = first + (((u128)1 << (bits - 1)) - 1) + ((u128)1 << (bits - 1));
            }
            if (end > last || end < first) {
                break;
            }
            size++;
        }
        put_cidr(out, family, first, bits - size);
        if (size == bits || last - first < ((u128)1 << size)) {
            return;
        }
        first += (u128)1 << size;
    }
}

static bool put_masked(const struct ph_endpoint *address, struct ph_str mask_text,
                       struct ph_buf *out)
{
    struct ph_endpoint mask;
    u128 number;
    unsigned bits = 0;

    if (mask_text.len == 0 || mask_text.data[mask_text.len - 1] != ')' ||
        !ph_endpoint_parse_address(ph_str_first(mask_text, mask_text.len - 1), &mask) ||
        mask.family != PH_FAMILY_IPV4 || address->family != PH_FAMILY_IPV4) {
        return false;
    }
    number = number_of(&mask);
    while (bits < 32 && (number & ((u128)1 << (31 - bits))) != 0) {
        bits++;
    }
    if ((number & (((u128)1 << (32 - bits)) - 1)) != 0) {
        return false; // holes in the mask
    }
    put_cidr(out, PH_FAMILY_IPV4, number_of(address) & number, bits);
    return true;
}

bool ph_ranges_read(struct ph_str text, struct ph_buf *out, bool *out_everything)
{
    struct ph_str rest = ph_str_trim(text);
    struct ph_str first = rest;
    ptrdiff_t dash = ph_str_find_char(rest, '-');
    ptrdiff_t open = ph_str_find_char(rest, '(');
    struct ph_endpoint from;
    struct ph_endpoint to;
    struct ph_cidr cidr;
    size_t start = out->len;

    *out_everything = false;
    if (dash >= 0 || open >= 0) {
        size_t at = (size_t)(dash >= 0 ? dash : open);

        first = ph_str_trim(ph_str_first(rest, at));
        rest = ph_str_trim(ph_str_after(rest, at + 1));
        if (!ph_endpoint_parse_address(first, &from)) {
            return false;
        }
        if (dash < 0) {
            if (!put_masked(&from, rest, out)) {
                return false;
            }
        } else {
            if (!ph_endpoint_parse_address(rest, &to) || to.family != from.family ||
                number_of(&to) < number_of(&from)) {
                return false;
            }
            put_blocks(out, from.family, number_of(&from), number_of(&to));
        }
    } else if (ph_cidr_parse(rest, &cidr)) {
        put_cidr(out, cidr.base.family, number_of(&cidr.base), cidr.prefix_len);
    } else {
        return false;
    }
    *out_everything = ph_str_ends_nocase(
        ph_str_first(ph_str_after(ph_buf_str(out), start), out->len - start - 1), PH_STR("/0"));
    return true;
}
