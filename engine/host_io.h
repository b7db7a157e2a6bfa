// What the two worlds of a real host share: clocks, chance, being woken, and what the thread pool
// does for them.
#pragma once

#include <stdatomic.h>

#include "base/io.h"
#include "engine/file_jobs.h"
#include "engine/offload.h"

#define PH_HOST_IO_RANDOM_BYTES 4096 // fetched at a time; ours

struct ph_fetch;
struct ph_resolver;

// Threads that worlds share; borrowed.
struct ph_host_threads {
    struct ph_offload *offload;
    struct ph_resolver *resolver; // NULL: lookups fail
    struct ph_fetch *fetch;       // NULL: nothing is fetched
};

// A wake-up costs a system call only where the world sleeps. Who wakes has posted something before;
// who has woken looks for it.
enum ph_host_io_state {
    PH_HOST_IO_AWAKE,
    PH_HOST_IO_ASLEEP, // in the kernel: `wake_fd` must be written
    PH_HOST_IO_WOKEN,  // the next wait must not sleep
};

struct ph_host_io {
    struct ph_io io;
    struct ph_file_pool files;
    struct ph_resolver *resolver;
    struct ph_fetch *fetch;
    int wake_fd; // eventfd
    _Atomic int state;
    unsigned char random[PH_HOST_IO_RANDOM_BYTES];
    size_t random_left;
};

// 0, or a negative errno and nothing to deinit.
int ph_host_io_init(struct ph_host_io *host, const struct ph_io_vtable *vtable,
                    const struct ph_host_threads *threads);
void ph_host_io_deinit(struct ph_host_io *host);

void ph_host_io_read_clocks(struct ph_io *io);
// Before a wait that may sleep. False: it was woken meanwhile and must not.
PH_MUST_CHECK bool ph_host_io_fall_asleep(struct ph_host_io *host);
// After each wait: whatever was posted before a wake-up is visible from here on.
void ph_host_io_rise(struct ph_host_io *host);

// Of struct ph_io_vtable.
void ph_host_io_wake(struct ph_io *io);
void ph_host_io_random(struct ph_io *io, void *out, size_t len);
void ph_host_io_file_open(struct ph_io *io, struct ph_op *op, const char *path, int flags,
                          struct ph_file **out_file);
void ph_host_io_file_allocate(struct ph_file *file, struct ph_op *op, uint64_t size);
void ph_host_io_file_size(struct ph_file *file, struct ph_op *op);
void ph_host_io_directory_sync(struct ph_io *io, struct ph_op *op, const char *path);
void ph_host_io_file_rename(struct ph_io *io, struct ph_op *op, const char *from, const char *to);
void ph_host_io_file_unlink(struct ph_io *io, struct ph_op *op, const char *path);
void ph_host_io_directory_create(struct ph_io *io, struct ph_op *op, const char *path);
void ph_host_io_directory_list(struct ph_io *io, struct ph_op *op, const char *path,
                               struct ph_buf *out_names);
void ph_host_io_space_free(struct ph_io *io, struct ph_op *op, const char *path, uint64_t *out_free,
                           uint64_t *out_total);
void ph_host_io_resolve(struct ph_io *io, struct ph_resolve_op *op);
void ph_host_io_check_password(struct ph_io *io, struct ph_password_op *op);
void ph_host_io_fetch(struct ph_io *io, struct ph_fetch_op *op);
void ph_host_io_fetch_cancel(struct ph_io *io, struct ph_fetch_op *op);
void ph_host_io_work(struct ph_io *io, struct ph_work_op *op);
