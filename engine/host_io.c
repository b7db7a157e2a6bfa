// What the two worlds of a real host share.
#include "engine/host_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "engine/fetch.h"
#include "engine/resolver.h"

static struct ph_host_io *of(struct ph_io *io)
{
    return (struct ph_host_io *)io;
}

int ph_host_io_init(struct ph_host_io *host, const struct ph_io_vtable *vtable,
                    const struct ph_host_threads *threads)
{
    int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    if (wake_fd < 0) {
        return -errno;
    }
    ph_io_init(&host->io, vtable);
    host->files.offload = threads->offload;
    ph_offload_sink_init(&host->files.sink, &host->io);
    host->resolver = threads->resolver;
    host->fetch = threads->fetch;
    host->wake_fd = wake_fd;
    atomic_init(&host->state, PH_HOST_IO_AWAKE);
    host->random_left = 0;
    ph_host_io_read_clocks(&host->io);
    return 0;
}

void ph_host_io_deinit(struct ph_host_io *host)
{
    close(host->wake_fd);
    ph_offload_sink_deinit(&host->files.sink);
}

void ph_host_io_read_clocks(struct ph_io *io)
{
    struct timespec time_now;

    clock_gettime(CLOCK_MONOTONIC, &time_now);
    io->now_ns = (uint64_t)time_now.tv_sec * 1000000000 + (uint64_t)time_now.tv_nsec;
    clock_gettime(CLOCK_REALTIME, &time_now);
    io->wall_ms = (uint64_t)time_now.tv_sec * 1000 + (uint64_t)time_now.tv_nsec / 1000000;
}

bool ph_host_io_fall_asleep(struct ph_host_io *host)
{
    int awake = PH_HOST_IO_AWAKE;

    return atomic_compare_exchange_strong(&host->state, &awake, PH_HOST_IO_ASLEEP);
}

void ph_host_io_rise(struct ph_host_io *host)
{
    atomic_exchange(&host->state, PH_HOST_IO_AWAKE);
}

void ph_host_io_wake(struct ph_io *io)
{
    struct ph_host_io *host = of(io);
    uint64_t one = 1;

    if (atomic_exchange(&host->state, PH_HOST_IO_WOKEN) == PH_HOST_IO_ASLEEP) {
        PH_CHECK(write(host->wake_fd, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN);
    }
}

void ph_host_io_random(struct ph_io *io, void *out, size_t len)
{
    struct ph_host_io *host = of(io);
    unsigned char *to = out;

    while (len > 0) {
        size_t part;

        if (host->random_left == 0) {
            // A read of up to 256 bytes is never short, so it is read in parts of that size.
            for (size_t at = 0; at < sizeof(host->random); at += 256) {
                PH_CHECK(getrandom(host->random + at, 256, 0) == 256);
            }
            host->random_left = sizeof(host->random);
        }
        part = len < host->random_left ? len : host->random_left;
        memcpy(to, host->random + sizeof(host->random) - host->random_left, part);
        host->random_left -= part;
        to += part;
        len -= part;
    }
}

void ph_host_io_file_open(struct ph_io *io, struct ph_op *op, const char *path, int flags,
                          struct ph_file **out_file)
{
    ph_file_jobs_open(&of(io)->files, op, path, flags, out_file);
}

void ph_host_io_file_allocate(struct ph_file *file, struct ph_op *op, uint64_t size)
{
    ph_file_jobs_allocate(&of(file->io)->files, file, op, size);
}

void ph_host_io_file_size(struct ph_file *file, struct ph_op *op)
{
    ph_file_jobs_size(&of(file->io)->files, file, op);
}

void ph_host_io_directory_sync(struct ph_io *io, struct ph_op *op, const char *path)
{
    ph_file_jobs_directory_sync(&of(io)->files, op, path);
}

void ph_host_io_file_rename(struct ph_io *io, struct ph_op *op, const char *from, const char *to)
{
    ph_file_jobs_rename(&of(io)->files, op, from, to);
}

void ph_host_io_file_unlink(struct ph_io *io, struct ph_op *op, const char *path)
{
    ph_file_jobs_unlink(&of(io)->files, op, path);
}

void ph_host_io_directory_create(struct ph_io *io, struct ph_op *op, const char *path)
{
    ph_file_jobs_directory_create(&of(io)->files, op, path);
}

void ph_host_io_directory_list(struct ph_io *io, struct ph_op *op, const char *path,
                               struct ph_buf *out_names)
{
    ph_file_jobs_directory_list(&of(io)->files, op, path, out_names);
}

void ph_host_io_space_free(struct ph_io *io, struct ph_op *op, const char *path, uint64_t *out_free,
                           uint64_t *out_total)
{
    ph_file_jobs_space_free(&of(io)->files, op, path, out_free, out_total);
}

void ph_host_io_resolve(struct ph_io *io, struct ph_resolve_op *op)
{
    ph_resolver_submit(of(io)->resolver, &of(io)->files.sink, op);
}

void ph_host_io_check_password(struct ph_io *io, struct ph_password_op *op)
{
    ph_file_jobs_check_password(&of(io)->files, op);
}

void ph_host_io_fetch(struct ph_io *io, struct ph_fetch_op *op)
{
    ph_fetch_submit(of(io)->fetch, &of(io)->files.sink, op);
}

void ph_host_io_fetch_cancel(struct ph_io *io, struct ph_fetch_op *op)
{
    ph_fetch_cancel(of(io)->fetch, op);
}

struct work_job {
    struct ph_offload_job job;
    struct ph_work_op *op;
};

static void run_work(struct ph_offload_job *job)
{
    struct ph_work_op *op = PH_CONTAINER_OF(job, struct work_job, job)->op;

    op->run(op);
}

static void finish_work(struct ph_offload_job *job)
{
    struct work_job *work = PH_CONTAINER_OF(job, struct work_job, job);

    ph_io_complete(job->sink->io, &work->op->op, 0);
    free(work);
}

void ph_host_io_work(struct ph_io *io, struct ph_work_op *op)
{
    struct work_job *work = ph_alloc(sizeof(*work));

    work->job.run = run_work;
    work->job.finish = finish_work;
    work->op = op;
    ph_offload_submit(of(io)->files.offload, &of(io)->files.sink, &work->job);
}
