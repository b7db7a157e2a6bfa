// A presented chain as facts.
#include "tls/chain.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "base/check.h"
#include "tls/asn1.h"
#include "tls/identity.h"
#include "tls/issuers.h"
#include "tls/pem.h"

#define PH_CHAIN_CRL_URLS_MAX 16 // of one certificate; ours

static void destroy_chain(struct ph_chain *chain);
static void read_leaf(struct ph_chain *chain, X509 *leaf);

struct ph_chain_pool *ph_chain_pool_create(void)
{
    struct ph_chain_pool *pool = ph_alloc(sizeof(*pool));

    atomic_init(&pool->references, 1);
    pool->buffers = CRYPTO_BUFFER_POOL_new();
    PH_CHECK(pool->buffers != NULL);
    return pool;
}

struct ph_chain_pool *ph_chain_pool_retain(struct ph_chain_pool *pool)
{
    atomic_fetch_add(&pool->references, 1);
    return pool;
}

void ph_chain_pool_release(struct ph_chain_pool *pool)
{
    if (atomic_fetch_sub(&pool->references, 1) == 1) {
        CRYPTO_BUFFER_POOL_free(pool->buffers);
        free(pool);
    }
}

static size_t presented_count(const STACK_OF(CRYPTO_BUFFER) * presented)
{
    size_t count = sk_CRYPTO_BUFFER_num(presented);

    return count < PH_CHAIN_CERTIFICATES_MAX ? count : PH_CHAIN_CERTIFICATES_MAX;
}

void ph_chain_hash(const STACK_OF(CRYPTO_BUFFER) * presented, struct ph_str staple,
                   uint8_t out_hash[PH_SHA256_BYTES])
{
    SHA256_CTX sha;

    SHA256_Init(&sha);
    for (size_t i = 0; i < presented_count(presented); i++) {
        const CRYPTO_BUFFER *buffer = sk_CRYPTO_BUFFER_value(presented, i);
        uint64_t len = CRYPTO_BUFFER_len(buffer); // so that no two chains are the same bytes

        SHA256_Update(&sha, &len, sizeof(len));
        SHA256_Update(&sha, CRYPTO_BUFFER_data(buffer), len);
    }
    if (staple.len > 0) {
        uint64_t mark = UINT64_MAX; // no length of a certificate

        SHA256_Update(&sha, &mark, sizeof(mark));
        SHA256_Update(&sha, staple.data, staple.len);
    }
    SHA256_Final(out_hash, &sha);
}

struct ph_chain *ph_chain_create(struct ph_chain_pool *pool,
                                 const STACK_OF(CRYPTO_BUFFER) * presented, struct ph_str staple,
                                 const uint8_t hash[PH_SHA256_BYTES])
{
    struct ph_chain *chain = ph_alloc(sizeof(*chain));
    struct ph_chain_certificates *certificates = ph_alloc(sizeof(*certificates));
    CRYPTO_BUFFER *leaf;

    PH_CHECK(sk_CRYPTO_BUFFER_num(presented) > 0);
    chain->references = 1;
    chain->destroy = destroy_chain;
    chain->certificates = certificates;
    memcpy(chain->hash, hash, PH_SHA256_BYTES);
    certificates->pool = pool;
    ph_chain_pool_retain(pool);
    certificates->count = presented_count(presented);
    for (size_t i = 0; i < certificates->count; i++) {
        certificates->buffers[i] = sk_CRYPTO_BUFFER_value(presented, i);
        CRYPTO_BUFFER_up_ref(certificates->buffers[i]);
    }
    if (staple.len > 0 && staple.len <= PH_CHAIN_STAPLE_BYTES_MAX) {
        certificates->staple = ph_alloc(staple.len);
        certificates->staple_len = staple.len;
        memcpy(certificates->staple, staple.data, staple.len);
    }
    leaf = certificates->buffers[0];
    SHA256(CRYPTO_BUFFER_data(leaf), CRYPTO_BUFFER_len(leaf), chain->leaf_sha256);
    certificates->leaf = X509_parse_from_buffer(leaf);
    if (certificates->leaf != NULL) {
        read_leaf(chain, certificates->leaf);
    }
    ERR_clear_error();
    return chain;
}

static void destroy_chain(struct ph_chain *chain)
{
    struct ph_chain_certificates *certificates = chain->certificates;

    for (size_t i = 0; i < certificates->count; i++) {
        CRYPTO_BUFFER_free(certificates->buffers[i]);
    }
    X509_free(certificates->leaf);
    ph_chain_pool_release(certificates->pool);
    free(certificates->staple);
    free(certificates);
    for (size_t i = 0; i < chain->dns_name_count; i++) {
        free((char *)chain->dns_names[i]);
    }
    free(chain->dns_names);
    free(chain);
}

// --- The leaf's facts
// -----------------------------------------------------------------------------------

static struct ph_str asn1_text(const ASN1_STRING *string)
{
    return (struct ph_str){.data = (const char *)ASN1_STRING_get0_data(string),
                           .len = (size_t)ASN1_STRING_length(string)};
}

void ph_chain_format_name(const X509_NAME *name, char out[PH_CERT_TEXT_MAX])
{
    BIO *bio = BIO_new(BIO_s_mem());
    const uint8_t *data = NULL;
    size_t len = 0;

    out[0] = '\0';
    PH_CHECK(bio != NULL);
    if (X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0 &&
        BIO_mem_contents(bio, &data, &len)) {
        ph_str_copy(out, PH_CERT_TEXT_MAX, (struct ph_str){.data = (const char *)data, .len = len});
    }
    BIO_free(bio);
}

// The most specific one, where it is a host name. Some have a wildcard in it.
static void read_common_name(struct ph_chain *chain, const X509_NAME *subject)
{
    int at = -1;
    int last = -1;

    while ((at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0) {
        last = at;
    }
    if (last >= 0) {
        const ASN1_STRING *value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last));
        uint8_t *utf8 = NULL;
        int len = ASN1_STRING_to_UTF8(&utf8, value);
        struct ph_str name = {.data = (const char *)utf8, .len = len > 0 ? (size_t)len : 0};

        if (len > 0 && ph_identity_is_presentable(name)) {
            ph_str_copy(chain->common_name, sizeof(chain->common_name), name);
        }
        OPENSSL_free(utf8);
    }
}

static void read_names(struct ph_chain *chain, X509 *leaf)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    size_t count = names != NULL ? sk_GENERAL_NAME_num(names) : 0;

    for (size_t i = 0; i < count && chain->dns_name_count < PH_CERT_NAMES_MAX; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == GEN_DNS) {
            struct ph_str text = asn1_text(name->d.dNSName);

            chain->has_dns_names = true;
            if (ph_identity_is_presentable(text)) {
                char *copy = ph_alloc(text.len + 1);

                for (size_t at = 0; at < text.len; at++) {
                    copy[at] = ph_ascii_lower(text.data[at]);
                }
                chain->dns_names[chain->dns_name_count++] = copy;
            }
        }
    }
    GENERAL_NAMES_free(names);
}

static void read_leaf(struct ph_chain *chain, X509 *leaf)
{
    uint8_t *spki = NULL;
    int spki_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &spki);
    const char **exact;

    if (spki_len > 0) {
        SHA256(spki, (size_t)spki_len, chain->spki_sha256);
    }
    OPENSSL_free(spki);
    ph_chain_format_name(X509_get_subject_name(leaf), chain->subject);
    ph_chain_format_name(X509_get_issuer_name(leaf), chain->issuer);
    read_common_name(chain, X509_get_subject_name(leaf));
    if (!ph_asn1_time_to_s(X509_get0_notBefore(leaf), &chain->not_before_s)) {
        chain->not_before_s = INT64_MAX;
    }
    if (!ph_asn1_time_to_s(X509_get0_notAfter(leaf), &chain->not_after_s)) {
        chain->not_after_s = INT64_MIN;
    }
    chain->dns_names = ph_alloc(PH_CERT_NAMES_MAX * sizeof(*chain->dns_names));
    read_names(chain, leaf);
    exact = reallocarray(chain->dns_names, chain->dns_name_count + 1, sizeof(*exact));
    PH_CHECK(exact != NULL);
    chain->dns_names = exact;
}

// --- The certificates
// -----------------------------------------------------------------------------------

size_t ph_chain_parse(const struct ph_chain *chain, struct ph_issuers *issuers,
                      X509 *out_x509[PH_CHAIN_CERTIFICATES_MAX])
{
    const struct ph_chain_certificates *certificates = chain->certificates;
    size_t count = 0;

    for (size_t i = 0; i < certificates->count; i++) {
        bool repeated = false;
        X509 *x509 = NULL;

        for (size_t j = 0; !repeated && j < i; j++) {
            repeated = certificates->buffers[j] == certificates->buffers[i];
        }
        if (i == 0 && certificates->leaf != NULL) {
            x509 = certificates->leaf;
            X509_up_ref(x509);
        } else if (!repeated) {
            x509 = ph_issuers_parse(i > 0 ? issuers : NULL, certificates->pool,
                                    certificates->buffers[i]);
        }
        if (x509 != NULL) {
            out_x509[count++] = x509;
        } else if (i == 0) {
            break;
        }
    }
    ERR_clear_error();
    return count;
}

void ph_chain_shed(const struct ph_chain *chain)
{
    struct ph_chain_certificates *certificates = chain->certificates;

    X509_free(certificates->leaf);
    certificates->leaf = NULL;
}

bool ph_chain_has_address(const struct ph_chain *chain, struct ph_str address)
{
    X509 *x509[PH_CHAIN_CERTIFICATES_MAX];
    size_t count = ph_chain_parse(chain, NULL, x509);
    bool has = false;
    char text[64];

    if (count > 0 && address.len < sizeof(text)) {
        ph_str_copy(text, sizeof(text), address);
        has = X509_check_ip_asc(x509[0], text, 0) == 1;
    }
    for (size_t i = 0; i < count; i++) {
        X509_free(x509[i]);
    }
    ERR_clear_error();
    return has;
}

static void append_point_urls(const DIST_POINT *point, struct ph_buf *out)
{
    const GENERAL_NAMES *names = point->distpoint != NULL && point->distpoint->type == 0
                                     ? point->distpoint->name.fullname
                                     : NULL;
    size_t count = names != NULL ? sk_GENERAL_NAME_num(names) : 0;

    for (size_t i = 0; i < count && i < PH_CHAIN_CRL_URLS_MAX; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        struct ph_str url =
            name->type == GEN_URI ? asn1_text(name->d.uniformResourceIdentifier) : PH_STR_NONE;

        if ((ph_str_starts_nocase(url, PH_STR("http://")) ||
             ph_str_starts_nocase(url, PH_STR("https://"))) &&
            ph_str_find_char(url, '\n') < 0 && ph_str_find_char(url, '\0') < 0) {
            ph_buf_append(out, url);
            ph_buf_append_char(out, '\n');
        }
    }
}

void ph_chain_append_crl_urls(X509 *x509, struct ph_buf *out)
{
    CRL_DIST_POINTS *points = X509_get_ext_d2i(x509, NID_crl_distribution_points, NULL, NULL);
    size_t count = points != NULL ? sk_DIST_POINT_num(points) : 0;

    for (size_t i = 0; i < count && i < PH_CHAIN_CRL_URLS_MAX; i++) {
        append_point_urls(sk_DIST_POINT_value(points, i), out);
    }
    CRL_DIST_POINTS_free(points);
    ERR_clear_error();
}

// --- From PEM
// -------------------------------------------------------------------------------------------

// Appends the certificates of a text to `presented`; false when one can't be read.
static bool push_pem(STACK_OF(CRYPTO_BUFFER) * presented, struct ph_chain_pool *pool,
                     struct ph_str text)
{
    enum ph_pem_result result = PH_PEM_BLOCK;
    struct ph_pem pem;

    ph_pem_open(&pem, text);
    while (result == PH_PEM_BLOCK) {
        result = ph_pem_next(&pem);
        if (result == PH_PEM_BLOCK && ph_pem_is_certificate(&pem)) {
            CRYPTO_BUFFER *buffer =
                CRYPTO_BUFFER_new((const uint8_t *)pem.der.data, pem.der.len, pool->buffers);

            PH_CHECK(buffer != NULL && sk_CRYPTO_BUFFER_push(presented, buffer) > 0);
        }
    }
    ph_pem_close(&pem);
    return result == PH_PEM_END;
}

struct ph_chain *ph_chain_create_from_pem(struct ph_chain_pool *pool, struct ph_str leaf_pem,
                                          struct ph_str untrusted_pem, struct ph_str staple,
                                          struct ph_buf *error)
{
    STACK_OF(CRYPTO_BUFFER) *presented = sk_CRYPTO_BUFFER_new_null();
    struct ph_chain *chain = NULL;
    uint8_t hash[PH_SHA256_BYTES];

    PH_CHECK(presented != NULL);
    if (!push_pem(presented, pool, leaf_pem) || sk_CRYPTO_BUFFER_num(presented) == 0) {
        ph_buf_printf(error, "the leaf is no PEM certificate");
    } else if (!push_pem(presented, pool, untrusted_pem)) {
        ph_buf_printf(error, "an untrusted certificate is no PEM certificate");
    } else {
        ph_chain_hash(presented, staple, hash);
        chain = ph_chain_create(pool, presented, staple, hash);
    }
    sk_CRYPTO_BUFFER_pop_free(presented, CRYPTO_BUFFER_free);
    return chain;
}
