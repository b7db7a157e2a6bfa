// A configuration other than its file's, for a test: one send connector that carries all mail,
// disabled or not, with settings that were not saved.
#pragma once

#include "base/buf.h"
#include "config/parse.h"

struct ph_config_setting {
    struct ph_str key;
    struct ph_str value; // as in a file; a text may go without its quotes
};

struct ph_config_variation {
    struct ph_str connector;
    const struct ph_config_setting *settings;
    size_t setting_count;
};

// The settings take the place of those in the connector's block. False: errors were added.
PH_MUST_CHECK bool ph_config_vary(struct ph_config_tree *tree,
                                  const struct ph_config_variation *variation,
                                  struct ph_buf *errors);
