// One history, from the first start to the last proof.
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "dns/local.h"
#include "engine/engine.h"
#include "engine/worker.h"
#include "tests/sim/disk.h"
#include "tests/sim/network.h"
#include "tests/sim/scene.h"
#include "tests/sim/sim.h"

#define SIM_MINUTE_NS (60 * 1000 * PH_NS_PER_MS)
#define SIM_CHAOS_MIN_NS (5 * SIM_MINUTE_NS)
#define SIM_CHAOS_MAX_NS (6 * 60 * SIM_MINUTE_NS) // by then clients should have had enough
#define SIM_DRAIN_NS_MAX (3 * 60 * SIM_MINUTE_NS) // and from then on the queue must be empty
#define SIM_DOWN_NS_MAX (5 * 1000 * PH_NS_PER_MS) // from an end to the next start
#define SIM_STARTS_MAX 20                         // that fail, until somebody mends the disk
#define SIM_LOOK_NS (5 * 1000 * PH_NS_PER_MS)     // how often the end of a phase is looked for

// --- the history's own record ---

void sim_fail(struct sim *sim, const char *format, ...)
{
    va_list arguments;

    if (sim->failure[0] == '\0') {
        va_start(arguments, format);
        vsnprintf(sim->failure, sizeof(sim->failure), format, arguments);
        va_end(arguments);
    }
}

void sim_trace(struct sim *sim, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t step[] = {sim->clock.now_ns, a, b, c};

    sim->trace_hash = ph_hash_str(ph_str_from(what), sim->trace_hash);
    sim->trace_hash = ph_hash_bytes(step, sizeof(step), sim->trace_hash);
    if (sim->options.trace) {
        printf("%12.6f %-10s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
               (double)sim->clock.now_ns / 1e9, what, a, b, c);
    }
}

void sim_trace_text(struct sim *sim, const char *what, struct ph_str text)
{
    sim->trace_hash = ph_hash_str(ph_str_from(what), sim->trace_hash);
    sim->trace_hash = ph_hash_str(text, sim->trace_hash);
    if (sim->options.trace) {
        printf("%12.6f %-10s %.*s\n", (double)sim->clock.now_ns / 1e9, what, PH_STR_ARG(text));
    }
}

bool sim_strikes(struct sim *sim, enum sim_failure as)
{
    const struct sim_options *o = &sim->options;
    bool strikes = o->fail_at > 0 && o->fail_as == as && !sim->calm && !sim->mended &&
                   (++sim->strikable == o->fail_at ||
                    (o->fail_for_good && as != SIM_FAILS_EIO && sim->strikable > o->fail_at));

    sim->struck |= strikes;
    return strikes;
}

bool sim_files_short(struct sim *sim)
{
    uint64_t minute = sim->clock.now_ns / (60 * 1000 * PH_NS_PER_MS);

    // The fourth of each five minutes.
    return sim_strikes(sim, SIM_FAILS_EMFILE) ||
           (sim->options.on[SIM_no_files] && !sim->calm && minute % 5 == 3);
}

bool sim_fault(struct sim *sim, enum sim_option option, unsigned permille)
{
    return sim->options.on[option] && !sim->calm && sim_chance(&sim->random, permille);
}

static struct ph_dns_local *make_zone(struct sim *sim)
{
    struct ph_dns_local *dns = ph_dns_local_create();
    struct ph_buf zone = {0};
    struct ph_buf error = {0};
    struct ph_str rest;
    struct ph_str line;

    sim->scene->zone(sim, &zone);
    rest = ph_buf_str(&zone);
    while (ph_str_cut_line(&rest, &line)) {
        PH_CHECK(ph_dns_local_add(dns, line, &error));
    }
    ph_buf_deinit(&zone);
    ph_buf_deinit(&error);
    return dns;
}

// --- what the engine tells ---

static void on_log(void *owner, uint16_t worker, struct ph_str lines)
{
    struct sim *sim = owner;

    (void)worker;
    sim->scene->log(sim, lines);
}

static void on_listening(void *owner, struct ph_str connector, const struct ph_endpoint *at)
{
    (void)owner, (void)connector, (void)at;
}

// The disk may fail in this history, so that the engine may have something to say of it.
static bool disk_fails(const struct sim *sim)
{
    return sim->options.on[SIM_disk_errors] || sim->options.on[SIM_disk_full] ||
           sim->options.on[SIM_no_files] || sim->options.fail_at > 0;
}

static void on_recovered(void *owner, uint16_t log, const struct ph_spool_recovery_report *report)
{
    struct sim *sim = owner;

    if (report->quarantined_records > 0 || disk_fails(sim)) {
        sim_ledger_doubt_all(sim); // what became of them may be what is missing
    }
    sim_trace(sim, "recovered", log, report->messages, report->torn_bytes);
    sim->report.summaries += report->summaries;
    sim->damage_reports += report->quarantined_records > 0;
    if (report->quarantined_records > 0 && sim->damages == 0) {
        sim_fail(sim, "log %u: recovery found damage that the disk did not do: %s", log,
                 report->detail);
    }
}

// Durable bytes change at a start (what of them was changed before), or at any time.
static void maybe_damage(struct sim *sim, unsigned permille, unsigned places_max)
{
    if (sim_fault(sim, SIM_damage, permille)) {
        sim_disk_damage(sim->disk, places_max);
    }
}

static void on_problem(void *owner, struct ph_str text)
{
    struct sim *sim = owner;

    sim_trace_text(sim, "problem", text);
    if (!disk_fails(sim) && sim->damages == 0 &&
        (sim->scene->expects == NULL || !sim->scene->expects(sim, text))) {
        sim_fail(sim, "the engine has a problem: %.*s", PH_STR_ARG(text));
    }
}

// --- the life of a process ---

static void start(struct sim *sim)
{
    struct ph_io *ios[SIM_WORKERS_MAX];
    struct ph_buf error = {0};
    bool good;

    sim->worker_count = sim->options.workers;
    if (sim->options.on[SIM_workers_change] && sim->life > 1) {
        sim->worker_count = (unsigned)sim_between(&sim->random, 2, 3);
    }
    sim_end_plan(sim);
    maybe_damage(sim, 700, 6);
    for (unsigned i = 0; i < sim->worker_count; i++) {
        sim->workers[i] = sim_io_create(sim, i);
        ios[i] = &sim->workers[i]->io;
    }
    sim->config = sim->scene->configure(sim);
    sim_trace(sim, "start", sim->life, sim->worker_count, 0);
    good =
        ph_engine_create(&(struct ph_engine_options){.config = sim->config,
                                                     .ios = ios,
                                                     .worker_count = (uint16_t)sim->worker_count,
                                                     .log = on_log,
                                                     .listening = on_listening,
                                                     .recovered = on_recovered,
                                                     .problem = on_problem,
                                                     .owner = sim,
                                                     .segment_bytes = sim->options.segment_bytes},
                         &sim->engine_now, &error) == 0;
    for (unsigned i = sim->worker_count; good && i-- > 0;) {
        good = ph_engine_open_worker(sim->engine_now, (uint16_t)i, &error) == 0;
    }
    if (!good && disk_fails(sim) && !sim->calm) {
        // It said why and ended; whoever watches over it starts it again.
        sim_trace_text(sim, "no start", ph_buf_str(&error));
        sim->crash_by_power = false;
        if (++sim->failed_starts % SIM_STARTS_MAX == 0) {
            sim_disk_mend(sim->disk);
            sim->mended = true;
        }
        longjmp(sim->end_of_life, 3);
    }
    if (!good) {
        sim_fail(sim, "the engine did not start: %.*s", PH_STR_ARG(ph_buf_str(&error)));
    }
    ph_buf_deinit(&error);
    sim->running = true;
    if (sim->crashes_done == 1 && sim->report.start_events == 0) {
        sim->report.start_events = sim->events - sim->life_began;
    }
    for (unsigned i = 0; i < sim->worker_count; i++) {
        sim_io_make_runnable(sim->workers[i]);
    }
}

// Nothing of the process is left but what it had given to the kernel; its memory is not used again.
static void die(struct sim *sim)
{
    sim_trace(sim, "end", sim->life, sim->crash_by_power, sim->events);
    sim_ledger_doubt_all(sim);
    sim->life++; // answers to what the dead one asked find nobody, while it is down too
    for (unsigned i = 0; i < sim->worker_count; i++) {
        sim_cancel(&sim->clock, &sim->workers[i]->turn);
    }
    sim_network_end_process(sim->network, sim->crash_by_power);
    if (sim->crash_by_power) {
        sim_disk_power_cut(sim->disk);
    } else {
        sim_disk_kill(sim->disk);
    }
    if (sim->options.on[SIM_summaries_rot]) {
        sim->report.summaries_rotten += sim_disk_rot_summaries(sim->disk);
    }
    sim->crashes_done++;
    sim->crash_at_event = 0;
}

static void nothing(struct sim_event *event)
{
    (void)event;
}

static void let_pass(struct sim *sim, uint64_t ns)
{
    // Not on the stack: the end of a life may come before it.
    sim_after(&sim->clock, &sim->pass, ns);
    while (sim->pass.slot != 0) {
        sim_step(sim);
    }
}

// The hour is set, and set back.
static void maybe_jump(struct sim *sim)
{
    if (sim_fault(sim, SIM_clock_jumps, 30)) {
        int64_t by_ms = (int64_t)sim_between(&sim->random, 1000, 3600 * 1000);

        sim->wall_offset_ms += sim_chance(&sim->random, 500) ? by_ms : -by_ms;
        sim_trace(sim, "jump", (uint64_t)sim->wall_offset_ms, 0, 0);
    }
}

void sim_reload(struct sim *sim)
{
    struct ph_config *config;

    sim->reloads_done++;
    config = sim->scene->configure(sim);
    sim_trace(sim, "reload", sim->reloads_done, 0, 0);
    ph_engine_reload(sim->engine_now, config);
    ph_config_release(config);
}

static void maybe_reload(struct sim *sim)
{
    if (sim_fault(sim, SIM_reload, 20)) {
        sim_reload(sim);
    }
}

uint64_t sim_queued(struct sim *sim)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < sim->worker_count; i++) {
        struct ph_worker *w = ph_engine_worker(sim->engine_now, (uint16_t)i);

        sum += PH_COUNTER_READ(w, queued) + w->storing_count;
    }
    return sum;
}

// Faults, until clients had their messages acknowledged and all ends that were planned have come.
static void live_through_faults(struct sim *sim)
{
    uint64_t until_ns =
        sim->options.hours_max > 0 ? sim->options.hours_max * 60 * SIM_MINUTE_NS : SIM_CHAOS_MAX_NS;
    bool over = false;

    while (!over) {
        let_pass(sim, SIM_LOOK_NS);
        maybe_reload(sim);
        maybe_jump(sim);
        maybe_damage(sim, 10, 2);
        over = sim->clock.now_ns >= until_ns ||
               (sim->scene->enough(sim) && sim->crash_at_event == 0 &&
                sim->clock.now_ns >= SIM_CHAOS_MIN_NS) ||
               (sim->scene->enough(sim) && sim_queued(sim) == 0);
    }
}

static void stop_in_order(struct sim *sim)
{
    uint64_t until_ns = sim->clock.now_ns + 10 * SIM_MINUTE_NS;

    ph_engine_stop(sim->engine_now);
    while (!ph_engine_stopped(sim->engine_now)) {
        let_pass(sim, SIM_LOOK_NS / 50);
        if (sim->clock.now_ns > until_ns) {
            sim_fail(sim, "the engine doesn't come to rest");
            let_pass(sim, 1);
        }
    }
    sim->running = false;
    for (unsigned i = 0; i < sim->worker_count; i++) {
        ph_engine_close_worker(sim->engine_now, (uint16_t)i);
    }
    ph_engine_destroy(sim->engine_now);
    sim->life++;
    for (unsigned i = 0; i < sim->worker_count; i++) {
        sim->workers[i]->io.vtable->destroy(&sim->workers[i]->io);
    }
    ph_config_release(sim->config);
}

static void wait_until_empty(struct sim *sim)
{
    uint64_t until_ns = sim->clock.now_ns + SIM_DRAIN_NS_MAX;

    while (!sim->scene->drained(sim)) {
        let_pass(sim, SIM_LOOK_NS);
        if (sim->clock.now_ns > until_ns) {
            sim->scene->stalled(sim);
            return;
        }
    }
}

// No faults any more: everything must come to its end.
static void drain(struct sim *sim)
{
    sim->calm = true;
    sim_trace(sim, "calm", sim_queued(sim), sim->ledger.acked, 0);
    if (disk_fails(sim)) {
        // A log that was given up takes mail again after a restart: whoever mended the disk does
        // it.
        stop_in_order(sim);
        start(sim);
    }
    wait_until_empty(sim);
}

// An orderly end, and one more start: the same is owed.
static void stop_and_look(struct sim *sim)
{
    stop_in_order(sim);
    start(sim);
    if (!sim->scene->owed(sim, sim_queued(sim)) && sim->damages > 0) {
        // What became of it was damaged behind the last start: in doubt, it is sent again.
        wait_until_empty(sim);
        sim->scene->check(sim);
    } else if (!sim->scene->owed(sim, sim_queued(sim))) {
        sim_fail(sim, "risen again or lost: %llu recipients after an orderly end",
                 (unsigned long long)sim_queued(sim));
    }
}

static void prepare(struct sim *sim, const struct sim_options *options)
{
    sim->options = *options;
    sim->scene = options->scene != NULL ? options->scene : &sim_history;
    sim_random_init(&sim->random, options->seed);
    sim_random_init(&sim->engine, ~options->seed);
    sim->trace_hash = options->seed;
    sim->life = 1;
    sim->clock.now_ns = 1000 * PH_NS_PER_MS;
    sim_event_init(&sim->pass, nothing, NULL);
    sim->wall_offset_ms = SIM_EPOCH_MS;
    sim->disk = sim_disk_create(sim);
    sim->network = sim_network_create(sim);
    sim->scene->prepare(sim);
    sim->dns = make_zone(sim);
}

static void live(struct sim *sim)
{
    // Each end of a process comes back here.
    int end = setjmp(sim->end_of_life);

    if (end == 2) {
        return;
    }
    if (end == 1 || end == 3) {
        die(sim);
        if (end == 1) {
            sim_end_note(sim);
        }
        sim->running = false;
        let_pass(sim, sim_below(&sim->random, SIM_DOWN_NS_MAX));
    }
    start(sim);
    live_through_faults(sim);
    drain(sim);
    sim->scene->check(sim);
    stop_and_look(sim);
}

// Did all that was asked for befall it?
static bool touched(const struct sim *sim)
{
    const struct sim_options *o = &sim->options;

    return (o->fail_at == 0 || sim->struck) && (o->crash_at == 0 || sim->report.ends > 0) &&
           (o->crash_again == 0 || sim->report.ends > 1);
}

void sim_run(const struct sim_options *options, struct ph_buf *out_line,
             struct sim_report *out_report)
{
    struct sim *sim = ph_alloc(sizeof(*sim));
    uint64_t began_ns;

    prepare(sim, options);
    began_ns = sim->clock.now_ns;
    live(sim);
    ph_buf_printf(out_line, "seed %llu trace %016llx %s%s\n", (unsigned long long)options->seed,
                  (unsigned long long)sim->trace_hash,
                  sim->failure[0] == '\0' ? "ok" : "FAILED: ", sim->failure);
    *out_report = sim->report;
    out_report->events = sim->events;
    out_report->lived_ms = (sim->clock.now_ns - began_ns) / PH_NS_PER_MS;
    out_report->result = sim->failure[0] != '\0' ? SIM_BROKEN
                         : touched(sim)          ? SIM_HELD
                                                 : SIM_UNTOUCHED;
}
