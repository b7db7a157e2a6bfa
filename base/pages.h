// Memory for long tables, in pieces that the kernel may back with huge pages: fewer faults while
// they are filled, fewer misses when they are looked into at random.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define PH_PAGES_HUGE_BYTES ((size_t)2 << 20) // of a huge page, on the machines we know

// `len` bytes, not zeroed, for free(); NULL when memory is short. `huge` asks for huge pages: what
// a table's first piece, which may stay nearly empty, should not do.
void *ph_pages_alloc(size_t len, bool huge);
