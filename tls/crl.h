// One certificate revocation list (RFC 5280 §5), read once: its serial numbers are found in
// constant time, and who has signed it is verified once. Immutable but for that; shared by all
// threads.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "tls/boringssl.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define PH_CRL_BYTES_MAX ((size_t)64 << 20) // ours: the largest public ones have some 20 MB

struct ph_crl_private;

struct ph_crl {
    uint64_t id; // never used twice in a process
    X509_NAME *issuer;
    int64_t this_update_s;
    int64_t next_update_s;
    const char *unusable;                   // why it can't be gone by; NULL: it can
    ISSUING_DIST_POINT *distribution_point; // NULL: covers all its issuer's certificates
    struct ph_str scope;                    // its distribution point's bytes; "" where it has none
    size_t entry_count;
    struct ph_str der;
    struct ph_crl_private *private;
};

// DER, or the first CRL of a PEM text; copied. One reference; NULL, with a sentence, when it isn't
// one.
struct ph_crl *ph_crl_parse(struct ph_str text, struct ph_buf *error);
struct ph_crl *ph_crl_retain(struct ph_crl *crl); // counted atomically
void ph_crl_release(struct ph_crl *crl);          // NULL accepted

// Costs a hash over the whole list the first time for a key, nothing after that.
bool ph_crl_is_signed_by(const struct ph_crl *crl, X509 *issuer);
// By one of `issuers`, certificates in DER, one after another, that has the list's issuer's name.
bool ph_crl_is_signed_by_any(const struct ph_crl *crl, struct ph_str issuers);
// Has a verdict been made with it since this was last asked? (ph_crl_note_use says so.)
bool ph_crl_take_use(const struct ph_crl *crl);
void ph_crl_note_use(const struct ph_crl *crl);
bool ph_crl_lists(const struct ph_crl *crl, const X509 *x509); // by its serial number
