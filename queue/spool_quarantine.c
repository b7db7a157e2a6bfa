// A copy of what is damaged, for people: SpoolDir/quarantine.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/spool_parts.h"

enum step {
    STEP_DIRECTORY,
    STEP_OPEN,
    STEP_WRITE,
};

struct copy {
    struct ph_op op;
    struct ph_spool *spool;
    enum step step;
    struct ph_file *file;
    char path[PH_SPOOL_PATH_MAX];
    size_t len;
    char bytes[];
};

static void on_step(struct ph_op *op);

void ph_spool_quarantine(struct ph_spool *spool, const char *name, struct ph_str bytes)
{
    struct copy *copy;
    char path[PH_SPOOL_PATH_MAX];

    if (spool->options.offline) {
        return;
    }
    copy = ph_alloc(sizeof(*copy) + bytes.len);
    copy->spool = spool;
    copy->len = bytes.len;
    memcpy(copy->bytes, bytes.data, bytes.len);
    snprintf(copy->path, sizeof(copy->path), "%s/quarantine/%s", spool->options.directory, name);
    snprintf(path, sizeof(path), "%s/quarantine", spool->options.directory);
    spool->removals++;
    ph_op_init(&copy->op, on_step, copy);
    ph_io_directory_create(spool->io, &copy->op, path);
}

static void on_step(struct ph_op *op)
{
    struct copy *copy = op->owner;

    switch (copy->step) {
    case STEP_DIRECTORY: // which may be there
        copy->step = STEP_OPEN;
        ph_io_file_open(copy->spool->io, op, copy->path, PH_FILE_WRITE | PH_FILE_CREATE_OK,
                        &copy->file);
        return;
    case STEP_OPEN:
        copy->step = STEP_WRITE;
        if (op->result >= 0) {
            ph_io_file_write(copy->file, op, copy->bytes, copy->len, 0);
            return;
        }
        break;
    case STEP_WRITE:
        break;
    }
    if (copy->file != NULL) {
        ph_io_file_close(copy->file);
    }
    copy->spool->removals--;
    free(copy);
}
