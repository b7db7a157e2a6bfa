// The files that groups go to: made ahead of need, used again when they are dead.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/spool_parts.h"

#define PH_SPOOL_PREPARE_PAUSE_NS (500 * PH_NS_PER_MS) // after a failure to make a spare; ours
#define PH_SPOOL_COMPACT_SEGMENTS_MIN 4                // fewer aren't worth it; ours
#define PH_SPOOL_INDEX_FIRST 64                        // segments; ours

enum prepare_step {
    STEP_OPEN,
    STEP_ALLOCATE,
    STEP_DIRECTORY,
};

static void on_prepared(struct ph_op *op);

void ph_spool_segment_path(const struct ph_spool *spool, uint32_t slot, char out[PH_SPOOL_PATH_MAX])
{
    snprintf(out, PH_SPOOL_PATH_MAX, "%s/seg-%05u.dat", spool->path, slot);
}

struct ph_segment *ph_spool_segment_find(const struct ph_spool *spool, uint64_t number)
{
    struct ph_segment *segment =
        spool->by_number_len > 0 ? spool->by_number[number & (spool->by_number_len - 1)] : NULL;

    return segment != NULL && (uint32_t)segment->number == (uint32_t)number ? segment : NULL;
}

// Segments in use have numbers that follow each other closely: each has a place of its own.
static void index_all(struct ph_spool *spool, uint64_t newest)
{
    uint64_t span = newest - TAILQ_FIRST(&spool->segments)->number + 1;
    struct ph_segment *segment;

    if (span > spool->by_number_len) {
        uint32_t len = spool->by_number_len > 0 ? spool->by_number_len : PH_SPOOL_INDEX_FIRST;

        while (len < span) {
            len *= 2;
        }
        free(spool->by_number);
        spool->by_number = ph_alloc(len * sizeof(*spool->by_number));
        spool->by_number_len = len;
        TAILQ_FOREACH(segment, &spool->segments, link)
        {
            spool->by_number[segment->number & (len - 1)] = segment;
        }
    }
}

void ph_spool_segment_use(struct ph_spool *spool, struct ph_segment *segment)
{
    TAILQ_INSERT_TAIL(&spool->segments, segment, link);
    spool->segment_count++;
    index_all(spool, segment->number);
    spool->by_number[segment->number & (spool->by_number_len - 1)] = segment;
}

static void segment_unuse(struct ph_spool *spool, struct ph_segment *segment)
{
    TAILQ_REMOVE(&spool->segments, segment, link);
    spool->segment_count--;
    spool->by_number[segment->number & (spool->by_number_len - 1)] = NULL;
    segment->number = 0;
}

void ph_spool_spare_add(struct ph_spool *spool, struct ph_segment *segment)
{
    TAILQ_INSERT_TAIL(&spool->spares, segment, link);
    spool->spare_count++;
}

void ph_spool_slot_take(struct ph_spool *spool, uint32_t slot)
{
    spool->slots_used[slot / 64] |= UINT64_C(1) << (slot % 64);
}

static void slot_give(struct ph_spool *spool, uint32_t slot)
{
    spool->slots_used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
}

// The lowest name that is free. False: none is.
static bool slot_find(struct ph_spool *spool, uint32_t *out_slot)
{
    for (uint32_t i = 0; i < PH_ARRAY_LEN(spool->slots_used); i++) {
        if (spool->slots_used[i] != UINT64_MAX) {
            *out_slot = i * 64 + (uint32_t)__builtin_ctzll(~spool->slots_used[i]);
            ph_spool_slot_take(spool, *out_slot);
            return true;
        }
    }
    return false;
}

void ph_spool_segment_close(struct ph_segment *segment)
{
    if (segment->file != NULL) {
        ph_io_file_close(segment->file);
    }
    free(segment);
}

static struct ph_segment *segment_new(struct ph_spool *spool)
{
    struct ph_segment *segment;
    uint32_t slot;

    if (!slot_find(spool, &slot)) {
        return NULL;
    }
    segment = ph_alloc(sizeof(*segment));
    segment->slot = slot;
    segment->size = spool->options.message_segment_bytes;
    return segment;
}

struct removal {
    struct ph_op op;
    struct ph_spool *spool;
    uint32_t slot;
};

static void on_removed(struct ph_op *op)
{
    struct removal *removal = PH_CONTAINER_OF(op, struct removal, op);

    // A file that stays is found, and used again, at the next start: its name isn't given away.
    if (op->result >= 0 || op->result == -ENOENT) {
        slot_give(removal->spool, removal->slot);
    }
    removal->spool->removals--;
    free(removal);
}

// Closes the file and unlinks it.
static void segment_remove(struct ph_spool *spool, struct ph_segment *segment)
{
    struct removal *removal;
    char path[PH_SPOOL_PATH_MAX];

    if (spool->options.offline) {
        ph_spool_segment_close(segment);
        return;
    }
    removal = ph_alloc(sizeof(*removal));
    removal->spool = spool;
    removal->slot = segment->slot;
    spool->removals++;
    ph_spool_segment_path(spool, segment->slot, path);
    ph_op_init(&removal->op, on_removed, removal);
    ph_spool_segment_close(segment);
    ph_io_file_unlink(spool->io, &removal->op, path);
}

#define SEGMENT_FLAGS                                                                              \
    (PH_FILE_READ | PH_FILE_WRITE | PH_FILE_CREATE_OK | PH_FILE_DIRECT | PH_FILE_LOCK)

void ph_spool_segment_prepare(struct ph_spool *spool)
{
    char path[PH_SPOOL_PATH_MAX];
    struct ph_segment *segment;

    if (spool->preparing != NULL || !TAILQ_EMPTY(&spool->spares) || spool->options.adopted ||
        spool->io->now_ns < spool->prepare_after_ns) {
        return;
    }
    segment = segment_new(spool);
    if (segment == NULL) {
        return;
    }
    spool->preparing = segment;
    segment->step = STEP_OPEN;
    ph_op_init(&segment->op, on_prepared, spool);
    ph_spool_segment_path(spool, segment->slot, path);
    ph_io_file_open(spool->io, &segment->op, path, SEGMENT_FLAGS, &segment->file);
}

// Durable by name, size and blocks before a group goes into it (F2).
static void on_prepared(struct ph_op *op)
{
    struct ph_spool *spool = op->owner;
    struct ph_segment *segment = spool->preparing;

    if (op->result < 0) {
        // Without a spare the next one is made when it is needed, or told of then. For want of
        // space none is: what is left of the last one is for outcomes, and new mail waits.
        spool->no_spare = op->result == -ENOSPC || op->result == -EDQUOT;
        spool->prepare_after_ns = spool->io->now_ns + PH_SPOOL_PREPARE_PAUSE_NS;
        spool->preparing = NULL;
        segment_remove(spool, segment);
    } else if (segment->step == STEP_OPEN) {
        segment->step = STEP_ALLOCATE;
        ph_io_file_allocate(segment->file, &segment->op, segment->size);
    } else if (segment->step == STEP_ALLOCATE) {
        segment->step = STEP_DIRECTORY;
        ph_io_directory_sync(spool->io, &segment->op, spool->path);
    } else {
        segment->preallocated = true;
        spool->preparing = NULL;
        spool->no_spare = false;
        ph_spool_spare_add(spool, segment);
    }
}

struct ph_segment *ph_spool_segment_next(struct ph_spool *spool, int64_t *out_failure)
{
    struct ph_segment *segment = TAILQ_FIRST(&spool->spares);

    if (segment != NULL) {
        TAILQ_REMOVE(&spool->spares, segment, link);
        spool->spare_count--;
    } else if (spool->preparing == NULL && !spool->no_spare) {
        // No spare could be made: one that is appended to, rather than none.
        segment = ph_spool_segment_create(spool, out_failure);
    }
    if (segment != NULL) {
        segment->size = spool->options.message_segment_bytes;
        segment->number = spool->next_segment++;
        segment->used = 0;
        segment->live = 0;
        segment->messages = 0;
        segment->message_bytes = 0;
    }
    return segment;
}

struct ph_segment *ph_spool_segment_create(struct ph_spool *spool, int64_t *out_error)
{
    struct ph_segment *segment = segment_new(spool);
    char path[PH_SPOOL_PATH_MAX];
    struct ph_op op;
    int64_t result;

    if (segment == NULL) {
        *out_error = -EMFILE;
        return NULL;
    }
    ph_op_init(&op, on_prepared, spool);
    ph_spool_segment_path(spool, segment->slot, path);
    ph_io_file_open(spool->io, &op, path, SEGMENT_FLAGS, &segment->file);
    result = ph_io_finish(spool->io, &op);
    if (result == 0) {
        result = ph_spool_sync_directory(spool->io, spool->path);
    }
    if (result < 0) {
        *out_error = result;
        segment_remove(spool, segment);
        return NULL;
    }
    return segment;
}

void ph_spool_segment_recycle(struct ph_spool *spool, uint64_t oldest)
{
    struct ph_segment *segment;

    while ((segment = TAILQ_FIRST(&spool->segments)) != NULL && segment->number < oldest &&
           segment->readers == 0) {
        segment_unuse(spool, segment);
        // A file that failed is not trusted with anything again.
        if (spool->spare_count < PH_SPOOL_SPARES_MAX && segment->preallocated) {
            ph_spool_spare_add(spool, segment);
            spool->no_spare = false;
        } else {
            segment_remove(spool, segment);
        }
    }
}

void ph_spool_segment_discard(struct ph_spool *spool, struct ph_segment *segment)
{
    segment_unuse(spool, segment);
    segment_remove(spool, segment);
}

void ph_spool_spares_trim(struct ph_spool *spool)
{
    while (spool->spare_count > PH_SPOOL_SPARES_MAX) {
        struct ph_segment *segment = TAILQ_FIRST(&spool->spares);

        TAILQ_REMOVE(&spool->spares, segment, link);
        spool->spare_count--;
        segment_remove(spool, segment);
    }
}

static uint64_t live_bytes(const struct ph_segment *segment)
{
    return segment->messages > 0 ? (uint64_t)((double)segment->message_bytes *
                                              (double)segment->live / (double)segment->messages)
                                 : 0;
}

uint64_t ph_spool_compact_below(const struct ph_spool *spool)
{
    const struct ph_segment *active = TAILQ_LAST(&spool->segments, ph_segment_list);
    const struct ph_segment *segment;
    uint64_t total = 0;
    uint64_t live = 0;
    uint64_t copied = 0;

    if (spool->segment_count < PH_SPOOL_COMPACT_SEGMENTS_MIN || spool->no_spare ||
        spool->stats.health == PH_SPOOL_STOPPED) {
        return 0;
    }
    TAILQ_FOREACH(segment, &spool->segments, link)
    {
        total += segment->size;
        live += live_bytes(segment);
    }
    if (live > total / 2) {
        return 0;
    }
    for (segment = TAILQ_FIRST(&spool->segments); TAILQ_NEXT(segment, link) != active;
         segment = TAILQ_NEXT(segment, link)) {
        copied += live_bytes(segment);
        if (copied >= active->size) {
            break;
        }
    }
    return segment->number + 1;
}
