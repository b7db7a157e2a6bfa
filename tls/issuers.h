// Certificates of authorities, parsed, kept for the next chain that brings them: thousands of hosts
// share a few. A certificate is known by its buffer, of which a pool holds one for equal bytes.
#pragma once

#include "tls/boringssl.h"
#include "tls/chain.h"

#include <openssl/pool.h>
#include <openssl/x509.h>

#define PH_ISSUERS_MAX 64 // slots; ours: what most chains need, at some KiB each

struct ph_issuers;

struct ph_issuers *ph_issuers_create(void);
void ph_issuers_destroy(struct ph_issuers *issuers); // NULL accepted
// `buffer` is of `pool`. One reference for the caller; NULL where it can't be parsed. `issuers`
// NULL: parsed anew.
X509 *ph_issuers_parse(struct ph_issuers *issuers, struct ph_chain_pool *pool,
                       CRYPTO_BUFFER *buffer);
