// Words → times, sizes, numbers, choices, as the configuration writes them. Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define PH_CONFIG_UNLIMITED UINT64_MAX

bool ph_value_bool(struct ph_str text, bool *out);        // true, $true, false, $false
bool ph_value_time_ms(struct ph_str text, uint64_t *out); // 15m, 2d, 50ms, 00:15:00, 2.00:00:00
bool ph_value_size(struct ph_str text, uint64_t *out);    // 35MB (MB = 2^20), unlimited
bool ph_value_number(struct ph_str text, uint64_t *out);  // 100, unlimited
bool ph_value_rate(struct ph_str text, uint64_t *out_count, uint64_t *out_interval_ms); // 200/s
bool ph_value_percent(struct ph_str text, uint64_t *out);                               // 10%
// 5400000 → "1h30m"; written as ph_value_time_ms reads it where one unit is enough.
#define PH_TIME_TEXT_MAX 48
char *ph_value_time_format(uint64_t ms, char out[PH_TIME_TEXT_MAX]);
// How many single edits part two words, at most 9: for "did you mean".
unsigned ph_value_distance(struct ph_str a, struct ph_str b);
