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

static void put_reasons(struct ph_engine *engine, struct ph_buf *out)
{
    ph_buf_append(out, PH_STR("# HELP posthaste_refusals_total deferrals and failures by reason\n"
                              "# TYPE posthaste_refusals_total counter\n"));
    for (size_t kind = 1; kind < PH_REASON_KIND_COUNT; kind++) {
        uint64_t value = 0;

        SUM(engine, refusals[kind], value);
        if (value > 0) {
            ph_buf_printf(out, "posthaste_refusals_total{reason=\"%s\"} %llu\n",
                          ph_reason_token((enum ph_reason_kind)kind), (unsigned long long)value);
        }
    }
}

void ph_metrics_write(struct ph_engine *engine, struct ph_buf *out)
{
    uint64_t value;

#define PUT_COUNTER(name, help)                                                                    \
    value = 0;                                                                                     \
    SUM(engine, name, value);                                                                      \
    put(out, #name "_total", "counter", help, value);
    PH_COUNTERS(PUT_COUNTER)
#undef PUT_COUNTER
#define PUT_GAUGE(name, type, help)                                                                \
    value = 0;                                                                                     \
    SUM(engine, name, value);                                                                      \
    put(out, #name, type, help, value);
    PUT_GAUGE(queued, "gauge", "recipients in the queue")
    PUT_GAUGE(queued_in_doubt, "gauge", "of them those whose next attempt may be a second delivery")
    PUT_GAUGE(unscheduled, "gauge", "recipients without a next event: must be 0")
    PUT_GAUGE(tls_held, "gauge", "recipients held back by a TLS policy")
    PUT_GAUGE(connections_out, "gauge", "sessions to next hops")
    PUT_GAUGE(connections_in, "gauge", "sessions of clients")
#undef PUT_GAUGE
#define PUT_MORE(name, help)                                                                       \
    value = 0;                                                                                     \
    SUM(engine, name, value);                                                                      \
    put(out, #name "_total", "counter", help, value);
    PUT_MORE(spool_groups, "commit groups written")
    PUT_MORE(spool_group_messages, "messages in them")
    PUT_MORE(durable_writes, "durable writes and syncs")
    PUT_MORE(chains_verified, "certificate chains verified in full")
    PUT_MORE(chains_cached, "certificate chains answered by the cache")
#undef PUT_MORE
    put_reasons(engine, out);
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
