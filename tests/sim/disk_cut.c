// What is left of the disk after the end of a process, or of the power.
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "queue/summary.h"
#include "tests/sim/disk_parts.h"

#define LATE_WRITE_NS (300 * PH_NS_PER_MS) // a killed process's write may land so much later

// Is this bit of the unsynced there afterwards? By chance, unless the end is one that was asked
// for.
static bool is_left(struct sim *sim, unsigned permille)
{
    bool asked = sim->options.crash_at > 0;
    enum sim_end as = sim->options.crash_as;

    if (asked && as == SIM_END_power_nothing) {
        return false;
    }
    return (asked && (as == SIM_END_power_all || as == SIM_END_kill_all)) ||
           sim_chance(&sim->random, permille);
}

static void unlock_all(struct sim_disk *disk)
{
    struct inode *inode;

    LIST_FOREACH(inode, &disk->inodes, link)
    {
        inode->locked_by = NULL;
    }
}

// The operation goes on without its process; or it never happens.
static void orphan(struct sim_disk *disk, struct disk_op *d)
{
    struct sim *sim = disk->sim;
    bool changes = d->kind == DISK_WRITE || d->kind == DISK_ALLOCATE || d->kind == DISK_SYNC ||
                   d->kind == DISK_DIRECTORY_SYNC || d->kind == DISK_RENAME ||
                   d->kind == DISK_UNLINK || d->kind == DISK_DIRECTORY_CREATE;

    d->io = NULL;
    sim_cancel(&sim->clock, &d->event);
    if (!changes || !is_left(sim, 700)) {
        LIST_REMOVE(d, link);
        free(d);
        return;
    }
    // Only what the kernel holds a file for may come late: the lock tells the next process.
    if (d->inode != NULL && d->inode->locked_by != NULL && !is_left(sim, 500)) {
        d->locks = true;
        d->inode->late++;
        sim_after(&sim->clock, &d->event, sim_below(&sim->random, LATE_WRITE_NS));
        return;
    }
    d->event.fire(&d->event);
}

void sim_disk_kill(struct sim_disk *disk)
{
    struct disk_op *d;
    struct disk_op *next;

    for (d = LIST_FIRST(&disk->under_way); d != NULL; d = next) {
        next = LIST_NEXT(d, link);
        if (d->io != NULL) {
            orphan(disk, d);
        }
    }
    unlock_all(disk);
}

// --- power ---

static void keep(struct dirty *dirty, size_t from, size_t len)
{
    if (from < dirty->len) {
        len = len < dirty->len - from ? len : dirty->len - from;
        sim_image_write(&dirty->inode->durable, dirty->offset + from, dirty->bytes + from, len);
    }
}

static void keep_some(struct sim_disk *disk, struct dirty *dirty, size_t unit, unsigned permille)
{
    for (size_t at = 0; at < dirty->len; at += unit) {
        if (sim_chance(&disk->sim->random, permille)) {
            keep(dirty, at, unit);
        }
    }
}

// One write that wasn't synced: it is there, or not, or in part.
static void tear(struct sim_disk *disk, struct dirty *dirty)
{
    struct sim_random *random = &disk->sim->random;
    uint64_t sectors = dirty->len / SIM_SECTOR_BYTES + 1;
    uint64_t how = sim_below(random, 8);

    if (disk->sim->options.crash_at > 0 && disk->sim->options.crash_as != SIM_END_power_chance) {
        how = is_left(disk->sim, 0);
    }
    switch (how) {
    case 0:
        break;
    case 1:
        keep(dirty, 0, dirty->len);
        break;
    case 2:
        keep(dirty, 0, (size_t)sim_below(random, sectors) * SIM_SECTOR_BYTES);
        break;
    case 3:
        keep(dirty, 0, (size_t)sim_below(random, dirty->len + 1));
        break;
    case 4:
        keep_some(disk, dirty, SIM_SECTOR_BYTES, 500);
        break;
    case 5:
        keep_some(disk, dirty, PH_DURABLE_BLOCK_BYTES, 500);
        break;
    case 6:
        keep_some(disk, dirty, SIM_SECTOR_BYTES, 950);
        break;
    default: { // the end without the beginning
        size_t from = (size_t)sim_below(random, sectors) * SIM_SECTOR_BYTES;

        keep(dirty, from, dirty->len);
        break;
    }
    }
}

// Blocks that a file got and that were never written: whatever was in them before.
static void fill_with_stale(struct sim_disk *disk, struct inode *inode, size_t from)
{
    struct inode *other;
    unsigned skip = (unsigned)sim_below(&disk->sim->random, disk->inode_count);

    LIST_FOREACH(other, &disk->inodes, link)
    {
        if (skip-- == 0) {
            break;
        }
    }
    for (size_t at = from; other != NULL && at < inode->durable.len; at++) {
        inode->durable.bytes[at] = at < other->durable.len ? other->durable.bytes[at] : 0;
    }
}

static void cut_file(struct sim_disk *disk, struct inode *inode)
{
    struct dirty *dirty;
    size_t had = inode->durable.len;

    // Each of them by chance, or the first ones and a part of the next: both orders are legal.
    bool in_order = sim_chance(&disk->sim->random, 400);
    bool lost = false;

    if (inode->seen.len > had && is_left(disk->sim, 500)) {
        // The size came through and the bytes did not.
        uint8_t zero = 0;

        sim_image_write(&inode->durable, inode->seen.len - 1, &zero, 1);
        if (disk->sim->options.on[SIM_stale_bytes]) {
            fill_with_stale(disk, inode, had);
        }
    }
    while ((dirty = STAILQ_FIRST(&inode->dirty)) != NULL) {
        STAILQ_REMOVE_HEAD(&inode->dirty, link);
        sim_cancel(&disk->sim->clock, &dirty->settle);
        if (!in_order) {
            tear(disk, dirty);
        } else if (!lost && is_left(disk->sim, 500)) {
            keep(dirty, 0, dirty->len);
        } else if (!lost) {
            lost = true;
            tear(disk, dirty);
        }
        free(dirty->bytes);
        free(dirty);
    }
    sim_image_copy(&inode->seen, &inode->durable);
    inode->locked_by = NULL;
    inode->late = 0;
}

// What was under way counts as written and not synced.
static void take_under_way(struct sim_disk *disk)
{
    struct disk_op *d;

    while ((d = LIST_FIRST(&disk->under_way)) != NULL) {
        LIST_REMOVE(d, link);
        sim_cancel(&disk->sim->clock, &d->event);
        if (d->kind == DISK_WRITE) {
            sim_disk_add_dirty(disk, d->inode, d->offset, d->data, d->len);
        } else if (d->kind == DISK_ALLOCATE && is_left(disk->sim, 500)) {
            uint8_t zero = 0;

            sim_image_write(&d->inode->seen, d->len - 1, &zero, 1);
        } else if ((d->kind == DISK_RENAME || d->kind == DISK_UNLINK ||
                    d->kind == DISK_DIRECTORY_CREATE) &&
                   is_left(disk->sim, 500)) {
            d->io = NULL;
            LIST_INSERT_HEAD(&disk->under_way, d, link);
            d->event.fire(&d->event);
            continue;
        }
        free(d);
    }
}

static void cut_names(struct sim_disk *disk)
{
    bool lose = disk->sim->options.on[SIM_lost_names];
    struct change *change;
    struct names *durable = &disk->durable;

    while ((change = STAILQ_FIRST(&disk->changes)) != NULL) {
        STAILQ_REMOVE_HEAD(&disk->changes, link);
        if (!lose || is_left(disk->sim, 500)) {
            sim_disk_carry_out(durable, change);
        }
        free(change);
    }
    // What lies in a directory that is lost is lost.
    for (size_t i = 0; i < durable->count;) {
        if (sim_names_parent_exists(durable, durable->entries[i].path)) {
            i++;
        } else {
            sim_names_remove(durable, durable->entries[i].path);
        }
    }
    free(disk->names.entries);
    disk->names.count = durable->count;
    disk->names.entries = reallocarray(NULL, durable->count, sizeof(struct entry));
    PH_CHECK(disk->names.entries != NULL);
    memcpy(disk->names.entries, durable->entries, durable->count * sizeof(struct entry));
}

void sim_disk_power_cut(struct sim_disk *disk)
{
    struct inode *inode;

    take_under_way(disk);
    LIST_FOREACH(inode, &disk->inodes, link)
    {
        cut_file(disk, inode);
    }
    cut_names(disk);
}

// The summary's bytes in this image, of what the segment is now: groups may stand in the place of
// an earlier life's.
static bool find_summary(const struct image *image, uint64_t *out_at, uint64_t *out_len)
{
    struct ph_summary_foot foot;
    struct ph_str bytes = {.data = (const char *)image->bytes, .len = image->len};
    uint64_t number;

    if (image->len < PH_SEGMENT_HEAD_BYTES || !ph_summary_foot_decode(bytes, &foot) ||
        ph_summary_foot_disk_bytes(&foot) > image->len) {
        return false;
    }
    memcpy(&number, bytes.data + 16, sizeof(number));
    if (number != foot.segment) {
        return false;
    }
    *out_len = ph_summary_foot_disk_bytes(&foot);
    *out_at = image->len - *out_len;
    return true;
}

unsigned sim_disk_rot_summaries(struct sim_disk *disk)
{
    struct sim_random *random = &disk->sim->random;
    struct inode *inode;
    unsigned rotten = 0;

    LIST_FOREACH(inode, &disk->inodes, link)
    {
        uint64_t at;
        uint64_t len;

        if (!inode->rotten && find_summary(&inode->seen, &at, &len) && sim_chance(random, 500)) {
            uint8_t bit = (uint8_t)(1u << sim_below(random, 8));

            at += sim_below(random, len);
            inode->rotten = true;
            inode->seen.bytes[at] ^= bit;
            if (at < inode->durable.len) {
                inode->durable.bytes[at] ^= bit;
            }
            rotten++;
        }
    }
    return rotten;
}

uint64_t sim_disk_sum(const struct sim_disk *disk)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < disk->names.count; i++) {
        const struct entry *entry = &disk->names.entries[i];

        sum = ph_hash_str(ph_str_from(entry->path), sum);
        if (entry->inode != NULL) {
            sum = ph_hash_bytes(entry->inode->seen.bytes, entry->inode->seen.len, sum);
        }
    }
    return sum;
}
