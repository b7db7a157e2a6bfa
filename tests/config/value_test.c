#include "config/value.h"

#include <criterion/criterion.h>
#include <string.h>

Test(value, texts)
{
    static const struct {
        const char *text;
        uint64_t ms; // UINT64_MAX: refused
    } times[] = {
        {"15m", 900000},      {"2d", 172800000},         {"50ms", 50},
        {"00:15:00", 900000}, {"2.00:00:00", 172800000}, {"0", 0},
        {"15", UINT64_MAX},   {"m", UINT64_MAX},         {"24:00:00", UINT64_MAX},
        {"1:2", UINT64_MAX},  {"-1s", UINT64_MAX},       {"99999999999999999d", UINT64_MAX}};
    uint64_t out;
    uint64_t interval;

    for (size_t i = 0; i < PH_ARRAY_LEN(times); i++) {
        bool good = ph_value_time_ms(ph_str_from(times[i].text), &out);

        cr_expect_eq(good, times[i].ms != UINT64_MAX, "%s", times[i].text);
        if (good) {
            cr_expect_eq(out, times[i].ms, "%s", times[i].text);
        }
    }
    cr_expect(ph_value_size(PH_STR("35MB"), &out) && out == 36700160);
    cr_expect(!ph_value_size(PH_STR("35M"), &out));
    cr_expect(ph_value_rate(PH_STR("200/s"), &out, &interval) && out == 200 && interval == 1000);
    cr_expect(!ph_value_rate(PH_STR("200"), &out, &interval));
    cr_expect(ph_value_percent(PH_STR("10%"), &out) && out == 10);
    cr_expect(!ph_value_percent(PH_STR("101%"), &out));
    cr_expect_eq(ph_value_distance(PH_STR("Hostnme"), PH_STR("Hostname")), 1);
    cr_expect_eq(ph_value_distance(PH_STR(""), PH_STR("12345678901")), 9);
    cr_expect(ph_value_size(PH_STR("unlimited"), &out) && out == PH_CONFIG_UNLIMITED);
    cr_expect(!ph_value_number(PH_STR("-1"), &out));
}

Test(value, times_are_written_as_they_are_read)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } cases[] = {{0, "0"},           {1, "1ms"},       {1000, "1s"},
                 {5400000, "1h30m"}, {86400000, "1d"}, {UINT64_C(90061001), "1d1h1m1s1ms"}};
    char text[PH_TIME_TEXT_MAX];

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        cr_expect_str_eq(ph_value_time_format(cases[i].ms, text), cases[i].text);
    }
    cr_expect(strlen(ph_value_time_format(UINT64_MAX, text)) < PH_TIME_TEXT_MAX);
}

Test(value, booleans_of_both_shells)
{
    bool out = false;

    cr_expect(ph_value_bool(PH_STR("$TRUE"), &out) && out);
    cr_expect(ph_value_bool(PH_STR("False"), &out) && !out);
    cr_expect(!ph_value_bool(PH_STR("yes"), &out));
}
