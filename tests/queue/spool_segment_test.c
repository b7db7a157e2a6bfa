#include <errno.h>
#include <stdio.h>
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

static void pass_through(unsigned count)
{
    struct ph_spool_location location;

    for (unsigned i = 0; i < count; i++) {
        uint64_t id = fixture_put(&f, i, 20000, false, &location);

        ph_spool_done(f.spool, NULL, id, &location);
    }
    fixture_settle(&f);
}

Test(spool_segment, segments_are_used_again)
{
    struct ph_spool_location location;
    struct ph_spool_stats stats;
    uint64_t kept;

    start();
    pass_through(300);
    kept = fixture_put(&f, 7, 500, false, &location);
    stats = ph_spool_stats(f.spool);
    cr_expect(stats.segments <= 3 && stats.segments_free <= 4, "%llu segments, %llu free",
              (unsigned long long)stats.segments, (unsigned long long)stats.segments_free);
    fixture_reopen(&f);
    cr_assert_eq(f.found_count, 1);
    cr_expect_eq(f.found[0].id, kept);
    cr_expect_eq(fixture_load(&f, kept, &f.found[0].location, 7, 500), 0);
    finish();
}

// One message that lingers for days while everything else passes: copied forward it holds on to
// nothing, with all that is known of it.
Test(spool_segment, one_that_lingers_is_copied_forward)
{
    struct ph_outcome_record state = {.state = PH_QUEUED_WAITING,
                                      .in_doubt = true,
                                      .attempts = 3,
                                      .due_ms = 4711,
                                      .kind = PH_REASON_IN_DOUBT};
    struct ph_spool_location location;
    const struct found_message *found;
    unsigned copies = 0;
    uint64_t kept;

    start();
    kept = fixture_put(&f, 7, 500, false, &location);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t below;

        pass_through(10);
        below = ph_spool_compact_below(f.spool);
        if (below > location.segment) {
            cr_assert_eq(fixture_copy(&f, kept, &location, &state, 1), 0);
            fixture_settle(&f);
            copies++;
        }
        cr_assert(ph_spool_stats(f.spool).segments <= 8, "%llu segments held",
                  (unsigned long long)ph_spool_stats(f.spool).segments);
    }
    cr_expect(copies >= 2);
    cr_expect_eq(ph_spool_stats(f.spool).messages_live, 1);
    fixture_reopen(&f);
    found = fixture_found(&f, kept);
    cr_assert(f.found_count == 1 && found != NULL);
    cr_expect(found->first.in_doubt && found->first.attempts == 3 && found->first.due_ms == 4711);
    cr_expect_eq(fixture_load(&f, kept, &found->location, 7, 500), 0);
    finish();
}

Test(spool_segment, what_is_mostly_live_is_left_alone)
{
    struct ph_spool_location location;

    start();
    for (unsigned i = 0; i < 100; i++) {
        fixture_put(&f, i, 20000, false, &location);
    }
    cr_expect(ph_spool_stats(f.spool).segments > 5);
    cr_expect_eq(ph_spool_compact_below(f.spool), 0);
    finish();
}

// A copy whose group failed: the original still counts, and so does what is said later.
Test(spool_segment, a_copy_that_failed)
{
    for (unsigned after = 0; after < 2; after++) {
        struct ph_spool_location location;
        uint64_t kept;
        const struct found_message *found;

        start();
        kept = fixture_put(&f, 7, 500, false, &location);
        disk.fail_from = disk.writes + 1;
        disk.fail_count = 1;
        disk.fail_errno = EIO;
        disk.fail_after_writing = after;
        cr_expect_eq(fixture_copy(&f, kept, &location, NULL, 0), -EIO);
        ph_spool_outcome(f.spool, NULL, kept,
                         &(struct ph_outcome_record){.state = PH_QUEUED_WAITING,
                                                     .attempts = 9,
                                                     .kind = PH_REASON_RCPT_REJECTED});
        fixture_reopen(&f);
        found = fixture_found(&f, kept);
        cr_assert_not_null(found, "a copy that is void took the message with it");
        cr_expect_eq(found->first.attempts, 9);
        cr_expect_eq(fixture_load(&f, kept, &found->location, 7, 500), 0);
        cr_expect_eq(ph_spool_stats(f.spool).messages_live, 1);
        finish();
    }
}

// Files that come and go through the years: their names are given out again.
Test(spool_segment, names_are_given_out_again)
{
    static struct ph_spool_location locations[120];
    static uint64_t ids[120];
    unsigned highest = 0;

    start();
    for (unsigned round = 0; round < 30; round++) {
        for (unsigned i = 0; i < 120; i++) {
            ids[i] = fixture_put(&f, i, 20000, false, &locations[i]);
        }
        for (unsigned i = 0; i < 120; i++) {
            ph_spool_done(f.spool, NULL, ids[i], &locations[i]);
        }
        fixture_settle(&f);
    }
    for (unsigned i = 0; i < DISK_FILES_MAX; i++) {
        unsigned slot;

        if (disk.files[i].exists &&
            sscanf(disk.files[i].path, "/s/log-000/seg-%05u.dat", &slot) == 1) {
            highest = slot > highest ? slot : highest;
        }
    }
    cr_expect(highest < 40, "%u", highest);
    finish();
}
