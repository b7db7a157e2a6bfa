// When the next commit group begins. Clients that were just answered send again soon: a group that
// begins as soon as the one before is durable has half of them, the other half waits for the next,
// and so it stays. As a write has its cost (a request, an interrupt, turns of its own), the group
// waits for those it may expect, and never for long.
#pragma once

#include <stdint.h>

struct ph_group_pace {
    uint64_t began_ns; // the write under way, or the last one
    uint64_t over_ns;  // when the last one ended; 0: there was none
    uint64_t took_ns;  // how long it took
    uint32_t expected; // messages in the next group, if everybody just answered sends one more
};

// A write begins.
void ph_group_pace_began(struct ph_group_pace *pace, uint64_t now_ns);
// It is over: `messages` are answered, and `gathered` came meanwhile.
void ph_group_pace_over(struct ph_group_pace *pace, uint64_t now_ns, uint32_t messages,
                        uint32_t gathered);
// Not before this may a group with so many messages begin (ns); 0: at once.
uint64_t ph_group_pace_until(const struct ph_group_pace *pace, uint32_t messages);
