// What the design stands on is in the library that was linked.
#include "tls/boringssl.h"

#include <criterion/criterion.h>
#include <openssl/pool.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>

Test(boringssl, hashes_right_so_it_is_linked_and_not_another)
{
    static const uint8_t expected[4] = {0xba, 0x78, 0x16, 0xbf}; // FIPS 180-2, B.1: "abc"
    uint8_t digest[SHA256_DIGEST_LENGTH];

    SHA256((const uint8_t *)"abc", 3, digest);
    cr_assert_arr_eq(digest, expected, sizeof(expected));
}

Test(boringssl, has_buffers_pools_and_custom_verification)
{
    CRYPTO_BUFFER_POOL *pool = CRYPTO_BUFFER_POOL_new();
    SSL_CTX *context = SSL_CTX_new(TLS_with_buffers_method());
    CRYPTO_BUFFER *one;
    CRYPTO_BUFFER *same;

    cr_assert_not_null(pool);
    cr_assert_not_null(context);
    one = CRYPTO_BUFFER_new((const uint8_t *)"abc", 3, pool);
    same = CRYPTO_BUFFER_new((const uint8_t *)"abc", 3, pool);
    cr_assert_eq(one, same, "equal certificates share one buffer");
    SSL_CTX_set0_buffer_pool(context, pool);
    SSL_CTX_set_custom_verify(context, SSL_VERIFY_PEER, NULL);
    cr_assert_eq(SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION), 1);
    CRYPTO_BUFFER_free(one);
    CRYPTO_BUFFER_free(same);
    SSL_CTX_free(context);
    CRYPTO_BUFFER_POOL_free(pool);
}
