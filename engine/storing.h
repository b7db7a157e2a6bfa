// A message on its way into the spool: routed, appended, and put among what is owed once its commit
// group is durable.
#pragma once

#include "engine/worker.h"
#include "queue/spool.h"

struct ph_storing;
// Durable (result 0), or not (-ENOSPC, -EIO: nothing of it remains).
typedef void ph_storing_done(void *owner, uint64_t id, int64_t result);

struct ph_storing_options {
    uint64_t id;                          // of ph_spool_take_id
    const struct ph_envelope *envelope;   // borrowed for the call
    struct ph_str content;                // inline, or
    struct ph_spool_writer *take_extents; // a finished writer (taken when the result is OK)
    uint64_t size;                        // of the content
    bool own;                             // a notification of ours
    ph_storing_done *done;                // may be NULL
    void *owner;
};

// OK: `done` is called in a later step, on this worker.
PH_MUST_CHECK enum ph_spool_result ph_storing_begin(struct ph_worker *worker,
                                                    const struct ph_storing_options *options);
