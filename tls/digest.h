// The delivery log's chain: each line's digest covers the line and the digest before it.
#pragma once

#include "base/str.h"

#define PH_DIGEST_TEXT_MAX 33 // 128 bits of SHA-256 in hexadecimal, with NUL

// SHA-256 over `before` (text; empty at the start of a chain) and `line`, cut to 128 bits. `out`
// may be `before`.
void ph_digest_chain(const char *before, struct ph_str line, char out[PH_DIGEST_TEXT_MAX]);
