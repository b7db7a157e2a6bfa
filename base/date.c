// Dates as mail and logs write them.
#include "base/date.h"

#include <time.h>

#include "base/str.h"

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

// Written by hand: a message has three dates, and each took as long as its checksum.
static char *put_number(char *at, int value, int digits)
{
    for (int i = digits; i-- > 0; value /= 10) {
        at[i] = (char)('0' + value % 10);
    }
    return at + digits;
}

static char *put_text(char *at, const char *text)
{
    return at + ph_str_copy(at, PH_DATE_TEXT_MAX / 2, ph_str_from(text));
}

static char *put_clock(char *at, const struct tm *t)
{
    at = put_number(at, t->tm_hour, 2);
    *at++ = ':';
    at = put_number(at, t->tm_min, 2);
    *at++ = ':';
    return put_number(at, t->tm_sec, 2);
}

char *ph_date_format(uint64_t wall_ms, char out[PH_DATE_TEXT_MAX])
{
    struct tm t = split(wall_ms);
    char *at = put_text(put_text(out, days[t.tm_wday]), ", ");

    at = put_number(at, t.tm_mday, t.tm_mday < 10 ? 1 : 2);
    *at++ = ' ';
    at = put_text(put_text(at, months[t.tm_mon]), " ");
    at = put_number(at, t.tm_year + 1900, 4);
    *at++ = ' ';
    (void)put_text(put_clock(at, &t), " +0000");
    return out;
}

char *ph_date_format_iso(uint64_t wall_ms, char out[PH_DATE_TEXT_MAX])
{
    struct tm t = split(wall_ms);
    char *at = put_number(out, t.tm_year + 1900, 4);

    *at++ = '-';
    at = put_number(at, t.tm_mon + 1, 2);
    *at++ = '-';
    at = put_number(at, t.tm_mday, 2);
    *at++ = 'T';
    at = put_clock(at, &t);
    *at++ = '.';
    at = put_number(at, (int)(wall_ms % 1000), 3);
    (void)put_text(at, "Z");
    return out;
}
