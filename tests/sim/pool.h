// Histories in processes of their own, some at a time; and what all of them come to.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim.h"

#define SIM_LINE_BYTES_MAX 4096

struct sim_pool;

struct sim_history {
    struct sim_options options;
    struct sim_report report;
    char line[SIM_LINE_BYTES_MAX]; // what it said of itself at its end; or how it ended instead
};

struct sim_pool *sim_pool_create(unsigned jobs);
void sim_pool_destroy(struct sim_pool *pool); // which is empty
bool sim_pool_full(const struct sim_pool *pool);
bool sim_pool_empty(const struct sim_pool *pool);
// `options` are whole (sim_options_choose). The pool isn't full.
void sim_pool_begin(struct sim_pool *pool, const struct sim_options *options);
// Waits for the one that began first.
void sim_pool_finish(struct sim_pool *pool, struct sim_history *out);

// Its line; with its options and the command that repeats it where it failed.
void sim_history_print(const struct sim_history *history, bool with_options, bool failures_only);
// What the command line of a history has beside its seed.
void sim_options_print_arguments(const struct sim_options *options);

struct sim_sum {
    uint64_t histories;
    uint64_t failed;
    uint64_t lived_ms;
    uint64_t ends;
    uint64_t ends_in_start;
    uint64_t summaries;
    uint64_t summaries_rotten;
    uint64_t *disks; // what ends left behind: sums
    size_t disk_count;
    size_t disk_capacity;
};

void sim_sum_add(struct sim_sum *sum, const struct sim_report *report);
void sim_sum_print(struct sim_sum *sum); // one line
