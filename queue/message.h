// The messages a worker owes, and their recipients: slabs with 32-bit indices, few bytes each.
// Strings, envelopes and contents stay in the spool.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/reason.h"
#include "queue/content.h"
#include "queue/spool.h"

#define PH_INDEX_NONE UINT32_MAX

enum ph_recipient_place {
    PH_PLACE_FREE,     // slot unused
    PH_PLACE_READY,    // in a flow of its queue
    PH_PLACE_DEFERRED, // in the due heap
    PH_PLACE_DISPATCH, // in a dispatch
    PH_PLACE_UNROUTED, // no connector: waits for another configuration
    PH_PLACE_DONE,     // terminal, until its message is freed
};

struct ph_message {
    uint64_t id;
    struct ph_content *content; // a reference while it is kept in memory, else NULL
    uint64_t arrival_ms;
    uint64_t expiry_ms;
    struct ph_spool_location location;
    uint32_t first_recipient;
    uint32_t open_count; // recipients that aren't terminal; 0: slot unused
    uint32_t flow;       // hash of the sender, for fair sharing
    uint64_t size : 40;  // of the content
    uint64_t priority : 2;
    uint64_t delay_notified : 1;
    uint64_t loading : 1; // its content is being read for a DSN
};

struct ph_recipient {
    uint32_t message;
    uint32_t next_of_message;
    uint32_t queue;     // index of its queue, or PH_INDEX_NONE
    uint32_t next_link; // in its flow; free list
    uint32_t heap_slot; // in the due heap
    uint16_t index;     // in the envelope
    uint16_t attempts;
    uint8_t place;         // enum ph_recipient_place
    uint8_t last_kind;     // enum ph_reason_kind of the last deferral
    uint8_t in_doubt : 1;  // the next attempt may be a second delivery
    uint8_t attempted : 1; // an ATTEMPT record without OUTCOME is durable
    uint8_t free_requeues : 4;
};

// Tables lie in pieces of 2 MiB, the size of a huge page: growing copies nothing, however long the
// queue is.
#define PH_STORE_MESSAGE_BITS 15
#define PH_STORE_RECIPIENT_BITS 16
#define PH_STORE_HEAP_BITS 17

// When which recipient is due. By itself, so that comparing looks into no recipient.
struct ph_due {
    uint64_t due_ms;
    uint32_t recipient;
};

struct ph_store {
    struct ph_message **messages;
    struct ph_recipient **recipients;
    struct ph_due **heap; // of deferred recipients by due time; each has four below it
    uint32_t message_pieces;
    uint32_t recipient_pieces;
    uint32_t heap_pieces;
    uint32_t heap_count;
    uint32_t message_free; // heads of free lists
    uint32_t recipient_free;
    uint32_t message_used; // slots ever used
    uint32_t recipient_used;
    uint64_t message_count;
    uint64_t recipient_count;
};

void ph_store_init(struct ph_store *store);
void ph_store_deinit(struct ph_store *store);
// What fresh messages hold of their spool goes back, before that is closed.
void ph_store_drop_contents(struct ph_store *store);

// PH_INDEX_NONE when memory is short. All recipients start in place UNROUTED, linked in order.
PH_MUST_CHECK uint32_t ph_store_add(struct ph_store *store, uint32_t recipient_count);
// Every recipient must be DONE. Releases the content.
void ph_store_remove(struct ph_store *store, uint32_t message);

struct ph_message *ph_store_message(const struct ph_store *store, uint32_t index);
struct ph_recipient *ph_store_recipient(const struct ph_store *store, uint32_t index);

// The due heap. The recipient's place becomes DEFERRED.
PH_MUST_CHECK bool ph_store_defer(struct ph_store *store, uint32_t recipient, uint64_t due_ms);
void ph_store_undefer(struct ph_store *store, uint32_t recipient); // place becomes UNROUTED
// 0: it isn't deferred.
uint64_t ph_store_due_ms(const struct ph_store *store, const struct ph_recipient *recipient);
uint64_t ph_store_next_due_ms(const struct ph_store *store); // PH_NEVER: none
// The earliest one when it is due: out of the heap, place UNROUTED. PH_INDEX_NONE: none is.
uint32_t ph_store_take_due(struct ph_store *store, uint64_t now_ms);
