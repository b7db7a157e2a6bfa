// A presented chain as facts: the leaf's names, dates and hashes, read once.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "tls/boringssl.h"
#include "tls/facts.h"

#include <openssl/pool.h>
#include <openssl/x509.h>

struct ph_issuers; // tls/issuers.h

// Of what a peer presents, this many certificates are looked at; ours: real chains have 2 to 5, and
// each one more gives the path search more to try.
#define PH_CHAIN_CERTIFICATES_MAX 32
#define PH_CHAIN_STAPLE_BYTES_MAX 16384 // an OCSP response; ours

// Where the buffers of certificates live, for all threads: counted (atomically), since chains and
// tickets may outlive a worker's context.
struct ph_chain_pool {
    CRYPTO_BUFFER_POOL *buffers; // equal certificates are one buffer; it locks itself
    _Atomic size_t references;
};
struct ph_chain_pool *ph_chain_pool_create(void);
struct ph_chain_pool *ph_chain_pool_retain(struct ph_chain_pool *pool);
void ph_chain_pool_release(struct ph_chain_pool *pool);

// What `ph_chain.certificates` points to.
struct ph_chain_certificates {
    struct ph_chain_pool *pool;
    CRYPTO_BUFFER *buffers[PH_CHAIN_CERTIFICATES_MAX];
    size_t count;
    X509 *leaf; // parsed; NULL when it can't be, or when it was let go (see ph_chain_shed)
    uint8_t *staple;
    size_t staple_len;
};

// Over all that was presented: each certificate and the stapled OCSP response.
void ph_chain_hash(const STACK_OF(CRYPTO_BUFFER) * presented, struct ph_str staple,
                   uint8_t out_hash[PH_SHA256_BYTES]);
// One reference, the caller's. Never NULL: a leaf that can't be parsed gives a chain without names,
// which no trust store vouches for.
struct ph_chain *ph_chain_create(struct ph_chain_pool *pool,
                                 const STACK_OF(CRYPTO_BUFFER) * presented, struct ph_str staple,
                                 const uint8_t hash[PH_SHA256_BYTES]);
// Of PEM text: the leaf is the first certificate of `leaf_pem`, all others are untrusted. NULL with
// a sentence.
struct ph_chain *ph_chain_create_from_pem(struct ph_chain_pool *pool, struct ph_str leaf_pem,
                                          struct ph_str untrusted_pem, struct ph_str staple,
                                          struct ph_buf *error);

// Parses the certificates; the caller frees each. out_x509[0] is the leaf; what can't be parsed
// and what is there twice is left out. 0: not even the leaf can be parsed. Those that `issuers`
// keeps parsed are taken from there; NULL: none are.
size_t ph_chain_parse(const struct ph_chain *chain, struct ph_issuers *issuers,
                      X509 *out_x509[PH_CHAIN_CERTIFICATES_MAX]);
// RFC 2253 text. Control characters and what isn't ASCII are escaped: it is the peer's and goes
// into logs.
void ph_chain_format_name(const X509_NAME *name, char out[PH_CERT_TEXT_MAX]);
// Lets the parsed leaf go, once its chain has been verified: it can be parsed again.
void ph_chain_shed(const struct ph_chain *chain);
// iPAddress SANs never match a DNS name, so facts have none; this is for `verify --name-kind ip`.
PH_MUST_CHECK bool ph_chain_has_address(const struct ph_chain *chain, struct ph_str address);
// The http(s) URLs of a certificate's CRL distribution points, each ended by '\n'.
void ph_chain_append_crl_urls(X509 *x509, struct ph_buf *out);
