// What the TLS sessions of one worker share.
#include "tls/context.h"

#include <stdlib.h>

#include "base/check.h"

// Given to BoringSSL by the session that uses the context (tls/session_parts.h says how).
#include "tls/session_parts.h"

// Records nothing and refuses nothing: what the certificates are worth is measured when the
// handshake is complete (in TLS 1.2 this runs before the key exchange is authenticated), and judged
// by the gate.
static enum ssl_verify_result_t accept_any(SSL *ssl, uint8_t *out_alert)
{
    (void)ssl, (void)out_alert;
    return ssl_verify_ok;
}

struct ph_tls_context *ph_tls_context_create(const struct ph_tls_context_options *options)
{
    struct ph_tls_context *context = ph_alloc(sizeof(*context));

    context->options = *options;
    context->cache = ph_chain_cache_create(options->chain_cache_max);
    context->issuers = ph_issuers_create();
    context->tickets = options->tickets != NULL ? ph_tickets_retain(options->tickets)
                                                : ph_tickets_create(options->ticket_max);
    context->pool = ph_chain_pool_retain(ph_tickets_pool(context->tickets));
    context->client = SSL_CTX_new(TLS_with_buffers_method());
    PH_CHECK(context->client != NULL);
    SSL_CTX_set_app_data(context->client, context);
    SSL_CTX_set0_buffer_pool(context->client, context->pool->buffers);
    SSL_CTX_set_custom_verify(context->client, SSL_VERIFY_PEER, accept_any);
    SSL_CTX_set_current_time_cb(context->client, ph_session_tell_time);
    SSL_CTX_set_session_cache_mode(context->client,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_enable_ocsp_stapling(context->client);
    ph_session_configure(context->client);
    return context;
}

void ph_tls_context_destroy(struct ph_tls_context *context)
{
    if (context != NULL) {
        ph_chain_cache_destroy(context->cache);
        ph_issuers_destroy(context->issuers);
        ph_crls_release(context->crls);
        SSL_CTX_free(context->client);
        ph_chain_pool_release(context->pool);
        ph_tickets_release(context->tickets);
        free(context);
    }
}

void ph_tls_context_set_crls(struct ph_tls_context *context, struct ph_crls *crls)
{
    struct ph_crls *old = context->crls;

    context->crls = crls != NULL ? ph_crls_retain(crls) : NULL;
    ph_crls_release(old);
}

const struct ph_crls *ph_tls_context_crls(const struct ph_tls_context *context)
{
    return context->crls;
}

void ph_tls_context_forget(struct ph_tls_context *context, struct ph_str resumption_key)
{
    ph_tickets_forget(context->tickets, resumption_key);
}

struct ph_chain *ph_tls_context_chain(struct ph_tls_context *context,
                                      const STACK_OF(CRYPTO_BUFFER) * presented,
                                      struct ph_str staple)
{
    uint8_t hash[PH_SHA256_BYTES];
    struct ph_chain *chain;

    ph_chain_hash(presented, staple, hash);
    chain = ph_chain_cache_find(context->cache, hash);
    if (chain != NULL) {
        ph_chain_retain(chain);
    } else {
        chain = ph_chain_create(context->pool, presented, staple, hash);
        ph_chain_cache_put(context->cache, chain);
    }
    return chain;
}
