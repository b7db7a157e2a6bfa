#include "base/thread.h"

#include <criterion/criterion.h>

#include "base/check.h"

static void *answer(void *argument)
{
    *(int *)argument = 42;
    return argument;
}

Test(thread, runs)
{
    int number = 0;
    pthread_t thread;
    void *result;

    ph_thread_start(&thread, answer, &number);
    cr_assert_eq(pthread_join(thread, &result), 0);
    cr_expect_eq(result, &number);
    cr_expect_eq(number, 42);
}

// A stack larger than any address space: no thread, and no core either.
Test(thread, ends_the_process_where_there_can_be_none, .exit_code = PH_EXIT_WANT)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int number;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, (size_t)1 << 47);
    cr_assert_eq(pthread_setattr_default_np(&attributes), 0);
    ph_thread_start(&thread, answer, &number);
}
