// posthaste-sim: histories by their seeds, each in a process of its own.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/sim/peer.h"
#include "tests/sim/pool.h"
#include "tests/sim/scene.h"
#include "tests/sim/sweep.h"
#include "tests/sim/table.h"
#include "tls/boringssl.h"

#include <openssl/rand.h>

#define JOBS_MAX 64

struct plan {
    struct sim_options options;
    uint64_t from;
    uint64_t count;
    unsigned jobs;
    bool one;
    bool quiet;
    bool nth;     // each disk operation of the seed's history fails in turn
    bool shrink;  // options are dropped as long as it goes on failing
    bool crashes; // the process ends before each event in turn
    bool table;   // the rows of the truth table
    uint64_t every;
};

static void ignore_log(void *owner, enum ph_log_level level, const char *line)
{
    (void)owner, (void)level, (void)line;
}

static void run_all(const struct plan *plan, struct sim_sum *sum)
{
    struct sim_pool *pool = sim_pool_create(plan->jobs);
    struct sim_history history;
    uint64_t begun = 0;

    for (uint64_t ended = 0; ended < plan->count; ended++) {
        while (begun < plan->count && begun < ended + plan->jobs) {
            struct sim_options options = plan->options;

            sim_options_choose(&options, plan->from + begun++);
            sim_pool_begin(pool, &options);
        }
        sim_pool_finish(pool, &history);
        sim_history_print(&history, plan->one, plan->quiet);
        sim_sum_add(sum, &history.report);
    }
    sim_pool_destroy(pool);
}

static int usage(void)
{
    printf("usage: posthaste-sim SEED | --from SEED --count N [--jobs N] [--quiet]\n"
           "       [--with FAULT]… [--without FAULT]… [--plant BUG] [--messages N]\n"
           "       [--fail-at N [--fail-as FAILURE] [--for-good]] [--trace]\n"
           "       [--crash-at EVENT [--crash-again EVENT] [--as END]]\n"
           "   or: posthaste-sim --nth SEED [--fail-as FAILURE] [--for-good] | --shrink SEED …\n"
           "                   | --crashes SEED [--every N]\n"
           "                   | --table [--rows N,N…] [SEED | --from SEED --count N] …\n");
    sim_options_help();
    return 2;
}

static bool read_number(const char *text, uint64_t *out)
{
    return text != NULL && ph_str_to_u64(ph_str_from(text), out);
}

static bool read_arguments(int argc, char **argv, struct plan *plan)
{
    uint64_t number;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        enum sim_option option;

        if (read_number(argv[i], &plan->from)) {
            plan->one = true;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            plan->quiet = true;
        } else if (strcmp(argv[i], "--trace") == 0) {
            plan->options.trace = true;
        } else if (strcmp(argv[i], "--for-good") == 0) {
            plan->options.fail_for_good = true;
        } else if (strcmp(argv[i], "--nth") == 0) {
            plan->nth = true;
        } else if (strcmp(argv[i], "--shrink") == 0) {
            plan->shrink = true;
        } else if (strcmp(argv[i], "--crashes") == 0) {
            plan->crashes = true;
        } else if (strcmp(argv[i], "--table") == 0) {
            plan->table = true;
            plan->options.scene = &sim_table;
            plan->options.table = SIM_TABLE_FAULTS;
            // What it takes from a message it takes whatever the policy: the other scene's matter.
            plan->options.dropped[SIM_damage] = true;
        } else if (strcmp(argv[i], "--rows") == 0 && value != NULL) {
            plan->options.rows = value;
            i++;
        } else if (strcmp(argv[i], "--every") == 0 && read_number(value, &plan->every) &&
                   plan->every > 0) {
            i++;
        } else if (strcmp(argv[i], "--crash-at") == 0 &&
                   read_number(value, &plan->options.crash_at)) {
            i++;
        } else if (strcmp(argv[i], "--crash-again") == 0 &&
                   read_number(value, &plan->options.crash_again)) {
            i++;
        } else if (strcmp(argv[i], "--as") == 0 && value != NULL &&
                   sim_end_from(value, &plan->options.crash_as)) {
            i++;
        } else if (strcmp(argv[i], "--messages") == 0 && read_number(value, &number) &&
                   number > 0 && number < SIM_MESSAGES_MAX / 2) {
            plan->options.messages_wanted = (unsigned)number;
            i++;
        } else if (strcmp(argv[i], "--fail-at") == 0 && read_number(value, &number)) {
            plan->options.fail_at = (unsigned)number;
            i++;
        } else if (strcmp(argv[i], "--fail-as") == 0 && value != NULL &&
                   sim_failure_from(value, &plan->options.fail_as)) {
            i++;
        } else if (strcmp(argv[i], "--from") == 0 && read_number(value, &plan->from)) {
            i++;
        } else if (strcmp(argv[i], "--count") == 0 && read_number(value, &plan->count)) {
            i++;
        } else if (strcmp(argv[i], "--jobs") == 0 && read_number(value, &number) && number > 0 &&
                   number <= JOBS_MAX) {
            plan->jobs = (unsigned)number;
            i++;
        } else if (strcmp(argv[i], "--with") == 0 && value != NULL &&
                   sim_option_from(value, &option)) {
            plan->options.forced[option] = true;
            plan->options.dropped[option] = false;
            i++;
        } else if (strcmp(argv[i], "--without") == 0 && value != NULL &&
                   strcmp(value, "all") == 0) {
            memset(plan->options.dropped, true, sizeof(plan->options.dropped));
            i++;
        } else if (strcmp(argv[i], "--without") == 0 && value != NULL &&
                   sim_option_from(value, &option)) {
            plan->options.dropped[option] = true;
            i++;
        } else if (strcmp(argv[i], "--plant") == 0 && value != NULL &&
                   sim_plant_from(value, &plan->options.plant)) {
            i++;
        } else {
            return false;
        }
    }
    return plan->one || plan->count > 0 || plan->table;
}

int main(int argc, char **argv)
{
    struct plan plan = {.from = 1, .count = 0, .jobs = 2, .every = 1};
    struct sim_sum sum = {0};

    if (!read_arguments(argc, argv, &plan)) {
        return usage();
    }
    if (plan.one) {
        plan.count = 1;
    }
    // Memory once used is used again: pages come and go by the thousand otherwise.
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    ph_log_set_sink(ignore_log, NULL);
    RAND_reset_for_fuzzing();
    sim_certificates_create();
    if (plan.table) {
        sim_table_create(plan.options.rows);
    }
    if (plan.nth) {
        sim_sweep_nth(&plan.options, plan.from, plan.jobs, &sum);
    } else if (plan.shrink) {
        sim_sweep_shrink(&plan.options, plan.from, &sum);
    } else if (plan.crashes) {
        sim_sweep_crashes(&plan.options, plan.from, plan.every, plan.jobs, &sum);
    } else if (plan.table) {
        sim_table_run(&plan.options, plan.from, plan.count, plan.jobs, plan.quiet, &sum);
    } else {
        run_all(&plan, &sum);
    }
    // The last line of one history is the history's own.
    if (!plan.one || plan.nth || plan.crashes) {
        sim_sum_print(&sum);
    }
    free(sum.disks);
    return sum.failed == 0 ? 0 : 1;
}
