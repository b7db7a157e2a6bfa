// What recovery has found so far. Ten million messages may pass by: they lie in the order in which
// they came, which is nearly that of their ids, so that whoever comes next is close by in memory.
#include "queue/spool_found.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/hash.h"
#include "base/pages.h"
#include "queue/summary.h"

#define NONE UINT32_MAX
#define PIECE_BITS 17 // slots of a piece: some MiB; ours
#define PIECE_SLOTS (UINT32_C(1) << PIECE_BITS)
#define BLOCK_IDS 16          // ids that follow each other and share an entry of the table
#define BLOCKS_FIRST 64       // ours
#define RECORD_RECIPIENTS 128 // of a message that are read without allocating; ours

// Domains and senders: millions of messages have few of them.
struct text {
    UT_hash_handle hh;
    uint32_t index;
    uint32_t len;
    char bytes[];
};

struct message {
    uint64_t id;
    uint64_t size;
    uint64_t arrival_ms;
    uint64_t expiry_ms;
    struct ph_spool_location location;
    uint32_t first;           // recipient; the others follow it
    uint32_t recipient_count; // 0: it is over
    uint32_t sender;          // text
    uint8_t priority;
    bool delay_notified;
};

struct recipient {
    uint64_t due_ms;
    uint32_t domain; // text
    uint16_t attempts;
    uint16_t kind; // enum ph_reason_kind
    uint8_t state; // enum ph_recipient_state
    bool in_doubt;
};

// Slots are never used twice: what is over lies beside what is owed, and a log isn't much longer
// than what is owed in it.
struct slab {
    char **pieces;
    uint32_t used;
};

struct block {
    uint64_t key; // id / BLOCK_IDS + 1; 0: free
    uint32_t slots[BLOCK_IDS];
};

struct ph_found {
    uint64_t hash_seed;   // peers choose the texts
    struct text *by_text; // uthash
    struct text **texts;
    uint32_t text_count;
    uint32_t text_cap;
    struct slab messages;
    struct slab recipients;
    struct block *blocks; // open addressing
    uint32_t block_len;
    uint32_t block_count;
    uint32_t block_last; // the one that was found last
    uint64_t last_id;
    bool unordered; // ids don't rise with slots
    bool copied;    // recipients don't, either: a message had a copy
};

struct ph_found *ph_found_create(uint64_t hash_seed)
{
    struct ph_found *found = ph_alloc(sizeof(*found));

    found->hash_seed = hash_seed;
    found->block_len = BLOCKS_FIRST;
    found->blocks = ph_alloc(BLOCKS_FIRST * sizeof(*found->blocks));
    return found;
}

static void slab_free(struct slab *slab)
{
    for (uint32_t i = 0; i << PIECE_BITS < slab->used; i++) {
        free(slab->pieces[i]);
    }
    free(slab->pieces);
    *slab = (struct slab){0};
}

void ph_found_destroy(struct ph_found *found)
{
    if (found == NULL) {
        return;
    }
    HASH_CLEAR(hh, found->by_text);
    for (uint32_t i = 0; i < found->text_count; i++) {
        free(found->texts[i]);
    }
    free(found->texts);
    slab_free(&found->messages);
    slab_free(&found->recipients);
    free(found->blocks);
    free(found);
}

// The next slot. What is owed must fit, or nothing can be promised.
static uint32_t slab_add(struct slab *slab, size_t item_bytes)
{
    uint32_t piece = slab->used >> PIECE_BITS;

    PH_CHECK(slab->used < NONE - 1);
    if (slab->used % PIECE_SLOTS == 0) {
        slab->pieces = reallocarray(slab->pieces, (size_t)piece + 1, sizeof(*slab->pieces));
        PH_CHECK(slab->pieces != NULL);
        slab->pieces[piece] = ph_pages_alloc(PIECE_SLOTS * item_bytes, piece > 0);
        if (slab->pieces[piece] == NULL) {
            ph_out_of_memory(PIECE_SLOTS * item_bytes);
        }
    }
    return slab->used++;
}

static struct message *message_at(const struct ph_found *found, uint32_t slot)
{
    return (struct message *)(void *)found->messages.pieces[slot >> PIECE_BITS] +
           slot % PIECE_SLOTS;
}

static struct recipient *recipient_at(const struct ph_found *found, uint32_t slot)
{
    return (struct recipient *)(void *)found->recipients.pieces[slot >> PIECE_BITS] +
           slot % PIECE_SLOTS;
}

static uint32_t text_of(struct ph_found *found, struct ph_str bytes)
{
    unsigned hash = (unsigned)ph_hash_str(bytes, found->hash_seed);
    struct text *text;

    HASH_FIND_BYHASHVALUE(hh, found->by_text, bytes.data, bytes.len, hash, text);
    if (text == NULL) {
        if (found->text_count == found->text_cap) {
            found->text_cap = found->text_cap == 0 ? 64 : found->text_cap * 2;
            found->texts = reallocarray(found->texts, found->text_cap, sizeof(*found->texts));
            PH_CHECK(found->texts != NULL);
        }
        text = ph_alloc(sizeof(*text) + bytes.len);
        text->index = found->text_count++;
        text->len = (uint32_t)bytes.len;
        if (bytes.len > 0) {
            memcpy(text->bytes, bytes.data, bytes.len);
        }
        found->texts[text->index] = text;
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, found->by_text, text->bytes, bytes.len, hash, text);
    }
    return text->index;
}

static struct ph_str text_at(const struct ph_found *found, uint32_t index)
{
    return (struct ph_str){.data = found->texts[index]->bytes, .len = found->texts[index]->len};
}

// --- the table: id → slot ---

// Where a block is, or would be.
static uint32_t probe(const struct ph_found *found, uint64_t key)
{
    uint32_t at = (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (found->block_len - 1);

    while (found->blocks[at].key != 0 && found->blocks[at].key != key) {
        at = (at + 1) & (found->block_len - 1);
    }
    return at;
}

static struct block *block_of(struct ph_found *found, uint64_t id)
{
    uint64_t key = id / BLOCK_IDS + 1;

    if (found->blocks[found->block_last].key != key) {
        found->block_last = probe(found, key);
    }
    return &found->blocks[found->block_last];
}

static bool block_empty(const struct block *block)
{
    for (unsigned i = 0; i < BLOCK_IDS; i++) {
        if (block->slots[i] != NONE) {
            return false;
        }
    }
    return true;
}

// Twice as long, without the blocks of messages that are over.
static void table_grow(struct ph_found *found)
{
    struct block *old = found->blocks;
    uint32_t old_len = found->block_len;

    PH_CHECK(old_len < UINT32_C(1) << 31);
    found->block_len = old_len * 2;
    found->blocks = ph_alloc(found->block_len * sizeof(*found->blocks));
    found->block_count = 0;
    found->block_last = 0;
    for (uint32_t i = 0; i < old_len; i++) {
        if (old[i].key != 0 && !block_empty(&old[i])) {
            found->blocks[probe(found, old[i].key)] = old[i];
            found->block_count++;
        }
    }
    free(old);
}

static struct message *find(struct ph_found *found, uint64_t id)
{
    const struct block *block = block_of(found, id);
    uint32_t slot = block->key != 0 ? block->slots[id % BLOCK_IDS] : NONE;

    return slot != NONE ? message_at(found, slot) : NULL;
}

bool ph_found_has(struct ph_found *found, uint64_t id)
{
    return find(found, id) != NULL;
}

static void forget(struct ph_found *found, struct message *message)
{
    block_of(found, message->id)->slots[message->id % BLOCK_IDS] = NONE;
    message->recipient_count = 0;
}

// The slot of a message that is new; one that is known keeps its place (this is its copy).
static struct message *add(struct ph_found *found, uint64_t id)
{
    struct block *block = block_of(found, id);
    uint32_t slot;

    if (block->key == 0) {
        if (found->block_count * 2 >= found->block_len) {
            table_grow(found);
            block = block_of(found, id);
        }
        block->key = id / BLOCK_IDS + 1;
        memset(block->slots, 0xff, sizeof(block->slots));
        found->block_count++;
    }
    slot = block->slots[id % BLOCK_IDS];
    if (slot == NONE) {
        slot = slab_add(&found->messages, sizeof(struct message));
        block->slots[id % BLOCK_IDS] = slot;
        found->unordered |= id <= found->last_id;
        found->last_id = id;
    } else {
        found->copied = true;
    }
    *message_at(found, slot) = (struct message){.id = id};
    return message_at(found, slot);
}

static void add_recipients(struct ph_found *found, struct message *message, uint32_t count)
{
    message->recipient_count = count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = slab_add(&found->recipients, sizeof(struct recipient));

        *recipient_at(found, slot) = (struct recipient){0};
        message->first = i == 0 ? slot : message->first;
    }
}

static struct recipient *recipient_of(const struct ph_found *found, const struct message *message,
                                      uint32_t index)
{
    return index < message->recipient_count ? recipient_at(found, message->first + index) : NULL;
}

// --- records ---

static void take_message(struct ph_found *found, const struct ph_record *record,
                         const struct ph_spool_location *location)
{
    uint32_t count = ph_record_recipient_count(record);
    struct ph_envelope_recipient few[RECORD_RECIPIENTS];
    struct ph_envelope_recipient *recipients = few;
    struct message *message;
    struct ph_message_body body;
    struct ph_envelope envelope;

    if (count == 0 || count > record->body.len) {
        return;
    }
    if (count > RECORD_RECIPIENTS) {
        recipients = ph_alloc(count * sizeof(*recipients));
    }
    if (ph_record_read_message(record, &envelope, recipients, count, &body)) {
        message = add(found, record->id);
        message->location = *location;
        message->location.len = record->len;
        if (record->flags & PH_RECORD_FLAG_EXTENT) {
            message->location.len |= PH_SPOOL_IN_EXTENT;
        }
        message->size = body.len;
        message->arrival_ms = envelope.arrival_ms;
        message->expiry_ms = envelope.expiry_ms;
        message->priority = envelope.priority;
        message->sender = text_of(found, envelope.sender);
        add_recipients(found, message, count);
        for (uint32_t i = 0; i < count; i++) {
            struct recipient *recipient = recipient_of(found, message, i);

            recipient->domain = text_of(found, recipients[i].domain);
            recipient->in_doubt = record->flags & PH_RECORD_FLAG_ATTEMPT;
        }
    }
    if (recipients != few) {
        free(recipients);
    }
}

static void set_outcome(struct recipient *recipient, const struct ph_outcome_record *outcome)
{
    if (recipient != NULL) {
        recipient->state = (uint8_t)outcome->state;
        recipient->in_doubt = outcome->in_doubt;
        recipient->attempts = outcome->attempts;
        recipient->due_ms = outcome->due_ms;
        recipient->kind = (uint16_t)outcome->kind;
    }
}

static void set_doubt(struct ph_found *found, const struct message *message, bool in_doubt)
{
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        recipient_of(found, message, i)->in_doubt = in_doubt;
    }
}

static void set_attempted(struct ph_found *found, const struct message *message, uint32_t index)
{
    struct recipient *recipient = recipient_of(found, message, index);

    if (recipient != NULL) {
        recipient->in_doubt = true;
    }
}

void ph_found_take(struct ph_found *found, const struct ph_record *record,
                   const struct ph_spool_location *location)
{
    struct message *message = find(found, record->id);
    struct ph_outcome_record outcome;
    uint32_t index;

    if (record->type == PH_RECORD_MESSAGE) {
        take_message(found, record, location);
        return;
    }
    if (message == NULL) {
        return; // it is over, or what began it was damaged
    }
    switch (record->type) {
    case PH_RECORD_ATTEMPT:
        for (uint32_t i = 0; ph_record_attempt_at(record, i, &index); i++) {
            set_attempted(found, message, index);
        }
        break;
    case PH_RECORD_OUTCOME:
        if (ph_record_read_outcome(record, &outcome)) {
            set_outcome(recipient_of(found, message, outcome.recipient), &outcome);
        }
        break;
    case PH_RECORD_DONE:
        forget(found, message);
        break;
    case PH_RECORD_DELAYED:
        message->delay_notified = true;
        break;
    case PH_RECORD_UNATTEMPT:
        set_doubt(found, message, false);
        break;
    case PH_RECORD_MESSAGE:
    case PH_RECORD_VOID:
        break;
    }
}

// --- summaries ---

// What a summary's numbers stand for.
struct numbers {
    uint32_t *texts;
    enum ph_reason_kind *kinds;
    uint32_t text_count;
    uint32_t kind_count;
};

static void *grown(void *array, uint32_t count, size_t item_bytes)
{
    if ((count & (count - 1)) == 0) { // at each power of two
        array = reallocarray(array, count == 0 ? 1 : (size_t)count * 2, item_bytes);
        PH_CHECK(array != NULL);
    }
    return array;
}

static void learn(struct ph_found *found, struct numbers *numbers,
                  const struct ph_summary_entry *entry)
{
    enum ph_reason_kind kind;

    if (entry->kind == PH_SUMMARY_TEXT) {
        numbers->texts = grown(numbers->texts, numbers->text_count, sizeof(*numbers->texts));
        numbers->texts[numbers->text_count++] = text_of(found, entry->text);
    } else {
        if (!ph_reason_kind_from_token(entry->text, &kind)) {
            kind = PH_REASON_NONE; // of another version
        }
        numbers->kinds = grown(numbers->kinds, numbers->kind_count, sizeof(*numbers->kinds));
        numbers->kinds[numbers->kind_count++] = kind;
    }
}

static void take_summed_message(struct ph_found *found, const struct numbers *numbers,
                                const struct ph_summary_entry *entry, uint32_t segment)
{
    struct message *message = add(found, entry->id);

    message->location = (struct ph_spool_location){
        .segment = segment,
        .offset = entry->at,
        .len = entry->len | (entry->flags & PH_RECORD_FLAG_EXTENT ? PH_SPOOL_IN_EXTENT : 0)};
    message->size = entry->size;
    message->arrival_ms = entry->arrival_ms;
    message->expiry_ms = entry->expiry_ms;
    message->priority = entry->priority;
    message->sender = numbers->texts[entry->sender];
    add_recipients(found, message, entry->count);
    for (uint32_t i = 0; i < entry->count; i++) {
        struct recipient *recipient = recipient_of(found, message, i);

        recipient->domain = numbers->texts[ph_summary_number(entry, i)];
        recipient->in_doubt = entry->flags & PH_RECORD_FLAG_ATTEMPT;
    }
}

static void take_summed(struct ph_found *found, const struct numbers *numbers,
                        const struct ph_summary_entry *entry, uint32_t segment)
{
    struct message *message;

    if (entry->type == PH_RECORD_MESSAGE) {
        take_summed_message(found, numbers, entry, segment);
        return;
    }
    message = find(found, entry->id);
    if (message == NULL) {
        return; // as in ph_found_take
    }
    switch (entry->type) {
    case PH_RECORD_ATTEMPT:
        for (uint32_t i = 0; i < entry->count; i++) {
            set_attempted(found, message, ph_summary_number(entry, i));
        }
        break;
    case PH_RECORD_OUTCOME:
        set_outcome(recipient_of(found, message, entry->recipient),
                    &(struct ph_outcome_record){
                        .state = entry->state,
                        .in_doubt = entry->flags & PH_RECORD_FLAG_IN_DOUBT,
                        .attempts = entry->attempts,
                        .due_ms = entry->due_ms,
                        .kind = numbers->kinds[entry->token],
                    });
        break;
    case PH_RECORD_DONE:
        forget(found, message);
        break;
    case PH_RECORD_DELAYED:
        message->delay_notified = true;
        break;
    case PH_RECORD_UNATTEMPT:
        set_doubt(found, message, false);
        break;
    case PH_RECORD_MESSAGE:
    case PH_RECORD_VOID:
        break;
    }
}

uint64_t ph_found_take_summary(struct ph_found *found, struct ph_str entries, uint32_t segment)
{
    struct numbers numbers = {0};
    struct ph_summary_entry entry;
    uint64_t highest = 0;

    while (ph_summary_next(&entries, &entry)) {
        if (entry.kind == PH_SUMMARY_RECORD) {
            take_summed(found, &numbers, &entry, segment);
            highest = entry.id > highest ? entry.id : highest;
        } else {
            learn(found, &numbers, &entry);
        }
    }
    free(numbers.texts);
    free(numbers.kinds);
    return highest;
}

void ph_found_doubt_all(struct ph_found *found)
{
    for (uint32_t i = 0; i < found->messages.used; i++) {
        set_doubt(found, message_at(found, i), true);
    }
}

// --- the end ---

static bool owed(const struct ph_found *found, const struct message *message, bool *out_in_doubt)
{
    bool waiting = false;

    *out_in_doubt = false;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        const struct recipient *recipient = recipient_of(found, message, i);

        waiting |= recipient->state == PH_QUEUED_WAITING;
        *out_in_doubt |= recipient->state == PH_QUEUED_WAITING && recipient->in_doubt;
    }
    return waiting;
}

static int compare(const void *a, const void *b, void *owner)
{
    const struct ph_found *found = owner;
    uint64_t left = message_at(found, *(const uint32_t *)a)->id;
    uint64_t right = message_at(found, *(const uint32_t *)b)->id;

    return left < right ? -1 : left > right;
}

// Slots of all messages by id.
static uint32_t *in_order(struct ph_found *found)
{
    uint32_t *order = reallocarray(NULL, (size_t)found->messages.used + 1, sizeof(*order));

    PH_CHECK(order != NULL);
    for (uint32_t i = 0; i < found->messages.used; i++) {
        order[i] = i;
    }
    qsort_r(order, found->messages.used, sizeof(*order), compare, found);
    return order;
}

static void tell_recovered(const struct ph_found *found, const struct message *message,
                           bool in_doubt, const struct ph_found_listener *listener)
{
    struct ph_spool_recovered_recipient few[RECORD_RECIPIENTS];
    struct ph_spool_recovered_recipient *recipients = few;

    if (message->recipient_count > RECORD_RECIPIENTS) {
        recipients = ph_alloc(message->recipient_count * sizeof(*recipients));
    }
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        const struct recipient *r = recipient_of(found, message, i);

        recipients[i] = (struct ph_spool_recovered_recipient){
            .domain = text_at(found, r->domain),
            .domain_number = r->domain,
            .state = (enum ph_recipient_state)r->state,
            .in_doubt = r->in_doubt,
            .attempts = r->attempts,
            .due_ms = r->due_ms,
            .kind = (enum ph_reason_kind)r->kind,
        };
    }
    if (in_doubt) {
        listener->addresses(listener->owner, message->id, &message->location, recipients,
                            message->recipient_count);
    }
    listener->on_recovered(listener->recovered_owner,
                           &(struct ph_spool_recovered){
                               .id = message->id,
                               .location = message->location,
                               .arrival_ms = message->arrival_ms,
                               .expiry_ms = message->expiry_ms,
                               .size = message->size,
                               .priority = message->priority,
                               .delay_notified = message->delay_notified,
                               .sender = text_at(found, message->sender),
                               .recipients = recipients,
                               .recipient_count = message->recipient_count,
                           });
    if (recipients != few) {
        free(recipients);
    }
}

static void tell_one(const struct ph_found *found, const struct message *message,
                     const struct ph_found_listener *listener)
{
    bool extent = message->location.len & PH_SPOOL_IN_EXTENT;
    bool in_doubt;

    if (!owed(found, message, &in_doubt)) {
        return;
    }
    listener->on_place(listener->owner, &message->location,
                       (message->location.len & ~PH_SPOOL_IN_EXTENT) +
                           (extent ? 0 : message->size));
    if (listener->on_recovered != NULL) {
        tell_recovered(found, message, in_doubt, listener);
    }
}

// Who is told makes room for the same messages meanwhile: what was told goes.
static void free_told(struct ph_found *found, uint32_t slot)
{
    const struct message *message = message_at(found, slot);
    uint32_t before = message->first >> PIECE_BITS;

    if (before > 0 && !found->copied) {
        free(found->recipients.pieces[before - 1]);
        found->recipients.pieces[before - 1] = NULL;
    }
    if ((slot + 1) % PIECE_SLOTS == 0) {
        free(found->messages.pieces[slot >> PIECE_BITS]);
        found->messages.pieces[slot >> PIECE_BITS] = NULL;
    }
}

void ph_found_tell(struct ph_found *found, const struct ph_found_listener *listener)
{
    uint32_t *order = found->unordered ? in_order(found) : NULL;

    free(found->blocks);
    found->blocks = NULL;
    for (uint32_t i = 0; i < found->messages.used; i++) {
        tell_one(found, message_at(found, order != NULL ? order[i] : i), listener);
        if (order == NULL) {
            free_told(found, i);
        }
    }
    free(order);
}
