// File operations as jobs of the thread pool: all of them in the poll world, the slow and rare ones
// in the ring. Each submits, and completes its operation in the world of `sink`.
#pragma once

#include "engine/offload.h"

// A file of either world: both embed it first.
struct ph_file_handle {
    struct ph_file file;
    int fd;
    int direct_fd; // for durable writes around the page cache; -1: none
};

struct ph_file_pool {
    struct ph_offload *offload;
    struct ph_offload_sink sink;
};

void ph_file_jobs_open(struct ph_file_pool *pool, struct ph_op *op, const char *path, int flags,
                       struct ph_file **out_file);
void ph_file_jobs_close(struct ph_file *file);
void ph_file_jobs_allocate(struct ph_file_pool *pool, struct ph_file *file, struct ph_op *op,
                           uint64_t size);
void ph_file_jobs_read(struct ph_file_pool *pool, struct ph_file *file, struct ph_op *op, void *out,
                       size_t len, uint64_t offset);
void ph_file_jobs_write(struct ph_file_pool *pool, struct ph_file *file, struct ph_op *op,
                        const void *data, size_t len, uint64_t offset, bool durable);
void ph_file_jobs_sync(struct ph_file_pool *pool, struct ph_file *file, struct ph_op *op);
void ph_file_jobs_size(struct ph_file_pool *pool, struct ph_file *file, struct ph_op *op);
void ph_file_jobs_directory_sync(struct ph_file_pool *pool, struct ph_op *op, const char *path);
void ph_file_jobs_rename(struct ph_file_pool *pool, struct ph_op *op, const char *from,
                         const char *to);
void ph_file_jobs_unlink(struct ph_file_pool *pool, struct ph_op *op, const char *path);
void ph_file_jobs_directory_create(struct ph_file_pool *pool, struct ph_op *op, const char *path);
void ph_file_jobs_directory_list(struct ph_file_pool *pool, struct ph_op *op, const char *path,
                                 struct ph_buf *out_names);
void ph_file_jobs_space_free(struct ph_file_pool *pool, struct ph_op *op, const char *path,
                             uint64_t *out_free, uint64_t *out_total);
void ph_file_jobs_check_password(struct ph_file_pool *pool, struct ph_password_op *op);
