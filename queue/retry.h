// When to try again: Exchange's series for connections, TLS refusals and messages, or plain
// doubling.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct ph_retry_intervals {
    uint32_t glitch_count; // QueueGlitchRetryCount: brief outages, connections only
    uint64_t glitch_ms;
    uint32_t transient_count; // TransientFailureRetryCount
    uint64_t transient_ms;
    uint64_t later_ms;   // OutboundConnectionFailureRetryInterval
    uint64_t message_ms; // MessageRetryInterval
    // RetrySchedule = Exponential: the first interval, doubled each time up to the last, whatever
    // failed. 0: Exchange's series.
    uint64_t exponential_first_ms;
    uint64_t exponential_last_ms;
};

enum ph_retry_kind {
    PH_RETRY_CONNECTION, // glitch, then transient, then later
    PH_RETRY_TLS,        // a policy refusal or DNS: transient, then later
    PH_RETRY_MESSAGE,    // a 4xx to one message: always the message interval
};

// How long to wait after the failure number `failure_count` (1 is the first) of its kind. Up to
// 10 % longer by `random`, never shorter than the interval.
uint64_t ph_retry_delay_ms(const struct ph_retry_intervals *intervals, enum ph_retry_kind kind,
                           uint32_t failure_count, uint64_t random);
// RetryTls: a series of its own, whose last interval counts on. `count` is not 0.
uint64_t ph_retry_own_delay_ms(const uint64_t *intervals_ms, size_t count, uint32_t failure_count,
                               uint64_t random);
// No message waits longer than this for its next attempt, whichever of these it waits by.
uint64_t ph_retry_longest_ms(const struct ph_retry_intervals *intervals);
