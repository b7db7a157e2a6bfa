// Directories: names as they are seen, and as they are on the disk.
#include <stdlib.h>
#include <string.h>

#include "tests/sim/disk_parts.h"

static size_t place_of(const struct names *names, const char *path)
{
    size_t low = 0;
    size_t high = names->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (strcmp(names->entries[middle].path, path) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct entry *sim_names_find(const struct names *names, const char *path)
{
    size_t at = place_of(names, path);

    return at < names->count && strcmp(names->entries[at].path, path) == 0 ? &names->entries[at]
                                                                           : NULL;
}

void sim_names_put(struct names *names, const char *path, struct inode *inode)
{
    struct entry *found = sim_names_find(names, path);
    size_t at = place_of(names, path);

    if (found != NULL) {
        found->inode = inode;
        return;
    }
    names->entries = reallocarray(names->entries, names->count + 1, sizeof(*names->entries));
    PH_CHECK(names->entries != NULL);
    memmove(&names->entries[at + 1], &names->entries[at],
            (names->count - at) * sizeof(*names->entries));
    names->count++;
    names->entries[at].inode = inode;
    ph_str_copy(names->entries[at].path, SIM_PATH_MAX, ph_str_from(path));
}

void sim_names_remove(struct names *names, const char *path)
{
    struct entry *found = sim_names_find(names, path);

    if (found != NULL) {
        size_t at = (size_t)(found - names->entries);

        memmove(found, found + 1, (names->count - at - 1) * sizeof(*found));
        names->count--;
    }
}

bool sim_names_in_directory(const char *path, const char *directory)
{
    size_t len = strlen(directory);

    return strncmp(path, directory, len) == 0 && path[len] == '/' &&
           strchr(path + len + 1, '/') == NULL;
}

bool sim_names_parent_exists(const struct names *names, const char *path)
{
    const char *slash = strrchr(path, '/');
    char parent[SIM_PATH_MAX];

    ph_str_copy(parent, sizeof(parent),
                (struct ph_str){.data = path, .len = (size_t)(slash - path)});
    return parent[0] == '\0' || sim_names_find(names, parent) != NULL;
}

void sim_disk_carry_out(struct names *names, const struct change *change)
{
    switch (change->kind) {
    case CHANGE_ADD:
        sim_names_put(names, change->path, change->inode);
        break;
    case CHANGE_REMOVE:
        sim_names_remove(names, change->path);
        break;
    case CHANGE_RENAME:
        sim_names_remove(names, change->from);
        sim_names_put(names, change->path, change->inode);
        break;
    }
}

void sim_disk_change(struct sim_disk *disk, enum change_kind kind, const char *path,
                     const char *from, struct inode *inode)
{
    struct change *change = ph_alloc(sizeof(*change));

    change->kind = kind;
    change->inode = inode;
    ph_str_copy(change->path, SIM_PATH_MAX, ph_str_from(path));
    ph_str_copy(change->from, SIM_PATH_MAX, ph_str_from(from != NULL ? from : ""));
    STAILQ_INSERT_TAIL(&disk->changes, change, link);
    sim_disk_carry_out(&disk->names, change);
}

void sim_disk_sync_names(struct sim_disk *disk, const char *directory)
{
    struct change_list left = STAILQ_HEAD_INITIALIZER(left);
    struct change *change;

    while ((change = STAILQ_FIRST(&disk->changes)) != NULL) {
        STAILQ_REMOVE_HEAD(&disk->changes, link);
        if (sim_names_in_directory(change->path, directory)) {
            sim_disk_carry_out(&disk->durable, change);
            free(change);
        } else {
            STAILQ_INSERT_TAIL(&left, change, link);
        }
    }
    STAILQ_CONCAT(&disk->changes, &left);
}
