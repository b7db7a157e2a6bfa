// A fuzzer's input as a source of choices.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/str.h"

struct fuzz_input {
    const uint8_t *data;
    size_t len;
};

static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
    uint8_t byte = 0;

    if (input->len > 0) {
        byte = *input->data;
        input->data++;
        input->len--;
    }
    return byte;
}

static inline struct ph_str fuzz_rest(const struct fuzz_input *input)
{
    return (struct ph_str){.data = (const char *)input->data, .len = input->len};
}

// A piece of 1 to 256 bytes off the front, fewer at the end.
static inline struct ph_str fuzz_piece(struct fuzz_input *input)
{
    size_t wanted = (size_t)fuzz_byte(input) + 1;
    struct ph_str piece = ph_str_first(fuzz_rest(input), wanted);

    input->data += piece.len;
    input->len -= piece.len;
    return piece;
}
