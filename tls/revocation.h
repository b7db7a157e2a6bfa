// Is a certificate of a path revoked? By a stapled OCSP response, and by the CRLs of a trust store;
// nothing is fetched here (RFC 5280 §6.3).
#pragma once

#include <stddef.h>

#include "base/str.h"
#include "tls/facts.h"
#include "tls/trust_parts.h"
#include "tls/window.h"

#include <openssl/x509.h>

struct ph_revocation_question {
    X509 *const *path; // leaf … trust anchor
    size_t count;
    const struct ph_trust *trust;
    const struct ph_crls *crls; // beside the store's own, where it has a source; NULL: none
    struct ph_str staple;       // DER OCSP response about the leaf; empty: none
    struct ph_window *window;   // gets the dates that the answer depends on
};

#define PH_REVOCATION_DETAIL_MAX 128

struct ph_revocation_answer {
    enum ph_revocation status; // of all below the anchor: the worst
    enum ph_revocation leaf;
    size_t worst_at; // index in the path of the first that has `status`
    char detail[PH_REVOCATION_DETAIL_MAX];
};

void ph_revocation_check(const struct ph_revocation_question *question,
                         struct ph_revocation_answer *out_answer);
