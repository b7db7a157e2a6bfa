#include "base/wheel.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define MS PH_WHEEL_TICK_NS

static struct ph_wheel wheel;
static uint64_t now_ns;
static int fired;

static uint64_t seed = 7;

static uint64_t draw(uint64_t bound)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (seed >> 20) % bound;
}

struct watched {
    struct ph_timer timer;
    uint64_t deadline_ns;
    bool expected;
};

static void check_fire(struct ph_timer *timer)
{
    struct watched *watched = timer->owner;

    cr_assert(watched->expected, "fired though cancelled");
    cr_assert_geq(now_ns, watched->deadline_ns, "fired early");
    watched->expected = false;
    fired++;
}

// Random arming, cancelling and steps of time, against the deadlines themselves.
Test(wheel, never_early_never_forgotten)
{
    enum { COUNT = 2000 };
    struct watched *watched = calloc(COUNT, sizeof(*watched));

    now_ns = 123456789;
    ph_wheel_init(&wheel, now_ns);
    for (int i = 0; i < COUNT; i++) {
        ph_timer_init(&watched[i].timer, check_fire, &watched[i]);
    }
    for (int round = 0; round < 20000; round++) {
        struct watched *one = &watched[draw(COUNT)];
        uint64_t before_ns;

        if (draw(4) == 0) {
            ph_wheel_cancel(&wheel, &one->timer);
            one->expected = false;
        } else {
            one->deadline_ns = now_ns + draw(UINT64_C(1) << (10 + draw(36)));
            one->expected = true;
            ph_wheel_set(&wheel, &one->timer, one->deadline_ns);
        }
        before_ns = now_ns;
        now_ns += draw(3) == 0 ? draw(UINT64_C(1) << (10 + draw(34))) : 0;
        // Only what the deadline said may be needed is needed.
        if (ph_wheel_next_ns(&wheel) > now_ns) {
            int so_far = fired;

            ph_wheel_advance(&wheel, now_ns);
            cr_assert_eq(fired, so_far);
        }
        ph_wheel_advance(&wheel, now_ns);
        for (int i = 0; now_ns != before_ns && i < COUNT; i++) {
            cr_assert(!watched[i].expected || watched[i].deadline_ns + MS > now_ns,
                      "round %d: a timer was forgotten", round);
        }
    }
    cr_assert_gt(fired, 3000);
    for (int i = 0; i < COUNT; i++) {
        ph_wheel_cancel(&wheel, &watched[i].timer);
    }
    cr_assert_eq(ph_wheel_next_ns(&wheel), UINT64_MAX);
    free(watched);
}

static int order[3];

static void note_order(struct ph_timer *timer)
{
    order[fired++] = *(int *)timer->owner;
}

Test(wheel, ticks_in_order_then_arming)
{
    static int numbers[3] = {0, 1, 2};
    struct ph_timer timers[3];

    ph_wheel_init(&wheel, 0);
    for (int i = 0; i < 3; i++) {
        ph_timer_init(&timers[i], note_order, &numbers[i]);
    }
    ph_wheel_set(&wheel, &timers[2], 90000 * MS);
    ph_wheel_set(&wheel, &timers[0], 5000 * MS);
    ph_wheel_advance(&wheel, 4990 * MS);
    ph_wheel_set(&wheel, &timers[1], 5000 * MS);
    ph_wheel_advance(&wheel, 100000 * MS);
    cr_assert_eq(fired, 3);
    cr_assert_eq(order[0], 0);
    cr_assert_eq(order[1], 1);
    cr_assert_eq(order[2], 2);
    cr_assert_not(ph_timer_armed(&timers[0]));
}

static void rearm(struct ph_timer *timer)
{
    fired++;
    ph_wheel_set(&wheel, timer, now_ns);
}

Test(wheel, armed_for_now_it_fires_in_a_later_tick)
{
    struct ph_timer timer;

    now_ns = 10 * MS;
    ph_wheel_init(&wheel, now_ns);
    ph_timer_init(&timer, rearm, NULL);
    ph_wheel_set(&wheel, &timer, now_ns);
    ph_wheel_advance(&wheel, now_ns);
    cr_assert_eq(fired, 0);
    now_ns += MS;
    ph_wheel_advance(&wheel, now_ns);
    cr_assert_eq(fired, 1);
    ph_wheel_advance(&wheel, 5 * MS); // the clock went back
    cr_assert_eq(fired, 1);
    ph_wheel_cancel(&wheel, &timer);
    ph_wheel_cancel(&wheel, &timer);
}
