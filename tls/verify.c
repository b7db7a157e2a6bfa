// Chain, validity, purpose, algorithms, revocation → a verdict.
#include "tls/verify.h"

#include <string.h>

#include "base/check.h"
#include "tls/chain.h"
#include "tls/context.h"
#include "tls/path.h"

static void verify(const struct ph_tls_context *context, const struct ph_chain *chain,
                   const struct ph_trust *trust, struct ph_window *window,
                   struct ph_chain_verdict *out);

// What leaves this room is about exactly this chain and this store.
static void check_about(const struct ph_chain_verdict *verdict, const struct ph_chain *chain,
                        const struct ph_trust *trust)
{
    PH_CHECK(verdict->trust_id == trust->id &&
             memcmp(verdict->chain_hash, chain->hash, PH_SHA256_BYTES) == 0);
}

const struct ph_chain_verdict *ph_verify_chain(struct ph_tls_context *context,
                                               const struct ph_chain *chain,
                                               const struct ph_trust *trust, uint64_t wall_ms)
{
    struct ph_window window = ph_window_make((int64_t)(wall_ms / 1000));
    const struct ph_chain_verdict *verdict = ph_verify_cached(context, chain, trust, wall_ms);

    if (verdict == NULL) {
        context->stats.full++;
        verdict = &context->verdict;
        verify(context, chain, trust, &window, &context->verdict);
        ph_chain_cache_put_verdict(context->cache, verdict, &window, context->crls);
        ph_chain_shed(chain);
    }
    check_about(verdict, chain, trust);
    return verdict;
}

const struct ph_chain_verdict *ph_verify_cached(struct ph_tls_context *context,
                                                const struct ph_chain *chain,
                                                const struct ph_trust *trust, uint64_t wall_ms)
{
    const struct ph_chain_verdict *verdict = ph_chain_cache_verdict(
        context->cache, chain->hash, trust->id, (int64_t)(wall_ms / 1000), context->crls);

    if (verdict != NULL) {
        context->stats.cached++;
        check_about(verdict, chain, trust);
    }
    return verdict;
}

struct ph_verify_stats ph_verify_stats(const struct ph_tls_context *context)
{
    return context->stats;
}

// False: not even the leaf can be parsed.
static bool search(const struct ph_tls_context *context, const struct ph_chain *chain,
                   struct ph_path_request *request, struct ph_path_result *out)
{
    const struct ph_chain_certificates *certificates = chain->certificates;
    X509 *presented[PH_CHAIN_CERTIFICATES_MAX];

    request->presented = presented;
    request->presented_count = ph_chain_parse(chain, context->issuers, presented);
    request->crls = context->crls;
    request->intermediates_max = context->options.intermediates_max > 0
                                     ? context->options.intermediates_max - 1
                                     : PH_PATH_INTERMEDIATES_MAX;
    request->staple = (struct ph_str){.data = (const char *)certificates->staple,
                                      .len = certificates->staple_len};
    if (request->presented_count > 0) {
        ph_path_search(request, out);
    }
    for (size_t i = 0; i < request->presented_count; i++) {
        X509_free(presented[i]);
    }
    request->presented = NULL;
    return request->presented_count > 0;
}

static void verify(const struct ph_tls_context *context, const struct ph_chain *chain,
                   const struct ph_trust *trust, struct ph_window *window,
                   struct ph_chain_verdict *out)
{
    struct ph_path_request request = {.trust = trust, .window = window};
    struct ph_path_result result;

    *out = (struct ph_chain_verdict){.trust_id = trust->id};
    memcpy(out->chain_hash, chain->hash, PH_SHA256_BYTES);
    if (search(context, chain, &request, &result)) {
        out->kind = result.kind;
        memcpy(out->detail, result.detail, sizeof(out->detail));
        memcpy(out->path, result.chain, sizeof(out->path));
        out->revocation = result.revocation.status;
        out->revocation_leaf = result.revocation.leaf;
        memcpy(out->revocation_detail, result.revocation.detail, sizeof(out->revocation_detail));
    } else {
        out->kind = PH_REASON_CERT_UNTRUSTED_ROOT;
        ph_str_copy(out->detail, sizeof(out->detail), PH_STR("its certificate can't be parsed"));
    }
    out->valid_until_s = window->until_s;
    out->crl_issuers = window->issuers;
}

void ph_verify_revocation_sources(struct ph_tls_context *context, const struct ph_chain *chain,
                                  const struct ph_trust *trust, uint64_t wall_ms,
                                  struct ph_buf *out_urls, struct ph_buf *out_issuers)
{
    struct ph_window window = ph_window_make((int64_t)(wall_ms / 1000));
    struct ph_path_request request = {
        .trust = trust, .window = &window, .urls = out_urls, .issuers = out_issuers};
    struct ph_path_result result;

    (void)search(context, chain, &request, &result);
}
