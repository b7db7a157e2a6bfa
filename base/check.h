// Stops the process when a state is ours and wrong: kept alive it would lose mail.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define PH_MUST_CHECK __attribute__((warn_unused_result))
#define PH_PRINTF(format_index, first_argument)                                                    \
    __attribute__((format(printf, format_index, first_argument)))
#define PH_CLEANUP(function) __attribute__((cleanup(function)))
#define PH_ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define PH_CONTAINER_OF(pointer, type, member)                                                     \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

_Noreturn void ph_check_failed(const char *file, int line, const char *condition);

// Stays in release builds.
#define PH_CHECK(condition)                                                                        \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) {                                                   \
            ph_check_failed(__FILE__, __LINE__, #condition);                                       \
        }                                                                                          \
    } while (false)

// Hot loops only: gone where NDEBUG is set.
#ifdef NDEBUG
#define PH_DCHECK(condition)                                                                       \
    do {                                                                                           \
        (void)sizeof(condition);                                                                   \
    } while (false)
#else
#define PH_DCHECK(condition) PH_CHECK(condition)
#endif

#define PH_EXIT_WANT 70 // a resource that start needs can't be had; the next start may have it

// Allocations whose size neither a peer nor the load decides: failure stops the process.
// Zero-filled; the caller owns the result and gives it to free().
// Not our mistake and nothing to be examined: said in one line, without a core.
_Noreturn void ph_out_of_memory(size_t size);
void *ph_alloc(size_t size) __attribute__((malloc, returns_nonnull));
char *ph_strdup(const char *text) __attribute__((malloc, returns_nonnull));
