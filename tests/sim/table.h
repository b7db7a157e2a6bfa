// The truth table (tests/conformance/table.txt) in this world: each row with its connectors,
// servers and mail, all in one engine.
#pragma once

#include "tests/sim/pool.h"

// Reads the table and makes its certificates, before any history begins. `rows`: "59,105", or NULL
// for all.
void sim_table_create(const char *rows);
// All rows without faults, with the caches and without, and those that take days; then `count`
// histories with faults, from that seed on. What was run goes to the screen.
void sim_table_run(const struct sim_options *options, uint64_t from, uint64_t count, unsigned jobs,
                   bool quiet, struct sim_sum *sum);
