// TLS of the bare relay's connections: as little around BoringSSL as there can be.
#include "bench/lib/relay_tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/bytes_bio.h"
#include "tls/boringssl.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#define RECORD_BYTES SSL3_RT_MAX_PLAIN_LENGTH

struct ph_relay_tls {
    SSL *ssl;
    struct ph_relay_tls_site *site;
    struct ph_bytes_bio bytes;
};

static struct {
    SSL_CTX *context;
    X509_STORE *store;
    CRYPTO_BUFFER *issuer_bytes; // that came with the last chain: parsed once
    X509 *issuer;
    size_t filled; // of the record
    char record[RECORD_BYTES];
} relay_tls;

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "bench-relay: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

// --- certificates ---

static X509 *issuer_of(const STACK_OF(CRYPTO_BUFFER) * presented)
{
    CRYPTO_BUFFER *bytes = sk_CRYPTO_BUFFER_value(presented, 1);
    size_t len = CRYPTO_BUFFER_len(bytes);

    if (relay_tls.issuer_bytes == NULL || CRYPTO_BUFFER_len(relay_tls.issuer_bytes) != len ||
        memcmp(CRYPTO_BUFFER_data(relay_tls.issuer_bytes), CRYPTO_BUFFER_data(bytes), len) != 0) {
        X509_free(relay_tls.issuer);
        CRYPTO_BUFFER_free(relay_tls.issuer_bytes);
        relay_tls.issuer = X509_parse_from_buffer(bytes);
        relay_tls.issuer_bytes = bytes;
        CRYPTO_BUFFER_up_ref(bytes);
    }
    return relay_tls.issuer;
}

// Chain, validity, purpose and name by BoringSSL's X509 layer. The sink's chains are of two.
static enum ssl_verify_result_t verify(SSL *ssl, uint8_t *out_alert)
{
    const struct ph_relay_tls *tls = SSL_get_app_data(ssl);
    const STACK_OF(CRYPTO_BUFFER) *presented = SSL_get0_peer_certificates(ssl);
    X509 *leaf = X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(presented, 0));
    STACK_OF(X509) *issuers = sk_X509_new_null();
    X509_STORE_CTX *verification = X509_STORE_CTX_new();
    bool valid = sk_CRYPTO_BUFFER_num(presented) == 2 && leaf != NULL &&
                 sk_X509_push(issuers, issuer_of(presented)) > 0 &&
                 X509_STORE_CTX_init(verification, relay_tls.store, leaf, issuers) == 1 &&
                 X509_STORE_CTX_set_default(verification, "ssl_server") == 1 &&
                 X509_VERIFY_PARAM_set1_host(X509_STORE_CTX_get0_param(verification),
                                             tls->site->host, strlen(tls->site->host)) == 1 &&
                 X509_verify_cert(verification) == 1;

    X509_STORE_CTX_free(verification);
    sk_X509_free(issuers);
    X509_free(leaf);
    *out_alert = SSL_AD_BAD_CERTIFICATE;
    return valid ? ssl_verify_ok : ssl_verify_invalid;
}

static int keep_ticket(SSL *ssl, SSL_SESSION *ticket)
{
    struct ph_relay_tls *tls = SSL_get_app_data(ssl);

    SSL_SESSION_free(tls->site->ticket);
    tls->site->ticket = ticket;
    return 1;
}

void ph_relay_tls_init(const char *directory)
{
    char path[4096];
    BIO *file;
    X509 *root;

    snprintf(path, sizeof(path), "%s/root.pem", directory);
    file = BIO_new_file(path, "r");
    root = file != NULL ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;
    relay_tls.store = X509_STORE_new();
    if (root == NULL || X509_STORE_add_cert(relay_tls.store, root) != 1) {
        fail(path);
    }
    X509_free(root);
    BIO_free(file);
    relay_tls.context = SSL_CTX_new(TLS_with_buffers_method());
    // One version, and the group that takes the least: 55 us for both steps, X25519 57.
    if (SSL_CTX_set_min_proto_version(relay_tls.context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set1_curves_list(relay_tls.context, "P-256") != 1) {
        fail("TLS");
    }
    SSL_CTX_set_custom_verify(relay_tls.context, SSL_VERIFY_PEER, verify);
    SSL_CTX_set_session_cache_mode(relay_tls.context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(relay_tls.context, keep_ticket);
}

// --- bytes ---

struct ph_relay_tls *ph_relay_tls_connect(struct ph_relay_tls_site *site, struct ph_buf *output)
{
    struct ph_relay_tls *tls = ph_alloc(sizeof(*tls));
    BIO *bio;

    tls->site = site;
    tls->bytes.output = output;
    bio = ph_bytes_bio_new(&tls->bytes);
    tls->ssl = SSL_new(relay_tls.context);
    SSL_set_app_data(tls->ssl, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_connect_state(tls->ssl);
    if (SSL_set_tlsext_host_name(tls->ssl, site->host) != 1 ||
        (site->ticket != NULL && SSL_set_session(tls->ssl, site->ticket) != 1) ||
        ph_relay_tls_handshake(tls)) {
        fail(site->host);
    }
    return tls;
}

void ph_relay_tls_destroy(struct ph_relay_tls *tls)
{
    if (tls != NULL) {
        SSL_free(tls->ssl);
        free(tls);
    }
}

void ph_relay_tls_feed(struct ph_relay_tls *tls, struct ph_str bytes)
{
    PH_CHECK(tls->bytes.input.len == 0);
    tls->bytes.input = bytes;
}

bool ph_relay_tls_handshake(struct ph_relay_tls *tls)
{
    int result = SSL_do_handshake(tls->ssl);

    if (result != 1 && SSL_get_error(tls->ssl, result) != SSL_ERROR_WANT_READ) {
        fail(tls->site->host);
    }
    return result == 1;
}

size_t ph_relay_tls_read(struct ph_relay_tls *tls, char *out, size_t size)
{
    int got = 0;

    // All that BoringSSL takes is whole records, and what is left of a front of one.
    if (tls->bytes.input.len > 0 || SSL_has_pending(tls->ssl)) {
        got = SSL_read(tls->ssl, out, (int)size);
        if (got <= 0 && SSL_get_error(tls->ssl, got) != SSL_ERROR_WANT_READ) {
            fail(tls->site->host);
        }
    }
    return got > 0 ? (size_t)got : 0;
}

static void seal(struct ph_relay_tls *tls, const void *data, size_t len)
{
    if (SSL_write(tls->ssl, data, (int)len) != (int)len) {
        fail(tls->site->host);
    }
}

void ph_relay_tls_write(struct ph_relay_tls *tls, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        size_t part = RECORD_BYTES - relay_tls.filled;

        if (relay_tls.filled == 0 && len >= RECORD_BYTES) { // as it lies there
            part = RECORD_BYTES;
            seal(tls, at, part);
        } else {
            part = part < len ? part : len;
            memcpy(relay_tls.record + relay_tls.filled, at, part);
            relay_tls.filled += part;
            if (relay_tls.filled == RECORD_BYTES) {
                ph_relay_tls_flush(tls);
            }
        }
        at += part;
        len -= part;
    }
}

void ph_relay_tls_flush(struct ph_relay_tls *tls)
{
    if (relay_tls.filled > 0) {
        seal(tls, relay_tls.record, relay_tls.filled);
        relay_tls.filled = 0;
    }
}
