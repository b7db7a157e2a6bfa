// What the files of the builder share: config/build (values of blocks) and the files
// config/build_…. Nobody else includes it.
#pragma once

#include "config/keys.h"
#include "config/load.h"
#include "config/parse.h"

#define PH_CONFIG_LABEL_BYTES_MAX 128 // of a connector's or a Site's name; ours

struct ph_value {
    bool given;
    struct ph_config_position at; // of the pair, or of its block
    struct ph_str text;
    bool boolean;
    uint64_t number;   // TIME, SIZE, NUMBER, CHOICE, BITS; of a share of something its percent
    uint64_t interval; // RATE
    bool percent;
    const struct ph_str *words;
    size_t word_count;
    const uint64_t *times; // TIMES, as many as words
};

struct ph_trust_cache;

struct ph_builder {
    struct ph_config *config;
    struct ph_config_tree tree;
    const struct ph_config_files *files;
    struct ph_buf *errors;
    struct ph_buf *warnings;
    unsigned error_count;
    struct ph_trust_cache *trusts; // config/build_trust's
    size_t trust_count;
    struct ph_value global[PH_GLOBAL_COUNT];
    struct ph_value transport[PH_TRANSPORT_COUNT];
};

// In the snapshot's memory: lives as long as it.
void *ph_build_alloc(struct ph_builder *b, size_t size);
struct ph_str ph_build_str(struct ph_builder *b, struct ph_str text);
void ph_build_error(struct ph_builder *b, struct ph_config_position at, const char *id,
                    const char *key, const char *format, ...) PH_PRINTF(5, 6);
void ph_build_warning(struct ph_builder *b, struct ph_config_position at, const char *id,
                      const char *key, const char *format, ...) PH_PRINTF(5, 6);
// Lines "FILE:LINE: …": those of `first_file` first, each file's in the order of its lines.
void ph_build_sort_lines(struct ph_buf *lines, struct ph_str first_file);
// Of kinds that may stand once. NULL: there is none.
struct ph_config_block *ph_build_only_block(struct ph_builder *b, enum ph_block_kind kind);
// Numbers that are kept in 32 bits: what doesn't fit is as good as unlimited.
uint32_t ph_build_bounded(uint64_t number);
bool ph_build_protocol_logging(struct ph_builder *b, const struct ph_value *value);
// The values of a block (NULL: all defaults), one for each key of its kind.
void ph_build_values(struct ph_builder *b, enum ph_block_kind kind, struct ph_config_block *block,
                     struct ph_value *out);
// "posthaste.conf:31 SendConnector contoso"
struct ph_str ph_build_source(struct ph_builder *b, const struct ph_config_block *block);
// A block's name: there, and one that can stand in keys and logs.
void ph_build_check_label(struct ph_builder *b, const struct ph_config_block *block,
                          const char *example);
// A file's text, in the snapshot's memory. False: reported under `id`.
bool ph_build_file(struct ph_builder *b, const struct ph_value *value, struct ph_str path,
                   const char *id, const char *key, struct ph_str *out_text, unsigned *out_mode);
// Kept until the snapshot goes.
void ph_build_keep_trust(struct ph_builder *b, struct ph_trust *take_trust);
void ph_build_keep_identity(struct ph_builder *b, struct ph_tls_identity *take_identity);
void ph_build_keep_server(struct ph_builder *b, struct ph_tls_server *take_server);
struct ph_expression;
void ph_build_keep_expression(struct ph_builder *b, struct ph_expression *take_expression);

// What a connector trusts. Values may be NULL: none.
struct ph_trust_wish {
    const struct ph_value *anchors;
    const struct ph_value *intermediates;
    const struct ph_value *crls;
    bool fetch;
    bool clients; // judges clients' certificates
    bool needed;  // by the configuration: a system without a bundle is an error
};
// Lives as long as the snapshot; shared by equal wishes. NULL: reported.
struct ph_trust *ph_build_trust(struct ph_builder *b, const struct ph_trust_wish *wish);
// One of our own certificates stands in it: its change is looked for.
void ph_build_watch(struct ph_builder *b, struct ph_str path);
// TlsCertificateName: a file, or a name that is looked for in CertificateDir.
void ph_build_identity(struct ph_builder *b, const struct ph_value *value,
                       struct ph_send_connector *connector);

// The same of a receive connector: the file that holds it; empty: none, which was reported.
struct ph_str ph_build_certificate_file(struct ph_builder *b, const struct ph_value *value);

// W9, where the certificate ends soon.
void ph_build_check_expiry(struct ph_builder *b, struct ph_config_position at, const char *key,
                           int64_t not_after_s);
// What shows when all send connectors are seen together; `at`: where each of them stands.
void ph_build_check_connectors(struct ph_builder *b, const struct ph_config_position *at);

void ph_build_resolver(struct ph_builder *b);
void ph_build_sites(struct ph_builder *b);
void ph_build_send(struct ph_builder *b);
void ph_build_receive(struct ph_builder *b);
