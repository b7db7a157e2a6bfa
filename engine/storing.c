// A message on its way into the spool.
#include "engine/storing.h"

#include <stdlib.h>

#include "base/hash.h"
#include "engine/delivery.h"
#include "engine/delivery_log.h"

// With more than this waiting ahead of it a message isn't attempted at once: an ATTEMPT flag would
// only make a crash leave it in doubt. Ours.
#define PH_STORING_ATTEMPT_BACKLOG_MAX 512

struct ph_storing {
    struct ph_spool_ticket ticket;
    struct ph_worker *worker;
    uint32_t message;
    uint64_t id;
    bool own;
    struct ph_buf log_members;
    ph_storing_done *done;
    void *owner;
};

static void on_durable(struct ph_op *op);

// Recipients hold their queues from here on (dispatch_count), so that no queue goes meanwhile.
static bool route_all(struct ph_worker *worker, uint32_t message,
                      const struct ph_envelope *envelope, uint64_t size)
{
    const struct ph_message *m = ph_store_message(&worker->store, message);
    uint32_t slot = m->first_recipient;
    bool at_once = true;

    for (uint32_t i = 0; i < envelope->recipient_count; i++) {
        struct ph_recipient *r = ph_store_recipient(&worker->store, slot);
        struct ph_reason reason;
        struct ph_str domain = envelope->recipients[i].domain;
        struct ph_queue *queue = envelope->tls_optional
                                     ? ph_queues_route_apart(worker, domain, size, &reason)
                                     : ph_queues_route(worker, domain, size, &reason);

        r->index = (uint16_t)i;
        if (queue == NULL) {
            // Refused for ever: it is accepted and bounced, as for any other reason found later.
            queue = ph_queues_unroutable(worker, envelope->recipients[i].domain, &reason);
        }
        r->queue = queue->index;
        queue->dispatch_count++;
        at_once &= queue->state != PH_QUEUE_RETRY && queue->connector != NULL &&
                   !ph_queues_held(queue) && queue->ready.count < PH_STORING_ATTEMPT_BACKLOG_MAX &&
                   (queue->site == NULL || !ph_site_resting(queue->site));
        slot = r->next_of_message;
    }
    return at_once;
}

// Gives the queues back and forgets the message: it isn't ours.
static void forget(struct ph_worker *worker, uint32_t message)
{
    struct ph_message *m = ph_store_message(&worker->store, message);

    for (uint32_t slot = m->first_recipient; slot != PH_INDEX_NONE;) {
        struct ph_recipient *r = ph_store_recipient(&worker->store, slot);

        ph_queue_dispatch_over(ph_queues_at(worker, r->queue));
        r->place = PH_PLACE_DONE;
        slot = r->next_of_message;
    }
    m->open_count = 0;
    ph_store_remove(&worker->store, message);
}

enum ph_spool_result ph_storing_begin(struct ph_worker *worker,
                                      const struct ph_storing_options *options)
{
    const struct ph_envelope *envelope = options->envelope;
    uint32_t message = ph_store_add(&worker->store, envelope->recipient_count);
    struct ph_storing *storing;
    struct ph_message *m;
    enum ph_spool_result result;
    bool at_once;

    if (message == PH_INDEX_NONE) {
        return PH_SPOOL_FULL;
    }
    m = ph_store_message(&worker->store, message);
    m->arrival_ms = envelope->arrival_ms;
    m->expiry_ms = envelope->expiry_ms;
    m->flow = (uint32_t)ph_hash_str(envelope->sender, worker->hash_seed);
    m->size = options->size;
    m->priority = envelope->priority & 3;
    at_once = route_all(worker, message, envelope, options->size);
    storing = ph_alloc(sizeof(*storing));
    storing->worker = worker;
    storing->message = message;
    storing->id = options->id;
    storing->own = options->own;
    storing->done = options->done;
    storing->owner = options->owner;
    ph_op_init(&storing->ticket.op, on_durable, storing);
    result = ph_spool_append(worker->spool, &storing->ticket,
                             &(struct ph_spool_append_options){
                                 .id = options->id,
                                 .envelope = envelope,
                                 .content = options->content,
                                 .take_extents = options->take_extents,
                                 .attempt = at_once,
                                 .reserved = options->own,
                             },
                             &m->content);
    if (result != PH_SPOOL_OK) {
        forget(worker, message);
        free(storing);
        return result;
    }
    m->id = options->id;
    for (uint32_t slot = m->first_recipient; slot != PH_INDEX_NONE;) {
        struct ph_recipient *r = ph_store_recipient(&worker->store, slot);

        r->attempted = at_once;
        slot = r->next_of_message;
    }
    worker->storing_count++;
    if (options->own) {
        // It is owed from now on: what it tells of leaves the queue before this is durable.
        worker->storing_own_recipients += envelope->recipient_count;
        PH_COUNT(worker, dsn_created, envelope->recipient_count);
        PH_COUNT(worker, queued, envelope->recipient_count);
    }
    ph_delivery_log_describe(envelope, options->size, &storing->log_members);
    return PH_SPOOL_OK;
}

// To its queue, or to the one that took its place meanwhile.
static void enqueue(struct ph_worker *worker, uint32_t slot)
{
    struct ph_recipient *r = ph_store_recipient(&worker->store, slot);
    struct ph_queue *held = ph_queues_at(worker, r->queue);
    uint64_t size = ph_store_message(&worker->store, r->message)->size;

    ph_queues_add(ph_queues_current(held, size), slot);
    ph_queue_dispatch_over(held);
}

static void on_durable(struct ph_op *op)
{
    struct ph_spool_ticket *ticket = PH_CONTAINER_OF(op, struct ph_spool_ticket, op);
    struct ph_storing *storing = PH_CONTAINER_OF(ticket, struct ph_storing, ticket);
    struct ph_worker *worker = storing->worker;
    struct ph_message *m = ph_store_message(&worker->store, storing->message);
    uint32_t count = m->open_count;

    worker->storing_count--;
    worker->storing_own_recipients -= storing->own ? count : 0;
    if (op->result < 0) {
        if (storing->own) {
            // What it tells of isn't durable either: it comes again.
            PH_COUNT(worker, failed, count);
            PH_COUNT(worker, queued, -(uint64_t)count);
        }
        forget(worker, storing->message);
    } else {
        uint32_t next;

        m->location = ticket->location;
        ph_delivery_log_accepted(worker, storing->id, ph_buf_str(&storing->log_members));
        if (!storing->own) {
            PH_COUNT(worker, accepted, count);
            PH_COUNT(worker, accepted_messages, 1);
            PH_COUNT(worker, queued, count);
        }
        for (uint32_t slot = m->first_recipient; slot != PH_INDEX_NONE; slot = next) {
            next = ph_store_recipient(&worker->store, slot)->next_of_message;
            enqueue(worker, slot);
        }
    }
    if (storing->done != NULL) {
        storing->done(storing->owner, storing->id, op->result);
    }
    ph_buf_deinit(&storing->log_members);
    free(storing);
}
