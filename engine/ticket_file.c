// TLS tickets over a restart.
#include "engine/ticket_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PH_TICKET_FILE_BYTES_MAX (UINT64_C(128) << 20) // ours

static void nothing(struct ph_op *op)
{
    (void)op;
}

// The whole file; a negative errno.
static int64_t read_whole(struct ph_io *io, const char *path, struct ph_buf *out)
{
    struct ph_file *file = NULL;
    struct ph_op op;
    char *room;
    int64_t result;

    ph_op_init(&op, nothing, NULL);
    ph_io_file_open(io, &op, path, PH_FILE_READ, &file);
    result = ph_io_finish(io, &op);
    if (result < 0) {
        return result;
    }
    ph_io_file_size(file, &op);
    result = ph_io_finish(io, &op);
    if (result > (int64_t)PH_TICKET_FILE_BYTES_MAX) {
        result = -EFBIG;
    } else if (result > 0) {
        ph_buf_init(out, PH_BUF_BYTES_MAX);
        room = ph_buf_reserve(out, (size_t)result);
        PH_CHECK(room != NULL);
        ph_io_file_read(file, &op, room, (size_t)result, 0);
        result = ph_io_finish(io, &op);
        if (result > 0) {
            ph_buf_grew(out, (size_t)result);
        }
    }
    ph_io_file_close(file);
    return result;
}

static int64_t write_whole(struct ph_io *io, const char *path, const void *data, size_t len)
{
    struct ph_file *file = NULL;
    struct ph_op op;
    int64_t result;

    ph_op_init(&op, nothing, NULL);
    ph_io_file_open(io, &op, path, PH_FILE_WRITE | PH_FILE_CREATE, &file);
    result = ph_io_finish(io, &op);
    if (result < 0) {
        return result;
    }
    ph_io_file_write(file, &op, data, len, 0);
    result = ph_io_finish(io, &op);
    if (result >= 0) {
        ph_io_file_sync(file, &op);
        result = ph_io_finish(io, &op);
    }
    ph_io_file_close(file);
    return result;
}

static void remove_file(struct ph_io *io, const char *path)
{
    struct ph_op op;

    ph_op_init(&op, nothing, NULL);
    ph_io_file_unlink(io, &op, path);
    (void)ph_io_finish(io, &op); // it may not be there
}

// Reads the key, or makes one.
static int64_t read_key(struct ph_io *io, struct ph_str key_file, uint8_t out[PH_TICKETS_KEY_BYTES])
{
    struct ph_buf text = {0};
    char path[4096];
    int64_t result;

    ph_str_copy(path, sizeof(path), key_file);
    result = read_whole(io, path, &text);
    if (result == -ENOENT) {
        ph_io_random(io, out, PH_TICKETS_KEY_BYTES);
        result = write_whole(io, path, out, PH_TICKETS_KEY_BYTES);
    } else if (result >= 0 && text.len != PH_TICKETS_KEY_BYTES) {
        result = -EINVAL;
    } else if (result >= 0) {
        memcpy(out, text.data, PH_TICKETS_KEY_BYTES);
    }
    ph_buf_deinit(&text);
    return result;
}

static void path_of(const char *spool_dir, char *out, size_t cap)
{
    snprintf(out, cap, "%s/tickets", spool_dir);
}

void ph_ticket_file_load(struct ph_io *io, struct ph_str key_file, const char *spool_dir,
                         struct ph_tickets *tickets, struct ph_buf *problem)
{
    uint8_t key[PH_TICKETS_KEY_BYTES];
    struct ph_buf sealed = {0};
    char path[4096];
    int64_t result;

    if (key_file.len == 0) {
        return;
    }
    result = read_key(io, key_file, key);
    if (result < 0) {
        ph_buf_printf(problem, "TlsTicketKey: %.*s can't be used (%s): tickets are not kept\n",
                      PH_STR_ARG(key_file),
                      result == -EINVAL ? "it must hold 32 bytes" : strerror((int)-result));
        return;
    }
    path_of(spool_dir, path, sizeof(path));
    if (read_whole(io, path, &sealed) > 0 &&
        !ph_tickets_unseal(tickets, key, ph_buf_str(&sealed))) {
        ph_buf_printf(problem, "%s is not sealed with this key, or damaged: left out\n", path);
    }
    remove_file(io, path);
    ph_buf_deinit(&sealed);
    explicit_bzero(key, sizeof(key));
}

void ph_ticket_file_save(struct ph_io *io, struct ph_str key_file, const char *spool_dir,
                         struct ph_tickets *tickets)
{
    uint8_t key[PH_TICKETS_KEY_BYTES];
    struct ph_buf sealed = {0};
    char path[4096];

    if (key_file.len == 0 || read_key(io, key_file, key) < 0) {
        return;
    }
    ph_buf_init(&sealed, PH_BUF_BYTES_MAX);
    ph_tickets_seal(tickets, key, io->wall_ms / 1000, &sealed);
    path_of(spool_dir, path, sizeof(path));
    remove_file(io, path);
    if (write_whole(io, path, sealed.data, sealed.len) < 0) {
        remove_file(io, path); // a part of one is of no use
    }
    ph_buf_deinit(&sealed);
    explicit_bzero(key, sizeof(key));
}
