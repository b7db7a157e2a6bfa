// What recovery has found so far.
#include "queue/spool_found.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define NONE UINT32_MAX
#define CAP_FIRST 1024        // slots; ours
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
    uint32_t first; // recipient; of a free slot: the next free one
    uint32_t recipient_count;
    uint32_t sender; // text
    uint8_t priority;
    bool used;
    bool delay_notified;
};

struct recipient {
    uint64_t due_ms;
    uint32_t next;
    uint32_t domain; // text
    uint16_t attempts;
    uint16_t kind; // enum ph_reason_kind
    uint8_t state; // enum ph_recipient_state
    bool in_doubt;
    char *address; // owned; only of mail that was accepted for an attempt at once
};

struct ph_found {
    struct text *by_text; // uthash
    struct text **texts;
    uint32_t text_count;
    uint32_t text_cap;
    struct message *messages;
    uint32_t message_used;
    uint32_t message_cap;
    uint32_t message_free;
    struct recipient *recipients;
    uint32_t recipient_used;
    uint32_t recipient_cap;
    uint32_t recipient_free;
    uint32_t *table; // open addressing by id: a message's slot, or NONE
    uint32_t table_len;
    uint32_t count;
};

struct ph_found *ph_found_create(void)
{
    struct ph_found *found = ph_alloc(sizeof(*found));

    found->message_free = NONE;
    found->recipient_free = NONE;
    return found;
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
    for (uint32_t i = 0; i < found->recipient_used; i++) {
        free(found->recipients[i].address);
    }
    free(found->messages);
    free(found->recipients);
    free(found->table);
    free(found);
}

// What is owed must fit, or nothing can be promised.
static void grow(void **array, uint32_t *cap, uint32_t used, size_t item_bytes)
{
    if (used == *cap) {
        uint64_t wanted = *cap == 0 ? CAP_FIRST : *cap + (uint64_t)*cap / 2;

        PH_CHECK(wanted < NONE);
        *array = reallocarray(*array, wanted, item_bytes);
        PH_CHECK(*array != NULL);
        *cap = (uint32_t)wanted;
    }
}

static uint32_t text_of(struct ph_found *found, struct ph_str bytes)
{
    struct text *text;

    HASH_FIND(hh, found->by_text, bytes.data, bytes.len, text);
    if (text == NULL) {
        grow((void **)&found->texts, &found->text_cap, found->text_count, sizeof(*found->texts));
        text = ph_alloc(sizeof(*text) + bytes.len);
        text->index = found->text_count++;
        text->len = (uint32_t)bytes.len;
        memcpy(text->bytes, bytes.data, bytes.len);
        found->texts[text->index] = text;
        HASH_ADD_KEYPTR(hh, found->by_text, text->bytes, bytes.len, text);
    }
    return text->index;
}

static struct ph_str text_at(const struct ph_found *found, uint32_t index)
{
    return (struct ph_str){.data = found->texts[index]->bytes, .len = found->texts[index]->len};
}

// --- the table ---

static uint32_t slot_of(const struct ph_found *found, uint64_t id)
{
    return (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (found->table_len - 1);
}

// Where `id` is in the table, or would be.
static uint32_t probe(const struct ph_found *found, uint64_t id)
{
    uint32_t at = slot_of(found, id);

    while (found->table[at] != NONE && found->messages[found->table[at]].id != id) {
        at = (at + 1) & (found->table_len - 1);
    }
    return at;
}

static struct message *find(const struct ph_found *found, uint64_t id)
{
    uint32_t index = found->table_len > 0 ? found->table[probe(found, id)] : NONE;

    return index != NONE ? &found->messages[index] : NULL;
}

bool ph_found_has(const struct ph_found *found, uint64_t id)
{
    return find(found, id) != NULL;
}

static void table_grow(struct ph_found *found)
{
    uint32_t *old = found->table;
    uint32_t old_len = found->table_len;

    if ((uint64_t)found->count * 4 < (uint64_t)old_len * 3) {
        return;
    }
    PH_CHECK(old_len < UINT32_C(1) << 31);
    found->table_len = old_len == 0 ? CAP_FIRST : old_len * 2;
    found->table = reallocarray(NULL, found->table_len, sizeof(*found->table));
    PH_CHECK(found->table != NULL);
    memset(found->table, 0xff, found->table_len * sizeof(*found->table));
    for (uint32_t i = 0; i < old_len; i++) {
        if (old[i] != NONE) {
            found->table[probe(found, found->messages[old[i]].id)] = old[i];
        }
    }
    free(old);
}

// Those behind it in its run move up, so that no probe ends too early.
static void table_remove(struct ph_found *found, uint32_t at)
{
    uint32_t mask = found->table_len - 1;
    uint32_t hole = at;

    found->table[hole] = NONE;
    for (uint32_t i = (at + 1) & mask; found->table[i] != NONE; i = (i + 1) & mask) {
        uint32_t home = slot_of(found, found->messages[found->table[i]].id);

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            found->table[hole] = found->table[i];
            found->table[i] = NONE;
            hole = i;
        }
    }
}

static void forget(struct ph_found *found, struct message *message)
{
    uint32_t index = (uint32_t)(message - found->messages);

    table_remove(found, probe(found, message->id));
    for (uint32_t slot = message->first; slot != NONE;) {
        uint32_t next = found->recipients[slot].next;

        free(found->recipients[slot].address);
        found->recipients[slot].address = NULL;
        found->recipients[slot].next = found->recipient_free;
        found->recipient_free = slot;
        slot = next;
    }
    *message = (struct message){.first = found->message_free};
    found->message_free = index;
    found->count--;
}

static struct message *add(struct ph_found *found, uint64_t id)
{
    uint32_t index = found->message_free;

    if (index != NONE) {
        found->message_free = found->messages[index].first;
    } else {
        grow((void **)&found->messages, &found->message_cap, found->message_used,
             sizeof(*found->messages));
        index = found->message_used++;
    }
    found->messages[index] = (struct message){.id = id, .first = NONE, .used = true};
    table_grow(found);
    found->table[probe(found, id)] = index;
    found->count++;
    return &found->messages[index];
}

static uint32_t add_recipient(struct ph_found *found)
{
    uint32_t slot = found->recipient_free;

    if (slot != NONE) {
        found->recipient_free = found->recipients[slot].next;
    } else {
        grow((void **)&found->recipients, &found->recipient_cap, found->recipient_used,
             sizeof(*found->recipients));
        slot = found->recipient_used++;
    }
    return slot;
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
        message = find(found, record->id);
        if (message != NULL) {
            forget(found, message); // this is its copy
        }
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
        message->recipient_count = count;
        // From the last to the first, so that the list is in the envelope's order.
        for (uint32_t i = count; i-- > 0;) {
            uint32_t slot = add_recipient(found);

            found->recipients[slot] = (struct recipient){
                .next = message->first,
                .domain = text_of(found, recipients[i].domain),
                .in_doubt = record->flags & PH_RECORD_FLAG_ATTEMPT,
            };
            if (record->flags & PH_RECORD_FLAG_ATTEMPT) {
                found->recipients[slot].address =
                    strndup(recipients[i].address.data, recipients[i].address.len);
            }
            message->first = slot;
        }
    }
    if (recipients != few) {
        free(recipients);
    }
}

static struct recipient *recipient_at(const struct ph_found *found, const struct message *message,
                                      uint32_t index)
{
    uint32_t slot = index < message->recipient_count ? message->first : NONE;

    for (uint32_t i = 0; i < index && slot != NONE; i++) {
        slot = found->recipients[slot].next;
    }
    return slot != NONE ? &found->recipients[slot] : NULL;
}

static void take_outcome(const struct ph_found *found, const struct message *message,
                         const struct ph_record *record)
{
    struct ph_outcome_record outcome;
    struct recipient *recipient;

    if (!ph_record_read_outcome(record, &outcome) ||
        (recipient = recipient_at(found, message, outcome.recipient)) == NULL) {
        return;
    }
    recipient->state = (uint8_t)outcome.state;
    recipient->in_doubt = outcome.in_doubt;
    recipient->attempts = outcome.attempts;
    recipient->due_ms = outcome.due_ms;
    recipient->kind = (uint16_t)outcome.kind;
}

static void set_doubt(struct ph_found *found, const struct message *message, bool in_doubt)
{
    for (uint32_t slot = message->first; slot != NONE; slot = found->recipients[slot].next) {
        found->recipients[slot].in_doubt = in_doubt;
    }
}

void ph_found_take(struct ph_found *found, const struct ph_record *record,
                   const struct ph_spool_location *location)
{
    struct message *message = find(found, record->id);
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
            struct recipient *recipient = recipient_at(found, message, index);

            if (recipient != NULL) {
                recipient->in_doubt = true;
            }
        }
        break;
    case PH_RECORD_OUTCOME:
        take_outcome(found, message, record);
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

void ph_found_doubt_all(struct ph_found *found)
{
    for (uint32_t i = 0; i < found->message_used; i++) {
        if (found->messages[i].used) {
            set_doubt(found, &found->messages[i], true);
        }
    }
}

// --- the end ---

static bool owed(const struct ph_found *found, const struct message *message)
{
    for (uint32_t slot = message->first; slot != NONE; slot = found->recipients[slot].next) {
        if (found->recipients[slot].state == PH_QUEUED_WAITING) {
            return true;
        }
    }
    return false;
}

static int compare(const void *a, const void *b, void *owner)
{
    const struct ph_found *found = owner;
    uint64_t left = found->messages[*(const uint32_t *)a].id;
    uint64_t right = found->messages[*(const uint32_t *)b].id;

    return left < right ? -1 : left > right;
}

// Slots of all messages by id. The log is nearly in that order.
static uint32_t *in_order(struct ph_found *found, uint32_t *out_count)
{
    uint32_t *order = reallocarray(NULL, (size_t)found->count + 1, sizeof(*order));
    bool sorted = true;
    uint32_t count = 0;

    PH_CHECK(order != NULL);
    for (uint32_t i = 0; i < found->message_used; i++) {
        if (found->messages[i].used && owed(found, &found->messages[i])) {
            sorted &= count == 0 || compare(&order[count - 1], &i, found) < 0;
            order[count++] = i;
        }
    }
    if (!sorted) {
        qsort_r(order, count, sizeof(*order), compare, found);
    }
    *out_count = count;
    return order;
}

static void tell_one(const struct ph_found *found, const struct message *message,
                     ph_spool_on_recovered *on_recovered, void *owner)
{
    struct ph_spool_recovered_recipient few[RECORD_RECIPIENTS];
    struct ph_spool_recovered_recipient *recipients = few;
    uint32_t slot = message->first;

    if (message->recipient_count > RECORD_RECIPIENTS) {
        recipients = ph_alloc(message->recipient_count * sizeof(*recipients));
    }
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        const struct recipient *r = &found->recipients[slot];

        recipients[i] = (struct ph_spool_recovered_recipient){
            .domain = text_at(found, r->domain),
            .address = ph_str_from(r->address),
            .state = (enum ph_recipient_state)r->state,
            .in_doubt = r->in_doubt,
            .attempts = r->attempts,
            .due_ms = r->due_ms,
            .kind = (enum ph_reason_kind)r->kind,
        };
        slot = r->next;
    }
    on_recovered(owner, &(struct ph_spool_recovered){
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

void ph_found_tell(struct ph_found *found, ph_found_on_place *on_place, void *place_owner,
                   ph_spool_on_recovered *on_recovered, void *owner)
{
    uint32_t count;
    uint32_t *order = in_order(found, &count);

    for (uint32_t i = 0; i < count; i++) {
        const struct message *message = &found->messages[order[i]];
        bool extent = message->location.len & PH_SPOOL_IN_EXTENT;

        on_place(place_owner, &message->location,
                 (message->location.len & ~PH_SPOOL_IN_EXTENT) + (extent ? 0 : message->size));
        if (on_recovered != NULL) {
            tell_one(found, message, on_recovered, owner);
        }
    }
    free(order);
}
