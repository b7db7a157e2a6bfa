// A heap of events.
#include "tests/sim/clock.h"

#include <stdlib.h>

#include "base/check.h"

void sim_event_init(struct sim_event *event, void (*fire)(struct sim_event *event), void *owner)
{
    *event = (struct sim_event){.fire = fire, .owner = owner};
}

static bool earlier(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void put(struct sim_clock *clock, size_t slot, struct sim_event *event)
{
    clock->heap[slot] = event;
    event->slot = slot + 1;
}

static void rise(struct sim_clock *clock, size_t slot)
{
    struct sim_event *event = clock->heap[slot];

    while (slot > 0 && earlier(event, clock->heap[(slot - 1) / 2])) {
        put(clock, slot, clock->heap[(slot - 1) / 2]);
        slot = (slot - 1) / 2;
    }
    put(clock, slot, event);
}

static void sink(struct sim_clock *clock, size_t slot)
{
    struct sim_event *event = clock->heap[slot];

    for (;;) {
        size_t child = 2 * slot + 1;

        if (child + 1 < clock->count && earlier(clock->heap[child + 1], clock->heap[child])) {
            child++;
        }
        if (child >= clock->count || !earlier(clock->heap[child], event)) {
            break;
        }
        put(clock, slot, clock->heap[child]);
        slot = child;
    }
    put(clock, slot, event);
}

void sim_cancel(struct sim_clock *clock, struct sim_event *event)
{
    size_t slot = event->slot - 1;
    struct sim_event *last;

    if (event->slot == 0) {
        return;
    }
    event->slot = 0;
    last = clock->heap[--clock->count];
    if (last != event) {
        put(clock, slot, last);
        rise(clock, slot);
        sink(clock, last->slot - 1);
    }
}

void sim_at(struct sim_clock *clock, struct sim_event *event, uint64_t at_ns)
{
    PH_CHECK(event->fire != NULL);
    sim_cancel(clock, event);
    if (clock->count == clock->capacity) {
        clock->capacity = clock->capacity == 0 ? 256 : clock->capacity * 2;
        clock->heap = reallocarray(clock->heap, clock->capacity, sizeof(*clock->heap));
        PH_CHECK(clock->heap != NULL);
    }
    event->at_ns = at_ns > clock->now_ns ? at_ns : clock->now_ns;
    event->order = clock->order++;
    clock->heap[clock->count++] = event;
    rise(clock, clock->count - 1);
}

void sim_after(struct sim_clock *clock, struct sim_event *event, uint64_t delay_ns)
{
    sim_at(clock, event, clock->now_ns + delay_ns);
}

struct sim_event *sim_clock_next(struct sim_clock *clock)
{
    struct sim_event *event;

    if (clock->count == 0) {
        return NULL;
    }
    event = clock->heap[0];
    sim_cancel(clock, event);
    clock->now_ns = event->at_ns;
    return event;
}
