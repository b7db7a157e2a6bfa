// Reads a stapled OCSP response (RFC 6960) about one certificate. BoringSSL's C interface has none.
#pragma once

#include "base/str.h"
#include "tls/boringssl.h"
#include "tls/window.h"

#include <openssl/x509.h>

enum ph_ocsp_status {
    PH_OCSP_UNUSABLE, // `out_problem` says why: "is out of date"
    PH_OCSP_GOOD,
    PH_OCSP_REVOKED,
};

// Signed by the issuer, or by a responder that the issuer certified for it (id-kp-OCSPSigning).
// `window` gets the dates that the answer depends on.
enum ph_ocsp_status ph_ocsp_check(struct ph_str der, X509 *x509, X509 *issuer,
                                  struct ph_window *window, const char **out_problem);
