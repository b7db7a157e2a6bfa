// A snapshot with what it owns: for config/snapshot and the builder alone.
#pragma once

#include <stdatomic.h>

#include "config/snapshot.h"

struct ph_snapshot {
    struct ph_config config;
    _Atomic uint32_t references;
    void **memory;
    size_t memory_count;
    struct ph_trust **trusts;
    size_t trust_count;
    struct ph_tls_identity **identities;
    size_t identity_count;
    struct ph_tls_server **servers;
    size_t server_count;
};
