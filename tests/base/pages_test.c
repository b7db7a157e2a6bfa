#include "base/pages.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

Test(pages, pieces_of_any_length)
{
    static const size_t lengths[] = {1, 4096, PH_PAGES_HUGE_BYTES - 1, PH_PAGES_HUGE_BYTES,
                                     3 * PH_PAGES_HUGE_BYTES / 2};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (int huge = 0; huge < 2; huge++) {
            char *memory = ph_pages_alloc(lengths[i], huge);

            cr_assert_not_null(memory);
            memset(memory, 1, lengths[i]);
            // Only whole huge pages can be backed by one.
            cr_expect(!huge || lengths[i] < PH_PAGES_HUGE_BYTES ||
                      (uintptr_t)memory % PH_PAGES_HUGE_BYTES == 0);
            free(memory);
        }
    }
}

Test(pages, too_much_is_refused)
{
    cr_expect_null(ph_pages_alloc(SIZE_MAX, false));
    cr_expect_null(ph_pages_alloc(SIZE_MAX, true));
    cr_expect_null(ph_pages_alloc((size_t)PTRDIFF_MAX + 1, true));
}
