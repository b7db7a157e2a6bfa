// Dates as mail and logs write them.
#include "base/date.h"

#include <stdio.h>
#include <time.h>

// Not strftime: its names of days and months follow the locale.
static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static struct tm split(uint64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts = {0};

    gmtime_r(&seconds, &parts);
    return parts;
}

char *ph_date_format(uint64_t wall_ms, char out[PH_DATE_TEXT_MAX])
{
    struct tm t = split(wall_ms);

    snprintf(out, PH_DATE_TEXT_MAX, "%s, %d %s %d %02d:%02d:%02d +0000", days[t.tm_wday], t.tm_mday,
             months[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
    return out;
}

char *ph_date_format_iso(uint64_t wall_ms, char out[PH_DATE_TEXT_MAX])
{
    struct tm t = split(wall_ms);

    snprintf(out, PH_DATE_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", t.tm_year + 1900,
             t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, (unsigned)(wall_ms % 1000));
    return out;
}
