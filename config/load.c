// A configuration from the disk.
#include "config/load.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "config/snapshot_parts.h"

static bool read_file(void *owner, const char *path, struct ph_buf *out, unsigned *out_mode,
                      struct ph_buf *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    ssize_t got = 1;

    (void)owner;
    if (fd < 0 || fstat(fd, &status) != 0) {
        ph_buf_append(error, ph_str_from(strerror(errno)));
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    *out_mode = status.st_mode & 07777;
    while (got > 0) {
        char *room = ph_buf_reserve(out, 65536);

        got = room != NULL ? read(fd, room, 65536) : -1;
        if (got > 0) {
            ph_buf_grew(out, (size_t)got);
        }
    }
    if (got < 0) {
        ph_buf_append(error, ph_str_from(errno != 0 ? strerror(errno) : "too long"));
    }
    close(fd);
    return got == 0;
}

static bool expand_glob(void *owner, const char *pattern, struct ph_buf *out_names)
{
    glob_t found;

    (void)owner;
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            ph_buf_append_bytes(out_names, found.gl_pathv[i], strlen(found.gl_pathv[i]) + 1);
        }
    }
    globfree(&found);
    return true; // none is none
}

// What tells a file's state from another: not its content, which costs too much to look at so
// often.
static uint64_t watch_one(const char *path, uint64_t hash)
{
    struct stat status;

    if (stat(path, &status) != 0) {
        return ph_hash_bytes(&(int){errno}, sizeof(int), hash);
    }
    hash = ph_hash_bytes(&status.st_ino, sizeof(status.st_ino), hash);
    hash = ph_hash_bytes(&status.st_size, sizeof(status.st_size), hash);
    hash = ph_hash_bytes(&status.st_mtim, sizeof(status.st_mtim), hash);
    return ph_hash_bytes(&status.st_mode, sizeof(status.st_mode), hash);
}

static uint64_t watch(const struct ph_snapshot *snapshot)
{
    uint64_t hash = 1;

    for (size_t i = 0; i < snapshot->watched_count; i++) {
        char path[PATH_MAX];

        ph_str_copy(path, sizeof(path), snapshot->watched[i]);
        hash = watch_one(path, hash);
    }
    return hash;
}

static int64_t now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

static struct ph_snapshot *of(const struct ph_config *config)
{
    return PH_CONTAINER_OF(config, struct ph_snapshot, config);
}

static struct ph_config *load(const char *path, struct ph_str text, struct ph_config_files *files,
                              struct ph_buf *errors, struct ph_buf *warnings)
{
    struct ph_config *config;

    files->now_s = now_s();
    config = ph_config_parse_text(path, text, files, errors, warnings);
    if (config != NULL) {
        of(config)->watched_hash = watch(of(config));
    }
    return config;
}

struct ph_config *ph_config_load_text(const char *name, struct ph_str text, struct ph_buf *errors,
                                      struct ph_buf *warnings)
{
    struct ph_config_files files = {.read = read_file, .expand = expand_glob};

    return load(name, text, &files, errors, warnings);
}

static struct ph_config *load_file(const char *path, struct ph_config_files *files,
                                   struct ph_buf *errors, struct ph_buf *warnings)
{
    struct ph_config *config = NULL;
    struct ph_buf text = {0};
    struct ph_buf error = {0};
    unsigned mode;

    if (!read_file(NULL, path, &text, &mode, &error)) {
        ph_buf_printf(errors,
                      "%s:1: C27 file: can't be read (%.*s); write it as posthaste.conf(5) shows, "
                      "or name another with -c\n",
                      path, PH_STR_ARG(ph_buf_str(&error)));
    } else {
        config = load(path, ph_buf_str(&text), files, errors, warnings);
    }
    ph_buf_deinit(&text);
    ph_buf_deinit(&error);
    return config;
}

struct ph_config *ph_config_load(const char *path, struct ph_buf *errors, struct ph_buf *warnings)
{
    struct ph_config_files files = {.read = read_file, .expand = expand_glob};

    return load_file(path, &files, errors, warnings);
}

struct ph_config *ph_config_load_varied(const char *path,
                                        const struct ph_config_variation *variation,
                                        struct ph_buf *errors, struct ph_buf *warnings)
{
    struct ph_config_files files = {
        .read = read_file, .expand = expand_glob, .variation = variation};
    struct ph_config *config = load_file(path, &files, errors, warnings);

    if (config != NULL && !ph_config_use_only(config, variation->connector)) {
        ph_config_release(config);
        config = NULL;
    }
    return config;
}

// --- the same once more ---

static const struct ph_config_source *find_source(const struct ph_snapshot *snapshot,
                                                  const char *name, bool pattern)
{
    for (size_t i = 0; i < snapshot->source_count; i++) {
        if (snapshot->sources[i].pattern == pattern &&
            strcmp(snapshot->sources[i].name, name) == 0) {
            return &snapshot->sources[i];
        }
    }
    return NULL;
}

static bool read_again(void *owner, const char *path, struct ph_buf *out, unsigned *out_mode,
                       struct ph_buf *error)
{
    const struct ph_config_source *source = find_source(owner, path, false);

    if (source == NULL) {
        return read_file(NULL, path, out, out_mode, error);
    }
    *out_mode = 0600;
    return ph_buf_append(out, ph_buf_str(&source->text));
}

static bool expand_again(void *owner, const char *pattern, struct ph_buf *out_names)
{
    const struct ph_config_source *source = find_source(owner, pattern, true);

    return source == NULL ? expand_glob(NULL, pattern, out_names)
                          : ph_buf_append(out_names, ph_buf_str(&source->text));
}

bool ph_config_certificates_changed(const struct ph_config *config, uint64_t *out_state)
{
    const struct ph_snapshot *snapshot = of(config);
    bool time_came = now_s() >= config->certificates_until_s;

    *out_state = watch(snapshot) + time_came;
    return time_came || *out_state != snapshot->watched_hash;
}

struct ph_config *ph_config_load_again(const struct ph_config *config, struct ph_buf *errors,
                                       struct ph_buf *warnings)
{
    struct ph_snapshot *snapshot = of(config);
    struct ph_config_files files = {
        .read = read_again, .expand = expand_again, .owner = snapshot, .running = true};

    return load(snapshot->sources[0].name, ph_buf_str(&snapshot->sources[0].text), &files, errors,
                warnings);
}
