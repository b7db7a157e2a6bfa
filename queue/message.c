// Messages and recipients in slabs, and the heap of what is deferred.
#include "queue/message.h"

#include <stdlib.h>
#include <string.h>

#define PH_STORE_CAP_FIRST 1024 // slots of the heap; ours
#define PIECE_SLOTS (UINT32_C(1) << PH_STORE_PIECE_BITS)

static struct ph_message *message_at(const struct ph_store *store, uint32_t index)
{
    return &store->messages[index >> PH_STORE_PIECE_BITS][index & (PIECE_SLOTS - 1)];
}

static struct ph_recipient *recipient_at(const struct ph_store *store, uint32_t index)
{
    return &store->recipients[index >> PH_STORE_PIECE_BITS][index & (PIECE_SLOTS - 1)];
}

static void free_pieces(void **pieces, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free(pieces[i]);
    }
    free(pieces);
}

// Makes room for slot `slot`, the first one behind those there are. False when memory is short.
static bool grow_pieces(void ***pieces, uint32_t *count, uint32_t slot, size_t item_bytes)
{
    void **table;

    if (slot == PH_INDEX_NONE - 1) {
        return false;
    }
    if (slot >> PH_STORE_PIECE_BITS < *count) {
        return true;
    }
    table = realloc(*pieces, ((size_t)*count + 1) * sizeof(**pieces));
    if (table == NULL) {
        return false;
    }
    *pieces = table;
    table[*count] = malloc(PIECE_SLOTS * item_bytes);
    if (table[*count] == NULL) {
        return false;
    }
    ++*count;
    return true;
}

void ph_store_init(struct ph_store *store)
{
    *store = (struct ph_store){.message_free = PH_INDEX_NONE, .recipient_free = PH_INDEX_NONE};
}

void ph_store_drop_contents(struct ph_store *store)
{
    for (uint32_t i = 0; i < store->message_used; i++) {
        ph_content_release(message_at(store, i)->content);
        message_at(store, i)->content = NULL;
    }
}

void ph_store_deinit(struct ph_store *store)
{
    if (store == NULL) {
        return;
    }
    ph_store_drop_contents(store);
    free_pieces((void **)store->messages, store->message_pieces);
    free_pieces((void **)store->recipients, store->recipient_pieces);
    free(store->heap);
    ph_store_init(store);
}

// Grows `*array` so that slot `needed - 1` exists. False when memory is short.
static bool grow(void **array, uint32_t *cap, uint32_t needed, size_t item_bytes)
{
    uint64_t wanted = *cap > 0 ? *cap : PH_STORE_CAP_FIRST;
    void *grown;

    if (needed <= *cap) {
        return true;
    }
    while (wanted < needed) {
        wanted += wanted / 2;
    }
    if (wanted >= PH_INDEX_NONE) {
        return false;
    }
    grown = realloc(*array, wanted * item_bytes);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    *cap = (uint32_t)wanted;
    return true;
}

static uint32_t take_message_slot(struct ph_store *store)
{
    uint32_t slot = store->message_free;

    if (slot != PH_INDEX_NONE) {
        store->message_free = message_at(store, slot)->first_recipient;
    } else if (grow_pieces((void ***)&store->messages, &store->message_pieces, store->message_used,
                           sizeof(**store->messages))) {
        slot = store->message_used++;
    }
    return slot;
}

static uint32_t take_recipient_slot(struct ph_store *store)
{
    uint32_t slot = store->recipient_free;

    if (slot != PH_INDEX_NONE) {
        store->recipient_free = recipient_at(store, slot)->next_link;
    } else if (grow_pieces((void ***)&store->recipients, &store->recipient_pieces,
                           store->recipient_used, sizeof(**store->recipients))) {
        slot = store->recipient_used++;
    }
    return slot;
}

static void free_recipient_slot(struct ph_store *store, uint32_t slot)
{
    recipient_at(store, slot)->place = PH_PLACE_FREE;
    recipient_at(store, slot)->next_link = store->recipient_free;
    store->recipient_free = slot;
}

uint32_t ph_store_add(struct ph_store *store, uint32_t recipient_count)
{
    uint32_t message = take_message_slot(store);
    uint32_t first = PH_INDEX_NONE;
    uint32_t added = 0;

    PH_CHECK(recipient_count > 0);
    if (message == PH_INDEX_NONE) {
        return PH_INDEX_NONE;
    }
    // Linked from the last to the first, so that the list is in the envelope's order.
    for (; added < recipient_count; added++) {
        uint32_t slot = take_recipient_slot(store);

        if (slot == PH_INDEX_NONE) {
            break;
        }
        *recipient_at(store, slot) = (struct ph_recipient){
            .message = message,
            .next_of_message = first,
            .queue = PH_INDEX_NONE,
            .next_link = PH_INDEX_NONE,
            .heap_slot = PH_INDEX_NONE,
            .index = (uint16_t)(recipient_count - 1 - added),
            .place = PH_PLACE_UNROUTED,
        };
        first = slot;
    }
    *message_at(store, message) =
        (struct ph_message){.first_recipient = first, .open_count = recipient_count};
    if (added < recipient_count) {
        for (uint32_t slot = first; slot != PH_INDEX_NONE;) {
            uint32_t next = recipient_at(store, slot)->next_of_message;

            free_recipient_slot(store, slot);
            slot = next;
        }
        message_at(store, message)->open_count = 0;
        message_at(store, message)->first_recipient = store->message_free;
        store->message_free = message;
        return PH_INDEX_NONE;
    }
    store->message_count++;
    store->recipient_count += recipient_count;
    return message;
}

void ph_store_remove(struct ph_store *store, uint32_t message)
{
    struct ph_message *m = ph_store_message(store, message);

    PH_CHECK(m->open_count == 0);
    for (uint32_t slot = m->first_recipient; slot != PH_INDEX_NONE;) {
        uint32_t next = recipient_at(store, slot)->next_of_message;

        PH_CHECK(recipient_at(store, slot)->place == PH_PLACE_DONE);
        free_recipient_slot(store, slot);
        store->recipient_count--;
        slot = next;
    }
    ph_content_release(m->content);
    *m = (struct ph_message){.first_recipient = store->message_free};
    store->message_free = message;
    store->message_count--;
}

struct ph_message *ph_store_message(const struct ph_store *store, uint32_t index)
{
    PH_CHECK(index < store->message_used);
    return message_at(store, index);
}

struct ph_recipient *ph_store_recipient(const struct ph_store *store, uint32_t index)
{
    PH_CHECK(index < store->recipient_used);
    return recipient_at(store, index);
}

static bool earlier(const struct ph_store *store, uint32_t a, uint32_t b)
{
    uint64_t due_a = recipient_at(store, a)->due_ms;
    uint64_t due_b = recipient_at(store, b)->due_ms;

    // Ties by slot: the order must not depend on the heap's history.
    return due_a < due_b || (due_a == due_b && a < b);
}

static void place_in_heap(struct ph_store *store, uint32_t slot, uint32_t recipient)
{
    store->heap[slot] = recipient;
    recipient_at(store, recipient)->heap_slot = slot;
}

static void sift_up(struct ph_store *store, uint32_t slot)
{
    uint32_t moving = store->heap[slot];

    while (slot > 0 && earlier(store, moving, store->heap[(slot - 1) / 2])) {
        place_in_heap(store, slot, store->heap[(slot - 1) / 2]);
        slot = (slot - 1) / 2;
    }
    place_in_heap(store, slot, moving);
}

static void sift_down(struct ph_store *store, uint32_t slot)
{
    uint32_t moving = store->heap[slot];

    for (;;) {
        uint32_t child = slot * 2 + 1;

        if (child >= store->heap_count) {
            break;
        }
        if (child + 1 < store->heap_count &&
            earlier(store, store->heap[child + 1], store->heap[child])) {
            child++;
        }
        if (!earlier(store, store->heap[child], moving)) {
            break;
        }
        place_in_heap(store, slot, store->heap[child]);
        slot = child;
    }
    place_in_heap(store, slot, moving);
}

bool ph_store_defer(struct ph_store *store, uint32_t recipient, uint64_t due_ms)
{
    struct ph_recipient *r = ph_store_recipient(store, recipient);

    PH_CHECK(r->heap_slot == PH_INDEX_NONE);
    if (!grow((void **)&store->heap, &store->heap_cap, store->heap_count + 1,
              sizeof(*store->heap))) {
        return false;
    }
    r->due_ms = due_ms;
    r->place = PH_PLACE_DEFERRED;
    place_in_heap(store, store->heap_count++, recipient);
    sift_up(store, r->heap_slot);
    return true;
}

void ph_store_undefer(struct ph_store *store, uint32_t recipient)
{
    struct ph_recipient *r = ph_store_recipient(store, recipient);
    uint32_t slot = r->heap_slot;
    uint32_t last;

    PH_CHECK(r->place == PH_PLACE_DEFERRED && slot < store->heap_count);
    last = store->heap[--store->heap_count];
    if (last != recipient) {
        place_in_heap(store, slot, last);
        sift_up(store, slot);
        sift_down(store, recipient_at(store, last)->heap_slot);
    }
    r->heap_slot = PH_INDEX_NONE;
    r->place = PH_PLACE_UNROUTED;
}

uint64_t ph_store_next_due_ms(const struct ph_store *store)
{
    return store->heap_count > 0 ? recipient_at(store, store->heap[0])->due_ms : PH_NEVER;
}

uint32_t ph_store_take_due(struct ph_store *store, uint64_t now_ms)
{
    uint32_t first;

    if (ph_store_next_due_ms(store) > now_ms) {
        return PH_INDEX_NONE;
    }
    first = store->heap[0];
    ph_store_undefer(store, first);
    return first;
}
