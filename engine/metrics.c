// Counters of all workers.
#include "engine/metrics.h"

#include "engine/worker.h"

#define SUM(engine, name, out)                                                                     \
    do {                                                                                           \
        for (uint16_t i_ = 0; i_ < ph_engine_worker_count(engine); i_++) {                         \
            (out) += PH_COUNTER_READ(ph_engine_worker(engine, i_), name);                          \
        }                                                                                          \
    } while (false)

static void put(struct ph_buf *out, const char *name, const char *type, const char *help,
                uint64_t value)
{
    ph_buf_printf(out, "# HELP posthaste_%s %s\n# TYPE posthaste_%s %s\nposthaste_%s %llu\n", name,
                  help, name, type, name, (unsigned long long)value);
}

static void head(struct ph_buf *out, const char *name, const char *type, const char *help)
{
    ph_buf_printf(out, "# HELP posthaste_%s %s\n# TYPE posthaste_%s %s\n", name, help, name, type);
}

static void put_kinds(struct ph_buf *out, const char *name, const char *type, const char *help,
                      const uint64_t values[PH_REASON_KIND_COUNT])
{
    head(out, name, type, help);
    for (size_t kind = 1; kind < PH_REASON_KIND_COUNT; kind++) {
        if (values[kind] > 0) {
            ph_buf_printf(out, "posthaste_%s{reason=\"%s\"} %llu\n", name,
                          ph_reason_token((enum ph_reason_kind)kind),
                          (unsigned long long)values[kind]);
        }
    }
}

static void put_reasons(struct ph_engine *engine, struct ph_buf *out)
{
    uint64_t refusals[PH_REASON_KIND_COUNT] = {0};
    uint64_t would_defer[PH_REASON_KIND_COUNT] = {0};

    for (size_t kind = 1; kind < PH_REASON_KIND_COUNT; kind++) {
        SUM(engine, refusals[kind], refusals[kind]);
        SUM(engine, would_defer[kind], would_defer[kind]);
    }
    put_kinds(out, "refusals_total", "counter", "deferrals and failures by reason", refusals);
    put_kinds(out, "would_defer_total", "counter",
              "messages that Mode = report let pass and the full setting would not", would_defer);
}

// By kind, each handshake in one of them.
static void put_handshakes(struct ph_engine *engine, struct ph_buf *out)
{
    uint64_t full = 0;
    uint64_t cached = 0;
    uint64_t resumed = 0;
    uint64_t failed = 0;

    SUM(engine, handshakes_chain_cached, cached);
    SUM(engine, handshakes_full, full);
    SUM(engine, handshakes_resumed, resumed);
    SUM(engine, handshakes_failed, failed);
    head(out, "handshakes_total", "counter", "TLS handshakes with next hops");
    ph_buf_printf(out,
                  "posthaste_handshakes_total{kind=\"full\"} %llu\n"
                  "posthaste_handshakes_total{kind=\"chain_cached\"} %llu\n"
                  "posthaste_handshakes_total{kind=\"resumed\"} %llu\n"
                  "posthaste_handshakes_total{kind=\"failed\"} %llu\n",
                  (unsigned long long)(full - cached), (unsigned long long)cached,
                  (unsigned long long)resumed, (unsigned long long)failed);
}

static void put_survey(const struct ph_survey *survey, struct ph_buf *out)
{
    uint64_t held = 0;

    for (size_t kind = 1; kind < PH_REASON_KIND_COUNT; kind++) {
        held += survey->tls_held[kind];
    }
    put(out, "messages_unscheduled", "gauge",
        "recipients without a next event (suspended and unreachable ones apart): must be 0",
        survey->unscheduled);
    put(out, "unreachable", "gauge", "recipients no connector is for", survey->unreachable);
    put(out, "tls_held", "gauge", "recipients held back by a TLS policy", held);
    put_kinds(out, "tls_held_by_reason", "gauge", "the same by reason", survey->tls_held);
    put(out, "peer_certificates_expiring", "gauge",
        "hosts whose proven certificate ends within 14 days", survey->peers_expiring);
    put(out, "queues", "gauge", "queues (next-hop domain and connector)", survey->queues);
    put(out, "queues_waiting", "gauge", "of them those that wait for their next retry",
        survey->retry_queues);
    put(out, "sites", "gauge", "destinations in use", survey->sites);
    put(out, "sites_resting", "gauge", "of them those that are being given a rest",
        survey->resting_sites);
}

// jemalloc's; absent where another allocator is linked (sanitizers, the tests).
int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
    __attribute__((weak));

static uint64_t allocator_says(const char *what)
{
    size_t bytes = 0;
    size_t len = sizeof(bytes);

    return mallctl(what, &bytes, &len, NULL, 0) == 0 ? bytes : 0;
}

static void put_memory(struct ph_buf *out)
{
    uint64_t epoch = 1; // its figures are those of the last epoch: a new one begins
    size_t len = sizeof(epoch);

    if (mallctl == NULL || mallctl("epoch", &epoch, &len, &epoch, sizeof(epoch)) != 0) {
        return;
    }
    put(out, "memory_allocated_bytes", "gauge", "heap memory in use",
        allocator_says("stats.allocated"));
    put(out, "memory_resident_bytes", "gauge", "heap memory held, with what is kept for later",
        allocator_says("stats.resident"));
}

static void put_seconds(struct ph_engine *engine, struct ph_buf *out)
{
    uint64_t verify_ns = 0;
    uint64_t generation = UINT64_MAX;

    SUM(engine, verify_cpu_ns, verify_ns);
    for (uint16_t i = 0; i < ph_engine_worker_count(engine); i++) {
        uint64_t here = PH_COUNTER_READ(ph_engine_worker(engine, i), config_generation);

        generation = here < generation ? here : generation;
    }
    head(out, "verify_cpu_seconds_total", "counter", "CPU time spent on certificate chains");
    ph_buf_printf(out, "posthaste_verify_cpu_seconds_total %.6f\n", (double)verify_ns / 1e9);
    put(out, "config_generation", "gauge", "configurations read so far that every worker goes by",
        generation);
}

static void put_sums(struct ph_engine *engine, struct ph_buf *out)
{
    uint64_t value;

#define PUT_COUNTER(name, help)                                                                    \
    value = 0;                                                                                     \
    SUM(engine, name, value);                                                                      \
    put(out, #name "_total", "counter", help, value);
#define PUT_GAUGE(name, help)                                                                      \
    value = 0;                                                                                     \
    SUM(engine, name, value);                                                                      \
    put(out, #name, "gauge", help, value);
    PH_COUNTERS(PUT_COUNTER)
    PUT_GAUGE(queued, "recipients in the queue")
    PUT_GAUGE(queued_in_doubt, "of them those whose next attempt may be a second delivery")
    PUT_GAUGE(connections_out, "sessions to next hops")
    PUT_GAUGE(connections_in, "sessions of clients")
    PUT_GAUGE(revocation_lists, "revocation lists at hand, fetched and of files")
    PUT_GAUGE(unbalanced, "recipients taken on of whom it isn't known what became: must be 0")
    PUT_GAUGE(spool_full, "logs that take no new mail for want of space (452)")
    PUT_GAUGE(spool_segments, "files of the spool's logs, in use and ready for it")
    PUT_COUNTER(spool_poisoned, "segments of the spool that failed")
    PUT_COUNTER(spool_groups, "commit groups written")
    PUT_COUNTER(spool_group_messages, "messages in them")
    PUT_COUNTER(durable_writes, "durable writes and syncs")
    PUT_COUNTER(chains_verified, "certificate chains verified in full")
    PUT_COUNTER(chains_cached, "certificate chains answered by the cache")
#undef PUT_GAUGE
#undef PUT_COUNTER
}

void ph_metrics_write(struct ph_engine *engine, const struct ph_survey *survey, struct ph_buf *out)
{
    put_sums(engine, out);
    put_handshakes(engine, out);
    put_survey(survey, out);
    put_reasons(engine, out);
    put_seconds(engine, out);
    put_memory(out);
}

bool ph_metrics_healthy(struct ph_engine *engine, struct ph_buf *out)
{
    static const char *const names[] = {[PH_SPOOL_HEALTHY] = "ok",
                                        [PH_SPOOL_DEGRADED] = "degraded: a spool segment failed",
                                        [PH_SPOOL_STOPPED] = "stopped: the spool can't be written"};
    uint64_t worst = PH_SPOOL_HEALTHY;

    for (uint16_t i = 0; i < ph_engine_worker_count(engine); i++) {
        uint64_t health = PH_COUNTER_READ(ph_engine_worker(engine, i), spool_health);

        worst = health > worst ? health : worst;
    }
    ph_buf_printf(out, "%s\n", names[worst]);
    return worst != PH_SPOOL_STOPPED;
}
