// Queues: what waits for one domain through one connector.
#include "engine/queues.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/delivery.h"
#include "engine/holds.h"
#include "engine/router.h"
#include "engine/worker.h"
#include "tls/crls.h"

#define PH_QUEUES_HELD_TOLD_MAX 30 // a minute and worker; ours
#define PH_QUEUE_FAIL_BATCH 64     // recipients failed a turn; ours
#define PH_QUEUES_DUE_BATCH 1024   // recipients made ready a turn; ours
#define PH_QUEUE_FAIL_PAUSE_NS PH_NS_PER_MS
#define PH_QUEUE_RELEASE_BATCH 16    // released queues tried at once; ours
#define PH_QUEUE_RELEASE_PAUSE_MS 20 // then so long none: 800 a second and worker

static void on_retry(struct ph_timer *timer);
static struct ph_queue *find_or_create(struct ph_worker *worker, struct ph_str name,
                                       const struct ph_send_connector *connector,
                                       struct ph_str domain);
static struct ph_queue *route(struct ph_worker *worker, struct ph_str domain, uint64_t size,
                              bool apart, struct ph_reason *out_reason);
static void leave_site(struct ph_queue *queue);
static void destroy(struct ph_queue *queue);
static void fail_some(struct ph_queue *queue);

struct ph_queue *ph_queues_at(const struct ph_worker *worker, uint32_t index)
{
    PH_CHECK(index < worker->queue_table_len && worker->queue_table[index] != NULL);
    return worker->queue_table[index];
}

struct ph_queue *ph_queues_route(struct ph_worker *worker, struct ph_str domain, uint64_t size,
                                 struct ph_reason *out_reason)
{
    return route(worker, domain, size, false, out_reason);
}

struct ph_queue *ph_queues_route_apart(struct ph_worker *worker, struct ph_str domain,
                                       uint64_t size, struct ph_reason *out_reason)
{
    return route(worker, domain, size, true, out_reason);
}

static struct ph_queue *route(struct ph_worker *worker, struct ph_str domain, uint64_t size,
                              bool apart, struct ph_reason *out_reason)
{
    char name[PH_QUEUE_KEY_BYTES_MAX];
    const struct ph_send_connector *connector = NULL;

    switch (ph_router_route(worker->config, domain, size, &connector, out_reason)) {
    case PH_ROUTE_FOUND:
        break;
    case PH_ROUTE_UNREACHABLE:
        connector = NULL;
        break;
    case PH_ROUTE_REFUSED:
        return NULL;
    }
    if (connector == NULL || !apart) {
        return find_or_create(worker, connector != NULL ? connector->name : PH_STR_NONE, connector,
                              domain);
    }
    // No connector has such a name: the configuration refuses control characters.
    snprintf(name, sizeof(name), "%.*s\2", PH_STR_ARG(connector->name));
    return find_or_create(worker, ph_str_from(name), connector, domain);
}

struct ph_queue *ph_queues_unroutable(struct ph_worker *worker, struct ph_str domain,
                                      const struct ph_reason *reason)
{
    // No connector has such a name: the configuration refuses control characters.
    struct ph_queue *queue = find_or_create(worker, PH_STR("\1"), NULL, domain);

    queue->unroutable = true;
    queue->last_error = *reason;
    return queue;
}

struct ph_queue *ph_queues_route_or_refuse(struct ph_worker *worker, struct ph_str domain,
                                           uint64_t size)
{
    struct ph_reason reason;
    struct ph_queue *queue = ph_queues_route(worker, domain, size, &reason);

    return queue != NULL ? queue : ph_queues_unroutable(worker, domain, &reason);
}

struct ph_queue *ph_queues_current(struct ph_queue *queue, uint64_t size)
{
    return queue->obsolete ? ph_queues_route_or_refuse(queue->worker, queue->domain, size) : queue;
}

static uint32_t take_table_slot(struct ph_worker *worker)
{
    uint32_t index = worker->queue_table_free;

    while (index < worker->queue_table_len && worker->queue_table[index] != NULL) {
        index++;
    }
    if (index == worker->queue_table_len) {
        uint32_t grown = worker->queue_table_len == 0 ? 64 : worker->queue_table_len * 2;
        struct ph_queue **table = realloc(worker->queue_table, grown * sizeof(*table));

        PH_CHECK(table != NULL);
        memset(table + worker->queue_table_len, 0,
               (grown - worker->queue_table_len) * sizeof(*table));
        worker->queue_table = table;
        worker->queue_table_len = grown;
    }
    worker->queue_table_free = index + 1;
    return index;
}

static struct ph_queue *create(struct ph_worker *worker, const struct ph_send_connector *connector,
                               const char *key, size_t key_len, size_t domain_at)
{
    struct ph_queue *queue = ph_alloc(sizeof(*queue));

    queue->key = ph_alloc(key_len);
    memcpy(queue->key, key, key_len);
    queue->key_len = key_len;
    queue->worker = worker;
    queue->config = ph_config_retain(worker->config);
    queue->connector = connector;
    queue->domain = (struct ph_str){.data = queue->key + domain_at, .len = key_len - domain_at};
    if (connector != NULL) {
        queue->policy = ph_config_policy(queue->config, connector, queue->domain, false);
    } else {
        queue->last_error = ph_reason_make(PH_REASON_NO_CONNECTOR,
                                           "no enabled SendConnector has an address space for "
                                           "%.*s; add one, or AddressSpaces = {\"*\"}",
                                           PH_STR_ARG(queue->domain));
    }
    ph_ready_init(&queue->ready);
    ph_timer_init(&queue->retry_timer, on_retry, queue);
    queue->index = take_table_slot(worker);
    worker->queue_table[queue->index] = queue;
    queue->used_ms = ph_worker_now_ms(worker);
    HASH_ADD_KEYPTR(hh, worker->queues, queue->key, queue->key_len, queue);
    return queue;
}

static struct ph_queue *find_or_create(struct ph_worker *worker, struct ph_str name,
                                       const struct ph_send_connector *connector,
                                       struct ph_str domain)
{
    char key[PH_QUEUE_KEY_BYTES_MAX];
    size_t key_len = name.len + 1 + domain.len;
    struct ph_queue *queue;

    PH_CHECK(key_len <= sizeof(key));
    memcpy(key, name.data, name.len);
    key[name.len] = '\0';
    memcpy(key + name.len + 1, domain.data, domain.len);
    HASH_FIND(hh, worker->queues, key, key_len, queue);
    if (queue == NULL) {
        queue = create(worker, connector, key, key_len, name.len + 1);
    }
    queue->used_ms = ph_worker_now_ms(worker);
    return queue;
}

// Suspended as a whole: what comes to it waits until that is over.
bool ph_queues_held(const struct ph_queue *queue)
{
    return ph_holds_match(ph_engine_holds(queue->worker->engine), queue->domain,
                          queue->connector != NULL ? queue->connector->name : PH_STR_NONE);
}

void ph_queues_add(struct ph_queue *queue, uint32_t recipient)
{
    struct ph_store *store = &queue->worker->store;

    PH_CHECK(!queue->obsolete);
    if (ph_queues_held(queue)) {
        ph_queues_defer(queue, recipient, PH_NEVER);
        return;
    }
    ph_store_recipient(store, recipient)->queue = queue->index;
    PH_CHECK(ph_ready_push(&queue->ready, store, recipient));
    ph_queue_kick(queue);
}

void ph_queues_untake(struct ph_queue *queue, uint32_t recipient)
{
    struct ph_store *store = &queue->worker->store;

    PH_CHECK(!queue->obsolete);
    if (ph_queues_held(queue)) {
        ph_queues_defer(queue, recipient, PH_NEVER);
        return;
    }
    ph_store_recipient(store, recipient)->queue = queue->index;
    PH_CHECK(ph_ready_push_front(&queue->ready, store, recipient));
    ph_queue_kick(queue);
}

void ph_queues_defer(struct ph_queue *queue, uint32_t recipient, uint64_t due_ms)
{
    struct ph_store *store = &queue->worker->store;

    PH_CHECK(!queue->obsolete);
    ph_store_recipient(store, recipient)->queue = queue->index;
    PH_CHECK(ph_store_defer(store, recipient, due_ms));
    queue->deferred_count++;
}

void ph_queues_remove(struct ph_worker *worker, uint32_t recipient)
{
    struct ph_recipient *r = ph_store_recipient(&worker->store, recipient);
    struct ph_queue *queue = ph_queues_at(worker, r->queue);

    if (r->place == PH_PLACE_READY) {
        ph_ready_remove(&queue->ready, &worker->store, recipient);
    } else if (r->place == PH_PLACE_DEFERRED) {
        ph_store_undefer(&worker->store, recipient);
        queue->deferred_count--;
    }
}

bool ph_queues_wake_due(struct ph_worker *worker)
{
    uint64_t now_ms = ph_worker_now_ms(worker);

    for (unsigned i = 0; i < PH_QUEUES_DUE_BATCH; i++) {
        uint32_t recipient = ph_store_take_due(&worker->store, now_ms);
        struct ph_queue *queue;

        if (recipient == PH_INDEX_NONE) {
            return false;
        }
        queue = ph_queues_at(worker, ph_store_recipient(&worker->store, recipient)->queue);
        queue->deferred_count--;
        ph_queues_add(queue, recipient);
    }
    return true;
}

static void activate(struct ph_queue *queue)
{
    if (!queue->active && queue->ready.count > 0) {
        ph_site_activate(queue->site, queue);
    }
    if (queue->ready.count > 0) {
        ph_site_mark(queue->site);
    }
}

void ph_queue_kick(struct ph_queue *queue)
{
    if (queue->unroutable && !queue->obsolete) {
        struct ph_reason reason = queue->last_error;

        ph_queue_fail_all(queue, &reason);
        return;
    }
    if (queue->connector == NULL || queue->obsolete || queue->worker->stopping) {
        return;
    }
    queue->used_ms = ph_worker_now_ms(queue->worker);
    if (queue->failing) {
        fail_some(queue);
        return;
    }
    if (queue->state == PH_QUEUE_ROUTED && queue->used_ms >= queue->routed_until_ms) {
        queue->state = PH_QUEUE_RESOLVING; // first: what leaves the site comes back here
        leave_site(queue);
        ph_queue_resolve(queue);
        return;
    }
    switch (queue->state) {
    case PH_QUEUE_NEW:
        queue->state = PH_QUEUE_RESOLVING;
        ph_queue_resolve(queue);
        break;
    case PH_QUEUE_ROUTED:
        activate(queue);
        break;
    case PH_QUEUE_RESOLVING:
    case PH_QUEUE_RETRY:
        break;
    }
}

void ph_queue_routed(struct ph_queue *queue, struct ph_site_spec *take_spec, uint64_t valid_ms)
{
    struct ph_site *site = ph_site_find_or_create(queue->worker, take_spec);

    PH_CHECK(queue->state == PH_QUEUE_RESOLVING);
    ph_site_spec_release(take_spec);
    if (site == NULL) {
        struct ph_reason reason =
            ph_reason_make(PH_REASON_LOCAL_RESOURCES, "no memory for one more destination");

        ph_queue_backoff(queue, &reason);
        return;
    }
    queue->site = site;
    site->queue_count++;
    queue->routed_until_ms = ph_worker_now_ms(queue->worker) + (queue->look_again ? 0 : valid_ms);
    queue->look_again = false;
    queue->state = PH_QUEUE_ROUTED;
    activate(queue);
}

static void leave_site(struct ph_queue *queue)
{
    struct ph_site *site = queue->site;
    struct ph_dispatch *dispatch;
    struct ph_dispatch *next;

    if (site == NULL) {
        return;
    }
    if (queue->active) {
        ph_site_deactivate(site, queue);
    }
    queue->site = NULL;
    site->queue_count--;
    // What was prepared of it goes back: it would only be refused again.
    for (dispatch = TAILQ_FIRST(&site->prepared); dispatch != NULL; dispatch = next) {
        next = TAILQ_NEXT(dispatch, link);
        if (dispatch->queue == queue && dispatch->origin == queue->worker->index) {
            ph_site_return(site, dispatch);
        }
    }
}

static void hold_at(struct ph_queue *queue, struct ph_site_spec *spec)
{
    if (spec != NULL) {
        ph_site_spec_retain(spec);
    }
    ph_site_spec_release(queue->held_at);
    queue->held_at = spec;
}

// The first refusal is told of at once, not when the notification of a delay goes out: somebody can
// still ask the partner. Some a minute, when a whole provider fails.
static void tell_held(struct ph_queue *queue)
{
    struct ph_worker *worker = queue->worker;
    uint64_t now_ms = ph_worker_now_ms(worker);
    char text[PH_REASON_SENTENCE_MAX + 512];

    if (now_ms >= worker->held_told_ms + 60000) {
        worker->held_told_ms = now_ms;
        worker->held_told = 0;
    }
    if (worker->held_told < PH_QUEUES_HELD_TOLD_MAX) {
        worker->held_told++;
        snprintf(text, sizeof(text), "mail for %.*s is held: %s: %s", PH_STR_ARG(queue->domain),
                 ph_reason_token(queue->last_error.kind), queue->last_error.sentence);
        ph_engine_report_notice(worker->engine, ph_str_from(text));
    }
}

void ph_queue_backoff(struct ph_queue *queue, const struct ph_reason *reason)
{
    struct ph_worker *worker = queue->worker;
    struct ph_retry_intervals intervals = ph_worker_retry_intervals(&queue->config->retry);
    uint64_t delay_ms;

    if (queue->obsolete || queue->state == PH_QUEUE_RETRY) {
        return; // a session that was begun before tells the same once more
    }
    // A refusal may come while the route is asked for anew: the answer is for the next try to ask.
    ph_queue_abandon_lookup(queue);
    queue->state = PH_QUEUE_RETRY;
    queue->failure_count++;
    queue->last_error = *reason;
    queue->last_retry_ms = ph_worker_now_ms(worker);
    queue->lists = (struct ph_crls_asked){0};
    if (queue->failure_count == 1 && ph_reason_is_tls(reason->kind)) {
        tell_held(queue);
    }
    delay_ms = queue->connector->retry_tls_count > 0 && ph_reason_is_tls(reason->kind)
                   ? ph_retry_own_delay_ms(queue->connector->retry_tls_ms,
                                           queue->connector->retry_tls_count, queue->failure_count,
                                           ph_worker_random(worker))
                   : ph_retry_delay_ms(&intervals, PH_RETRY_TLS, queue->failure_count,
                                       ph_worker_random(worker));
    queue->next_retry_ms = queue->last_retry_ms + delay_ms;
    ph_wheel_set(&worker->wheel, &queue->retry_timer, worker->io->now_ns + delay_ms * PH_NS_PER_MS);
    hold_at(queue, queue->site != NULL ? queue->site->spec : NULL);
    leave_site(queue);
}

static void on_retry(struct ph_timer *timer)
{
    struct ph_queue *queue = timer->owner;

    if (queue->failing) {
        fail_some(queue);
    } else {
        ph_queue_retry_now(queue);
    }
}

bool ph_queue_tls_held(const struct ph_queue *queue)
{
    return queue->state == PH_QUEUE_RETRY && ph_reason_is_tls(queue->last_error.kind);
}

void ph_queue_retry_now(struct ph_queue *queue)
{
    ph_wheel_cancel(&queue->worker->wheel, &queue->retry_timer);
    hold_at(queue, NULL);
    if (queue->state == PH_QUEUE_RETRY) {
        queue->state = PH_QUEUE_NEW;
        if (queue->ready.count > 0) {
            ph_queue_kick(queue);
        }
    } else if (queue->site != NULL) {
        ph_site_retry(queue->site);
    }
}

void ph_queue_release(struct ph_queue *queue, unsigned nth)
{
    struct ph_worker *worker = queue->worker;
    uint64_t delay_ms = 1 + nth / PH_QUEUE_RELEASE_BATCH * PH_QUEUE_RELEASE_PAUSE_MS;
    uint64_t at_ms = ph_worker_now_ms(worker) + delay_ms;

    if (queue->state == PH_QUEUE_RETRY && !queue->failing && at_ms < queue->next_retry_ms) {
        queue->next_retry_ms = at_ms;
        ph_wheel_set(&worker->wheel, &queue->retry_timer,
                     worker->io->now_ns + delay_ms * PH_NS_PER_MS);
    }
}

void ph_queue_await_lists(struct ph_queue *queue, const struct ph_crls_asked *lists)
{
    const struct ph_crls *crls = ph_tls_context_crls(queue->worker->tls);

    if (lists->issuers.count == 0 || queue->state != PH_QUEUE_RETRY) {
        return;
    }
    if (ph_crls_changed_since(crls, lists)) {
        // Judged elsewhere, or before: the change it would wait for has come already.
        ph_queue_release(queue, 0);
    } else {
        ph_crls_ask(&queue->lists, crls, &lists->issuers);
    }
}

unsigned ph_queues_release_by_lists(struct ph_worker *worker)
{
    const struct ph_crls *crls = ph_tls_context_crls(worker->tls);
    struct ph_queue *queue;
    struct ph_queue *next;
    unsigned count = 0;

    HASH_ITER(hh, worker->queues, queue, next)
    {
        if (queue->state == PH_QUEUE_RETRY && ph_crls_changed_since(crls, &queue->lists)) {
            ph_queue_release(queue, count++);
        }
    }
    return count;
}

void ph_queue_succeeded(struct ph_queue *queue)
{
    queue->failure_count = 0;
    queue->last_error = (struct ph_reason){0};
}

void ph_queue_fail_all(struct ph_queue *queue, const struct ph_reason *reason)
{
    queue->last_error = *reason;
    queue->failing = true;
    queue->state = PH_QUEUE_RETRY;
    leave_site(queue);
    fail_some(queue);
}

// Some each turn: a queue may hold a million.
static void fail_some(struct ph_queue *queue)
{
    struct ph_worker *worker = queue->worker;
    struct ph_reason reason = queue->last_error;

    if (ph_timer_armed(&queue->retry_timer)) {
        return;
    }
    if (worker->opening) {
        // Found by recovery: its message is read, and its end recorded, when the log is open.
        ph_wheel_set(&worker->wheel, &queue->retry_timer, worker->io->now_ns);
        return;
    }
    for (unsigned i = 0; i < PH_QUEUE_FAIL_BATCH && queue->ready.count > 0; i++) {
        uint32_t recipient = ph_ready_take(&queue->ready, &worker->store);

        if (recipient != PH_INDEX_NONE) {
            ph_delivery_fail(worker, recipient, PH_QUEUED_FAILED, &reason);
        }
    }
    if (queue->ready.count > 0) {
        ph_wheel_set(&worker->wheel, &queue->retry_timer,
                     worker->io->now_ns + PH_QUEUE_FAIL_PAUSE_NS);
    } else {
        // Asked anew when more comes: the domain may have got a mail host by then.
        queue->failing = false;
        queue->state = PH_QUEUE_NEW;
        if (!queue->unroutable) {
            queue->last_error = (struct ph_reason){0};
        }
    }
}

void ph_queue_dispatch_over(struct ph_queue *queue)
{
    PH_CHECK(queue->dispatch_count > 0);
    queue->dispatch_count--;
    if (queue->obsolete && queue->dispatch_count == 0) {
        destroy(queue);
    }
}

static void destroy(struct ph_queue *queue)
{
    struct ph_worker *worker = queue->worker;

    PH_CHECK(queue->dispatch_count == 0);
    leave_site(queue);
    ph_queue_abandon_lookup(queue);
    ph_wheel_cancel(&worker->wheel, &queue->retry_timer);
    if (!queue->obsolete) {
        HASH_DEL(worker->queues, queue);
    }
    worker->queue_table[queue->index] = NULL;
    if (queue->index < worker->queue_table_free) {
        worker->queue_table_free = queue->index;
    }
    hold_at(queue, NULL);
    ph_sts_policy_release(queue->sts);
    ph_hops_release(queue->hops);
    ph_ready_deinit(&queue->ready);
    ph_config_release(queue->config);
    free(queue->key);
    free(queue);
}

// Where a recipient of a queue that is obsolete belongs now. Millions of them belong to few queues:
// where the size decides nothing it is found out once for each.
static struct ph_queue *successor(struct ph_worker *worker, struct ph_queue *old, uint64_t size,
                                  uint64_t small)
{
    struct ph_queue *queue = size <= small ? old->successor : NULL;

    if (queue == NULL) {
        queue = ph_queues_route_or_refuse(worker, old->domain, size);
        old->successor = size <= small ? queue : old->successor;
    }
    return queue;
}

static void reroute_recipient(struct ph_worker *worker, struct ph_queue *old, uint32_t recipient,
                              uint64_t small)
{
    struct ph_recipient *r = ph_store_recipient(&worker->store, recipient);
    const struct ph_message *message = ph_store_message(&worker->store, r->message);
    struct ph_queue *queue = successor(worker, old, message->size, small);

    if (r->place == PH_PLACE_DEFERRED) { // it stays where it is in the heap
        PH_CHECK(!queue->obsolete);
        old->deferred_count--;
        r->queue = queue->index;
        queue->deferred_count++;
    } else {
        ph_queues_remove(worker, recipient);
        ph_queues_add(queue, recipient);
    }
}

void ph_queues_reroute(struct ph_worker *worker)
{
    uint32_t table_len = worker->queue_table_len;
    uint64_t small = ph_router_small_size(worker->config);
    struct ph_queue *queue;
    struct ph_queue *next;

    HASH_ITER(hh, worker->queues, queue, next)
    {
        HASH_DEL(worker->queues, queue);
        queue->obsolete = true;
        ph_wheel_cancel(&worker->wheel, &queue->retry_timer);
        ph_queue_abandon_lookup(queue);
        queue->dispatch_count++; // held: what leaves the site may be its last
        leave_site(queue);
        queue->dispatch_count--;
    }
    for (uint32_t i = 0; i < worker->store.recipient_used; i++) {
        const struct ph_recipient *r = ph_store_recipient(&worker->store, i);

        if (r->place == PH_PLACE_READY || r->place == PH_PLACE_DEFERRED) {
            struct ph_queue *old = ph_queues_at(worker, r->queue);

            if (old->obsolete) {
                reroute_recipient(worker, old, i, small);
            }
        }
    }
    for (uint32_t i = 0; i < table_len; i++) {
        queue = worker->queue_table[i];
        if (queue != NULL && queue->obsolete && queue->dispatch_count == 0) {
            destroy(queue);
        }
    }
}

void ph_queues_look_again(struct ph_worker *worker, struct ph_str domain)
{
    struct ph_queue *queue;
    struct ph_queue *next;

    HASH_ITER(hh, worker->queues, queue, next)
    {
        if (queue->connector != NULL && ph_queue_goes_by(queue, domain)) {
            queue->routed_until_ms = 0;
            queue->look_again = queue->state == PH_QUEUE_RESOLVING;
            ph_queue_retry_now(queue);
            if (queue->ready.count > 0) {
                ph_queue_kick(queue);
            }
        }
    }
}

void ph_queues_sweep(struct ph_worker *worker, uint64_t idle_ms)
{
    uint64_t now_ms = ph_worker_now_ms(worker);
    struct ph_queue *queue;
    struct ph_queue *next;

    HASH_ITER(hh, worker->queues, queue, next)
    {
        if (queue->ready.count == 0 && queue->deferred_count == 0 && queue->dispatch_count == 0 &&
            queue->lookup == NULL && now_ms - queue->used_ms >= idle_ms) {
            destroy(queue);
        }
    }
}

void ph_queues_destroy_all(struct ph_worker *worker)
{
    struct ph_queue *queue;
    struct ph_queue *next;

    HASH_ITER(hh, worker->queues, queue, next)
    {
        destroy(queue);
    }
    free(worker->queue_table);
    worker->queue_table = NULL;
    worker->queue_table_len = 0;
}
