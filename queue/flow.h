// What is ready for one queue, shared fairly between senders: a first-in-first-out flow for each
// (sender, priority), served in turn, so that one bulk job can't starve the rest.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "queue/message.h"

struct ph_flow;
struct ph_turn;
TAILQ_HEAD(ph_flow_list, ph_flow);
TAILQ_HEAD(ph_turn_list, ph_turn);

// The senders of several queues, in turn: of a bulk job to ten thousand domains behind one site the
// others wait for a message, not for ten thousand.
struct ph_turns {
    struct ph_turn_list order; // the first one is served next
    struct ph_turn *by_key;    // uthash
};

struct ph_ready {
    struct ph_flow_list turn; // the first one is served next
    struct ph_flow *by_key;   // uthash
    uint64_t count;           // recipients
    struct ph_turns *turns;   // it takes part in; or NULL
};

void ph_ready_init(struct ph_ready *ready);
void ph_ready_deinit(struct ph_ready *ready); // forgets what is in it; places stay READY

// The recipient's place becomes READY; its flow is its message's (sender, priority). False when
// memory is short: the place is unchanged.
PH_MUST_CHECK bool ph_ready_push(struct ph_ready *ready, struct ph_store *store,
                                 uint32_t recipient);
// As push, but ahead of its flow: for what was taken and must go back untouched.
PH_MUST_CHECK bool ph_ready_push_front(struct ph_ready *ready, struct ph_store *store,
                                       uint32_t recipient);
// The next one in fair order, or PH_INDEX_NONE. Its place becomes UNROUTED.
uint32_t ph_ready_take(struct ph_ready *ready, struct ph_store *store);
// Out of its flow, wherever it stands there. Its place becomes UNROUTED.
void ph_ready_remove(struct ph_ready *ready, struct ph_store *store, uint32_t recipient);

void ph_turns_init(struct ph_turns *turns);
void ph_ready_join(struct ph_ready *ready, struct ph_turns *turns); // twice is once
void ph_ready_leave(struct ph_ready *ready);
// Whose turn it is among those that take part and are `usable`: ph_ready_take then gives that
// sender's next one. NULL: there is none.
struct ph_ready *ph_turns_next(struct ph_turns *turns,
                               bool (*usable)(const struct ph_ready *ready));
