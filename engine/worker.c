// One thread, one ring, one loop.
#include "engine/worker.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "engine/connection.h"
#include "engine/delivery.h"
#include "engine/delivery_log.h"
#include "engine/home_site.h"
#include "engine/survey.h"
#include "engine/revocation.h"
#include "engine/router.h"
#include "engine/tlsrpt_send.h"
#include "engine/worker_ingest.h"
#include "tls/verify.h"

#define PH_WORKER_SWEEP_NS (60 * 1000 * PH_NS_PER_MS) // expiry, delays, what is idle; ours
#define PH_WORKER_SWEEP_MIN_NS (250 * PH_NS_PER_MS)   // where times are short: laboratories
#define PH_WORKER_SWEEP_PART 20
#define PH_WORKER_SWEEP_MORE_NS (10 * PH_NS_PER_MS) // while a sweep isn't through
#define PH_WORKER_IDLE_MS (10 * 60 * 1000)          // queues and sites unused so long go; ours
#define PH_WORKER_STOP_POLL_NS (50 * PH_NS_PER_MS)  // while coming to rest
#define PH_WORKER_CHAIN_CACHE_MAX 4096              // verdicts; ours

static void take_mail(struct ph_worker *worker);
static bool serve_sites(struct ph_worker *worker);
static void on_sweep(struct ph_timer *timer);
static void come_to_rest(struct ph_worker *worker);
static void publish(struct ph_worker *worker);

uint64_t ph_worker_turn(struct ph_worker *worker)
{
    struct ph_io *io = worker->io;
    uint64_t deadline_ns;
    uint64_t other_ns;
    bool more;

    ph_io_run_ready(io);
    ph_wheel_advance(&worker->wheel, io->now_ns);
    take_mail(worker);
    more = ph_queues_wake_due(worker);
    more |= serve_sites(worker);
    if (worker->stopping) {
        come_to_rest(worker);
    }
    deadline_ns = ph_spool_flush(worker->spool, io->now_ns);
    for (size_t i = 0; i < worker->adopted_count; i++) {
        other_ns = ph_spool_flush(worker->adopted[i], io->now_ns);
        deadline_ns = other_ns < deadline_ns ? other_ns : deadline_ns;
    }
    publish(worker);
    if (more || ph_io_has_ready(io)) {
        return 0;
    }
    other_ns = ph_wheel_next_ns(&worker->wheel);
    deadline_ns = other_ns < deadline_ns ? other_ns : deadline_ns;
    other_ns = ph_store_next_due_ms(&worker->store);
    if (other_ns != PH_NEVER && !worker->stopping) {
        // From the schedule's clock to the loop's.
        other_ns = other_ns > worker->clock_offset_ms
                       ? (other_ns - worker->clock_offset_ms) * PH_NS_PER_MS
                       : 0;
        deadline_ns = other_ns < deadline_ns ? other_ns : deadline_ns;
    }
    return deadline_ns;
}

static void take_mail(struct ph_worker *worker)
{
    struct ph_mail *mail = ph_mailbox_take(&worker->mailbox);

    while (mail != NULL) {
        struct ph_mail *next = mail->next;

        switch (mail->kind) {
        case PH_MAIL_SOCKET:
            ph_worker_ingest_receive(worker, mail);
            break;
        case PH_MAIL_SITE:
            ph_home_site_receive(worker, (struct ph_mail_site *)mail);
            break;
        case PH_MAIL_DISPATCH:
            ph_delivery_receive(worker, PH_CONTAINER_OF(mail, struct ph_dispatch, mail));
            break;
        case PH_MAIL_DISPATCH_RESULT:
            ph_delivery_conclude(worker, PH_CONTAINER_OF(mail, struct ph_dispatch, mail));
            break;
        case PH_MAIL_CALL: {
            struct ph_mail_call *call = PH_CONTAINER_OF(mail, struct ph_mail_call, mail);

            call->call(worker, call);
            break;
        }
        }
        mail = next;
    }
}

// Each site that changed, once; what changes meanwhile waits for the next turn. True: some do.
static bool serve_sites(struct ph_worker *worker)
{
    struct ph_site *last = TAILQ_LAST(&worker->dirty_sites, ph_dirty_site_list);
    bool reached = last == NULL;

    while (!reached) {
        struct ph_site *site = TAILQ_FIRST(&worker->dirty_sites);

        reached = site == last;
        site->dirty = false;
        TAILQ_REMOVE(&worker->dirty_sites, site, dirty_link);
        ph_site_pump(site);
    }
    return !TAILQ_EMPTY(&worker->dirty_sites);
}

// Often enough that nothing outlives its time by much more than a twentieth of it.
static uint64_t sweep_rest_ns(const struct ph_worker *worker)
{
    const struct ph_retry_series *retry = &worker->config->retry;
    uint64_t shortest_ms = retry->expiration_ms;
    uint64_t rest_ns;

    if (retry->delay_notification_ms > 0 && retry->delay_notification_ms < shortest_ms) {
        shortest_ms = retry->delay_notification_ms;
    }
    rest_ns = shortest_ms * PH_NS_PER_MS / PH_WORKER_SWEEP_PART;
    return rest_ns < PH_WORKER_SWEEP_MIN_NS ? PH_WORKER_SWEEP_MIN_NS
           : rest_ns < PH_WORKER_SWEEP_NS   ? rest_ns
                                            : PH_WORKER_SWEEP_NS;
}

static void on_sweep(struct ph_timer *timer)
{
    struct ph_worker *worker = timer->owner;
    struct ph_site *site;
    struct ph_site *next;
    uint64_t now_ms = ph_worker_now_ms(worker);

    if (worker->stopping) {
        return;
    }
    ph_delivery_sweep(worker);
    if (worker->sweep_at == 0) {
        ph_queues_sweep(worker, PH_WORKER_IDLE_MS);
        ph_survey_rescue(worker);
        HASH_ITER(hh, worker->sites, site, next)
        {
            if (ph_site_idle(site) && now_ms - site->used_ms >= PH_WORKER_IDLE_MS) {
                ph_site_destroy(site);
            }
        }
        ph_home_sites_sweep(worker, PH_WORKER_IDLE_MS);
        if (worker->index == 0) {
            ph_sts_refresh_due(worker);
        }
    }
    ph_wheel_set(&worker->wheel, &worker->sweep_timer,
                 worker->io->now_ns +
                     (worker->sweep_at == 0 ? sweep_rest_ns(worker) : PH_WORKER_SWEEP_MORE_NS));
}

// --- clocks, chance, others ---

uint64_t ph_worker_now_ms(const struct ph_worker *worker)
{
    return worker->io->now_ns / PH_NS_PER_MS + worker->clock_offset_ms;
}

uint64_t ph_worker_wall_ms(const struct ph_worker *worker)
{
    return worker->io->wall_ms;
}

uint64_t ph_worker_random(struct ph_worker *worker)
{
    uint64_t random;

    ph_io_random(worker->io, &random, sizeof(random));
    return random;
}

uint64_t ph_worker_next_session_id(struct ph_worker *worker)
{
    return (uint64_t)worker->index << 48 | ++worker->session_count;
}

struct ph_worker *ph_worker_at(struct ph_worker *worker, uint16_t index)
{
    return ph_engine_worker(worker->engine, index);
}

bool ph_worker_connections_spent(const struct ph_worker *worker)
{
    uint64_t most = ph_engine_connections_max(worker->engine);
    uint64_t open = 0;

    for (uint16_t i = 0; i < ph_engine_worker_count(worker->engine); i++) {
        open += PH_COUNTER_READ(ph_engine_worker(worker->engine, i), connections_out);
    }
    return open >= worker->config->max_outbound_connections || open >= most;
}

struct ph_spool *ph_worker_spool_of(struct ph_worker *worker, uint64_t message_id)
{
    uint16_t log = PH_MESSAGE_ID_LOG(message_id);
    size_t step = ph_engine_worker_count(worker->engine);

    // Log n belongs to worker n, or where there are fewer, to n modulo their number.
    PH_CHECK(log % step == worker->index);
    return log == worker->index ? worker->spool : worker->adopted[log / step - 1];
}

struct ph_retry_intervals ph_worker_retry_intervals(const struct ph_retry_series *series)
{
    return (struct ph_retry_intervals){
        .glitch_count = series->glitch_count,
        .glitch_ms = series->glitch_ms,
        .transient_count = series->transient_count,
        .transient_ms = series->transient_ms,
        .later_ms = series->later_ms,
        .message_ms = series->message_ms,
        .exponential_first_ms = series->exponential_first_ms,
        .exponential_last_ms = series->exponential_last_ms,
    };
}

uint64_t ph_worker_retry_delay(struct ph_worker *worker, const struct ph_retry_series *series,
                               enum ph_retry_kind kind, uint32_t failure_count)
{
    struct ph_retry_intervals intervals = ph_worker_retry_intervals(series);

    return ph_retry_delay_ms(&intervals, kind, failure_count, ph_worker_random(worker));
}

// --- start ---

// One log's messages on their way from recovery into the store.
struct recovering {
    struct ph_worker *worker;
    uint64_t now_ms;
    uint64_t latest_ms;       // no wait is longer than the longest
    uint64_t small;           // contents up to this size are routed by their domain alone
    struct ph_queue **queues; // of small contents, by the domain's number
    uint32_t queue_count;
};

// Millions of messages have few domains: each is routed once.
static struct ph_queue *queue_of(struct recovering *recovering,
                                 const struct ph_spool_recovered_recipient *was, uint64_t size)
{
    uint32_t number = was->domain_number;

    if (size > recovering->small) {
        return ph_queues_route_or_refuse(recovering->worker, was->domain, size);
    }
    if (number >= recovering->queue_count) {
        uint32_t grown = number + 1 > 64 ? (number + 1) * 2 : 64;

        recovering->queues = reallocarray(recovering->queues, grown, sizeof(*recovering->queues));
        PH_CHECK(recovering->queues != NULL);
        memset(recovering->queues + recovering->queue_count, 0,
               (grown - recovering->queue_count) * sizeof(*recovering->queues));
        recovering->queue_count = grown;
    }
    if (recovering->queues[number] == NULL) {
        recovering->queues[number] =
            ph_queues_route_or_refuse(recovering->worker, was->domain, size);
    }
    return recovering->queues[number];
}

static void take_waiting(struct recovering *recovering, const struct ph_spool_recovered *found,
                         uint32_t which, uint32_t slot)
{
    const struct ph_spool_recovered_recipient *was = &found->recipients[which];
    struct ph_worker *worker = recovering->worker;
    struct ph_recipient *r = ph_store_recipient(&worker->store, slot);
    struct ph_queue *queue = queue_of(recovering, was, found->size);

    r->in_doubt = was->in_doubt;
    r->attempted = was->in_doubt; // the record that says so is still there
    if (was->due_ms > recovering->now_ms) {
        // The clock may have been set back since: no wait is longer than the longest. What is
        // suspended isn't a wait.
        bool cut = was->due_ms != PH_NEVER && was->due_ms > recovering->latest_ms;

        ph_queues_defer(queue, slot, cut ? recovering->latest_ms : was->due_ms);
    } else {
        ph_queues_add(queue, slot);
    }
    if (was->in_doubt) {
        ph_delivery_log_in_doubt(worker, found->id, which, was->address, was->domain);
        PH_COUNT(worker, queued_in_doubt, 1);
    }
}

static void take_recovered(struct recovering *recovering, const struct ph_spool_recovered *found,
                           uint32_t index)
{
    struct ph_worker *worker = recovering->worker;
    struct ph_message *m = ph_store_message(&worker->store, index);
    uint32_t slot = m->first_recipient;
    uint32_t live = 0;

    for (uint32_t i = 0; i < found->recipient_count; i++) {
        const struct ph_spool_recovered_recipient *was = &found->recipients[i];
        struct ph_recipient *r = ph_store_recipient(&worker->store, slot);
        uint32_t next = r->next_of_message;

        r->index = (uint16_t)i;
        r->attempts = was->attempts;
        r->last_kind = (uint8_t)was->kind;
        if (was->state != PH_QUEUED_WAITING) {
            r->place = PH_PLACE_DONE;
            m->open_count--;
        } else {
            live++;
            take_waiting(recovering, found, i, slot);
        }
        slot = next;
    }
    PH_COUNT(worker, recovered, live);
    PH_COUNT(worker, queued, live);
}

static void on_recovered(void *owner, const struct ph_spool_recovered *found)
{
    struct recovering *recovering = owner;
    struct ph_worker *worker = recovering->worker;
    uint32_t index = ph_store_add(&worker->store, found->recipient_count);
    struct ph_message *m;

    PH_CHECK(index != PH_INDEX_NONE); // what is owed must fit, or nothing can be promised
    m = ph_store_message(&worker->store, index);
    m->id = found->id;
    m->arrival_ms = found->arrival_ms;
    m->expiry_ms = found->expiry_ms;
    m->location = found->location;
    m->size = found->size;
    m->priority = found->priority & 3;
    m->delay_notified = found->delay_notified;
    m->flow = (uint32_t)ph_hash_str(found->sender, worker->hash_seed);
    take_recovered(recovering, found, index);
}

static int open_log(struct ph_worker *worker, uint16_t log, struct ph_spool **out,
                    struct ph_buf *error)
{
    struct ph_spool_recovery_report report = {0};
    struct ph_spool_options options = ph_engine_spool_options(worker->engine, worker->io, log);
    struct ph_retry_intervals intervals = ph_worker_retry_intervals(&worker->config->retry);
    uint64_t now_ms = ph_worker_now_ms(worker);
    struct recovering recovering = {
        .worker = worker,
        .now_ms = now_ms,
        .latest_ms = now_ms + ph_retry_longest_ms(&intervals),
        .small = ph_router_small_size(worker->config),
    };
    int result;

    options.adopted = log != worker->index;
    result = ph_spool_open(&options, on_recovered, &recovering, &report, out, error);
    free(recovering.queues);
    if (result == 0) {
        ph_engine_report_recovery(worker->engine, log, &report);
    }
    return result;
}

static uint64_t wall_seconds(void *owner)
{
    const struct ph_worker *worker = owner;

    return worker->io->wall_ms / 1000;
}

int ph_worker_open(struct ph_worker *worker, struct ph_buf *error)
{
    uint16_t workers = ph_engine_worker_count(worker->engine);
    uint16_t logs = ph_engine_log_count(worker->engine);
    int result;

    worker->clock_offset_ms = worker->io->wall_ms - worker->io->now_ns / PH_NS_PER_MS;
    worker->hash_seed = ph_worker_random(worker);
    ph_wheel_init(&worker->wheel, worker->io->now_ns);
    ph_store_init(&worker->store);
    TAILQ_INIT(&worker->dirty_sites);
    TAILQ_INIT(&worker->asks);
    TAILQ_INIT(&worker->revocation_waiting);
    worker->tls = ph_tls_context_create(&(struct ph_tls_context_options){
        .now_s = wall_seconds,
        .owner = worker,
        .chain_cache_max = ph_engine_caches_off(worker->engine) ? 0 : PH_WORKER_CHAIN_CACHE_MAX,
        .tickets = ph_engine_tickets(worker->engine),
    });
    ph_timer_init(&worker->sweep_timer, on_sweep, worker);
    ph_wheel_set(&worker->wheel, &worker->sweep_timer, worker->io->now_ns + sweep_rest_ns(worker));
    ph_compaction_start(worker);
    worker->opening = true;
    // The adopted ones first in the table, their own last to be opened: recovery routes through it.
    result = open_log(worker, worker->index, &worker->spool, error);
    worker->adopted = ph_alloc((size_t)(logs / workers + 1) * sizeof(struct ph_spool *));
    for (uint32_t log = (uint32_t)worker->index + workers; result == 0 && log < logs;
         log += workers) {
        result = open_log(worker, (uint16_t)log, &worker->adopted[worker->adopted_count], error);
        worker->adopted_count += result == 0;
    }
    worker->opening = false;
    if (result == 0 && worker->index == 0) {
        ph_revocation_open(worker);
        worker->tlsrpt = ph_tlsrpt_sender_create(worker);
    }
    if (result == 0) {
        result = ph_worker_ingest_open(worker, error);
    }
    publish(worker); // what is in doubt
    return result;
}

// --- a new configuration, and the end ---

void ph_worker_reconfigure(struct ph_worker *worker, struct ph_config *config)
{
    struct ph_config *old = worker->config;
    struct ph_site *site;
    struct ph_site *next_site;

    worker->config = ph_config_retain(config);
    ph_queues_reroute(worker);
    // Sessions under the old one finish what they have; new mail goes over new ones.
    HASH_ITER(hh, worker->sites, site, next_site)
    {
        struct ph_connection *c;
        struct ph_connection *next;

        for (c = TAILQ_FIRST(&site->connections); c != NULL; c = next) {
            next = ph_connection_next(c);
            ph_connection_retire(c);
        }
    }
    ph_worker_ingest_reconfigure(worker);
    ph_revocation_reconfigure(worker);
    ph_config_release(old);
}

void ph_worker_stop(struct ph_worker *worker)
{
    struct ph_site *site;
    struct ph_site *next_site;

    if (worker->stopping) {
        return;
    }
    worker->stopping = true;
    worker->stop_deadline_ms = ph_worker_now_ms(worker) + worker->config->shutdown_timeout_ms;
    ph_worker_ingest_stop(worker);
    ph_sts_ask_hurry_all(worker);
    ph_tlsrpt_sender_hurry(worker->tlsrpt);
    ph_revocation_stop(worker);
    HASH_ITER(hh, worker->sites, site, next_site)
    {
        struct ph_connection *c;
        struct ph_connection *next;

        ph_site_mark(site);
        for (c = TAILQ_FIRST(&site->connections); c != NULL; c = next) {
            next = ph_connection_next(c);
            ph_connection_retire(c);
        }
    }
}

// Looked at each turn while stopping: all is at rest, or the time for it is over.
static void come_to_rest(struct ph_worker *worker)
{
    bool late = ph_worker_now_ms(worker) >= worker->stop_deadline_ms;
    struct ph_site *site;
    struct ph_site *next_site;
    bool rest;

    if (late) {
        struct ph_reason reason = ph_reason_make(
            PH_REASON_SHUTDOWN, "posthaste was stopping and ShutdownTimeout was over");

        HASH_ITER(hh, worker->sites, site, next_site)
        {
            struct ph_connection *c;
            struct ph_connection *next;

            for (c = TAILQ_FIRST(&site->connections); c != NULL; c = next) {
                next = ph_connection_next(c);
                ph_connection_abort(c, &reason);
            }
        }
        ph_worker_ingest_abort(worker);
    }
    rest = PH_COUNTER_READ(worker, connections_out) == 0 && worker->storing_count == 0 &&
           worker->asking_count == 0 && worker->dispatch_count == 0 &&
           ph_worker_ingest_at_rest(worker) && ph_revocation_at_rest(worker);
    atomic_store(&worker->stopped, rest);
    // Also at rest: the others may still need this one, and all end together.
    ph_wheel_set(&worker->wheel, &worker->sweep_timer, worker->io->now_ns + PH_WORKER_STOP_POLL_NS);
}

// Fresh mail that was accepted for an attempt which never began: a restart must not doubt it.
static void void_attempts(struct ph_worker *worker)
{
    for (uint32_t i = 0; i < worker->store.message_used; i++) {
        const struct ph_message *m = ph_store_message(&worker->store, i);
        bool unattempted = m->open_count > 0;

        for (uint32_t slot = m->open_count > 0 ? m->first_recipient : PH_INDEX_NONE;
             slot != PH_INDEX_NONE;
             slot = ph_store_recipient(&worker->store, slot)->next_of_message) {
            const struct ph_recipient *r = ph_store_recipient(&worker->store, slot);

            unattempted &= r->attempted && r->attempts == 0 && !r->in_doubt;
        }
        if (unattempted) {
            ph_spool_unattempt(ph_worker_spool_of(worker, m->id), m->id);
        }
    }
}

// What came after the last turn: a grant given back, a question of an administrator's.
static void take_last_mail(struct ph_worker *worker)
{
    struct ph_mail *mail = ph_mailbox_take(&worker->mailbox);

    while (mail != NULL) {
        struct ph_mail *next = mail->next;

        if (mail->kind == PH_MAIL_SITE) {
            ph_home_site_discard((struct ph_mail_site *)mail);
        } else {
            struct ph_mail_call *call = PH_CONTAINER_OF(mail, struct ph_mail_call, mail);

            PH_CHECK(mail->kind == PH_MAIL_CALL);
            call->call(worker, call);
        }
        mail = next;
    }
}

void ph_worker_close(struct ph_worker *worker)
{
    struct ph_site *site;
    struct ph_site *next_site;

    take_last_mail(worker);
    ph_worker_ingest_close(worker);
    ph_tlsrpt_sender_destroy(worker->tlsrpt);
    worker->tlsrpt = NULL;
    if (worker->spool != NULL) {
        void_attempts(worker);
    }
    ph_queues_destroy_all(worker);
    HASH_ITER(hh, worker->sites, site, next_site)
    {
        ph_site_destroy(site);
    }
    ph_home_sites_destroy_all(worker);
    ph_revocation_close(worker);
    ph_peers_destroy_all(worker);
    ph_flights_destroy_all(worker);
    ph_store_drop_contents(&worker->store);
    for (size_t i = 0; i < worker->adopted_count; i++) {
        ph_spool_close(worker->adopted[i]);
        worker->adopted[i] = NULL;
    }
    worker->adopted_count = 0;
    free(worker->adopted);
    ph_spool_close(worker->spool);
    worker->spool = NULL;
    ph_store_deinit(&worker->store);
    ph_tls_context_destroy(worker->tls);
    publish(worker);
    ph_buf_deinit(&worker->content_spare);
    ph_buf_deinit(&worker->log);
    ph_config_release(worker->config);
}

static uint64_t segments_of_all(const struct ph_worker *worker, const struct ph_spool_stats *own)
{
    uint64_t segments = own->segments + own->segments_free;

    for (size_t i = 0; i < worker->adopted_count && worker->adopted[i] != NULL; i++) {
        struct ph_spool_stats stats = ph_spool_stats(worker->adopted[i]);

        segments += stats.segments + stats.segments_free;
    }
    return segments;
}

// Every recipient taken on is delivered, failed, expired, deleted, quarantined or still owed.
static void check_balance(struct ph_worker *worker)
{
    uint64_t taken = PH_COUNTER_READ(worker, accepted) + PH_COUNTER_READ(worker, dsn_created) +
                     PH_COUNTER_READ(worker, recovered);
    uint64_t told = PH_COUNTER_READ(worker, delivered) + PH_COUNTER_READ(worker, failed) +
                    PH_COUNTER_READ(worker, expired) + PH_COUNTER_READ(worker, deleted) +
                    PH_COUNTER_READ(worker, quarantined) + PH_COUNTER_READ(worker, queued);

    PH_DCHECK(taken == told);
    PH_COUNT_SET(worker, unbalanced, taken > told ? taken - told : told - taken);
}

// Log lines go to whoever writes them; counters that others keep are copied for the metrics.
static void publish(struct ph_worker *worker)
{
    if (worker->log.len > 0) {
        ph_engine_log_lines(worker->engine, worker->index, ph_buf_str(&worker->log));
        ph_buf_clear(&worker->log);
    }
    check_balance(worker);
    PH_COUNT_SET(worker, config_generation, worker->config->generation);
    if (worker->spool != NULL) {
        struct ph_spool_stats stats = ph_spool_stats(worker->spool);
        struct ph_verify_stats verified = ph_verify_stats(worker->tls);

        PH_COUNT_SET(worker, spool_groups, stats.groups);
        PH_COUNT_SET(worker, spool_group_messages, stats.group_messages);
        PH_COUNT_SET(worker, spool_health, stats.health);
        PH_COUNT_SET(worker, spool_full, stats.full);
        PH_COUNT_SET(worker, spool_poisoned, stats.poisoned);
        PH_COUNT_SET(worker, spool_segments, segments_of_all(worker, &stats));
        PH_COUNT_SET(worker, durable_writes, worker->io->stats.durable_writes);
        PH_COUNT_SET(worker, chains_verified, verified.full);
        PH_COUNT_SET(worker, chains_cached, verified.cached);
    }
}
