// Dates of certificates and CRLs: the older BoringSSL has no public conversion.
#include "tls/asn1.h"

#include <stdio.h>

#define SECONDS_PER_DAY 86400
#define UTC_TIME_LEN 13         // YYMMDDHHMMSSZ
#define GENERALIZED_TIME_LEN 15 // YYYYMMDDHHMMSSZ

// Days since 1970 of a date of the proleptic Gregorian calendar. The year begins in March here, so
// that the leap day is its last.
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t shifted = month <= 2 ? year - 1 : year;
    int64_t era = (shifted >= 0 ? shifted : shifted - 399) / 400;
    int64_t year_of_era = shifted - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static int64_t days_in(int64_t year, int64_t month)
{
    return month == 12 ? 31 : days_of(year, month + 1, 1) - days_of(year, month, 1);
}

// Cuts `count` digits off the front.
static bool cut_number(struct ph_str *text, size_t count, int64_t *out_value)
{
    uint64_t value;
    bool valid = text->len >= count && ph_str_to_u64(ph_str_first(*text, count), &value);

    if (valid) {
        *out_value = (int64_t)value;
        *text = ph_str_after(*text, count);
    }
    return valid;
}

bool ph_asn1_time_parse(struct ph_str text, int64_t *out_s)
{
    int64_t year = 0;
    int64_t month = 0;
    int64_t day = 0;
    int64_t hour = 0;
    int64_t minute = 0;
    int64_t second = 0;
    bool utc_time = text.len == UTC_TIME_LEN;

    if ((!utc_time && text.len != GENERALIZED_TIME_LEN) || text.data[text.len - 1] != 'Z' ||
        !cut_number(&text, utc_time ? 2 : 4, &year) || !cut_number(&text, 2, &month) ||
        !cut_number(&text, 2, &day) || !cut_number(&text, 2, &hour) ||
        !cut_number(&text, 2, &minute) || !cut_number(&text, 2, &second)) {
        return false;
    }
    if (utc_time) {
        year += year < 50 ? 2000 : 1900; // RFC 5280 §4.1.2.5.1
    }
    if (month < 1 || month > 12 || day < 1 || day > days_in(year, month) || hour > 23 ||
        minute > 59 || second > 59) {
        return false;
    }
    *out_s = days_of(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    return true;
}

bool ph_asn1_time_to_s(const ASN1_TIME *asn1_time, int64_t *out_s)
{
    struct ph_str text;

    if (asn1_time == NULL) {
        return false;
    }
    text.data = (const char *)ASN1_STRING_get0_data(asn1_time);
    text.len = (size_t)ASN1_STRING_length(asn1_time);
    return ph_asn1_time_parse(text, out_s);
}

char *ph_asn1_date_format(int64_t seconds, char out[PH_ASN1_DATE_TEXT_MAX])
{
    int64_t days = seconds / SECONDS_PER_DAY - (seconds % SECONDS_PER_DAY < 0 ? 1 : 0);
    int64_t year = 1970 + days / 366; // never beyond the right one when days >= 0
    int64_t month = 1;

    if (days < 0) {
        year = 1970 + days / 365 - 1;
    }
    while (days_of(year + 1, 1, 1) <= days) {
        year++;
    }
    while (month < 12 && days_of(year, month + 1, 1) <= days) {
        month++;
    }
    snprintf(out, PH_ASN1_DATE_TEXT_MAX, "%04lld-%02u-%02u", (long long)year, (unsigned)month % 100,
             (unsigned)(days - days_of(year, month, 1) + 1) % 100);
    return out;
}
