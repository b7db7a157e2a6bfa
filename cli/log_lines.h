// The delivery log, line by line.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct ph_log_line {
    const char *file;
    uint64_t number; // from 1
    struct ph_str text;
    bool torn; // the file's last line, not ended by a newline
};

// Calls `take` for each line of each file, in order. False: a file can't be read (told on standard
// error), or `take` returned false.
PH_MUST_CHECK bool ph_cli_log_lines(char **files, int file_count,
                                    bool (*take)(void *owner, const struct ph_log_line *line),
                                    void *owner);
