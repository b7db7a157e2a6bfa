// Which of the real worlds a process runs in: io_uring where it works, else epoll.
#pragma once

#include "base/buf.h"
#include "base/io.h"
#include "config/snapshot.h"
#include "engine/host_io.h"

struct ph_world_options {
    enum ph_io_world wanted;
    struct ph_host_threads threads;
};

// Makes `count` worlds of one kind; all or none. With PH_IO_AUTO poll's where the ring doesn't
// work, and `why` tells then why not. 0, or a negative errno with a sentence in `why`.
int ph_world_create(const struct ph_world_options *options, struct ph_io **out, size_t count,
                    struct ph_buf *why);
