#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spool_fixture.h"

static struct fixture f;
static struct disk disk;

static void start(void)
{
    disk_init(&disk);
    fixture_open(&f, &disk);
}

static void finish(void)
{
    fixture_close(&f);
    disk_deinit(&disk);
}

static void nothing(struct ph_op *op)
{
    (void)op;
}

// A large content in pieces, then its record.
static uint64_t put_large(size_t len, struct ph_spool_location *out)
{
    struct ph_envelope_recipient recipient = {
        .address = PH_STR("u@d.test"), .domain = PH_STR("d.test"), .orcpt = PH_STR_NONE};
    struct ph_envelope envelope = {.reverse_path = PH_STR("s@e.test"),
                                   .envid = PH_STR_NONE,
                                   .sender = PH_STR("e.test"),
                                   .connector = PH_STR("in"),
                                   .client_name = PH_STR_NONE,
                                   .client_address = PH_STR_NONE,
                                   .recipients = &recipient,
                                   .recipient_count = 1};
    static char bytes[PH_SPOOL_EXTENT_BYTES_MAX];
    uint64_t id = ph_spool_take_id(f.spool);
    struct ph_spool_ticket ticket = {0};
    struct ph_spool_writer *writer;
    struct ph_content *content;

    memset(bytes, 'a', sizeof(bytes));
    ph_op_init(&ticket.op, nothing, NULL);
    cr_assert_eq(ph_spool_writer_create(f.spool, id, &writer), PH_SPOOL_OK);
    for (size_t at = 0; at < len; at += sizeof(bytes)) {
        size_t part = len - at < sizeof(bytes) ? len - at : sizeof(bytes);

        cr_assert_eq(ph_spool_writer_append(writer, &ticket, (struct ph_str){bytes, part}),
                     PH_SPOOL_OK);
        fixture_wait(&f, &ticket.op);
        cr_assert_eq(ticket.op.result, 0);
    }
    cr_assert_eq(ph_spool_append(f.spool, &ticket,
                                 &(struct ph_spool_append_options){
                                     .id = id, .envelope = &envelope, .take_extents = writer},
                                 &content),
                 PH_SPOOL_OK);
    cr_assert_null(content);
    fixture_wait(&f, &ticket.op);
    *out = ticket.location;
    return id;
}

Test(spool_load, a_damaged_content_is_set_aside)
{
    struct ph_spool_location location;
    char path[64];
    uint64_t id;

    start();
    id = fixture_put(&f, 3, 3000, false, &location);
    disk_find(&disk, "/s/log-000/seg-00001.dat")->data[8192 + 1000] ^= 1;
    cr_expect_eq(fixture_load(&f, id, &location, 3, 3000), -EBADMSG);
    fixture_settle(&f);
    snprintf(path, sizeof(path), "/s/quarantine/message-%016llx", (unsigned long long)id);
    cr_assert_not_null(disk_find(&disk, path));
    cr_expect(disk_find(&disk, path)->len > 3000);
    finish();
}

// What the disk has may be right all the same: nobody is told before the same place is wrong twice.
// Each try reads the record, then the content.
Test(spool_load, a_misread_is_no_damage)
{
    struct ph_spool_location location;
    uint64_t id;

    start();
    id = fixture_put(&f, 3, 3000, false, &location);
    disk.misreads = 0x1;
    cr_expect_eq(fixture_load(&f, id, &location, 3, 3000), 0, "the record once");
    disk.misreads = 0x2;
    cr_expect_eq(fixture_load(&f, id, &location, 3, 3000), 0, "the content once");
    disk.misreads = 0x5;
    cr_expect_eq(fixture_load(&f, id, &location, 3, 3000), 0, "each of them once");
    disk.misreads = 0x3;
    cr_expect_eq(fixture_load(&f, id, &location, 3, 3000), -EBADMSG, "the record twice");
    disk.misreads = 0xa;
    cr_expect_eq(fixture_load(&f, id, &location, 3, 3000), -EBADMSG, "the content twice");
    finish();
}

Test(spool_load, a_large_content)
{
    struct ph_spool_location location;
    const struct found_message *found;
    size_t len = 3 * PH_SPOOL_EXTENT_BYTES_MAX + 17;
    char path[64];
    uint64_t id;

    start();
    id = put_large(len, &location);
    cr_expect_eq(fixture_load(&f, id, &location, 0, len), 0);
    // Its record is copied forward; the file stays where it is.
    cr_expect_eq(fixture_copy(&f, id, &location, NULL, 0), 0);
    fixture_reopen(&f);
    found = fixture_found(&f, id);
    cr_assert_not_null(found);
    location = found->location;
    cr_expect_eq(found->size, len);
    cr_expect_eq(fixture_load(&f, id, &location, 0, len), 0);
    snprintf(path, sizeof(path), "/s/log-000/big-%016llx.eml", (unsigned long long)id);
    disk_find(&disk, path)->data[PH_SPOOL_EXTENT_BYTES_MAX + 5] ^= 1;
    cr_expect_eq(fixture_load(&f, id, &location, 0, len), -EBADMSG);
    ph_spool_done(f.spool, NULL, id, &location);
    fixture_settle(&f);
    cr_expect_null(disk_find(&disk, path), "the file stays");
    finish();
}

// A segment isn't used again under a load that reads from it.
Test(spool_load, a_segment_that_is_read_stays)
{
    struct ph_spool_location first;
    struct ph_spool_location location;
    struct ph_spool_load load = {0};
    uint64_t id;

    start();
    id = fixture_put(&f, 3, 3000, false, &first);
    ph_op_init(&load.op, nothing, NULL);
    disk.hold_read = true;
    ph_spool_load(f.spool, &load, id, &first);
    ph_spool_done(f.spool, NULL, id, &first);
    // The read is under way meanwhile.
    for (unsigned i = 0; i < 40; i++) {
        uint64_t other = fixture_put(&f, 5, 20000, false, &location);

        ph_spool_done(f.spool, NULL, other, &location);
    }
    disk_release_read(&disk);
    fixture_wait(&f, &load.op);
    cr_assert_eq(load.op.result, 0);
    cr_expect_eq(((const char *)load.content->body[0].iov_base)[2999], 'd');
    ph_content_release(load.content);
    finish();
}
