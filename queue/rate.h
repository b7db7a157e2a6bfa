// So many in a time: GCRA. No more than the stated number falls into any interval. Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ph_rate_meter {
    uint64_t spacing_ns;   // between two, on average; 0: no limit
    uint64_t tolerance_ns; // so much ahead of it one may be
    uint64_t next_ns;      // when the next one would be on the dot
};

// `count` in `interval_ms`; count 0: no limit.
void ph_rate_meter_init(struct ph_rate_meter *meter, uint64_t count, uint64_t interval_ms);
bool ph_rate_meter_allows(const struct ph_rate_meter *meter, uint64_t now_ns);
void ph_rate_meter_take(struct ph_rate_meter *meter, uint64_t now_ns); // one more has happened
// When one is allowed again; 0: now.
uint64_t ph_rate_meter_next_ns(const struct ph_rate_meter *meter, uint64_t now_ns);
