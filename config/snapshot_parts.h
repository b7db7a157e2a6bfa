// A snapshot with what it owns: for config/snapshot and the builder alone.
#pragma once

#include <stdatomic.h>

#include "config/snapshot.h"

// What a configuration was made of: a file's text, or the names that an include's pattern gave
// (each ended by NUL).
struct ph_config_source {
    char *name;
    bool pattern; // an include's, which may be the very name of its file
    struct ph_buf text;
};

struct ph_expression {
    regex_t compiled;
};

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
    struct ph_expression **expressions; // of BackoffOn
    size_t expression_count;
    struct ph_config_source *sources; // [0]: the file itself
    size_t source_count;
    struct ph_str *watched; // files and directories of our own certificates
    size_t watched_count;
    uint64_t watched_hash; // of their states, as they were when they were read
};
