#include "queue/group_pace.h"

#include <criterion/criterion.h>

#define US UINT64_C(1000)

static struct ph_group_pace after(uint64_t took_us, uint32_t messages, uint32_t gathered)
{
    struct ph_group_pace pace = {0};

    ph_group_pace_began(&pace, 1000 * US);
    ph_group_pace_over(&pace, (1000 + took_us) * US, messages, gathered);
    return pace;
}

Test(group_pace, nobody_is_expected)
{
    struct ph_group_pace first = {0};
    struct ph_group_pace one = after(300, 1, 0);
    struct ph_group_pace state = after(300, 0, 0);

    cr_expect_eq(ph_group_pace_until(&first, 1), 0, "before the first write");
    cr_expect_eq(ph_group_pace_until(&one, 1), 0, "a single client");
    cr_expect_eq(ph_group_pace_until(&state, 1), 0, "the last group had no messages");
}

Test(group_pace, those_just_answered_are_waited_for)
{
    struct ph_group_pace pace = after(300, 10, 9);

    cr_expect_eq(ph_group_pace_until(&pace, 9), (1300 + 600) * US, "as long as two writes take");
    cr_expect_eq(ph_group_pace_until(&pace, 18), (1300 + 600) * US);
    cr_expect_eq(ph_group_pace_until(&pace, 19), 0, "all are there");
    cr_expect_eq(ph_group_pace_until(&pace, 0), 0, "state doesn't wait for messages");
}

Test(group_pace, a_slow_disk_is_no_reason_to_wait_long)
{
    struct ph_group_pace slow = after(80000, 10, 10);
    struct ph_group_pace stopped = {0};

    cr_expect_eq(ph_group_pace_until(&slow, 10), (81000 + 2000) * US);
    // At the end a group begins whatever the clock says.
    ph_group_pace_began(&stopped, UINT64_MAX);
    ph_group_pace_over(&stopped, 5000 * US, 2, 0);
    cr_expect_eq(ph_group_pace_until(&stopped, 1), 5000 * US);
}
