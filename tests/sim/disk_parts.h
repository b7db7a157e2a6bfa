// What the files of the disk share: disk.c (operations), disk_names.c (directories), disk_cut.c
// (what is left after an end), disk_damage.c. Nobody else includes it.
#pragma once

#include <sys/queue.h>

#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

#define SIM_PATH_MAX 160
#define SIM_SECTOR_BYTES 512
#define SIM_MISREADS_MAX 8
#define SIM_DISK_BYTES (UINT64_C(1) << 30)

struct image {
    uint8_t *bytes;
    size_t len;
    size_t capacity;
};

// A write that the file shows and the disk need not have.
struct dirty {
    STAILQ_ENTRY(dirty) link;
    uint64_t number;
    uint64_t offset;
    size_t len;
    uint8_t *bytes;
    struct sim_event settle; // planted: synced late
    struct inode *inode;
};
STAILQ_HEAD(dirty_list, dirty);

struct inode {
    LIST_ENTRY(inode) link;
    struct sim_disk *disk;
    unsigned number;
    char path[SIM_PATH_MAX]; // as it was made
    struct image seen;       // by reads
    struct image durable;    // after a power cut
    struct dirty_list dirty;
    struct sim_file *locked_by;
    bool bad;        // writes to it fail from now on
    bool rotten;     // its summary is: what that says of itself isn't to be believed
    unsigned late;   // writes of a killed process, still to land: it stays locked
    uint64_t behind; // here its last durable write began: what is in front of it was durable before
};

struct entry {
    char path[SIM_PATH_MAX];
    struct inode *inode; // NULL: a directory
};

struct names {
    struct entry *entries; // sorted by path
    size_t count;
};

enum change_kind {
    CHANGE_ADD,
    CHANGE_REMOVE,
    CHANGE_RENAME,
};

// A change of a directory that isn't synced.
struct change {
    STAILQ_ENTRY(change) link;
    enum change_kind kind;
    char path[SIM_PATH_MAX];
    char from[SIM_PATH_MAX];
    struct inode *inode;
};
STAILQ_HEAD(change_list, change);

struct sim_file {
    struct ph_file file; // first
    struct sim_disk *disk;
    struct inode *inode;
    bool open;
};

enum disk_kind {
    DISK_OPEN,
    DISK_ALLOCATE,
    DISK_READ,
    DISK_WRITE,
    DISK_SYNC,
    DISK_SIZE,
    DISK_DIRECTORY_SYNC,
    DISK_RENAME,
    DISK_UNLINK,
    DISK_DIRECTORY_CREATE,
    DISK_DIRECTORY_LIST,
    DISK_SPACE,
};

struct disk_op {
    LIST_ENTRY(disk_op) link; // under way
    struct sim_event event;
    struct sim_disk *disk;
    enum disk_kind kind;
    struct ph_io *io; // NULL: the process is gone
    struct ph_op *op;
    struct sim_file *file;
    struct inode *inode;
    char path[SIM_PATH_MAX];
    char other[SIM_PATH_MAX];
    int flags;
    bool durable;
    bool locks; // killed: it holds the file's lock until it lands
    const void *data;
    uint64_t data_sum; // at submission: what is borrowed must not change
    void *out;
    size_t len;
    uint64_t offset;
    uint64_t dirty_number; // of a sync: covers what was written before it
    struct ph_file **out_file;
    struct ph_buf *out_names;
    uint64_t *out_free;
    uint64_t *out_total;
};

struct sim_disk {
    struct sim *sim;
    LIST_HEAD(, inode) inodes;
    LIST_HEAD(, disk_op) under_way;
    unsigned inode_count;
    struct names names;   // as seen
    struct names durable; // after a power cut
    struct change_list changes;
    uint64_t dirty_count;
    uint64_t carried_out; // operations
    uint64_t misread_at;  // one of them
    struct {
        uint64_t inode; // 0: none
        size_t offset;
    } misreads[SIM_MISREADS_MAX]; // that were not read again yet
    unsigned misread_next;
};

void sim_image_write(struct image *image, uint64_t offset, const void *data, size_t len);
void sim_image_copy(struct image *to, const struct image *from);
void sim_image_copy_range(struct image *to, const struct image *from, size_t at, size_t len);

struct entry *sim_names_find(const struct names *names, const char *path);
void sim_names_put(struct names *names, const char *path, struct inode *inode);
void sim_names_remove(struct names *names, const char *path);
bool sim_names_in_directory(const char *path, const char *directory);
bool sim_names_parent_exists(const struct names *names, const char *path);

// Changes of directories: seen at once, durable by a sync of theirs.
void sim_disk_change(struct sim_disk *disk, enum change_kind kind, const char *path,
                     const char *from, struct inode *inode);
void sim_disk_sync_names(struct sim_disk *disk, const char *directory);
void sim_disk_carry_out(struct names *names, const struct change *change);

// What the file shows becomes what the disk has.
void sim_disk_settle(struct inode *inode, uint64_t up_to_number);
struct dirty *sim_disk_add_dirty(struct sim_disk *disk, struct inode *inode, uint64_t offset,
                                 const void *data, size_t len);
