// A log after whatever happened to it: what is owed, what is damaged, what never counted.
//
// Groups are numbered without gaps and written one after another, each when the one before it was
// durable. So where group n can't be read and a later one can, n was durable once: damage, set
// aside and reported. Where nothing later can be read it is the torn tail, which nobody was told
// of. A group that failed or was torn is declared void by the first record of the next one.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "queue/spool_parts.h"

#define PH_RECOVERY_WINDOW_BYTES ((size_t)1 << 20) // read at a time; ours

struct found_message {
    uint64_t id;
    struct ph_spool_location location;
    uint64_t group;
    uint64_t size;
    bool attempt; // its record's flag
    bool delay_notified;
    char *record; // its body, owned
    size_t record_len;
    uint16_t flags;
    uint32_t recipient_count;
    struct ph_spool_recovered_recipient *recipients;
    UT_hash_handle hh;
};

struct recovery {
    struct ph_spool *spool;
    struct found_message *messages; // uthash by id
    struct ph_spool_recovery_report *report;
    struct ph_buf *error;
    char *window;
    struct ph_segment *window_of;
    uint64_t window_at;
    size_t window_len;
    uint64_t last_group;  // read so far; 0: none
    uint64_t last_oldest; // as the last group says
    uint64_t last_number_seen;
    bool unknown; // a record of another version
    unsigned quarantine_count;
};

static void unused_step(struct ph_op *op)
{
    (void)op; // each operation here is waited for
}

static int64_t read_at(struct ph_spool *spool, struct ph_segment *segment, void *out, size_t len,
                       uint64_t offset)
{
    struct ph_op op;

    ph_op_init(&op, unused_step, NULL);
    ph_io_file_read(segment->file, &op, out, len, offset);
    return ph_io_finish(spool->io, &op);
}

// `len` bytes at `offset`, through a window that is read ahead; shorter at the file's end.
static struct ph_str view(struct recovery *r, struct ph_segment *segment, uint64_t offset,
                          size_t len)
{
    size_t wanted = len > PH_RECOVERY_WINDOW_BYTES ? len : PH_RECOVERY_WINDOW_BYTES;
    size_t skipped;

    if (r->window_of != segment || offset < r->window_at ||
        offset + len > r->window_at + r->window_len) {
        int64_t got;

        r->window = realloc(r->window, wanted);
        PH_CHECK(r->window != NULL);
        got = read_at(r->spool, segment, r->window, wanted, offset);
        r->window_of = segment;
        r->window_at = offset;
        r->window_len = got > 0 ? (size_t)got : 0;
    }
    skipped = (size_t)(offset - r->window_at);
    return ph_str_first(
        (struct ph_str){.data = r->window + skipped, .len = r->window_len - skipped}, len);
}

// --- what groups say ---

static struct found_message *find(struct recovery *r, uint64_t id)
{
    struct found_message *found;

    HASH_FIND(hh, r->messages, &id, sizeof(id), found);
    return found;
}

static void forget(struct recovery *r, struct found_message *message)
{
    HASH_DEL(r->messages, message);
    free(message->record);
    free(message->recipients);
    free(message);
}

static void take_message(struct recovery *r, const struct ph_record *record, uint64_t group,
                         const struct ph_spool_location *location)
{
    uint32_t count = ph_record_recipient_count(record);
    struct ph_envelope_recipient *recipients;
    struct found_message *message;
    struct ph_message_body body;
    struct ph_envelope envelope;
    struct ph_record own = *record;

    if (count == 0 || count > record->body.len) {
        return;
    }
    recipients = ph_alloc(count * sizeof(*recipients));
    message = find(r, record->id);
    if (message != NULL) {
        forget(r, message);
    }
    message = ph_alloc(sizeof(*message));
    message->record = ph_alloc(record->body.len);
    memcpy(message->record, record->body.data, record->body.len);
    own.body.data = message->record;
    if (!ph_record_read_message(&own, &envelope, recipients, count, &body)) {
        free(message->record);
        free(message);
        free(recipients);
        return;
    }
    message->id = record->id;
    message->location = *location;
    message->location.len = record->len;
    if (record->flags & PH_RECORD_FLAG_EXTENT) {
        message->location.len |= PH_SPOOL_IN_EXTENT;
    }
    message->group = group;
    message->flags = record->flags;
    message->record_len = record->body.len;
    message->size = body.len;
    message->recipient_count = count;
    message->recipients = ph_alloc(count * sizeof(*message->recipients));
    for (uint32_t i = 0; i < count; i++) {
        message->recipients[i].domain = recipients[i].domain;
        message->recipients[i].in_doubt = record->flags & PH_RECORD_FLAG_ATTEMPT;
    }
    free(recipients);
    HASH_ADD(hh, r->messages, id, sizeof(message->id), message);
}

static void take_outcome(struct found_message *message, const struct ph_record *record)
{
    struct ph_outcome_record outcome;
    struct ph_spool_recovered_recipient *recipient;

    if (!ph_record_read_outcome(record, &outcome) ||
        outcome.recipient >= message->recipient_count) {
        return;
    }
    recipient = &message->recipients[outcome.recipient];
    recipient->state = outcome.state;
    recipient->in_doubt = outcome.in_doubt;
    recipient->attempts = outcome.attempts;
    recipient->due_ms = outcome.due_ms;
    recipient->kind = outcome.kind;
}

static void take_void(struct recovery *r, uint64_t group)
{
    struct found_message *message;
    struct found_message *next;

    HASH_ITER(hh, r->messages, message, next)
    {
        if (message->group == group) {
            forget(r, message);
        }
    }
}

static void take_record(struct recovery *r, const struct ph_record *record, uint64_t group,
                        const struct ph_spool_location *location)
{
    struct found_message *message = find(r, record->id);
    uint32_t recipient;

    switch (record->type) {
    case PH_RECORD_MESSAGE:
        take_message(r, record, group, location);
        break;
    case PH_RECORD_ATTEMPT:
        for (uint32_t i = 0; message != NULL && ph_record_attempt_at(record, i, &recipient); i++) {
            if (recipient < message->recipient_count) {
                message->recipients[recipient].in_doubt = true;
            }
        }
        break;
    case PH_RECORD_OUTCOME:
        if (message != NULL) {
            take_outcome(message, record);
        }
        break;
    case PH_RECORD_DONE:
        if (message != NULL) {
            forget(r, message);
        }
        break;
    case PH_RECORD_DELAYED:
        if (message != NULL) {
            message->delay_notified = true;
        }
        break;
    case PH_RECORD_UNATTEMPT:
        for (uint32_t i = 0; message != NULL && i < message->recipient_count; i++) {
            message->recipients[i].in_doubt = false;
        }
        break;
    case PH_RECORD_VOID:
        take_void(r, record->id);
        break;
    }
    if (record->type != PH_RECORD_VOID && PH_MESSAGE_ID_LOG(record->id) == r->spool->options.log) {
        uint64_t sequence = record->id & ((UINT64_C(1) << 48) - 1);

        if (sequence >= r->spool->next_sequence) {
            r->spool->next_sequence = sequence + 1;
        }
    }
}

// --- groups ---

// A whole, valid group at `at`? `out_meta` is its records, in the window.
static bool group_at(struct recovery *r, struct ph_segment *segment, uint64_t at,
                     struct ph_group *out, struct ph_str *out_meta)
{
    uint64_t seed = ph_record_seed(r->spool->seed, segment->number);
    struct ph_str head = view(r, segment, at, PH_GROUP_HEAD_BYTES);

    if (!ph_group_decode(head, seed, out) || out->number == 0 ||
        at + ph_group_disk_bytes(out) > segment->size) {
        return false;
    }
    head = view(r, segment, at, PH_GROUP_HEAD_BYTES + out->meta_len);
    if (head.len < PH_GROUP_HEAD_BYTES + out->meta_len) {
        return false;
    }
    *out_meta = ph_str_after(head, PH_GROUP_HEAD_BYTES);
    return ph_group_meta_valid(head, *out_meta, seed);
}

// The last group of a log may have its records and not all contents: then it was torn.
static bool contents_sound(struct recovery *r, struct ph_segment *segment, struct ph_str meta)
{
    struct ph_buf copy = {0};
    struct ph_str rest;
    struct ph_record record;
    bool sound = true;

    ph_buf_append(&copy, meta);
    rest = ph_buf_str(&copy);
    while (sound && ph_record_walk(&rest, &record)) {
        struct ph_envelope_recipient *recipients;
        struct ph_message_body body;
        struct ph_envelope envelope;
        uint32_t count;

        if (record.type != PH_RECORD_MESSAGE || (record.flags & PH_RECORD_FLAG_EXTENT)) {
            continue;
        }
        count = ph_record_recipient_count(&record);
        recipients = ph_alloc((count + 1) * sizeof(*recipients));
        sound = ph_record_read_message(&record, &envelope, recipients, count, &body);
        if (sound) {
            struct ph_str content = view(r, segment, body.offset, body.len);

            sound = content.len == body.len &&
                    ph_spool_content_sum(r->spool, record.id, content) == body.sum;
        }
        free(recipients);
    }
    ph_buf_deinit(&copy);
    return sound;
}

static void apply_group(struct recovery *r, struct ph_segment *segment, uint64_t at,
                        const struct ph_group *group, struct ph_str meta)
{
    uint64_t seed = ph_record_seed(r->spool->seed, segment->number);
    struct ph_str rest = meta;
    struct ph_record record;
    enum ph_record_result result = PH_RECORD_OK;

    while (result == PH_RECORD_OK) {
        struct ph_spool_location location = {
            .segment = (uint32_t)segment->number,
            .offset = (uint32_t)(at + PH_GROUP_HEAD_BYTES + (meta.len - rest.len)),
        };

        result = ph_record_next(&rest, seed, &record);
        if (result == PH_RECORD_OK) {
            take_record(r, &record, group->number, &location);
        }
    }
    r->unknown |= result == PH_RECORD_UNKNOWN;
    r->last_group = group->number;
    r->last_oldest = group->oldest;
}

// The first record of a group that follows one that is missing: does it declare that one void?
static bool voids(struct ph_str meta, uint64_t group)
{
    struct ph_record record;

    while (ph_record_walk(&meta, &record)) {
        if (record.type == PH_RECORD_VOID && record.id == group) {
            return true;
        }
    }
    return false;
}

// What can't be read is copied into a file of its own before its segment is used again.
static void quarantine(struct recovery *r, struct ph_segment *segment, uint64_t from, uint64_t to)
{
    char path[PH_SPOOL_PATH_MAX];
    struct ph_spool *spool = r->spool;
    struct ph_file *file = NULL;
    struct ph_op op;

    r->report->quarantined_records++;
    r->report->quarantined_bytes += to - from;
    snprintf(r->report->detail, sizeof(r->report->detail),
             "segment %llu is damaged from byte %llu to %llu", (unsigned long long)segment->number,
             (unsigned long long)from, (unsigned long long)to);
    if (spool->options.offline) {
        return;
    }
    snprintf(path, sizeof(path), "%s/quarantine", spool->options.directory);
    ph_op_init(&op, unused_step, NULL);
    ph_io_directory_create(spool->io, &op, path);
    (void)ph_io_finish(spool->io, &op);
    snprintf(path, sizeof(path), "%s/quarantine/log-%03u-segment-%llu-at-%llu",
             spool->options.directory, spool->options.log, (unsigned long long)segment->number,
             (unsigned long long)from);
    ph_io_file_open(spool->io, &op, path, PH_FILE_WRITE | PH_FILE_CREATE_OK, &file);
    if (ph_io_finish(spool->io, &op) == 0) {
        for (uint64_t at = from; at < to;) {
            struct ph_str part = view(
                r, segment, at,
                to - at < PH_RECOVERY_WINDOW_BYTES ? (size_t)(to - at) : PH_RECOVERY_WINDOW_BYTES);

            if (part.len == 0) {
                break;
            }
            ph_io_file_write(file, &op, part.data, part.len, at - from);
            (void)ph_io_finish(spool->io, &op);
            at += part.len;
        }
        ph_io_file_close(file);
    }
}

// The next valid group in this segment at or behind `from`; 0: none.
static uint64_t search_group(struct recovery *r, struct ph_segment *segment, uint64_t from)
{
    struct ph_group group;
    struct ph_str meta;

    for (uint64_t at = from; at + PH_GROUP_HEAD_BYTES <= segment->size;
         at += PH_DURABLE_BLOCK_BYTES) {
        if (view(r, segment, at, PH_GROUP_HEAD_BYTES).len < PH_GROUP_HEAD_BYTES) {
            break;
        }
        if (group_at(r, segment, at, &group, &meta) && group.number > r->last_group) {
            return at;
        }
    }
    return 0;
}

static bool is_last_segment(const struct ph_segment *segment)
{
    return TAILQ_NEXT(segment, link) == NULL;
}

// Is there a group later than the last one read, in this segment's successors?
static bool later_segment_has_groups(struct recovery *r, struct ph_segment *segment)
{
    struct ph_group group;
    struct ph_str meta;

    for (struct ph_segment *next = TAILQ_NEXT(segment, link); next != NULL;
         next = TAILQ_NEXT(next, link)) {
        if (group_at(r, next, PH_SEGMENT_HEAD_BYTES, &group, &meta)) {
            // One that was declared void isn't missed.
            return group.number > r->last_group + 1 && !voids(meta, r->last_group + 1);
        }
    }
    return false;
}

static void scan_segment(struct recovery *r, struct ph_segment *segment)
{
    uint64_t at = PH_SEGMENT_HEAD_BYTES;
    struct ph_group group;
    struct ph_str meta;

    while (at + PH_GROUP_HEAD_BYTES <= segment->size) {
        if (group_at(r, segment, at, &group, &meta) && group.number > r->last_group) {
            uint64_t next = at + ph_group_disk_bytes(&group);
            uint64_t group_at_byte = at;

            r->last_number_seen = group.number;
            if (is_last_segment(segment) && search_group(r, segment, next) == 0 &&
                group_at(r, segment, group_at_byte, &group, &meta) &&
                !contents_sound(r, segment, meta)) {
                r->report->torn_bytes += ph_group_disk_bytes(&group);
                segment->used = group_at_byte;
                return;
            }
            // The window may have moved meanwhile.
            PH_CHECK(group_at(r, segment, group_at_byte, &group, &meta));
            apply_group(r, segment, group_at_byte, &group, meta);
            at = next;
            segment->used = at;
        } else {
            uint64_t found = search_group(r, segment, at + PH_DURABLE_BLOCK_BYTES);

            if (found == 0) {
                break;
            }
            quarantine(r, segment, at, found);
            at = found;
        }
    }
    if (later_segment_has_groups(r, segment) && r->last_group > 0) {
        quarantine(r, segment, segment->used > 0 ? segment->used : PH_SEGMENT_HEAD_BYTES,
                   segment->size);
    }
}

// --- segments ---

static int compare_segments(const void *a, const void *b)
{
    const struct ph_segment *left = *(struct ph_segment *const *)a;
    const struct ph_segment *right = *(struct ph_segment *const *)b;

    return left->number < right->number ? -1 : left->number > right->number;
}

static bool read_slot(const char *name, uint32_t *out_slot)
{
    return sscanf(name, "seg-%5u.dat", out_slot) == 1 && strlen(name) == strlen("seg-00000.dat");
}

static int64_t open_segment(struct recovery *r, uint32_t slot, struct ph_segment **out)
{
    struct ph_spool *spool = r->spool;
    struct ph_segment *segment = ph_alloc(sizeof(*segment));
    struct ph_segment_head head;
    char path[PH_SPOOL_PATH_MAX];
    struct ph_op op;
    int64_t result;
    int64_t size;

    segment->slot = slot;
    ph_spool_segment_path(spool, slot, path);
    ph_op_init(&op, unused_step, NULL);
    ph_io_file_open(spool->io, &op, path,
                    PH_FILE_READ | PH_FILE_WRITE | PH_FILE_DIRECT | PH_FILE_LOCK, &segment->file);
    result = ph_io_finish(spool->io, &op);
    if (result < 0) {
        ph_buf_printf(r->error, "%s: %s", path, strerror((int)-result));
        free(segment);
        return result;
    }
    ph_io_file_size(segment->file, &op);
    size = ph_io_finish(spool->io, &op);
    segment->size = size > 0 ? (uint64_t)size : 0;
    segment->preallocated = segment->size >= spool->options.message_segment_bytes;
    if (ph_segment_head_decode(view(r, segment, 0, PH_SEGMENT_HEAD_BYTES), spool->seed, &head) &&
        head.log == spool->options.log) {
        segment->number = head.number;
    }
    if (slot >= spool->next_slot) {
        spool->next_slot = slot + 1;
    }
    if (segment->number >= spool->next_segment) {
        spool->next_segment = segment->number + 1;
    }
    *out = segment;
    return 0;
}

// Opens all segments; those in use are put in order, the others are spares.
static int64_t open_segments(struct recovery *r)
{
    struct ph_spool *spool = r->spool;
    struct ph_segment **found = NULL;
    size_t count = 0;
    struct ph_buf names = {0};
    struct ph_op op;
    int64_t result;

    ph_op_init(&op, unused_step, NULL);
    ph_io_directory_list(spool->io, &op, spool->path, &names);
    result = ph_io_finish(spool->io, &op);
    for (size_t at = 0; result >= 0 && at < names.len; at += strlen(names.data + at) + 1) {
        uint32_t slot;

        if (read_slot(names.data + at, &slot)) {
            found = reallocarray(found, count + 1, sizeof(*found));
            PH_CHECK(found != NULL);
            result = open_segment(r, slot, &found[count]);
            count += result >= 0;
        }
    }
    ph_buf_deinit(&names);
    if (count > 0) {
        qsort(found, count, sizeof(*found), compare_segments);
    }
    for (size_t i = 0; i < count; i++) {
        if (found[i]->number > 0) {
            TAILQ_INSERT_TAIL(&spool->segments, found[i], link);
        } else {
            TAILQ_INSERT_TAIL(&spool->spares, found[i], link);
        }
    }
    free(found);
    return result;
}

// From where on segments count: as the last group that can be read says.
static uint64_t oldest_needed(struct recovery *r)
{
    struct ph_segment *segment;

    TAILQ_FOREACH_REVERSE(segment, &r->spool->segments, ph_segment_list, link)
    {
        struct ph_group group;
        struct ph_str meta;
        uint64_t oldest = 0;

        for (uint64_t at = PH_SEGMENT_HEAD_BYTES; at + PH_GROUP_HEAD_BYTES <= segment->size;) {
            if (group_at(r, segment, at, &group, &meta)) {
                oldest = group.oldest;
                at += ph_group_disk_bytes(&group);
            } else {
                uint64_t found;

                r->last_group = 0;
                found = search_group(r, segment, at + PH_DURABLE_BLOCK_BYTES);
                if (found == 0) {
                    break;
                }
                at = found;
            }
        }
        if (oldest != 0) {
            return oldest;
        }
    }
    return 0;
}

static int compare_messages(const struct found_message *a, const struct found_message *b)
{
    return a->id < b->id ? -1 : a->id > b->id;
}

// Files of large contents whose message is no more.
static void remove_stray_extents(struct recovery *r)
{
    struct ph_spool *spool = r->spool;
    struct ph_buf names = {0};
    struct ph_op op;

    ph_op_init(&op, unused_step, NULL);
    ph_io_directory_list(spool->io, &op, spool->path, &names);
    (void)ph_io_finish(spool->io, &op);
    for (size_t at = 0; at < names.len; at += strlen(names.data + at) + 1) {
        struct ph_str name = ph_str_from(names.data + at);
        char path[PH_SPOOL_PATH_MAX];
        uint64_t id;

        if (ph_str_starts(name, PH_STR("big-")) &&
            ph_message_id_parse(ph_str_first(ph_str_after(name, 4), 16), &id) &&
            find(r, id) == NULL) {
            ph_spool_extent_path(spool, id, path);
            ph_io_file_unlink(spool->io, &op, path);
            (void)ph_io_finish(spool->io, &op);
        }
    }
    ph_buf_deinit(&names);
}

static void tell(struct recovery *r, ph_spool_on_recovered *on_recovered, void *owner)
{
    struct found_message *message;
    struct found_message *next;

    HASH_SORT(r->messages, compare_messages);
    HASH_ITER(hh, r->messages, message, next)
    {
        struct ph_segment *segment = ph_spool_segment_find(r->spool, message->location.segment);
        struct ph_envelope_recipient *unused = ph_alloc(message->recipient_count * sizeof(*unused));
        struct ph_record record = {
            .type = PH_RECORD_MESSAGE,
            .id = message->id,
            .body = {.data = message->record, .len = message->record_len},
        };
        struct ph_message_body body;
        struct ph_envelope envelope;

        PH_CHECK(segment != NULL);
        segment->live++;
        r->spool->stats.messages_live++;
        r->report->messages++;
        PH_CHECK(
            ph_record_read_message(&record, &envelope, unused, message->recipient_count, &body));
        if (on_recovered != NULL) {
            on_recovered(owner, &(struct ph_spool_recovered){
                                    .id = message->id,
                                    .location = message->location,
                                    .arrival_ms = envelope.arrival_ms,
                                    .expiry_ms = envelope.expiry_ms,
                                    .size = message->size,
                                    .priority = envelope.priority,
                                    .delay_notified = message->delay_notified,
                                    .sender = envelope.sender,
                                    .recipients = message->recipients,
                                    .recipient_count = message->recipient_count,
                                });
        }
        free(unused);
        forget(r, message);
    }
}

// Messages whose recipients are all terminal and whose DONE was lost with the tail: they need no
// more than their end.
static void drop_finished(struct recovery *r)
{
    struct found_message *message;
    struct found_message *next;

    HASH_ITER(hh, r->messages, message, next)
    {
        bool owed = false;

        for (uint32_t i = 0; i < message->recipient_count; i++) {
            owed |= message->recipients[i].state == PH_QUEUED_WAITING;
        }
        if (!owed) {
            forget(r, message);
        }
    }
}

int ph_spool_recover(struct ph_spool *spool, ph_spool_on_recovered *on_recovered, void *owner,
                     struct ph_spool_recovery_report *out_report, struct ph_buf *error)
{
    struct recovery r = {.spool = spool, .report = out_report, .error = error};
    struct ph_segment *segment;
    struct ph_segment *next;
    uint64_t oldest;
    int64_t result = open_segments(&r);

    if (result >= 0) {
        oldest = oldest_needed(&r);
        r.last_group = 0;
        for (segment = TAILQ_FIRST(&spool->segments); segment != NULL; segment = next) {
            next = TAILQ_NEXT(segment, link);
            if (segment->number < oldest) {
                TAILQ_REMOVE(&spool->segments, segment, link);
                segment->number = 0;
                TAILQ_INSERT_TAIL(&spool->spares, segment, link);
            }
        }
        TAILQ_FOREACH(segment, &spool->segments, link)
        {
            scan_segment(&r, segment);
        }
        if (r.unknown) {
            ph_buf_printf(error, "%s holds records of another version of posthaste", spool->path);
            result = -EPROTONOSUPPORT;
        }
    }
    if (result >= 0) {
        drop_finished(&r);
        if (!spool->options.offline) {
            remove_stray_extents(&r);
        }
        // The group that may have been under way is void, whatever of it there is.
        spool->void_group = r.last_group + 1;
        spool->next_group = r.last_group + 2;
        spool->durable_group = r.last_group;
        tell(&r, on_recovered, owner);
        TAILQ_FOREACH(segment, &spool->segments, link)
        {
            segment->used = segment->size; // nothing is written behind what was there
        }
    }
    free(r.window);
    return result < 0 ? (int)result : 0;
}
