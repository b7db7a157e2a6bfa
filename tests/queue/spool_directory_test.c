#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "spool_fixture.h"

static struct disk disk;

static int open_directory(uint16_t *logs, struct ph_spool_directory **out, struct ph_buf *error)
{
    ph_buf_clear(error);
    return ph_spool_directory_open(&disk.io, "/s", 0, logs, out, error);
}

Test(spool_directory, the_seed_is_kept_twice)
{
    static const char *const names[] = {"/s/format", "/s/format.copy"};
    struct ph_spool_directory *directory;
    struct ph_buf error = {0};
    uint16_t logs = 2;
    char text[256];

    disk_init(&disk);
    cr_assert_eq(open_directory(&logs, &directory, &error), 0);
    ph_spool_directory_close(directory);
    snprintf(text, sizeof(text), "%.*s", (int)disk_find(&disk, names[0])->len,
             disk_find(&disk, names[0])->data);
    for (size_t which = 0; which < 2; which++) {
        for (size_t at = 0; at < strlen(text); at++) {
            logs = 2;
            disk_find(&disk, names[which])->data[at] ^= 2;
            cr_assert_eq(open_directory(&logs, &directory, &error), 0, "byte %zu: %s", at,
                         ph_buf_cstr(&error));
            ph_spool_directory_close(directory);
            cr_expect_eq(logs, 2);
            cr_assert_eq(memcmp(disk_find(&disk, names[which])->data, text, strlen(text)), 0,
                         "byte %zu isn't mended", at);
        }
    }
    // Both: refused, and nothing is made anew.
    disk_find(&disk, names[0])->data[30] ^= 2;
    disk_find(&disk, names[1])->data[30] ^= 2;
    cr_expect(open_directory(&logs, &directory, &error) < 0);
    cr_expect(strstr(ph_buf_cstr(&error), "damaged; restore one") != NULL);
    ph_buf_deinit(&error);
    disk_deinit(&disk);
}

Test(spool_directory, logs_without_a_format_are_no_new_spool)
{
    struct ph_spool_directory *directory;
    struct ph_buf error = {0};
    struct fixture *f = calloc(1, sizeof(*f));
    uint16_t logs = 1;

    disk_init(&disk);
    fixture_open(f, &disk);
    fixture_close(f);
    disk_find(&disk, "/s/format")->exists = false;
    disk_find(&disk, "/s/format.copy")->exists = false;
    // The disk knows directories by the files in them: a name stands for the log.
    snprintf(disk_find(&disk, "/s/log-000/seg-00000.dat")->path, 160, "/s/log-000");
    cr_expect(open_directory(&logs, &directory, &error) < 0);
    cr_expect(strstr(ph_buf_cstr(&error), "missing") != NULL, "%s", ph_buf_cstr(&error));
    ph_buf_deinit(&error);
    free(f);
    disk_deinit(&disk);
}

Test(spool_directory, one_process_at_a_time_and_versions)
{
    struct ph_spool_directory *directory;
    struct ph_spool_directory *other;
    struct ph_buf error = {0};
    uint16_t logs = 1;

    disk_init(&disk);
    cr_assert_eq(open_directory(&logs, &directory, &error), 0);
    cr_expect_eq(open_directory(&logs, &other, &error), -EWOULDBLOCK);
    cr_expect(strstr(ph_buf_cstr(&error), "another posthaste has it") != NULL);
    ph_spool_directory_close(directory);
    // More workers: more logs; fewer: all the logs there are.
    logs = 3;
    cr_assert_eq(open_directory(&logs, &directory, &error), 0);
    ph_spool_directory_close(directory);
    logs = 1;
    cr_assert_eq(open_directory(&logs, &directory, &error), 0);
    cr_expect_eq(logs, 3);
    ph_spool_directory_close(directory);
    disk_find(&disk, "/s/format")->data[16] = '7';
    disk_find(&disk, "/s/format.copy")->data[16] = '7';
    cr_expect_eq(open_directory(&logs, &directory, &error), -EPROTONOSUPPORT);
    cr_expect(strstr(ph_buf_cstr(&error), "has format 7") != NULL, "%s", ph_buf_cstr(&error));
    ph_buf_deinit(&error);
    disk_deinit(&disk);
}

// To look at a spool that isn't there makes none.
Test(spool_directory, nothing_to_look_at)
{
    struct ph_spool_directory *directory;
    struct ph_buf error = {0};
    uint16_t logs = 0;

    disk_init(&disk);
    cr_expect_eq(open_directory(&logs, &directory, &error), -ENOENT);
    cr_expect_null(disk_find(&disk, "/s/format"));
    ph_buf_deinit(&error);
    disk_deinit(&disk);
}
