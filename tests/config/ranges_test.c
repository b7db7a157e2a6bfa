#include "config/ranges.h"

#include <criterion/criterion.h>
#include <string.h>

// "|" stands for the NUL behind each range.
static const struct {
    const char *text;
    const char *wanted; // NULL: none of the forms
} rows[] = {
    {"10.0.0.0/8", "10.0.0.0/8|"},
    {"192.0.2.7", "192.0.2.7/32|"},
    {"2001:db8::/32", "2001:db8::/32|"},
    {"192.0.2.1-192.0.2.1", "192.0.2.1/32|"},
    {"192.0.2.1-192.0.2.9", "192.0.2.1/32|192.0.2.2/31|192.0.2.4/30|192.0.2.8/31|"},
    {" 192.0.2.0 - 192.0.2.255 ", "192.0.2.0/24|"},
    {"0.0.0.0-255.255.255.255", "0.0.0.0/0|"},
    {"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0|"},
    {"2001:db8::1-2001:db8::2", "2001:db8::1/128|2001:db8::2/128|"},
    {"192.0.2.77(255.255.255.0)", "192.0.2.0/24|"},
    {"192.0.2.77(255.255.255.255)", "192.0.2.77/32|"},
    {"192.0.2.77(0.0.0.0)", "0.0.0.0/0|"},
    {"192.0.2.77(255.0.255.0)", NULL},
    {"192.0.2.77(255.255.255.0", NULL},
    {"192.0.2.9-192.0.2.1", NULL},
    {"192.0.2.1-2001:db8::1", NULL},
    {"192.0.2.1-", NULL},
    {"-", NULL},
    {"", NULL},
    {"10.0.0.0/33", NULL},
    {"mx.contoso.test", NULL},
};

Test(ranges, forms_of_exchange)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ph_buf out = {0};
        bool everything = false;
        bool good = ph_ranges_read(ph_str_from(rows[i].text), &out, &everything);

        for (size_t at = 0; at < out.len; at++) {
            out.data[at] = out.data[at] == '\0' ? '|' : out.data[at];
        }
        cr_expect_eq(good, rows[i].wanted != NULL, "%s", rows[i].text);
        if (good && rows[i].wanted != NULL) {
            cr_expect_str_eq(ph_buf_cstr(&out), rows[i].wanted, "%s", rows[i].text);
            cr_expect_eq(everything, strstr(rows[i].wanted, "/0|") != NULL, "%s", rows[i].text);
        } else {
            cr_expect_eq(out.len, 0, "%s", rows[i].text);
        }
        ph_buf_deinit(&out);
    }
}
