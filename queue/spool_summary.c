// Summaries: gathered while groups are written, put at a segment's end when it is full. A crash
// before, a write that fails, no room for it: then there is none, and the segment is read.
#include <stdlib.h>

#include "queue/spool_parts.h"

struct sealing {
    struct ph_op op;
    struct ph_spool *spool;
    struct ph_segment *segment;
    uint64_t len;
    char *memory;
};

void ph_spool_summary_begin(struct ph_spool *spool, const struct ph_segment *segment)
{
    ph_summary_deinit(&spool->summary);
    ph_summary_init(&spool->summary, ph_record_seed(spool->seed, segment->number));
}

void ph_spool_summary_written(struct ph_spool *spool, const struct ph_segment *segment,
                              const struct ph_spool_group *group)
{
    struct ph_str rest = ph_buf_str(&group->meta);
    uint64_t first = segment->used > 0 ? segment->used : PH_SEGMENT_HEAD_BYTES;
    struct ph_record record;
    uint64_t at = first + PH_GROUP_HEAD_BYTES;

    if (!segment->preallocated) {
        return; // its end isn't there yet
    }
    ph_summary_group(&spool->summary,
                     &(struct ph_group){.number = group->number, .oldest = group->oldest});
    while (ph_record_walk(&rest, &record)) {
        ph_summary_take(&spool->summary, &record, (uint32_t)at);
        at += record.len;
    }
}

uint64_t ph_spool_summary_room(const struct ph_spool *spool, const struct ph_spool_group *group)
{
    // An entry isn't longer than its record.
    return ph_summary_disk_bytes(&spool->summary) + group->meta.len + PH_DURABLE_BLOCK_BYTES;
}

static void on_sealed(struct ph_op *op)
{
    struct sealing *sealing = PH_CONTAINER_OF(op, struct sealing, op);

    // What the file's blocks hold is as it was: durable before this began. But the file isn't
    // trusted with another life.
    if (op->result != (int64_t)sealing->len) {
        sealing->segment->preallocated = false;
    }
    sealing->segment->readers--;
    sealing->spool->loads--;
    free(sealing->memory);
    free(sealing);
}

void ph_spool_summary_seal(struct ph_spool *spool, struct ph_segment *segment)
{
    const struct ph_summary *summary = &spool->summary;
    uint64_t len = ph_summary_disk_bytes(summary);
    struct sealing *sealing;
    void *memory = NULL;

    if (!segment->preallocated || summary->lacking || summary->first_group == 0 ||
        segment->used + len > segment->size ||
        posix_memalign(&memory, PH_DURABLE_BLOCK_BYTES, (size_t)len) != 0) {
        return;
    }
    ph_summary_encode(summary, segment->number, segment->used,
                      ph_record_seed(spool->seed, segment->number), memory);
    segment->used = segment->size; // should the next segment fail, this one isn't gone on with
    sealing = ph_alloc(sizeof(*sealing));
    sealing->spool = spool;
    sealing->segment = segment;
    sealing->len = len;
    sealing->memory = memory;
    // Until it is written the segment isn't used again, nor closed.
    segment->readers++;
    spool->loads++;
    ph_op_init(&sealing->op, on_sealed, sealing);
    if (spool->options.durability_os) {
        ph_io_file_write(segment->file, &sealing->op, memory, (size_t)len, segment->size - len);
    } else {
        ph_io_file_write_durable(segment->file, &sealing->op, memory, (size_t)len,
                                 segment->size - len);
    }
}
