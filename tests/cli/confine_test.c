#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "cli/confine.h"

#ifndef __SANITIZE_ADDRESS__

static void confine(void)
{
    struct ph_buf error = {0};

    cr_assert(ph_confine_calls(&error), "%s", ph_buf_cstr(&error));
}

Test(confine, no_program, .signal = SIGSYS)
{
    confine();
    execl("/bin/true", "true", NULL);
}

Test(confine, no_process, .signal = SIGSYS)
{
    confine();
    (void)!fork();
}

static void *set(void *argument)
{
    *(int *)argument = 1;
    return NULL;
}

Test(confine, threads_go_on)
{
    pthread_t thread;
    int done = 0;

    confine();
    cr_assert_eq(pthread_create(&thread, NULL, set, &done), 0);
    pthread_join(thread, NULL);
    cr_expect_eq(done, 1);
}

#endif

Test(confine, users)
{
    struct ph_buf error = {0};

    cr_expect(ph_confine_become(PH_STR_NONE, &error));
    cr_expect(!ph_confine_become(PH_STR("nobody-there"), &error));
    cr_expect(strstr(ph_buf_cstr(&error), "there is no user nobody-there") != NULL);
    ph_buf_deinit(&error);
}
