// File operations on the thread pool.
#include "engine/file_jobs.h"

#include <crypt.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PH_ALLOCATE_CHUNK_BYTES ((size_t)1 << 20) // zeros written at a time; ours

enum job_kind {
    JOB_OPEN,
    JOB_ALLOCATE,
    JOB_READ,
    JOB_WRITE,
    JOB_SYNC,
    JOB_SIZE,
    JOB_DIRECTORY_SYNC,
    JOB_RENAME,
    JOB_UNLINK,
    JOB_DIRECTORY_CREATE,
    JOB_DIRECTORY_LIST,
    JOB_SPACE_FREE,
    JOB_PASSWORD,
};

struct file_job {
    struct ph_offload_job job;
    enum job_kind kind;
    struct ph_io *io;
    struct ph_op *op;
    struct ph_file_handle *handle;
    char *path;
    char *other_path;
    int flags;
    struct ph_file **out_file;
    void *out;
    const void *data;
    size_t len;
    uint64_t offset;
    bool durable;
    struct ph_buf names; // of a directory, moved into out_names at the end
    struct ph_buf *out_names;
    uint64_t *out_free;
    uint64_t *out_total;
    uint64_t free_bytes;
    uint64_t total_bytes;
    int64_t result;
};

static int64_t open_file(struct file_job *job)
{
    int flags = O_CLOEXEC;
    int fd;
    struct ph_file_handle *handle;

    flags |= (job->flags & PH_FILE_WRITE) ? O_RDWR : O_RDONLY;
    flags |= (job->flags & PH_FILE_CREATE) ? O_CREAT | O_EXCL : 0;
    flags |= (job->flags & PH_FILE_CREATE_OK) ? O_CREAT : 0;
    fd = open(job->path, flags, 0600);
    if (fd < 0) {
        return -errno;
    }
    if ((job->flags & PH_FILE_LOCK) && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    handle = ph_alloc(sizeof(*handle));
    handle->file.io = job->io;
    handle->fd = fd;
    // Where the file system can't, writes go through the page cache and are synced.
    handle->direct_fd =
        (job->flags & PH_FILE_DIRECT) ? open(job->path, O_WRONLY | O_DIRECT | O_CLOEXEC) : -1;
    job->handle = handle;
    return 0;
}

static int64_t write_all(int fd, const char *data, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        ssize_t wrote = pwrite(fd, data + done, len - done, (off_t)(offset + done));

        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            return wrote < 0 ? -errno : -EIO;
        }
        done += (size_t)wrote;
    }
    return (int64_t)len;
}

static int64_t read_all(int fd, char *out, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        ssize_t got = pread(fd, out + done, len - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    return (int64_t)done;
}

// Around the page cache if that works: nobody will read them, and they would push out what is read.
static int64_t write_zeros(const struct ph_file_handle *handle, const char *zeros, uint64_t size)
{
    bool direct = handle->direct_fd >= 0;
    int64_t result = 0;

    for (uint64_t at = 0; result >= 0 && at < size; at += PH_ALLOCATE_CHUNK_BYTES) {
        size_t left = (size_t)(size - at);
        size_t len = left < PH_ALLOCATE_CHUNK_BYTES ? left : PH_ALLOCATE_CHUNK_BYTES;

        direct = direct && write_all(handle->direct_fd, zeros, len, at) == (int64_t)len;
        result = direct ? (int64_t)len : write_all(handle->fd, zeros, len, at);
    }
    return result;
}

// Blocks reserved and written once: a synced write into them costs half of one that appends.
static int64_t allocate(struct file_job *job)
{
    int error = posix_fallocate(job->handle->fd, 0, (off_t)job->offset);
    char *zeros = NULL;
    int64_t result = -error;

    if (error == 0 && posix_memalign((void **)&zeros, 4096, PH_ALLOCATE_CHUNK_BYTES) != 0) {
        result = -ENOMEM;
    } else if (error == 0) {
        memset(zeros, 0, PH_ALLOCATE_CHUNK_BYTES);
        result = write_zeros(job->handle, zeros, job->offset);
        if (result >= 0) {
            result = fdatasync(job->handle->fd) == 0 ? 0 : -errno;
        }
    }
    free(zeros);
    return result;
}

static int64_t write_file(struct file_job *job)
{
    int64_t result;

    if (job->durable && job->handle->direct_fd >= 0) {
        struct iovec slice = {.iov_base = (void *)(uintptr_t)job->data, .iov_len = job->len};
        ssize_t wrote = pwritev2(job->handle->direct_fd, &slice, 1, (off_t)job->offset, RWF_DSYNC);

        if (wrote == (ssize_t)job->len) {
            return (int64_t)job->len;
        }
        if (wrote < 0 && errno != EINVAL && errno != EOPNOTSUPP) {
            return -errno;
        }
    }
    result = write_all(job->handle->fd, job->data, job->len, job->offset);
    if (result >= 0 && job->durable && fdatasync(job->handle->fd) != 0) {
        result = -errno;
    }
    return result;
}

static int64_t sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t result;

    if (fd < 0) {
        return -errno;
    }
    result = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return result;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int64_t list_directory(struct file_job *job)
{
    DIR *directory = opendir(job->path);
    struct dirent *entry;
    char **names = NULL;
    size_t count = 0;

    if (directory == NULL) {
        return -errno;
    }
    while ((entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            names = reallocarray(names, count + 1, sizeof(*names));
            PH_CHECK(names != NULL);
            names[count++] = ph_strdup(entry->d_name);
        }
    }
    closedir(directory);
    if (count > 0) {
        qsort(names, count, sizeof(*names), compare_names);
    }
    for (size_t i = 0; i < count; i++) {
        ph_buf_append_bytes(&job->names, names[i], strlen(names[i]) + 1);
        free(names[i]);
    }
    free(names);
    return 0;
}

static int64_t measure_space(struct file_job *job)
{
    struct statvfs space;

    if (statvfs(job->path, &space) != 0) {
        return -errno;
    }
    job->free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    job->total_bytes = (uint64_t)space.f_blocks * space.f_frsize;
    return 0;
}

static int64_t check_password(struct ph_password_op *op)
{
    struct crypt_data *data = ph_alloc(sizeof(*data));
    const char *made = crypt_r(op->password, op->hash, data);
    unsigned char differs = 0;
    size_t len = strlen(op->hash);

    // The same time, wherever they differ.
    if (made == NULL || made[0] == '*' || strlen(made) != len) {
        differs = 1;
    } else {
        for (size_t i = 0; i < len; i++) {
            differs |= (unsigned char)(made[i] ^ op->hash[i]);
        }
    }
    explicit_bzero(op->password, sizeof(op->password));
    explicit_bzero(data, sizeof(*data));
    free(data);
    return differs == 0 ? 1 : 0;
}

static void run(struct ph_offload_job *offload_job)
{
    struct file_job *job = PH_CONTAINER_OF(offload_job, struct file_job, job);
    struct stat status;

    switch (job->kind) {
    case JOB_OPEN:
        job->result = open_file(job);
        break;
    case JOB_ALLOCATE:
        job->result = allocate(job);
        break;
    case JOB_READ:
        job->result = read_all(job->handle->fd, job->out, job->len, job->offset);
        break;
    case JOB_WRITE:
        job->result = write_file(job);
        break;
    case JOB_SYNC:
        job->result = fdatasync(job->handle->fd) == 0 ? 0 : -errno;
        break;
    case JOB_SIZE:
        job->result = fstat(job->handle->fd, &status) == 0 ? (int64_t)status.st_size : -errno;
        break;
    case JOB_DIRECTORY_SYNC:
        job->result = sync_directory(job->path);
        break;
    case JOB_RENAME:
        job->result = rename(job->path, job->other_path) == 0 ? 0 : -errno;
        break;
    case JOB_UNLINK:
        job->result = unlink(job->path) == 0 ? 0 : -errno;
        break;
    case JOB_DIRECTORY_CREATE:
        job->result = mkdir(job->path, 0700) == 0 ? 0 : -errno;
        break;
    case JOB_DIRECTORY_LIST:
        job->result = list_directory(job);
        break;
    case JOB_SPACE_FREE:
        job->result = measure_space(job);
        break;
    case JOB_PASSWORD:
        job->result = check_password(PH_CONTAINER_OF(job->op, struct ph_password_op, op));
        break;
    }
}

static void finish(struct ph_offload_job *offload_job)
{
    struct file_job *job = PH_CONTAINER_OF(offload_job, struct file_job, job);

    if (job->kind == JOB_OPEN && job->result == 0) {
        *job->out_file = &job->handle->file;
    } else if (job->kind == JOB_DIRECTORY_LIST && job->result == 0) {
        ph_buf_append(job->out_names, ph_buf_str(&job->names));
    } else if (job->kind == JOB_SPACE_FREE && job->result == 0) {
        *job->out_free = job->free_bytes;
        *job->out_total = job->total_bytes;
    }
    ph_io_complete(job->io, job->op, job->result);
    ph_buf_deinit(&job->names);
    free(job->path);
    free(job->other_path);
    free(job);
}

static struct file_job *job_new(struct ph_file_pool *pool, enum job_kind kind, struct ph_op *op,
                                const char *path)
{
    struct file_job *job = ph_alloc(sizeof(*job));

    job->job.run = run;
    job->job.finish = finish;
    job->kind = kind;
    job->io = pool->sink.io;
    job->op = op;
    job->path = path != NULL ? ph_strdup(path) : NULL;
    return job;
}

static void submit(struct ph_file_pool *pool, struct file_job *job)
{
    ph_offload_submit(pool->offload, &pool->sink, &job->job);
}

void ph_file_jobs_open(struct ph_file_pool *pool, struct ph_op *op, const char *path, int flags,
                       struct ph_file **out_file)
{
    struct file_job *job = job_new(pool, JOB_OPEN, op, path);

    job->flags = flags;
    job->out_file = out_file;
    submit(pool, job);
}

void ph_file_jobs_close(struct ph_file *file)
{
    struct ph_file_handle *handle = (struct ph_file_handle *)file;

    close(handle->fd);
    if (handle->direct_fd >= 0) {
        close(handle->direct_fd);
    }
    free(handle);
}

void ph_file_jobs_allocate(struct ph_file_pool *pool, struct ph_file *file, struct ph_op *op,
                           uint64_t size)
{
    struct file_job *job = job_new(pool, JOB_ALLOCATE, op, NULL);

    job->handle = (struct ph_file_handle *)file;
    job->offset = size;
    submit(pool, job);
}

void ph_file_jobs_read(struct ph_file_pool *pool, struct ph_file *file, struct ph_op *op, void *out,
                       size_t len, uint64_t offset)
{
    struct file_job *job = job_new(pool, JOB_READ, op, NULL);

    job->handle = (struct ph_file_handle *)file;
    job->out = out;
    job->len = len;
    job->offset = offset;
    submit(pool, job);
}

void ph_file_jobs_write(struct ph_file_pool *pool, struct ph_file *file, struct ph_op *op,
                        const void *data, size_t len, uint64_t offset, bool durable)
{
    struct file_job *job = job_new(pool, JOB_WRITE, op, NULL);

    job->handle = (struct ph_file_handle *)file;
    job->data = data;
    job->len = len;
    job->offset = offset;
    job->durable = durable;
    submit(pool, job);
}

void ph_file_jobs_sync(struct ph_file_pool *pool, struct ph_file *file, struct ph_op *op)
{
    struct file_job *job = job_new(pool, JOB_SYNC, op, NULL);

    job->handle = (struct ph_file_handle *)file;
    submit(pool, job);
}

void ph_file_jobs_size(struct ph_file_pool *pool, struct ph_file *file, struct ph_op *op)
{
    struct file_job *job = job_new(pool, JOB_SIZE, op, NULL);

    job->handle = (struct ph_file_handle *)file;
    submit(pool, job);
}

void ph_file_jobs_directory_sync(struct ph_file_pool *pool, struct ph_op *op, const char *path)
{
    submit(pool, job_new(pool, JOB_DIRECTORY_SYNC, op, path));
}

void ph_file_jobs_rename(struct ph_file_pool *pool, struct ph_op *op, const char *from,
                         const char *to)
{
    struct file_job *job = job_new(pool, JOB_RENAME, op, from);

    job->other_path = ph_strdup(to);
    submit(pool, job);
}

void ph_file_jobs_unlink(struct ph_file_pool *pool, struct ph_op *op, const char *path)
{
    submit(pool, job_new(pool, JOB_UNLINK, op, path));
}

void ph_file_jobs_directory_create(struct ph_file_pool *pool, struct ph_op *op, const char *path)
{
    submit(pool, job_new(pool, JOB_DIRECTORY_CREATE, op, path));
}

void ph_file_jobs_directory_list(struct ph_file_pool *pool, struct ph_op *op, const char *path,
                                 struct ph_buf *out_names)
{
    struct file_job *job = job_new(pool, JOB_DIRECTORY_LIST, op, path);

    job->out_names = out_names;
    submit(pool, job);
}

void ph_file_jobs_space_free(struct ph_file_pool *pool, struct ph_op *op, const char *path,
                             uint64_t *out_free, uint64_t *out_total)
{
    struct file_job *job = job_new(pool, JOB_SPACE_FREE, op, path);

    job->out_free = out_free;
    job->out_total = out_total;
    submit(pool, job);
}

void ph_file_jobs_check_password(struct ph_file_pool *pool, struct ph_password_op *op)
{
    submit(pool, job_new(pool, JOB_PASSWORD, &op->op, NULL));
}
