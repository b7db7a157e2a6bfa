// The end of a process whose own state is wrong, and allocations that must succeed.
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void ph_check_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "posthaste: internal error at %s:%d: %s does not hold\n", file, line,
            condition);
    abort();
}

void *ph_alloc(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);

    PH_CHECK(memory != NULL);
    return memory;
}

char *ph_strdup(const char *text)
{
    char *copy = strdup(text);

    PH_CHECK(copy != NULL);
    return copy;
}
