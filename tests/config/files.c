#include "tests/config/files.h"

#include <fnmatch.h>
#include <string.h>

static bool read_one(void *owner, const char *path, struct ph_buf *out, unsigned *out_mode,
                     struct ph_buf *error)
{
    struct files *files = owner;

    for (size_t i = 0; i < files->count; i++) {
        if (strcmp(files->name[i], path) == 0) {
            ph_buf_append(out, ph_buf_str(&files->text[i]));
            *out_mode = files->mode[i];
            return true;
        }
    }
    ph_buf_append(error, PH_STR("No such file or directory"));
    return false;
}

static bool expand(void *owner, const char *pattern, struct ph_buf *out_names)
{
    struct files *files = owner;

    for (size_t i = 0; i < files->count; i++) {
        if (fnmatch(pattern, files->name[i], FNM_PATHNAME) == 0) {
            ph_buf_append_bytes(out_names, files->name[i], strlen(files->name[i]) + 1);
        }
    }
    return true;
}

void files_init(struct files *files, int64_t now_s)
{
    *files = (struct files){
        .calls = {.read = read_one, .expand = expand, .owner = files, .now_s = now_s}};
}

void files_deinit(struct files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        ph_buf_deinit(&files->text[i]);
    }
}

struct ph_buf *files_add(struct files *files, const char *name, unsigned mode)
{
    files->name[files->count] = name;
    files->mode[files->count] = mode;
    return &files->text[files->count++];
}
