// Text → blocks and pairs with their positions. No files, no meanings: config/build gives them.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

#define PH_CONFIG_BYTES_MAX ((size_t)4 << 20) // of one file; ours
#define PH_CONFIG_INCLUDE_DEPTH_MAX 8         // ours

struct ph_config_position {
    const char *file;
    uint32_t line;
};

struct ph_config_word {
    struct ph_str text;
    bool quoted;
};

struct ph_config_pair {
    struct ph_str key;
    struct ph_config_position at;
    bool list; // written as {a, b}
    struct ph_config_word *words;
    size_t word_count;
    bool used; // for whoever looks for unknown keys
};

struct ph_config_block {
    struct ph_str type;  // "SendConnector"; empty: outside of all blocks
    struct ph_str label; // "contoso", or empty
    struct ph_config_position at;
    struct ph_config_pair *pairs;
    size_t pair_count;
};

struct ph_config_tree {
    struct ph_config_block *blocks; // the first one is the outside
    size_t block_count;
    void **owned; // everything the tree points to
    size_t owned_count;
};

// Where `include` finds its files: parses all that match `glob` into the tree, one by one. May be
// NULL: then include is an error.
struct ph_config_includes {
    bool (*expand)(void *owner, struct ph_config_position at, struct ph_str glob,
                   struct ph_config_tree *tree, struct ph_buf *errors, unsigned depth);
    void *owner;
};

void ph_config_tree_init(struct ph_config_tree *tree);
void ph_config_tree_deinit(struct ph_config_tree *tree);
// Reads one file's text into the tree. Each error is a line "FILE:LINE: C27 …"; reading goes on
// behind it. False: there were some.
PH_MUST_CHECK bool ph_config_parse(struct ph_config_tree *tree, const char *file,
                                   struct ph_str text, const struct ph_config_includes *includes,
                                   unsigned depth, struct ph_buf *errors);
