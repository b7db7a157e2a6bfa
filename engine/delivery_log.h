// The delivery log: JSON lines, one per attempt and per recipient's outcome (all
// fields: posthaste(1)).
#pragma once

#include "engine/dispatch.h"
#include "queue/message.h"

struct ph_worker;

// One address was tried in vain: an `attempt` line. `note` says how far the session came.
void ph_delivery_log_attempt(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                             const struct ph_session_note *note, const struct ph_reason *reason);
// What became of one recipient of a dispatch: "delivered", "deferred", "failed", "expired".
// `reason` may be NULL (delivered).
void ph_delivery_log_outcome(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                             uint32_t which, const char *event, const struct ph_reason *reason,
                             uint16_t attempts, uint64_t due_ms);
// What "accepted" will say of a message, kept until the message is durable: before that it isn't
// ours.
void ph_delivery_log_describe(const struct ph_envelope *envelope, uint64_t size,
                              struct ph_buf *out_members);
void ph_delivery_log_accepted(struct ph_worker *worker, uint64_t id, struct ph_str members);
// At start: an attempt was under way when the process ended, and what became of it isn't known. A
// `deferred` line with the mark, for the delivery to come may be a second one. `address` may be
// empty.
void ph_delivery_log_in_doubt(struct ph_worker *worker, uint64_t id, uint32_t recipient,
                              struct ph_str address, struct ph_str domain);
// A notification was made for a message: `bounced`.
void ph_delivery_log_bounced(struct ph_worker *worker, uint64_t id, uint64_t notification_id,
                             struct ph_str sender);
