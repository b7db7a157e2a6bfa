// Threads that are made at start.
#include "base/thread.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

void ph_thread_start(pthread_t *out_thread, void *(*run)(void *argument), void *argument)
{
    int error = pthread_create(out_thread, NULL, run, argument);

    if (error != 0) {
        fprintf(stderr,
                "posthaste: a thread can't be started: %s; allow this user more processes "
                "(RLIMIT_NPROC, or the unit's TasksMax) or more memory\n",
                strerror(error));
        _exit(PH_EXIT_WANT);
    }
}
