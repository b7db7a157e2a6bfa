// A fetch on its way between the world that asked and the thread that fetches: for these two files.
#pragma once

#include <stdatomic.h>

#include "base/endpoint.h"
#include "engine/fetch.h"

#define PH_FETCH_ADDRESSES_MAX 8 // of one host; ours

// One asker. The world's thread and the fetching one have it in turns; only `cancelled` is shared.
struct ph_fetch_job {
    struct ph_offload_job job; // for its way back
    struct ph_fetch *fetch;
    struct ph_fetch_op *op; // what it borrows lives until the op completes
    atomic_bool cancelled;
    // Of this hop: written on the world's thread.
    char url[PH_FETCH_URL_BYTES_MAX];
    char host[PH_DNS_NAME_BYTES_MAX]; // without brackets
    uint16_t port;
    bool https;
    struct ph_endpoint addresses[PH_FETCH_ADDRESSES_MAX]; // allowed ones
    size_t address_count;
    bool address_refused; // one was found that may not be a target
    unsigned redirects_left;
    uint64_t deadline_ns; // of the world's clock
    uint64_t left_ms;     // when it was handed over
    struct ph_resolve_op questions[2];
    unsigned questions_open;
    // Written by the fetching thread.
    int64_t result;
    enum ph_fetch_status status;
    unsigned http_status;
    char content_type[128];
    struct ph_buf body;
    char location[PH_FETCH_URL_BYTES_MAX]; // of a redirect, absolute
    char detail[PH_FETCH_DETAIL_MAX];
};

bool ph_fetch_allows(const struct ph_cidr *allowed, size_t allowed_count,
                     const struct ph_endpoint *target);
// To the thread; false: too many wait.
PH_MUST_CHECK bool ph_fetch_hand_over(struct ph_fetch *fetch, struct ph_fetch_job *job);
void ph_fetch_wake(struct ph_fetch *fetch);
