// Operations on the virtual disk: each takes its time, then has its effect.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "queue/summary.h"
#include "tests/sim/disk_parts.h"

#define LOST_WRITE_EVERY 50 // planted
#define LATE_SYNC_NS (60 * PH_NS_PER_MS)
#define MISREADS_APART 100 // operations

static void carry_out(struct sim_event *event);
static bool disk_is_full(struct sim *sim);

struct sim_disk *sim_disk_create(struct sim *sim)
{
    struct sim_disk *disk = ph_alloc(sizeof(*disk));

    disk->sim = sim;
    LIST_INIT(&disk->inodes);
    LIST_INIT(&disk->under_way);
    STAILQ_INIT(&disk->changes);
    sim_names_put(&disk->names, "/var", NULL);
    sim_names_put(&disk->durable, "/var", NULL);
    return disk;
}

bool sim_disk_writes(const struct sim_disk *disk)
{
    const struct disk_op *d;

    LIST_FOREACH(d, &disk->under_way, link)
    {
        if (d->kind == DISK_WRITE) {
            return true;
        }
    }
    return false;
}

// --- what files hold ---

static void image_grow(struct image *image, size_t len)
{
    if (len > image->capacity) {
        size_t capacity = image->capacity * 2 > len ? image->capacity * 2 : len;

        image->bytes = realloc(image->bytes, capacity);
        PH_CHECK(image->bytes != NULL);
        memset(image->bytes + image->capacity, 0, capacity - image->capacity);
        image->capacity = capacity;
    }
    image->len = len > image->len ? len : image->len;
}

void sim_image_write(struct image *image, uint64_t offset, const void *data, size_t len)
{
    image_grow(image, (size_t)offset + len);
    memcpy(image->bytes + offset, data, len);
}

void sim_image_copy(struct image *to, const struct image *from)
{
    image_grow(to, from->len);
    to->len = from->len;
    if (from->len > 0) {
        memcpy(to->bytes, from->bytes, from->len);
    }
    if (to->capacity > to->len) {
        memset(to->bytes + to->len, 0, to->capacity - to->len);
    }
}

void sim_image_copy_range(struct image *to, const struct image *from, size_t at, size_t len)
{
    if (at + len <= from->len && at + len <= to->len) {
        memcpy(to->bytes + at, from->bytes + at, len);
    }
}

static void forget_dirty(struct inode *inode, struct dirty *dirty)
{
    STAILQ_REMOVE(&inode->dirty, dirty, dirty, link);
    sim_cancel(&inode->disk->sim->clock, &dirty->settle);
    free(dirty->bytes);
    free(dirty);
}

void sim_disk_settle(struct inode *inode, uint64_t up_to_number)
{
    struct dirty *dirty;

    while ((dirty = STAILQ_FIRST(&inode->dirty)) != NULL && dirty->number <= up_to_number) {
        sim_image_write(&inode->durable, dirty->offset, dirty->bytes, dirty->len);
        forget_dirty(inode, dirty);
    }
}

struct dirty *sim_disk_add_dirty(struct sim_disk *disk, struct inode *inode, uint64_t offset,
                                 const void *data, size_t len)
{
    struct dirty *dirty = ph_alloc(sizeof(*dirty));

    dirty->number = ++disk->dirty_count;
    dirty->offset = offset;
    dirty->len = len;
    dirty->bytes = ph_alloc(len);
    dirty->inode = inode;
    memcpy(dirty->bytes, data, len);
    STAILQ_INSERT_TAIL(&inode->dirty, dirty, link);
    return dirty;
}

static struct inode *inode_new(struct sim_disk *disk)
{
    struct inode *inode = ph_alloc(sizeof(*inode));

    inode->disk = disk;
    inode->number = ++disk->inode_count;
    STAILQ_INIT(&inode->dirty);
    LIST_INSERT_HEAD(&disk->inodes, inode, link);
    return inode;
}

void sim_disk_place(struct sim_disk *disk, const char *path, struct ph_str content)
{
    struct inode *inode = inode_new(disk);

    sim_image_write(&inode->durable, 0, content.data, content.len);
    sim_image_copy(&inode->seen, &inode->durable);
    sim_names_put(&disk->names, path, inode);
    sim_names_put(&disk->durable, path, inode);
}

// --- effects ---

static int64_t do_open(struct disk_op *d)
{
    struct sim_disk *disk = d->disk;
    struct entry *entry = sim_names_find(&disk->names, d->path);
    bool creates = d->flags & (PH_FILE_CREATE | PH_FILE_CREATE_OK);
    struct inode *inode;
    struct sim_file *file;

    if (entry == NULL && (!creates || !sim_names_parent_exists(&disk->names, d->path))) {
        return -ENOENT;
    }
    if (entry != NULL && (d->flags & PH_FILE_CREATE)) {
        return -EEXIST;
    }
    if (entry == NULL) {
        inode = inode_new(disk);
        ph_str_copy(inode->path, sizeof(inode->path), ph_str_from(d->path));
        sim_disk_change(disk, CHANGE_ADD, d->path, NULL, inode);
    } else if ((inode = entry->inode) == NULL) {
        return -EISDIR;
    }
    if ((d->flags & PH_FILE_LOCK) && (inode->locked_by != NULL || inode->late > 0)) {
        return -EWOULDBLOCK;
    }
    file = ph_alloc(sizeof(*file));
    file->file.io = d->io;
    file->disk = disk;
    file->inode = inode;
    file->open = true;
    if (d->flags & PH_FILE_LOCK) {
        inode->locked_by = file;
    }
    *d->out_file = &file->file;
    return 0;
}

static bool misread_before(struct disk_op *d)
{
    struct sim_disk *disk = d->disk;

    for (unsigned i = 0; i < SIM_MISREADS_MAX; i++) {
        if (disk->misreads[i].inode == d->inode->number && disk->misreads[i].offset == d->offset) {
            disk->misreads[i].inode = 0;
            return true;
        }
    }
    return false;
}

// A bit on its way from the disk: who reads again finds it right.
static void misread(struct disk_op *d, size_t len)
{
    struct sim_disk *disk = d->disk;
    struct sim *sim = disk->sim;

    if (!misread_before(d) && disk->carried_out >= disk->misread_at + MISREADS_APART &&
        strncmp(d->inode->path, "/var/spool/log-", 15) == 0 && sim_fault(sim, SIM_bad_reads, 100)) {
        size_t at = (size_t)sim_below(&sim->random, len);

        ((uint8_t *)d->out)[at] ^= (uint8_t)(1u << sim_below(&sim->random, 8));
        disk->misread_at = disk->carried_out;
        disk->misreads[disk->misread_next].inode = d->inode->number;
        disk->misreads[disk->misread_next].offset = d->offset;
        disk->misread_next = (disk->misread_next + 1) % SIM_MISREADS_MAX;
        sim_trace(sim, "misread", d->inode->number, d->offset + at, len);
    }
}

static int64_t do_read(struct disk_op *d)
{
    const struct image *image = &d->inode->seen;
    size_t len = d->len;

    if (d->offset >= image->len) {
        return 0;
    }
    len = len < image->len - d->offset ? len : image->len - (size_t)d->offset;
    memcpy(d->out, image->bytes + d->offset, len);
    if (len > 0 && d->io != NULL) {
        misread(d, len);
    }
    return (int64_t)len;
}

static void settle_late(struct sim_event *event)
{
    struct dirty *dirty = event->owner;

    sim_disk_settle(dirty->inode, dirty->number);
}

static bool is_summary(const struct disk_op *d)
{
    struct ph_summary_foot foot;

    return ph_summary_foot_decode((struct ph_str){.data = d->data, .len = d->len}, &foot);
}

static int64_t do_write(struct disk_op *d)
{
    struct sim *sim = d->disk->sim;
    bool summary = is_summary(d);
    struct dirty *dirty;

    if (d->io != NULL && ph_hash_bytes(d->data, d->len, 0) != d->data_sum) {
        sim_fail(sim, "bytes given to a write were changed before it completed");
    }
    if (sim->options.plant == SIM_PLANT_lost_write && d->durable &&
        sim_below(&sim->random, LOST_WRITE_EVERY) == 0) {
        return (int64_t)d->len;
    }
    sim_image_write(&d->inode->seen, d->offset, d->data, d->len);
    d->inode->rotten &= !summary;
    dirty = sim_disk_add_dirty(d->disk, d->inode, d->offset, d->data, d->len);
    if (d->durable && sim->options.plant == SIM_PLANT_early_durable) {
        sim_event_init(&dirty->settle, settle_late, dirty);
        sim_after(&sim->clock, &dirty->settle, sim_below(&sim->random, LATE_SYNC_NS));
    } else if (d->durable) {
        // The write itself; what was written before without a sync isn't covered.
        sim_image_write(&d->inode->durable, d->offset, d->data, d->len);
        if (!summary) { // which bears no witness to what stands in front of it
            d->inode->behind = d->offset;
        }
        forget_dirty(d->inode, dirty);
    }
    return (int64_t)d->len;
}

static int64_t do_allocate(struct disk_op *d)
{
    struct image *seen = &d->inode->seen;

    image_grow(seen, d->len);
    seen->len = d->len;
    memset(seen->bytes, 0, d->len);
    sim_image_copy(&d->inode->durable, seen);
    return 0;
}

static int64_t do_rename(struct disk_op *d)
{
    struct entry *entry = sim_names_find(&d->disk->names, d->path);

    if (entry == NULL) {
        return -ENOENT;
    }
    sim_disk_change(d->disk, CHANGE_RENAME, d->other, d->path, entry->inode);
    return 0;
}

static int64_t do_list(struct disk_op *d)
{
    const struct names *names = &d->disk->names;

    if (sim_names_find(names, d->path) == NULL) {
        return -ENOENT;
    }
    for (size_t i = 0; i < names->count; i++) {
        if (sim_names_in_directory(names->entries[i].path, d->path)) {
            const char *name = names->entries[i].path + strlen(d->path) + 1;

            ph_buf_append_bytes(d->out_names, name, strlen(name) + 1);
        }
    }
    return 0;
}

static int64_t effect(struct disk_op *d)
{
    struct sim_disk *disk = d->disk;
    struct entry *entry;

    switch (d->kind) {
    case DISK_OPEN:
        return do_open(d);
    case DISK_ALLOCATE:
        return do_allocate(d);
    case DISK_READ:
        return do_read(d);
    case DISK_WRITE:
        return do_write(d);
    case DISK_SYNC:
        sim_disk_settle(d->inode, d->dirty_number);
        return 0;
    case DISK_SIZE:
        return (int64_t)d->inode->seen.len;
    case DISK_DIRECTORY_SYNC:
        if (disk->sim->options.plant != SIM_PLANT_lazy_directory) {
            sim_disk_sync_names(disk, d->path);
        }
        return 0;
    case DISK_RENAME:
        return do_rename(d);
    case DISK_UNLINK:
        entry = sim_names_find(&disk->names, d->path);
        if (entry == NULL) {
            return -ENOENT;
        }
        sim_disk_change(disk, CHANGE_REMOVE, d->path, NULL, NULL);
        return 0;
    case DISK_DIRECTORY_CREATE:
        if (sim_names_find(&disk->names, d->path) != NULL) {
            return -EEXIST;
        }
        if (!sim_names_parent_exists(&disk->names, d->path)) {
            return -ENOENT;
        }
        sim_disk_change(disk, CHANGE_ADD, d->path, NULL, NULL);
        return 0;
    case DISK_DIRECTORY_LIST:
        return do_list(d);
    case DISK_SPACE:
        *d->out_free = disk_is_full(disk->sim) ? 0 : SIM_DISK_BYTES / 2;
        *d->out_total = SIM_DISK_BYTES;
        return 0;
    }
    return -EINVAL;
}

// What a write that fails leaves behind: some of its bytes, perhaps, and no word on which of them
// are durable. A sync that failed is not made good by another: what it should have written counts
// as written (and isn't).
static void spoil(struct disk_op *d, int64_t result)
{
    struct sim_random *random = &d->disk->sim->random;
    struct dirty *dirty;

    if (d->kind == DISK_WRITE && sim_chance(random, 700)) {
        // For want of room nothing of it is there, where it would have been copied elsewhere; or a
        // part, where the file would have grown.
        bool grows = d->offset + d->len > d->inode->seen.len;
        size_t most = result != -ENOSPC ? d->len + 1 : grows ? d->len : 1;
        size_t len = (size_t)sim_below(random, most);

        sim_image_write(&d->inode->seen, d->offset, d->data, len);
        if (len > 0 && sim_chance(random, 500)) {
            sim_disk_add_dirty(d->disk, d->inode, d->offset, d->data, len);
        }
    } else if (d->kind == DISK_SYNC) {
        while ((dirty = STAILQ_FIRST(&d->inode->dirty)) != NULL) {
            forget_dirty(d->inode, dirty);
        }
    }
}

static bool disk_is_full(struct sim *sim)
{
    uint64_t minute = sim->clock.now_ns / (60 * 1000 * PH_NS_PER_MS);

    // The second and third of each five minutes.
    return sim->options.on[SIM_disk_full] && !sim->calm && minute % 5 >= 1 && minute % 5 <= 2;
}

void sim_disk_mend(struct sim_disk *disk)
{
    struct inode *inode;

    LIST_FOREACH(inode, &disk->inodes, link)
    {
        inode->bad = false;
    }
}

static bool takes_room(const struct disk_op *d)
{
    return d->kind == DISK_ALLOCATE || d->kind == DISK_DIRECTORY_CREATE || d->kind == DISK_WRITE ||
           d->kind == DISK_RENAME ||
           (d->kind == DISK_OPEN && (d->flags & (PH_FILE_CREATE | PH_FILE_CREATE_OK)) &&
            sim_names_find(&d->disk->names, d->path) == NULL);
}

// 0, or why this operation fails.
static int64_t failure_of(struct disk_op *d)
{
    struct sim_disk *disk = d->disk;
    struct sim *sim = disk->sim;
    bool writes = d->kind == DISK_WRITE || d->kind == DISK_SYNC || d->kind == DISK_ALLOCATE;
    bool tells = d->kind == DISK_SIZE || d->kind == DISK_SPACE;

    disk->carried_out++;
    if (sim_strikes(sim, SIM_FAILS_EIO)) {
        if (d->inode != NULL) {
            d->inode->bad = sim->options.fail_for_good;
        }
        return -EIO;
    }
    if (writes && d->inode->bad && !sim->calm) {
        return -EIO;
    }
    if (!tells && sim_fault(sim, SIM_disk_errors, 4)) {
        if (writes) {
            d->inode->bad = sim_chance(&sim->random, 300);
        }
        return -EIO;
    }
    if ((d->kind == DISK_OPEN || d->kind == DISK_DIRECTORY_LIST ||
         d->kind == DISK_DIRECTORY_SYNC) &&
        sim_files_short(sim)) {
        return -EMFILE;
    }
    if (takes_room(d) && sim_strikes(sim, SIM_FAILS_ENOSPC)) {
        return -ENOSPC;
    }
    if (disk_is_full(sim) && (d->kind == DISK_ALLOCATE || d->kind == DISK_DIRECTORY_CREATE ||
                              (d->kind == DISK_WRITE && d->offset + d->len > d->inode->seen.len))) {
        return -ENOSPC;
    }
    return 0;
}

static void carry_out(struct sim_event *event)
{
    struct disk_op *d = event->owner;
    int64_t result = d->io != NULL ? failure_of(d) : 0;

    if (result < 0) {
        spoil(d, result);
    } else {
        result = effect(d);
    }
    LIST_REMOVE(d, link);
    sim_trace(d->disk->sim, "disk", d->kind, (uint64_t)result, d->offset);
    if (d->io != NULL) {
        sim_io_complete((struct sim_io *)d->io, d->op, result);
    } else if (d->locks) {
        d->inode->late--;
    }
    free(d);
}

// --- submissions ---

static uint64_t duration_of(struct sim *sim, enum disk_kind kind, bool durable)
{
    uint64_t most_ns = durable || kind >= DISK_SYNC ? 3 * PH_NS_PER_MS : PH_NS_PER_MS / 5;

    if (sim_fault(sim, SIM_slow_disk, 20)) {
        most_ns = 800 * PH_NS_PER_MS;
    }
    return sim_between(&sim->random, 10000, most_ns);
}

static struct disk_op *begin(struct ph_io *io, struct ph_op *op, enum disk_kind kind,
                             const char *path, struct sim_file *file, bool durable)
{
    struct sim *sim = ((struct sim_io *)io)->sim;
    struct disk_op *d = ph_alloc(sizeof(*d));

    d->disk = sim->disk;
    d->kind = kind;
    d->io = io;
    d->op = op;
    d->durable = durable;
    if (file != NULL) {
        PH_CHECK(file->open);
        d->file = file;
        d->inode = file->inode;
    }
    ph_str_copy(d->path, SIM_PATH_MAX, ph_str_from(path != NULL ? path : ""));
    sim_event_init(&d->event, carry_out, d);
    sim_after(&sim->clock, &d->event, duration_of(sim, kind, durable));
    LIST_INSERT_HEAD(&sim->disk->under_way, d, link);
    return d;
}

void sim_disk_open(struct ph_io *io, struct ph_op *op, const char *path, int flags,
                   struct ph_file **out_file)
{
    struct disk_op *d = begin(io, op, DISK_OPEN, path, NULL, false);

    d->flags = flags;
    d->out_file = out_file;
}

void sim_disk_close(struct ph_file *file)
{
    struct sim_file *f = (struct sim_file *)file;

    PH_CHECK(f->open);
    f->open = false;
    if (f->inode->locked_by == f) {
        f->inode->locked_by = NULL;
    }
}

void sim_disk_allocate(struct ph_file *file, struct ph_op *op, uint64_t size)
{
    begin(file->io, op, DISK_ALLOCATE, NULL, (struct sim_file *)file, true)->len = (size_t)size;
}

void sim_disk_read(struct ph_file *file, struct ph_op *op, void *out, size_t len, uint64_t offset)
{
    struct disk_op *d = begin(file->io, op, DISK_READ, NULL, (struct sim_file *)file, false);

    d->out = out;
    d->len = len;
    d->offset = offset;
}

void sim_disk_write(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                    uint64_t offset, bool durable)
{
    struct disk_op *d = begin(file->io, op, DISK_WRITE, NULL, (struct sim_file *)file, durable);

    d->data = data;
    d->data_sum = ph_hash_bytes(data, len, 0);
    d->len = len;
    d->offset = offset;
}

void sim_disk_sync(struct ph_file *file, struct ph_op *op)
{
    struct disk_op *d = begin(file->io, op, DISK_SYNC, NULL, (struct sim_file *)file, true);

    d->dirty_number = d->disk->dirty_count;
}

void sim_disk_size(struct ph_file *file, struct ph_op *op)
{
    begin(file->io, op, DISK_SIZE, NULL, (struct sim_file *)file, false);
}

void sim_disk_directory_sync(struct ph_io *io, struct ph_op *op, const char *path)
{
    begin(io, op, DISK_DIRECTORY_SYNC, path, NULL, true);
}

void sim_disk_rename(struct ph_io *io, struct ph_op *op, const char *from, const char *to)
{
    struct disk_op *d = begin(io, op, DISK_RENAME, from, NULL, false);

    ph_str_copy(d->other, SIM_PATH_MAX, ph_str_from(to));
}

void sim_disk_unlink(struct ph_io *io, struct ph_op *op, const char *path)
{
    begin(io, op, DISK_UNLINK, path, NULL, false);
}

void sim_disk_directory_create(struct ph_io *io, struct ph_op *op, const char *path)
{
    begin(io, op, DISK_DIRECTORY_CREATE, path, NULL, false);
}

void sim_disk_directory_list(struct ph_io *io, struct ph_op *op, const char *path,
                             struct ph_buf *out_names)
{
    begin(io, op, DISK_DIRECTORY_LIST, path, NULL, false)->out_names = out_names;
}

void sim_disk_space_free(struct ph_io *io, struct ph_op *op, const char *path, uint64_t *out_free,
                         uint64_t *out_total)
{
    struct disk_op *d = begin(io, op, DISK_SPACE, path, NULL, false);

    d->out_free = out_free;
    d->out_total = out_total;
}
