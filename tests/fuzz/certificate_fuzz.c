// What a peer presents: certificates, a staple, PEM text, CRLs. Nothing here may crash; what can't
// be parsed is a chain without names.
#include <openssl/pool.h>
#include <string.h>

#include "tests/fuzz/input.h"
#include "tls/chain.h"
#include "tls/pem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .len = size};
    uint8_t choice = fuzz_byte(&input);
    struct ph_chain_pool *pool = ph_chain_pool_create();
    struct ph_buf urls = {0};
    struct ph_buf error = {0};

    if (choice & 1) {
        STACK_OF(CRYPTO_BUFFER) *presented = sk_CRYPTO_BUFFER_new_null();
        CRYPTO_BUFFER *leaf =
            CRYPTO_BUFFER_new(input.data, input.len, choice & 2 ? NULL : pool->buffers);
        uint8_t hash[PH_SHA256_BYTES];
        X509 *parsed[PH_CHAIN_CERTIFICATES_MAX];
        struct ph_str staple = ph_str_first(fuzz_rest(&input), 200);
        struct ph_chain *chain;
        size_t count;

        PH_CHECK(presented != NULL && leaf != NULL && sk_CRYPTO_BUFFER_push(presented, leaf) > 0);
        ph_chain_hash(presented, staple, hash);
        chain = ph_chain_create(pool, presented, staple, hash);
        count = ph_chain_parse(chain, NULL, parsed);
        PH_CHECK(count <= PH_CHAIN_CERTIFICATES_MAX);
        for (size_t i = 0; i < count; i++) {
            ph_chain_append_crl_urls(parsed[i], &urls);
            X509_free(parsed[i]);
        }
        ph_chain_release(chain);
        sk_CRYPTO_BUFFER_pop_free(presented, CRYPTO_BUFFER_free);
    } else {
        struct ph_chain *chain =
            ph_chain_create_from_pem(pool, fuzz_rest(&input), PH_STR_NONE, PH_STR_NONE, &error);
        struct ph_pem pem;
        enum ph_pem_result result = PH_PEM_BLOCK;

        if (chain != NULL) {
            ph_chain_release(chain);
        }
        ph_pem_open(&pem, fuzz_rest(&input));
        while (result == PH_PEM_BLOCK) {
            result = ph_pem_next(&pem);
        }
        ph_pem_close(&pem);
    }
    ph_buf_deinit(&urls);
    ph_buf_deinit(&error);
    ph_chain_pool_release(pool);
    return 0;
}
