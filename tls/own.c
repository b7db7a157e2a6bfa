// The certificates that are ours.
#include "tls/own_parts.h"
#include "tls/session_parts.h"

#include <stdlib.h>
#include <sys/time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/check.h"
#include "tls/asn1.h"
#include "tls/chain.h"
#include "tls/pem.h"

static bool read_chain(struct ph_tls_identity *identity, struct ph_str text, struct ph_buf *error);
static bool read_leaf(struct ph_tls_identity *identity, struct ph_buf *error);
static EVP_PKEY *read_key(struct ph_str pem);

struct ph_tls_identity *ph_tls_identity_create(struct ph_str chain_pem, struct ph_str key_pem,
                                               struct ph_buf *error)
{
    struct ph_tls_identity *identity = ph_alloc(sizeof(*identity));
    bool valid = read_chain(identity, chain_pem, error);

    if (valid) {
        identity->key = read_key(key_pem.len > 0 ? key_pem : chain_pem);
        valid = identity->key != NULL;
        if (!valid) {
            ph_buf_printf(error, "no usable private key: it must be PEM, without a password, in "
                                 "the file of the certificate or in one of its own");
        }
    }
    valid = valid && read_leaf(identity, error);
    if (!valid) {
        ph_tls_identity_destroy(identity);
        identity = NULL;
    }
    ERR_clear_error();
    return identity;
}

void ph_tls_identity_destroy(struct ph_tls_identity *identity)
{
    if (identity != NULL) {
        for (size_t i = 0; i < identity->chain_count; i++) {
            CRYPTO_BUFFER_free(identity->chain[i]);
        }
        EVP_PKEY_free(identity->key);
        free(identity);
    }
}

int64_t ph_tls_identity_not_before_s(const struct ph_tls_identity *identity)
{
    return identity->not_before_s;
}

const char *ph_tls_identity_issuer(const struct ph_tls_identity *identity)
{
    return identity->issuer;
}

const char *ph_tls_identity_subject(const struct ph_tls_identity *identity)
{
    return identity->subject;
}

const uint8_t *ph_tls_identity_sha256(const struct ph_tls_identity *identity)
{
    return identity->sha256;
}

const uint8_t *ph_tls_identity_spki_sha256(const struct ph_tls_identity *identity)
{
    return identity->spki_sha256;
}

int64_t ph_tls_identity_not_after_s(const struct ph_tls_identity *identity)
{
    return identity->not_after_s;
}

bool ph_tls_identity_allows_client_auth(const struct ph_tls_identity *identity)
{
    return identity->allows_client_auth;
}

static bool read_chain(struct ph_tls_identity *identity, struct ph_str text, struct ph_buf *error)
{
    struct ph_pem pem;
    bool fits = true;

    ph_pem_open(&pem, text);
    while (fits && ph_pem_next(&pem) == PH_PEM_BLOCK) {
        if (ph_pem_is_certificate(&pem)) {
            fits = identity->chain_count < PH_OWN_CHAIN_MAX;
            if (fits) {
                CRYPTO_BUFFER *buffer =
                    CRYPTO_BUFFER_new((const uint8_t *)pem.der.data, pem.der.len, NULL);

                PH_CHECK(buffer != NULL);
                identity->chain[identity->chain_count++] = buffer;
            }
        }
    }
    ph_pem_close(&pem);
    if (!fits) {
        ph_buf_printf(error, "more than %d certificates in one chain", PH_OWN_CHAIN_MAX);
    } else if (identity->chain_count == 0) {
        ph_buf_printf(error, "no PEM certificate (-----BEGIN CERTIFICATE-----)");
    }
    return fits && identity->chain_count > 0;
}

static int refuse_password(char *out, int size, int writing, void *owner)
{
    (void)out, (void)size, (void)writing, (void)owner;
    return -1;
}

static EVP_PKEY *read_key(struct ph_str pem)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    EVP_PKEY *key;

    PH_CHECK(bio != NULL);
    key = PEM_read_bio_PrivateKey(bio, NULL, refuse_password, NULL);
    BIO_free(bio);
    return key;
}

static void describe(struct ph_tls_identity *identity, X509 *leaf)
{
    uint8_t *spki = NULL;
    int spki_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &spki);
    const CRYPTO_BUFFER *der = identity->chain[0];

    PH_CHECK(spki_len > 0);
    SHA256(spki, (size_t)spki_len, identity->spki_sha256);
    OPENSSL_free(spki);
    SHA256(CRYPTO_BUFFER_data(der), CRYPTO_BUFFER_len(der), identity->sha256);
    ph_chain_format_name(X509_get_issuer_name(leaf), identity->issuer);
    ph_chain_format_name(X509_get_subject_name(leaf), identity->subject);
}

static bool read_leaf(struct ph_tls_identity *identity, struct ph_buf *error)
{
    X509 *leaf = X509_parse_from_buffer(identity->chain[0]);
    bool valid = leaf != NULL &&
                 ph_asn1_time_to_s(X509_get0_notBefore(leaf), &identity->not_before_s) &&
                 ph_asn1_time_to_s(X509_get0_notAfter(leaf), &identity->not_after_s);

    if (!valid) {
        ph_buf_printf(error, "the first certificate can't be parsed");
    } else if (X509_check_private_key(leaf, identity->key) != 1) {
        ph_buf_printf(error, "the private key doesn't belong to the first certificate");
        valid = false;
    } else {
        describe(identity, leaf);
        // Without the extension every bit is set.
        identity->allows_client_auth =
            (X509_get_extended_key_usage(leaf) & (XKU_SSL_CLIENT | XKU_ANYEKU)) != 0;
    }
    X509_free(leaf);
    return valid;
}

// --- The receive side
// -----------------------------------------------------------------------------------

struct ph_tls_server *ph_tls_server_create(struct ph_str chain_pem, struct ph_str key_pem,
                                           struct ph_buf *error)
{
    struct ph_tls_identity *identity = ph_tls_identity_create(chain_pem, key_pem, error);
    struct ph_tls_server *server;

    if (identity == NULL) {
        return NULL;
    }
    server = ph_alloc(sizeof(*server));
    server->identity = identity;
    server->context = SSL_CTX_new(TLS_with_buffers_method());
    PH_CHECK(server->context != NULL);
    PH_CHECK(SSL_CTX_set_min_proto_version(server->context, TLS1_2_VERSION) == 1);
    SSL_CTX_set_app_data(server->context, server);
    SSL_CTX_set_session_cache_mode(server->context, SSL_SESS_CACHE_OFF); // tickets alone
    if (SSL_CTX_set_chain_and_key(server->context, identity->chain, identity->chain_count,
                                  identity->key, NULL) != 1) {
        ph_buf_printf(error, "the certificate can't be used for TLS");
        ERR_clear_error();
        ph_tls_server_destroy(server);
        server = NULL;
    }
    return server;
}

void ph_tls_server_destroy(struct ph_tls_server *server)
{
    if (server != NULL) {
        SSL_CTX_free(server->context);
        ph_tls_identity_destroy(server->identity);
        free(server);
    }
}

int64_t ph_tls_server_not_after_s(const struct ph_tls_server *server)
{
    return server->identity->not_after_s;
}

void ph_tls_server_set_clock(struct ph_tls_server *server, uint64_t (*now_s)(void *owner),
                             void *owner)
{
    server->now_s = now_s;
    server->owner = owner;
    SSL_CTX_set_current_time_cb(server->context, ph_session_tell_time);
}

// A sink doesn't judge its clients.
static enum ssl_verify_result_t accept_any(SSL *ssl, uint8_t *out_alert)
{
    (void)ssl, (void)out_alert;
    return ssl_verify_ok;
}

void ph_tls_server_request_certificate(struct ph_tls_server *server, bool required)
{
    SSL_CTX_set_custom_verify(
        server->context,
        required ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_PEER, accept_any);
}

void ph_tls_server_set_version_max(struct ph_tls_server *server, uint16_t version)
{
    if (version != 0 && version < TLS1_2_VERSION) {
        PH_CHECK(SSL_CTX_set_min_proto_version(server->context, version) == 1);
    }
    PH_CHECK(SSL_CTX_set_max_proto_version(server->context, version) == 1);
}

void ph_tls_server_set_staple(struct ph_tls_server *server, struct ph_str response)
{
    PH_CHECK(SSL_CTX_set_ocsp_response(server->context, (const uint8_t *)response.data,
                                       response.len) == 1);
}
