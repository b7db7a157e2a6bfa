// Looks at all queues of a worker.
#include "engine/survey.h"

#include "engine/worker.h"

// Is there anything that will look at this site again?
static bool site_has_event(const struct ph_site *site)
{
    return site->dirty || site->asked || site->connection_count > 0 || site->credit_count > 0 ||
           site->preparing_count > 0 || ph_timer_armed(&site->backoff_timer);
}

// Will what is ready in this queue ever be tried?
static bool has_event(const struct ph_queue *queue)
{
    switch (queue->state) {
    case PH_QUEUE_NEW:
        break;
    case PH_QUEUE_RESOLVING:
        return queue->lookup != NULL;
    case PH_QUEUE_ROUTED:
        return queue->active && site_has_event(queue->site);
    case PH_QUEUE_RETRY:
        return ph_timer_armed(&queue->retry_timer);
    }
    return false;
}

void ph_survey_rescue(struct ph_worker *worker)
{
    struct ph_queue *queue;
    struct ph_queue *next;

    HASH_ITER(hh, worker->queues, queue, next)
    {
        if (queue->connector == NULL || queue->ready.count == 0 || has_event(queue)) {
            continue;
        }
        PH_COUNT(worker, rescued, queue->ready.count);
        if (queue->state == PH_QUEUE_RETRY) {
            ph_queue_retry_now(queue);
        } else {
            ph_queue_kick(queue);
        }
    }
}

static uint64_t in_queue(struct ph_survey *survey, const struct ph_queue *queue)
{
    uint64_t count = queue->ready.count + queue->deferred_count;

    survey->queues++;
    survey->ready += queue->ready.count;
    survey->deferred += queue->deferred_count;
    survey->retry_queues += queue->state == PH_QUEUE_RETRY;
    if (queue->connector == NULL && !queue->unroutable) {
        survey->unreachable += count;
    } else if (queue->ready.count > 0 && !has_event(queue)) {
        survey->unscheduled += queue->ready.count;
    }
    if (ph_queue_tls_held(queue)) {
        survey->tls_held[queue->last_error.kind] += count;
    }
    return count;
}

void ph_survey_answer(struct ph_worker *worker, void *argument)
{
    struct ph_survey *survey = argument;
    uint64_t queued = PH_COUNTER_READ(worker, queued);
    uint64_t found = worker->dispatch_recipient_count + worker->storing_own_recipients;
    struct ph_queue *queue;
    struct ph_queue *next;
    struct ph_site *site;
    struct ph_site *next_site;

    HASH_ITER(hh, worker->queues, queue, next)
    {
        found += in_queue(survey, queue);
    }
    HASH_ITER(hh, worker->sites, site, next_site)
    {
        survey->sites++;
        survey->resting_sites += ph_site_resting(site);
    }
    survey->peers_expiring += ph_peers_expiring(worker);
    // What is owed and is in no queue and under way nowhere has been forgotten.
    survey->unscheduled += queued > found ? queued - found : 0;
}
