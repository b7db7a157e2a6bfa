// XXH3 of bytes; seeded wherever a peer chooses the keys.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

uint64_t ph_hash_bytes(const void *data, size_t len, uint64_t seed);
uint64_t ph_hash_str(struct ph_str text, uint64_t seed);
uint64_t ph_hash_str_nocase(struct ph_str text, uint64_t seed); // ASCII case folded
