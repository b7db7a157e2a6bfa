// Messages and recipients in slabs, and the heap of what is deferred.
#include "queue/message.h"

#include <stdlib.h>
#include <string.h>

#include "base/pages.h"

#define HEAP_WAYS 4    // children of one, side by side in a cache line
#define PIECES_SMALL 4 // of a table without huge pages: it may never grow further; ours

_Static_assert(sizeof(struct ph_message) << PH_STORE_MESSAGE_BITS <= PH_PAGES_HUGE_BYTES,
               "a piece is a huge page");
_Static_assert(sizeof(struct ph_recipient) << PH_STORE_RECIPIENT_BITS <= PH_PAGES_HUGE_BYTES,
               "a piece is a huge page");
_Static_assert(sizeof(struct ph_due) << PH_STORE_HEAP_BITS <= PH_PAGES_HUGE_BYTES,
               "a piece is a huge page");

static struct ph_message *message_at(const struct ph_store *store, uint32_t index)
{
    return &store->messages[index >> PH_STORE_MESSAGE_BITS]
                           [index & ((UINT32_C(1) << PH_STORE_MESSAGE_BITS) - 1)];
}

static struct ph_recipient *recipient_at(const struct ph_store *store, uint32_t index)
{
    return &store->recipients[index >> PH_STORE_RECIPIENT_BITS]
                             [index & ((UINT32_C(1) << PH_STORE_RECIPIENT_BITS) - 1)];
}

// The first of the heap lies in front of a cache line, so that siblings share one.
static struct ph_due *due_at(const struct ph_store *store, uint32_t slot)
{
    uint32_t index = slot + HEAP_WAYS - 1;

    return &store->heap[index >> PH_STORE_HEAP_BITS]
                       [index & ((UINT32_C(1) << PH_STORE_HEAP_BITS) - 1)];
}

static void free_pieces(void **pieces, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free(pieces[i]);
    }
    free(pieces);
}

// Makes room for slot `slot`, the first one behind those there are. False when memory is short.
static bool grow_pieces(void ***pieces, uint32_t *count, uint32_t slot, unsigned bits)
{
    void **table;

    if (slot >= PH_INDEX_NONE - HEAP_WAYS) {
        return false;
    }
    if (slot >> bits < *count) {
        return true;
    }
    table = realloc(*pieces, ((size_t)*count + 1) * sizeof(**pieces));
    if (table == NULL) {
        return false;
    }
    *pieces = table;
    table[*count] = ph_pages_alloc(PH_PAGES_HUGE_BYTES, *count >= PIECES_SMALL);
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
    free_pieces((void **)store->heap, store->heap_pieces);
    ph_store_init(store);
}

static uint32_t take_message_slot(struct ph_store *store)
{
    uint32_t slot = store->message_free;

    if (slot != PH_INDEX_NONE) {
        store->message_free = message_at(store, slot)->first_recipient;
    } else if (grow_pieces((void ***)&store->messages, &store->message_pieces, store->message_used,
                           PH_STORE_MESSAGE_BITS)) {
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
                           store->recipient_used, PH_STORE_RECIPIENT_BITS)) {
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

static bool earlier(const struct ph_due *a, const struct ph_due *b)
{
    // Ties by slot: the order must not depend on the heap's history.
    return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->recipient < b->recipient);
}

static void place_in_heap(struct ph_store *store, uint32_t slot, struct ph_due due)
{
    *due_at(store, slot) = due;
    recipient_at(store, due.recipient)->heap_slot = slot;
}

// `due` goes to `slot`, or above it.
static void sift_up(struct ph_store *store, uint32_t slot, struct ph_due due)
{
    while (slot > 0 && earlier(&due, due_at(store, (slot - 1) / HEAP_WAYS))) {
        place_in_heap(store, slot, *due_at(store, (slot - 1) / HEAP_WAYS));
        slot = (slot - 1) / HEAP_WAYS;
    }
    place_in_heap(store, slot, due);
}

static uint32_t earliest_child(const struct ph_store *store, uint32_t slot)
{
    uint32_t first = slot * HEAP_WAYS + 1;
    uint32_t best = first;

    // Whichever it is: its own children are fetched meanwhile.
    for (uint32_t child = first; child < first + HEAP_WAYS; child++) {
        uint64_t below = (uint64_t)child * HEAP_WAYS + 1;

        if (below < store->heap_count) {
            __builtin_prefetch(due_at(store, (uint32_t)below));
        }
    }
    for (uint32_t child = first + 1; child < first + HEAP_WAYS && child < store->heap_count;
         child++) {
        best = earlier(due_at(store, child), due_at(store, best)) ? child : best;
    }
    return best;
}

// `due` goes to `slot`, or below it.
static void sift_down(struct ph_store *store, uint32_t slot, struct ph_due due)
{
    while ((uint64_t)slot * HEAP_WAYS + 1 < store->heap_count) {
        uint32_t child = earliest_child(store, slot);

        if (!earlier(due_at(store, child), &due)) {
            break;
        }
        place_in_heap(store, slot, *due_at(store, child));
        slot = child;
    }
    place_in_heap(store, slot, due);
}

bool ph_store_defer(struct ph_store *store, uint32_t recipient, uint64_t due_ms)
{
    struct ph_recipient *r = ph_store_recipient(store, recipient);

    PH_CHECK(r->heap_slot == PH_INDEX_NONE);
    if (!grow_pieces((void ***)&store->heap, &store->heap_pieces, store->heap_count + HEAP_WAYS - 1,
                     PH_STORE_HEAP_BITS)) {
        return false;
    }
    r->place = PH_PLACE_DEFERRED;
    store->heap_count++;
    sift_up(store, store->heap_count - 1,
            (struct ph_due){.due_ms = due_ms, .recipient = recipient});
    return true;
}

void ph_store_undefer(struct ph_store *store, uint32_t recipient)
{
    struct ph_recipient *r = ph_store_recipient(store, recipient);
    uint32_t slot = r->heap_slot;
    struct ph_due last;

    PH_CHECK(r->place == PH_PLACE_DEFERRED && slot < store->heap_count);
    last = *due_at(store, --store->heap_count);
    if (last.recipient == recipient) {
        // It was the last one.
    } else if (slot > 0 && earlier(&last, due_at(store, (slot - 1) / HEAP_WAYS))) {
        sift_up(store, slot, last);
    } else {
        sift_down(store, slot, last);
    }
    r->heap_slot = PH_INDEX_NONE;
    r->place = PH_PLACE_UNROUTED;
}

uint64_t ph_store_due_ms(const struct ph_store *store, const struct ph_recipient *recipient)
{
    return recipient->place == PH_PLACE_DEFERRED ? due_at(store, recipient->heap_slot)->due_ms : 0;
}

uint64_t ph_store_next_due_ms(const struct ph_store *store)
{
    return store->heap_count > 0 ? due_at(store, 0)->due_ms : PH_NEVER;
}

uint32_t ph_store_take_due(struct ph_store *store, uint64_t now_ms)
{
    uint32_t first;

    if (ph_store_next_due_ms(store) > now_ms) {
        return PH_INDEX_NONE;
    }
    first = due_at(store, 0)->recipient;
    ph_store_undefer(store, first);
    return first;
}
