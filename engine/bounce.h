// Notifications to senders (DSN): made by smtp/dsn, stored like any message, before the outcome
// that causes them is.
#pragma once

#include "engine/dispatch.h"

struct ph_worker;

struct ph_bounce_item {
    uint32_t which; // recipient of the dispatch
    struct ph_reason reason;
};

// One for all recipients given, where their sender wants one. True also when none is due; false:
// the spool has no room for it now.
PH_MUST_CHECK bool ph_bounce_send(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                                  const struct ph_bounce_item *items, uint32_t count);
// The next hop took the message and won't notify of it itself: those who asked for it are told.
void ph_bounce_relayed(struct ph_worker *worker, const struct ph_dispatch *dispatch);
// It is late, and tried on.
void ph_bounce_delayed(struct ph_worker *worker, const struct ph_dispatch *dispatch);
