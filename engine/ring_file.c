// Files of the ring world: what the hot path does; the rest is the thread pool's.
//
// A durable write is one submission, so nothing can go on between the bytes and their sync: around
// the page cache where the file has been opened so, else through it, with RWF_DSYNC in both cases.
#include <errno.h>
#include <fcntl.h>

#include "engine/ring_parts.h"

enum file_work {
    FILE_READ,
    FILE_WRITE,
    FILE_WRITE_DURABLE,
    FILE_WRITE_DIRECT, // durable, too
    FILE_SYNC,
};

// Where an operation keeps itself while it is pending.
enum {
    AT_DATA,
    AT_LEFT,
    AT_OFFSET,
    AT_WORK, // the kind in the low bits, above them the bytes done
};
#define WORK_BITS 3
#define WORK_MASK 7U

static enum file_work work_of(const struct ph_op *op)
{
    return (enum file_work)(op->world_data[AT_WORK] & WORK_MASK);
}

static uint64_t done_of(const struct ph_op *op)
{
    return op->world_data[AT_WORK] >> WORK_BITS;
}

static void set_work(struct ph_op *op, enum file_work work, uint64_t done)
{
    op->world_data[AT_WORK] = done << WORK_BITS | work;
}

static void submit(struct ph_op *op)
{
    const struct ph_file_handle *handle = op->world_object;
    struct io_uring_sqe *sqe = ph_ring_submission(ph_ring_of(op->io));
    void *data = (void *)(uintptr_t)op->world_data[AT_DATA];
    uint64_t left = op->world_data[AT_LEFT];
    // A single operation can't do more.
    unsigned len = left < (1U << 30) ? (unsigned)left : 1U << 30;
    uint64_t offset = op->world_data[AT_OFFSET];

    switch (work_of(op)) {
    case FILE_READ:
        io_uring_prep_read(sqe, handle->fd, data, len, offset);
        break;
    case FILE_WRITE:
        io_uring_prep_write(sqe, handle->fd, data, len, offset);
        break;
    case FILE_WRITE_DURABLE:
        io_uring_prep_write(sqe, handle->fd, data, len, offset);
        sqe->rw_flags = RWF_DSYNC;
        break;
    case FILE_WRITE_DIRECT:
        io_uring_prep_write(sqe, handle->direct_fd, data, len, offset);
        sqe->rw_flags = RWF_DSYNC;
        break;
    case FILE_SYNC:
        io_uring_prep_fsync(sqe, handle->fd, IORING_FSYNC_DATASYNC);
        break;
    }
    ph_ring_tag(sqe, PH_RING_FILE_DONE, 0, op);
}

static void begin(struct ph_file *file, struct ph_op *op, enum file_work work, uint64_t data,
                  size_t len, uint64_t offset)
{
    op->world_object = file;
    op->world_data[AT_DATA] = data;
    op->world_data[AT_LEFT] = len;
    op->world_data[AT_OFFSET] = offset;
    set_work(op, work, 0);
    submit(op);
}

void ph_ring_file_read(struct ph_file *file, struct ph_op *op, void *out, size_t len,
                       uint64_t offset)
{
    begin(file, op, FILE_READ, (uint64_t)(uintptr_t)out, len, offset);
}

void ph_ring_file_write(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                        uint64_t offset, bool durable)
{
    const struct ph_file_handle *handle = (const struct ph_file_handle *)file;
    enum file_work work = FILE_WRITE;

    if (durable) {
        work = handle->direct_fd >= 0 ? FILE_WRITE_DIRECT : FILE_WRITE_DURABLE;
    }
    begin(file, op, work, (uint64_t)(uintptr_t)data, len, offset);
}

void ph_ring_file_sync(struct ph_file *file, struct ph_op *op)
{
    begin(file, op, FILE_SYNC, 0, 0, 0);
}

// Some of it was done. True: that was all.
static bool progress(struct ph_op *op, uint64_t count)
{
    uint64_t done = done_of(op) + count;
    enum file_work work = work_of(op);

    // What a short write leaves isn't aligned any more.
    set_work(op, work == FILE_WRITE_DIRECT ? FILE_WRITE_DURABLE : work, done);
    op->world_data[AT_DATA] += count;
    op->world_data[AT_LEFT] -= count;
    op->world_data[AT_OFFSET] += count;
    return op->world_data[AT_LEFT] == 0;
}

void ph_ring_file_done(struct ph_op *op, int result)
{
    enum file_work work = work_of(op);

    if (result == -EINTR || result == -EAGAIN) {
        submit(op);
    } else if (work == FILE_WRITE_DIRECT && (result == -EINVAL || result == -EOPNOTSUPP)) {
        set_work(op, FILE_WRITE_DURABLE, done_of(op)); // this file system can't, after all
        submit(op);
    } else if (result < 0) {
        ph_io_complete(op->io, op, result);
    } else if (work == FILE_SYNC) {
        ph_io_complete(op->io, op, 0);
    } else if (result == 0 && op->world_data[AT_LEFT] > 0) {
        // The end of the file; a write must not come to one.
        ph_io_complete(op->io, op, work == FILE_READ ? (int64_t)done_of(op) : -EIO);
    } else if (progress(op, (uint64_t)result)) {
        ph_io_complete(op->io, op, (int64_t)done_of(op));
    } else {
        submit(op);
    }
}
