// A hierarchical timer wheel. Level n has slots of 64^n ticks; a timer lies at the lowest level at
// which its tick and the wheel's differ in no digit above, and moves down when that slot is
// reached.
#include "base/wheel.h"

#define SLOT_BITS 6
#define SLOT_MASK (PH_WHEEL_SLOTS - 1)
#define TICKS_MAX ((UINT64_C(1) << (SLOT_BITS * PH_WHEEL_LEVELS)) - 1)

_Static_assert(PH_WHEEL_SLOTS == 1 << SLOT_BITS, "a slot is a digit");

void ph_wheel_init(struct ph_wheel *wheel, uint64_t now_ns)
{
    *wheel = (struct ph_wheel){.tick = now_ns / PH_WHEEL_TICK_NS};
    for (int level = 0; level < PH_WHEEL_LEVELS; level++) {
        for (int slot = 0; slot < PH_WHEEL_SLOTS; slot++) {
            TAILQ_INIT(&wheel->slots[level][slot]);
        }
    }
}

void ph_timer_init(struct ph_timer *timer, void (*fire)(struct ph_timer *timer), void *owner)
{
    *timer = (struct ph_timer){.fire = fire, .owner = owner};
}

bool ph_timer_armed(const struct ph_timer *timer)
{
    return timer->armed;
}

static void insert(struct ph_wheel *wheel, struct ph_timer *timer)
{
    uint64_t differing = timer->tick ^ wheel->tick;
    int level = differing == 0 ? 0 : (63 - __builtin_clzll(differing)) / SLOT_BITS;

    PH_CHECK(timer->tick >= wheel->tick && level < PH_WHEEL_LEVELS);
    timer->level = (uint8_t)level;
    timer->slot = (uint8_t)((timer->tick >> (SLOT_BITS * level)) & SLOT_MASK);
    timer->armed = true;
    TAILQ_INSERT_TAIL(&wheel->slots[level][timer->slot], timer, link);
    wheel->occupied[level] |= UINT64_C(1) << timer->slot;
}

void ph_wheel_set(struct ph_wheel *wheel, struct ph_timer *timer, uint64_t deadline_ns)
{
    uint64_t tick = deadline_ns / PH_WHEEL_TICK_NS + (deadline_ns % PH_WHEEL_TICK_NS != 0);
    uint64_t last = wheel->tick | TICKS_MAX; // of the wheel's present turn

    ph_wheel_cancel(wheel, timer);
    // What is due already fires at the next tick; what lies beyond the wheel's turn, at its end.
    if (tick <= wheel->tick) {
        tick = wheel->tick + 1;
    }
    timer->tick = tick < last ? tick : last;
    insert(wheel, timer);
}

void ph_wheel_cancel(struct ph_wheel *wheel, struct ph_timer *timer)
{
    if (timer->armed) {
        struct ph_timer_list *list = &wheel->slots[timer->level][timer->slot];

        TAILQ_REMOVE(list, timer, link);
        timer->armed = false;
        if (TAILQ_EMPTY(list)) {
            wheel->occupied[timer->level] &= ~(UINT64_C(1) << timer->slot);
        }
    }
}

// The first tick after the wheel's at which a slot has something; UINT64_MAX: none.
static uint64_t next_tick(const struct ph_wheel *wheel)
{
    uint64_t next = UINT64_MAX;

    // A lower level's slots all come before the next slot of a higher one.
    for (int level = 0; next == UINT64_MAX && level < PH_WHEEL_LEVELS; level++) {
        int shift = SLOT_BITS * level;
        uint64_t digit = (wheel->tick >> shift) & SLOT_MASK;
        uint64_t later =
            digit == SLOT_MASK ? 0 : wheel->occupied[level] & (UINT64_MAX << (digit + 1));

        if (later != 0) {
            uint64_t above = (wheel->tick >> shift) & ~(uint64_t)SLOT_MASK;

            next = (above | (uint64_t)__builtin_ctzll(later)) << shift;
        }
    }
    return next;
}

uint64_t ph_wheel_next_ns(const struct ph_wheel *wheel)
{
    uint64_t tick = next_tick(wheel);

    return tick > UINT64_MAX / PH_WHEEL_TICK_NS ? UINT64_MAX : tick * PH_WHEEL_TICK_NS;
}

// At a tick where higher digits changed, the slots just reached spread over the levels below.
static void cascade(struct ph_wheel *wheel)
{
    for (int level = PH_WHEEL_LEVELS - 1; level > 0; level--) {
        uint64_t slot = (wheel->tick >> (SLOT_BITS * level)) & SLOT_MASK;
        struct ph_timer_list *list = &wheel->slots[level][slot];
        struct ph_timer_list reached = TAILQ_HEAD_INITIALIZER(reached);
        struct ph_timer *timer;

        TAILQ_CONCAT(&reached, list, link);
        wheel->occupied[level] &= ~(UINT64_C(1) << slot);
        while ((timer = TAILQ_FIRST(&reached)) != NULL) {
            TAILQ_REMOVE(&reached, timer, link);
            insert(wheel, timer);
        }
    }
}

void ph_wheel_advance(struct ph_wheel *wheel, uint64_t now_ns)
{
    uint64_t now = now_ns / PH_WHEEL_TICK_NS;
    uint64_t tick;

    while ((tick = next_tick(wheel)) <= now) {
        struct ph_timer_list *list = &wheel->slots[0][tick & SLOT_MASK];
        struct ph_timer *timer;

        wheel->tick = tick;
        cascade(wheel);
        // What is armed by a timer that fires lies at a later tick, so this list only shrinks.
        while ((timer = TAILQ_FIRST(list)) != NULL) {
            ph_wheel_cancel(wheel, timer);
            timer->fire(timer);
        }
    }
    if (now > wheel->tick) {
        wheel->tick = now;
    }
}
