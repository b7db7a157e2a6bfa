// What an administrator has suspended as a whole.
#include "engine/holds.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/keep_file.h"

#define PH_HOLDS_MAX 1000                    // ours
#define PH_HOLDS_BYTES_MAX ((size_t)1 << 20) // of the file; ours

struct hold {
    char *text; // of the query, as it stands in the file
    struct ph_queue_query query;
};

struct ph_holds {
    pthread_mutex_t lock;
    atomic_uint count; // read without the lock
    struct hold list[PH_HOLDS_MAX];
    char directory[PH_KEEP_PATH_MAX];
};

static bool is_of_queues(const struct ph_queue_query *query)
{
    return !query->by_id && query->sender.len == 0 && query->reason == PH_REASON_NONE &&
           query->state == PH_QUERY_ANY && query->older_ms == 0;
}

static bool append(struct ph_holds *holds, struct ph_str text)
{
    unsigned count = atomic_load(&holds->count);
    struct hold *hold = &holds->list[count];
    struct ph_buf copy = {0};
    struct ph_buf error = {0};
    bool good = count < PH_HOLDS_MAX && text.len > 0;

    if (good) {
        ph_buf_append(&copy, text);
        hold->text = ph_strdup(ph_buf_cstr(&copy));
        good = ph_queue_query_parse(ph_str_from(hold->text), &hold->query, &error) &&
               is_of_queues(&hold->query);
        if (good) {
            atomic_store(&holds->count, count + 1);
        } else {
            free(hold->text);
        }
    }
    ph_buf_deinit(&copy);
    ph_buf_deinit(&error);
    return good;
}

static void drop(struct ph_holds *holds, unsigned index)
{
    unsigned last = atomic_load(&holds->count) - 1;

    free(holds->list[index].text);
    holds->list[index] = holds->list[last];
    atomic_store(&holds->count, last);
}

struct ph_holds *ph_holds_create(struct ph_io *io, const char *spool_dir, struct ph_buf *error)
{
    struct ph_holds *holds = ph_alloc(sizeof(*holds));
    struct ph_buf text = {0};
    char path[PH_KEEP_PATH_MAX + 16];
    struct ph_str rest;
    struct ph_str line;
    int64_t result;

    pthread_mutex_init(&holds->lock, NULL);
    ph_str_copy(holds->directory, sizeof(holds->directory), ph_str_from(spool_dir));
    snprintf(path, sizeof(path), "%s/suspended", holds->directory);
    result = ph_keep_file_read(io, path, PH_HOLDS_BYTES_MAX, &text);
    if (result < 0 && result != -ENOENT) {
        ph_buf_printf(error, "%s can't be read (%s): what was suspended goes out", path,
                      strerror((int)-result));
    }
    rest = ph_buf_str(&text);
    while (ph_str_cut_line(&rest, &line)) {
        if (!append(holds, line)) {
            ph_buf_printf(error, "%s holds a line that can't be read: \"%.*s\"", path,
                          PH_STR_ARG(line));
        }
    }
    ph_buf_deinit(&text);
    return holds;
}

void ph_holds_destroy(struct ph_holds *holds)
{
    if (holds != NULL) {
        while (atomic_load(&holds->count) > 0) {
            drop(holds, 0);
        }
        pthread_mutex_destroy(&holds->lock);
        free(holds);
    }
}

bool ph_holds_match(struct ph_holds *holds, struct ph_str domain, struct ph_str connector)
{
    bool held = false;

    if (atomic_load_explicit(&holds->count, memory_order_relaxed) == 0) {
        return false;
    }
    pthread_mutex_lock(&holds->lock);
    for (unsigned i = 0; !held && i < atomic_load(&holds->count); i++) {
        held = ph_queue_query_matches_queue(&holds->list[i].query, domain, connector);
    }
    pthread_mutex_unlock(&holds->lock);
    return held;
}

// --- changes ---

// The file as a whole, durably: after a crash there is the old one or the new one.
static int write_durably(const char *directory, struct ph_str text)
{
    char path[PH_KEEP_PATH_MAX + 16];
    char new_path[PH_KEEP_PATH_MAX + 20];
    int file;
    int folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = 0;

    snprintf(path, sizeof(path), "%s/suspended", directory);
    snprintf(new_path, sizeof(new_path), "%s.new", path);
    file = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || folder < 0 || write(file, text.data, text.len) != (ssize_t)text.len ||
        fsync(file) != 0 || rename(new_path, path) != 0 || fsync(folder) != 0) {
        result = errno != 0 ? -errno : -EIO;
    }
    if (file >= 0) {
        close(file);
    }
    if (folder >= 0) {
        close(folder);
    }
    return result;
}

static int save(const struct ph_holds *holds, const bool *without, struct ph_str with)
{
    struct ph_buf text = {0};
    int result;

    for (unsigned i = 0; i < atomic_load(&holds->count); i++) {
        if (without == NULL || !without[i]) {
            ph_buf_printf(&text, "%s\n", holds->list[i].text);
        }
    }
    if (with.len > 0) {
        ph_buf_printf(&text, "%.*s\n", PH_STR_ARG(with));
    }
    result = write_durably(holds->directory, ph_buf_str(&text));
    ph_buf_deinit(&text);
    return result;
}

static bool same(const struct ph_queue_query *a, const struct ph_queue_query *b)
{
    return a->all == b->all && ph_str_eq_nocase(a->domain, b->domain) &&
           ph_str_eq_nocase(a->connector, b->connector);
}

int ph_holds_add(struct ph_holds *holds, const struct ph_queue_query *query, struct ph_str text,
                 bool *out_held)
{
    int result = 0;
    bool there = false;

    *out_held = false;
    text = ph_str_trim(text);
    if (!is_of_queues(query) || ph_str_find_char(text, '\n') >= 0) {
        return 0;
    }
    pthread_mutex_lock(&holds->lock);
    for (unsigned i = 0; i < atomic_load(&holds->count); i++) {
        there |= same(&holds->list[i].query, query);
    }
    if (!there) {
        result = atomic_load(&holds->count) < PH_HOLDS_MAX ? save(holds, NULL, text) : -ENOSPC;
        if (result == 0) {
            there = append(holds, text);
            PH_CHECK(there);
        }
    }
    *out_held = there;
    pthread_mutex_unlock(&holds->lock);
    return result;
}

int ph_holds_remove(struct ph_holds *holds, const struct ph_queue_query *query)
{
    bool gone[PH_HOLDS_MAX] = {false};
    bool any = false;
    struct ph_queue_query plain = *query;
    bool all;
    int result = 0;

    plain.state = PH_QUERY_ANY;
    if (!is_of_queues(&plain)) {
        return 0;
    }
    all = query->domain.len == 0 && query->connector.len == 0;
    pthread_mutex_lock(&holds->lock);
    for (unsigned i = 0; i < atomic_load(&holds->count); i++) {
        gone[i] = all || same(&holds->list[i].query, &plain);
        any |= gone[i];
    }
    if (any) {
        result = save(holds, gone, PH_STR_NONE);
    }
    for (unsigned i = atomic_load(&holds->count); any && result == 0 && i > 0; i--) {
        if (gone[i - 1]) {
            drop(holds, i - 1);
        }
    }
    pthread_mutex_unlock(&holds->lock);
    return result;
}
