// What an administrator does with waiting mail.
#include "engine/queue_steer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/delivery.h"
#include "engine/worker.h"

#define PH_STEER_SLOTS 65536         // message slots looked at in a call; ours
#define PH_STEER_RECIPIENTS_MAX 256  // dealt with in a call; ours
#define PH_STEER_DISPATCHES_MAX 2048 // messages under way: more have to wait; ours

bool ph_queue_steer_kind(struct ph_str name, enum ph_queue_steer_kind *out)
{
    static const char *const names[] = {
        [PH_STEER_SUSPEND] = "suspend", [PH_STEER_RESUME] = "resume", [PH_STEER_BOUNCE] = "bounce",
        [PH_STEER_DELETE] = "delete",   [PH_STEER_FIND] = "find",
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(names); i++) {
        if (ph_str_eq(name, ph_str_from(names[i]))) {
            *out = (enum ph_queue_steer_kind)i;
            return true;
        }
    }
    return false;
}

// A record says when it is due: never, or now.
static void record_due(struct ph_worker *worker, const struct ph_recipient *r, uint64_t due_ms)
{
    const struct ph_message *m = ph_store_message(&worker->store, r->message);
    struct ph_outcome_record outcome = {
        .recipient = r->index,
        .state = PH_QUEUED_WAITING,
        // An attempt that was announced and not begun leaves no doubt.
        .in_doubt = r->in_doubt,
        .attempts = r->attempts,
        .due_ms = due_ms,
        .kind = (enum ph_reason_kind)r->last_kind,
        .text = due_ms == PH_NEVER ? PH_STR("suspended") : PH_STR("resumed"),
    };

    ph_spool_outcome(ph_worker_spool_of(worker, m->id), NULL, m->id, &outcome);
}

static bool suspend(struct ph_worker *worker, uint32_t recipient)
{
    struct ph_recipient *r = ph_store_recipient(&worker->store, recipient);
    struct ph_queue *queue = ph_queues_at(worker, r->queue);

    if (ph_store_due_ms(&worker->store, r) == PH_NEVER) {
        return false;
    }
    ph_queues_remove(worker, recipient);
    r->attempted = 0;
    record_due(worker, r, PH_NEVER);
    ph_queues_defer(queue, recipient, PH_NEVER);
    return true;
}

static bool resume(struct ph_worker *worker, uint32_t recipient)
{
    struct ph_recipient *r = ph_store_recipient(&worker->store, recipient);
    struct ph_queue *queue = ph_queues_at(worker, r->queue);

    if (ph_store_due_ms(&worker->store, r) != PH_NEVER || ph_queues_held(queue)) {
        return false;
    }
    ph_queues_remove(worker, recipient);
    r->attempted = 0; // as the record says: the next attempt is written down again
    record_due(worker, r, 0);
    ph_queues_add(queue, recipient);
    return true;
}

static bool end(struct ph_worker *worker, uint32_t recipient, enum ph_recipient_state state)
{
    struct ph_reason reason =
        ph_reason_make(PH_REASON_ADMINISTRATOR, state == PH_QUEUED_DELETED
                                                    ? "an administrator deleted it"
                                                    : "an administrator returned it to its sender");

    ph_queues_remove(worker, recipient);
    ph_delivery_fail(worker, recipient, state, &reason);
    return true;
}

static bool act(struct ph_worker *worker, struct ph_queue_steer *steer, uint32_t recipient)
{
    switch (steer->kind) {
    case PH_STEER_SUSPEND:
        return suspend(worker, recipient);
    case PH_STEER_RESUME:
        return resume(worker, recipient);
    case PH_STEER_BOUNCE:
        return end(worker, recipient, PH_QUEUED_FAILED);
    case PH_STEER_DELETE:
        return end(worker, recipient, PH_QUEUED_DELETED);
    case PH_STEER_FIND:
        break;
    }
    return false;
}

static uint64_t act_on_message(struct ph_worker *worker, struct ph_queue_steer *steer,
                               uint32_t index)
{
    struct ph_store *store = &worker->store;
    const struct ph_message *m = ph_store_message(store, index);
    uint64_t count = 0;
    uint32_t next;

    for (uint32_t slot = m->first_recipient; slot != PH_INDEX_NONE; slot = next) {
        const struct ph_recipient *r = ph_store_recipient(store, slot);

        next = r->next_of_message;
        if ((r->place != PH_PLACE_READY && r->place != PH_PLACE_DEFERRED) ||
            !ph_queue_query_matches(&steer->query, worker, slot)) {
            continue;
        }
        if (steer->kind == PH_STEER_FIND) {
            char id[PH_MESSAGE_ID_TEXT_MAX];

            ph_buf_printf(steer->ids, "%s\n", ph_message_id_format(m->id, id));
            return 1;
        }
        count += act(worker, steer, slot);
    }
    return count;
}

void ph_queue_steer_answer(struct ph_worker *worker, void *argument)
{
    struct ph_queue_steer *steer = argument;
    const struct ph_store *store = &worker->store;
    uint64_t begun = steer->count;

    if (worker->stopping) {
        steer->done = true;
        return;
    }
    for (unsigned i = 0; i < PH_STEER_SLOTS && steer->at < store->message_used &&
                         steer->count - begun < PH_STEER_RECIPIENTS_MAX &&
                         worker->dispatch_count < PH_STEER_DISPATCHES_MAX;
         i++) {
        // One whose last recipient ends at once is gone from here on.
        if (ph_store_message(store, steer->at)->open_count > 0) {
            steer->count += act_on_message(worker, steer, steer->at);
        }
        steer->at++;
    }
    steer->done = steer->at >= store->message_used;
}

// --- export ---

enum export_state {
    EXPORT_SEARCH,
    EXPORT_LOADING,
    EXPORT_OVER,
};

struct ph_queue_export {
    atomic_uint references;
    uint64_t id;
    enum export_state state; // touched on workers' threads, one at a time
    struct ph_spool_load load;
};

static void on_loaded(struct ph_op *op)
{
    struct ph_queue_export *item = op->owner;

    item->state = EXPORT_OVER;
    ph_queue_export_release(item);
}

struct ph_queue_export *ph_queue_export_create(uint64_t id)
{
    struct ph_queue_export *item = ph_alloc(sizeof(*item));

    atomic_init(&item->references, 1);
    item->id = id;
    ph_op_init(&item->load.op, on_loaded, item);
    return item;
}

void ph_queue_export_release(struct ph_queue_export *item)
{
    if (atomic_fetch_sub(&item->references, 1) == 1) {
        ph_content_release(item->load.content);
        free(item);
    }
}

void ph_queue_export_answer(struct ph_worker *worker, void *argument)
{
    struct ph_queue_export *item = argument;
    const struct ph_store *store = &worker->store;

    for (uint32_t i = 0; item->state == EXPORT_SEARCH && i < store->message_used; i++) {
        const struct ph_message *m = ph_store_message(store, i);

        if (m->open_count > 0 && m->id == item->id && m->location.len != 0 && !worker->stopping) {
            item->state = EXPORT_LOADING;
            atomic_fetch_add(&item->references, 1);
            ph_spool_load(ph_worker_spool_of(worker, m->id), &item->load, m->id, &m->location);
        }
    }
}

int ph_queue_export_take(struct ph_queue_export *item, struct ph_buf *out)
{
    const struct ph_content *content = item->load.op.result == 0 ? item->load.content : NULL;

    if (item->state != EXPORT_OVER) {
        return item->state == EXPORT_LOADING ? 0 : -1;
    }
    for (int i = 0; content != NULL && i < content->body_count; i++) {
        ph_buf_append_bytes(out, content->body[i].iov_base, content->body[i].iov_len);
    }
    return content != NULL ? 1 : -1;
}
