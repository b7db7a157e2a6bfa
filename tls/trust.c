// Trust stores: PEM text in, parsed certificates and CRLs, immutable from then on.
#include "tls/trust_parts.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>

#include "base/check.h"
#include "tls/pem.h"

#define PH_TRUST_BLOCKS_MAX 100000                 // PEM blocks of one text; ours
#define PH_TRUST_FILE_BYTES_MAX ((size_t)64 << 20) // of the system's bundle; ours
#define PH_TRUST_SYSTEM_BUNDLE "/etc/ssl/certs/ca-certificates.crt"

// Called for each block of the kind asked for; false ends the reading with an error.
typedef bool take_block(struct ph_trust *trust, struct ph_str der);

static bool take_anchor(struct ph_trust *trust, struct ph_str der);
static bool take_intermediate(struct ph_trust *trust, struct ph_str der);
static bool take_crl(struct ph_trust *trust, struct ph_str der);
static void free_loading(struct ph_trust *trust);
static bool read_blocks(struct ph_trust *trust, struct ph_str text, const char *what, bool crls,
                        take_block *take, struct ph_buf *error);

struct ph_trust *ph_trust_create_empty(void)
{
    static _Atomic uint64_t last_id; // ids must differ over all threads of the process
    struct ph_trust *trust = ph_alloc(sizeof(*trust));

    atomic_init(&trust->references, 1);
    trust->id = atomic_fetch_add(&last_id, 1) + 1;
    return trust;
}

bool ph_trust_add_anchor(struct ph_trust *trust, struct ph_str der)
{
    return take_anchor(trust, der);
}

struct ph_trust *ph_trust_create(const struct ph_trust_options *options, struct ph_buf *error)
{
    struct ph_trust *trust = ph_trust_create_empty();

    trust->clients = options->clients;
    trust->revocation_source = options->revocation_source || options->revocation_fetch;
    trust->revocation_fetch = options->revocation_fetch;
    if (!read_blocks(trust, options->anchors_pem, "trust anchor", false, take_anchor, error) ||
        !read_blocks(trust, options->intermediates_pem, "intermediate", false, take_intermediate,
                     error) ||
        !read_blocks(trust, options->crls_pem, "CRL", true, take_crl, error)) {
        ph_trust_release(trust);
        return NULL;
    }
    trust->crls = ph_crls_create(trust->loading, trust->loading_count);
    free_loading(trust);
    return trust;
}

static void free_loading(struct ph_trust *trust)
{
    for (size_t i = 0; i < trust->loading_count; i++) {
        ph_crl_release(trust->loading[i]);
    }
    free(trust->loading);
    trust->loading = NULL;
    trust->loading_count = 0;
}

struct ph_trust *ph_trust_retain(struct ph_trust *trust)
{
    atomic_fetch_add(&trust->references, 1);
    return trust;
}

void ph_trust_release(struct ph_trust *trust)
{
    if (trust == NULL || atomic_fetch_sub(&trust->references, 1) != 1) {
        return;
    }
    for (size_t i = 0; i < trust->anchor_count; i++) {
        X509_STORE_free(trust->anchors[i].store);
        X509_free(trust->anchors[i].x509);
    }
    for (size_t i = 0; i < trust->intermediate_count; i++) {
        X509_free(trust->intermediates[i]);
    }
    free_loading(trust);
    ph_crls_release(trust->crls);
    free(trust->anchors);
    free(trust->intermediates);
    free(trust);
}

bool ph_trust_fetches(const struct ph_trust *trust)
{
    return trust->revocation_fetch;
}

uint64_t ph_trust_id(const struct ph_trust *trust)
{
    return trust->id;
}

bool ph_trust_read_system(struct ph_buf *out_pem, struct ph_buf *error)
{
    FILE *file = fopen(PH_TRUST_SYSTEM_BUNDLE, "re");
    bool valid = file != NULL;
    size_t count = 1;

    while (valid && count > 0) {
        char *room = out_pem->len < PH_TRUST_FILE_BYTES_MAX ? ph_buf_reserve(out_pem, 65536) : NULL;

        valid = room != NULL;
        count = valid ? fread(room, 1, 65536, file) : 0;
        ph_buf_grew(out_pem, count);
        valid = valid && ferror(file) == 0;
    }
    if (!valid) {
        ph_buf_printf(error, "%s can't be read: install ca-certificates, or name TlsTrustAnchors",
                      PH_TRUST_SYSTEM_BUNDLE);
    }
    if (file != NULL) {
        fclose(file);
    }
    return valid;
}

// --- PEM
// ------------------------------------------------------------------------------------------------

static bool read_blocks(struct ph_trust *trust, struct ph_str text, const char *what, bool crls,
                        take_block *take, struct ph_buf *error)
{
    enum ph_pem_result result = PH_PEM_BLOCK;
    struct ph_pem pem;
    bool valid = true;
    size_t number = 0;

    ph_pem_open(&pem, text);
    while (valid && result == PH_PEM_BLOCK) {
        result = ph_pem_next(&pem);
        valid = result != PH_PEM_DAMAGED;
        if (result != PH_PEM_END) {
            bool wanted = crls ? ph_pem_is_crl(&pem) : ph_pem_is_certificate(&pem);

            number += wanted || !valid ? 1 : 0;
            valid = valid && (!wanted ||
                              (number <= PH_TRUST_BLOCKS_MAX && take(trust, ph_buf_str(&pem.der))));
        }
    }
    if (!valid) {
        ph_buf_printf(error, "%s no. %zu can't be parsed: it must be a whole PEM block", what,
                      number);
    }
    ERR_clear_error();
    ph_pem_close(&pem);
    return valid;
}

static void *grown(void *array, size_t count, size_t item_bytes)
{
    // Doubles whenever the count is a power of two: no second number to keep.
    if ((count & (count - 1)) == 0) {
        array = reallocarray(array, count > 0 ? count * 2 : 1, item_bytes);
        PH_CHECK(array != NULL);
    }
    return array;
}

static X509 *parse_certificate(struct ph_str der)
{
    const uint8_t *at = (const uint8_t *)der.data;
    X509 *x509 = d2i_X509(NULL, &at, (long)der.len);

    if (x509 != NULL && at != (const uint8_t *)der.data + der.len) {
        X509_free(x509);
        x509 = NULL;
    }
    return x509;
}

static bool take_anchor(struct ph_trust *trust, struct ph_str der)
{
    struct ph_anchor anchor = {.x509 = parse_certificate(der)};

    if (anchor.x509 == NULL) {
        return false;
    }
    anchor.store = X509_STORE_new();
    PH_CHECK(anchor.store != NULL && X509_STORE_add_cert(anchor.store, anchor.x509) == 1);
    // An intermediate, or a leaf itself, may be an anchor too.
    PH_CHECK(X509_STORE_set_flags(anchor.store,
                                  X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST) == 1);
    trust->anchors = grown(trust->anchors, trust->anchor_count, sizeof(*trust->anchors));
    trust->anchors[trust->anchor_count++] = anchor;
    return true;
}

static bool take_intermediate(struct ph_trust *trust, struct ph_str der)
{
    X509 *x509 = parse_certificate(der);

    if (x509 != NULL) {
        trust->intermediates =
            grown(trust->intermediates, trust->intermediate_count, sizeof(X509 *));
        trust->intermediates[trust->intermediate_count++] = x509;
    }
    return x509 != NULL;
}

static bool take_crl(struct ph_trust *trust, struct ph_str der)
{
    struct ph_buf unused = {0};
    struct ph_crl *crl = ph_crl_parse(der, &unused);

    ph_buf_deinit(&unused);
    if (crl != NULL) {
        trust->loading = grown(trust->loading, trust->loading_count, sizeof(*trust->loading));
        trust->loading[trust->loading_count++] = crl;
    }
    return crl != NULL;
}
