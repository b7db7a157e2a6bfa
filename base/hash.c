// XXH3 of bytes.
#include "base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t ph_hash_bytes(const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, len, seed);
}

uint64_t ph_hash_str(struct ph_str text, uint64_t seed)
{
    return XXH3_64bits_withSeed(text.data, text.len, seed);
}

uint64_t ph_hash_str_nocase(struct ph_str text, uint64_t seed)
{
    char folded[256];
    uint64_t hash = seed;

    while (text.len > 0) {
        struct ph_str part = ph_str_first(text, sizeof(folded));

        for (size_t i = 0; i < part.len; i++) {
            folded[i] = ph_ascii_lower(part.data[i]);
        }
        hash = XXH3_64bits_withSeed(folded, part.len, hash);
        text = ph_str_after(text, part.len);
    }
    return hash;
}
