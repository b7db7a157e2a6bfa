// The delivery log's chain.
#include "tls/digest.h"

#include <string.h>

#include "tls/boringssl.h"

#include <openssl/sha.h>

void ph_digest_chain(const char *before, struct ph_str line, char out[PH_DIGEST_TEXT_MAX])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t hash[SHA256_DIGEST_LENGTH];
    SHA256_CTX sha;

    SHA256_Init(&sha);
    SHA256_Update(&sha, before, strlen(before));
    SHA256_Update(&sha, line.data, line.len);
    SHA256_Final(hash, &sha);
    for (size_t i = 0; i < PH_DIGEST_TEXT_MAX / 2; i++) {
        out[2 * i] = digits[hash[i] >> 4];
        out[2 * i + 1] = digits[hash[i] & 15];
    }
    out[PH_DIGEST_TEXT_MAX - 1] = '\0';
}
