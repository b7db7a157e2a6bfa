#include "queue/content.h"

#include <criterion/criterion.h>

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
