// Each place in turn.
#include "tests/sim/sweep.h"

#include <stdio.h>
#include <stdlib.h>

#define CRASHES_MESSAGES 10 // of the history whose every event is an end

static enum sim_result run(const struct sim_options *chosen, struct sim_history *out)
{
    struct sim_pool *pool = sim_pool_create(1);

    sim_pool_begin(pool, chosen);
    sim_pool_finish(pool, out);
    sim_pool_destroy(pool);
    return out->report.result;
}

void sim_sweep_nth(const struct sim_options *options, uint64_t seed, unsigned jobs,
                   struct sim_sum *sum)
{
    struct sim_options chosen = *options;
    struct sim_pool *pool = sim_pool_create(jobs);
    struct sim_history history;
    unsigned held = 0;
    bool over = false;

    sim_options_choose(&chosen, seed);
    while (!over || !sim_pool_empty(pool)) {
        if (!over && !sim_pool_full(pool)) {
            chosen.fail_at++;
            sim_pool_begin(pool, &chosen);
            continue;
        }
        sim_pool_finish(pool, &history);
        over |= history.report.result == SIM_UNTOUCHED;
        if (history.report.result != SIM_UNTOUCHED) {
            sim_history_print(&history, false, true);
            sim_sum_add(sum, &history.report);
            held += history.report.result == SIM_HELD;
        }
    }
    sim_pool_destroy(pool);
    printf("seed %llu: %llu operations that may fail by %s; each failed%s, %u histories held\n",
           (unsigned long long)seed, (unsigned long long)sum->histories,
           sim_failure_name(chosen.fail_as), chosen.fail_for_good ? " for good" : " once", held);
}

void sim_sweep_shrink(const struct sim_options *options, uint64_t seed, struct sim_sum *sum)
{
    struct sim_options wanted = *options;
    struct sim_options chosen = *options;
    struct sim_history history;

    sim_options_choose(&chosen, seed);
    if (run(&chosen, &history) != SIM_BROKEN) {
        printf("seed %llu doesn't fail\n", (unsigned long long)seed);
        return;
    }
    for (unsigned i = 0; i < SIM_OPTION_COUNT; i++) {
        struct sim_options less = wanted;

        if (chosen.on[i]) {
            less.dropped[i] = true;
            sim_options_choose(&less, seed);
            wanted.dropped[i] |= run(&less, &history) == SIM_BROKEN;
        }
    }
    sim_options_choose(&wanted, seed);
    run(&wanted, &history);
    sim_sum_add(sum, &history.report);
    sim_history_print(&history, true, false);
}

// --- ends ---

struct crashes {
    struct sim_options chosen;
    uint64_t every;
    uint64_t events;        // of the history without an end
    uint64_t *start_events; // [events][SIM_END_COUNT]: of the start behind that end
    struct sim_pool *pool;
    struct sim_sum *sum;
};

static uint64_t *start_events_of(struct crashes *c, uint64_t at, enum sim_end as)
{
    return &c->start_events[(at - 1) * SIM_END_COUNT + as];
}

static void take(struct crashes *c)
{
    struct sim_history history;

    sim_pool_finish(c->pool, &history);
    sim_history_print(&history, false, true);
    sim_sum_add(c->sum, &history.report);
    if (history.options.crash_again == 0) {
        *start_events_of(c, history.options.crash_at, history.options.crash_as) =
            history.report.start_events;
    }
}

static void end_at(struct crashes *c, uint64_t at, uint64_t again, enum sim_end as)
{
    if (sim_pool_full(c->pool)) {
        take(c);
    }
    c->chosen.crash_at = at;
    c->chosen.crash_again = again;
    c->chosen.crash_as = as;
    sim_pool_begin(c->pool, &c->chosen);
}

static void take_rest(struct crashes *c)
{
    while (!sim_pool_empty(c->pool)) {
        take(c);
    }
}

// Not always the same of so many.
static uint64_t first_of(uint64_t salt, uint64_t every)
{
    return 1 + salt * 7 % every;
}

static uint64_t end_once(struct crashes *c)
{
    uint64_t before = c->sum->histories;

    for (unsigned as = 0; as < SIM_END_COUNT; as++) {
        for (uint64_t at = first_of(as, c->every); at <= c->events; at += c->every) {
            end_at(c, at, 0, (enum sim_end)as);
        }
    }
    take_rest(c);
    return c->sum->histories - before;
}

static uint64_t end_twice(struct crashes *c)
{
    uint64_t before = c->sum->histories;

    for (unsigned as = 0; as < SIM_END_COUNT; as++) {
        for (uint64_t at = first_of(as, c->every); at <= c->events; at += c->every) {
            uint64_t in_start = *start_events_of(c, at, (enum sim_end)as);

            for (uint64_t again = first_of(at + as, c->every); again <= in_start;
                 again += c->every) {
                end_at(c, at, again, (enum sim_end)as);
            }
        }
    }
    take_rest(c);
    return c->sum->histories - before;
}

// Few messages, of each kind, with deferrals, failures, doubt and notifications; whatever else goes
// wrong is asked for by name.
static void choose_small(struct sim_options *options, uint64_t seed)
{
    static const enum sim_option has[] = {SIM_lost_names, SIM_stale_bytes,  SIM_temporary,
                                          SIM_permanent,  SIM_lost_replies, SIM_large};

    for (unsigned i = 0; i < sizeof(has) / sizeof(has[0]); i++) {
        options->forced[has[i]] = true;
    }
    for (unsigned i = 0; i < SIM_OPTION_COUNT; i++) {
        options->dropped[i] = !options->forced[i];
    }
    if (options->messages_wanted == 0) {
        options->messages_wanted = CRASHES_MESSAGES;
    }
    sim_options_choose(options, seed);
}

void sim_sweep_crashes(const struct sim_options *options, uint64_t seed, uint64_t every,
                       unsigned jobs, struct sim_sum *sum)
{
    struct crashes c = {.chosen = *options, .every = every, .sum = sum};
    struct sim_history history;
    uint64_t once;
    uint64_t twice;

    choose_small(&c.chosen, seed);
    if (run(&c.chosen, &history) == SIM_BROKEN) {
        sim_history_print(&history, true, true);
        sim_sum_add(sum, &history.report);
        return;
    }
    c.events = history.report.events;
    c.start_events = ph_alloc((size_t)c.events * SIM_END_COUNT * sizeof(*c.start_events));
    c.pool = sim_pool_create(jobs);
    once = end_once(&c);
    twice = end_twice(&c);
    sim_pool_destroy(c.pool);
    free(c.start_events);
    printf("seed %llu: %llu events; %llu ends before one of them, %llu more with a second one "
           "during the start behind it\n",
           (unsigned long long)seed, (unsigned long long)c.events, (unsigned long long)once,
           (unsigned long long)twice);
}
