// The spool: groups are gathered, written, and what waited for them is told.
#include "queue/spool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "queue/spool_parts.h"

#define PH_SPOOL_SPACE_INTERVAL_NS (1000 * PH_NS_PER_MS) // free space is looked at so often; ours
#define PH_SPOOL_FAILURES_MAX 2 // consecutive writes that failed: the log is given up
#define PH_SPOOL_WRITE_PAUSE_NS                                                                    \
    (100 * PH_NS_PER_MS) // after a group that could not be written; ours

#define PH_SPOOL_SEGMENT_PART 16 // a segment is at most so small a part of the file system; ours
#define PH_SPOOL_SEGMENT_BYTES_MIN (UINT64_C(4) << 20) // ours

static void on_written(struct ph_op *op);
static void on_space(struct ph_op *op);
static struct ph_spool_group *group_create(struct ph_spool *spool);
static struct ph_spool_group *group_for(struct ph_spool *spool, size_t content_len);
static void group_release(struct ph_spool_group *group);
static void no_room(struct ph_spool *spool, struct ph_spool_group *group);

char *ph_message_id_format(uint64_t id, char out[PH_MESSAGE_ID_TEXT_MAX])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 16; i-- > 0; id >>= 4) {
        out[i] = digits[id & 15];
    }
    out[16] = '\0';
    return out;
}

bool ph_message_id_parse(struct ph_str text, uint64_t *out_id)
{
    uint64_t id = 0;

    if (text.len != 16) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        char c = ph_ascii_lower(text.data[i]);

        if (c >= '0' && c <= '9') {
            id = id << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            id = id << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false;
        }
    }
    *out_id = id;
    return true;
}

// --- opening and closing ---

static void unused_step(struct ph_op *op)
{
    (void)op; // waited for
}

// On a small file system segments are small: one that waits for outcomes must not be most of it.
static void fit_segments(struct ph_spool *spool)
{
    uint64_t part;
    struct ph_op op;

    ph_op_init(&op, unused_step, NULL);
    ph_io_space_free(spool->io, &op, spool->path, &spool->space_free, &spool->space_total);
    if (ph_io_finish(spool->io, &op) == 0) {
        part = spool->space_total / PH_SPOOL_SEGMENT_PART / PH_DURABLE_BLOCK_BYTES *
               PH_DURABLE_BLOCK_BYTES;
        part = part > PH_SPOOL_SEGMENT_BYTES_MIN ? part : PH_SPOOL_SEGMENT_BYTES_MIN;
        if (part < spool->options.message_segment_bytes) {
            spool->options.message_segment_bytes = part;
        }
    }
}

int ph_spool_open(const struct ph_spool_options *options, ph_spool_on_recovered *on_recovered,
                  void *owner, struct ph_spool_recovery_report *out_report, struct ph_spool **out,
                  struct ph_buf *error)
{
    struct ph_spool *spool = ph_alloc(sizeof(*spool));
    char path[PH_SPOOL_PATH_MAX];
    struct ph_segment *first;
    int64_t failure = 0;
    int result;

    spool->options = *options;
    spool->io = options->io;
    snprintf(path, sizeof(path), "%s/log-%03u", options->directory, options->log);
    spool->path = ph_strdup(path);
    TAILQ_INIT(&spool->segments);
    TAILQ_INIT(&spool->spares);
    STAILQ_INIT(&spool->gathered);
    ph_op_init(&spool->write_op, on_written, spool);
    ph_op_init(&spool->space_op, on_space, spool);
    spool->next_sequence = 1;
    spool->next_segment = 1;
    spool->next_group = 1;
    result = ph_spool_read_seed(spool->io, options->directory, &spool->seed, error);
    if (result == 0) {
        fit_segments(spool);
        result = ph_spool_recover(spool, on_recovered, owner, out_report, error);
    }
    if (result == 0 && !options->offline) {
        // Never behind what may be a torn tail: in a segment of its own.
        failure = -EIO;
        first = ph_spool_segment_next(spool, &failure);
        if (first == NULL) {
            ph_buf_printf(error, "%s: a segment can't be made: %s", spool->path,
                          strerror((int)-failure));
            result = (int)failure;
        } else {
            ph_spool_segment_use(spool, first);
            ph_spool_summary_begin(spool, first);
            ph_spool_segment_prepare(spool);
        }
    }
    if (result < 0) {
        ph_spool_close(spool);
        return result;
    }
    *out = spool;
    return 0;
}

static void let_run(struct ph_spool *spool)
{
    if (!ph_io_has_ready(spool->io)) {
        ph_io_wait(spool->io, spool->io->now_ns + 100 * PH_NS_PER_MS);
    }
    ph_io_run_ready(spool->io);
}

// The end of what was written in good order: an empty group, so that what stands before it isn't
// the last and damage in it can't pass for a torn tail.
static void seal(struct ph_spool *spool)
{
    if (!spool->sealed && spool->durable_group > 0 && STAILQ_EMPTY(&spool->gathered) &&
        spool->stats.health != PH_SPOOL_STOPPED) {
        group_create(spool)->urgent = true;
    }
}

static void finish_pending(struct ph_spool *spool)
{
    // What is gathered is written, group by group; what can't be written stays out.
    spool->write_after_ns = 0;
    seal(spool);
    while (spool->writing != NULL ||
           (!STAILQ_EMPTY(&spool->gathered) && spool->write_after_ns == 0)) {
        (void)ph_spool_flush(spool, UINT64_MAX - 1);
        let_run(spool);
    }
    while (spool->preparing != NULL || spool->loads > 0 || spool->removals > 0 ||
           spool->space_op.state != PH_OP_IDLE) {
        let_run(spool);
    }
    ph_io_run_ready(spool->io); // who waited is told
}

void ph_spool_close(struct ph_spool *spool)
{
    struct ph_segment *segment;
    struct ph_spool_group *group;

    if (spool == NULL) {
        return;
    }
    finish_pending(spool);
    while ((group = STAILQ_FIRST(&spool->gathered)) != NULL) {
        STAILQ_REMOVE_HEAD(&spool->gathered, link);
        group_release(group);
    }
    while ((segment = TAILQ_FIRST(&spool->segments)) != NULL) {
        TAILQ_REMOVE(&spool->segments, segment, link);
        ph_spool_segment_close(segment);
    }
    while ((segment = TAILQ_FIRST(&spool->spares)) != NULL) {
        TAILQ_REMOVE(&spool->spares, segment, link);
        ph_spool_segment_close(segment);
    }
    ph_summary_deinit(&spool->summary);
    free(spool->by_number);
    free(spool->path);
    free(spool);
}

// --- gathering ---

static void group_release(struct ph_spool_group *group)
{
    if (atomic_fetch_sub_explicit(&group->references, 1, memory_order_acq_rel) == 1) {
        atomic_fetch_sub_explicit(group->content_bytes, group->reserve + group->capacity,
                                  memory_order_relaxed);
        free(group->memory);
        ph_buf_deinit(&group->meta);
        free(group->entries);
        free(group->finished_extents);
        free(group);
    }
}

static char *group_memory(size_t reserve, size_t capacity)
{
    void *memory = NULL;

    if (posix_memalign(&memory, PH_DURABLE_BLOCK_BYTES, reserve + capacity) != 0) {
        ph_out_of_memory(reserve + capacity);
    }
    return memory;
}

// Room in front of the contents for the segment's head, the group's and so many bytes of records.
static size_t reserve_for(size_t meta_max)
{
    return PH_SEGMENT_HEAD_BYTES + (meta_max + PH_GROUP_HEAD_BYTES + PH_DURABLE_BLOCK_BYTES - 1) /
                                       PH_DURABLE_BLOCK_BYTES * PH_DURABLE_BLOCK_BYTES;
}

static struct ph_spool_group *group_new(struct ph_spool *spool, size_t capacity)
{
    struct ph_spool_group *group = ph_alloc(sizeof(*group));

    atomic_init(&group->references, 1);
    group->reserve = reserve_for(PH_SPOOL_META_BYTES_FIRST);
    group->capacity = capacity;
    group->memory = group_memory(group->reserve, group->capacity);
    group->content_bytes = &spool->content_bytes;
    atomic_fetch_add_explicit(&spool->content_bytes, group->reserve + group->capacity,
                              memory_order_relaxed);
    STAILQ_INIT(&group->tickets);
    group->first_ns = spool->io->now_ns;
    return group;
}

static size_t group_max(const struct ph_spool *spool)
{
    size_t half = (size_t)spool->options.message_segment_bytes / 2;

    return half < PH_SPOOL_GROUP_BYTES_MAX ? half : PH_SPOOL_GROUP_BYTES_MAX;
}

static struct ph_spool_group *group_create(struct ph_spool *spool)
{
    // As much as the one before took, lest its contents move when there are more.
    struct ph_spool_group *group = group_new(spool, spool->group_bytes > PH_SPOOL_GROUP_FIRST_BYTES
                                                        ? group_max(spool)
                                                        : PH_SPOOL_GROUP_FIRST_BYTES);

    STAILQ_INSERT_TAIL(&spool->gathered, group, link);
    if (spool->void_from != 0) {
        for (uint64_t number = spool->void_from; number <= spool->void_to; number++) {
            ph_record_plain(&group->meta, PH_RECORD_VOID, number);
            group->record_count++;
        }
        spool->void_from = 0;
    }
    return group;
}

// The group that grows, with room for a content and its records.
static struct ph_spool_group *group_for(struct ph_spool *spool, size_t content_len)
{
    struct ph_spool_group *group = NULL;
    struct ph_spool_group *each;

    STAILQ_FOREACH(each, &spool->gathered, link)
    {
        group = each;
    }
    if (group == NULL || group->body_len + content_len > group_max(spool) ||
        group->meta.len > PH_SPOOL_META_BYTES_FIRST) {
        group = group_create(spool);
    }
    if (group->body_len + content_len > group->capacity) {
        size_t wanted = group_max(spool) > content_len ? group_max(spool) : content_len;
        size_t grown =
            (wanted + PH_DURABLE_BLOCK_BYTES - 1) / PH_DURABLE_BLOCK_BYTES * PH_DURABLE_BLOCK_BYTES;
        char *memory = group_memory(group->reserve, grown);

        memcpy(memory + group->reserve, group->memory + group->reserve, group->body_len);
        free(group->memory);
        atomic_fetch_add_explicit(&spool->content_bytes, grown - group->capacity,
                                  memory_order_relaxed);
        group->memory = memory;
        group->capacity = grown;
    }
    return group;
}

uint64_t ph_spool_take_id(struct ph_spool *spool)
{
    return (uint64_t)spool->options.log << 48 | spool->next_sequence++;
}

static struct ph_group_entry *add_entry(struct ph_spool_group *group)
{
    if (group->entry_count == group->entry_cap) {
        group->entry_cap = group->entry_cap == 0 ? 16 : group->entry_cap * 2;
        group->entries = reallocarray(group->entries, group->entry_cap, sizeof(*group->entries));
        PH_CHECK(group->entries != NULL);
    }
    return &group->entries[group->entry_count++];
}

// A content whose bytes and strings are in the group's memory.
struct group_content {
    struct ph_content content;
    struct ph_spool_group *group;
    struct iovec body;
    struct ph_envelope_recipient recipients[];
};

static void destroy_group_content(struct ph_content *content)
{
    struct group_content *c = PH_CONTAINER_OF(content, struct group_content, content);

    group_release(c->group);
    free(c);
}

static struct ph_content *content_in(struct ph_spool_group *group, uint32_t recipient_count,
                                     size_t body_at, size_t body_len)
{
    struct group_content *c =
        ph_alloc(sizeof(*c) + recipient_count * sizeof(struct ph_envelope_recipient));

    ph_content_init(&c->content, destroy_group_content);
    c->group = group;
    atomic_fetch_add_explicit(&group->references, 1, memory_order_relaxed);
    // Where it lies is known when the group is written: until then an offset.
    c->body.iov_base = (void *)(uintptr_t)body_at;
    c->body.iov_len = body_len;
    c->content.body = &c->body;
    c->content.body_count = 1;
    c->content.body_len = body_len;
    return &c->content;
}

static void take_ticket(struct ph_spool *spool, struct ph_spool_group *group,
                        struct ph_spool_ticket *ticket)
{
    group->urgent = true;
    ph_io_begin(spool->io, &ticket->op);
    STAILQ_INSERT_TAIL(&group->tickets, ticket, link);
}

// The message's record and, unless it is in a file of its own, its content.
static struct ph_group_entry *put_message(struct ph_spool_group *group,
                                          struct ph_spool_ticket *ticket, uint64_t id,
                                          const struct ph_envelope *envelope,
                                          struct ph_message_body body, struct ph_str content,
                                          uint16_t flags)
{
    struct ph_group_entry *entry = add_entry(group);
    size_t meta_at = group->meta.len;

    *entry = (struct ph_group_entry){.ticket = ticket, .meta_at = (uint32_t)meta_at};
    body.offset = (uint32_t)group->body_len;
    ph_record_message(&group->meta, id, envelope, &body, flags);
    if (content.len > 0) {
        memcpy(group->memory + group->reserve + group->body_len, content.data, content.len);
    }
    group->body_len += content.len;
    group->message_bytes += group->meta.len - meta_at + content.len;
    group->record_count++;
    ticket->location.len = flags & PH_RECORD_FLAG_EXTENT ? PH_SPOOL_IN_EXTENT : 0;
    return entry;
}

enum ph_spool_result ph_spool_append(struct ph_spool *spool, struct ph_spool_ticket *ticket,
                                     const struct ph_spool_append_options *options,
                                     struct ph_content **out_content)
{
    bool extent = options->take_extents != NULL;
    struct ph_spool_group *group;
    struct ph_group_entry *entry;
    struct ph_message_body body = {0};
    size_t body_at;

    PH_CHECK(extent || options->content.len <= PH_SPOOL_INLINE_BYTES_MAX);
    if (spool->stats.health == PH_SPOOL_STOPPED) {
        return PH_SPOOL_FAILED;
    }
    if (spool->no_spare || (spool->low_space && !options->reserved)) {
        return PH_SPOOL_FULL;
    }
    group = group_for(spool, options->content.len);
    body_at = group->body_len;
    body.len = extent ? ph_spool_writer_bytes(options->take_extents) : options->content.len;
    body.sum = extent ? ph_spool_writer_finish(options->take_extents)
                      : ph_spool_content_sum(spool, options->id, options->content);
    entry = put_message(group, ticket, options->id, options->envelope, body, options->content,
                        (options->attempt ? PH_RECORD_FLAG_ATTEMPT : 0) |
                            (extent ? PH_RECORD_FLAG_EXTENT : 0));
    entry->kept = options->reserved && !extent;
    *out_content = NULL;
    // What is kept may move into another group: its content isn't shown from memory.
    if (!extent && !entry->kept &&
        atomic_load_explicit(&spool->content_bytes, memory_order_relaxed) <=
            spool->options.content_memory_max) {
        entry->content =
            content_in(group, options->envelope->recipient_count, body_at, options->content.len);
        ph_content_retain(entry->content);
        *out_content = entry->content;
    }
    take_ticket(spool, group, ticket);
    return PH_SPOOL_OK;
}

enum ph_spool_result ph_spool_copy(struct ph_spool *spool, struct ph_spool_ticket *ticket,
                                   uint64_t id, const struct ph_spool_copy_options *options)
{
    const struct ph_content *content = options->load->content;
    bool extent = options->load->in_extent;
    struct ph_spool_group *group;
    struct ph_message_body body = {.len = content->body_len, .sum = options->load->content_sum};
    struct ph_str bytes = {0};

    if (spool->stats.health == PH_SPOOL_STOPPED) {
        return PH_SPOOL_FAILED;
    }
    if (spool->no_spare) {
        return PH_SPOOL_FULL;
    }
    if (!extent && content->body_len > 0) {
        bytes = (struct ph_str){.data = content->body[0].iov_base, .len = content->body[0].iov_len};
    }
    group = group_for(spool, bytes.len);
    (void)put_message(group, ticket, id, &content->envelope, body, bytes,
                      extent ? PH_RECORD_FLAG_EXTENT : 0);
    // All of its state in the same group: after a crash the copy counts whole, or the original
    // does.
    for (uint32_t i = 0; i < options->state_count; i++) {
        ph_record_outcome(&group->meta, id, &options->states[i]);
    }
    group->record_count += options->state_count;
    if (options->delay_notified) {
        ph_record_plain(&group->meta, PH_RECORD_DELAYED, id);
        group->record_count++;
    }
    take_ticket(spool, group, ticket);
    return PH_SPOOL_OK;
}

static struct ph_spool_group *state_group(struct ph_spool *spool, struct ph_spool_ticket *ticket)
{
    struct ph_spool_group *group = group_for(spool, 0);

    group->record_count++;
    if (ticket != NULL) {
        take_ticket(spool, group, ticket);
    }
    return group;
}

void ph_spool_attempt(struct ph_spool *spool, struct ph_spool_ticket *ticket, uint64_t id,
                      const uint32_t *recipients, uint32_t recipient_count)
{
    ph_record_attempt(&state_group(spool, ticket)->meta, id, recipients, recipient_count);
}

void ph_spool_outcome(struct ph_spool *spool, struct ph_spool_ticket *ticket, uint64_t id,
                      const struct ph_outcome_record *outcome)
{
    ph_record_outcome(&state_group(spool, ticket)->meta, id, outcome);
}

void ph_spool_unattempt(struct ph_spool *spool, uint64_t id)
{
    ph_record_plain(&state_group(spool, NULL)->meta, PH_RECORD_UNATTEMPT, id);
}

void ph_spool_delay_notified(struct ph_spool *spool, uint64_t id)
{
    ph_record_plain(&state_group(spool, NULL)->meta, PH_RECORD_DELAYED, id);
}

void ph_spool_done(struct ph_spool *spool, struct ph_spool_ticket *ticket, uint64_t id,
                   const struct ph_spool_location *location)
{
    // Its segment may be used again when the group with this record is durable: that group says so.
    struct ph_spool_group *group = state_group(spool, ticket);

    ph_spool_unneeded(spool, location);
    ph_record_plain(&group->meta, PH_RECORD_DONE, id);
    if (location->len & PH_SPOOL_IN_EXTENT) {
        group->finished_extents =
            reallocarray(group->finished_extents, group->finished_extent_count + 1, sizeof(id));
        PH_CHECK(group->finished_extents != NULL);
        group->finished_extents[group->finished_extent_count++] = id;
    }
}

void ph_spool_unneeded(struct ph_spool *spool, const struct ph_spool_location *location)
{
    struct ph_segment *segment = ph_spool_segment_find(spool, location->segment);

    PH_CHECK(segment != NULL && segment->live > 0);
    segment->live--;
    spool->stats.messages_live--;
}

// --- writing ---

// The oldest segment that is still needed once all that was gathered is durable. All before it is
// dead, and so is what they say of others' state: those others were older still.
static uint64_t oldest_needed(const struct ph_spool *spool)
{
    const struct ph_segment *segment;

    TAILQ_FOREACH(segment, &spool->segments, link)
    {
        if (segment->live > 0) {
            return segment->number;
        }
    }
    return TAILQ_LAST(&spool->segments, ph_segment_list)->number;
}

// The messages' own parts of the memory, now that nothing moves any more.
static void fill_contents(struct ph_spool_group *group, char *meta)
{
    for (uint32_t i = 0; i < group->entry_count; i++) {
        struct ph_content *content = group->entries[i].content;
        struct ph_message_body body;
        struct ph_record record;
        struct group_content *c;
        struct ph_str at = {.data = meta + group->entries[i].meta_at,
                            .len = group->meta.len - group->entries[i].meta_at};

        PH_CHECK(ph_record_walk(&at, &record));
        group->entries[i].ticket->location.len |= record.len;
        if (content == NULL) {
            continue;
        }
        c = PH_CONTAINER_OF(content, struct group_content, content);
        PH_CHECK(ph_record_read_message(&record, &content->envelope, c->recipients,
                                        ph_record_recipient_count(&record), &body));
        c->body.iov_base = group->memory + group->reserve + (uintptr_t)c->body.iov_base;
    }
}

// More records than there was room for: the contents move. Nobody has looked at them yet.
static void make_room(struct ph_spool_group *group, size_t reserve)
{
    char *memory = group_memory(reserve, group->capacity);

    memcpy(memory + reserve, group->memory + group->reserve, group->body_len);
    free(group->memory);
    atomic_fetch_add_explicit(group->content_bytes, reserve - group->reserve, memory_order_relaxed);
    group->memory = memory;
    group->reserve = reserve;
}

// Puts head and records right in front of the contents; the write begins at the returned byte.
static char *assemble(struct ph_spool *spool, struct ph_spool_group *group,
                      struct ph_segment *segment)
{
    size_t head_len = PH_GROUP_HEAD_BYTES + group->meta.len;
    size_t padded =
        (head_len + PH_DURABLE_BLOCK_BYTES - 1) / PH_DURABLE_BLOCK_BYTES * PH_DURABLE_BLOCK_BYTES;
    uint64_t at = segment->used > 0 ? segment->used : PH_SEGMENT_HEAD_BYTES;
    uint64_t seed = ph_record_seed(spool->seed, segment->number);
    struct ph_group head = {
        .number = group->number,
        .oldest = group->oldest,
        .meta_len = (uint32_t)group->meta.len,
        .gap = (uint32_t)(padded - head_len),
        .body_len = (uint32_t)group->body_len,
        .record_count = group->record_count,
        .durable = spool->durable_group,
        .segment = segment->number,
    };
    char *start;
    char *meta;
    size_t tail;

    if (reserve_for(group->meta.len) > group->reserve) {
        make_room(group, reserve_for(group->meta.len));
    }
    start = group->memory + group->reserve - padded;
    meta = start + PH_GROUP_HEAD_BYTES;
    if (group->meta.len > 0) { // a group of extents alone has none
        memcpy(meta, group->meta.data, group->meta.len);
    }
    memset(meta + group->meta.len, 0, head.gap);
    ph_records_seal(meta, group->meta.len, seed, (uint32_t)(at + padded));
    ph_group_encode(&head, (struct ph_str){.data = meta, .len = group->meta.len}, seed, start);
    for (uint32_t i = 0; i < group->entry_count; i++) {
        struct ph_spool_location *location = &group->entries[i].ticket->location;

        location->segment = (uint32_t)segment->number;
        location->offset = (uint32_t)(at + PH_GROUP_HEAD_BYTES + group->entries[i].meta_at);
    }
    fill_contents(group, meta);
    group->write_len = ph_group_disk_bytes(&head);
    tail = padded + group->body_len;
    memset(start + tail, 0, group->write_len - tail);
    if (segment->used == 0) {
        struct ph_segment_head segment_head = {.number = segment->number,
                                               .log = spool->options.log};

        start -= PH_SEGMENT_HEAD_BYTES;
        ph_segment_head_encode(&segment_head, spool->seed, start);
        group->write_len += PH_SEGMENT_HEAD_BYTES;
    }
    return start;
}

// Bytes the group will take, generously.
static uint64_t room_for(const struct ph_spool_group *group)
{
    return PH_SEGMENT_HEAD_BYTES + PH_GROUP_HEAD_BYTES + group->meta.len + group->body_len +
           (uint64_t)2 * PH_DURABLE_BLOCK_BYTES;
}

// The segment to write this group to; NULL: one is being made.
static struct ph_segment *segment_for(struct ph_spool *spool, const struct ph_spool_group *group)
{
    struct ph_segment *active = TAILQ_LAST(&spool->segments, ph_segment_list);
    uint64_t room = room_for(group);
    bool full = active == NULL || active->used + room > active->size;
    // Also where the group would take the room of the summary; without a spare it does.
    bool enough = !full && active->preallocated &&
                  active->used + room + ph_spool_summary_room(spool, group) <= active->size;
    struct ph_segment *next = NULL;
    int64_t unused;

    // One that was written before is twice as fast: it is begun as soon as it is there.
    if (full || (!enough && !TAILQ_EMPTY(&spool->spares))) {
        next = ph_spool_segment_next(spool, &unused);
        if (next != NULL) {
            if (active != NULL) {
                ph_spool_summary_seal(spool, active);
            }
            ph_spool_segment_use(spool, next);
            ph_spool_summary_begin(spool, next);
        }
    }
    ph_spool_segment_prepare(spool);
    return next != NULL || full ? next : active;
}

static void begin_write(struct ph_spool *spool, struct ph_spool_group *group,
                        struct ph_segment *segment)
{
    char *start;

    STAILQ_REMOVE_HEAD(&spool->gathered, link);
    spool->writing = group;
    spool->sealed = group->record_count == 0;
    if (segment->used == 0 && spool->durable_group > 0 && spool->next_sequence > 1) {
        // The last id that was given, for a start that finds no segment before this one: an attempt
        // for nobody.
        ph_record_attempt(&group->meta,
                          (uint64_t)spool->options.log << 48 | (spool->next_sequence - 1), NULL, 0);
        group->record_count++;
    }
    group->number = spool->next_group++;
    group->oldest = oldest_needed(spool);
    start = assemble(spool, group, segment);
    if (spool->options.durability_os) {
        ph_io_file_write(segment->file, &spool->write_op, start, group->write_len, segment->used);
    } else {
        ph_io_file_write_durable(segment->file, &spool->write_op, start, group->write_len,
                                 segment->used);
    }
}

static void look_at_space(struct ph_spool *spool, uint64_t now_ns)
{
    if (spool->space_op.state == PH_OP_IDLE &&
        now_ns - spool->space_asked_ns >= PH_SPOOL_SPACE_INTERVAL_NS && now_ns < UINT64_MAX / 2) {
        spool->space_asked_ns = now_ns;
        ph_io_space_free(spool->io, &spool->space_op, spool->path, &spool->space_free,
                         &spool->space_total);
    }
}

static void on_space(struct ph_op *op)
{
    struct ph_spool *spool = op->owner;

    if (op->result == 0) {
        spool->low_space =
            spool->space_free < spool->space_total / 100 * spool->options.min_free_percent ||
            spool->space_free < spool->options.min_free_bytes;
    }
}

// When there is nothing to do: while the disk is full it is looked at again.
static uint64_t rest_until(const struct ph_spool *spool)
{
    return spool->no_spare || spool->low_space ? spool->space_asked_ns + PH_SPOOL_SPACE_INTERVAL_NS
                                               : PH_NEVER;
}

// When this group may begin (ns); 0: at once, as where another is gathered behind it.
static uint64_t begins_at(const struct ph_spool *spool, const struct ph_spool_group *group)
{
    if (STAILQ_NEXT(group, link) != NULL) {
        return 0;
    }
    return group->urgent ? ph_group_pace_until(&spool->pace, group->entry_count)
                         : group->first_ns + spool->options.outcome_delay_ns;
}

uint64_t ph_spool_flush(struct ph_spool *spool, uint64_t now_ns)
{
    struct ph_spool_group *group = STAILQ_FIRST(&spool->gathered);
    struct ph_segment *segment;
    uint64_t begin_ns;

    if (group != NULL || spool->no_spare || spool->low_space) {
        look_at_space(spool, now_ns);
    }
    if (spool->no_spare) {
        ph_spool_segment_prepare(spool);
    }
    if (group == NULL || spool->writing != NULL) {
        return rest_until(spool);
    }
    if (now_ns < spool->write_after_ns) {
        return spool->write_after_ns;
    }
    begin_ns = begins_at(spool, group);
    if (now_ns < begin_ns) {
        return begin_ns;
    }
    segment = segment_for(spool, group);
    if (segment != NULL) {
        ph_group_pace_began(&spool->pace, now_ns);
        begin_write(spool, group, segment);
    } else if (spool->preparing == NULL) {
        no_room(spool, group);
        return spool->write_after_ns;
    }
    return PH_NEVER;
}

static void tell_tickets(struct ph_spool *spool, struct ph_spool_group *group, int64_t result)
{
    struct ph_spool_ticket *ticket;

    while ((ticket = STAILQ_FIRST(&group->tickets)) != NULL) {
        STAILQ_REMOVE_HEAD(&group->tickets, link);
        ph_io_complete(spool->io, &ticket->op, result);
    }
    for (uint32_t i = 0; i < group->entry_count; i++) {
        ph_content_release(group->entries[i].content);
    }
}

static void written(struct ph_spool *spool, struct ph_spool_group *group)
{
    struct ph_segment *segment = TAILQ_LAST(&spool->segments, ph_segment_list);

    ph_spool_summary_written(spool, segment, group);
    segment->used += group->write_len;
    segment->live += group->entry_count;
    segment->messages += group->entry_count;
    segment->message_bytes += group->message_bytes;
    spool->failures = 0;
    spool->write_after_ns = 0;
    spool->durable_group = group->number;
    spool->group_bytes = group->body_len;
    spool->stats.groups++;
    spool->stats.group_messages += group->entry_count;
    spool->stats.group_records += group->record_count;
    spool->stats.bytes += group->write_len;
    spool->stats.messages_live += group->entry_count;
    for (uint32_t i = 0; i < group->finished_extent_count; i++) {
        ph_spool_extent_remove(spool, group->finished_extents[i]);
    }
}

static size_t kept_bytes(const struct ph_spool_group *failed)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < failed->entry_count; i++) {
        bytes += failed->entries[i].kept ? PH_SPOOL_INLINE_BYTES_MAX : 0;
    }
    return bytes;
}

// A notification is as known only here as the outcome that it tells of: it moves with its ticket.
static void keep_message(struct ph_spool_group *again, struct ph_spool_group *failed,
                         struct ph_group_entry *entry, const struct ph_record *record)
{
    uint32_t count = ph_record_recipient_count(record);
    struct ph_envelope_recipient *recipients = ph_alloc(count * sizeof(*recipients));
    struct ph_spool_ticket *ticket = entry->ticket;
    struct ph_message_body body;
    struct ph_envelope envelope;
    struct ph_str content;

    PH_CHECK(ph_record_read_message(record, &envelope, recipients, count, &body));
    content = (struct ph_str){.data = failed->memory + failed->reserve + body.offset,
                              .len = (size_t)body.len};
    STAILQ_REMOVE(&failed->tickets, ticket, ph_spool_ticket, link);
    put_message(again, ticket, record->id, &envelope, body, content, record->flags)->kept = true;
    STAILQ_INSERT_TAIL(&again->tickets, ticket, link);
    again->urgent = true;
    free(recipients);
}

// What is known only here is said again, in front of all that was gathered since; the clients'
// messages are refused.
static void say_again(struct ph_spool *spool, struct ph_spool_group *failed, bool declare_void)
{
    struct ph_spool_group *again = group_new(spool, kept_bytes(failed));
    struct ph_str meta = ph_buf_str(&failed->meta);
    struct ph_record record;
    uint32_t message = 0;

    if (declare_void) {
        ph_record_plain(&again->meta, PH_RECORD_VOID, failed->number);
        again->record_count++;
        again->urgent = true;
    }
    while (ph_record_walk(&meta, &record)) {
        if (record.type != PH_RECORD_MESSAGE) {
            ph_buf_append_bytes(&again->meta, record.body.data - PH_RECORD_HEAD_BYTES, record.len);
            again->record_count++;
        } else {
            struct ph_group_entry *entry = &failed->entries[message++];

            if (entry->kept) {
                keep_message(again, failed, entry, &record);
            }
        }
    }
    // Files whose end wasn't recorded wait for it.
    again->finished_extents = failed->finished_extents;
    again->finished_extent_count = failed->finished_extent_count;
    failed->finished_extents = NULL;
    failed->finished_extent_count = 0;
    STAILQ_INSERT_HEAD(&spool->gathered, again, link);
}

// No segment can be had: who waits is told, and what is only known here is kept for later.
static void no_room(struct ph_spool *spool, struct ph_spool_group *group)
{
    spool->write_after_ns = spool->io->now_ns + PH_SPOOL_WRITE_PAUSE_NS;
    if (STAILQ_EMPTY(&group->tickets)) {
        return;
    }
    STAILQ_REMOVE_HEAD(&spool->gathered, link);
    say_again(spool, group, false);
    tell_tickets(spool, group, spool->no_spare ? -ENOSPC : -EIO);
    group_release(group);
}

static void write_failed(struct ph_spool *spool, struct ph_spool_group *group, int64_t result)
{
    struct ph_segment *segment = TAILQ_LAST(&spool->segments, ph_segment_list);

    // F1: what the file says from here on can't be believed. Nothing more is written to it, and the
    // group is declared void before anything else is acknowledged.
    if (segment->used == 0) {
        ph_spool_segment_discard(spool, segment);
    } else {
        segment->used = segment->size;
        segment->preallocated = false;
    }
    spool->failures++;
    spool->stats.poisoned++;
    if (result == -ENOSPC || result == -EDQUOT) {
        spool->no_spare = TAILQ_EMPTY(&spool->spares);
        spool->stats.health = PH_SPOOL_DEGRADED;
        spool->failures = 0;
    } else if (spool->stats.health != PH_SPOOL_STOPPED) {
        spool->stats.health =
            spool->failures >= PH_SPOOL_FAILURES_MAX ? PH_SPOOL_STOPPED : PH_SPOOL_DEGRADED;
    }
    if (spool->failures >= PH_SPOOL_FAILURES_MAX) {
        spool->write_after_ns = spool->io->now_ns + PH_SPOOL_WRITE_PAUSE_NS;
    }
    say_again(spool, group, true);
}

static void on_written(struct ph_op *op)
{
    struct ph_spool *spool = op->owner;
    struct ph_spool_group *group = spool->writing;
    int64_t result = op->result;

    spool->writing = NULL;
    ph_group_pace_over(
        &spool->pace, spool->io->now_ns, group->entry_count,
        STAILQ_EMPTY(&spool->gathered) ? 0 : STAILQ_FIRST(&spool->gathered)->entry_count);
    if (result == (int64_t)group->write_len) {
        uint64_t oldest = group->oldest;

        written(spool, group);
        ph_spool_segment_recycle(spool, oldest);
        result = 0;
    } else {
        result = result < 0 ? result : -EIO;
        write_failed(spool, group, result);
    }
    tell_tickets(spool, group, result);
    group_release(group);
}

struct ph_spool_stats ph_spool_stats(const struct ph_spool *spool)
{
    struct ph_spool_stats stats = spool->stats;

    stats.full = spool->no_spare || spool->low_space;
    stats.segments = spool->segment_count;
    stats.segments_free = spool->spare_count;
    stats.content_bytes = atomic_load_explicit(&spool->content_bytes, memory_order_relaxed);
    return stats;
}
