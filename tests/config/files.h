// A disk in memory for the configuration's tests.
#pragma once

#include "config/load.h"

struct files {
    const char *name[16];
    struct ph_buf text[16];
    unsigned mode[16];
    size_t count;
    struct ph_config_files calls;
};

void files_init(struct files *files, int64_t now_s);
void files_deinit(struct files *files);
struct ph_buf *files_add(struct files *files, const char *name, unsigned mode);
