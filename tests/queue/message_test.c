#include "queue/message.h"

#include <criterion/criterion.h>

static void finish(struct ph_store *store, uint32_t message)
{
    struct ph_message *m = ph_store_message(store, message);

    for (uint32_t r = m->first_recipient; r != PH_INDEX_NONE;
         r = ph_store_recipient(store, r)->next_of_message) {
        ph_store_recipient(store, r)->place = PH_PLACE_DONE;
    }
    m->open_count = 0;
    ph_store_remove(store, message);
}

Test(message, a_queued_message_costs_at_most_128_bytes)
{
    // One message, one recipient, its slot in the due heap.
    cr_assert_leq(sizeof(struct ph_message) + sizeof(struct ph_recipient) + sizeof(struct ph_due),
                  128);
}

Test(message, recipients_stand_in_the_envelopes_order)
{
    struct ph_store store;
    uint32_t message;
    uint16_t expected = 0;

    ph_store_init(&store);
    message = ph_store_add(&store, 5);
    cr_assert_neq(message, PH_INDEX_NONE);
    for (uint32_t r = ph_store_message(&store, message)->first_recipient; r != PH_INDEX_NONE;
         r = ph_store_recipient(&store, r)->next_of_message) {
        cr_assert_eq(ph_store_recipient(&store, r)->index, expected++);
    }
    cr_assert_eq(expected, 5);
    finish(&store, message);
    cr_assert_eq(store.message_count, 0);
    cr_assert_eq(store.recipient_count, 0);
    ph_store_deinit(&store);
}

Test(message, slots_are_used_again)
{
    struct ph_store store;

    ph_store_init(&store);
    for (int round = 0; round < 10000; round++) {
        uint32_t message = ph_store_add(&store, 3);

        cr_assert_eq(message, 0);
        finish(&store, message);
    }
    cr_assert_eq(store.recipient_used, 3);
    ph_store_deinit(&store);
}

static unsigned destroyed;

static void count_destroyed(struct ph_content *content)
{
    (void)content;
    destroyed++;
}

Test(message, contents_go_once_and_the_messages_stay)
{
    struct ph_content content;
    struct ph_store store;
    uint32_t message;

    ph_store_init(&store);
    ph_content_init(&content, count_destroyed);
    message = ph_store_add(&store, 1);
    ph_store_message(&store, message)->content = &content;
    ph_store_drop_contents(&store);
    cr_assert_eq(destroyed, 1);
    cr_assert_null(ph_store_message(&store, message)->content);
    cr_assert_eq(store.message_count, 1);
    finish(&store, message);
    ph_store_deinit(&store);
    cr_assert_eq(destroyed, 1);
}

// Against a sorted oracle: whatever is added and taken out, what is due comes in order of time.
Test(message, the_heap_gives_the_earliest_first)
{
    enum { COUNT = 3000 };
    struct ph_store store;
    uint32_t recipients[COUNT];
    uint64_t seed = 12345;
    uint64_t last = 0;
    uint32_t taken = 0;
    uint32_t next;
    uint64_t due_ms;

    ph_store_init(&store);
    for (int i = 0; i < COUNT; i++) {
        uint32_t message = ph_store_add(&store, 1);

        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        recipients[i] = ph_store_message(&store, message)->first_recipient;
        cr_assert(ph_store_defer(&store, recipients[i], (seed >> 33) % 1000));
    }
    for (int i = 0; i < COUNT; i += 3) {
        ph_store_undefer(&store, recipients[i]);
    }
    while ((due_ms = ph_store_next_due_ms(&store)) <= 1000) {
        cr_assert(due_ms == 0 || ph_store_take_due(&store, due_ms - 1) == PH_INDEX_NONE);
        next = ph_store_take_due(&store, due_ms);
        cr_assert_neq(next, PH_INDEX_NONE);
        cr_assert_geq(due_ms, last);
        last = due_ms;
        taken++;
    }
    cr_assert_eq(taken, COUNT - COUNT / 3);
    cr_assert_eq(ph_store_next_due_ms(&store), PH_NEVER);
    ph_store_deinit(&store);
}
