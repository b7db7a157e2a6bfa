// xoshiro256**, started by splitmix64.
#include "tests/sim/random.h"

#include "base/check.h"

void sim_random_init(struct sim_random *random, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        random->state[i] = z ^ (z >> 31);
    }
}

static uint64_t rotated(uint64_t value, unsigned by)
{
    return value << by | value >> (64 - by);
}

uint64_t sim_random_next(struct sim_random *random)
{
    uint64_t *s = random->state;
    uint64_t result = rotated(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotated(s[3], 45);
    return result;
}

uint64_t sim_below(struct sim_random *random, uint64_t bound)
{
    PH_CHECK(bound > 0);
    return sim_random_next(random) % bound;
}

uint64_t sim_between(struct sim_random *random, uint64_t a, uint64_t b)
{
    return a + sim_below(random, b - a + 1);
}

bool sim_chance(struct sim_random *random, unsigned permille)
{
    return sim_below(random, 1000) < permille;
}
