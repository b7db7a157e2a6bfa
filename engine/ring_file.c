// Files of the ring world: what the hot path does; the rest is the thread pool's.
//
// A durable write is a write (around the page cache where the file has been opened so) and a linked
// fdatasync, which starts only when all bytes are written. RWF_DSYNC would be one submission, and
// 5% faster while a core is idle; but then all of it happens in one kernel worker, which waits a
// tick of 4 ms for a busy core: 1.4 to 1.9 ms on average against 0.3 to 0.7.
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

// Where an operation keeps itself while it is pending. Its `result` has meanwhile what the transfer
// came to in the low half, and the sync in the high one: they may come in either order.
enum {
    AT_DATA,
    AT_LEFT,
    AT_OFFSET,
    AT_WORK, // the kind in the low bits, how many completions are awaited, and the bytes done
};
#define WORK_MASK 7U
#define AWAITED_SHIFT 3
#define AWAITED_ONE (UINT64_C(1) << AWAITED_SHIFT)
#define AWAITED_MASK (UINT64_C(3) << AWAITED_SHIFT)
#define DONE_SHIFT 5

static enum file_work work_of(const struct ph_op *op)
{
    return (enum file_work)(op->world_data[AT_WORK] & WORK_MASK);
}

static uint64_t done_of(const struct ph_op *op)
{
    return op->world_data[AT_WORK] >> DONE_SHIFT;
}

static void set_work(struct ph_op *op, enum file_work work, uint64_t done)
{
    op->world_data[AT_WORK] = done << DONE_SHIFT | work;
}

static bool is_durable(enum file_work work)
{
    return work == FILE_WRITE_DURABLE || work == FILE_WRITE_DIRECT;
}

static void submit_sync(struct ph_op *op)
{
    const struct ph_file_handle *handle = op->world_object;
    struct io_uring_sqe *sqe = ph_ring_submission(ph_ring_of(op->io));

    io_uring_prep_fsync(sqe, handle->fd, IORING_FSYNC_DATASYNC);
    ph_ring_tag(sqe, PH_RING_FILE_SYNCED, 0, op);
    op->world_data[AT_WORK] += AWAITED_ONE;
}

static void submit_transfer(struct ph_op *op, enum file_work work)
{
    const struct ph_file_handle *handle = op->world_object;
    struct io_uring_sqe *sqe = ph_ring_submission(ph_ring_of(op->io));
    int fd = work == FILE_WRITE_DIRECT ? handle->direct_fd : handle->fd;
    void *data = (void *)(uintptr_t)op->world_data[AT_DATA];
    uint64_t left = op->world_data[AT_LEFT];
    // A single operation can't do more.
    unsigned len = left < (1U << 30) ? (unsigned)left : 1U << 30;

    if (work == FILE_READ) {
        io_uring_prep_read(sqe, fd, data, len, op->world_data[AT_OFFSET]);
    } else {
        io_uring_prep_write(sqe, fd, data, len, op->world_data[AT_OFFSET]);
    }
    // A write that is short or fails breaks the link: nothing is synced then.
    if (is_durable(work) && len == left) {
        sqe->flags |= IOSQE_IO_LINK;
    }
    ph_ring_tag(sqe, PH_RING_FILE_TRANSFERRED, 0, op);
    op->world_data[AT_WORK] += AWAITED_ONE;
    if (is_durable(work) && len == left) {
        submit_sync(op);
    }
}

static void submit(struct ph_op *op)
{
    enum file_work work = work_of(op);

    op->result = 0;
    if (work == FILE_SYNC) {
        submit_sync(op);
    } else {
        ph_ring_reserve(ph_ring_of(op->io), 2);
        submit_transfer(op, work);
    }
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

// The kernel has no thread for it, as where the number of processes is limited.
static bool was_declined(int result)
{
    return result == -EAGAIN || result == -EINTR || result == -ECANCELED;
}

// Ours do it, from its beginning.
static void give_to_pool(struct ph_op *op)
{
    struct ph_file_pool *pool = &ph_ring_of(op->io)->host.files;
    struct ph_file *file = op->world_object;
    enum file_work work = work_of(op);
    uint64_t done = done_of(op);
    void *data = (void *)(uintptr_t)(op->world_data[AT_DATA] - done);
    size_t len = (size_t)(op->world_data[AT_LEFT] + done);
    uint64_t offset = op->world_data[AT_OFFSET] - done;

    if (work == FILE_SYNC) {
        ph_file_jobs_sync(pool, file, op);
    } else if (work == FILE_READ) {
        ph_file_jobs_read(pool, file, op, data, len, offset);
    } else {
        ph_file_jobs_write(pool, file, op, data, len, offset, is_durable(work));
    }
}

// All is written and its sync has an end, too.
static void conclude_sync(struct ph_op *op, int result)
{
    if (was_declined(result)) {
        give_to_pool(op);
    } else {
        ph_io_complete(op->io, op, result < 0 ? result : (int64_t)done_of(op));
    }
}

static void conclude(struct ph_op *op)
{
    enum file_work work = work_of(op);
    int result = (int)(uint32_t)op->result;
    int sync_result = (int)(op->result >> 32);

    if (work == FILE_SYNC) {
        conclude_sync(op, sync_result);
    } else if (was_declined(result)) {
        give_to_pool(op);
    } else if (work == FILE_WRITE_DIRECT && (result == -EINVAL || result == -EOPNOTSUPP)) {
        set_work(op, FILE_WRITE_DURABLE, done_of(op)); // this file system can't, after all
        submit(op);
    } else if (result < 0) {
        ph_io_complete(op->io, op, result);
    } else if (result == 0 && op->world_data[AT_LEFT] > 0) {
        // The end of the file; a write must not come to one.
        ph_io_complete(op->io, op, work == FILE_READ ? (int64_t)done_of(op) : -EIO);
    } else if (!progress(op, (uint64_t)result)) {
        submit(op);
    } else if (is_durable(work)) {
        conclude_sync(op, sync_result);
    } else {
        ph_io_complete(op->io, op, (int64_t)done_of(op));
    }
}

static void take(struct ph_op *op, int result, unsigned shift)
{
    op->result = (int64_t)((uint64_t)op->result | (uint64_t)(uint32_t)result << shift);
    op->world_data[AT_WORK] -= AWAITED_ONE;
    if ((op->world_data[AT_WORK] & AWAITED_MASK) == 0) {
        conclude(op);
    }
}

void ph_ring_file_transferred(struct ph_op *op, int result)
{
    take(op, result, 0);
}

void ph_ring_file_synced(struct ph_op *op, int result)
{
    take(op, result, 32);
}
