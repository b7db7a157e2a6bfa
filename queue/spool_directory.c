// The spool's directory: its lock, its format, its seed.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/spool_parts.h"

#define PH_SPOOL_LOCK_PAUSE_MS 100 // between tries for the lock; ours
#define PH_SPOOL_FORMAT_BYTES_MAX 256

struct ph_spool_directory {
    struct ph_io *io;
    struct ph_file *lock;
};

static void unused_step(struct ph_op *op)
{
    (void)op; // each operation here is waited for
}

static int64_t open_file(struct ph_io *io, const char *path, int flags, struct ph_file **out)
{
    struct ph_op op;

    ph_op_init(&op, unused_step, NULL);
    ph_io_file_open(io, &op, path, flags, out);
    return ph_io_finish(io, &op);
}

static int64_t make_directory(struct ph_io *io, const char *path)
{
    struct ph_op op;
    int64_t result;

    ph_op_init(&op, unused_step, NULL);
    ph_io_directory_create(io, &op, path);
    result = ph_io_finish(io, &op);
    return result == -EEXIST ? 0 : result;
}

static int64_t sync_directory(struct ph_io *io, const char *path)
{
    struct ph_op op;

    ph_op_init(&op, unused_step, NULL);
    ph_io_directory_sync(io, &op, path);
    return ph_io_finish(io, &op);
}

struct format {
    unsigned version;
    unsigned long long seed;
    unsigned logs;
};

// 1: read; 0: there is none; negative: an error.
static int64_t read_format(struct ph_io *io, const char *directory, struct format *out)
{
    char path[PH_SPOOL_PATH_MAX];
    char text[PH_SPOOL_FORMAT_BYTES_MAX + 1] = {0};
    struct ph_file *file = NULL;
    struct ph_op op;
    int64_t result;

    snprintf(path, sizeof(path), "%s/format", directory);
    result = open_file(io, path, PH_FILE_READ, &file);
    if (result == -ENOENT) {
        return 0;
    }
    if (result < 0) {
        return result;
    }
    ph_op_init(&op, unused_step, NULL);
    ph_io_file_read(file, &op, text, PH_SPOOL_FORMAT_BYTES_MAX, 0);
    result = ph_io_finish(io, &op);
    ph_io_file_close(file);
    if (result >= 0) {
        result = sscanf(text, "posthaste-spool %u\nseed %llx\nlogs %u\n", &out->version, &out->seed,
                        &out->logs) == 3
                     ? 1
                     : -EBADMSG;
    }
    return result;
}

static int64_t write_format(struct ph_io *io, const char *directory, const struct format *format)
{
    char path[PH_SPOOL_PATH_MAX];
    char new_path[PH_SPOOL_PATH_MAX];
    char text[PH_SPOOL_FORMAT_BYTES_MAX];
    struct ph_file *file = NULL;
    struct ph_op op;
    int64_t result;
    int len = snprintf(text, sizeof(text), "posthaste-spool %u\nseed %016llx\nlogs %u\n",
                       format->version, format->seed, format->logs);

    snprintf(path, sizeof(path), "%s/format", directory);
    snprintf(new_path, sizeof(new_path), "%s/format.new", directory);
    result = open_file(io, new_path, PH_FILE_WRITE | PH_FILE_CREATE_OK, &file);
    if (result < 0) {
        return result;
    }
    ph_op_init(&op, unused_step, NULL);
    ph_io_file_write_durable(file, &op, text, (size_t)len, 0);
    result = ph_io_finish(io, &op);
    ph_io_file_close(file);
    if (result >= 0) {
        ph_io_file_rename(io, &op, new_path, path);
        result = ph_io_finish(io, &op);
    }
    return result < 0 ? result : sync_directory(io, directory);
}

int ph_spool_read_seed(struct ph_io *io, const char *directory, uint64_t *out_seed,
                       struct ph_buf *error)
{
    struct format format;
    int64_t result = read_format(io, directory, &format);

    if (result != 1) {
        ph_buf_printf(error, "%s/format can't be read", directory);
        return result < 0 ? (int)result : -ENOENT;
    }
    *out_seed = format.seed;
    return 0;
}

static int64_t take_lock(struct ph_io *io, const char *directory, uint64_t timeout_ms,
                         struct ph_file **out)
{
    char path[PH_SPOOL_PATH_MAX];
    uint64_t until_ns = io->now_ns + timeout_ms * PH_NS_PER_MS;
    int64_t result;

    snprintf(path, sizeof(path), "%s/lock", directory);
    while ((result = open_file(io, path, PH_FILE_WRITE | PH_FILE_CREATE_OK | PH_FILE_LOCK, out)) ==
               -EWOULDBLOCK &&
           io->now_ns < until_ns) {
        // A predecessor that was killed may still have writes under way.
        uint64_t pause_ns = io->now_ns + PH_SPOOL_LOCK_PAUSE_MS * PH_NS_PER_MS;

        while (io->now_ns < pause_ns) {
            ph_io_wait(io, pause_ns);
        }
    }
    return result;
}

int ph_spool_directory_open(struct ph_io *io, const char *path, uint64_t lock_timeout_ms,
                            uint16_t *log_count, struct ph_spool_directory **out,
                            struct ph_buf *error)
{
    struct ph_file *lock = NULL;
    struct format format = {.version = PH_SPOOL_FORMAT_VERSION, .logs = *log_count};
    int64_t found;
    int64_t result = make_directory(io, path);

    if (result == 0) {
        result = take_lock(io, path, lock_timeout_ms, &lock);
    }
    if (result < 0) {
        ph_buf_printf(error, "SpoolDir %s: %s", path,
                      result == -EWOULDBLOCK ? "another posthaste has it" : strerror((int)-result));
        return (int)result;
    }
    found = read_format(io, path, &format);
    if (found == 1 && format.version != PH_SPOOL_FORMAT_VERSION) {
        ph_buf_printf(error, "SpoolDir %s has format %u, this version reads %u", path,
                      format.version, PH_SPOOL_FORMAT_VERSION);
        result = -EPROTONOSUPPORT;
    } else if (found < 0) {
        ph_buf_printf(error, "SpoolDir %s: the file format can't be read", path);
        result = found;
    } else if (found == 0 || format.logs < *log_count) {
        if (found == 0) {
            uint64_t seed;

            ph_io_random(io, &seed, sizeof(seed));
            format.seed = seed;
        }
        format.logs = format.logs > *log_count ? format.logs : *log_count;
        result = write_format(io, path, &format);
    }
    for (unsigned log = 0; result >= 0 && log < format.logs; log++) {
        char log_path[PH_SPOOL_PATH_MAX];

        snprintf(log_path, sizeof(log_path), "%s/log-%03u", path, log);
        result = make_directory(io, log_path);
    }
    if (result >= 0) {
        result = sync_directory(io, path);
    }
    if (result < 0) {
        if (error->len == 0) {
            ph_buf_printf(error, "SpoolDir %s: %s", path, strerror((int)-result));
        }
        ph_io_file_close(lock);
        return (int)result;
    }
    *log_count = (uint16_t)format.logs;
    *out = ph_alloc(sizeof(**out));
    (*out)->io = io;
    (*out)->lock = lock;
    return 0;
}

void ph_spool_directory_close(struct ph_spool_directory *directory)
{
    if (directory != NULL) {
        ph_io_file_close(directory->lock);
        free(directory);
    }
}
