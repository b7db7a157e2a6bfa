// Messages read back, and large contents on their way in: files of their own.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "queue/spool_parts.h"

#define PH_EXTENT_SUM_SEED UINT64_C(0x706f737468617374)

uint64_t ph_spool_content_sum(const struct ph_spool *spool, uint64_t id, struct ph_str content)
{
    return ph_hash_str(content, spool->seed ^ id);
}

void ph_spool_extent_path(const struct ph_spool *spool, uint64_t id, char out[PH_SPOOL_PATH_MAX])
{
    char text[PH_MESSAGE_ID_TEXT_MAX];

    snprintf(out, PH_SPOOL_PATH_MAX, "%s/big-%s.eml", spool->path, ph_message_id_format(id, text));
}

struct removal {
    struct ph_op op;
    struct ph_spool *spool;
};

static void on_removed(struct ph_op *op)
{
    struct removal *removal = PH_CONTAINER_OF(op, struct removal, op);

    removal->spool->removals--;
    free(removal);
}

void ph_spool_extent_remove(struct ph_spool *spool, uint64_t id)
{
    struct removal *removal = ph_alloc(sizeof(*removal));
    char path[PH_SPOOL_PATH_MAX];

    // One that stays (a crash comes first) is removed at the next start.
    removal->spool = spool;
    spool->removals++;
    ph_op_init(&removal->op, on_removed, removal);
    ph_spool_extent_path(spool, id, path);
    ph_io_file_unlink(spool->io, &removal->op, path);
}

// --- writing a large content ---

struct ph_spool_writer {
    struct ph_spool *spool;
    uint64_t id;
    struct ph_file *file;
    struct ph_op op;
    struct ph_spool_ticket *ticket; // of the append under way
    struct ph_str bytes;
    uint64_t len;
    uint64_t sum;
    bool opened;
    bool abandoned;
};

static void on_writer_step(struct ph_op *op);

static void writer_free(struct ph_spool_writer *writer, bool remove)
{
    if (writer->file != NULL) {
        ph_io_file_close(writer->file);
    }
    if (remove) {
        ph_spool_extent_remove(writer->spool, writer->id);
    }
    free(writer);
}

enum ph_spool_result ph_spool_writer_create(struct ph_spool *spool, uint64_t id,
                                            struct ph_spool_writer **out)
{
    struct ph_spool_writer *writer;

    if (spool->stats.health == PH_SPOOL_STOPPED) {
        return PH_SPOOL_FAILED;
    }
    if (spool->no_spare || spool->low_space) {
        return PH_SPOOL_FULL;
    }
    writer = ph_alloc(sizeof(*writer));
    writer->spool = spool;
    writer->id = id;
    writer->sum = PH_EXTENT_SUM_SEED ^ spool->seed ^ id;
    ph_op_init(&writer->op, on_writer_step, writer);
    *out = writer;
    return PH_SPOOL_OK;
}

static void write_bytes(struct ph_spool_writer *writer)
{
    if (writer->spool->options.durability_os) {
        ph_io_file_write(writer->file, &writer->op, writer->bytes.data, writer->bytes.len,
                         writer->len);
    } else {
        ph_io_file_write_durable(writer->file, &writer->op, writer->bytes.data, writer->bytes.len,
                                 writer->len);
    }
}

enum ph_spool_result ph_spool_writer_append(struct ph_spool_writer *writer,
                                            struct ph_spool_ticket *ticket, struct ph_str bytes)
{
    char path[PH_SPOOL_PATH_MAX];

    // Its sum goes by pieces of the whole length: only the last one is shorter.
    PH_CHECK(bytes.len <= PH_SPOOL_EXTENT_BYTES_MAX && writer->ticket == NULL &&
             writer->len % PH_SPOOL_EXTENT_BYTES_MAX == 0);
    writer->ticket = ticket;
    writer->bytes = bytes;
    ph_io_begin(writer->spool->io, &ticket->op);
    if (!writer->opened) {
        ph_spool_extent_path(writer->spool, writer->id, path);
        ph_io_file_open(writer->spool->io, &writer->op, path,
                        PH_FILE_READ | PH_FILE_WRITE | PH_FILE_CREATE, &writer->file);
    } else {
        write_bytes(writer);
    }
    return PH_SPOOL_OK;
}

// open → directory sync → write, and later only write.
static void on_writer_step(struct ph_op *op)
{
    struct ph_spool_writer *writer = op->owner;
    struct ph_spool_ticket *ticket = writer->ticket;
    bool written = writer->opened;

    if (op->result >= 0 && !writer->opened && ticket->location.len == 0) {
        ticket->location.len = 1; // the name is made durable next
        ph_io_directory_sync(writer->spool->io, &writer->op, writer->spool->path);
        return;
    }
    if (op->result >= 0 && !written) {
        writer->opened = true;
        write_bytes(writer);
        return;
    }
    writer->ticket = NULL;
    ticket->location.len = 0;
    if (op->result >= 0) {
        writer->sum = ph_hash_str(writer->bytes, writer->sum);
        writer->len += writer->bytes.len;
    }
    ph_io_complete(writer->spool->io, &ticket->op, op->result < 0 ? op->result : 0);
    if (writer->abandoned) {
        writer_free(writer, true);
    }
}

uint64_t ph_spool_writer_bytes(const struct ph_spool_writer *writer)
{
    return writer->len;
}

uint64_t ph_spool_writer_finish(struct ph_spool_writer *writer)
{
    uint64_t sum = writer->sum;

    PH_CHECK(writer->ticket == NULL);
    writer_free(writer, false);
    return sum;
}

void ph_spool_writer_abandon(struct ph_spool_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    if (writer->ticket != NULL) {
        writer->abandoned = true; // goes when its write has ended
    } else {
        writer_free(writer, writer->opened);
    }
}

// --- reading back ---

struct loaded {
    struct ph_content content;
    char *record; // the envelope's strings
    char *bytes;
    struct iovec body;
    struct ph_envelope_recipient recipients[];
};

struct load_work {
    struct ph_spool *spool;
    struct ph_spool_load *load;
    struct ph_op op;
    uint64_t id;
    struct ph_spool_location location;
    struct ph_segment *segment;
    char *record;
    struct ph_message_body body;
    struct loaded *loaded;
    struct ph_file *extent;
    bool record_read;
    bool envelope_sound;
    bool extent_opened;
    bool record_was_wrong; // when it was read before: what comes of it now counts
    bool content_was_wrong;
};

static void read_record(struct load_work *work);
static void on_load_step(struct ph_op *op);

static void destroy_loaded(struct ph_content *content)
{
    struct loaded *loaded = PH_CONTAINER_OF(content, struct loaded, content);

    free(loaded->record);
    free(loaded->bytes);
    free(loaded);
}

void ph_spool_load(struct ph_spool *spool, struct ph_spool_load *load, uint64_t id,
                   const struct ph_spool_location *location)
{
    struct load_work *work = ph_alloc(sizeof(*work));

    work->spool = spool;
    work->load = load;
    work->id = id;
    work->location = *location;
    work->segment = ph_spool_segment_find(spool, location->segment);
    PH_CHECK(work->segment != NULL && work->segment->live > 0);
    work->segment->readers++;
    load->content = NULL;
    load->in_extent = location->len & PH_SPOOL_IN_EXTENT;
    spool->loads++;
    ph_op_init(&work->op, on_load_step, work);
    ph_io_begin(spool->io, &load->op);
    read_record(work);
}

static void read_record(struct load_work *work)
{
    uint32_t len = work->location.len & ~PH_SPOOL_IN_EXTENT;

    work->record = calloc(1, len);
    PH_CHECK(work->record != NULL);
    ph_io_file_read(work->segment->file, &work->op, work->record, len, work->location.offset);
}

// What was read of a message that is damaged.
static void quarantine(const struct load_work *work)
{
    const struct loaded *loaded = work->loaded;
    char name[64];
    char id[PH_MESSAGE_ID_TEXT_MAX];
    struct ph_buf bytes = {0};

    if (loaded != NULL) {
        ph_buf_append_bytes(&bytes, loaded->record, work->location.len & ~PH_SPOOL_IN_EXTENT);
        if (loaded->bytes != NULL) {
            ph_buf_append_bytes(&bytes, loaded->bytes, work->body.len);
        }
    } else {
        ph_buf_append_bytes(&bytes, work->record, work->location.len & ~PH_SPOOL_IN_EXTENT);
    }
    snprintf(name, sizeof(name), "message-%s", ph_message_id_format(work->id, id));
    ph_spool_quarantine(work->spool, name, ph_buf_str(&bytes));
    ph_buf_deinit(&bytes);
}

static void forget_read(struct load_work *work)
{
    if (work->extent != NULL) {
        ph_io_file_close(work->extent);
        work->extent = NULL;
    }
    if (work->loaded != NULL) {
        ph_content_release(&work->loaded->content);
        work->loaded = NULL;
    }
    free(work->record);
    work->record = NULL;
}

// Perhaps the bytes are right on the disk, and were not when they came from it: nothing is
// concluded from a place that was wrong once. False: this one was wrong before.
static bool read_again(struct load_work *work)
{
    bool *was_wrong = work->envelope_sound ? &work->content_was_wrong : &work->record_was_wrong;

    if (*was_wrong) {
        return false;
    }
    *was_wrong = true;
    forget_read(work);
    work->record_read = work->envelope_sound = work->extent_opened = false;
    read_record(work);
    return true;
}

static void load_over(struct load_work *work, int64_t result)
{
    if (result == -EBADMSG && read_again(work)) {
        return;
    }
    if (result == -EBADMSG) {
        quarantine(work);
    }
    work->segment->readers--;
    if (result == -EBADMSG && work->envelope_sound) {
        work->loaded->body.iov_len = 0;
        work->loaded->content.body_count = 1;
        work->loaded->content.body_len = 0;
        work->load->content = &work->loaded->content;
        work->loaded = NULL;
    } else if (result >= 0 && work->loaded != NULL) {
        work->load->content = &work->loaded->content;
        work->load->content_sum = work->body.sum;
        work->loaded = NULL;
    }
    forget_read(work);
    work->spool->loads--;
    ph_io_complete(work->spool->io, &work->load->op, result);
    free(work);
}

static bool record_alone(const struct load_work *work)
{
    return work->load->for_copy && work->load->in_extent;
}

// The record is there: its envelope, and where the content is.
static bool take_record(struct load_work *work, int64_t len)
{
    struct ph_str meta = {.data = work->record, .len = (size_t)len};
    uint64_t seed = ph_record_seed(work->spool->seed, work->segment->number);
    struct ph_record record;
    struct loaded *loaded;
    uint32_t count;

    if ((uint32_t)len != (work->location.len & ~PH_SPOOL_IN_EXTENT) ||
        ph_record_next(&meta, seed, &record) != PH_RECORD_OK || record.id != work->id ||
        record.type != PH_RECORD_MESSAGE) {
        return false;
    }
    count = ph_record_recipient_count(&record);
    loaded = ph_alloc(sizeof(*loaded) + count * sizeof(struct ph_envelope_recipient));
    ph_content_init(&loaded->content, destroy_loaded);
    loaded->record = work->record;
    work->record = NULL;
    work->loaded = loaded;
    if (!ph_record_read_message(&record, &loaded->content.envelope, loaded->recipients, count,
                                &work->body)) {
        return false;
    }
    work->envelope_sound = true;
    loaded->content.body = &loaded->body;
    if (work->body.len > PH_BUF_BYTES_MAX) {
        return false;
    }
    loaded->content.body_len = work->body.len;
    if (!record_alone(work)) {
        loaded->bytes = calloc(1, work->body.len > 0 ? work->body.len : 1);
        loaded->body = (struct iovec){.iov_base = loaded->bytes, .iov_len = work->body.len};
        loaded->content.body_count = 1;
    }
    return true;
}

static uint64_t extent_sum(const struct load_work *work)
{
    uint64_t sum = PH_EXTENT_SUM_SEED ^ work->spool->seed ^ work->id;
    struct ph_str rest = {.data = work->loaded->bytes, .len = work->body.len};

    // As it was written: piece by piece. All but the last have the same length.
    while (rest.len > 0) {
        struct ph_str part = ph_str_first(rest, PH_SPOOL_EXTENT_BYTES_MAX);

        sum = ph_hash_str(part, sum);
        rest = ph_str_after(rest, part.len);
    }
    return sum;
}

static bool content_sound(const struct load_work *work)
{
    struct ph_str content = {.data = work->loaded->bytes, .len = work->body.len};

    if (work->location.len & PH_SPOOL_IN_EXTENT) {
        return extent_sum(work) == work->body.sum;
    }
    return ph_spool_content_sum(work->spool, work->id, content) == work->body.sum;
}

static void on_load_step(struct ph_op *op)
{
    struct load_work *work = op->owner;
    bool in_extent = work->location.len & PH_SPOOL_IN_EXTENT;
    char path[PH_SPOOL_PATH_MAX];

    if (op->result < 0) {
        load_over(work, op->result == -ENOENT ? -EBADMSG : op->result);
    } else if (!work->record_read) {
        work->record_read = true;
        if (!take_record(work, op->result)) {
            load_over(work, -EBADMSG);
        } else if (record_alone(work)) {
            load_over(work, 0);
        } else if (work->loaded->bytes == NULL) {
            load_over(work, -ENOMEM);
        } else if (in_extent) {
            ph_spool_extent_path(work->spool, work->id, path);
            ph_io_file_open(work->spool->io, &work->op, path, PH_FILE_READ, &work->extent);
        } else {
            ph_io_file_read(work->segment->file, &work->op, work->loaded->bytes, work->body.len,
                            work->body.offset);
        }
    } else if (in_extent && !work->extent_opened) {
        work->extent_opened = true;
        ph_io_file_read(work->extent, &work->op, work->loaded->bytes, work->body.len, 0);
    } else if ((uint64_t)op->result != work->body.len || !content_sound(work)) {
        load_over(work, -EBADMSG);
    } else {
        load_over(work, 0);
    }
}
