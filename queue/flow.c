// Fair ready lists.
#include "queue/flow.h"

#include <stdlib.h>
#include <uthash.h>

struct ph_flow {
    uint64_t key; // sender hash, priority
    uint32_t first;
    uint32_t last;
    uint8_t credit; // messages it may still have before the turn passes on
    TAILQ_ENTRY(ph_flow) turn_link;
    struct ph_ready *ready;
    struct ph_turn *turn; // where its queue takes part in turns of several
    TAILQ_ENTRY(ph_flow) sender_link;
    UT_hash_handle hh;
};

// One sender's (and priority's) flows in several queues.
struct ph_turn {
    uint64_t key;
    uint8_t credit;
    struct ph_flow_list flows;
    TAILQ_ENTRY(ph_turn) link;
    UT_hash_handle hh;
};

void ph_ready_init(struct ph_ready *ready)
{
    *ready = (struct ph_ready){0};
    TAILQ_INIT(&ready->turn);
}

static void leave_turn(struct ph_turns *turns, struct ph_flow *flow)
{
    struct ph_turn *turn = flow->turn;

    if (turn == NULL) {
        return;
    }
    TAILQ_REMOVE(&turn->flows, flow, sender_link);
    flow->turn = NULL;
    if (TAILQ_EMPTY(&turn->flows)) {
        HASH_DEL(turns->by_key, turn);
        TAILQ_REMOVE(&turns->order, turn, link);
        free(turn);
    }
}

static void drop_flow(struct ph_ready *ready, struct ph_flow *flow)
{
    leave_turn(ready->turns, flow);
    HASH_DEL(ready->by_key, flow);
    TAILQ_REMOVE(&ready->turn, flow, turn_link);
    free(flow);
}

void ph_ready_deinit(struct ph_ready *ready)
{
    struct ph_flow *flow;

    while ((flow = TAILQ_FIRST(&ready->turn)) != NULL) {
        drop_flow(ready, flow);
    }
    ready->count = 0;
}

static uint64_t flow_key(const struct ph_store *store, const struct ph_recipient *recipient)
{
    const struct ph_message *message = ph_store_message(store, recipient->message);

    return (uint64_t)message->flow << 8 | message->priority;
}

static uint8_t credit_of(uint64_t key)
{
    return (uint8_t)(1 + (key & 0xff)); // priority 0..3: one to four messages a turn
}

static void join_turn(struct ph_turns *turns, struct ph_flow *flow)
{
    struct ph_turn *turn;

    HASH_FIND(hh, turns->by_key, &flow->key, sizeof(flow->key), turn);
    if (turn == NULL) {
        turn = ph_alloc(sizeof(*turn));
        turn->key = flow->key;
        turn->credit = credit_of(flow->key);
        TAILQ_INIT(&turn->flows);
        HASH_ADD(hh, turns->by_key, key, sizeof(turn->key), turn);
        TAILQ_INSERT_TAIL(&turns->order, turn, link);
    }
    TAILQ_INSERT_TAIL(&turn->flows, flow, sender_link);
    flow->turn = turn;
}

static struct ph_flow *find_or_add_flow(struct ph_ready *ready, uint64_t key)
{
    struct ph_flow *flow;

    HASH_FIND(hh, ready->by_key, &key, sizeof(key), flow);
    if (flow == NULL) {
        flow = calloc(1, sizeof(*flow));
        if (flow != NULL) {
            flow->key = key;
            flow->first = PH_INDEX_NONE;
            flow->last = PH_INDEX_NONE;
            flow->credit = credit_of(key);
            flow->ready = ready;
            HASH_ADD(hh, ready->by_key, key, sizeof(flow->key), flow);
            TAILQ_INSERT_TAIL(&ready->turn, flow, turn_link);
            if (ready->turns != NULL) {
                join_turn(ready->turns, flow);
            }
        }
    }
    return flow;
}

// While a recipient is READY, next_link and heap_slot are its neighbours in the flow.
static bool push(struct ph_ready *ready, struct ph_store *store, uint32_t recipient, bool front)
{
    struct ph_recipient *r = ph_store_recipient(store, recipient);
    struct ph_flow *flow = find_or_add_flow(ready, flow_key(store, r));
    uint32_t neighbour;

    PH_CHECK(r->place != PH_PLACE_READY && r->heap_slot == PH_INDEX_NONE);
    if (flow == NULL) {
        return false;
    }
    neighbour = front ? flow->first : flow->last;
    r->next_link = front ? neighbour : PH_INDEX_NONE;
    r->heap_slot = front ? PH_INDEX_NONE : neighbour;
    if (neighbour == PH_INDEX_NONE) {
        flow->first = recipient;
        flow->last = recipient;
    } else if (front) {
        ph_store_recipient(store, neighbour)->heap_slot = recipient;
        flow->first = recipient;
    } else {
        ph_store_recipient(store, neighbour)->next_link = recipient;
        flow->last = recipient;
    }
    r->place = PH_PLACE_READY;
    ready->count++;
    return true;
}

bool ph_ready_push(struct ph_ready *ready, struct ph_store *store, uint32_t recipient)
{
    return push(ready, store, recipient, false);
}

bool ph_ready_push_front(struct ph_ready *ready, struct ph_store *store, uint32_t recipient)
{
    return push(ready, store, recipient, true);
}

static void unlink_recipient(struct ph_ready *ready, struct ph_store *store, struct ph_flow *flow,
                             uint32_t recipient)
{
    struct ph_recipient *r = ph_store_recipient(store, recipient);
    uint32_t next = r->next_link;
    uint32_t previous = r->heap_slot;

    PH_CHECK(r->place == PH_PLACE_READY);
    if (previous == PH_INDEX_NONE) {
        flow->first = next;
    } else {
        ph_store_recipient(store, previous)->next_link = next;
    }
    if (next == PH_INDEX_NONE) {
        flow->last = previous;
    } else {
        ph_store_recipient(store, next)->heap_slot = previous;
    }
    r->next_link = PH_INDEX_NONE;
    r->heap_slot = PH_INDEX_NONE;
    r->place = PH_PLACE_UNROUTED;
    ready->count--;
    if (flow->first == PH_INDEX_NONE) {
        drop_flow(ready, flow);
    }
}

uint32_t ph_ready_take(struct ph_ready *ready, struct ph_store *store)
{
    struct ph_flow *flow = TAILQ_FIRST(&ready->turn);
    uint32_t recipient;

    if (flow == NULL) {
        return PH_INDEX_NONE;
    }
    recipient = flow->first;
    flow->credit--;
    if (flow->credit == 0) {
        flow->credit = credit_of(flow->key);
        TAILQ_REMOVE(&ready->turn, flow, turn_link);
        TAILQ_INSERT_TAIL(&ready->turn, flow, turn_link);
    }
    unlink_recipient(ready, store, flow, recipient);
    return recipient;
}

void ph_ready_remove(struct ph_ready *ready, struct ph_store *store, uint32_t recipient)
{
    uint64_t key = flow_key(store, ph_store_recipient(store, recipient));
    struct ph_flow *flow;

    HASH_FIND(hh, ready->by_key, &key, sizeof(key), flow);
    PH_CHECK(flow != NULL);
    unlink_recipient(ready, store, flow, recipient);
}

// --- several queues ---

void ph_turns_init(struct ph_turns *turns)
{
    *turns = (struct ph_turns){0};
    TAILQ_INIT(&turns->order);
}

void ph_ready_join(struct ph_ready *ready, struct ph_turns *turns)
{
    struct ph_flow *flow;

    if (ready->turns != NULL) {
        return;
    }
    ready->turns = turns;
    TAILQ_FOREACH(flow, &ready->turn, turn_link)
    {
        join_turn(turns, flow);
    }
}

void ph_ready_leave(struct ph_ready *ready)
{
    struct ph_flow *flow;

    TAILQ_FOREACH(flow, &ready->turn, turn_link)
    {
        leave_turn(ready->turns, flow);
    }
    ready->turns = NULL;
}

static struct ph_flow *first_usable(struct ph_turns *turns,
                                    bool (*usable)(const struct ph_ready *ready))
{
    struct ph_turn *turn;
    struct ph_flow *flow;

    TAILQ_FOREACH(turn, &turns->order, link)
    {
        TAILQ_FOREACH(flow, &turn->flows, sender_link)
        {
            if (usable(flow->ready)) {
                return flow;
            }
        }
    }
    return NULL;
}

struct ph_ready *ph_turns_next(struct ph_turns *turns, bool (*usable)(const struct ph_ready *ready))
{
    struct ph_flow *flow = first_usable(turns, usable);
    struct ph_turn *turn;

    if (flow == NULL) {
        return NULL;
    }
    turn = flow->turn;
    TAILQ_REMOVE(&turn->flows, flow, sender_link);
    TAILQ_INSERT_TAIL(&turn->flows, flow, sender_link);
    turn->credit--;
    if (turn->credit == 0) {
        turn->credit = credit_of(turn->key);
        TAILQ_REMOVE(&turns->order, turn, link);
        TAILQ_INSERT_TAIL(&turns->order, turn, link);
    }
    TAILQ_REMOVE(&flow->ready->turn, flow, turn_link);
    TAILQ_INSERT_HEAD(&flow->ready->turn, flow, turn_link);
    return flow->ready;
}
