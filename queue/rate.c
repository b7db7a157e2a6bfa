// So many in a time.
#include "queue/rate.h"

// What timers need: one that fires late must not cost its share. Ours.
#define PH_RATE_TOLERANCE_NS UINT64_C(20000000)
#define PH_RATE_TOLERANCE_PART 20 // at most this part of the interval; ours

void ph_rate_meter_init(struct ph_rate_meter *meter, uint64_t count, uint64_t interval_ms)
{
    uint64_t interval_ns = interval_ms * UINT64_C(1000000);
    uint64_t part = interval_ns / PH_RATE_TOLERANCE_PART;

    *meter = (struct ph_rate_meter){0};
    if (count > 0) {
        meter->tolerance_ns = part < PH_RATE_TOLERANCE_NS ? part : PH_RATE_TOLERANCE_NS;
        // Spaced as if the interval were longer by what may come early, rounded up: so that no
        // interval holds more than `count`.
        meter->spacing_ns = (interval_ns + meter->tolerance_ns + count - 1) / count + 1;
    }
}

uint64_t ph_rate_meter_next_ns(const struct ph_rate_meter *meter, uint64_t now_ns)
{
    uint64_t at = meter->next_ns > meter->tolerance_ns ? meter->next_ns - meter->tolerance_ns : 0;

    return meter->spacing_ns > 0 && at > now_ns ? at : 0;
}

bool ph_rate_meter_allows(const struct ph_rate_meter *meter, uint64_t now_ns)
{
    return ph_rate_meter_next_ns(meter, now_ns) == 0;
}

void ph_rate_meter_take(struct ph_rate_meter *meter, uint64_t now_ns)
{
    uint64_t from = meter->next_ns > now_ns ? meter->next_ns : now_ns;

    meter->next_ns = from + meter->spacing_ns;
}
