// The span of time in which a decision that compares `now` with dates stays the same; and whose
// CRLs it asked for, since it ends with them too.
#pragma once

#include <stdint.h>

#define PH_WINDOW_ISSUERS_MAX                                                                      \
    8 // distinct ones that one decision asked for; ours: more aren't cached

struct ph_window {
    int64_t now_s;
    int64_t from_s;                          // the latest date noted that is not after now
    int64_t until_s;                         // the earliest date noted that is after now
    uint32_t issuers[PH_WINDOW_ISSUERS_MAX]; // X509_NAME_hash
    uint32_t issuer_count;                   // larger than the array: some are missing
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

static inline void ph_window_note_issuer(struct ph_window *window, uint32_t issuer_hash)
{
    for (uint32_t i = 0; i < window->issuer_count && i < PH_WINDOW_ISSUERS_MAX; i++) {
        if (window->issuers[i] == issuer_hash) {
            return;
        }
    }
    if (window->issuer_count < PH_WINDOW_ISSUERS_MAX) {
        window->issuers[window->issuer_count] = issuer_hash;
    }
    window->issuer_count++;
}
