// Timers by the million: a hierarchical wheel, constant cost each, one deadline to wait for.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/check.h"

#define PH_WHEEL_TICK_NS UINT64_C(1000000) // 1 ms: timers are rounded up to it
#define PH_WHEEL_LEVELS 7                  // 64^7 ms: 139 years
#define PH_WHEEL_SLOTS 64

struct ph_timer {
    void (*fire)(struct ph_timer *timer);
    void *owner;
    uint64_t tick; // when; of an armed timer
    bool armed;
    uint8_t level;
    uint8_t slot;
    TAILQ_ENTRY(ph_timer) link;
};
TAILQ_HEAD(ph_timer_list, ph_timer);

struct ph_wheel {
    uint64_t tick;                      // all before and at it has fired
    uint64_t occupied[PH_WHEEL_LEVELS]; // a bit for each slot that holds timers
    struct ph_timer_list slots[PH_WHEEL_LEVELS][PH_WHEEL_SLOTS];
};

void ph_wheel_init(struct ph_wheel *wheel, uint64_t now_ns);

void ph_timer_init(struct ph_timer *timer, void (*fire)(struct ph_timer *timer), void *owner);
bool ph_timer_armed(const struct ph_timer *timer);
// Arms it, or arms it anew. It fires at the first advance to or past the deadline, never before.
void ph_wheel_set(struct ph_wheel *wheel, struct ph_timer *timer, uint64_t deadline_ns);
void ph_wheel_cancel(struct ph_wheel *wheel, struct ph_timer *timer); // unarmed accepted

// When to advance next, in ns: never later than the earliest deadline, and perhaps earlier, where
// timers are to be moved down a level. UINT64_MAX: nothing is armed.
uint64_t ph_wheel_next_ns(const struct ph_wheel *wheel);
// Fires what is due, in the order of ticks, and of arming within a tick. A timer may be armed or
// cancelled meanwhile; one armed for now fires in a later advance. A clock that stood still or went
// back does nothing.
void ph_wheel_advance(struct ph_wheel *wheel, uint64_t now_ns);
