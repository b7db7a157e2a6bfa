// Copies forward what lingers in old segments, so that the segments behind it can be used again.
#pragma once

#include "base/wheel.h"

struct ph_worker;

struct ph_compaction {
    struct ph_worker *worker;
    struct ph_timer timer;
    struct ph_spool *spool; // the log this pass is for
    uint16_t log;
    uint16_t looked_at; // of the worker's logs
    uint64_t below;     // segments with smaller numbers are emptied; 0: no pass is under way
    uint32_t at;        // message slot
    unsigned in_flight;
};

void ph_compaction_start(struct ph_worker *worker);
