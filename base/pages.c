// Memory for long tables.
#include "base/pages.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

void *ph_pages_alloc(size_t len, bool huge)
{
    size_t whole = (len + PH_PAGES_HUGE_BYTES - 1) / PH_PAGES_HUGE_BYTES * PH_PAGES_HUGE_BYTES;
    void *memory = NULL;

    if (len > PTRDIFF_MAX) { // no allocator has it, and `whole` may be a small number
        return NULL;
    }
    if (!huge || len < PH_PAGES_HUGE_BYTES) {
        return malloc(len);
    }
    if (posix_memalign(&memory, PH_PAGES_HUGE_BYTES, whole) != 0) {
        return NULL;
    }
    (void)madvise(memory, whole, MADV_HUGEPAGE); // where it isn't known, small pages do
    return memory;
}
