#include "queue/rate.h"

#include <criterion/criterion.h>

#define MS UINT64_C(1000000)

// Asked all the time, by a clock that advances by `step_ns`: how many in `total_ms`, and the most
// in any interval.
static void run(uint64_t count, uint64_t interval_ms, uint64_t step_ns, uint64_t total_ms,
                unsigned *out_all, unsigned *out_most)
{
    static uint64_t at[100000];
    struct ph_rate_meter meter;
    unsigned all = 0;
    unsigned first = 0;

    *out_most = 0;
    ph_rate_meter_init(&meter, count, interval_ms);
    for (uint64_t now = 7 * MS; now < total_ms * MS; now += step_ns) {
        while (ph_rate_meter_allows(&meter, now)) {
            ph_rate_meter_take(&meter, now);
            at[all++] = now;
            while (at[first] + interval_ms * MS <= now) {
                first++;
            }
            *out_most = all - first > *out_most ? all - first : *out_most;
        }
    }
    *out_all = all;
}

Test(rate, no_interval_holds_more)
{
    static const struct {
        uint64_t count;
        uint64_t interval_ms;
    } cases[] = {{1, 1000}, {5, 1000}, {200, 1000}, {3000, 1000}, {50, 60000}, {1, 60000}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (uint64_t step = 100000; step <= 13 * MS; step = step * 7 / 2) {
            uint64_t intervals = cases[i].count > 1000 ? 5 : 10;
            unsigned all;
            unsigned most;

            run(cases[i].count, cases[i].interval_ms, step, intervals * cases[i].interval_ms, &all,
                &most);
            cr_expect(most <= cases[i].count, "%lu in %lu ms: %u", cases[i].count,
                      cases[i].interval_ms, most);
            // And a long time holds nearly as many as it may.
            cr_expect(all >= cases[i].count * intervals * 94 / 100 - 1,
                      "%lu in %lu ms, asked each %lu ns: %u", cases[i].count, cases[i].interval_ms,
                      step, all);
        }
    }
}

Test(rate, what_was_not_used_does_not_carry_over)
{
    struct ph_rate_meter meter;
    unsigned at_once = 0;

    ph_rate_meter_init(&meter, 10, 1000);
    while (ph_rate_meter_allows(&meter, 3600000 * MS)) {
        ph_rate_meter_take(&meter, 3600000 * MS);
        at_once++;
    }
    cr_expect_eq(at_once, 1);
    cr_expect(ph_rate_meter_next_ns(&meter, 3600000 * MS) > 3600050 * MS);
}

Test(rate, off)
{
    struct ph_rate_meter meter;

    ph_rate_meter_init(&meter, 0, 1000);
    for (int i = 0; i < 1000; i++) {
        cr_assert(ph_rate_meter_allows(&meter, 5));
        ph_rate_meter_take(&meter, 5);
    }
    cr_expect_eq(ph_rate_meter_next_ns(&meter, 5), 0);
}
