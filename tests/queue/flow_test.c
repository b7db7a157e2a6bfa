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
