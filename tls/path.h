// Finds a path from a leaf to a trust anchor among all possible ones: X509_verify_cert tries only
// one issuer of several with the same name (cross-signed, renewed). The search can only find more:
// each path it proposes is verified by X509_verify_cert, on exactly those certificates, and then
// held to our policy of algorithms, purposes and revocation.
#pragma once

#include <stddef.h>

#include "base/buf.h"
#include "base/reason.h"
#include "base/str.h"
#include "tls/boringssl.h"
#include "tls/revocation.h"
#include "tls/trust_parts.h"
#include "tls/window.h"

#include <openssl/x509.h>

// All ours: what real chains need, several times over, and what a hostile one may cost.
#define PH_PATH_INTERMEDIATES_MAX 10 // between leaf and anchor, unless the caller says otherwise
#define PH_PATH_INTERMEDIATES_LIMIT 30
#define PH_PATH_PROPOSALS_MAX 32  // paths given to X509_verify_cert
#define PH_PATH_SIGNATURES_MAX 64 // verified to prune the search, after a first proposal failed
#define PH_PATH_STEPS_MAX 512     // certificates put onto the path

struct ph_path_request {
    X509 *const *presented; // [0]: the leaf; others in any order
    size_t presented_count; // at least 1
    const struct ph_trust *trust;
    const struct ph_crls *crls; // beside the store's own; NULL: none
    size_t intermediates_max;   // at most PH_PATH_INTERMEDIATES_LIMIT
    struct ph_str staple;       // OCSP response about the leaf, or empty
    // Where to ask about a good path, and who may sign the answer; NULL: that isn't wanted.
    struct ph_buf *urls;      // of CRLs, each ended by '\n'
    struct ph_buf *issuers;   // in DER, one after another
    struct ph_window *window; // gets the dates that the result depends on
};

struct ph_path_result {
    enum ph_reason_kind kind; // NONE: a good path was found (revocation unknown included)
    char detail[PH_REASON_SENTENCE_MAX];
    struct ph_revocation_answer revocation; // of the good or revoked path
    char chain[PH_REASON_SENTENCE_MAX];     // subjects of the good path, for people
    size_t proposal_count;
    size_t signature_count; // those of the search
    size_t step_count;
};

void ph_path_search(const struct ph_path_request *request, struct ph_path_result *out_result);
