// A client for tests, benchmarks and the demo: sends messages over many connections from one thread
// and keeps a ledger of what was acknowledged. An id counts only once its 250 was read; where a
// session breaks, what was under way is sent again under a new id.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/endpoint.h"
#include "base/str.h"

struct ph_injector_options {
    struct ph_endpoint to;
    unsigned connections;
    uint64_t messages;                // to be acknowledged; 0: until it is stopped
    unsigned messages_per_connection; // 0: no limit
    size_t size;                      // bytes of a message, about
    uint64_t first_id;
    const char *const *recipients; // in turn, '#' standing for the id; borrowed
    size_t recipient_count;
    const char *sender;
};

struct ph_injector;

struct ph_injector *ph_injector_start(const struct ph_injector_options *options);
uint64_t ph_injector_acknowledged(const struct ph_injector *injector);
uint64_t ph_injector_refused(const struct ph_injector *injector); // 4xx and 5xx to messages
uint64_t ph_injector_next_id(const struct ph_injector *injector);
bool ph_injector_done(const struct ph_injector *injector);
bool ph_injector_is_acknowledged(const struct ph_injector *injector, uint64_t id);
void ph_injector_stop(struct ph_injector *injector); // waits for its thread
void ph_injector_destroy(struct ph_injector *injector);
