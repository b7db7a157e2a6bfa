// A disk that keeps what was synced, and of the rest what it likes.
#pragma once

#include "base/io.h"

struct sim;
struct sim_disk;

struct sim_disk *sim_disk_create(struct sim *sim);
// A file that an administrator has put there.
void sim_disk_place(struct sim_disk *disk, const char *path, struct ph_str content);
// The process is gone: what it had handed to the kernel lands at once, later or not at all; a file
// with a write under way stays locked until then.
void sim_disk_kill(struct sim_disk *disk);
// The machine is off: of what wasn't synced a legal part is there when it comes back.
void sim_disk_power_cut(struct sim_disk *disk);
// Bytes that were durable become others, in some places.
void sim_disk_damage(struct sim_disk *disk, unsigned places_max);
// A bit flips in some segments' summaries, where they have one. Returns in how many.
unsigned sim_disk_rot_summaries(struct sim_disk *disk);
void sim_disk_mend(struct sim_disk *disk);         // what is bad is good again
bool sim_disk_writes(const struct sim_disk *disk); // is a write under way?
uint64_t
sim_disk_sum(const struct sim_disk *disk); // of all names and bytes that a start would find

// Of struct ph_io_vtable.
void sim_disk_open(struct ph_io *io, struct ph_op *op, const char *path, int flags,
                   struct ph_file **out_file);
void sim_disk_close(struct ph_file *file);
void sim_disk_allocate(struct ph_file *file, struct ph_op *op, uint64_t size);
void sim_disk_read(struct ph_file *file, struct ph_op *op, void *out, size_t len, uint64_t offset);
void sim_disk_write(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                    uint64_t offset, bool durable);
void sim_disk_sync(struct ph_file *file, struct ph_op *op);
void sim_disk_size(struct ph_file *file, struct ph_op *op);
void sim_disk_directory_sync(struct ph_io *io, struct ph_op *op, const char *path);
void sim_disk_rename(struct ph_io *io, struct ph_op *op, const char *from, const char *to);
void sim_disk_unlink(struct ph_io *io, struct ph_op *op, const char *path);
void sim_disk_directory_create(struct ph_io *io, struct ph_op *op, const char *path);
void sim_disk_directory_list(struct ph_io *io, struct ph_op *op, const char *path,
                             struct ph_buf *out_names);
void sim_disk_space_free(struct ph_io *io, struct ph_op *op, const char *path, uint64_t *out_free,
                         uint64_t *out_total);
