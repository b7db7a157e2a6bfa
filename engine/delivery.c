// From a ready recipient to its outcome.
#include "engine/delivery.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/value.h"
#include "engine/bounce.h"
#include "engine/delivery_log.h"
#include "engine/worker.h"

#define PH_DELIVERY_FREE_REQUEUES_MAX                                                              \
    3                                // a session that died under a message costs it nothing; ours
#define PH_DELIVERY_SWEEP_BATCH 4096 // message slots looked at in one sweep; ours
#define PH_DELIVERY_NO_ROOM_MS 60000 // a notification found no room in the spool: again then; ours

static struct ph_dispatch *create(struct ph_queue *queue, uint32_t message, const uint32_t *slots,
                                  uint32_t count, enum ph_dispatch_purpose purpose);
static void prepare(struct ph_dispatch *dispatch);
static void on_loaded(struct ph_op *op);
static void on_attempt_durable(struct ph_op *op);
static void one_pending_less(struct ph_dispatch *dispatch);
static void prepared(struct ph_dispatch *dispatch);
static void destroy(struct ph_dispatch *dispatch);

bool ph_delivery_form(struct ph_queue *queue)
{
    struct ph_store *store = &queue->worker->store;
    uint32_t limit = queue->site->spec->limits.max_recipients_per_transaction;
    uint32_t first = ph_ready_take(&queue->ready, store);
    uint32_t slots[PH_RECIPIENTS_MAX];
    uint32_t count = 0;
    const struct ph_message *message;

    if (first == PH_INDEX_NONE) {
        return false;
    }
    if (limit == 0 || limit > PH_RECIPIENTS_MAX) {
        limit = PH_RECIPIENTS_MAX;
    }
    slots[count++] = first;
    message = ph_store_message(store, ph_store_recipient(store, first)->message);
    for (uint32_t slot = message->first_recipient; slot != PH_INDEX_NONE && count < limit;
         slot = ph_store_recipient(store, slot)->next_of_message) {
        const struct ph_recipient *r = ph_store_recipient(store, slot);

        if (r->place == PH_PLACE_READY && r->queue == queue->index) {
            ph_ready_remove(&queue->ready, store, slot);
            slots[count++] = slot;
        }
    }
    prepare(create(queue, ph_store_recipient(store, first)->message, slots, count,
                   PH_DISPATCH_DELIVER));
    return true;
}

static struct ph_dispatch *create(struct ph_queue *queue, uint32_t message, const uint32_t *slots,
                                  uint32_t count, enum ph_dispatch_purpose purpose)
{
    struct ph_worker *worker = queue->worker;
    const struct ph_message *m = ph_store_message(&worker->store, message);
    struct ph_dispatch *dispatch =
        ph_alloc(sizeof(*dispatch) +
                 count * (sizeof(struct ph_client_recipient) + sizeof(uint32_t) + sizeof(bool)));

    dispatch->purpose = purpose;
    dispatch->origin = worker->index;
    dispatch->id = m->id;
    dispatch->message = message;
    dispatch->queue = queue;
    dispatch->domain = queue->domain;
    dispatch->connector = queue->connector != NULL ? queue->connector->name : PH_STR_NONE;
    dispatch->own_policy = queue->policy;
    dispatch->dane_mode = queue->policy.dane_mode;
    dispatch->sts = ph_sts_policy_retain(queue->sts);
    dispatch->hops = ph_hops_retain(queue->hops);
    if (queue->connector != NULL) {
        dispatch->policy_domain = ph_queue_policy_domain(queue);
        dispatch->tls_reporting = queue->connector->tls_reporting;
    }
    dispatch->policy = &dispatch->own_policy;
    if (queue->site != NULL && purpose == PH_DISPATCH_DELIVER) {
        dispatch->spec = queue->site->spec;
        ph_site_spec_retain(dispatch->spec);
    }
    dispatch->formed_ms = ph_worker_now_ms(worker);
    dispatch->arrival_ms = m->arrival_ms;
    dispatch->verified_by = "none";
    dispatch->recipient_count = count;
    dispatch->slots = (uint32_t *)(void *)&dispatch->recipients[count];
    dispatch->doubtful = (bool *)&dispatch->slots[count];
    memcpy(dispatch->slots, slots, count * sizeof(*slots));
    for (uint32_t i = 0; i < count; i++) {
        struct ph_recipient *r = ph_store_recipient(&worker->store, slots[i]);

        r->place = PH_PLACE_DISPATCH;
        dispatch->doubtful[i] = r->in_doubt;
        dispatch->ambiguous |= r->in_doubt;
    }
    queue->dispatch_count++;
    worker->dispatch_count++;
    worker->dispatch_recipient_count += count;
    return dispatch;
}

// Records that an attempt follows, for those of whom no record says so yet.
static void record_attempt(struct ph_dispatch *dispatch)
{
    struct ph_worker *worker = dispatch->queue->worker;
    uint32_t indices[PH_RECIPIENTS_MAX];
    uint32_t count = 0;

    for (uint32_t i = 0; i < dispatch->recipient_count; i++) {
        struct ph_recipient *r = ph_store_recipient(&worker->store, dispatch->slots[i]);

        if (!r->attempted) {
            r->attempted = 1;
            indices[count++] = r->index;
        }
    }
    if (count > 0) {
        dispatch->pending++;
        ph_op_init(&dispatch->attempt_ticket.op, on_attempt_durable, dispatch);
        ph_spool_attempt(ph_worker_spool_of(worker, dispatch->id), &dispatch->attempt_ticket,
                         dispatch->id, indices, count);
    }
}

static void prepare(struct ph_dispatch *dispatch)
{
    struct ph_worker *worker = dispatch->queue->worker;
    struct ph_message *message = ph_store_message(&worker->store, dispatch->message);

    dispatch->pending = 1;
    if (message->content != NULL) {
        ph_content_retain(message->content);
        dispatch->content = message->content;
    } else {
        dispatch->pending++;
        ph_op_init(&dispatch->load.op, on_loaded, dispatch);
        ph_spool_load(ph_worker_spool_of(worker, dispatch->id), &dispatch->load, dispatch->id,
                      &message->location);
    }
    if (dispatch->purpose == PH_DISPATCH_DELIVER) {
        record_attempt(dispatch);
    }
    if (dispatch->pending > 1 && dispatch->purpose == PH_DISPATCH_DELIVER) {
        dispatch->prepared_at = dispatch->queue->site;
        dispatch->prepared_at->preparing_count++;
    }
    one_pending_less(dispatch);
}

static void on_loaded(struct ph_op *op)
{
    struct ph_dispatch *dispatch = op->owner;

    dispatch->damaged = op->result < 0;
    dispatch->content = dispatch->load.content; // of what is damaged: its envelope, or nothing
    if (dispatch->damaged) {
        dispatch->reason = ph_reason_make(
            op->result == -EBADMSG ? PH_REASON_SPOOL_DAMAGED : PH_REASON_LOCAL_RESOURCES,
            "the stored message %016llx could not be read: %s", (unsigned long long)dispatch->id,
            op->result == -EBADMSG ? "its checksum is wrong; it was set aside in the quarantine"
                                   : strerror((int)-op->result));
    }
    one_pending_less(dispatch);
}

static void on_attempt_durable(struct ph_op *op)
{
    struct ph_dispatch *dispatch = op->owner;

    if (op->result < 0 && !dispatch->damaged) {
        dispatch->unrecorded = true;
        dispatch->reason = ph_reason_make(
            PH_REASON_LOCAL_RESOURCES,
            "it could not be written down that message %016llx is about to be sent: %s. Neither "
            "could it be that it was, and then it would be sent again: it waits for the disk",
            (unsigned long long)dispatch->id, strerror((int)-op->result));
    }
    one_pending_less(dispatch);
}

static void one_pending_less(struct ph_dispatch *dispatch)
{
    PH_CHECK(dispatch->pending > 0);
    dispatch->pending--;
    if (dispatch->pending == 0) {
        if (dispatch->prepared_at != NULL) {
            dispatch->prepared_at->preparing_count--;
            ph_site_mark(dispatch->prepared_at);
            dispatch->prepared_at = NULL;
        }
        prepared(dispatch);
    }
}

static void name_recipients(struct ph_dispatch *dispatch)
{
    const struct ph_content *content = dispatch->content;

    for (uint32_t i = 0; content != NULL && i < dispatch->recipient_count; i++) {
        const struct ph_recipient *r =
            ph_store_recipient(&dispatch->queue->worker->store, dispatch->slots[i]);

        PH_CHECK(r->index < content->envelope.recipient_count);
        dispatch->recipients[i].recipient = &content->envelope.recipients[r->index];
    }
}

static void prepared(struct ph_dispatch *dispatch)
{
    struct ph_queue *queue = dispatch->queue;
    const struct ph_content *content = dispatch->content;

    name_recipients(dispatch);
    if (dispatch->damaged) {
        dispatch->result = dispatch->reason.kind == PH_REASON_SPOOL_DAMAGED ? PH_DISPATCH_UNFIT
                                                                            : PH_DISPATCH_RETURNED;
        ph_delivery_conclude(queue->worker, dispatch);
        return;
    }
    if (dispatch->unrecorded) {
        ph_delivery_conclude(queue->worker, dispatch);
        return;
    }
    if (content->envelope.requiretls) {
        dispatch->own_policy.requiretls = true;
    } else if (content->envelope.tls_optional && queue->connector != NULL &&
               queue->connector->requiretls_extension) {
        dispatch->waived_by_sender = true;
        ph_tls_policy_waive_destination(&dispatch->own_policy);
    }
    if (queue->waived_until_ms > ph_worker_wall_ms(queue->worker)) {
        ph_tls_policy_waive_destination(&dispatch->own_policy);
    }
    dispatch->body = queue->connector != NULL && queue->connector->send_organization_headers
                         ? content->body[0]
                         : ph_content_beyond_marks(content);
    dispatch->transaction = (struct ph_client_transaction){
        .envelope = &content->envelope,
        .recipients = dispatch->recipients,
        .recipient_count = dispatch->recipient_count,
        .body = &dispatch->body,
        .body_count = 1,
        .body_len = dispatch->body.iov_len,
        .owner = dispatch,
    };
    if (dispatch->purpose != PH_DISPATCH_DELIVER) {
        ph_delivery_conclude(queue->worker, dispatch);
    } else if (content->envelope.requiretls && queue->connector != NULL &&
               !queue->connector->requiretls_extension) {
        dispatch->result = PH_DISPATCH_UNFIT;
        dispatch->reason = ph_reason_make(
            PH_REASON_REQUIRETLS_UNSUPPORTED,
            "the sender asked for REQUIRETLS; connector %.*s has RequireTlsExtension = off",
            PH_STR_ARG(queue->connector->name));
        ph_delivery_conclude(queue->worker, dispatch);
    } else if (queue->site == NULL || queue->obsolete || queue->site->spec != dispatch->spec ||
               queue->worker->stopping) {
        dispatch->result = PH_DISPATCH_RETURNED;
        ph_delivery_conclude(queue->worker, dispatch);
    } else {
        ph_site_offer(queue->site, dispatch, false);
    }
}

void ph_delivery_receive(struct ph_worker *worker, struct ph_dispatch *dispatch)
{
    struct ph_site *site = worker->stopping ? NULL : ph_site_find_or_create(worker, dispatch->spec);

    if (site == NULL) {
        dispatch->result = PH_DISPATCH_RETURNED;
        ph_delivery_finish(worker, dispatch);
    } else if (ph_site_resting(site)) {
        dispatch->result = PH_DISPATCH_RETURNED;
        ph_delivery_finish(worker, dispatch);
    } else {
        ph_site_offer(site, dispatch, false);
    }
}

void ph_delivery_finish(struct ph_worker *worker, struct ph_dispatch *dispatch)
{
    if (dispatch->origin == worker->index) {
        ph_delivery_conclude(worker, dispatch);
    } else {
        dispatch->mail.kind = PH_MAIL_DISPATCH_RESULT;
        dispatch->mail.from = worker->index;
        ph_mailbox_post(&ph_worker_at(worker, dispatch->origin)->mailbox, &dispatch->mail);
    }
}

static void destroy(struct ph_dispatch *dispatch)
{
    ph_content_release(dispatch->content);
    ph_site_spec_release(dispatch->spec);
    if (dispatch->hops == NULL) {
        ph_sts_policy_release(dispatch->sts);
    }
    ph_hops_release(dispatch->hops);
    ph_session_note_release(dispatch->note);
    free(dispatch->would_defer);
    free(dispatch);
}

// --- outcomes ---

static struct ph_recipient *recipient_of(const struct ph_worker *worker,
                                         const struct ph_dispatch *dispatch, uint32_t which)
{
    return ph_store_recipient(&worker->store, dispatch->slots[which]);
}

// Untouched, or to be tried again at once: to the head of its queue, whichever that is by now.
static void put_back(struct ph_worker *worker, struct ph_dispatch *dispatch, uint32_t which)
{
    uint32_t slot = dispatch->slots[which];
    struct ph_recipient *r = ph_store_recipient(&worker->store, slot);
    uint64_t size = ph_store_message(&worker->store, r->message)->size;

    r->place = PH_PLACE_UNROUTED;
    ph_queues_untake(ph_queues_current(dispatch->queue, size), slot);
}

static void record(struct ph_worker *worker, const struct ph_dispatch *dispatch, uint32_t which,
                   enum ph_recipient_state state, const struct ph_reason *reason, uint64_t due_ms)
{
    const struct ph_recipient *r = recipient_of(worker, dispatch, which);
    const struct ph_client_recipient *answer = &dispatch->recipients[which];
    bool delivered = state == PH_QUEUED_DELIVERED;
    struct ph_outcome_record outcome = {
        .recipient = r->index,
        .state = state,
        .in_doubt = r->in_doubt,
        .attempts = r->attempts,
        .due_ms = due_ms,
        .kind = delivered ? PH_REASON_NONE : reason->kind,
        .code = delivered ? answer->code : reason->code,
        .status = delivered ? answer->status : reason->status,
        .text = ph_str_from(delivered ? answer->text : reason->sentence),
    };

    ph_spool_outcome(ph_worker_spool_of(worker, dispatch->id), NULL, dispatch->id, &outcome);
}

// Waits: a time and a reason.
static void defer(struct ph_worker *worker, struct ph_dispatch *dispatch, uint32_t which,
                  const struct ph_reason *reason, uint64_t delay_ms)
{
    uint32_t slot = dispatch->slots[which];
    struct ph_recipient *r = ph_store_recipient(&worker->store, slot);
    struct ph_message *message = ph_store_message(&worker->store, r->message);
    uint64_t due_ms = ph_worker_now_ms(worker) + delay_ms;

    r->attempts++;
    r->attempted = 0;
    r->free_requeues = 0;
    r->last_kind = (uint8_t)reason->kind;
    record(worker, dispatch, which, PH_QUEUED_WAITING, reason, due_ms);
    PH_COUNT(worker, deferred, 1);
    PH_COUNT(worker, refusals[reason->kind], 1);
    ph_delivery_log_outcome(worker, dispatch, which, "deferred", reason, r->attempts, due_ms);
    // Nobody reads it for a while.
    ph_content_release(message->content);
    message->content = NULL;
    r->place = PH_PLACE_UNROUTED;
    ph_queues_defer(ph_queues_current(dispatch->queue, message->size), slot, due_ms);
}

// The recipient's last event. Its message goes with the last of them.
static void conclude_recipient(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                               uint32_t which)
{
    struct ph_recipient *r = recipient_of(worker, dispatch, which);
    struct ph_message *message = ph_store_message(&worker->store, r->message);

    r->place = PH_PLACE_DONE;
    message->open_count--;
    PH_COUNT(worker, queued, -1);
    if (r->in_doubt) {
        PH_COUNT(worker, queued_in_doubt, -1);
    }
    if (message->open_count == 0) {
        ph_spool_done(ph_worker_spool_of(worker, message->id), NULL, message->id,
                      &message->location);
        ph_store_remove(&worker->store, r->message);
    }
}

static void delivered(struct ph_worker *worker, struct ph_dispatch *dispatch, uint32_t which)
{
    struct ph_recipient *r = recipient_of(worker, dispatch, which);

    r->attempts++;
    record(worker, dispatch, which, PH_QUEUED_DELIVERED, NULL, 0);
    PH_COUNT(worker, delivered, 1);
    if (dispatch->doubtful[which]) {
        PH_COUNT(worker, ambiguous_resends, 1);
    }
    ph_delivery_log_outcome(worker, dispatch, which, "delivered", NULL, r->attempts, 0);
    conclude_recipient(worker, dispatch, which);
}

static void failed(struct ph_worker *worker, struct ph_dispatch *dispatch, uint32_t which,
                   const struct ph_reason *reason)
{
    struct ph_recipient *r = recipient_of(worker, dispatch, which);
    bool expired = dispatch->purpose == PH_DISPATCH_EXPIRE;
    bool deleted = dispatch->purpose == PH_DISPATCH_DELETE;

    r->attempts += dispatch->purpose == PH_DISPATCH_DELIVER;
    record(worker, dispatch, which,
           expired   ? PH_QUEUED_EXPIRED
           : deleted ? PH_QUEUED_DELETED
                     : PH_QUEUED_FAILED,
           reason, 0);
    if (expired) {
        PH_COUNT(worker, expired, 1);
    } else if (deleted) {
        PH_COUNT(worker, deleted, 1);
    } else if (reason->kind == PH_REASON_SPOOL_DAMAGED) {
        PH_COUNT(worker, quarantined, 1);
    } else {
        PH_COUNT(worker, failed, 1);
    }
    PH_COUNT(worker, refusals[reason->kind], 1);
    ph_delivery_log_outcome(worker, dispatch, which,
                            expired   ? "expired"
                            : deleted ? "deleted"
                                      : "failed",
                            reason, r->attempts, 0);
    conclude_recipient(worker, dispatch, which);
}

// The room may come soon, or never: a log given up takes nothing more. The next hop, which is asked
// again each time, isn't bothered more often than by any message that it puts off.
static uint64_t no_room_delay(struct ph_worker *worker, uint16_t attempts)
{
    uint64_t longest_ms = worker->config->retry.message_ms;
    uint64_t delay_ms = PH_DELIVERY_NO_ROOM_MS;

    for (uint16_t i = 0; i < attempts && delay_ms < longest_ms; i++) {
        delay_ms *= 2;
    }
    return delay_ms < longest_ms || longest_ms < PH_DELIVERY_NO_ROOM_MS ? delay_ms : longest_ms;
}

// Some of a dispatch's recipients fail, each with its reason: one notification for all, stored
// before their outcomes are. Where the spool has no room for it they wait instead.
static void fail_recipients(struct ph_worker *worker, struct ph_dispatch *dispatch,
                            const struct ph_bounce_item *items, uint32_t count)
{
    bool stored = count == 0 || dispatch->content == NULL ||
                  dispatch->purpose == PH_DISPATCH_DELETE ||
                  ph_bounce_send(worker, dispatch, items, count);

    for (uint32_t i = 0; i < count; i++) {
        if (stored) {
            failed(worker, dispatch, items[i].which, &items[i].reason);
        } else {
            defer(worker, dispatch, items[i].which, &items[i].reason,
                  no_room_delay(worker, recipient_of(worker, dispatch, items[i].which)->attempts));
        }
    }
}

static struct ph_reason reason_of_answer(const struct ph_dispatch *dispatch,
                                         const struct ph_client_recipient *answer)
{
    const struct ph_session_note *note = dispatch->note;

    return ph_reason_from_reply(answer->kind, answer->code, answer->status,
                                "%s (%s) answered %u %s", note != NULL ? note->host : "the host",
                                note != NULL ? note->address : "", answer->code, answer->text);
}

// One recipient of an attempt that was carried out. True: it fails, with the item filled.
static bool conclude_answer(struct ph_worker *worker, struct ph_dispatch *dispatch, uint32_t which,
                            struct ph_bounce_item *out_item)
{
    struct ph_recipient *r = recipient_of(worker, dispatch, which);
    const struct ph_client_recipient *answer = &dispatch->recipients[which];
    uint64_t interval_ms = ph_worker_retry_delay(worker, &dispatch->queue->config->retry,
                                                 PH_RETRY_MESSAGE, r->attempts + 1u);
    struct ph_reason reason;

    switch (answer->outcome) {
    case PH_RECIPIENT_PENDING:
        PH_CHECK(false);
        break;
    case PH_RECIPIENT_DELIVERED:
        delivered(worker, dispatch, which);
        break;
    case PH_RECIPIENT_REFUSED:
        reason = reason_of_answer(dispatch, answer);
        ph_config_apply_error_policies(dispatch->queue->connector, &reason);
        if (ph_reason_is_permanent(&reason)) {
            *out_item = (struct ph_bounce_item){.which = which, .reason = reason};
            return true;
        }
        defer(worker, dispatch, which, &reason, interval_ms);
        break;
    case PH_RECIPIENT_NOT_ATTEMPTED:
    case PH_RECIPIENT_BROKEN:
        if (r->free_requeues < PH_DELIVERY_FREE_REQUEUES_MAX) {
            r->free_requeues++;
            put_back(worker, dispatch, which);
        } else {
            defer(worker, dispatch, which, &dispatch->reason, interval_ms);
        }
        break;
    case PH_RECIPIENT_IN_DOUBT:
        reason = ph_reason_make(PH_REASON_IN_DOUBT,
                                "the message was sent whole, but the session ended before the "
                                "answer: it may have been delivered, and the next attempt may be "
                                "a second delivery. %s",
                                dispatch->reason.sentence);
        PH_COUNT(worker, in_doubt, 1);
        if (!r->in_doubt) {
            PH_COUNT(worker, queued_in_doubt, 1);
        }
        r->in_doubt = 1;
        defer(worker, dispatch, which, &reason, interval_ms);
        break;
    }
    return false;
}

static void conclude_done(struct ph_worker *worker, struct ph_dispatch *dispatch)
{
    struct ph_bounce_item *items = ph_alloc(dispatch->recipient_count * sizeof(*items));
    uint32_t count = 0;

    ph_queue_succeeded(dispatch->queue);
    if (!dispatch->peer_dsn) {
        ph_bounce_relayed(worker, dispatch);
    }
    for (uint32_t i = 0; i < dispatch->recipient_count; i++) {
        if (conclude_answer(worker, dispatch, i, &items[count])) {
            count++;
        }
    }
    fail_recipients(worker, dispatch, items, count);
    free(items);
}

static void conclude_whole(struct ph_worker *worker, struct ph_dispatch *dispatch)
{
    struct ph_bounce_item *items = ph_alloc(dispatch->recipient_count * sizeof(*items));

    for (uint32_t i = 0; i < dispatch->recipient_count; i++) {
        items[i] = (struct ph_bounce_item){.which = i, .reason = dispatch->reason};
    }
    fail_recipients(worker, dispatch, items, dispatch->recipient_count);
    free(items);
}

// No host would have it, by policy or for want of an answer: its recipients go back to their queue,
// which waits (refused) or whose site does (unreachable).
static void conclude_refused(struct ph_worker *worker, struct ph_dispatch *dispatch)
{
    struct ph_queue *queue = dispatch->queue;
    struct ph_reason reason;

    ph_config_apply_error_policies(queue->connector, &dispatch->reason);
    if (ph_reason_is_permanent(&dispatch->reason)) {
        conclude_whole(worker, dispatch);
        return;
    }
    reason = dispatch->reason;
    if (dispatch->result == PH_DISPATCH_REFUSED) {
        ph_queue_backoff(queue, &reason);
        ph_queue_await_lists(queue, &dispatch->lists);
    } else {
        queue->last_error = reason;
    }
    for (uint32_t i = dispatch->recipient_count; i-- > 0;) {
        struct ph_recipient *r = recipient_of(worker, dispatch, i);

        r->attempts++;
        r->last_kind = (uint8_t)reason.kind;
        if (r->attempted) {
            // Nothing was sent: a crash from here on leaves no doubt.
            r->attempted = 0;
            record(worker, dispatch, i, PH_QUEUED_WAITING, &reason, 0);
        }
        PH_COUNT(worker, deferred, 1);
        PH_COUNT(worker, refusals[reason.kind], 1);
        ph_delivery_log_outcome(worker, dispatch, i, "deferred", &reason, r->attempts,
                                queue->next_retry_ms);
        put_back(worker, dispatch, i);
    }
}

static void conclude_delay(struct ph_worker *worker, struct ph_dispatch *dispatch)
{
    struct ph_message *message = ph_store_message(&worker->store, dispatch->message);

    ph_bounce_delayed(worker, dispatch);
    message->delay_notified = 1;
    message->loading = 0;
    ph_spool_delay_notified(ph_worker_spool_of(worker, dispatch->id), dispatch->id);
    // It goes on waiting as it did, also where it is suspended.
    if (dispatch->due_ms > 0 && !dispatch->queue->obsolete) {
        ph_store_recipient(&worker->store, dispatch->slots[0])->place = PH_PLACE_UNROUTED;
        ph_queues_defer(dispatch->queue, dispatch->slots[0], dispatch->due_ms);
    } else {
        put_back(worker, dispatch, 0);
    }
}

// It could not be read now, or its attempt not be written down: whatever was meant to be done with
// it waits.
static void conclude_unready(struct ph_worker *worker, struct ph_dispatch *dispatch)
{
    if (dispatch->purpose == PH_DISPATCH_DELAY) {
        ph_store_message(&worker->store, dispatch->message)->loading = 0;
    }
    for (uint32_t i = 0; i < dispatch->recipient_count; i++) {
        defer(worker, dispatch, i, &dispatch->reason,
              no_room_delay(worker, recipient_of(worker, dispatch, i)->attempts));
    }
}

void ph_delivery_conclude(struct ph_worker *worker, struct ph_dispatch *dispatch)
{
    struct ph_queue *queue = dispatch->queue;

    PH_CHECK(dispatch->origin == worker->index);
    if (dispatch->damaged ? dispatch->reason.kind != PH_REASON_SPOOL_DAMAGED
                          : dispatch->unrecorded) {
        conclude_unready(worker, dispatch);
    } else if (dispatch->purpose == PH_DISPATCH_DELAY && !dispatch->damaged) {
        conclude_delay(worker, dispatch);
    } else if (dispatch->purpose == PH_DISPATCH_FAIL || dispatch->purpose == PH_DISPATCH_EXPIRE ||
               dispatch->purpose == PH_DISPATCH_DELETE) {
        conclude_whole(worker, dispatch);
    } else {
        switch (dispatch->result) {
        case PH_DISPATCH_DONE:
            conclude_done(worker, dispatch);
            break;
        case PH_DISPATCH_REFUSED:
        case PH_DISPATCH_UNREACHABLE:
            conclude_refused(worker, dispatch);
            break;
        case PH_DISPATCH_UNFIT:
            conclude_whole(worker, dispatch);
            break;
        case PH_DISPATCH_RETURNED:
            for (uint32_t i = dispatch->recipient_count; i-- > 0;) {
                put_back(worker, dispatch, i);
            }
            break;
        }
    }
    worker->dispatch_count--;
    worker->dispatch_recipient_count -= dispatch->recipient_count;
    destroy(dispatch);
    ph_queue_dispatch_over(queue);
}

// --- without an attempt ---

void ph_delivery_fail(struct ph_worker *worker, uint32_t recipient, enum ph_recipient_state state,
                      const struct ph_reason *reason)
{
    const struct ph_recipient *r = ph_store_recipient(&worker->store, recipient);
    struct ph_dispatch *dispatch = create(ph_queues_at(worker, r->queue), r->message, &recipient, 1,
                                          state == PH_QUEUED_EXPIRED   ? PH_DISPATCH_EXPIRE
                                          : state == PH_QUEUED_DELETED ? PH_DISPATCH_DELETE
                                                                       : PH_DISPATCH_FAIL);

    dispatch->reason = *reason;
    prepare(dispatch);
}

static struct ph_reason expiry_reason(const struct ph_queue *queue, const struct ph_recipient *r,
                                      uint64_t age_ms)
{
    char age[PH_TIME_TEXT_MAX];
    bool known = queue->last_error.kind != PH_REASON_NONE;
    const char *last =
        known ? queue->last_error.sentence : ph_reason_summary((enum ph_reason_kind)r->last_kind);
    struct ph_reason reason;

    // In minutes, or seconds: nobody counts those of days.
    age_ms -= age_ms % (age_ms >= 3600000 ? 60000 : 1000);
    reason = ph_reason_make(PH_REASON_EXPIRED, "given up after %s; the last reason was: %s",
                            ph_value_time_format(age_ms, age), last);
    if (known) {
        // The cause, not that its time is over (RFC 3463 §3.5 has X.4.7 for that alone).
        reason.status = queue->last_error.status;
        reason.status.class = 5;
    }
    return reason;
}

static bool waits(const struct ph_recipient *r)
{
    return r->place == PH_PLACE_READY || r->place == PH_PLACE_DEFERRED;
}

// The waiting recipients of one message whose time is over, those of one queue together: so that
// their sender is told once of each.
static void expire_message(struct ph_worker *worker, uint32_t index)
{
    struct ph_store *store = &worker->store;
    uint32_t slots[PH_RECIPIENTS_MAX];
    uint32_t count;

    do {
        struct ph_queue *queue = NULL;
        struct ph_dispatch *dispatch;

        count = 0;
        for (uint32_t slot = ph_store_message(store, index)->first_recipient;
             slot != PH_INDEX_NONE && count < PH_RECIPIENTS_MAX;
             slot = ph_store_recipient(store, slot)->next_of_message) {
            const struct ph_recipient *r = ph_store_recipient(store, slot);

            if (waits(r) && (queue == NULL || r->queue == queue->index)) {
                queue = ph_queues_at(worker, r->queue);
                ph_queues_remove(worker, slot);
                slots[count++] = slot;
            }
        }
        if (count > 0) {
            dispatch = create(queue, index, slots, count, PH_DISPATCH_EXPIRE);
            dispatch->reason = expiry_reason(queue, ph_store_recipient(store, slots[0]),
                                             ph_worker_now_ms(worker) -
                                                 ph_store_message(store, index)->arrival_ms);
            prepare(dispatch);
        }
        // What was prepared at once is over with, and so may be the message.
    } while (count > 0 && ph_store_message(store, index)->open_count > 0);
}

// One waiting recipient stands for all of its message: the notification names each that waits.
static void tell_of_delay(struct ph_worker *worker, uint32_t index)
{
    struct ph_store *store = &worker->store;
    struct ph_message *message = ph_store_message(store, index);

    for (uint32_t slot = message->first_recipient; slot != PH_INDEX_NONE;
         slot = ph_store_recipient(store, slot)->next_of_message) {
        const struct ph_recipient *r = ph_store_recipient(store, slot);

        if (waits(r)) {
            struct ph_queue *queue = ph_queues_at(worker, r->queue);
            uint64_t due_ms = ph_store_due_ms(store, r);
            struct ph_dispatch *dispatch;

            ph_queues_remove(worker, slot);
            dispatch = create(queue, index, &slot, 1, PH_DISPATCH_DELAY);
            dispatch->due_ms = due_ms;
            message->loading = 1;
            prepare(dispatch);
            return;
        }
    }
}

void ph_delivery_sweep(struct ph_worker *worker)
{
    struct ph_store *store = &worker->store;
    uint64_t now_ms = ph_worker_now_ms(worker);
    uint64_t delay_ms = worker->config->retry.delay_notification_ms;

    for (unsigned i = 0; i < PH_DELIVERY_SWEEP_BATCH && worker->sweep_at < store->message_used;
         i++) {
        uint32_t index = worker->sweep_at++;
        const struct ph_message *message = ph_store_message(store, index);

        if (message->open_count == 0) {
            continue;
        }
        if (now_ms >= message->expiry_ms) {
            expire_message(worker, index);
        } else if (worker->config->delay_dsn_enabled && !message->delay_notified &&
                   !message->loading && delay_ms > 0 && now_ms >= message->arrival_ms + delay_ms) {
            tell_of_delay(worker, index);
        }
    }
    if (worker->sweep_at >= store->message_used) {
        worker->sweep_at = 0;
    }
}
