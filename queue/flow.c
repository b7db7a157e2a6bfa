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
    UT_hash_handle hh;
};

void ph_ready_init(struct ph_ready *ready)
{
    *ready = (struct ph_ready){0};
    TAILQ_INIT(&ready->turn);
}

static void drop_flow(struct ph_ready *ready, struct ph_flow *flow)
{
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
            HASH_ADD(hh, ready->by_key, key, sizeof(flow->key), flow);
            TAILQ_INSERT_TAIL(&ready->turn, flow, turn_link);
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
