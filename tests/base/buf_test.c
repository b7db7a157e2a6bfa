#include "base/buf.h"

#include <criterion/criterion.h>
#include <string.h>

Test(buf, an_append_fits_whole_or_not_at_all)
{
    struct ph_buf buf PH_CLEANUP(ph_buf_deinit);

    ph_buf_init(&buf, 8);
    cr_assert(ph_buf_append(&buf, PH_STR("12345")));
    cr_assert_not(ph_buf_append(&buf, PH_STR("6789")));
    cr_assert(buf.overflow);
    cr_assert(ph_str_eq(ph_buf_str(&buf), PH_STR("12345")));
    cr_assert(ph_buf_append(&buf, PH_STR("678")));
    cr_assert_eq(buf.len, 8);
    cr_assert_not(ph_buf_append_char(&buf, '9'));
}

Test(buf, consumes_from_the_front_and_prints)
{
    struct ph_buf buf PH_CLEANUP(ph_buf_deinit);

    ph_buf_init(&buf, 0);
    cr_assert(ph_buf_printf(&buf, "%d %s", 250, "ok"));
    ph_buf_consume(&buf, 4);
    cr_assert_str_eq(ph_buf_cstr(&buf), "ok");
    cr_assert_eq(buf.len, 2);
    for (int i = 0; i < 10000; i++) {
        cr_assert(ph_buf_append_char(&buf, 'x'));
    }
    cr_assert_eq(buf.len, 10002);
    ph_buf_clear(&buf);
    cr_assert_eq(ph_buf_str(&buf).len, 0);
}

Test(buf, trims_to_what_it_holds)
{
    struct ph_buf buf = {0};

    ph_buf_trim(&buf);
    cr_assert(ph_buf_append(&buf, PH_STR("123")));
    ph_buf_trim(&buf);
    cr_assert_eq(buf.cap, 3);
    cr_assert(ph_buf_append(&buf, PH_STR("45")));
    cr_assert(ph_str_eq(ph_buf_str(&buf), PH_STR("12345")));
    ph_buf_clear(&buf);
    ph_buf_trim(&buf);
    cr_assert_null(buf.data);
    cr_assert(ph_buf_append_char(&buf, '6'));
    ph_buf_deinit(&buf);
}

Test(buf, zeroes_and_null_can_be_ended)
{
    struct ph_buf zeroes = {0};

    ph_buf_deinit(&zeroes);
    ph_buf_deinit(NULL);
    cr_assert_str_eq(ph_buf_cstr(&zeroes), "");
    ph_buf_deinit(&zeroes);
}
