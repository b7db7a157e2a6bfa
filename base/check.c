// The end of a process whose own state is wrong, and allocations that must succeed.
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn void ph_check_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "posthaste: internal error at %s:%d: %s does not hold\n", file, line,
            condition);
    abort();
}

_Noreturn void ph_out_of_memory(size_t size)
{
    fprintf(
        stderr,
        "posthaste: out of memory: %zu bytes more can't be had; lower MemoryLimit, or allow more\n",
        size);
    _exit(PH_EXIT_WANT);
}

void *ph_alloc(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);

    if (memory == NULL) {
        ph_out_of_memory(size);
    }
    return memory;
}

char *ph_strdup(const char *text)
{
    char *copy = strdup(text);

    if (copy == NULL) {
        ph_out_of_memory(strlen(text));
    }
    return copy;
}
