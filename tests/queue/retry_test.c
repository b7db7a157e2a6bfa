#include "queue/retry.h"

#include <criterion/criterion.h>

#define MINUTE UINT64_C(60000)

static const struct ph_retry_intervals defaults = {
    .glitch_count = 4,
    .glitch_ms = MINUTE,
    .transient_count = 6,
    .transient_ms = 5 * MINUTE,
    .later_ms = 10 * MINUTE,
    .message_ms = 15 * MINUTE,
};

// EXCHANGE semantics 4: minutes of the attempts after a first failure at minute 0. The middle one
// is row 125 of the truth table.
Test(retry, series_of_exchange)
{
    static const struct {
        enum ph_retry_kind kind;
        uint64_t minutes[13];
    } rows[] = {
        {PH_RETRY_CONNECTION, {1, 2, 3, 4, 9, 14, 19, 24, 29, 34, 44, 54, 64}},
        {PH_RETRY_TLS, {5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100}},
        {PH_RETRY_MESSAGE, {15, 30, 45, 60, 75, 90, 105, 120, 135, 150, 165, 180, 195}},
    };

    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        uint64_t at_ms = 0;

        for (uint32_t i = 0; i < 13; i++) {
            at_ms += ph_retry_delay_ms(&defaults, rows[row].kind, i + 1, 0);
            cr_assert_eq(at_ms, rows[row].minutes[i] * MINUTE, "row %zu, failure %u: %llu ms", row,
                         i + 1, (unsigned long long)at_ms);
        }
    }
}

Test(retry, jitter_is_at_most_a_tenth_and_never_early)
{
    for (uint64_t random = 0; random < 100000; random += 37) {
        uint64_t delay_ms = ph_retry_delay_ms(&defaults, PH_RETRY_TLS, 1, random);

        cr_assert_geq(delay_ms, 5 * MINUTE);
        cr_assert_leq(delay_ms, 5 * MINUTE + 5 * MINUTE / 10);
    }
}

Test(retry, own_series_ends_at_its_last_interval)
{
    static const uint64_t intervals[] = {60000, 300000};
    static const uint64_t wanted[] = {60000, 60000, 300000, 300000, 300000};

    for (uint32_t failures = 0; failures < 5; failures++) {
        uint64_t least = ph_retry_own_delay_ms(intervals, 2, failures, 0);
        uint64_t most = ph_retry_own_delay_ms(intervals, 2, failures, wanted[failures] / 10);

        cr_expect_eq(least, wanted[failures]);
        cr_expect_eq(most, wanted[failures] + wanted[failures] / 10);
    }
}

Test(retry, plain_doubling)
{
    struct ph_retry_intervals doubling = defaults;
    static const uint64_t minutes[] = {5, 10, 20, 40, 80, 160, 240, 240};

    doubling.exponential_first_ms = 5 * MINUTE;
    doubling.exponential_last_ms = 240 * MINUTE;
    for (uint32_t i = 0; i < sizeof(minutes) / sizeof(minutes[0]); i++) {
        for (int kind = PH_RETRY_CONNECTION; kind <= PH_RETRY_MESSAGE; kind++) {
            cr_expect_eq(ph_retry_delay_ms(&doubling, (enum ph_retry_kind)kind, i + 1, 0),
                         minutes[i] * MINUTE);
        }
        cr_expect(ph_retry_delay_ms(&doubling, PH_RETRY_MESSAGE, i + 1, UINT64_MAX) <=
                  minutes[i] * MINUTE * 11 / 10);
    }
    cr_expect_eq(ph_retry_delay_ms(&doubling, PH_RETRY_MESSAGE, UINT32_MAX, 0), 240 * MINUTE);
    doubling.exponential_last_ms = MINUTE; // shorter than the first
    cr_expect_eq(ph_retry_delay_ms(&doubling, PH_RETRY_MESSAGE, 1, 0), MINUTE);
}

Test(retry, the_longest_wait_is_longer_than_any)
{
    struct ph_retry_intervals doubling = defaults;

    for (int kind = PH_RETRY_CONNECTION; kind <= PH_RETRY_MESSAGE; kind++) {
        for (uint32_t failures = 1; failures < 30; failures++) {
            cr_expect(ph_retry_delay_ms(&defaults, (enum ph_retry_kind)kind, failures,
                                        UINT64_MAX) <= ph_retry_longest_ms(&defaults));
        }
    }
    doubling.exponential_last_ms = 240 * MINUTE; // not in use
    cr_expect(ph_retry_longest_ms(&doubling) < 60 * MINUTE);
    doubling.exponential_first_ms = 5 * MINUTE;
    doubling.exponential_last_ms = 240 * MINUTE;
    cr_expect_eq(ph_retry_longest_ms(&doubling), 264 * MINUTE);
    doubling = (struct ph_retry_intervals){0};
    cr_expect(ph_retry_longest_ms(&doubling) > 0);
}
