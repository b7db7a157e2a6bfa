#include <stdio.h>
#include <string.h>

#include "spool_fixture.h"

static struct fixture f;
static struct disk disk;

Test(spool_report, check_and_dump)
{
    struct ph_spool_location locations[3];
    struct ph_buf report = {0};
    uint64_t ids[3];

    disk_init(&disk);
    fixture_open(&f, &disk);
    fixture_put_group(&f, 0, 3, 60, ids, locations);
    fixture_close(&f);
    cr_expect_eq(ph_spool_check(&disk.io, "/s", false, &report), 0);
    cr_expect(strstr(ph_buf_cstr(&report), "3 messages, 0 damaged") != NULL, "%s",
              ph_buf_cstr(&report));
    ph_buf_clear(&report);
    cr_expect_eq(ph_spool_dump(&disk.io, "/s", false, true, &report), 0);
    cr_expect(strstr(ph_buf_cstr(&report), "0000000000000002 from <s@e.test> size 60") != NULL,
              "%s", ph_buf_cstr(&report));
    cr_expect(strstr(ph_buf_cstr(&report), "to <u@d.test>") != NULL);
    cr_expect(strstr(ph_buf_cstr(&report), "bbbbbbbbbb") != NULL);
    ph_buf_clear(&report);
    cr_expect_eq(ph_spool_dump(&disk.io, "/s", true, false, &report), 0);
    cr_expect(strstr(ph_buf_cstr(&report), "\"recipients\":[\"u@d.test\"]") != NULL);

    // A content's byte, found by reading all of them.
    disk_find(&disk, "/s/log-000/seg-00001.dat")->data[8192 + 70] ^= 1;
    ph_buf_clear(&report);
    cr_expect_eq(ph_spool_check(&disk.io, "/s", true, &report), 1);
    cr_expect(strstr(ph_buf_cstr(&report), "{\"messages\":3,\"damaged\":1}") != NULL, "%s",
              ph_buf_cstr(&report));
    cr_expect(strstr(ph_buf_cstr(&report), "message 0000000000000002 is damaged") != NULL);
    cr_expect_null(disk_find(&disk, "/s/quarantine/message-0000000000000002"),
                   "a look changes nothing");
    ph_buf_deinit(&report);
    disk_deinit(&disk);
}

Test(spool_report, where_there_is_no_spool)
{
    struct ph_buf report = {0};

    disk_init(&disk);
    cr_expect(ph_spool_check(&disk.io, "/s", false, &report) < 0);
    ph_buf_deinit(&report);
    disk_deinit(&disk);
}
