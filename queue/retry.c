// When to try again.
#include "queue/retry.h"

#define PH_RETRY_JITTER_PARTS 10 // at most a tenth longer

uint64_t ph_retry_delay_ms(const struct ph_retry_intervals *intervals, enum ph_retry_kind kind,
                           uint32_t failure_count, uint64_t random)
{
    uint32_t glitches = kind == PH_RETRY_CONNECTION ? intervals->glitch_count : 0;
    uint64_t interval = intervals->later_ms;

    if (kind == PH_RETRY_MESSAGE) {
        interval = intervals->message_ms;
    } else if (failure_count <= glitches) {
        interval = intervals->glitch_ms;
    } else if (failure_count <= glitches + intervals->transient_count) {
        interval = intervals->transient_ms;
    }
    return interval + random % (interval / PH_RETRY_JITTER_PARTS + 1);
}
