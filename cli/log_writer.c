// The delivery log's writer.
#include "cli/log_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/thread.h"

// Lines are gathered for so long, lest the workers wake this thread each turn; less than the 50 ms
// that outcomes wait for their sync. Ours.
#define PH_LOG_WRITER_REST_NS (10 * PH_NS_PER_MS)
#define PH_LOG_WRITER_BATCH_BYTES ((size_t)256 << 10) // so many don't wait; ours

struct ph_log_writer {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_t thread;
    char *path; // of fd; the thread's own
    const char *header;
    int fd;
    struct ph_buf waiting;
    bool ending;
    bool reopen;
    int moved_fd; // takes the place of fd; -1: none
    char *moved_path;
    bool writing; // lines are on their way to the file
    bool hurry;   // somebody waits for that
    pthread_cond_t written;
    bool resting; // lines that come meanwhile needn't wake it
    uint64_t dropped;
};

// A line that a crash cut off ends here: what follows it is whole.
static void begin_file(int fd, const char *header)
{
    off_t size = lseek(fd, 0, SEEK_END);
    char last = '\n';

    if (size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n') {
        (void)!write(fd, "\n", 1);
    } else if (size == 0) {
        (void)!write(fd, header, strlen(header));
    }
}

static char *copy_path(struct ph_str path)
{
    char *copy = ph_alloc(path.len + 1);

    memcpy(copy, path.data, path.len);
    return copy;
}

static int open_log(const char *path, const char *header)
{
    int fd;

    if (path[0] == '\0') {
        return open("/dev/null", O_WRONLY | O_CLOEXEC);
    }
    fd = strcmp(path, "-") == 0 ? STDOUT_FILENO
                                : open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd >= 0 && fd != STDOUT_FILENO) {
        begin_file(fd, header);
    }
    return fd;
}

static void close_log(int fd)
{
    if (fd >= 0 && fd != STDOUT_FILENO) {
        close(fd);
    }
}

static uint64_t count_lines(struct ph_str text)
{
    uint64_t count = 0;

    for (size_t i = 0; i < text.len; i++) {
        count += text.data[i] == '\n';
    }
    return count;
}

// Returns how many bytes didn't go.
static size_t write_out(int fd, struct ph_str text)
{
    while (text.len > 0) {
        ssize_t wrote = write(fd, text.data, text.len);

        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            break;
        }
        text = ph_str_after(text, (size_t)wrote);
    }
    return text.len;
}

// With the lock held.
static void rest(struct ph_log_writer *writer)
{
    struct timespec until;
    int result = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)PH_LOG_WRITER_REST_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    writer->resting = true;
    while (result == 0 && !writer->ending && !writer->reopen && !writer->hurry &&
           writer->waiting.len < PH_LOG_WRITER_BATCH_BYTES) {
        result = pthread_cond_clockwait(&writer->work, &writer->lock, CLOCK_MONOTONIC, &until);
    }
    writer->resting = false;
}

static void *serve(void *argument)
{
    struct ph_log_writer *writer = argument;
    struct ph_buf lines = {0};
    bool failing = false;

    pthread_mutex_lock(&writer->lock);
    while (!writer->ending || writer->waiting.len > 0) {
        struct ph_buf swapped = lines;
        bool reopen = writer->reopen;
        size_t left;

        if (writer->waiting.len == 0 && !reopen) {
            pthread_cond_wait(&writer->work, &writer->lock);
            continue;
        }
        lines = writer->waiting;
        writer->waiting = swapped;
        writer->reopen = false;
        writer->writing = true;
        if (writer->moved_fd >= 0) {
            close_log(writer->fd);
            free(writer->path);
            writer->path = writer->moved_path;
            writer->moved_path = NULL;
            writer->fd = writer->moved_fd;
            writer->moved_fd = -1;
            reopen = false;
        }
        pthread_mutex_unlock(&writer->lock);
        if (reopen && writer->fd != STDOUT_FILENO) {
            int fd = open_log(writer->path, writer->header);

            if (fd >= 0) {
                close(writer->fd);
                writer->fd = fd;
            }
        }
        left = write_out(writer->fd, ph_buf_str(&lines));
        if (left > 0 && !failing) {
            ph_log(PH_LOG_ERROR, "the log %s can't be written: %s; lines are dropped", writer->path,
                   strerror(errno));
        }
        failing = left > 0;
        pthread_mutex_lock(&writer->lock);
        writer->dropped += count_lines(ph_str_after(ph_buf_str(&lines), lines.len - left));
        ph_buf_clear(&lines);
        writer->writing = false;
        pthread_cond_broadcast(&writer->written);
        rest(writer);
    }
    pthread_mutex_unlock(&writer->lock);
    ph_buf_deinit(&lines);
    return NULL;
}

struct ph_log_writer *ph_log_writer_create(struct ph_str path, const char *header)
{
    struct ph_log_writer *writer = ph_alloc(sizeof(*writer));

    writer->path = copy_path(path);
    writer->header = header;
    writer->fd = open_log(writer->path, writer->header);
    writer->moved_fd = -1;
    if (writer->fd < 0) {
        free(writer->path);
        free(writer);
        return NULL;
    }
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->work, NULL);
    pthread_cond_init(&writer->written, NULL);
    ph_thread_start(&writer->thread, serve, writer);
    return writer;
}

void ph_log_writer_destroy(struct ph_log_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    pthread_mutex_lock(&writer->lock);
    writer->ending = true;
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    close_log(writer->fd);
    close_log(writer->moved_fd);
    pthread_cond_destroy(&writer->work);
    pthread_cond_destroy(&writer->written);
    pthread_mutex_destroy(&writer->lock);
    ph_buf_deinit(&writer->waiting);
    free(writer->path);
    free(writer->moved_path);
    free(writer);
}

void ph_log_writer_put(struct ph_log_writer *writer, struct ph_str lines)
{
    pthread_mutex_lock(&writer->lock);
    if (writer->waiting.len + lines.len > PH_LOG_WRITER_BYTES_MAX) {
        writer->dropped += count_lines(lines);
    } else {
        bool wanted = writer->resting
                          ? writer->waiting.len < PH_LOG_WRITER_BATCH_BYTES &&
                                writer->waiting.len + lines.len >= PH_LOG_WRITER_BATCH_BYTES
                          : writer->waiting.len == 0;

        ph_buf_append(&writer->waiting, lines);
        if (wanted) {
            pthread_cond_signal(&writer->work);
        }
    }
    pthread_mutex_unlock(&writer->lock);
}

void ph_log_writer_flush(struct ph_log_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->hurry = true;
    pthread_cond_signal(&writer->work);
    while (writer->waiting.len > 0 || writer->writing) {
        pthread_cond_wait(&writer->written, &writer->lock);
    }
    writer->hurry = false;
    pthread_mutex_unlock(&writer->lock);
}

void ph_log_writer_reopen(struct ph_log_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->reopen = true;
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
}

bool ph_log_writer_move(struct ph_log_writer *writer, struct ph_str path)
{
    char *copy;
    int fd;
    bool same;

    pthread_mutex_lock(&writer->lock);
    same = ph_str_eq(path, ph_str_from(writer->moved_fd >= 0 ? writer->moved_path : writer->path));
    pthread_mutex_unlock(&writer->lock);
    if (same) {
        return true;
    }
    copy = copy_path(path);
    fd = open_log(copy, writer->header);
    if (fd < 0) {
        free(copy);
        return false;
    }
    ph_log_writer_flush(writer); // what was written so far is the old file's
    pthread_mutex_lock(&writer->lock);
    free(writer->moved_path);
    writer->moved_path = copy;
    close_log(writer->moved_fd);
    writer->moved_fd = fd;
    writer->reopen = true; // wakes it
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
    return true;
}

uint64_t ph_log_writer_dropped(struct ph_log_writer *writer)
{
    uint64_t dropped;

    pthread_mutex_lock(&writer->lock);
    dropped = writer->dropped;
    pthread_mutex_unlock(&writer->lock);
    return dropped;
}
