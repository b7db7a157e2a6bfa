// What blocks, off the workers: a few threads that run jobs and hand them back to the world that
// submitted them.
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "base/io.h"

struct ph_offload;
struct ph_offload_job;
STAILQ_HEAD(ph_offload_job_list, ph_offload_job);

// Where finished jobs of one world wait for its thread.
struct ph_offload_sink {
    struct ph_io *io; // woken
    pthread_mutex_t lock;
    struct ph_offload_job_list done;
    bool filled; // may be read without the lock: a hint
};

struct ph_offload_job {
    void (*run)(struct ph_offload_job *job);    // on a thread of the pool: may block
    void (*finish)(struct ph_offload_job *job); // on the world's thread; owns the job from then on
    struct ph_offload_sink *sink;
    STAILQ_ENTRY(ph_offload_job) link;
};

struct ph_offload *ph_offload_create(unsigned thread_count);
void ph_offload_destroy(struct ph_offload *offload); // no job may be under way; NULL accepted
void ph_offload_submit(struct ph_offload *offload, struct ph_offload_sink *sink,
                       struct ph_offload_job *take_job);

void ph_offload_sink_init(struct ph_offload_sink *sink, struct ph_io *io);
void ph_offload_sink_deinit(struct ph_offload_sink *sink);
// From any thread: the job has run.
void ph_offload_sink_put(struct ph_offload_sink *sink, struct ph_offload_job *job);
// By the world, in its wait: finishes what has come.
void ph_offload_sink_drain(struct ph_offload_sink *sink);
