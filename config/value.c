// Words → values.
#include "config/value.h"

#include <stdio.h>
#include <string.h>

bool ph_value_bool(struct ph_str text, bool *out)
{
    bool yes = ph_str_eq_nocase(text, PH_STR("true")) || ph_str_eq_nocase(text, PH_STR("$true")) ||
               ph_str_eq_nocase(text, PH_STR("on"));
    bool no = ph_str_eq_nocase(text, PH_STR("false")) || ph_str_eq_nocase(text, PH_STR("$false")) ||
              ph_str_eq_nocase(text, PH_STR("off"));

    if (yes || no) {
        *out = yes;
    }
    return yes || no;
}

// The digits at the front; the rest of `text` is the unit.
static bool cut_number(struct ph_str *text, uint64_t *out)
{
    size_t len = 0;

    while (len < text->len && text->data[len] >= '0' && text->data[len] <= '9') {
        len++;
    }
    if (!ph_str_to_u64(ph_str_first(*text, len), out)) {
        return false;
    }
    *text = ph_str_after(*text, len);
    return true;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static bool unit_of(struct ph_str text, const struct unit *units, size_t count, uint64_t *out)
{
    for (size_t i = 0; i < count; i++) {
        if (ph_str_eq_nocase(text, ph_str_from(units[i].name))) {
            *out = units[i].factor;
            return true;
        }
    }
    return false;
}

// Exchange's form: [d.]hh:mm:ss.
static bool read_timespan(struct ph_str text, uint64_t *out)
{
    uint64_t days = 0;
    uint64_t parts[3];
    struct ph_str part;
    ptrdiff_t dot = ph_str_find_char(text, '.');

    if (dot >= 0) {
        if (!ph_str_to_u64(ph_str_first(text, (size_t)dot), &days)) {
            return false;
        }
        text = ph_str_after(text, (size_t)dot + 1);
    }
    for (int i = 0; i < 3; i++) {
        if (!ph_str_cut(&text, ':', &part) || !ph_str_to_u64(part, &parts[i])) {
            return false;
        }
    }
    if (text.len > 0 || parts[0] > 23 || parts[1] > 59 || parts[2] > 59 || days > 36500) {
        return false;
    }
    *out = (((days * 24 + parts[0]) * 60 + parts[1]) * 60 + parts[2]) * 1000;
    return true;
}

bool ph_value_time_ms(struct ph_str text, uint64_t *out)
{
    static const struct unit units[] = {{"ms", 1},      {"s", 1000},     {"m", 60000},
                                        {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};
    uint64_t number;
    uint64_t factor;

    if (ph_str_find_char(text, ':') >= 0) {
        return read_timespan(text, out);
    }
    if (ph_str_eq(text, PH_STR("0"))) {
        *out = 0;
        return true;
    }
    if (!cut_number(&text, &number) || !unit_of(text, units, PH_ARRAY_LEN(units), &factor) ||
        number > UINT64_MAX / factor) {
        return false;
    }
    *out = number * factor;
    return true;
}

bool ph_value_size(struct ph_str text, uint64_t *out)
{
    static const struct unit units[] = {{"", 1},
                                        {"B", 1},
                                        {"KB", UINT64_C(1) << 10},
                                        {"MB", UINT64_C(1) << 20},
                                        {"GB", UINT64_C(1) << 30},
                                        {"TB", UINT64_C(1) << 40}};
    uint64_t number;
    uint64_t factor;

    if (ph_str_eq_nocase(text, PH_STR("unlimited"))) {
        *out = PH_CONFIG_UNLIMITED;
        return true;
    }
    if (!cut_number(&text, &number) || !unit_of(text, units, PH_ARRAY_LEN(units), &factor) ||
        number > UINT64_MAX / factor) {
        return false;
    }
    *out = number * factor;
    return true;
}

bool ph_value_number(struct ph_str text, uint64_t *out)
{
    if (ph_str_eq_nocase(text, PH_STR("unlimited"))) {
        *out = PH_CONFIG_UNLIMITED;
        return true;
    }
    return ph_str_to_u64(text, out);
}

bool ph_value_rate(struct ph_str text, uint64_t *out_count, uint64_t *out_interval_ms)
{
    static const struct unit units[] = {{"/s", 1000}, {"/m", 60000}, {"/h", 3600000}};
    uint64_t count;

    if (ph_str_eq_nocase(text, PH_STR("off"))) {
        *out_count = 0;
        *out_interval_ms = 0;
        return true;
    }
    if (!cut_number(&text, &count) || count == 0 ||
        !unit_of(text, units, PH_ARRAY_LEN(units), out_interval_ms)) {
        return false;
    }
    *out_count = count;
    return true;
}

bool ph_value_percent(struct ph_str text, uint64_t *out)
{
    uint64_t number;

    if (!cut_number(&text, &number) || !ph_str_eq(text, PH_STR("%")) || number > 100) {
        return false;
    }
    *out = number;
    return true;
}

char *ph_value_time_format(uint64_t ms, char out[PH_TIME_TEXT_MAX])
{
    static const struct unit units[] = {
        {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    size_t len = 0;

    out[0] = '0';
    out[1] = '\0';
    for (size_t i = 0; i < PH_ARRAY_LEN(units); i++) {
        if (ms >= units[i].factor) {
            len += (size_t)snprintf(out + len, PH_TIME_TEXT_MAX - len, "%llu%s",
                                    (unsigned long long)(ms / units[i].factor), units[i].name);
            ms %= units[i].factor;
        }
    }
    return out;
}

unsigned ph_value_distance(struct ph_str a, struct ph_str b)
{
    unsigned row[64];

    if (a.len >= PH_ARRAY_LEN(row) || b.len >= PH_ARRAY_LEN(row)) {
        return 9;
    }
    for (size_t j = 0; j <= b.len; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b.len; j++) {
            bool differs = ph_ascii_lower(a.data[i - 1]) != ph_ascii_lower(b.data[j - 1]);
            unsigned best = diagonal + differs;

            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b.len] < 9 ? row[b.len] : 9;
}
