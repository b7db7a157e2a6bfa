// One history again and again, each time with something else going wrong; nothing by chance.
#pragma once

#include "tests/sim/pool.h"

// The first, the second, the third … operation that may fail as asked for (`fail_as`) does, until
// the history has no more.
void sim_sweep_nth(const struct sim_options *options, uint64_t seed, unsigned jobs,
                   struct sim_sum *sum);
// Drops the faults that a broken promise doesn't need.
void sim_sweep_shrink(const struct sim_options *options, uint64_t seed, struct sim_sum *sum);
// The process ends before the first, the second, the third … event, in each of the ways it may;
// and for each such end it ends again, before each event of the start that follows. With `every`
// beyond 1 only before each so many.
void sim_sweep_crashes(const struct sim_options *options, uint64_t seed, uint64_t every,
                       unsigned jobs, struct sim_sum *sum);
