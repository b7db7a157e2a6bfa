// Copies forward what lingers in old segments.
#include "engine/compaction.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/delivery.h"
#include "engine/worker.h"

#define PH_COMPACTION_REST_NS (1000 * PH_NS_PER_MS) // the logs are looked at so often; ours
#define PH_COMPACTION_STEP_NS (2 * PH_NS_PER_MS)    // while a pass is under way; ours
#define PH_COMPACTION_SLOTS 4096                    // message slots looked at in a step; ours
#define PH_COMPACTION_IN_FLIGHT_MAX 32              // messages being copied; ours

struct copy {
    struct ph_worker *worker;
    struct ph_spool *spool;
    uint32_t message;
    uint64_t id;
    struct ph_spool_location location; // of the original
    struct ph_spool_load load;
    struct ph_spool_ticket ticket;
};

static void on_timer(struct ph_timer *timer);
static void step(struct ph_compaction *c);
static void begin_copy(struct ph_compaction *c, uint32_t message);
static void on_loaded(struct ph_op *op);
static void on_copied(struct ph_op *op);

void ph_compaction_start(struct ph_worker *worker)
{
    struct ph_compaction *c = &worker->compaction;

    *c = (struct ph_compaction){.worker = worker};
    ph_timer_init(&c->timer, on_timer, c);
    ph_wheel_set(&worker->wheel, &c->timer, worker->io->now_ns + PH_COMPACTION_REST_NS);
}

// The logs in turn: a pass over all messages serves one of them.
static void look(struct ph_compaction *c)
{
    struct ph_worker *worker = c->worker;
    size_t logs = 1 + worker->adopted_count;

    for (size_t i = 0; i < logs && c->below == 0; i++) {
        size_t which = c->looked_at++ % logs;

        c->spool = which == 0 ? worker->spool : worker->adopted[which - 1];
        c->log = (uint16_t)(worker->index + which * ph_engine_worker_count(worker->engine));
        c->below = ph_spool_compact_below(c->spool);
        c->at = 0;
    }
}

static void on_timer(struct ph_timer *timer)
{
    struct ph_compaction *c = timer->owner;

    if (c->worker->stopping) {
        return;
    }
    if (c->below == 0 && c->in_flight == 0) {
        look(c);
    }
    if (c->below > 0) {
        step(c);
    }
    ph_wheel_set(&c->worker->wheel, &c->timer,
                 c->worker->io->now_ns +
                     (c->below > 0 ? PH_COMPACTION_STEP_NS : PH_COMPACTION_REST_NS));
}

static void step(struct ph_compaction *c)
{
    const struct ph_store *store = &c->worker->store;

    for (unsigned i = 0; i < PH_COMPACTION_SLOTS && c->at < store->message_used &&
                         c->in_flight < PH_COMPACTION_IN_FLIGHT_MAX;
         i++) {
        const struct ph_message *m = ph_store_message(store, c->at);

        // One whose group isn't durable yet has no location.
        if (m->open_count > 0 && m->location.len != 0 && m->location.segment < c->below &&
            PH_MESSAGE_ID_LOG(m->id) == c->log) {
            begin_copy(c, c->at);
        }
        c->at++;
    }
    if (c->at >= store->message_used && c->in_flight == 0) {
        c->below = 0;
    }
}

static void begin_copy(struct ph_compaction *c, uint32_t message)
{
    const struct ph_message *m = ph_store_message(&c->worker->store, message);
    struct copy *copy = ph_alloc(sizeof(*copy));

    copy->worker = c->worker;
    copy->spool = c->spool;
    copy->message = message;
    copy->id = m->id;
    copy->location = m->location;
    copy->load.for_copy = true;
    c->in_flight++;
    ph_op_init(&copy->load.op, on_loaded, copy);
    ph_op_init(&copy->ticket.op, on_copied, copy);
    ph_spool_load(copy->spool, &copy->load, copy->id, &copy->location);
}

static void end_copy(struct copy *copy)
{
    ph_content_release(copy->load.content);
    copy->worker->compaction.in_flight--;
    free(copy);
}

// The message is still owed?
static struct ph_message *message_of(const struct copy *copy)
{
    struct ph_message *m = ph_store_message(&copy->worker->store, copy->message);

    return m->open_count > 0 && m->id == copy->id ? m : NULL;
}

// Nobody will get it: its recipients fail, those that are under way when they come back.
static void fail_damaged(struct copy *copy, const struct ph_message *m)
{
    struct ph_store *store = &copy->worker->store;
    struct ph_reason reason =
        ph_reason_make(PH_REASON_SPOOL_DAMAGED,
                       "the stored message %016llx could not be read: its checksum is wrong; it "
                       "was set aside in the quarantine",
                       (unsigned long long)copy->id);
    uint32_t next;

    for (uint32_t slot = m->first_recipient; slot != PH_INDEX_NONE; slot = next) {
        const struct ph_recipient *r = ph_store_recipient(store, slot);

        next = r->next_of_message;
        if (r->place == PH_PLACE_READY || r->place == PH_PLACE_DEFERRED) {
            ph_queues_remove(copy->worker, slot);
            ph_delivery_fail(copy->worker, slot, PH_QUEUED_FAILED, &reason);
        }
    }
}

// What is known of its recipients now; all that happens to them later is recorded behind the copy.
static uint32_t gather_states(const struct copy *copy, const struct ph_message *m,
                              struct ph_outcome_record *out)
{
    uint32_t count = 0;

    for (uint32_t slot = m->first_recipient; slot != PH_INDEX_NONE;) {
        const struct ph_recipient *r = ph_store_recipient(&copy->worker->store, slot);

        if (r->place == PH_PLACE_DONE) {
            out[count++] = (struct ph_outcome_record){
                .recipient = r->index, .state = PH_QUEUED_DELIVERED, .attempts = r->attempts};
        } else if (r->attempts > 0 || r->in_doubt || r->attempted ||
                   r->place == PH_PLACE_DEFERRED) {
            out[count++] = (struct ph_outcome_record){
                .recipient = r->index,
                .state = PH_QUEUED_WAITING,
                .in_doubt = r->in_doubt || r->attempted,
                .attempts = r->attempts,
                .due_ms = ph_store_due_ms(&copy->worker->store, r),
                .kind = (enum ph_reason_kind)r->last_kind,
            };
        }
        slot = r->next_of_message;
    }
    return count;
}

static void on_loaded(struct ph_op *op)
{
    struct copy *copy = op->owner;
    const struct ph_message *m = message_of(copy);
    struct ph_outcome_record *states;
    uint32_t count;
    bool taken;

    if (m == NULL || copy->worker->stopping || op->result < 0) {
        if (m != NULL && m->content == NULL && op->result == -EBADMSG && !copy->worker->stopping) {
            fail_damaged(copy, m);
        }
        end_copy(copy);
        return;
    }
    states = ph_alloc(copy->load.content->envelope.recipient_count * sizeof(*states));
    count = gather_states(copy, m, states);
    taken = ph_spool_copy(copy->spool, &copy->ticket, copy->id,
                          &(struct ph_spool_copy_options){
                              .load = &copy->load,
                              .states = states,
                              .state_count = count,
                              .delay_notified = m->delay_notified,
                          }) == PH_SPOOL_OK;
    free(states);
    if (!taken) {
        end_copy(copy); // there is no room now: another pass
    }
}

static void on_copied(struct ph_op *op)
{
    struct copy *copy = op->owner;
    struct ph_message *m = message_of(copy);

    if (op->result == 0 && m != NULL) {
        m->location = copy->ticket.location;
        ph_spool_unneeded(copy->spool, &copy->location);
        PH_COUNT(copy->worker, messages_copied, 1);
    } else if (op->result == 0) {
        ph_spool_unneeded(copy->spool, &copy->ticket.location); // it ended meanwhile
    }
    end_copy(copy);
}
