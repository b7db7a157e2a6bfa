// From a ready recipient to its outcome: forms dispatches, prepares them, records how they ended,
// writes the delivery log, bounces.
#pragma once

#include "engine/dispatch.h"
#include "engine/queues.h"

struct ph_worker;

// Takes the next message of `queue` with all its ready recipients there (up to the limit of a
// transaction) and prepares it; the site is offered it when that is done. False: nothing was taken.
PH_MUST_CHECK bool ph_delivery_form(struct ph_queue *queue);
// More recipients of the same message, of another queue of the same site, join a dispatch that
// hasn't begun. The caller holds a clearance for them.
void ph_delivery_destroy(struct ph_dispatch *dispatch);
// Carried out (or not): at the origin its outcomes are recorded; elsewhere it is sent there.
void ph_delivery_finish(struct ph_worker *worker, struct ph_dispatch *dispatch);
// One address was tried in vain: an `attempt` line of the delivery log.
void ph_delivery_log_attempt(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                             struct ph_str host, const struct ph_endpoint *endpoint,
                             const char *step, const struct ph_reason *reason);

// A recipient failed without an attempt (no such domain, size, expiry): recorded, logged, bounced.
void ph_delivery_fail(struct ph_worker *worker, uint32_t recipient, enum ph_recipient_state state,
                      const struct ph_reason *reason);
// Messages whose time is over, or that are due a delay notification: looks at some of the store.
void ph_delivery_sweep(struct ph_worker *worker);
