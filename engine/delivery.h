// From a ready recipient to its outcome: forms dispatches, prepares them, records how they ended,
// writes the delivery log, notifies senders.
#pragma once

#include "engine/dispatch.h"
#include "engine/queues.h"

struct ph_worker;

// Takes the next message of `queue` with all its ready recipients there (up to the limit of a
// transaction) and prepares it; the site is offered it when that is done. False: nothing was taken.
PH_MUST_CHECK bool ph_delivery_form(struct ph_queue *queue);
// Carried out (or not): at the origin its outcomes are recorded; elsewhere it is sent there.
void ph_delivery_finish(struct ph_worker *worker, struct ph_dispatch *dispatch);
// A message pulled by its site's home has come there.
void ph_delivery_receive(struct ph_worker *worker, struct ph_dispatch *dispatch);
// What became of it has come back.
void ph_delivery_conclude(struct ph_worker *worker, struct ph_dispatch *take_dispatch);

// A recipient (place UNROUTED, of a queue) fails without an attempt: no such domain, size, expiry.
// Recorded, logged and bounced once its message was read.
void ph_delivery_fail(struct ph_worker *worker, uint32_t recipient, enum ph_recipient_state state,
                      const struct ph_reason *reason);
// Messages whose time is over, or that are due a delay notification: looks at some of the store.
void ph_delivery_sweep(struct ph_worker *worker);
