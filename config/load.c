// A configuration from the disk.
#include "config/load.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

struct ph_config *ph_config_load(const char *path, struct ph_buf *errors, struct ph_buf *warnings)
{
    struct timespec now = {0};
    struct ph_config_files files = {.read = read_file, .expand = expand_glob};
    struct ph_config *config = NULL;
    struct ph_buf text = {0};
    struct ph_buf error = {0};
    unsigned mode;

    clock_gettime(CLOCK_REALTIME, &now);
    files.now_s = now.tv_sec;
    if (!read_file(NULL, path, &text, &mode, &error)) {
        ph_buf_printf(errors, "%s:1: C27 file: %.*s\n", path, PH_STR_ARG(ph_buf_str(&error)));
    } else {
        config = ph_config_parse_text(path, ph_buf_str(&text), &files, errors, warnings);
    }
    ph_buf_deinit(&text);
    ph_buf_deinit(&error);
    return config;
}
