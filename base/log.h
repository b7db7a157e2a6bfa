// What the daemon has to say about itself: one line each, to standard error or to whoever asks.
// (What becomes of messages is the delivery log's: engine/delivery_log.)
#pragma once

#include "base/check.h"
#include "base/str.h"

#define PH_LOG_LINE_MAX 1024 // bytes; longer ones are cut; ours

enum ph_log_level {
    PH_LOG_ERROR,
    PH_LOG_WARN,
    PH_LOG_INFO,
    PH_LOG_DEBUG,
};

// From any thread. Control characters become spaces: a peer's text can't forge a line.
void ph_log(enum ph_log_level level, const char *format, ...) PH_PRINTF(2, 3);
void ph_log_set_level(enum ph_log_level level); // the default is INFO
PH_MUST_CHECK bool ph_log_level_from(struct ph_str name, enum ph_log_level *out); // "info"
// Called for each line instead of standard error; NULL: standard error again. At start only.
void ph_log_set_sink(void (*sink)(void *owner, enum ph_log_level level, const char *line),
                     void *owner);
