#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/spool_parts.h"
#include "spool_fixture.h"

static struct fixture f;
static struct disk disk;
static struct found_message expected[FIXTURE_MESSAGES_MAX];
static unsigned expected_count;

static const struct ph_outcome_record waiting = {.state = PH_QUEUED_WAITING,
                                                 .attempts = 2,
                                                 .due_ms = 4711,
                                                 .kind = PH_REASON_RCPT_REJECTED,
                                                 .text = PH_STR("not now")};

// Some segments full of messages in every state, told of at once or by later segments.
static void live(void)
{
    struct ph_spool_location locations[120];
    uint64_t ids[120];
    uint32_t first = 0;

    disk_init(&disk);
    fixture_open(&f, &disk);
    for (unsigned i = 0; i < 120; i++) {
        ids[i] = fixture_put(&f, i, 6000, i % 4 == 1, &locations[i]);
        if (i % 3 == 0) {
            ph_spool_attempt(f.spool, NULL, ids[i], &first, 1);
        }
        if (i % 3 == 1 && i >= 40) {
            ph_spool_outcome(f.spool, NULL, ids[i - 40], &waiting);
        }
        if (i % 3 == 2 && i >= 40) {
            ph_spool_done(f.spool, NULL, ids[i - 40], &locations[i - 40]);
        }
        if (i % 10 == 9) {
            ph_spool_delay_notified(f.spool, ids[i]);
        }
        if (i % 4 == 1 && i % 8 == 5) {
            ph_spool_unattempt(f.spool, ids[i]);
        }
        if (i == 100) {
            cr_assert_eq(fixture_copy(&f, ids[4], &locations[4], &waiting, 1), 0);
        }
    }
    fixture_settle(&f);
    fixture_close(&f);
}

static struct disk_file *each_segment(unsigned *at)
{
    while (*at < DISK_FILES_MAX) {
        struct disk_file *file = &disk.files[(*at)++];

        if (file->exists && strstr(file->path, "/seg-") != NULL) {
            return file;
        }
    }
    return NULL;
}

static void forget_summaries(void)
{
    struct disk_file *file;

    for (unsigned at = 0; (file = each_segment(&at)) != NULL;) {
        memset(file->data + file->len - PH_SUMMARY_FOOT_BYTES, 0, PH_SUMMARY_FOOT_BYTES);
    }
}

static void remember(void)
{
    memcpy(expected, f.found, sizeof(expected));
    expected_count = f.found_count;
}

static void expect_the_same(void)
{
    cr_assert_eq(f.found_count, expected_count);
    for (unsigned i = 0; i < expected_count; i++) {
        const struct found_message *a = &f.found[i];
        const struct found_message *b = &expected[i];

        cr_expect(
            a->id == b->id && a->size == b->size && a->recipient_count == b->recipient_count &&
                a->delay_notified == b->delay_notified &&
                a->location.segment == b->location.segment &&
                a->location.offset == b->location.offset && a->location.len == b->location.len &&
                a->first.state == b->first.state && a->first.in_doubt == b->first.in_doubt &&
                a->first.attempts == b->first.attempts && a->first.due_ms == b->first.due_ms &&
                a->first.kind == b->first.kind,
            "message %u", i);
    }
}

// The spool without its summaries is the oracle.
static void find_the_truth(struct disk *whole)
{
    disk_copy(whole, &disk);
    forget_summaries();
    fixture_open(&f, &disk);
    cr_assert_eq(f.report.summaries, 0);
    cr_assert_eq(f.report.quarantined_records, 0);
    remember();
    fixture_close(&f);
    disk_deinit(&disk);
    disk_copy(&disk, whole);
}

Test(spool_summary, a_start_finds_the_same)
{
    static struct disk whole;

    live();
    find_the_truth(&whole);
    cr_assert(expected_count > 60, "%u", expected_count);
    fixture_open(&f, &disk);
    cr_expect(f.report.summaries >= 3, "%llu", (unsigned long long)f.report.summaries);
    expect_the_same();
    for (unsigned i = 0; i < f.found_count; i++) {
        unsigned number = (unsigned)(f.found[i].id & 0xffff) - 1;

        cr_expect_eq(fixture_load(&f, f.found[i].id, &f.found[i].location, number, 6000), 0);
    }
    // And so does the next, with what came meanwhile.
    fixture_reopen(&f);
    expect_the_same();
    fixture_close(&f);
    disk_deinit(&whole);
    disk_deinit(&disk);
}

// A flipped bit anywhere in a summary costs its segment's reading and nothing else.
Test(spool_summary, flipped_bits)
{
    static struct disk whole;
    struct disk_file *file;
    unsigned rotten = 0;

    live();
    find_the_truth(&whole);
    for (uint64_t flip = 1; flip < 9000; flip += 311) {
        for (unsigned at = 0; (file = each_segment(&at)) != NULL;) {
            struct ph_summary_foot foot;

            if (ph_summary_foot_decode((struct ph_str){file->data, file->len}, &foot)) {
                uint64_t len = ph_summary_foot_disk_bytes(&foot);

                file->data[file->len - 1 - flip % len] ^= (char)(1 << flip % 8);
                rotten++;
            }
        }
        fixture_open(&f, &disk);
        cr_expect_eq(f.report.quarantined_records, 0);
        expect_the_same();
        fixture_close(&f);
        disk_deinit(&disk);
        disk_copy(&disk, &whole);
    }
    cr_expect(rotten > 80, "%u", rotten);
    disk_deinit(&whole);
    disk_deinit(&disk);
}

#define SEALS_MAX 32

// Messages through some segments. A put with two durable writes has a seal, whose summary's write
// is the first of them: `seals` has their numbers, or says which shall fail.
static unsigned pass(unsigned seals[SEALS_MAX], bool failing)
{
    struct ph_spool_location location;
    unsigned count = 0;

    disk_init(&disk);
    disk.fail_errno = EIO;
    fixture_open(&f, &disk);
    for (unsigned i = 0; i < 120; i++) {
        unsigned before = disk.writes;

        if (failing && seals[count] == before + 1) {
            disk.fail_from = before + 1;
            disk.fail_count = 1;
        }
        fixture_put(&f, i, 6000, false, &location);
        if (disk.writes == before + 2) {
            cr_assert(count < SEALS_MAX);
            seals[count++] = before + 1;
        }
    }
    fixture_settle(&f);
    cr_expect_eq(ph_spool_stats(f.spool).poisoned, 0);
    cr_expect_eq(ph_spool_stats(f.spool).messages_live, 120);
    return count;
}

// The write of a summary fails: nobody's message does, and the segment is read.
Test(spool_summary, a_write_that_fails_costs_nothing)
{
    unsigned seals[SEALS_MAX] = {0};
    unsigned count = pass(seals, false);

    cr_assert(count >= 4, "%u", count);
    fixture_reopen(&f);
    cr_expect(f.report.summaries == count && f.found_count == 120);
    fixture_close(&f);
    disk_deinit(&disk);
    cr_expect_eq(pass(seals, true), count);
    fixture_reopen(&f);
    cr_expect(f.report.summaries == 0 && f.found_count == 120);
    cr_expect_eq(f.report.quarantined_records, 0);
    fixture_close(&f);
    disk_deinit(&disk);
}

// The first group of the next segment fails: what follows goes to another one, not behind what was
// sealed, where the summary may be on its way.
Test(spool_summary, nothing_goes_behind_a_seal)
{
    struct ph_spool_location last = {0};
    struct ph_spool_location location;
    unsigned failed = 0;
    uint64_t id;

    disk_init(&disk);
    disk.fail_errno = EIO;
    fixture_open(&f, &disk);
    for (unsigned i = 0; i < 120; i++) {
        bool behind_failure = false;

        disk.fail_from = disk.writes + 2; // behind a summary's
        disk.fail_count = 1;
        while (fixture_try(&f, i, 6000, &id, &location) != 0) {
            behind_failure = true;
            failed++;
        }
        cr_expect(!behind_failure || location.segment > last.segment, "message %u", i);
        last = location;
    }
    disk.fail_count = 0;
    fixture_settle(&f);
    cr_expect(failed >= 4, "%u", failed);
    fixture_reopen(&f);
    cr_expect_eq(f.report.quarantined_records, 0, "%s", f.report.detail);
    cr_expect_eq(f.found_count, 120);
    cr_expect(f.report.summaries >= 4, "%llu", (unsigned long long)f.report.summaries);
    fixture_close(&f);
    disk_deinit(&disk);
}

// A file whose end holds this segment's summary, and the foot of it.
static struct disk_file *summarized(struct ph_summary_foot *out_foot)
{
    struct disk_file *file;

    for (unsigned at = 0; (file = each_segment(&at)) != NULL;) {
        uint64_t number;

        memcpy(&number, file->data + 16, sizeof(number));
        if (ph_summary_foot_decode((struct ph_str){file->data, file->len}, out_foot) &&
            number == out_foot->segment) {
            return file;
        }
    }
    return NULL;
}

// Puts a sound summary in the place of the one that is there: of its first `groups` groups alone.
static void shorten(struct disk_file *file, const struct ph_summary_foot *foot, unsigned groups)
{
    struct ph_buf error = {0};
    struct ph_summary summary;
    struct ph_group group;
    uint64_t at = PH_SEGMENT_HEAD_BYTES;
    uint64_t spool_seed;
    uint64_t len;

    cr_assert_eq(ph_spool_read_seed(&disk.io, "/s", &spool_seed, &error), 0);
    ph_summary_init(&summary, 1);
    for (unsigned i = 0; i < groups; i++) {
        struct ph_record record;
        struct ph_str rest;
        uint32_t record_at = (uint32_t)at + PH_GROUP_HEAD_BYTES;

        cr_assert(ph_group_decode((struct ph_str){file->data + at, 64}, &group));
        ph_summary_group(&summary, &group);
        rest = (struct ph_str){file->data + record_at, group.meta_len};
        while (ph_record_walk(&rest, &record)) {
            ph_summary_take(&summary, &record, record_at);
            record_at += record.len;
        }
        at += ph_group_disk_bytes(&group);
    }
    memset(file->data + foot->used, 0, file->len - foot->used);
    len = ph_summary_disk_bytes(&summary);
    ph_summary_encode(&summary, foot->segment, at, ph_record_seed(spool_seed, foot->segment),
                      file->data + file->len - len);
    ph_summary_deinit(&summary);
}

// Sound, and older than what stands behind it: it isn't believed.
Test(spool_summary, never_instead_of_newer_state)
{
    struct ph_summary_foot foot;
    struct disk_file *file;
    uint64_t summaries;

    live();
    fixture_open(&f, &disk);
    remember();
    summaries = f.report.summaries;
    fixture_close(&f);
    file = summarized(&foot);
    cr_assert_not_null(file);
    shorten(file, &foot, 5);
    fixture_open(&f, &disk);
    cr_expect_eq(f.report.summaries, summaries - 1);
    cr_expect_eq(f.report.quarantined_records, 0);
    expect_the_same();
    fixture_close(&f);
    disk_deinit(&disk);
}

// `spool check` reads everything, and holds the summaries to it.
Test(spool_summary, check_tells_of_them)
{
    struct ph_summary_foot foot;
    struct disk_file *file;
    struct ph_buf report = {0};

    live();
    fixture_open_offline(&f, &disk);
    cr_expect(f.report.summaries >= 3 && f.report.summaries_damaged == 0 &&
              f.report.summaries_wrong == 0);
    fixture_close(&f);
    file = summarized(&foot);
    cr_assert_not_null(file);
    file->data[file->len - 30] ^= 1;
    cr_expect_eq(ph_spool_check(&disk.io, "/s", false, &report), 0, "%s", ph_buf_cstr(&report));
    cr_expect(strstr(ph_buf_cstr(&report), "1 summaries can't be read") != NULL, "%s",
              ph_buf_cstr(&report));
    file->data[file->len - 30] ^= 1;
    shorten(file, &foot, 5);
    ph_buf_clear(&report);
    cr_expect_eq(ph_spool_check(&disk.io, "/s", false, &report), 1);
    cr_expect(strstr(ph_buf_cstr(&report), "say what isn't so") != NULL, "%s",
              ph_buf_cstr(&report));
    ph_buf_deinit(&report);
    disk_deinit(&disk);
}
