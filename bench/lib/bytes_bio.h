// A BIO over bytes in memory, for the programs that speak TLS by a loop of their own: it reads from
// a borrowed slice and appends what is written to a buffer.
#pragma once

#include "base/buf.h"
#include "base/str.h"

#include "tls/boringssl.h"

#include <openssl/bio.h>

struct ph_bytes_bio {
    struct ph_str input;   // what was received and isn't taken yet
    struct ph_buf *output; // borrowed
};

// For both directions of one connection. `bytes` is borrowed, and outlives it.
BIO *ph_bytes_bio_new(struct ph_bytes_bio *bytes);
