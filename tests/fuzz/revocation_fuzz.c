// What authorities and responders say: CRLs and stapled OCSP responses. None may crash, and none
// that nobody signed may count.
#include <string.h>

#include "bench/lib/certs.h"
#include "tests/fuzz/input.h"
#include "tls/crl.h"
#include "tls/ocsp.h"

#define NOW_S INT64_C(1795508260) // 2026-11-24

static X509 *x509_of(const struct ph_cert *cert)
{
    struct ph_buf der = {0};
    const uint8_t *at;
    X509 *x509;

    ph_certs_append_der(cert, &der);
    at = (const uint8_t *)der.data;
    x509 = d2i_X509(NULL, &at, (long)der.len);
    ph_buf_deinit(&der);
    return x509;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static X509 *root; // made anew in each run: no input is signed by it
    static X509 *leaf;
    struct fuzz_input input = {.data = data, .len = size};
    struct ph_buf error = {0};

    if (root == NULL) {
        struct ph_cert *authority = ph_certs_root("root");
        struct ph_cert *host = ph_certs_leaf(authority, "mx.contoso.test");

        root = x509_of(authority);
        leaf = x509_of(host);
        ph_certs_destroy(host);
        ph_certs_destroy(authority);
    }
    if (fuzz_byte(&input) & 1) {
        struct ph_crl *crl = ph_crl_parse(fuzz_rest(&input), &error);

        PH_CHECK((crl == NULL) == (error.len > 0));
        if (crl != NULL) {
            (void)ph_crl_lists(crl, leaf);
            PH_CHECK(!ph_crl_is_signed_by(crl, root));
        }
        ph_crl_release(crl);
    } else {
        struct ph_window window = ph_window_make(NOW_S);
        const char *problem = NULL;

        PH_CHECK(ph_ocsp_check(fuzz_rest(&input), leaf, root, &window, &problem) ==
                     PH_OCSP_UNUSABLE &&
                 problem != NULL);
    }
    ph_buf_deinit(&error);
    return 0;
}
