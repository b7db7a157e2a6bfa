// Diagnostics, line by line.
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {
    [PH_LOG_ERROR] = "error",
    [PH_LOG_WARN] = "warn",
    [PH_LOG_INFO] = "info",
    [PH_LOG_DEBUG] = "debug",
};
static _Atomic enum ph_log_level level_in_force = PH_LOG_INFO;
static void (*line_sink)(void *owner, enum ph_log_level level, const char *line);
static void *line_owner;

void ph_log(enum ph_log_level level, const char *format, ...)
{
    char line[PH_LOG_LINE_MAX];
    va_list arguments;
    int prefix;
    int len;

    if (level > atomic_load_explicit(&level_in_force, memory_order_relaxed)) {
        return;
    }
    prefix = snprintf(line, sizeof(line), "posthaste: %s: ", names[level]);
    va_start(arguments, format);
    len = prefix + vsnprintf(line + prefix, sizeof(line) - (size_t)prefix - 1, format, arguments);
    va_end(arguments);
    if (len > (int)sizeof(line) - 2) {
        len = (int)sizeof(line) - 2;
    }
    ph_text_make_plain(line, len);
    line[len] = '\0';
    if (line_sink != NULL) {
        line_sink(line_owner, level, line + prefix);
    } else {
        // One write: lines of several threads don't mix. Nobody is told when even this fails.
        line[len] = '\n';
        if (write(STDERR_FILENO, line, (size_t)len + 1) < 0) {
            return;
        }
    }
}

void ph_log_set_level(enum ph_log_level level)
{
    atomic_store(&level_in_force, level);
}

bool ph_log_level_from(struct ph_str name, enum ph_log_level *out)
{
    for (size_t i = 0; i < PH_ARRAY_LEN(names); i++) {
        if (ph_str_eq_nocase(name, ph_str_from(names[i]))) {
            *out = (enum ph_log_level)i;
            return true;
        }
    }
    return false;
}

void ph_log_set_sink(void (*sink)(void *owner, enum ph_log_level level, const char *line),
                     void *owner)
{
    line_sink = sink;
    line_owner = owner;
}
