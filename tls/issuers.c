// Certificates of authorities, parsed.
#include "tls/issuers.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"

struct slot {
    CRYPTO_BUFFER *buffer; // held, so that its address means these bytes and no others
    X509 *x509;
    struct ph_chain_pool *pool; // the buffer's, which must outlive it
};

// Where two want the same slot the later one has it: no order to be kept, and no scan.
struct ph_issuers {
    struct slot slots[PH_ISSUERS_MAX];
};

struct ph_issuers *ph_issuers_create(void)
{
    return ph_alloc(sizeof(struct ph_issuers));
}

static void empty(struct slot *slot)
{
    X509_free(slot->x509);
    CRYPTO_BUFFER_free(slot->buffer);
    if (slot->pool != NULL) {
        ph_chain_pool_release(slot->pool);
    }
    *slot = (struct slot){0};
}

void ph_issuers_destroy(struct ph_issuers *issuers)
{
    for (size_t i = 0; issuers != NULL && i < PH_ISSUERS_MAX; i++) {
        empty(&issuers->slots[i]);
    }
    free(issuers);
}

X509 *ph_issuers_parse(struct ph_issuers *issuers, struct ph_chain_pool *pool,
                       CRYPTO_BUFFER *buffer)
{
    struct slot *slot;

    if (issuers == NULL) {
        return X509_parse_from_buffer(buffer);
    }
    slot = &issuers->slots[ph_hash_bytes(&buffer, sizeof(buffer), 0) % PH_ISSUERS_MAX];
    if (slot->buffer != buffer) {
        X509 *x509 = X509_parse_from_buffer(buffer);

        if (x509 == NULL) {
            return NULL;
        }
        empty(slot);
        CRYPTO_BUFFER_up_ref(buffer);
        *slot = (struct slot){.buffer = buffer, .x509 = x509, .pool = ph_chain_pool_retain(pool)};
    }
    X509_up_ref(slot->x509);
    return slot->x509;
}
