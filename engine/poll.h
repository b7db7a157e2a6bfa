// struct ph_io on epoll and a small thread pool: for hosts that forbid io_uring, and for tools that
// can't see into it (TSan, valgrind).
#pragma once

#include "base/io.h"
#include "engine/offload.h"

struct ph_fetch;
struct ph_resolver;

struct ph_poll_options {
    struct ph_offload *offload;   // borrowed; shared by the worlds of a process
    struct ph_resolver *resolver; // borrowed; NULL: lookups fail
    struct ph_fetch *fetch;       // borrowed; NULL: nothing is fetched
};

// 0, or a negative errno.
int ph_poll_create(const struct ph_poll_options *options, struct ph_io **out);
