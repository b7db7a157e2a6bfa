// Which keys and signatures are strong enough for a chain.
#pragma once

#include "tls/boringssl.h"

#include <openssl/x509.h>

#define PH_ALGORITHM_RSA_BITS_MIN 2048  // NIST SP 800-57: 112 bits of security
#define PH_ALGORITHM_RSA_BITS_MAX 16384 // ours: more is only slow

// NULL: strong enough. Else what is weak, for a sentence: "an RSA key of 1024 bits".
const char *ph_algorithm_key_weakness(X509 *x509);
// Of the signature on it. Not for trust anchors: nobody relies on theirs.
const char *ph_algorithm_signature_weakness(const X509 *x509);
const char *ph_algorithm_weakness(const X509_ALGOR *algorithm);
