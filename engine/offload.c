// A few threads for what blocks.
#include "engine/offload.h"

#include <stdlib.h>

#include "base/thread.h"

struct ph_offload {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct ph_offload_job_list jobs;
    bool ending;
    unsigned thread_count;
    pthread_t threads[];
};

static void *serve(void *argument)
{
    struct ph_offload *offload = argument;

    pthread_mutex_lock(&offload->lock);
    while (true) {
        struct ph_offload_job *job = STAILQ_FIRST(&offload->jobs);

        if (job == NULL && offload->ending) {
            break;
        }
        if (job == NULL) {
            pthread_cond_wait(&offload->work, &offload->lock);
            continue;
        }
        STAILQ_REMOVE_HEAD(&offload->jobs, link);
        pthread_mutex_unlock(&offload->lock);
        job->run(job);
        ph_offload_sink_put(job->sink, job);
        pthread_mutex_lock(&offload->lock);
    }
    pthread_mutex_unlock(&offload->lock);
    return NULL;
}

struct ph_offload *ph_offload_create(unsigned thread_count)
{
    struct ph_offload *offload = ph_alloc(sizeof(*offload) + thread_count * sizeof(pthread_t));

    pthread_mutex_init(&offload->lock, NULL);
    pthread_cond_init(&offload->work, NULL);
    STAILQ_INIT(&offload->jobs);
    offload->thread_count = thread_count;
    for (unsigned i = 0; i < thread_count; i++) {
        ph_thread_start(&offload->threads[i], serve, offload);
    }
    return offload;
}

void ph_offload_destroy(struct ph_offload *offload)
{
    if (offload == NULL) {
        return;
    }
    pthread_mutex_lock(&offload->lock);
    offload->ending = true;
    pthread_cond_broadcast(&offload->work);
    pthread_mutex_unlock(&offload->lock);
    for (unsigned i = 0; i < offload->thread_count; i++) {
        pthread_join(offload->threads[i], NULL);
    }
    pthread_cond_destroy(&offload->work);
    pthread_mutex_destroy(&offload->lock);
    free(offload);
}

void ph_offload_submit(struct ph_offload *offload, struct ph_offload_sink *sink,
                       struct ph_offload_job *job)
{
    job->sink = sink;
    pthread_mutex_lock(&offload->lock);
    STAILQ_INSERT_TAIL(&offload->jobs, job, link);
    pthread_cond_signal(&offload->work);
    pthread_mutex_unlock(&offload->lock);
}

void ph_offload_sink_init(struct ph_offload_sink *sink, struct ph_io *io)
{
    sink->io = io;
    pthread_mutex_init(&sink->lock, NULL);
    STAILQ_INIT(&sink->done);
    sink->filled = false;
}

void ph_offload_sink_deinit(struct ph_offload_sink *sink)
{
    pthread_mutex_destroy(&sink->lock);
}

void ph_offload_sink_put(struct ph_offload_sink *sink, struct ph_offload_job *job)
{
    bool first;

    pthread_mutex_lock(&sink->lock);
    first = STAILQ_EMPTY(&sink->done);
    STAILQ_INSERT_TAIL(&sink->done, job, link);
    __atomic_store_n(&sink->filled, true, __ATOMIC_RELEASE);
    // Under the lock: once the job was taken its world may come to its end.
    if (first) {
        ph_io_wake(sink->io);
    }
    pthread_mutex_unlock(&sink->lock);
}

void ph_offload_sink_drain(struct ph_offload_sink *sink)
{
    struct ph_offload_job_list done = STAILQ_HEAD_INITIALIZER(done);
    struct ph_offload_job *job;

    if (!__atomic_load_n(&sink->filled, __ATOMIC_ACQUIRE)) {
        return;
    }
    pthread_mutex_lock(&sink->lock);
    STAILQ_CONCAT(&done, &sink->done);
    __atomic_store_n(&sink->filled, false, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&sink->lock);
    while ((job = STAILQ_FIRST(&done)) != NULL) {
        STAILQ_REMOVE_HEAD(&done, link);
        job->finish(job);
    }
}
