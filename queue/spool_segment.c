// The files that groups go to: made ahead of need, used again when they are dead.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/spool_parts.h"

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
    struct ph_segment *segment;

    TAILQ_FOREACH_REVERSE(segment, &spool->segments, ph_segment_list, link)
    {
        if ((uint32_t)segment->number == (uint32_t)number) {
            return segment;
        }
    }
    return NULL;
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
    struct ph_segment *segment = ph_alloc(sizeof(*segment));

    segment->slot = spool->next_slot++;
    segment->size = spool->options.message_segment_bytes;
    return segment;
}

#define SEGMENT_FLAGS                                                                              \
    (PH_FILE_READ | PH_FILE_WRITE | PH_FILE_CREATE_OK | PH_FILE_DIRECT | PH_FILE_LOCK)

void ph_spool_segment_prepare(struct ph_spool *spool)
{
    char path[PH_SPOOL_PATH_MAX];
    struct ph_segment *segment;

    if (spool->preparing != NULL || !TAILQ_EMPTY(&spool->spares) || spool->options.adopted) {
        return;
    }
    segment = segment_new(spool);
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
        // Without a spare the next one is made when it is needed, or told of then.
        spool->preparing = NULL;
        ph_spool_segment_close(segment);
    } else if (segment->step == STEP_OPEN) {
        segment->step = STEP_ALLOCATE;
        ph_io_file_allocate(segment->file, &segment->op, segment->size);
    } else if (segment->step == STEP_ALLOCATE) {
        segment->step = STEP_DIRECTORY;
        ph_io_directory_sync(spool->io, &segment->op, spool->path);
    } else {
        segment->preallocated = true;
        spool->preparing = NULL;
        TAILQ_INSERT_TAIL(&spool->spares, segment, link);
    }
}

struct ph_segment *ph_spool_segment_next(struct ph_spool *spool)
{
    struct ph_segment *segment = TAILQ_FIRST(&spool->spares);

    if (segment != NULL) {
        TAILQ_REMOVE(&spool->spares, segment, link);
    } else if (spool->preparing == NULL) {
        int64_t failure;

        // No spare could be made: one that is appended to, rather than none.
        segment = ph_spool_segment_create(spool, &failure);
    }
    if (segment != NULL) {
        segment->size = spool->options.message_segment_bytes;
        segment->number = spool->next_segment++;
        segment->used = 0;
        segment->live = 0;
    }
    return segment;
}

struct ph_segment *ph_spool_segment_create(struct ph_spool *spool, int64_t *out_error)
{
    struct ph_segment *segment = segment_new(spool);
    char path[PH_SPOOL_PATH_MAX];
    struct ph_op op;
    int64_t result;

    ph_op_init(&op, on_prepared, spool);
    ph_spool_segment_path(spool, segment->slot, path);
    ph_io_file_open(spool->io, &op, path, SEGMENT_FLAGS, &segment->file);
    result = ph_io_finish(spool->io, &op);
    if (result == 0) {
        ph_io_directory_sync(spool->io, &op, spool->path);
        result = ph_io_finish(spool->io, &op);
    }
    if (result < 0) {
        *out_error = result;
        ph_spool_segment_close(segment);
        return NULL;
    }
    return segment;
}

static void on_unlinked(struct ph_op *op)
{
    free(op); // a file that stays is found, and used again, at the next start
}

void ph_spool_segment_recycle(struct ph_spool *spool, uint64_t oldest)
{
    struct ph_segment *segment;
    struct ph_segment *spare;
    unsigned spares = 0;

    TAILQ_FOREACH(spare, &spool->spares, link)
    {
        spares++;
    }
    while ((segment = TAILQ_FIRST(&spool->segments)) != NULL && segment->number < oldest) {
        TAILQ_REMOVE(&spool->segments, segment, link);
        segment->number = 0;
        // A file that failed is not trusted with anything again.
        if (spares < PH_SPOOL_SPARES_MAX && segment->preallocated) {
            TAILQ_INSERT_TAIL(&spool->spares, segment, link);
            spares++;
        } else {
            char path[PH_SPOOL_PATH_MAX];
            struct ph_op *op = ph_alloc(sizeof(*op));

            ph_spool_segment_path(spool, segment->slot, path);
            ph_op_init(op, on_unlinked, spool);
            ph_spool_segment_close(segment);
            ph_io_file_unlink(spool->io, op, path);
        }
    }
}
