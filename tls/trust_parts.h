// What a trust store holds: for the files of this room that search it.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls/boringssl.h"
#include "tls/crls.h"
#include "tls/trust.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>

struct ph_anchor {
    X509 *x509;
    X509_STORE *store; // holds this one only: X509_verify_cert can't wander to another
};

struct ph_trust {
    _Atomic uint32_t references;
    uint64_t id;
    struct ph_anchor *anchors;
    size_t anchor_count;
    X509 **intermediates;
    size_t intermediate_count;
    struct ph_crl **loading; // CRLs, while it is made
    size_t loading_count;
    struct ph_crls *crls; // what it was made with; others come with the question
    bool clients;
    bool revocation_source;
    bool revocation_fetch;
};

// For tls/dane: a store of its own for one judgement. No anchor yet.
struct ph_trust *ph_trust_create_empty(void);
// False: not a certificate.
PH_MUST_CHECK bool ph_trust_add_anchor(struct ph_trust *trust, struct ph_str der);
