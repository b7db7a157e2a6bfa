// A log after whatever happened to it: what is owed, what is damaged, what never counted.
//
// Groups are numbered without gaps and written one after another, each when the one before it was
// durable. So where group n can't be read and a later one can, n was durable once: damage, set
// aside and reported, and what records of it are sound count. Where nothing later can be read it is
// the torn tail, which nobody was told of. A group that failed or was torn is declared void by the
// first group of the next segment, and is passed over.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/spool_found.h"
#include "queue/spool_parts.h"

#define PH_RECOVERY_WINDOW_BYTES ((size_t)256 << 10)        // read at a time; ours
#define PH_RECOVERY_PEEK_BYTES ((size_t)16 << 10)           // where little is looked at; ours
#define PH_RECOVERY_READ_TRIES 3                            // ours
#define PH_RECOVERY_CONTENT_LOOKS 2                         // ours
#define PH_RECOVERY_COPY_BYTES_MAX ((size_t)8 << 20)        // of one damaged place; ours
#define PH_RECOVERY_RECORD_BYTES_MAX (UINT64_C(16) << 20)   // longer is no record; ours
#define PH_RECOVERY_VOIDS_MAX 1024                          // ours
#define PH_RECOVERY_HEAD_SEARCH_BYTES (UINT64_C(256) << 10) // for a segment whose head is damaged

struct recovery {
    struct ph_spool *spool;
    struct ph_found *found;
    struct ph_spool_recovery_report *report;
    struct ph_buf *error;
    char *window;
    struct ph_segment *window_of;
    uint64_t window_at;
    size_t window_len;
    size_t window_cap;
    size_t ahead;              // bytes that are read at least
    struct ph_summary *summed; // offline: what the segment's summary should say
    uint64_t last_group;       // read so far; 0: none
    uint64_t torn_group;       // the last of those that never counted; 0: none
    uint64_t *voided;          // numbers of groups that never counted
    size_t voided_count;
    bool unknown;       // a record of another version
    int64_t unreadable; // errno of a read that failed, negative; 0: none has
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

// What can't be read now is neither torn nor damaged: nothing may be concluded from it.
static int64_t read_patiently(struct recovery *r, struct ph_segment *segment, size_t len,
                              uint64_t offset)
{
    int64_t got = -EIO;

    for (unsigned i = 0; i < PH_RECOVERY_READ_TRIES && got < 0; i++) {
        got = read_at(r->spool, segment, r->window, len, offset);
    }
    if (got < 0 && r->unreadable == 0) {
        char path[PH_SPOOL_PATH_MAX];

        r->unreadable = got;
        ph_spool_segment_path(r->spool, segment->slot, path);
        ph_buf_printf(r->error,
                      "%s can't be read at byte %llu: %s; see to the disk, or move the file away "
                      "to go on without the mail in it",
                      path, (unsigned long long)offset, strerror((int)-got));
    }
    return got;
}

// `len` bytes at `offset`, through a window that is read ahead; shorter at the file's end.
static struct ph_str view(struct recovery *r, struct ph_segment *segment, uint64_t offset,
                          size_t len)
{
    size_t wanted = len > r->ahead ? len : r->ahead;
    size_t skipped;

    if (r->window_of != segment || offset < r->window_at ||
        offset + len > r->window_at + r->window_len) {
        int64_t got;

        if (wanted > r->window_cap) {
            free(r->window);
            r->window = malloc(wanted);
            PH_CHECK(r->window != NULL);
            r->window_cap = wanted;
        }
        got = read_patiently(r, segment, wanted, offset);
        r->window_of = segment;
        r->window_at = offset;
        r->window_len = got > 0 ? (size_t)got : 0;
    }
    skipped = (size_t)(offset - r->window_at);
    return ph_str_first(
        (struct ph_str){.data = r->window + skipped, .len = r->window_len - skipped}, len);
}

// --- groups ---

// A whole, valid group at `at`? `out_meta` is its records, in the window.
static bool group_at(struct recovery *r, struct ph_segment *segment, uint64_t at,
                     struct ph_group *out, struct ph_str *out_meta)
{
    uint64_t seed = ph_record_seed(r->spool->seed, segment->number);
    struct ph_str head = view(r, segment, at, PH_GROUP_HEAD_BYTES);

    if (!ph_group_decode(head, out) || out->number == 0 ||
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

// The bytes may be right on the disk, and may not have been when they came from it: nothing is
// concluded from a group that is wrong once.
static bool group_surely_at(struct recovery *r, struct ph_segment *segment, uint64_t at,
                            struct ph_group *out, struct ph_str *out_meta)
{
    bool good = group_at(r, segment, at, out, out_meta);

    if (!good) {
        r->window_of = NULL;
        good = group_at(r, segment, at, out, out_meta);
    }
    return good;
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

static bool last_is_torn(struct recovery *r, struct ph_segment *segment, uint64_t at)
{
    struct ph_group group;
    struct ph_str meta;
    bool sound = false;

    for (unsigned i = 0; i < PH_RECOVERY_CONTENT_LOOKS && !sound; i++) {
        r->window_of = NULL;
        sound = group_surely_at(r, segment, at, &group, &meta) && contents_sound(r, segment, meta);
    }
    return !sound;
}

static bool is_void(const struct recovery *r, uint64_t group)
{
    for (size_t i = 0; i < r->voided_count; i++) {
        if (r->voided[i] == group) {
            return true;
        }
    }
    return false;
}

// An id that was given isn't given again.
static void note_id(struct recovery *r, uint64_t id)
{
    uint64_t sequence = id & ((UINT64_C(1) << 48) - 1);

    if (PH_MESSAGE_ID_LOG(id) == r->spool->options.log && sequence >= r->spool->next_sequence) {
        r->spool->next_sequence = sequence + 1;
    }
}

static void take_record(struct recovery *r, const struct ph_record *record,
                        const struct ph_segment *segment, uint64_t at)
{
    struct ph_spool_location location = {.segment = (uint32_t)segment->number,
                                         .offset = (uint32_t)at};

    if (record->type == PH_RECORD_VOID) {
        return;
    }
    ph_found_take(r->found, record, &location);
    note_id(r, record->id);
}

static void apply_group(struct recovery *r, struct ph_segment *segment, uint64_t at,
                        const struct ph_group *group, struct ph_str meta)
{
    uint64_t seed = ph_record_seed(r->spool->seed, segment->number);
    struct ph_str rest = meta;
    struct ph_record record;
    enum ph_record_result result = PH_RECORD_OK;
    bool counts = !is_void(r, group->number);

    if (counts && r->summed != NULL) {
        ph_summary_group(r->summed, group);
    }
    while (counts && result == PH_RECORD_OK) {
        uint64_t record_at = at + PH_GROUP_HEAD_BYTES + (meta.len - rest.len);

        result = ph_record_next(&rest, seed, &record);
        if (result == PH_RECORD_OK) {
            take_record(r, &record, segment, record_at);
            if (r->summed != NULL) {
                ph_summary_take(r->summed, &record, (uint32_t)record_at);
            }
        }
    }
    r->unknown |= result == PH_RECORD_UNKNOWN;
    r->last_group = group->number;
}

// --- damage ---

// Each record has a sum of its own: those of a damaged place that are sound count.
static void salvage(struct recovery *r, struct ph_segment *segment, uint64_t from, uint64_t to)
{
    uint64_t seed = ph_record_seed(r->spool->seed, segment->number);
    uint64_t at = from;

    while (at + PH_RECORD_HEAD_BYTES <= to) {
        struct ph_str bytes = view(r, segment, at, PH_RECORD_HEAD_BYTES);
        uint64_t len = ph_record_len(bytes);
        struct ph_record record;

        if (len > 0 && len <= to - at && len <= PH_RECOVERY_RECORD_BYTES_MAX) {
            bytes = view(r, segment, at, (size_t)len);
            if (ph_record_next(&bytes, seed, &record) == PH_RECORD_OK) {
                take_record(r, &record, segment, at);
                at += len;
                continue;
            }
        }
        at += PH_RECORD_ALIGN;
    }
}

// What can't be read is copied into a file of its own before its segment is used again.
static void set_aside(struct recovery *r, struct ph_segment *segment, uint64_t from, uint64_t to)
{
    char name[128];
    struct ph_buf bytes = {0};

    r->report->quarantined_records++;
    r->report->quarantined_bytes += to - from;
    snprintf(r->report->detail, sizeof(r->report->detail),
             "segment %llu is damaged from byte %llu to %llu", (unsigned long long)segment->number,
             (unsigned long long)from, (unsigned long long)to);
    salvage(r, segment, from, to);
    // What became of any mail so far may have stood here, also behind what was saved of it.
    ph_found_doubt_all(r->found);
    if (!r->spool->options.offline) {
        for (uint64_t at = from; at < to && bytes.len < PH_RECOVERY_COPY_BYTES_MAX;) {
            struct ph_str part = view(
                r, segment, at,
                to - at < PH_RECOVERY_WINDOW_BYTES ? (size_t)(to - at) : PH_RECOVERY_WINDOW_BYTES);

            if (part.len == 0) {
                break;
            }
            ph_buf_append(&bytes, part);
            at += part.len;
        }
        snprintf(name, sizeof(name), "log-%03u-segment-%llu-at-%llu", r->spool->options.log,
                 (unsigned long long)segment->number, (unsigned long long)from);
        ph_spool_quarantine(r->spool, name, ph_buf_str(&bytes));
        ph_buf_deinit(&bytes);
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

static bool groups_behind(struct recovery *r, const struct ph_segment *segment)
{
    for (struct ph_segment *next = TAILQ_NEXT(segment, link); next != NULL;
         next = TAILQ_NEXT(next, link)) {
        if (search_group(r, next, PH_SEGMENT_HEAD_BYTES) != 0) {
            return true;
        }
    }
    return false;
}

// Is a group missing between the last one read and what this segment's successors have?
static bool gap_behind(struct recovery *r, struct ph_segment *segment)
{
    struct ph_group group;
    struct ph_str meta;

    for (struct ph_segment *next = TAILQ_NEXT(segment, link); next != NULL;
         next = TAILQ_NEXT(next, link)) {
        uint64_t at = search_group(r, next, PH_SEGMENT_HEAD_BYTES);

        if (at != 0 && group_at(r, next, at, &group, &meta)) {
            bool gap = false;

            for (uint64_t missing = r->last_group + 1; missing < group.number && !gap; missing++) {
                gap = !is_void(r, missing);
            }
            // What is in front of it there is set aside there.
            return gap && at == PH_SEGMENT_HEAD_BYTES;
        }
    }
    return false;
}

// --- summaries ---

// The foot of a summary, which may be right.
static bool read_foot(struct recovery *r, struct ph_segment *segment,
                      struct ph_summary_foot *out_foot)
{
    struct ph_str bytes;

    if (segment->size < (uint64_t)2 * PH_DURABLE_BLOCK_BYTES) {
        return false;
    }
    bytes = view(r, segment, segment->size - PH_DURABLE_BLOCK_BYTES, PH_DURABLE_BLOCK_BYTES);
    if (bytes.len < PH_DURABLE_BLOCK_BYTES || !ph_summary_foot_decode(bytes, out_foot) ||
        out_foot->segment != segment->number) {
        return false;
    }
    return out_foot->used > PH_SEGMENT_HEAD_BYTES && out_foot->used <= segment->size &&
           ph_summary_foot_disk_bytes(out_foot) <= segment->size - out_foot->used;
}

// Is there, by its foot, a summary that doesn't hide a group which came after it, or in its place?
static bool summed_up(struct recovery *r, struct ph_segment *segment, uint64_t *out_used)
{
    struct ph_summary_foot foot;
    struct ph_group group;
    struct ph_str meta;
    bool there = read_foot(r, segment, &foot);

    *out_used = there ? foot.used : 0;
    return there && !group_surely_at(r, segment, foot.used, &group, &meta);
}

// Is there a sound summary of what the segment is now? `out_entries` is in the window.
static bool read_summary(struct recovery *r, struct ph_segment *segment,
                         struct ph_summary_foot *out_foot, struct ph_str *out_entries)
{
    uint64_t seed = ph_record_seed(r->spool->seed, segment->number);
    uint64_t len;
    struct ph_str bytes;

    if (!read_foot(r, segment, out_foot)) {
        return false;
    }
    len = ph_summary_foot_disk_bytes(out_foot);
    bytes = view(r, segment, segment->size - len, (size_t)len);
    return bytes.len == len && ph_summary_valid(bytes, out_foot, seed, out_entries);
}

// True: the segment needs no reading.
static bool take_summary(struct recovery *r, struct ph_segment *segment)
{
    struct ph_summary_foot foot;
    struct ph_str entries;
    uint64_t used;

    if (r->spool->options.offline || !summed_up(r, segment, &used) ||
        !read_summary(r, segment, &foot, &entries) || foot.used != used ||
        foot.first_group <= r->last_group || foot.last_group < foot.first_group) {
        return false;
    }
    for (size_t i = 0; i < r->voided_count; i++) {
        if (r->voided[i] >= foot.first_group && r->voided[i] <= foot.last_group) {
            return false;
        }
    }
    note_id(r, ph_found_take_summary(r->found, entries, (uint32_t)segment->number));
    r->last_group = foot.last_group;
    segment->used = foot.used;
    r->report->summaries++;
    return true;
}

// Offline: the summary that is there against what the segment's records come to.
static void check_summary(struct recovery *r, struct ph_segment *segment, bool whole)
{
    struct ph_summary_foot foot;
    struct ph_str entries;
    uint64_t len = ph_summary_disk_bytes(r->summed);
    char *expected;
    struct ph_str bytes =
        segment->size >= PH_DURABLE_BLOCK_BYTES
            ? view(r, segment, segment->size - PH_DURABLE_BLOCK_BYTES, PH_DURABLE_BLOCK_BYTES)
            : PH_STR_NONE;

    if (bytes.len < PH_DURABLE_BLOCK_BYTES || !ph_summary_foot_decode(bytes, &foot) ||
        foot.segment != segment->number) {
        return; // none, or one of an earlier life
    }
    if (!read_summary(r, segment, &foot, &entries)) {
        r->report->summaries_damaged++;
    } else if (whole && !r->summed->lacking) {
        expected = ph_alloc((size_t)len);
        ph_summary_encode(r->summed, segment->number, segment->used,
                          ph_record_seed(r->spool->seed, segment->number), expected);
        bytes = view(r, segment, segment->size - len, (size_t)len);
        if (bytes.len != len || memcmp(bytes.data, expected, (size_t)len) != 0) {
            r->report->summaries_wrong++;
        } else {
            r->report->summaries++;
        }
        free(expected);
    }
}

static void scan_groups(struct recovery *r, struct ph_segment *segment)
{
    uint64_t at = PH_SEGMENT_HEAD_BYTES;
    struct ph_group group;
    struct ph_str meta;

    while (at + PH_GROUP_HEAD_BYTES <= segment->size) {
        if (group_surely_at(r, segment, at, &group, &meta) && group.number > r->last_group) {
            uint64_t next = at + ph_group_disk_bytes(&group);

            // The last group, not that of the last segment: a successor's head may have been all
            // that was written of it.
            if (search_group(r, segment, next) == 0 && !groups_behind(r, segment) &&
                last_is_torn(r, segment, at)) {
                r->report->torn_bytes += next - at;
                r->torn_group = group.number > r->torn_group ? group.number : r->torn_group;
                segment->used = at;
                return;
            }
            // The window may have moved meanwhile.
            if (!group_surely_at(r, segment, at, &group, &meta)) {
                return; // and it can't be read again
            }
            apply_group(r, segment, at, &group, meta);
            at = next;
            segment->used = at;
        } else {
            uint64_t found = search_group(r, segment, at + PH_DURABLE_BLOCK_BYTES);

            if (found == 0) {
                break;
            }
            set_aside(r, segment, at, found);
            at = found;
        }
    }
}

static void scan_segment(struct recovery *r, struct ph_segment *segment)
{
    struct ph_summary summed;
    uint64_t damaged = r->report->quarantined_records;

    if (!take_summary(r, segment)) {
        ph_summary_init(&summed, r->spool->seed);
        r->summed = r->spool->options.offline ? &summed : NULL;
        scan_groups(r, segment);
        if (r->summed != NULL) {
            check_summary(r, segment, r->report->quarantined_records == damaged);
        }
        r->summed = NULL;
        ph_summary_deinit(&summed);
    }
    if (r->last_group > 0 && gap_behind(r, segment)) {
        set_aside(r, segment, segment->used > 0 ? segment->used : PH_SEGMENT_HEAD_BYTES,
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

// A damaged head: the segment's groups name it too. 0: nothing does.
static uint64_t number_by_groups(struct recovery *r, struct ph_segment *segment)
{
    uint64_t end = segment->size < PH_RECOVERY_HEAD_SEARCH_BYTES ? segment->size
                                                                 : PH_RECOVERY_HEAD_SEARCH_BYTES;
    struct ph_group group;

    for (uint64_t at = PH_SEGMENT_HEAD_BYTES; at < end; at += PH_DURABLE_BLOCK_BYTES) {
        struct ph_str head = view(r, segment, at, PH_GROUP_HEAD_BYTES);
        uint64_t whole;

        if (!ph_group_decode(head, &group) || group.segment == 0 ||
            at + ph_group_disk_bytes(&group) > segment->size) {
            continue;
        }
        whole = (uint64_t)PH_GROUP_HEAD_BYTES + group.meta_len;
        head = view(r, segment, at, (size_t)whole);
        if (head.len == whole &&
            ph_group_meta_valid(head, ph_str_after(head, PH_GROUP_HEAD_BYTES),
                                ph_record_seed(r->spool->seed, group.segment))) {
            return group.segment;
        }
    }
    return 0;
}

static bool head_at(struct recovery *r, struct ph_segment *segment, struct ph_segment_head *out)
{
    bool good =
        ph_segment_head_decode(view(r, segment, 0, PH_SEGMENT_HEAD_BYTES), r->spool->seed, out);

    if (!good) {
        r->window_of = NULL; // as with groups
        good =
            ph_segment_head_decode(view(r, segment, 0, PH_SEGMENT_HEAD_BYTES), r->spool->seed, out);
    }
    return good;
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
    // A predecessor that was killed holds it until its last write has landed.
    result = ph_spool_open_locked(spool->io, path, PH_FILE_READ | PH_FILE_WRITE | PH_FILE_DIRECT,
                                  spool->options.lock_timeout_ms, &segment->file);
    if (result < 0) {
        ph_buf_printf(r->error, "%s: %s", path,
                      result == -EWOULDBLOCK
                          ? "another process still writes to it; wait, or raise SpoolLockTimeout"
                          : strerror((int)-result));
        free(segment);
        return result;
    }
    ph_io_file_size(segment->file, &op);
    size = ph_io_finish(spool->io, &op);
    if (size < 0) {
        ph_buf_printf(r->error, "%s: %s", path, strerror((int)-size));
        ph_spool_segment_close(segment);
        return size;
    }
    segment->size = (uint64_t)size;
    segment->preallocated = segment->size >= spool->options.message_segment_bytes;
    if (head_at(r, segment, &head)) {
        if (head.log == spool->options.log) {
            segment->number = head.number;
        }
    } else {
        segment->number = number_by_groups(r, segment);
        segment->head_damaged = segment->number > 0;
    }
    ph_spool_slot_take(spool, slot);
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
    if (result >= 0 && !spool->options.offline) {
        // A file that a predecessor had just made when it was killed is a spare now: its name may
        // not be durable, and what is written to it would go with it.
        result = ph_spool_sync_directory(spool->io, spool->path);
        if (result < 0) {
            ph_buf_printf(r->error, "%s can't be synced: %s", spool->path, strerror((int)-result));
        }
    }
    if (count > 0) {
        qsort(found, count, sizeof(*found), compare_segments);
    }
    for (size_t i = 0; i < count; i++) {
        if (found[i]->number > 0) {
            ph_spool_segment_use(spool, found[i]);
        } else {
            ph_spool_spare_add(spool, found[i]);
        }
    }
    free(found);
    return result;
}

// From where on segments count: as the last group that isn't torn says.
static uint64_t oldest_needed(struct recovery *r)
{
    struct ph_segment *segment;
    bool newest = true; // there is no group behind

    TAILQ_FOREACH_REVERSE(segment, &r->spool->segments, ph_segment_list, link)
    {
        struct ph_summary_foot foot;
        struct ph_group group;
        struct ph_str meta;
        uint64_t oldest = 0;
        uint64_t before = 0; // as the group before the last one says
        uint64_t last_at = 0;
        uint64_t used;

        if (!r->spool->options.offline && summed_up(r, segment, &used) &&
            read_summary(r, segment, &foot, &meta) && foot.used == used) {
            return foot.oldest;
        }
        for (uint64_t at = PH_SEGMENT_HEAD_BYTES; at + PH_GROUP_HEAD_BYTES <= segment->size;) {
            if (group_surely_at(r, segment, at, &group, &meta)) {
                before = oldest;
                oldest = group.oldest;
                last_at = at;
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
        // What a torn group ended is owed still: it frees nothing.
        if (newest && last_at != 0 &&
            ((segment->head_damaged && before == 0) || last_is_torn(r, segment, last_at))) {
            oldest = before;
        }
        newest = newest && last_at == 0;
        if (oldest != 0) {
            return oldest;
        }
    }
    return 0;
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
            !ph_found_has(r->found, id)) {
            ph_spool_extent_path(spool, id, path);
            ph_io_file_unlink(spool->io, &op, path);
            (void)ph_io_finish(spool->io, &op);
        }
    }
    ph_buf_deinit(&names);
}

// Each segment's first group says what the groups before it came to.
static void find_voided(struct recovery *r)
{
    struct ph_segment *segment;

    TAILQ_FOREACH(segment, &r->spool->segments, link)
    {
        struct ph_group group;
        struct ph_record record;
        struct ph_str meta;

        if (!group_surely_at(r, segment, PH_SEGMENT_HEAD_BYTES, &group, &meta)) {
            continue;
        }
        while (ph_record_walk(&meta, &record)) {
            if (record.type == PH_RECORD_VOID) {
                r->voided = reallocarray(r->voided, r->voided_count + 1, sizeof(*r->voided));
                PH_CHECK(r->voided != NULL);
                r->voided[r->voided_count++] = record.id;
            }
        }
    }
}

// The head is written with the first group: where no later group shows that this one was durable,
// the write was torn, and nobody was told of it. A group that stands further on was written later.
static bool head_torn(struct recovery *r, struct ph_segment *segment)
{
    struct ph_group group;
    struct ph_str meta;
    uint64_t at = search_group(r, segment, PH_SEGMENT_HEAD_BYTES);
    bool first = at == PH_SEGMENT_HEAD_BYTES && group_at(r, segment, at, &group, &meta);
    uint64_t number = first ? group.number : 0;

    if (!first || search_group(r, segment, at + ph_group_disk_bytes(&group)) != 0 ||
        (groups_behind(r, segment) && !is_void(r, number))) {
        return false;
    }
    r->torn_group = number > r->torn_group ? number : r->torn_group;
    return true;
}

static void judge_heads(struct recovery *r)
{
    struct ph_segment *segment;
    struct ph_segment *next;

    r->last_group = 0;
    for (segment = TAILQ_FIRST(&r->spool->segments); segment != NULL; segment = next) {
        next = TAILQ_NEXT(segment, link);
        if (!segment->head_damaged) {
            continue;
        }
        if (head_torn(r, segment) && r->unreadable == 0) {
            r->report->torn_bytes += PH_SEGMENT_HEAD_BYTES;
            ph_spool_segment_discard(r->spool, segment);
        } else {
            r->report->quarantined_records++;
            r->report->quarantined_bytes += PH_SEGMENT_HEAD_BYTES;
            snprintf(r->report->detail, sizeof(r->report->detail),
                     "the head of segment %llu is damaged; its groups are sound",
                     (unsigned long long)segment->number);
        }
    }
}

static void on_place(void *owner, const struct ph_spool_location *location, uint64_t bytes)
{
    struct recovery *r = owner;
    struct ph_segment *segment = ph_spool_segment_find(r->spool, location->segment);

    PH_CHECK(segment != NULL);
    segment->live++;
    segment->messages++;
    segment->message_bytes += bytes;
    r->spool->stats.messages_live++;
    r->report->messages++;
}

// Those in doubt are told of by their addresses, which only their record has.
static void find_addresses(void *owner, uint64_t id, const struct ph_spool_location *location,
                           struct ph_spool_recovered_recipient *recipients, uint32_t count)
{
    struct recovery *r = owner;
    struct ph_segment *segment = ph_spool_segment_find(r->spool, location->segment);
    struct ph_str bytes = view(r, segment, location->offset, location->len & ~PH_SPOOL_IN_EXTENT);
    struct ph_envelope_recipient *known = ph_alloc(count * sizeof(*known));
    struct ph_record record;
    struct ph_envelope envelope;
    struct ph_message_body body;

    if (ph_record_next(&bytes, ph_record_seed(r->spool->seed, segment->number), &record) ==
            PH_RECORD_OK &&
        record.type == PH_RECORD_MESSAGE && record.id == id &&
        ph_record_read_message(&record, &envelope, known, count, &body) &&
        envelope.recipient_count == count) {
        for (uint32_t i = 0; i < count; i++) {
            recipients[i].address = known[i].address;
        }
    }
    free(known);
}

static void read_segments(struct recovery *r)
{
    struct ph_segment *segment;
    uint64_t oldest = oldest_needed(r);

    if (r->unreadable == 0) {
        ph_spool_segment_recycle(r->spool, oldest);
    }
    r->ahead = PH_RECOVERY_PEEK_BYTES;
    find_voided(r);
    judge_heads(r);
    r->ahead = PH_RECOVERY_WINDOW_BYTES;
    r->last_group = 0;
    TAILQ_FOREACH(segment, &r->spool->segments, link)
    {
        scan_segment(r, segment);
    }
}

int ph_spool_recover(struct ph_spool *spool, ph_spool_on_recovered *on_recovered, void *owner,
                     struct ph_spool_recovery_report *out_report, struct ph_buf *error)
{
    struct recovery r = {.spool = spool,
                         .report = out_report,
                         .error = error,
                         .ahead = PH_RECOVERY_PEEK_BYTES,
                         .found = ph_found_create(spool->seed)};
    struct ph_segment *segment;
    int64_t result = open_segments(&r);

    if (result >= 0) {
        r.ahead = PH_RECOVERY_WINDOW_BYTES;
        read_segments(&r);
        result = r.unreadable;
        if (result == 0 && r.unknown) {
            ph_buf_printf(error, "%s holds records of another version of posthaste", spool->path);
            result = -EPROTONOSUPPORT;
        }
    }
    if (result >= 0) {
        if (!spool->options.offline) {
            remove_stray_extents(&r);
            ph_spool_spares_trim(spool);
        }
        // The group that may have been under way is void, whatever of it there is, and so is what
        // was torn after an earlier start: its number isn't given again.
        spool->void_from = r.last_group + 1;
        spool->void_to = r.torn_group > spool->void_from ? r.torn_group : spool->void_from;
        // Starts that were cut short leave few. Where more are missing, what had them was freed or
        // taken away: nothing is said of them.
        if (spool->void_to - spool->void_from >= PH_RECOVERY_VOIDS_MAX) {
            spool->void_from = spool->void_to;
        }
        spool->next_group = spool->void_to + 1;
        spool->durable_group = r.last_group;
        spool->sealed = true;
        ph_found_tell(r.found, &(struct ph_found_listener){.on_place = on_place,
                                                           .addresses = find_addresses,
                                                           .owner = &r,
                                                           .on_recovered = on_recovered,
                                                           .recovered_owner = owner});
        TAILQ_FOREACH(segment, &spool->segments, link)
        {
            segment->used = segment->size; // nothing is written behind what was there
        }
    }
    ph_found_destroy(r.found);
    free(r.voided);
    free(r.window);
    return result < 0 ? (int)result : 0;
}
