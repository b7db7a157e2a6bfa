#include "disk.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct handle {
    struct ph_file file;
    struct disk_file *of;
    bool locks;
};

static struct disk *disk_of(struct ph_io *io)
{
    return PH_CONTAINER_OF(io, struct disk, io);
}

static struct disk_file *file_of(struct ph_file *file)
{
    return PH_CONTAINER_OF(file, struct handle, file)->of;
}

struct disk_file *disk_find(struct disk *disk, const char *path)
{
    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        if (disk->files[i].exists && strcmp(disk->files[i].path, path) == 0) {
            return &disk->files[i];
        }
    }
    return NULL;
}

uint64_t disk_used(const struct disk *disk)
{
    uint64_t used = 0;

    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        used += disk->files[i].exists ? disk->files[i].len : 0;
    }
    return used;
}

static struct disk_file *add(struct disk *disk, const char *path)
{
    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        if (!disk->files[i].exists && !disk->files[i].open) {
            free(disk->files[i].data);
            disk->files[i] = (struct disk_file){.exists = true};
            snprintf(disk->files[i].path, sizeof(disk->files[i].path), "%s", path);
            return &disk->files[i];
        }
    }
    cr_assert_fail("more files than the test's disk holds");
    return NULL;
}

static bool grow(struct disk *disk, struct disk_file *file, uint64_t len)
{
    if (len > file->len) {
        if (disk_used(disk) + len - file->len > disk->space_total) {
            return false;
        }
        file->data = realloc(file->data, len);
        memset(file->data + file->len, 0, len - file->len);
        file->len = len;
    }
    return true;
}

static void wait_(struct ph_io *io, uint64_t deadline_ns)
{
    (void)deadline_ns;
    io->now_ns += PH_NS_PER_MS;
    io->wall_ms++;
}

static void random_(struct ph_io *io, void *out, size_t len)
{
    struct disk *disk = disk_of(io);

    for (size_t i = 0; i < len; i++) {
        disk->random = disk->random * UINT64_C(6364136223846793005) + 1442695040888963407;
        ((unsigned char *)out)[i] = (unsigned char)(disk->random >> 56);
    }
}

static void file_open(struct ph_io *io, struct ph_op *op, const char *path, int flags,
                      struct ph_file **out)
{
    struct disk *disk = disk_of(io);
    struct disk_file *file = disk_find(disk, path);
    struct handle *handle;

    if (file == NULL && (flags & (PH_FILE_CREATE | PH_FILE_CREATE_OK))) {
        file = add(disk, path);
    } else if (file != NULL && (flags & PH_FILE_CREATE)) {
        ph_io_complete(io, op, -EEXIST);
        return;
    }
    if (file != NULL && (flags & PH_FILE_LOCK) && file->held_for > 0) {
        file->held_for--;
        ph_io_complete(io, op, -EWOULDBLOCK);
        return;
    }
    if (file == NULL || ((flags & PH_FILE_LOCK) && file->open)) {
        ph_io_complete(io, op, file == NULL ? -ENOENT : -EWOULDBLOCK);
        return;
    }
    handle = ph_alloc(sizeof(*handle));
    handle->file.io = io;
    handle->of = file;
    handle->locks = flags & PH_FILE_LOCK;
    file->open |= handle->locks;
    *out = &handle->file;
    ph_io_complete(io, op, 0);
}

static void file_close(struct ph_file *file)
{
    struct handle *handle = PH_CONTAINER_OF(file, struct handle, file);

    handle->of->open &= !handle->locks;
    free(handle);
}

static void file_allocate(struct ph_file *file, struct ph_op *op, uint64_t size)
{
    ph_io_complete(file->io, op, grow(disk_of(file->io), file_of(file), size) ? 0 : -ENOSPC);
}

static void file_read(struct ph_file *file, struct ph_op *op, void *out, size_t len,
                      uint64_t offset)
{
    struct disk *disk = disk_of(file->io);
    const struct disk_file *of = file_of(file);
    uint64_t left = offset < of->len ? of->len - offset : 0;
    size_t got = len < left ? len : (size_t)left;

    if (disk->hold_read && disk->read.op == NULL) {
        disk->hold_read = false;
        disk->read.op = op;
        disk->read.file = file;
        disk->read.out = out;
        disk->read.len = len;
        disk->read.offset = offset;
        return;
    }
    if (got > 0) {
        memcpy(out, of->data + offset, got);
    }
    if (got > 0) {
        ((char *)out)[got / 2] ^= (char)(disk->misreads & 1);
        disk->misreads >>= 1;
    }
    ph_io_complete(file->io, op, (int64_t)got);
}

static void file_write(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                       uint64_t offset, bool durable)
{
    struct disk *disk = disk_of(file->io);
    struct disk_file *of = file_of(file);
    int64_t result = (int64_t)len;
    bool fails;

    disk->writes += durable;
    fails = durable && disk->fail_count > 0 && disk->writes >= disk->fail_from;
    disk->fail_count -= fails;
    if (fails) {
        result = -disk->fail_errno;
    }
    if (!fails || disk->fail_after_writing) {
        if (!grow(disk, of, offset + len)) {
            result = -ENOSPC;
        } else {
            memcpy(of->data + offset, data, len);
        }
    }
    if (durable && disk->hold) {
        cr_assert_null(disk->held);
        disk->held = op;
        disk->held_result = result;
    } else {
        ph_io_complete(file->io, op, result);
    }
}

static void file_sync(struct ph_file *file, struct ph_op *op)
{
    ph_io_complete(file->io, op, 0);
}

static void file_size(struct ph_file *file, struct ph_op *op)
{
    ph_io_complete(file->io, op, (int64_t)file_of(file)->len);
}

static void directory_sync(struct ph_io *io, struct ph_op *op, const char *path)
{
    struct disk *disk = disk_of(io);
    size_t len = strlen(path);

    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        const char *name = disk->files[i].path;

        disk->files[i].named |= strncmp(name, path, len) == 0 && name[len] == '/' &&
                                strchr(name + len + 1, '/') == NULL;
    }
    ph_io_complete(io, op, 0);
}

static void directory_done(struct ph_io *io, struct ph_op *op, const char *path)
{
    (void)path;
    ph_io_complete(io, op, 0);
}

static void file_rename(struct ph_io *io, struct ph_op *op, const char *from, const char *to)
{
    struct disk_file *old = disk_find(disk_of(io), to);
    struct disk_file *file = disk_find(disk_of(io), from);

    if (old != NULL) {
        old->exists = false;
    }
    snprintf(file->path, sizeof(file->path), "%s", to);
    ph_io_complete(io, op, 0);
}

static void file_unlink(struct ph_io *io, struct ph_op *op, const char *path)
{
    struct disk_file *file = disk_find(disk_of(io), path);

    if (file != NULL) {
        file->exists = false;
    }
    ph_io_complete(io, op, file != NULL ? 0 : -ENOENT);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void directory_list(struct ph_io *io, struct ph_op *op, const char *path,
                           struct ph_buf *out_names)
{
    struct disk *disk = disk_of(io);
    const char *names[DISK_FILES_MAX];
    size_t len = strlen(path);
    size_t count = 0;

    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        const char *name = disk->files[i].path;

        if (disk->files[i].exists && strncmp(name, path, len) == 0 && name[len] == '/' &&
            strchr(name + len + 1, '/') == NULL) {
            names[count++] = name + len + 1;
        }
    }
    qsort(names, count, sizeof(names[0]), compare);
    for (size_t i = 0; i < count; i++) {
        ph_buf_append_bytes(out_names, names[i], strlen(names[i]) + 1);
    }
    ph_io_complete(io, op, 0);
}

static void space_free(struct ph_io *io, struct ph_op *op, const char *path, uint64_t *out_free,
                       uint64_t *out_total)
{
    struct disk *disk = disk_of(io);

    (void)path;
    *out_total = disk->space_total;
    *out_free = disk->space_total - disk_used(disk);
    ph_io_complete(io, op, 0);
}

static const struct ph_io_vtable vtable = {
    .name = "disk",
    .wait = wait_,
    .random = random_,
    .file_open = file_open,
    .file_close = file_close,
    .file_allocate = file_allocate,
    .file_read = file_read,
    .file_write = file_write,
    .file_sync = file_sync,
    .file_size = file_size,
    .directory_sync = directory_sync,
    .file_rename = file_rename,
    .file_unlink = file_unlink,
    .directory_create = directory_done,
    .directory_list = directory_list,
    .space_free = space_free,
};

void disk_init(struct disk *disk)
{
    *disk = (struct disk){.space_total = UINT64_C(1) << 30, .random = 7};
    ph_io_init(&disk->io, &vtable);
    disk->io.now_ns = 5000 * PH_NS_PER_MS;
    disk->io.wall_ms = UINT64_C(1790000000000);
}

void disk_deinit(struct disk *disk)
{
    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        cr_expect(!disk->files[i].open, "%s is still open", disk->files[i].path);
        free(disk->files[i].data);
    }
}

void disk_copy(struct disk *copy, const struct disk *of)
{
    disk_init(copy);
    copy->io.now_ns = of->io.now_ns;
    copy->io.wall_ms = of->io.wall_ms;
    copy->space_total = of->space_total;
    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        if (of->files[i].exists) {
            struct disk_file *file = add(copy, of->files[i].path);

            file->named = of->files[i].named;
            file->len = of->files[i].len;
            file->data = malloc(file->len + 1);
            memcpy(file->data, of->files[i].data != NULL ? of->files[i].data : "", file->len);
        }
    }
}

void disk_cut_names(struct disk *copy)
{
    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        copy->files[i].exists &= copy->files[i].named;
    }
}

void disk_turn(struct disk *disk)
{
    ph_io_run_ready(&disk->io);
    ph_io_wait(&disk->io, PH_NEVER);
}

void disk_release_read(struct disk *disk)
{
    struct ph_op *op = disk->read.op;

    cr_assert_not_null(op);
    disk->read.op = NULL;
    file_read(disk->read.file, op, disk->read.out, disk->read.len, disk->read.offset);
}

void disk_release(struct disk *disk)
{
    struct ph_op *op = disk->held;

    cr_assert_not_null(op);
    disk->held = NULL;
    ph_io_complete(&disk->io, op, disk->held_result);
}
