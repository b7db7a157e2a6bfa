// Replaces a small file as a whole, durably: an operation of its own. After a crash there is the
// old content or the new one.
#pragma once

#include "base/buf.h"
#include "base/io.h"

#define PH_KEEP_PATH_MAX 4096

struct ph_keep_file {
    struct ph_op op; // the owner's: stepped with 0 or a negative errno
    // Its own.
    struct ph_io *io;
    struct ph_op step;
    struct ph_file *file;
    struct ph_buf text;
    int64_t result;
    char directory[PH_KEEP_PATH_MAX];
    char path[PH_KEEP_PATH_MAX];
    char new_path[PH_KEEP_PATH_MAX];
};

// `op` is initialized by the owner. `writer` tells those apart who may write at the same time.
void ph_keep_file_start(struct ph_keep_file *keep, struct ph_io *io, const char *directory,
                        struct ph_str name, unsigned writer, struct ph_buf *take_text);

// At start-up and at the end only: the same, waited for; and a file that goes.
int64_t ph_keep_file_write(struct ph_io *io, const char *directory, const char *name,
                           struct ph_str text);
void ph_keep_file_remove(struct ph_io *io, const char *path);
// At start-up only: the whole file, at most `bytes_max`. 0, or a negative errno.
int64_t ph_keep_file_read(struct ph_io *io, const char *path, size_t bytes_max, struct ph_buf *out);
