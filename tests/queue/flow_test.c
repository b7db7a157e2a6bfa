#include "queue/flow.h"

#include <criterion/criterion.h>

static uint32_t add(struct ph_store *store, struct ph_ready *ready, uint32_t sender,
                    uint8_t priority)
{
    uint32_t message = ph_store_add(store, 1);
    uint32_t recipient = ph_store_message(store, message)->first_recipient;

    ph_store_message(store, message)->flow = sender;
    ph_store_message(store, message)->priority = priority & 3;
    cr_assert(ph_ready_push(ready, store, recipient));
    return recipient;
}

Test(flow, a_bulk_sender_does_not_starve_another)
{
    struct ph_store store;
    struct ph_ready ready;
    uint32_t other;
    bool found = false;

    ph_store_init(&store);
    ph_ready_init(&ready);
    for (int i = 0; i < 1000; i++) {
        add(&store, &ready, 1, 0);
    }
    other = add(&store, &ready, 2, 0);
    for (int i = 0; i < 2; i++) {
        found = found || ph_ready_take(&ready, &store) == other;
    }
    cr_assert(found, "the second sender's only message was not among the first two");
    cr_assert_eq(ready.count, 999);
    ph_ready_deinit(&ready);
    ph_store_deinit(&store);
}

Test(flow, each_sender_is_served_first_in_first_out)
{
    struct ph_store store;
    struct ph_ready ready;
    uint32_t last[3] = {0};

    ph_store_init(&store);
    ph_ready_init(&ready);
    for (uint32_t i = 0; i < 300; i++) {
        add(&store, &ready, i % 3, 0);
    }
    for (uint32_t i = 0; i < 300; i++) {
        uint32_t taken = ph_ready_take(&ready, &store);

        cr_assert(taken >= last[taken % 3]);
        last[taken % 3] = taken;
    }
    cr_assert_eq(ph_ready_take(&ready, &store), PH_INDEX_NONE);
    ph_ready_deinit(&ready);
    ph_store_deinit(&store);
}

Test(flow, a_priority_is_a_weight)
{
    struct ph_store store;
    struct ph_ready ready;
    int high = 0;

    ph_store_init(&store);
    ph_ready_init(&ready);
    for (int i = 0; i < 100; i++) {
        add(&store, &ready, 1, 0);
        add(&store, &ready, 2, 3);
    }
    for (int i = 0; i < 50; i++) {
        uint32_t taken = ph_ready_take(&ready, &store);

        high += ph_store_message(&store, ph_store_recipient(&store, taken)->message)->priority == 3;
    }
    cr_assert_eq(high, 40); // four of each five
    ph_ready_deinit(&ready);
    ph_store_deinit(&store);
}

Test(flow, removal_anywhere_and_return_to_the_front)
{
    struct ph_store store;
    struct ph_ready ready;
    uint32_t r[5];

    ph_store_init(&store);
    ph_ready_init(&ready);
    for (int i = 0; i < 5; i++) {
        r[i] = add(&store, &ready, 7, 0);
    }
    ph_ready_remove(&ready, &store, r[2]);
    ph_ready_remove(&ready, &store, r[0]);
    ph_ready_remove(&ready, &store, r[4]);
    cr_assert_eq(ready.count, 2);
    cr_assert_eq(ph_ready_take(&ready, &store), r[1]);
    cr_assert(ph_ready_push_front(&ready, &store, r[1]));
    cr_assert_eq(ph_ready_take(&ready, &store), r[1]);
    cr_assert_eq(ph_ready_take(&ready, &store), r[3]);
    cr_assert_eq(ready.count, 0);
    ph_ready_deinit(&ready);
    ph_store_deinit(&store);
}

#define QUEUES 1000

static const struct ph_ready *unusable;

static bool usable(const struct ph_ready *ready)
{
    return ready != unusable;
}

// One job to a thousand domains of one site, another to two of them.
Test(flow, senders_take_turns_over_the_queues_of_a_site)
{
    static struct ph_ready readies[QUEUES];
    struct ph_store store;
    struct ph_turns turns;
    uint32_t others[2];
    unsigned found = 0;
    unsigned taken = 0;
    struct ph_ready *next;

    ph_store_init(&store);
    ph_turns_init(&turns);
    for (unsigned i = 0; i < QUEUES; i++) {
        ph_ready_init(&readies[i]);
        add(&store, &readies[i], 1, 0);
        add(&store, &readies[i], 1, 0);
        if (i % 2 == 0) {
            ph_ready_join(&readies[i], &turns); // what is ready already, and what comes
        }
    }
    others[0] = add(&store, &readies[500], 2, 0);
    others[1] = add(&store, &readies[501], 2, 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        ph_ready_join(&readies[i], &turns);
    }
    unusable = &readies[500];
    for (unsigned i = 0; i < 4; i++) {
        uint32_t recipient;

        next = ph_turns_next(&turns, usable);
        cr_assert(next != NULL && next != unusable);
        recipient = ph_ready_take(next, &store);
        found += recipient == others[1];
        cr_expect_neq(recipient, others[0]);
        taken++;
    }
    cr_expect_eq(found, 1);
    unusable = NULL;
    for (unsigned i = 0; i < 2; i++) {
        next = ph_turns_next(&turns, usable);
        found += ph_ready_take(next, &store) == others[0];
        taken++;
    }
    cr_expect_eq(found, 2, "the second job's messages were not among the first");
    // One that leaves takes its senders along; the rest goes out to the last.
    ph_ready_leave(&readies[7]);
    cr_expect_eq(readies[7].count, 2);
    while ((next = ph_turns_next(&turns, usable)) != NULL) {
        cr_assert_neq(ph_ready_take(next, &store), PH_INDEX_NONE);
        taken++;
    }
    cr_expect_eq(taken, 2 * QUEUES + 2 - 2);
    cr_expect(TAILQ_EMPTY(&turns.order) && turns.by_key == NULL);
    for (unsigned i = 0; i < QUEUES; i++) {
        ph_ready_deinit(&readies[i]);
    }
    ph_store_deinit(&store);
}
