// The span of time in which a decision that compares `now` with dates stays the same; and whose
// CRLs it asked for, since it ends with them too.
#pragma once

#include <stdint.h>

#include "tls/facts.h"

struct ph_window {
    int64_t now_s;
    int64_t from_s;  // the latest date noted that is not after now
    int64_t until_s; // the earliest date noted that is after now
    struct ph_crl_issuers issuers;
};

static inline struct ph_window ph_window_make(int64_t now_s)
{
    return (struct ph_window){.now_s = now_s, .from_s = INT64_MIN, .until_s = INT64_MAX};
}

// Every date that the decision depended on must be noted.
static inline void ph_window_note(struct ph_window *window, int64_t date_s)
{
    if (date_s <= window->now_s) {
        window->from_s = date_s > window->from_s ? date_s : window->from_s;
    } else {
        window->until_s = date_s < window->until_s ? date_s : window->until_s;
    }
}
