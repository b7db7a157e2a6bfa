// What the TLS sessions of one worker share: for the files of this room.
#pragma once

#include "tls/boringssl.h"
#include "tls/chain.h"
#include "tls/chain_cache.h"
#include "tls/issuers.h"
#include "tls/session.h"
#include "tls/tickets.h"
#include "tls/verify.h"

#include <openssl/ssl.h>

struct ph_tls_context {
    struct ph_tls_context_options options;
    SSL_CTX *client;
    struct ph_chain_pool *pool;
    struct ph_chain_cache *cache;
    struct ph_issuers *issuers;
    struct ph_tickets *tickets;
    struct ph_crls *crls;            // one reference; NULL: none but the trust stores' own
    struct ph_chain_verdict verdict; // the last that was made here: what ph_verify_chain lends
    struct ph_verify_stats stats;
};

// The chain that was presented, one reference for the caller: a known one, or read now.
struct ph_chain *ph_tls_context_chain(struct ph_tls_context *context,
                                      const STACK_OF(CRYPTO_BUFFER) * presented,
                                      struct ph_str staple);
