// What name constraints (RFC 5280 §4.2.1.10) say of a leaf's wildcards: X509_verify_cert compares
// "*.example.org" as if it were a name, and so lets it stand for one that is excluded.
#pragma once

#include <stdbool.h>

#include "tls/boringssl.h"

#include <openssl/x509.h>

// Could a wildcard of `leaf` stand for a name that `authority` may not certify?
bool ph_constraint_forbids_wildcard(X509 *authority, X509 *leaf);
