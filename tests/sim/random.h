// The simulator's chance: one seed, one sequence.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sim_random {
    uint64_t state[4];
};

void sim_random_init(struct sim_random *random, uint64_t seed);
uint64_t sim_random_next(struct sim_random *random);
uint64_t sim_below(struct sim_random *random, uint64_t bound);           // 0 .. bound-1
uint64_t sim_between(struct sim_random *random, uint64_t a, uint64_t b); // a .. b
bool sim_chance(struct sim_random *random, unsigned permille);
