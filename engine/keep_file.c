// Small files that are replaced as a whole.
#include "engine/keep_file.h"

#include <errno.h>
#include <stdio.h>

static void on_cleared(struct ph_op *op);
static void on_open(struct ph_op *op);
static void on_written(struct ph_op *op);
static void on_renamed(struct ph_op *op);
static void on_synced(struct ph_op *op);

void ph_keep_file_start(struct ph_keep_file *keep, struct ph_io *io, const char *directory,
                        struct ph_str name, unsigned writer, struct ph_buf *take_text)
{
    keep->io = io;
    keep->file = NULL;
    keep->text = *take_text;
    *take_text = (struct ph_buf){0};
    snprintf(keep->directory, sizeof(keep->directory), "%s", directory);
    snprintf(keep->path, sizeof(keep->path), "%.2000s/%.*s", directory, PH_STR_ARG(name));
    snprintf(keep->new_path, sizeof(keep->new_path), "%.2000s/new-%u-%.*s", directory, writer,
             PH_STR_ARG(name));
    ph_io_begin(io, &keep->op);
    ph_op_init(&keep->step, on_cleared, keep);
    ph_io_file_unlink(io, &keep->step, keep->new_path); // what a crash may have left
}

static void end(struct ph_keep_file *keep, int64_t result)
{
    ph_buf_deinit(&keep->text);
    ph_io_complete(keep->io, &keep->op, result);
}

static void on_cleared(struct ph_op *op)
{
    struct ph_keep_file *keep = op->owner;

    ph_op_init(op, on_open, keep);
    ph_io_file_open(keep->io, op, keep->new_path, PH_FILE_WRITE | PH_FILE_CREATE, &keep->file);
}

static void on_open(struct ph_op *op)
{
    struct ph_keep_file *keep = op->owner;

    if (op->result < 0) {
        end(keep, op->result);
        return;
    }
    ph_op_init(op, on_written, keep);
    ph_io_file_write_durable(keep->file, op, keep->text.data, keep->text.len, 0);
}

static void on_written(struct ph_op *op)
{
    struct ph_keep_file *keep = op->owner;

    ph_io_file_close(keep->file);
    if (op->result < 0) {
        end(keep, op->result);
        return;
    }
    ph_op_init(op, on_renamed, keep);
    ph_io_file_rename(keep->io, op, keep->new_path, keep->path);
}

static void on_renamed(struct ph_op *op)
{
    struct ph_keep_file *keep = op->owner;

    if (op->result < 0) {
        end(keep, op->result);
        return;
    }
    ph_op_init(op, on_synced, keep);
    ph_io_directory_sync(keep->io, op, keep->directory);
}

static void on_synced(struct ph_op *op)
{
    end(op->owner, op->result);
}

static void unused_step(struct ph_op *op)
{
    (void)op;
}

int64_t ph_keep_file_read(struct ph_io *io, const char *path, size_t bytes_max, struct ph_buf *out)
{
    struct ph_file *file = NULL;
    struct ph_op op;
    int64_t result;
    char *room;

    ph_op_init(&op, unused_step, NULL);
    ph_io_file_open(io, &op, path, PH_FILE_READ, &file);
    result = ph_io_finish(io, &op);
    if (result < 0) {
        return result;
    }
    ph_io_file_size(file, &op);
    result = ph_io_finish(io, &op);
    if (result > (int64_t)bytes_max) {
        result = -EFBIG;
    }
    room = result >= 0 ? ph_buf_reserve(out, (size_t)result) : NULL;
    if (result > 0 && room != NULL) {
        ph_io_file_read(file, &op, room, (size_t)result, 0);
        result = ph_io_finish(io, &op);
        ph_buf_grew(out, result > 0 ? (size_t)result : 0);
    }
    ph_io_file_close(file);
    return result < 0 ? result : room == NULL ? -ENOMEM : 0;
}

void ph_keep_file_remove(struct ph_io *io, const char *path)
{
    struct ph_op op;

    ph_op_init(&op, unused_step, NULL);
    ph_io_file_unlink(io, &op, path);
    (void)ph_io_finish(io, &op);
}

int64_t ph_keep_file_write(struct ph_io *io, const char *directory, const char *name,
                           struct ph_str text)
{
    char path[PH_KEEP_PATH_MAX];
    char new_path[PH_KEEP_PATH_MAX];
    struct ph_file *file = NULL;
    struct ph_op op;
    int64_t result;

    snprintf(path, sizeof(path), "%.2000s/%s", directory, name);
    snprintf(new_path, sizeof(new_path), "%.2000s/new-%s", directory, name);
    ph_keep_file_remove(io, new_path);
    ph_op_init(&op, unused_step, NULL);
    ph_io_file_open(io, &op, new_path, PH_FILE_WRITE | PH_FILE_CREATE, &file);
    result = ph_io_finish(io, &op);
    if (result < 0) {
        return result;
    }
    ph_io_file_write_durable(file, &op, text.data, text.len, 0);
    result = ph_io_finish(io, &op);
    ph_io_file_close(file);
    if (result >= 0) {
        ph_io_file_rename(io, &op, new_path, path);
        result = ph_io_finish(io, &op);
    }
    if (result >= 0) {
        ph_io_directory_sync(io, &op, directory);
        result = ph_io_finish(io, &op);
    }
    return result < 0 ? result : 0;
}
