#include "queue/spool.h"

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

Test(spool, what_was_put_is_there_after_a_restart)
{
    struct ph_spool_location locations[40];
    uint64_t ids[40];

    start();
    for (unsigned i = 0; i < 40; i++) {
        ids[i] = fixture_put(&f, i, 1000 + i, false, &locations[i]);
    }
    cr_expect_eq(fixture_load(&f, ids[3], &locations[3], 3, 1003), 0);
    fixture_reopen(&f);
    cr_assert_eq(f.found_count, 40);
    for (unsigned i = 0; i < 40; i++) {
        cr_expect_eq(f.found[i].id, ids[i]);
        cr_expect_eq(fixture_load(&f, f.found[i].id, &f.found[i].location, i, 1000 + i), 0);
    }
    cr_expect_eq(f.in_doubt, 0);
    finish();
}

Test(spool, states)
{
    struct ph_spool_location locations[5];
    uint64_t ids[5];
    uint32_t first = 0;
    const struct found_message *waiting;

    start();
    for (unsigned i = 0; i < 5; i++) {
        ids[i] = fixture_put(&f, i, 100, i == 1 || i == 2, &locations[i]);
    }
    ph_spool_done(f.spool, NULL, ids[0], &locations[0]);
    ph_spool_unattempt(f.spool, ids[2]);
    ph_spool_outcome(f.spool, NULL, ids[3],
                     &(struct ph_outcome_record){.state = PH_QUEUED_WAITING,
                                                 .attempts = 2,
                                                 .due_ms = 99,
                                                 .kind = PH_REASON_RCPT_REJECTED,
                                                 .text = PH_STR("later")});
    ph_spool_delay_notified(f.spool, ids[3]);
    ph_spool_attempt(f.spool, NULL, ids[4], &first, 1);
    fixture_reopen(&f);
    cr_assert_eq(f.found_count, 4);
    cr_expect(fixture_found(&f, ids[1])->first.in_doubt);
    cr_expect(!fixture_found(&f, ids[2])->first.in_doubt);
    cr_expect(fixture_found(&f, ids[4])->first.in_doubt);
    waiting = fixture_found(&f, ids[3]);
    cr_expect(waiting->first.attempts == 2 && waiting->first.due_ms == 99 &&
              waiting->first.kind == PH_REASON_RCPT_REJECTED && waiting->delay_notified);
    finish();
}

// The largest envelope there may be is longer than what a group has room for at first.
Test(spool, a_thousand_long_recipients)
{
    struct ph_envelope_recipient recipients[PH_RECIPIENTS_MAX];
    static char orcpt[PH_ORCPT_BYTES_MAX];
    static char address[PH_ADDRESS_BYTES_MAX];
    struct ph_envelope envelope = {.reverse_path = PH_STR("s@e.test"),
                                   .envid = PH_STR_NONE,
                                   .sender = PH_STR("e.test"),
                                   .connector = PH_STR("in"),
                                   .client_name = PH_STR_NONE,
                                   .client_address = PH_STR_NONE,
                                   .recipients = recipients,
                                   .recipient_count = PH_RECIPIENTS_MAX};
    struct ph_spool_append_options options = {.envelope = &envelope, .content = PH_STR("hello")};
    struct ph_spool_ticket ticket = {0};
    struct ph_content *content;
    uint16_t logs = 1;
    struct ph_buf error = {0};

    disk_init(&disk);
    memset(orcpt, 'o', sizeof(orcpt));
    memset(address, 'a', sizeof(address));
    for (unsigned i = 0; i < PH_RECIPIENTS_MAX; i++) {
        recipients[i] = (struct ph_envelope_recipient){.address = {address, sizeof(address)},
                                                       .domain = PH_STR("d.test"),
                                                       .orcpt = {orcpt, sizeof(orcpt)}};
    }
    cr_assert_eq(ph_spool_directory_open(&disk.io, "/s", 0, &logs, &f.lock, &error), 0);
    for (unsigned round = 0; round < 2; round++) {
        f.disk = &disk;
        cr_assert_eq(ph_spool_open(&(struct ph_spool_options){.io = &disk.io,
                                                              .directory = "/s",
                                                              .message_segment_bytes = 4 << 20,
                                                              .content_memory_max = 1 << 30},
                                   NULL, NULL, &f.report, &f.spool, &error),
                     0);
        cr_expect_eq(f.report.messages, round);
        ph_op_init(&ticket.op, nothing, NULL);
        options.id = ph_spool_take_id(f.spool);
        cr_assert_eq(ph_spool_append(f.spool, &ticket, &options, &content), PH_SPOOL_OK);
        fixture_wait(&f, &ticket.op);
        cr_assert_eq(ticket.op.result, 0);
        cr_expect_eq(memcmp(content->body[0].iov_base, "hello", 5), 0);
        cr_expect(ph_str_eq(content->envelope.recipients[999].orcpt, recipients[999].orcpt));
        ph_content_release(content);
        ph_spool_close(f.spool);
    }
    ph_spool_directory_close(f.lock);
    disk_deinit(&disk);
}

// F1: a write that failed is refused, whatever of it reached the disk; what was said of other mail
// in the same group is said again, in the order it happened.
Test(spool, a_group_that_failed_never_counts)
{
    for (unsigned after = 0; after < 2; after++) {
        struct ph_spool_location locations[3];
        uint64_t ids[3];
        uint64_t refused;
        uint32_t first = 0;

        start();
        for (unsigned i = 0; i < 3; i++) {
            ids[i] = fixture_put(&f, i, 100, false, &locations[i]);
        }
        disk.fail_from = disk.writes + 1;
        disk.fail_count = 1;
        disk.fail_errno = EIO;
        disk.fail_after_writing = after;
        ph_spool_done(f.spool, NULL, ids[0], &locations[0]);
        ph_spool_outcome(f.spool, NULL, ids[1],
                         &(struct ph_outcome_record){.state = PH_QUEUED_WAITING,
                                                     .attempts = 1,
                                                     .kind = PH_REASON_RCPT_REJECTED});
        disk.hold = true;
        {
            // The next attempt is recorded while that group is under way.
            struct ph_spool_ticket ticket = {0};
            struct ph_spool_location unused;

            ph_op_init(&ticket.op, nothing, NULL);
            while (disk.held == NULL) {
                (void)ph_spool_flush(f.spool, disk.io.now_ns);
                disk_turn(&disk);
            }
            ph_spool_attempt(f.spool, &ticket, ids[1], &first, 1);
            disk.hold = false;
            disk_release(&disk);
            fixture_wait(&f, &ticket.op);
            cr_expect_eq(ticket.op.result, 0);
            // And one with a message.
            disk.fail_from = disk.writes + 1;
            disk.fail_count = 1;
            cr_expect_eq(fixture_try(&f, 5, 100, &refused, &unused), -EIO);
        }
        fixture_settle(&f);
        cr_expect_eq(ph_spool_stats(f.spool).health, PH_SPOOL_DEGRADED);
        fixture_put(&f, 2, 100, false, &locations[0]);
        fixture_reopen(&f);
        cr_expect_eq(f.found_count, 3, "%u", f.found_count);
        cr_expect_null(fixture_found(&f, refused));
        cr_expect_null(fixture_found(&f, ids[0]));
        cr_expect(fixture_found(&f, ids[1])->first.in_doubt, "the later attempt was forgotten");
        cr_expect_eq(fixture_found(&f, ids[1])->first.attempts, 1);
        cr_expect_eq(f.report.quarantined_records, 0);
        finish();
    }
}

// Two in a row: both are void, though only one segment follows them.
Test(spool, two_groups_that_failed)
{
    struct ph_spool_location location;
    uint64_t kept;
    uint64_t refused[2];

    start();
    kept = fixture_put(&f, 0, 100, false, &location);
    disk.fail_from = disk.writes + 1;
    disk.fail_count = 2;
    disk.fail_errno = EIO;
    disk.fail_after_writing = true;
    cr_expect_eq(fixture_try(&f, 1, 100, &refused[0], &location), -EIO);
    cr_expect_eq(fixture_try(&f, 1, 100, &refused[1], &location), -EIO);
    fixture_settle(&f);
    cr_expect_eq(ph_spool_stats(f.spool).health, PH_SPOOL_STOPPED);
    cr_expect_eq(fixture_try(&f, 1, 100, &refused[1], &location), -EIO, "it takes no more mail");
    fixture_reopen(&f);
    cr_assert_eq(f.found_count, 1, "%u", f.found_count);
    cr_expect_eq(f.found[0].id, kept);
    cr_expect_eq(f.report.quarantined_records, 0);
    finish();
}

// Deliveries go on where mail is refused, and mail is taken again when there is room.
Test(spool, a_full_disk_heals)
{
    static struct ph_spool_location locations[400];
    static uint64_t ids[400];
    unsigned count = 0;
    unsigned refused = 0;
    int64_t result = 0;

    disk_init(&disk);
    disk.space_total = 12 * FIXTURE_SEGMENT;
    fixture_open(&f, &disk);
    for (unsigned cycle = 0; cycle < 20; cycle++) {
        for (count = 0; count < 400; count++) {
            result = fixture_try(&f, count, 20000, &ids[count], &locations[count]);
            if (result < 0) {
                break;
            }
        }
        cr_assert(result == -ENOSPC && count > 50, "cycle %u: %u, %d", cycle, count, (int)result);
        refused++;
        cr_expect(ph_spool_stats(f.spool).full);
        // Half of them while it is full, …
        for (unsigned i = 0; i < count; i++) {
            ph_spool_outcome(f.spool, NULL, ids[i],
                             &(struct ph_outcome_record){.state = PH_QUEUED_DELIVERED});
            ph_spool_done(f.spool, NULL, ids[i], &locations[i]);
            if (i % 10 == 0) {
                fixture_settle(&f);
            }
        }
        // … and with nobody asking it sees that there is room.
        for (unsigned i = 0; i < 3000 && ph_spool_stats(f.spool).full; i++) {
            fixture_settle(&f);
        }
        cr_assert(!ph_spool_stats(f.spool).full, "cycle %u", cycle);
        cr_expect_eq(ph_spool_stats(f.spool).messages_live, 0);
    }
    cr_expect_eq(refused, 20);
    cr_expect_eq(ph_spool_stats(f.spool).poisoned, 0);
    fixture_reopen(&f);
    cr_expect_eq(f.found_count, 0);
    finish();
}

Test(spool, ids)
{
    char text[PH_MESSAGE_ID_TEXT_MAX];
    uint64_t id;

    cr_expect_str_eq(ph_message_id_format(UINT64_C(0x0003000000000abc), text), "0003000000000abc");
    cr_expect(ph_message_id_parse(PH_STR("0003000000000ABC"), &id) &&
              id == UINT64_C(0x0003000000000abc));
    cr_expect(!ph_message_id_parse(PH_STR("3"), &id));
    cr_expect(!ph_message_id_parse(PH_STR("000300000000000g"), &id));
}
