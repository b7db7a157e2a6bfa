// Which waiting recipients an administrator means. Pure but for the store it looks into.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/reason.h"
#include "base/str.h"

struct ph_worker;

// Terms, all of which must hold: "*", an id, a domain (also as domain=), connector=, sender=,
// reason=, state=ready|deferred|suspended, older=2h. Strings are borrowed from the text.
struct ph_queue_query {
    bool all;
    bool by_id;
    uint64_t id;
    struct ph_str domain; // empty: any; "*.example.net": those below it too
    struct ph_str connector;
    struct ph_str sender;
    enum ph_reason_kind reason; // NONE: any
    enum ph_queue_query_state {
        PH_QUERY_ANY,
        PH_QUERY_READY,
        PH_QUERY_DEFERRED,
        PH_QUERY_SUSPENDED,
    } state;
    uint64_t older_ms; // 0: any
};

// False: `error` says which term is wrong. A query without a term is wrong too.
PH_MUST_CHECK bool ph_queue_query_parse(struct ph_str text, struct ph_queue_query *out,
                                        struct ph_buf *error);
// Does it mean the queue of this domain and connector, by what it says of them?
bool ph_queue_query_matches_queue(const struct ph_queue_query *query, struct ph_str domain,
                                  struct ph_str connector);
// Is the recipient (READY or DEFERRED) meant?
bool ph_queue_query_matches(const struct ph_queue_query *query, const struct ph_worker *worker,
                            uint32_t recipient);
