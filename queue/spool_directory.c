// The spool's directory: its lock, its format, its seed.
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
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

int64_t ph_spool_sync_directory(struct ph_io *io, const char *path)
{
    struct ph_op op;

    ph_op_init(&op, unused_step, NULL);
    ph_io_directory_sync(io, &op, path);
    return ph_io_finish(io, &op);
}

// Its own name, in the directory above it.
static int64_t sync_parent(struct ph_io *io, const char *path)
{
    char copy[PH_SPOOL_PATH_MAX];

    ph_str_copy(copy, sizeof(copy), ph_str_from(path));
    return ph_spool_sync_directory(io, dirname(copy));
}

struct format {
    unsigned version;
    unsigned long long seed;
    unsigned logs;
};

static int format_text(const struct format *format, char out[PH_SPOOL_FORMAT_BYTES_MAX])
{
    int len =
        snprintf(out, PH_SPOOL_FORMAT_BYTES_MAX, "posthaste-spool %u\nseed %016llx\nlogs %u\n",
                 format->version, format->seed, format->logs);
    uint64_t sum = ph_hash_bytes(out, (size_t)len, 0);

    return len + snprintf(out + len, PH_SPOOL_FORMAT_BYTES_MAX - (size_t)len, "sum %016llx\n",
                          (unsigned long long)sum);
}

// 1: read; 0: there is none; negative: an error.
static int64_t read_format_file(struct ph_io *io, const char *directory, const char *name,
                                struct format *out)
{
    char path[PH_SPOOL_PATH_MAX];
    char text[PH_SPOOL_FORMAT_BYTES_MAX + 1] = {0};
    char expected[PH_SPOOL_FORMAT_BYTES_MAX];
    struct format format;
    struct ph_file *file = NULL;
    struct ph_op op;
    int64_t result;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
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
    if (result < 0) {
        return result;
    }
    if (sscanf(text, "posthaste-spool %u\nseed %llx\nlogs %u\n", &format.version, &format.seed,
               &format.logs) != 3) {
        return -EBADMSG;
    }
    // Of another version the rest may differ: that is told by its number.
    if (format.version == PH_SPOOL_FORMAT_VERSION) {
        (void)format_text(&format, expected);
        if (strcmp(text, expected) != 0) {
            return -EBADMSG;
        }
    }
    *out = format;
    return 1;
}

static const char *const format_names[] = {"format", "format.copy"};

static bool is_sound(struct ph_io *io, const char *directory, const char *name)
{
    struct format format;

    return read_format_file(io, directory, name, &format) == 1 &&
           format.version == PH_SPOOL_FORMAT_VERSION;
}

// Two files say the same: without the seed nothing in the spool could be read.
static int64_t read_format(struct ph_io *io, const char *directory, struct format *out)
{
    struct format copy;
    int64_t first = read_format_file(io, directory, format_names[0], out);
    int64_t second;

    if (first == 1 && out->version == PH_SPOOL_FORMAT_VERSION) {
        return 1;
    }
    second = read_format_file(io, directory, format_names[1], &copy);
    if (second == 1 && (first != 1 || copy.version == PH_SPOOL_FORMAT_VERSION)) {
        *out = copy;
        return 1;
    }
    return first == 0 ? second : first;
}

static int64_t write_format_file(struct ph_io *io, const char *directory, const char *name,
                                 const struct format *format)
{
    char path[PH_SPOOL_PATH_MAX];
    char new_path[PH_SPOOL_PATH_MAX];
    char text[PH_SPOOL_FORMAT_BYTES_MAX];
    struct ph_file *file = NULL;
    struct ph_op op;
    int64_t result;
    int len = format_text(format, text);

    snprintf(path, sizeof(path), "%s/%s", directory, name);
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
    return result < 0 ? result : ph_spool_sync_directory(io, directory);
}

static int64_t write_format(struct ph_io *io, const char *directory, const struct format *format)
{
    int64_t result = write_format_file(io, directory, format_names[1], format);

    return result < 0 ? result : write_format_file(io, directory, format_names[0], format);
}

// Are there logs? Then a missing format isn't a new spool.
static bool has_logs(struct ph_io *io, const char *directory)
{
    struct ph_buf names = {0};
    struct ph_op op;
    bool found = false;

    ph_op_init(&op, unused_step, NULL);
    ph_io_directory_list(io, &op, directory, &names);
    (void)ph_io_finish(io, &op);
    for (size_t at = 0; at < names.len; at += strlen(names.data + at) + 1) {
        found |= ph_str_starts(ph_str_from(names.data + at), PH_STR("log-"));
    }
    ph_buf_deinit(&names);
    return found;
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

int64_t ph_spool_open_locked(struct ph_io *io, const char *path, int flags, uint64_t timeout_ms,
                             struct ph_file **out)
{
    uint64_t until_ns = io->now_ns + timeout_ms * PH_NS_PER_MS;
    int64_t result;

    while ((result = open_file(io, path, flags | PH_FILE_LOCK, out)) == -EWOULDBLOCK &&
           io->now_ns < until_ns) {
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
    int64_t result = *log_count > 0 ? make_directory(io, path) : 0;

    if (result == 0) {
        char lock_path[PH_SPOOL_PATH_MAX];

        snprintf(lock_path, sizeof(lock_path), "%s/lock", path);
        result = ph_spool_open_locked(io, lock_path, PH_FILE_WRITE | PH_FILE_CREATE_OK,
                                      lock_timeout_ms, &lock);
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
    } else if (found < 0 || (found == 0 && has_logs(io, path))) {
        ph_buf_printf(error,
                      "SpoolDir %s: the files format and format.copy are %s; restore one of them "
                      "from a backup: without its seed no mail in the spool can be read",
                      path, found == 0 ? "missing" : "damaged");
        result = found < 0 ? found : -EBADMSG;
    } else if (found == 0 && *log_count == 0) {
        ph_buf_printf(error, "SpoolDir %s: there is no spool", path);
        result = -ENOENT;
    } else if (found == 0 || format.logs < *log_count || !is_sound(io, path, format_names[0]) ||
               !is_sound(io, path, format_names[1])) {
        if (found == 0) {
            uint64_t seed;

            ph_io_random(io, &seed, sizeof(seed));
            format.seed = seed;
        }
        format.logs = format.logs > *log_count ? format.logs : *log_count;
        // A new spool: once the format is there its name is known to be durable, too.
        result = found == 0 ? sync_parent(io, path) : 0;
        result = result < 0 ? result : write_format(io, path, &format);
    }
    for (unsigned log = 0; result >= 0 && log < format.logs; log++) {
        char log_path[PH_SPOOL_PATH_MAX];

        snprintf(log_path, sizeof(log_path), "%s/log-%03u", path, log);
        result = make_directory(io, log_path);
    }
    if (result >= 0) {
        result = ph_spool_sync_directory(io, path);
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
