// Virtual time: events in order, by the nanosecond.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_event {
    void (*fire)(struct sim_event *event);
    void *owner;
    uint64_t at_ns;
    uint64_t order; // among those of the same nanosecond
    size_t slot;    // in the heap, plus 1; 0: not armed
};

struct sim_clock {
    uint64_t now_ns;
    uint64_t order;
    struct sim_event **heap;
    size_t count;
    size_t capacity;
};

void sim_event_init(struct sim_event *event, void (*fire)(struct sim_event *event), void *owner);
// Arms it, or arms it anew.
void sim_at(struct sim_clock *clock, struct sim_event *event, uint64_t at_ns);
void sim_after(struct sim_clock *clock, struct sim_event *event, uint64_t delay_ns);
void sim_cancel(struct sim_clock *clock, struct sim_event *event); // unarmed accepted
// The earliest event, taken out, and the time is its own; NULL: nothing will ever happen again.
struct sim_event *sim_clock_next(struct sim_clock *clock);
