// What our own certificates hold: for the session.
#pragma once

#include "tls/boringssl.h"
#include "tls/facts.h"
#include "tls/own.h"

#include <openssl/ssl.h>

#define PH_OWN_CHAIN_MAX 16 // certificates of one of our own chains; ours

struct ph_tls_identity {
    CRYPTO_BUFFER *chain[PH_OWN_CHAIN_MAX];
    size_t chain_count;
    EVP_PKEY *key;
    int64_t not_before_s;
    int64_t not_after_s;
    char issuer[PH_CERT_TEXT_MAX];
    char subject[PH_CERT_TEXT_MAX];
    uint8_t sha256[PH_SHA256_BYTES];
    uint8_t spki_sha256[PH_SHA256_BYTES];
    bool allows_client_auth;
};

struct ph_tls_server {
    SSL_CTX *context;
    struct ph_tls_identity *identity;
    uint64_t (*now_s)(void *owner); // NULL: the machine's clock
    void *owner;
};
