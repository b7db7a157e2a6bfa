// A site as one worker sees it.
#include "engine/site.h"

#include <stdlib.h>
#include <string.h>

#include "engine/connection.h"
#include "engine/delivery.h"
#include "engine/dialogue.h"
#include "engine/home_site.h"
#include "engine/worker.h"

#define PH_SITE_DRAW_SCAN_MAX 16        // prepared messages looked at for one session; ours
#define PH_SITE_PREPARING_MAX 128       // messages being read from the disk for one site; ours
#define PH_SITE_MESSAGES_A_CONNECTION 8 // backlog that earns one more connection; ours
#define PH_SITE_LONG_QUEUE 256          // messages from which a queue is prepared in lots; ours

static void on_backoff_over(struct ph_timer *timer);
static uint64_t backlog_of(const struct ph_site *site);
static void want_connections(struct ph_site *site);
static void use_credit(struct ph_site *site);
static bool form_next(struct ph_site *site);
static void take_out(struct ph_site *site, struct ph_dispatch *dispatch);

struct ph_site *ph_site_find_or_create(struct ph_worker *worker, struct ph_site_spec *spec)
{
    struct ph_site *site;

    HASH_FIND(hh, worker->sites, spec->key, PH_SITE_KEY_BYTES, site);
    if (site == NULL) {
        site = calloc(1, sizeof(*site));
        if (site == NULL) {
            return NULL;
        }
        memcpy(site->key, spec->key, PH_SITE_KEY_BYTES);
        site->worker = worker;
        site->spec = spec;
        ph_site_spec_retain(spec);
        TAILQ_INIT(&site->active);
        ph_turns_init(&site->turns);
        TAILQ_INIT(&site->prepared);
        TAILQ_INIT(&site->connections);
        ph_timer_init(&site->backoff_timer, on_backoff_over, site);
        ph_timer_init(&site->rate_timer, on_backoff_over, site);
        ph_rate_meter_init(&site->message_rate, spec->limits.message_rate.count,
                           spec->limits.message_rate.interval_ms);
        HASH_ADD(hh, worker->sites, key, PH_SITE_KEY_BYTES, site);
    }
    site->used_ms = ph_worker_now_ms(worker);
    return site;
}

bool ph_site_idle(const struct ph_site *site)
{
    return site->connection_count == 0 && site->prepared_count == 0 && site->preparing_count == 0 &&
           site->queue_count == 0 && !site->asked && site->credit_count == 0 &&
           ph_rate_meter_allows(&site->message_rate, site->worker->io->now_ns) &&
           TAILQ_EMPTY(&site->active);
}

void ph_site_destroy(struct ph_site *site)
{
    PH_CHECK(site->connection_count == 0 && site->prepared_count == 0);
    if (site->dirty) {
        TAILQ_REMOVE(&site->worker->dirty_sites, site, dirty_link);
    }
    ph_wheel_cancel(&site->worker->wheel, &site->backoff_timer);
    ph_buf_deinit(&site->last_failure);
    ph_prospects_deinit(site);
    if (site->watch != NULL) {
        ph_buf_deinit(&site->watch->lines);
        free(site->watch);
    }
    ph_wheel_cancel(&site->worker->wheel, &site->rate_timer);
    HASH_DEL(site->worker->sites, site);
    ph_site_spec_release(site->spec);
    free(site);
}

void ph_site_mark(struct ph_site *site)
{
    if (!site->dirty) {
        site->dirty = true;
        TAILQ_INSERT_TAIL(&site->worker->dirty_sites, site, dirty_link);
    }
}

static void on_backoff_over(struct ph_timer *timer)
{
    ph_site_mark(timer->owner);
}

bool ph_site_resting(const struct ph_site *site)
{
    return ph_site_rests_until_ms(site) > ph_worker_now_ms(site->worker);
}

uint64_t ph_site_rests_until_ms(const struct ph_site *site)
{
    return site->backoff_until_ms > site->slow_until_ms ? site->backoff_until_ms
                                                        : site->slow_until_ms;
}

// MessageRate: may one more go out now? If not, the site is looked at when one may.
static bool rate_allows(struct ph_site *site)
{
    uint64_t at_ns = ph_rate_meter_next_ns(&site->message_rate, site->worker->io->now_ns);

    if (at_ns != 0 && !ph_timer_armed(&site->rate_timer)) {
        ph_wheel_set(&site->worker->wheel, &site->rate_timer, at_ns);
    }
    return at_ns == 0;
}

// InDoubtLimit bounds how many second deliveries can be under way; the workers share it.
static bool doubt_allows(const struct ph_site *site, const struct ph_dispatch *dispatch)
{
    uint32_t limit = site->spec->connector->in_doubt_limit;
    uint32_t workers = ph_engine_worker_count(site->worker->engine);

    return !dispatch->ambiguous || site->ambiguous_count < (limit > workers ? limit / workers : 1);
}

static void message_begins(struct ph_site *site, const struct ph_dispatch *dispatch)
{
    ph_rate_meter_take(&site->message_rate, site->worker->io->now_ns);
    site->ambiguous_count += dispatch->ambiguous;
}

void ph_site_message_over(struct ph_site *site, const struct ph_dispatch *dispatch)
{
    if (dispatch->ambiguous) {
        PH_CHECK(site->ambiguous_count > 0);
        site->ambiguous_count--;
        ph_site_mark(site);
    }
}

void ph_site_slow(struct ph_site *site, const struct ph_reason *reason)
{
    ph_home_site_slow(site, reason);
}

// Messages of a long queue were accepted without an ATTEMPT record, and each write of such records
// costs as much for one as for many: they are prepared in lots, and then whole depths are sent at
// once. Where several queues take turns, or a rate is kept, nothing is taken before its time.
static bool prepares_lots(const struct ph_site *site)
{
    const struct ph_queue *queue = TAILQ_FIRST(&site->active);

    return queue != NULL && TAILQ_NEXT(queue, active_link) == NULL &&
           queue->ready.count >= PH_SITE_LONG_QUEUE && site->pull_count == 0 &&
           !ph_site_resting(site) && site->spec->limits.message_rate.count == 0;
}

static void form_ahead(struct ph_site *site)
{
    uint32_t lot = site->connection_count * site->spec->limits.pipeline_depth;

    lot = lot < PH_SITE_PREPARING_MAX ? lot : PH_SITE_PREPARING_MAX;
    if (!prepares_lots(site) || site->prepared_count + site->preparing_count > lot / 2) {
        return;
    }
    while (site->prepared_count + site->preparing_count < lot && form_next(site)) {
    }
}

bool ph_site_more_soon(const struct ph_site *site, uint32_t wanted)
{
    return site->prepared_count < wanted && site->preparing_count > 0 && prepares_lots(site);
}

void ph_site_pump(struct ph_site *site)
{
    struct ph_connection *c;
    struct ph_connection *next;

    if (site->worker->stopping) {
        ph_site_return_prepared(site);
        return;
    }
    form_ahead(site);
    for (c = TAILQ_FIRST(&site->connections); c != NULL; c = next) {
        next = ph_connection_next(c);
        if (ph_connection_usable(c)) {
            ph_connection_pump(c);
        }
    }
    // Messages a home asked for travel as soon as they are prepared.
    while (site->pull_count > site->preparing_count && form_next(site)) {
    }
    if (site->pull_count > site->preparing_count) {
        site->pull_count = site->preparing_count; // there are no more
    }
    if (!ph_site_resting(site)) {
        use_credit(site);
        want_connections(site);
    }
}

static uint64_t backlog_of(const struct ph_site *site)
{
    uint64_t backlog = site->prepared_count + site->preparing_count;
    const struct ph_queue *queue;

    TAILQ_FOREACH(queue, &site->active, active_link)
    {
        backlog += queue->ready.count;
        if (backlog > UINT32_MAX / 2) {
            break;
        }
    }
    return backlog;
}

bool ph_site_makes_room(const struct ph_site *site)
{
    return site->others_wait && site->pull_count == 0 && backlog_of(site) == 0;
}

static uint32_t connections_wanted(const struct ph_site *site)
{
    uint64_t backlog = backlog_of(site);
    uint64_t wanted = (backlog + PH_SITE_MESSAGES_A_CONNECTION - 1) / PH_SITE_MESSAGES_A_CONNECTION;

    return (uint32_t)(wanted < site->spec->limits.max_connections
                          ? wanted
                          : site->spec->limits.max_connections);
}

// What the open sessions have left over asks for one connection more, and again when it is granted.
static void want_connections(struct ph_site *site)
{
    uint64_t backlog = backlog_of(site);
    struct ph_connection *c;

    while (!site->asked && site->pull_count == 0 && backlog > 0 && !ph_site_resting(site) &&
           rate_allows(site) &&
           site->opening_count + site->credit_count < connections_wanted(site)) {
        uint32_t had = site->opening_count + site->credit_count;

        site->asked = true;
        ph_home_site_ask(site, (uint32_t)backlog);
        use_credit(site);
        if (site->opening_count + site->credit_count <= had) {
            break;
        }
        backlog = backlog_of(site);
    }
    // An idle session here is one that nothing that waits may use: it makes room.
    if (site->asked && site->prepared_count > 0) {
        for (c = TAILQ_FIRST(&site->connections); c != NULL; c = ph_connection_next(c)) {
            if (ph_connection_idle(c)) {
                ph_connection_retire(c);
                break;
            }
        }
    }
}

// The message a connection would be opened for; NULL: none may go now, or none is there.
static struct ph_dispatch *first_to_open_for(struct ph_site *site)
{
    struct ph_dispatch *dispatch;

    if (!rate_allows(site)) {
        return NULL;
    }
    TAILQ_FOREACH(dispatch, &site->prepared, link)
    {
        if (doubt_allows(site, dispatch)) {
            return dispatch;
        }
    }
    return form_next(site) && (dispatch = TAILQ_LAST(&site->prepared, ph_dispatch_list)) != NULL &&
                   doubt_allows(site, dispatch)
               ? dispatch
               : NULL;
}

// Connections granted are begun for a message each; what isn't needed is given back.
static void use_credit(struct ph_site *site)
{
    while (site->credit_count > 0) {
        struct ph_dispatch *dispatch = first_to_open_for(site);

        if (dispatch == NULL && site->preparing_count > 0) {
            return; // it will be offered
        }
        site->credit_count--;
        if (dispatch == NULL) {
            ph_home_site_release(site, PH_SITE_RELEASE_UNUSED, NULL);
        } else {
            take_out(site, dispatch);
            message_begins(site, dispatch);
            ph_connection_open(site, dispatch);
        }
    }
}

void ph_site_activate(struct ph_site *site, struct ph_queue *queue)
{
    struct ph_queue *other = TAILQ_FIRST(&site->active);

    // A queue alone has its own turns.
    if (other != NULL) {
        ph_ready_join(&other->ready, &site->turns);
        ph_ready_join(&queue->ready, &site->turns);
    }
    queue->active = true;
    TAILQ_INSERT_TAIL(&site->active, queue, active_link);
}

void ph_site_deactivate(struct ph_site *site, struct ph_queue *queue)
{
    TAILQ_REMOVE(&site->active, queue, active_link);
    ph_ready_leave(&queue->ready);
    queue->active = false;
}

static bool usable(const struct ph_ready *ready)
{
    return PH_CONTAINER_OF(ready, struct ph_queue, ready)->unsuited_count == 0;
}

// Whose turn it is: the next sender's, in whichever queue it waits.
static struct ph_queue *next_queue(struct ph_site *site)
{
    struct ph_ready *ready = ph_turns_next(&site->turns, usable);
    struct ph_queue *queue;

    if (ready != NULL) {
        return PH_CONTAINER_OF(ready, struct ph_queue, ready);
    }
    TAILQ_FOREACH(queue, &site->active, active_link)
    {
        if (usable(&queue->ready)) {
            break;
        }
    }
    return queue;
}

// One message more is prepared, of the queue whose turn it is. False: there is none, or enough.
static bool form_next(struct ph_site *site)
{
    struct ph_queue *queue = NULL;
    bool formed = false;

    if (site->preparing_count >= PH_SITE_PREPARING_MAX) {
        return false;
    }
    while (!formed && (queue = next_queue(site)) != NULL) {
        formed = ph_delivery_form(queue);
        if (queue->active && queue->ready.count == 0) {
            ph_site_deactivate(site, queue);
        }
    }
    return formed;
}

void ph_site_offer(struct ph_site *site, struct ph_dispatch *dispatch, bool front)
{
    struct ph_worker *worker = site->worker;

    if (site->pull_count > 0 && dispatch->origin == worker->index &&
        site->spec->home != worker->index && !worker->stopping) {
        site->pull_count--;
        dispatch->mail.kind = PH_MAIL_DISPATCH;
        dispatch->mail.from = worker->index;
        ph_mailbox_post(&ph_worker_at(worker, site->spec->home)->mailbox, &dispatch->mail);
        return;
    }
    if (front) {
        TAILQ_INSERT_HEAD(&site->prepared, dispatch, link);
    } else {
        TAILQ_INSERT_TAIL(&site->prepared, dispatch, link);
    }
    site->prepared_count++;
    ph_site_mark(site);
}

static void take_out(struct ph_site *site, struct ph_dispatch *dispatch)
{
    TAILQ_REMOVE(&site->prepared, dispatch, link);
    site->prepared_count--;
    if (dispatch->unsuited) {
        dispatch->unsuited = false;
        dispatch->queue->unsuited_count--;
    }
}

static void mark_unsuited(struct ph_site *site, struct ph_dispatch *dispatch)
{
    // A queue of another worker isn't ours to count at.
    if (!dispatch->unsuited && dispatch->origin == site->worker->index) {
        dispatch->unsuited = true;
        dispatch->queue->unsuited_count++;
    }
}

struct ph_dispatch *ph_site_draw(struct ph_site *site, struct ph_connection *connection,
                                 struct ph_clearance **out_clearance)
{
    struct ph_dispatch *dispatch = TAILQ_FIRST(&site->prepared);
    bool busy = !ph_connection_idle(connection);
    struct ph_reason reason;

    if (!rate_allows(site)) {
        return NULL;
    }
    // What is pulled is for the home's session, not for ours.
    for (unsigned scanned = 0; scanned < PH_SITE_DRAW_SCAN_MAX; scanned++) {
        struct ph_dispatch *next;

        if (dispatch == NULL && site->pull_count == 0 && !ph_site_resting(site) &&
            form_next(site)) {
            dispatch = TAILQ_LAST(&site->prepared, ph_dispatch_list);
        }
        if (dispatch == NULL) {
            break;
        }
        next = TAILQ_NEXT(dispatch, link);
        // A doubtful one goes alone on its session: what breaks then leaves one in doubt.
        if ((!dispatch->unsuited || scanned == 0) && doubt_allows(site, dispatch) &&
            !(dispatch->ambiguous && busy)) {
            if (ph_connection_judge(connection, dispatch, out_clearance, &reason) ==
                PH_GATE_CLEARED) {
                take_out(site, dispatch);
                message_begins(site, dispatch);
                return dispatch;
            }
            mark_unsuited(site, dispatch);
        }
        dispatch = next;
    }
    return NULL;
}

void ph_site_return_prepared(struct ph_site *site)
{
    struct ph_dispatch *dispatch;

    while ((dispatch = TAILQ_FIRST(&site->prepared)) != NULL) {
        ph_site_return(site, dispatch);
    }
}

void ph_site_return(struct ph_site *site, struct ph_dispatch *dispatch)
{
    take_out(site, dispatch);
    dispatch->result = PH_DISPATCH_RETURNED;
    ph_delivery_finish(site->worker, dispatch);
}

void ph_site_connection_usable(struct ph_site *site)
{
    site->opening_count--;
    if (site->slow_until_ms <= ph_worker_now_ms(site->worker)) {
        site->last_error = (struct ph_reason){0};
        ph_wheel_cancel(&site->worker->wheel, &site->backoff_timer);
    }
    site->backoff_until_ms = 0;
    ph_home_site_connected(site);
    ph_site_mark(site);
}

void ph_site_connection_ended(struct ph_site *site, enum ph_site_release how,
                              const struct ph_reason *reason)
{
    if (reason->kind != PH_REASON_NONE) {
        site->last_error = *reason;
    }
    ph_home_site_release(site, how, reason);
    ph_site_mark(site);
}

void ph_site_answered(struct ph_site *site, const struct ph_site_answer *answer,
                      const struct ph_reason *reason)
{
    uint64_t now_ms = ph_worker_now_ms(site->worker);

    switch (answer->kind) {
    case PH_SITE_GRANT:
        site->asked = false;
        site->others_wait = answer->others_wait;
        site->credit_count++;
        break;
    case PH_SITE_MAKE_ROOM:
        site->others_wait = true;
        break;
    case PH_SITE_PULL:
        site->asked = false;
        site->pull_count += answer->count;
        // What is prepared already goes first.
        for (uint32_t i = 0; i < answer->count; i++) {
            struct ph_dispatch *dispatch = TAILQ_FIRST(&site->prepared);

            if (dispatch == NULL) {
                break;
            }
            take_out(site, dispatch);
            ph_site_offer(site, dispatch, false);
        }
        break;
    case PH_SITE_WAIT:
        break; // asked stays: a grant comes by itself
    case PH_SITE_BACKOFF:
        site->asked = false;
        if (answer->until_ms <= now_ms) {
            break;
        }
        if (answer->firm) {
            site->slow_until_ms = answer->until_ms;
        } else {
            site->backoff_until_ms = answer->until_ms;
        }
        if (reason != NULL && reason->kind != PH_REASON_NONE) {
            site->last_error = *reason;
        }
        ph_wheel_set(&site->worker->wheel, &site->backoff_timer,
                     site->worker->io->now_ns + (answer->until_ms - now_ms) * PH_NS_PER_MS);
        ph_site_return_prepared(site);
        break;
    }
    ph_site_mark(site);
}

void ph_site_retry(struct ph_site *site)
{
    site->backoff_until_ms = 0;
    site->slow_until_ms = 0;
    ph_home_site_retry(site);
    ph_site_mark(site);
}
