// When to try again.
#include "queue/retry.h"

#include "base/check.h"

#define PH_RETRY_JITTER_PARTS 10             // at most a tenth longer
#define PH_RETRY_SHORTEST_MS (5 * 60 * 1000) // what the longest wait is at least: ours

static uint64_t with_jitter(uint64_t interval, uint64_t random)
{
    return interval + random % (interval / PH_RETRY_JITTER_PARTS + 1);
}

uint64_t ph_retry_delay_ms(const struct ph_retry_intervals *intervals, enum ph_retry_kind kind,
                           uint32_t failure_count, uint64_t random)
{
    uint32_t glitches = kind == PH_RETRY_CONNECTION ? intervals->glitch_count : 0;
    uint64_t interval = intervals->later_ms;

    if (intervals->exponential_first_ms > 0) {
        interval = intervals->exponential_first_ms;
        for (uint32_t i = 1; i < failure_count && interval < intervals->exponential_last_ms; i++) {
            interval *= 2;
        }
        interval =
            interval < intervals->exponential_last_ms ? interval : intervals->exponential_last_ms;
    } else if (kind == PH_RETRY_MESSAGE) {
        interval = intervals->message_ms;
    } else if (failure_count <= glitches) {
        interval = intervals->glitch_ms;
    } else if (failure_count <= glitches + intervals->transient_count) {
        interval = intervals->transient_ms;
    }
    return with_jitter(interval, random);
}

uint64_t ph_retry_own_delay_ms(const uint64_t *intervals_ms, size_t count, uint32_t failure_count,
                               uint64_t random)
{
    size_t which = failure_count > 0 ? failure_count - 1 : 0;

    return with_jitter(intervals_ms[which < count ? which : count - 1], random);
}

uint64_t ph_retry_longest_ms(const struct ph_retry_intervals *intervals)
{
    const uint64_t all[] = {
        intervals->glitch_ms, intervals->transient_ms, intervals->later_ms, intervals->message_ms,
        // Its key has a default where it isn't used.
        intervals->exponential_first_ms > 0 ? intervals->exponential_last_ms : 0};
    uint64_t longest = PH_RETRY_SHORTEST_MS;

    for (size_t i = 0; i < PH_ARRAY_LEN(all); i++) {
        longest = all[i] > longest ? all[i] : longest;
    }
    return longest + longest / PH_RETRY_JITTER_PARTS;
}
