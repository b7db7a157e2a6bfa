// What a certificate made on the spot holds: for the files that make things about it.
#pragma once

#include <stdint.h>

#include "tls/boringssl.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

struct ph_cert {
    X509 *x509;
    EVP_PKEY *key;
    const struct ph_cert *issuer; // NULL: self-signed
    uint64_t serial;
    uint64_t next_serial; // for what it issues
};
