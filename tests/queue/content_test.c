#include "queue/content.h"

#include <criterion/criterion.h>
#include <string.h>

static int destroyed;

static void count_destroy(struct ph_content *content)
{
    (void)content;
    destroyed++;
}

Test(content, the_last_release_destroys_once)
{
    struct ph_content content;

    ph_content_init(&content, count_destroy);
    ph_content_retain(&content);
    ph_content_release(&content);
    cr_assert_eq(destroyed, 0);
    ph_content_release(&content);
    cr_assert_eq(destroyed, 1);
    ph_content_release(NULL);
}

Test(content, marks_stay_inside)
{
    static const struct {
        const char *text;
        const char *beyond;
    } rows[] = {
        {PH_CONTENT_MARK "AuthAs: Partner\r\n" PH_CONTENT_MARK
                         "AuthDomain: a.test\r\nReceived: x\r\n",
         "Received: x\r\n"},
        {"Received: x\r\n" PH_CONTENT_MARK "AuthAs: Partner\r\n",
         "Received: x\r\n" PH_CONTENT_MARK "AuthAs: Partner\r\n"},
        {"", ""},
        {PH_CONTENT_MARK "without an end", PH_CONTENT_MARK "without an end"},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct iovec body = {.iov_base = (void *)rows[i].text, .iov_len = strlen(rows[i].text)};
        struct ph_content content = {.body = &body, .body_count = 1, .body_len = body.iov_len};
        struct iovec beyond = ph_content_beyond_marks(&content);

        cr_assert_eq(beyond.iov_len, strlen(rows[i].beyond), "row %zu", i);
        cr_assert(memcmp(beyond.iov_base, rows[i].beyond, beyond.iov_len) == 0, "row %zu", i);
    }
}
