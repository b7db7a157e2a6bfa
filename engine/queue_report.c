// What a worker tells an administrator.
#include "engine/queue_report.h"

#include "base/date.h"
#include "engine/dialogue.h"
#include "engine/home_site.h"
#include "engine/worker.h"

#define PH_REPORT_QUEUES_MAX 10000 // told at a time; ours

bool ph_queue_report_kind(struct ph_str name, enum ph_queue_report_kind *out)
{
    static const char *const names[] = {"list", "show", "sites", "retry", "trace"};

    for (size_t i = 0; i < PH_ARRAY_LEN(names); i++) {
        if (ph_str_eq(name, ph_str_from(names[i]))) {
            *out = (enum ph_queue_report_kind)i;
            return true;
        }
    }
    return false;
}

static void put_reason(struct ph_json *json, const struct ph_reason *reason)
{
    char status[PH_STATUS_TEXT_MAX];

    if (reason->kind != PH_REASON_NONE) {
        ph_json_text(json, "reason", ph_reason_token(reason->kind));
        ph_json_text(json, "status", ph_status_format(reason->status, status));
        ph_json_text(json, "text", reason->sentence);
    }
}

static void put_time(struct ph_json *json, const char *key, uint64_t at_ms)
{
    char date[PH_DATE_TEXT_MAX];

    if (at_ms > 0) {
        ph_json_text(json, key, ph_date_format_iso(at_ms, date));
    }
}

static const char *state_of(const struct ph_queue *queue)
{
    const char *state = "ready";

    if (queue->connector == NULL) {
        state = "unreachable";
    } else if (queue->state == PH_QUEUE_RETRY) {
        state = ph_reason_is_tls(queue->last_error.kind) ? "tls-held" : "retry";
    } else if (queue->state == PH_QUEUE_RESOLVING) {
        state = "resolving";
    } else if (queue->site != NULL && ph_site_resting(queue->site)) {
        state = "retry";
    }
    return state;
}

// What holds it: who demands what.
static void put_demand(const struct ph_queue *queue, struct ph_json *json)
{
    const struct ph_tls_policy *policy = &queue->policy;

    ph_json_string(json, "rule", policy->source, 0);
    ph_json_text(json, "level",
                 policy->domain_secure ? "DomainSecure"
                                       : ph_tls_level_name(ph_tls_policy_level(policy)));
    ph_json_open_array(json, "names");
    for (size_t i = 0; i < policy->tls_domain_count; i++) {
        ph_json_string(json, NULL, policy->tls_domains[i], 0);
    }
    ph_json_close_array(json);
}

static void put_queue(const struct ph_queue *queue, struct ph_json *json)
{
    bool resting = queue->site != NULL && ph_site_resting(queue->site);

    ph_json_open_object(json, NULL);
    ph_json_string(json, "domain", queue->domain, 0);
    ph_json_string(json, "connector",
                   queue->connector != NULL ? queue->connector->name : PH_STR_NONE, 0);
    ph_json_u64(json, "worker", queue->worker->index);
    ph_json_text(json, "state", state_of(queue));
    ph_json_u64(json, "ready", queue->ready.count);
    ph_json_u64(json, "deferred", queue->deferred_count);
    ph_json_u64(json, "in_flight", queue->dispatch_count);
    if (queue->site != NULL) {
        ph_json_text(json, "site", queue->site->spec->best_host);
    }
    put_reason(json, resting ? &queue->site->last_error : &queue->last_error);
    if (ph_queue_tls_held(queue)) {
        put_demand(queue, json);
    }
    ph_json_u64(json, "retry_count", queue->failure_count);
    put_time(json, "last_retry", queue->last_retry_ms);
    put_time(json, "next_retry",
             resting                          ? ph_site_rests_until_ms(queue->site)
             : queue->state == PH_QUEUE_RETRY ? queue->next_retry_ms
                                              : 0);
    ph_json_close_object(json);
}

// Mail that a TLS policy holds back from a site is in no list of the site's: one look at all queues
// sums it up for all sites.
static void sum_held(struct ph_worker *worker)
{
    struct ph_queue *queue;
    struct ph_site *site;

    for (site = worker->sites; site != NULL; site = site->hh.next) {
        site->held = (struct ph_site_held){0};
    }
    for (queue = worker->queues; queue != NULL; queue = queue->hh.next) {
        if (!ph_queue_tls_held(queue) || queue->held_at == NULL) {
            continue;
        }
        HASH_FIND(hh, worker->sites, queue->held_at->key, PH_SITE_KEY_BYTES, site);
        if (site != NULL) {
            site->held.queues++;
            site->held.recipients += queue->ready.count + queue->deferred_count;
            if (site->held.queues == 1 || queue->next_retry_ms < site->held.next_retry_ms) {
                site->held.next_retry_ms = queue->next_retry_ms;
            }
        }
    }
}

static void put_held(const struct ph_site *site, struct ph_json *json)
{
    if (site->held.queues > 0) {
        ph_json_open_object(json, "tls_held");
        ph_json_u64(json, "recipients", site->held.recipients);
        ph_json_u64(json, "queues", site->held.queues);
        put_time(json, "next_retry", site->held.next_retry_ms);
        ph_json_close_object(json);
    }
}

static void put_limits(const struct ph_site_spec *spec, struct ph_json *json)
{
    struct ph_str source;

    (void)ph_config_limits(spec->config, spec->connector, ph_str_from(spec->best_host), &source);
    ph_json_open_object(json, "limits");
    ph_json_u64(json, "connections", spec->limits.max_connections);
    ph_json_u64(json, "messages_per_connection", spec->limits.max_messages_per_connection);
    ph_json_u64(json, "recipients_per_transaction", spec->limits.max_recipients_per_transaction);
    ph_json_u64(json, "pipeline_depth", spec->limits.pipeline_depth);
    ph_json_string(json, "source", source, 0);
    ph_json_close_object(json);
}

static void put_site(const struct ph_site *site, struct ph_json *json)
{
    const struct ph_site_account *account = ph_home_site_account(site->worker, site->key);

    ph_json_open_object(json, NULL);
    ph_json_text(json, "site", site->spec->best_host);
    ph_json_u64(json, "worker", site->worker->index);
    ph_json_u64(json, "home", site->spec->home);
    ph_json_text(json, "state", ph_site_resting(site) ? "retry" : "active");
    ph_json_u64(json, "queues", site->queue_count);
    ph_json_u64(json, "prepared", site->prepared_count);
    ph_json_u64(json, "sessions", site->connection_count);
    ph_json_u64(json, "opening", site->opening_count);
    ph_json_u64(json, "max_connections", site->spec->limits.max_connections);
    if (account != NULL) {
        ph_json_u64(json, "sessions_all_workers", account->open);
        ph_json_u64(json, "window", account->window);
    }
    ph_json_u64(json, "delivered", site->delivered_count);
    put_limits(site->spec, json);
    put_held(site, json);
    put_time(json, "cert_not_after",
             (uint64_t)ph_peers_not_after_s(site->worker, site->spec->best_host) * 1000);
    put_reason(json, &site->last_error);
    put_time(json, "next_retry", ph_site_resting(site) ? ph_site_rests_until_ms(site) : 0);
    ph_json_close_object(json);
}

static void put_message(struct ph_worker *worker, uint64_t id, struct ph_json *json)
{
    static const char *const places[] = {"free",      "ready",    "deferred",
                                         "in flight", "arriving", "done"};

    for (uint32_t i = 0; i < worker->store.message_used; i++) {
        const struct ph_message *m = ph_store_message(&worker->store, i);
        char text[PH_MESSAGE_ID_TEXT_MAX];

        if (m->open_count == 0 || m->id != id) {
            continue;
        }
        ph_json_open_object(json, NULL);
        ph_json_text(json, "id", ph_message_id_format(m->id, text));
        ph_json_u64(json, "size", m->size);
        put_time(json, "arrival", m->arrival_ms);
        put_time(json, "expiry", m->expiry_ms);
        ph_json_open_array(json, "recipients");
        for (uint32_t slot = m->first_recipient; slot != PH_INDEX_NONE;
             slot = ph_store_recipient(&worker->store, slot)->next_of_message) {
            const struct ph_recipient *r = ph_store_recipient(&worker->store, slot);
            uint64_t due_ms = ph_store_due_ms(&worker->store, r);

            ph_json_open_object(json, NULL);
            ph_json_u64(json, "index", r->index);
            ph_json_text(json, "state", due_ms == PH_NEVER ? "suspended" : places[r->place]);
            ph_json_u64(json, "attempts", r->attempts);
            ph_json_bool(json, "in_doubt", r->in_doubt);
            ph_json_text(json, "last_reason", ph_reason_token((enum ph_reason_kind)r->last_kind));
            if (due_ms > 0 && due_ms != PH_NEVER) {
                put_time(json, "due", due_ms);
            }
            if (r->place != PH_PLACE_DONE && r->queue != PH_INDEX_NONE) {
                ph_json_open_array(json, "queue");
                put_queue(ph_queues_at(worker, r->queue), json);
                ph_json_close_array(json);
            }
            ph_json_close_object(json);
        }
        ph_json_close_array(json);
        ph_json_close_object(json);
    }
}

static void retry(struct ph_worker *worker, struct ph_str domain, struct ph_json *json)
{
    struct ph_queue *queue;
    struct ph_queue *next;

    HASH_ITER(hh, worker->queues, queue, next)
    {
        if (ph_str_eq(domain, PH_STR("*")) || ph_str_eq_nocase(domain, queue->domain)) {
            ph_json_string(json, NULL, queue->domain, 0);
            ph_queue_retry_now(queue);
        }
    }
}

void ph_queue_report_answer(struct ph_worker *worker, void *argument)
{
    struct ph_queue_report *report = argument;
    unsigned told = 0;
    uint64_t id;

    switch (report->kind) {
    case PH_QUEUE_REPORT_LIST: {
        struct ph_queue *queue;
        struct ph_queue *next;

        HASH_ITER(hh, worker->queues, queue, next)
        {
            if (told++ < PH_REPORT_QUEUES_MAX) {
                put_queue(queue, report->json);
            }
        }
        break;
    }
    case PH_QUEUE_REPORT_SITES: {
        struct ph_site *site;
        struct ph_site *next;

        sum_held(worker);
        HASH_ITER(hh, worker->sites, site, next)
        {
            if (told++ < PH_REPORT_QUEUES_MAX) {
                put_site(site, report->json);
            }
        }
        break;
    }
    case PH_QUEUE_REPORT_SHOW:
        if (ph_message_id_parse(report->argument, &id)) {
            put_message(worker, id, report->json);
        }
        break;
    case PH_QUEUE_REPORT_RETRY:
        retry(worker, report->argument, report->json);
        break;
    case PH_QUEUE_REPORT_TRACE:
        ph_dialogue_tell(worker, report->argument, report->json);
        break;
    }
}
