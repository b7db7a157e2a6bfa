// Time spent and its middle value.
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t ph_timing_cpu_ns(void);  // of this thread, user and system
uint64_t ph_timing_wall_ns(void); // monotonic
// Sorts `values`; their median. At least one.
uint64_t ph_timing_median(uint64_t *values, size_t count);
