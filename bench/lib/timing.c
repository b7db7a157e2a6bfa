// Time spent and its middle value.
#include "bench/lib/timing.h"

#include <stdlib.h>
#include <time.h>

#include "base/check.h"

static uint64_t read_clock(clockid_t clock)
{
    struct timespec t;

    PH_CHECK(clock_gettime(clock, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t ph_timing_cpu_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t ph_timing_wall_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

uint64_t ph_timing_median(uint64_t *values, size_t count)
{
    PH_CHECK(count > 0);
    qsort(values, count, sizeof(*values), compare);
    return values[count / 2];
}
