// Counters in a file that another process maps: what a source and a sink have done, without a word
// said to them while they work.
#pragma once

#include <stdint.h>

enum ph_tally_counter {
    PH_TALLY_CONNECTIONS,
    PH_TALLY_HANDSHAKES_FULL,
    PH_TALLY_HANDSHAKES_RESUMED,
    PH_TALLY_HANDSHAKES_FAILED,
    PH_TALLY_MESSAGES, // acknowledged
    PH_TALLY_DISTINCT, // different X-Ledger-Ids among them
    PH_TALLY_BYTES,
    PH_TALLY_REFUSED,  // by a 4xx or 5xx
    PH_TALLY_IN_CLEAR, // MAIL commands without TLS
    PH_TALLY_COUNTERS,
};

struct ph_tally {
    uint64_t counters[PH_TALLY_COUNTERS];
};

// Maps the file, made anew with all counters 0. Exits with a message when that can't be done.
struct ph_tally *ph_tally_create(const char *path);

// One writer; readers see whole numbers.
#define PH_TALLY_ADD(tally, counter, amount)                                                       \
    __atomic_store_n(&(tally)->counters[counter],                                                  \
                     __atomic_load_n(&(tally)->counters[counter], __ATOMIC_RELAXED) +              \
                         (uint64_t)(amount),                                                       \
                     __ATOMIC_RELAXED)
