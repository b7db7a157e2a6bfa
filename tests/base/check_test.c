#include "base/check.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

Test(check, a_wrong_state_stops_the_process, .signal = SIGABRT)
{
    PH_CHECK(1 + 1 == 3);
}

Test(check, memory_that_cannot_be_had_ends_the_process, .exit_code = PH_EXIT_WANT)
{
    ph_out_of_memory(64);
}

Test(check, allocations_are_zeroed)
{
    char *memory = ph_alloc(64);
    char *copy = ph_strdup("posthaste");

    for (int i = 0; i < 64; i++) {
        cr_assert_eq(memory[i], 0);
    }
    cr_assert_str_eq(copy, "posthaste");
    free(memory);
    free(copy);
}
