// Which send connector carries a recipient (Exchange's rules). Pure.
#pragma once

#include "base/reason.h"
#include "config/snapshot.h"

enum ph_route_result {
    PH_ROUTE_FOUND,
    PH_ROUTE_UNREACHABLE, // none matches: the mail waits for a configuration that has one
    PH_ROUTE_REFUSED,     // permanent: `out_reason` (size)
};

// `domain` in A-labels, lower case; `size` of the message in bytes.
PH_MUST_CHECK enum ph_route_result ph_router_route(const struct ph_config *config,
                                                   struct ph_str domain, uint64_t size,
                                                   const struct ph_send_connector **out_connector,
                                                   struct ph_reason *out_reason);

// Up to this size every connector takes a message: the size decides nothing.
uint64_t ph_router_small_size(const struct ph_config *config);

// For `explain`: why this connector was chosen or lost, appended to `out`. True: it was chosen.
bool ph_router_explain(const struct ph_config *config, const struct ph_send_connector *connector,
                       struct ph_str domain, uint64_t size, struct ph_buf *out);
