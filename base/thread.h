// Threads that are made at start: where one can't be, the process says so and ends.
#pragma once

#include <pthread.h>

void ph_thread_start(pthread_t *out_thread, void *(*run)(void *argument), void *argument);
