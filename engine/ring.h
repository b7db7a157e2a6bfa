// struct ph_io on io_uring (Linux 6.1 or newer, found out by use).
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/io.h"
#include "engine/host_io.h"

struct ph_ring_options {
    struct ph_host_threads threads;
    // 0 takes the default; tests make them tiny. Powers of two.
    unsigned submissions; // queued before the kernel is entered in between
    unsigned completions;
    unsigned buffer_count; // for what is received, in all sockets together; at most 32768
    unsigned buffer_bytes; // of each
};

// Tries what the ring needs on a small one of its own. False: `why` has a sentence.
PH_MUST_CHECK bool ph_ring_works(struct ph_buf *why);

// 0, or a negative errno. The thread that first waits or submits is the only one that may use it.
int ph_ring_create(const struct ph_ring_options *options, struct ph_io **out);
