// Dates as mail and logs write them, in UTC.
#pragma once

#include <stdint.h>

#define PH_DATE_TEXT_MAX 48

// "Tue, 24 Nov 2026 08:17:40 +0000" (RFC 5322 §3.3). `wall_ms`: since 1970. Returns `out`.
char *ph_date_format(uint64_t wall_ms, char out[PH_DATE_TEXT_MAX]);
// "2026-11-24T08:17:40.123Z" (RFC 3339).
char *ph_date_format_iso(uint64_t wall_ms, char out[PH_DATE_TEXT_MAX]);
