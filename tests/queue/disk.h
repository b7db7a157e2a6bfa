// A disk in memory with a struct ph_io around it: files alone, done at once, failing on demand.
// What a real disk does behind one's back (reordered, torn and lost writes) is tests/sim's.
#pragma once

#include "base/io.h"

#define DISK_FILES_MAX 256

struct disk_file {
    char path[160];
    char *data;
    uint64_t len;
    bool open;
    unsigned held_for; // so many attempts to lock it are refused: another process has it
    bool exists;
    bool named; // its name is durable
};

struct disk {
    struct ph_io io;
    struct disk_file files[DISK_FILES_MAX];
    uint64_t space_total; // bytes of all files together; more is ENOSPC
    unsigned writes;      // durable ones begun
    unsigned fail_from;   // the durable write with this number fails, …
    unsigned fail_count;  // … and so many in all
    int fail_errno;
    bool fail_after_writing; // the bytes are there all the same
    bool hold;               // durable writes wait …
    struct ph_op *held;      // … this one
    int64_t held_result;
    unsigned misreads; // a bit each, the lowest next: this read comes with a wrong bit
    bool hold_read;    // the next read waits, and finds what is there when it is released
    struct {
        struct ph_op *op;
        struct ph_file *file;
        void *out;
        size_t len;
        uint64_t offset;
    } read;
    uint64_t random;
};

void disk_init(struct disk *disk);
void disk_deinit(struct disk *disk);
// A copy of all files as they are: what is left when the power fails now.
void disk_copy(struct disk *copy, const struct disk *of);
// Of this copy, files go whose names weren't.
void disk_cut_names(struct disk *copy);
// Runs what is ready and lets a millisecond pass.
void disk_turn(struct disk *disk);
void disk_release_read(struct disk *disk);
void disk_release(struct disk *disk);                             // the write that is held is done
struct disk_file *disk_find(struct disk *disk, const char *path); // NULL: none
uint64_t disk_used(const struct disk *disk);
