// What a worker can tell only by looking at all of its queues: asked for when metrics are read.
#pragma once

#include <stdint.h>

#include "base/reason.h"

struct ph_worker;

struct ph_survey {
    uint64_t unscheduled; // recipients without a next event: must be 0
    uint64_t unreachable; // recipients no connector is for: they wait for a configuration
    uint64_t tls_held[PH_REASON_KIND_COUNT]; // recipients whose queue waits for a TLS policy
    uint64_t retry_queues;                   // queues that wait, for whatever reason
    uint64_t queues;
    uint64_t sites;
    uint64_t resting_sites;
    uint64_t deferred; // recipients with a time of their own
    uint64_t ready;
    uint64_t peers_expiring; // hosts whose proven certificate ends soon
};

// Adds what `worker` sees to the struct ph_survey. On the worker's thread, between two turns'
// steps.
void ph_survey_answer(struct ph_worker *worker, void *survey);
// The watchdog: a queue with ready mail that nothing would look at again is our mistake. It is
// counted, and looked at.
void ph_survey_rescue(struct ph_worker *worker);
