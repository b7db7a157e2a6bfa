// Covers: queue/spool_found queue/spool_quarantine
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/record.h"
#include "spool_fixture.h"

#define COUNT 9

static struct fixture f;
static struct disk disk;
static uint64_t ids[COUNT];
static struct ph_spool_location locations[COUNT];

static struct disk_file *segment_file(unsigned slot)
{
    char path[64];

    snprintf(path, sizeof(path), "/s/log-000/seg-%05u.dat", slot);
    return disk_find(&disk, path);
}

// Nine messages in three groups, each with something that was said of it, closed in good order.
static void fill(void)
{
    uint32_t first = 0;

    disk_init(&disk);
    fixture_open(&f, &disk);
    for (unsigned i = 0; i < COUNT; i += 3) {
        fixture_put_group(&f, i, 3, 40, &ids[i], &locations[i]);
        ph_spool_attempt(f.spool, NULL, ids[i], &first, 1);
        ph_spool_outcome(f.spool, NULL, ids[i],
                         &(struct ph_outcome_record){.state = PH_QUEUED_WAITING,
                                                     .attempts = (uint16_t)(i + 1),
                                                     .kind = PH_REASON_RCPT_REJECTED,
                                                     .text = PH_STR("not now")});
        fixture_settle(&f);
    }
    fixture_close(&f);
}

// Which bytes are meant: heads, records and contents, of all groups but the last, which is the
// seal. The rest is padding.
static bool *meant_bytes(const struct disk_file *file, uint64_t *out_end)
{
    bool *meant = calloc(1, file->len);
    uint64_t at = PH_SEGMENT_HEAD_BYTES;
    uint64_t last = at;
    struct ph_group group;

    memset(meant, 1, 32);
    while (at < file->len && ph_group_decode((struct ph_str){file->data + at, 64}, &group) &&
           group.number > 0) {
        memset(meant + at, 1, PH_GROUP_HEAD_BYTES + group.meta_len);
        memset(meant + at + PH_GROUP_HEAD_BYTES + group.meta_len + group.gap, 1, group.body_len);
        last = at;
        at += ph_group_disk_bytes(&group);
    }
    memset(meant + last, 0, at - last);
    *out_end = at;
    return meant;
}

// Found and sound, of the nine; the others were missing or damaged.
static unsigned sound_messages(void)
{
    unsigned sound = 0;

    for (unsigned i = 0; i < COUNT; i++) {
        const struct found_message *found = fixture_found(&f, ids[i]);

        sound += found != NULL && fixture_load(&f, ids[i], &found->location, i, 40) == 0;
    }
    return sound;
}

// Every flipped bit of every byte that means something is told, and takes at most the one message
// it is in.
Test(spool_recovery, every_flipped_byte)
{
    struct disk_file *file;
    uint64_t end;
    bool *meant;
    unsigned flips = 0;

    fill();
    file = segment_file(1);
    meant = meant_bytes(file, &end);
    cr_assert(end > 3 * 8192 && end < file->len);
    for (uint64_t at = 0; at < end; at++) {
        unsigned sound;

        if (!meant[at] && at % 97 != 0) {
            continue;
        }
        file->data[at] ^= (char)(1 << at % 8);
        fixture_open_offline(&f, &disk);
        sound = sound_messages();
        cr_assert(sound >= COUNT - 1, "byte %llu: %u messages are left", (unsigned long long)at,
                  sound);
        cr_assert(!meant[at] || f.report.quarantined_records > 0 || sound < COUNT,
                  "byte %llu was flipped and nobody said so", (unsigned long long)at);
        cr_assert(meant[at] || (f.report.quarantined_records == 0 && sound == COUNT),
                  "byte %llu is padding", (unsigned long long)at);
        fixture_close(&f);
        file->data[at] ^= (char)(1 << at % 8);
        flips += meant[at];
    }
    cr_expect(flips > 2000, "%u", flips);
    free(meant);
    fixture_open_offline(&f, &disk);
    cr_expect(f.report.quarantined_records == 0 && sound_messages() == COUNT);
    fixture_close(&f);
    disk_deinit(&disk);
}

// What was said in a damaged place may be lost: nobody's next attempt is believed to be the first.
Test(spool_recovery, after_damage_all_are_in_doubt)
{
    struct disk_file *file;

    fill();
    file = segment_file(1);
    file->data[locations[3].offset + 30] ^= 1;
    fixture_open(&f, &disk);
    cr_expect_eq(f.found_count, COUNT - 1);
    cr_expect_null(fixture_found(&f, ids[3]));
    cr_expect(fixture_found(&f, ids[1])->first.in_doubt);
    cr_expect(!fixture_found(&f, ids[8])->first.in_doubt);
    // The whole place was set aside, and is not told again when it has gone.
    cr_expect(f.report.quarantined_records == 1 && f.report.quarantined_bytes >= 8192);
    fixture_settle(&f);
    cr_expect_not_null(disk_find(&disk, "/s/quarantine/log-000-segment-2-at-16384"));
    fixture_close(&f);
    disk_deinit(&disk);
}

// The last group is cut anywhere: what was acknowledged before it is there, and so is what comes
// after the next start.
Test(spool_recovery, a_torn_tail)
{
    for (unsigned cut = 0; cut < 24; cut++) {
        static struct disk whole;
        struct disk_file *file;
        struct ph_spool_location last[3];
        uint64_t last_ids[3];

        disk_init(&whole);
        fixture_open(&f, &whole);
        fixture_put_group(&f, 0, 5, 3000, ids, locations);
        fixture_put_group(&f, 5, 3, 3000, last_ids, last);
        disk_copy(&disk, &whole);
        fixture_close(&f);
        disk_deinit(&whole);
        file = segment_file(1);
        // A sector of it didn't reach the disk.
        memset(file->data + last[0].offset / 4096 * 4096 + (uint64_t)cut * 512, 0, 512);
        fixture_open(&f, &disk);
        // Its first block has the head, its records and padding; the contents follow.
        if (cut == 0 || (cut >= 8 && cut * 512 < 4096 + 9000)) {
            cr_expect_eq(f.found_count, 5, "cut %u: %u", cut, f.found_count);
        } else {
            cr_expect(f.found_count == 5 || f.found_count == 8, "cut %u", cut);
        }
        cr_expect_eq(f.report.quarantined_records, 0, "cut %u", cut);
        (void)fixture_put(&f, 9, 100, false, &locations[8]);
        fixture_reopen(&f);
        cr_expect(f.found_count == 6 || f.found_count == 9, "cut %u: %u", cut, f.found_count);
        cr_expect_eq(f.report.quarantined_records, 0, "cut %u", cut);
        fixture_close(&f);
        disk_deinit(&disk);
    }
}

// The disk as it is now is what the next start finds.
static void cut_power(void)
{
    static struct disk left;

    disk_copy(&left, &disk);
    fixture_close(&f);
    disk_deinit(&disk);
    disk_copy(&disk, &left);
    disk_deinit(&left);
}

// Of what came after the torn group no more than its segment's head is there: it is the last one
// still, and torn.
Test(spool_recovery, a_torn_tail_behind_which_a_segment_was_begun)
{
    struct disk_file *file;

    disk_init(&disk);
    fixture_open(&f, &disk);
    fixture_put_group(&f, 0, 3, 3000, ids, locations);
    cut_power();
    file = segment_file(1);
    memset(file->data + locations[0].offset / 4096 * 4096 + 4096, 0, 512); // contents
    fixture_open(&f, &disk);
    cr_expect_eq(f.found_count, 0);
    (void)fixture_put(&f, 9, 100, false, &locations[8]);
    cut_power();
    file = NULL;
    for (unsigned slot = 2; slot < 6 && file == NULL; slot++) {
        struct ph_group group;

        file = segment_file(slot);
        if (file != NULL && (file->len < PH_SEGMENT_HEAD_BYTES + PH_GROUP_HEAD_BYTES ||
                             !ph_group_decode((struct ph_str){file->data + PH_SEGMENT_HEAD_BYTES,
                                                              PH_GROUP_HEAD_BYTES},
                                              &group))) {
            file = NULL;
        }
    }
    cr_assert_not_null(file);
    memset(file->data + PH_SEGMENT_HEAD_BYTES, 0, file->len - PH_SEGMENT_HEAD_BYTES);
    fixture_open(&f, &disk);
    cr_expect_eq(f.found_count, 0, "%u of a torn group", f.found_count);
    cr_expect_eq(f.report.quarantined_records, 0);
    fixture_close(&f);
    disk_deinit(&disk);
}

// The segment file with this number in its first group.
static struct disk_file *file_of(uint32_t segment)
{
    for (unsigned slot = 0; slot < 8; slot++) {
        struct disk_file *file = segment_file(slot);
        struct ph_group group;

        if (file != NULL && file->len >= 2 * PH_SEGMENT_HEAD_BYTES &&
            ph_group_decode(
                (struct ph_str){file->data + PH_SEGMENT_HEAD_BYTES, PH_GROUP_HEAD_BYTES}, &group) &&
            group.segment == segment) {
            return file;
        }
    }
    cr_assert_fail("no file has segment %u", segment);
    return NULL;
}

// The last live message of an old segment ends in a group that is torn: it hasn't ended, and its
// segment is needed.
Test(spool_recovery, a_torn_group_frees_no_segment)
{
    disk_init(&disk);
    fixture_open(&f, &disk);
    ids[0] = fixture_put(&f, 0, 3000, false, &locations[0]);
    fixture_reopen(&f);
    ph_spool_done(f.spool, NULL, ids[0], &locations[0]);
    (void)fixture_put(&f, 1, 3000, false, &locations[1]);
    cut_power();
    memset(file_of(locations[1].segment)->data + locations[1].offset / 4096 * 4096 + 4096, 0, 512);
    fixture_open(&f, &disk);
    cr_expect_eq(f.found_count, 1);
    cr_expect_not_null(fixture_found(&f, ids[0]));
    cr_expect_eq(f.report.quarantined_records, 0);
    fixture_close(&f);
    disk_deinit(&disk);
}

// Also when no record of the messages is left that the last ones were given to.
Test(spool_recovery, ids_are_not_given_again)
{
    disk_init(&disk);
    fixture_open(&f, &disk);
    fixture_put_group(&f, 0, 3, 3000, ids, locations);
    ph_spool_done(f.spool, NULL, ids[1], &locations[1]);
    ph_spool_done(f.spool, NULL, ids[2], &locations[2]);
    fixture_settle(&f);
    fixture_reopen(&f);
    ph_spool_done(f.spool, NULL, ids[0], &locations[0]);
    fixture_settle(&f);
    for (unsigned start = 0; start < 3; start++) {
        uint64_t id;

        fixture_reopen(&f);
        cr_expect_eq(f.found_count, 0);
        id = fixture_put(&f, 3, 3000, false, &locations[3]);
        cr_expect_gt(id, ids[2] + start, "start %u", start);
        ph_spool_done(f.spool, NULL, id, &locations[3]);
        fixture_settle(&f);
    }
    fixture_close(&f);
    disk_deinit(&disk);
}

// With its head and its first group gone, what is left of a segment has its mail still: it isn't
// the head's own write, torn.
Test(spool_recovery, a_head_and_the_first_group_are_damaged)
{
    disk_init(&disk);
    fixture_open(&f, &disk);
    ids[0] = fixture_put(&f, 0, 3000, false, &locations[0]);
    ids[1] = fixture_put(&f, 1, 3000, false, &locations[1]);
    cr_assert_eq(locations[0].segment, locations[1].segment);
    cut_power();
    memset(file_of(locations[0].segment)->data, 0x5a, 2 * PH_SEGMENT_HEAD_BYTES);
    fixture_open(&f, &disk);
    cr_expect_eq(f.found_count, 1);
    cr_expect_not_null(fixture_found(&f, ids[1]));
    cr_expect_gt(f.report.quarantined_records, 0);
    fixture_close(&f);
    disk_deinit(&disk);
}

// A damaged group had what a message came to and then an attempt, and the first of them can be
// read: it is in doubt by what can't.
Test(spool_recovery, what_is_saved_of_a_damaged_group_takes_no_doubt_away)
{
    struct ph_record record;
    struct ph_str rest;
    struct ph_group group;
    struct disk_file *file;
    uint32_t first = 0;
    uint64_t at;

    disk_init(&disk);
    fixture_open(&f, &disk);
    ids[0] = fixture_put(&f, 0, 40, true, &locations[0]);
    ph_spool_outcome(f.spool, NULL, ids[0],
                     &(struct ph_outcome_record){.state = PH_QUEUED_WAITING, .attempts = 1});
    ph_spool_attempt(f.spool, NULL, ids[0], &first, 1);
    fixture_settle(&f);
    (void)fixture_put(&f, 1, 40, false, &locations[1]);
    fixture_close(&f);
    file = segment_file(1);
    at = PH_SEGMENT_HEAD_BYTES;
    cr_assert(ph_group_decode((struct ph_str){file->data + at, PH_GROUP_HEAD_BYTES}, &group));
    at += ph_group_disk_bytes(&group);
    cr_assert(ph_group_decode((struct ph_str){file->data + at, PH_GROUP_HEAD_BYTES}, &group));
    rest = (struct ph_str){file->data + at + PH_GROUP_HEAD_BYTES, group.meta_len};
    cr_assert(ph_record_walk(&rest, &record));
    cr_assert_eq(record.type, PH_RECORD_OUTCOME);
    ((char *)(uintptr_t)rest.data)[PH_RECORD_HEAD_BYTES] ^= 1; // the ATTEMPT
    fixture_open(&f, &disk);
    cr_assert_not_null(fixture_found(&f, ids[0]));
    cr_expect(fixture_found(&f, ids[0])->first.in_doubt);
    fixture_close(&f);
    disk_deinit(&disk);
}

// The power fails behind each durable write in turn while messages come, are delivered, linger and
// are copied: what was promised is there, once.
Test(spool_recovery, the_power_fails_anywhere)
{
    static struct disk states[300];
    static uint64_t expected[300];
    struct ph_outcome_record state = {
        .state = PH_QUEUED_WAITING, .attempts = 2, .kind = PH_REASON_RCPT_REJECTED};
    struct ph_spool_location location;
    unsigned count = 0;

    disk_init(&disk);
    fixture_open(&f, &disk);
    ids[0] = fixture_put(&f, 7, 500, false, &locations[0]);
    for (unsigned i = 0; i < 90; i++) {
        uint64_t id = fixture_put(&f, i, 20000, false, &location);

        disk_copy(&states[count], &disk);
        expected[count++] = id;
        ph_spool_done(f.spool, NULL, id, &location);
        fixture_settle(&f);
        disk_copy(&states[count], &disk);
        expected[count++] = 0;
        if (ph_spool_compact_below(f.spool) > locations[0].segment) {
            cr_assert_eq(fixture_copy(&f, ids[0], &locations[0], &state, 1), 0);
            disk_copy(&states[count], &disk);
            expected[count++] = 0;
        }
    }
    fixture_close(&f);
    disk_deinit(&disk);
    for (unsigned i = 0; i < count; i++) {
        const struct found_message *found;

        fixture_open(&f, &states[i]);
        cr_assert_eq(f.found_count, expected[i] != 0 ? 2 : 1, "state %u", i);
        cr_assert_eq(f.report.quarantined_records, 0, "state %u", i);
        found = fixture_found(&f, ids[0]);
        cr_assert_not_null(found, "state %u", i);
        cr_assert_eq(fixture_load(&f, ids[0], &found->location, 7, 500), 0);
        cr_assert(expected[i] == 0 || fixture_found(&f, expected[i]) != NULL, "state %u", i);
        fixture_close(&f);
        disk_deinit(&states[i]);
    }
}

// A predecessor was killed when it had made a file, and had not synced its directory: what is
// written to it now must not go with its name.
Test(spool_recovery, a_spare_whose_name_is_not_durable)
{
    static struct disk after;

    disk_init(&disk);
    fixture_open(&f, &disk);
    for (unsigned i = 0; i < 40; i++) { // several segments, which become spares
        ids[0] = fixture_put(&f, i, 20000, false, &locations[0]);
        ph_spool_done(f.spool, NULL, ids[0], &locations[0]);
        fixture_settle(&f);
    }
    fixture_close(&f);
    for (unsigned slot = 0; slot < 9; slot++) {
        struct disk_file *file = segment_file(slot);

        if (file != NULL) {
            file->named = false;
        }
    }
    fixture_open(&f, &disk);
    ids[0] = fixture_put(&f, 1, 500, false, &locations[0]);
    disk_copy(&after, &disk);
    fixture_close(&f);
    disk_deinit(&disk);
    disk_cut_names(&after);
    fixture_open(&f, &after);
    cr_expect_not_null(fixture_found(&f, ids[0]));
    fixture_close(&f);
    disk_deinit(&after);
}

// A segment's head block is lost: its groups tell whose they are.
Test(spool_recovery, a_damaged_segment_head)
{
    fill();
    segment_file(1)->data[17] ^= 4;
    fixture_open(&f, &disk);
    cr_expect_eq(f.found_count, COUNT);
    cr_expect_eq(f.report.quarantined_records, 1);
    cr_expect(strstr(f.report.detail, "head of segment 2") != NULL, "%s", f.report.detail);
    fixture_close(&f);
    disk_deinit(&disk);
}

static void on_nothing(void *owner, const struct ph_spool_recovered *message)
{
    (void)owner;
    (void)message;
}

Test(spool_recovery, records_of_a_later_version_are_refused)
{
    struct ph_spool_recovery_report report = {0};
    struct ph_buf error = {0};
    struct ph_spool *spool;
    struct disk_file *file;
    struct ph_group group;
    uint64_t seed;
    uint64_t at;
    char *meta;

    fill();
    file = segment_file(1);
    at = PH_SEGMENT_HEAD_BYTES;
    cr_assert(ph_group_decode((struct ph_str){file->data + at, 64}, &group));
    cr_assert_eq(sscanf(disk_find(&disk, "/s/format")->data, "%*s %*u seed %lx", &seed), 1);
    seed = ph_record_seed(seed, 2);
    meta = file->data + at + PH_GROUP_HEAD_BYTES;
    meta[0] = 99; // a type that isn't known yet
    ph_records_seal(meta, group.meta_len, seed, 0);
    ph_group_encode(&group, (struct ph_str){meta, group.meta_len}, seed, file->data + at);
    cr_expect(ph_spool_open(&(struct ph_spool_options){.io = &disk.io,
                                                       .directory = "/s",
                                                       .message_segment_bytes = FIXTURE_SEGMENT},
                            NULL, NULL, &report, &spool, &error) == -EPROTONOSUPPORT);
    cr_expect(strstr(ph_buf_cstr(&error), "another version") != NULL, "%s", ph_buf_cstr(&error));
    ph_buf_deinit(&error);
    disk_deinit(&disk);
}

// A process that was killed holds its segments until its last write has landed.
Test(spool_recovery, a_segment_that_is_still_written_to_is_waited_for)
{
    struct ph_spool_options options = {
        .io = &disk.io, .directory = "/s", .message_segment_bytes = FIXTURE_SEGMENT};
    struct ph_spool_recovery_report report = {0};
    struct ph_buf error = {0};
    struct ph_spool *spool;

    fill();
    segment_file(1)->held_for = 3;
    cr_expect_eq(ph_spool_open(&options, NULL, NULL, &report, &spool, &error), -EWOULDBLOCK);
    cr_expect(strstr(ph_buf_cstr(&error), "SpoolLockTimeout") != NULL, "%s", ph_buf_cstr(&error));
    segment_file(1)->held_for = 3;
    options.lock_timeout_ms = 10000;
    cr_assert_eq(ph_spool_open(&options, on_nothing, NULL, &report, &spool, &error), 0);
    cr_expect_eq(segment_file(1)->held_for, 0);
    ph_spool_close(spool);
    ph_buf_deinit(&error);
    disk_deinit(&disk);
}

static void golden_path(const char *name, char out[256])
{
    snprintf(out, 256, "%s/queue/golden/spool-1/%s", PH_TESTS_DIR, name);
}

// A file of the golden spool, put on the disk; NULL: there is none.
static struct disk_file *golden_file(const char *name, const char *path)
{
    struct disk_file *file = &disk.files[disk_find(&disk, "/s/format") != NULL];
    char from[256];
    FILE *in;
    long len;

    golden_path(name, from);
    in = fopen(from, "rb");
    if (in == NULL) {
        return NULL;
    }
    fseek(in, 0, SEEK_END);
    len = ftell(in);
    rewind(in);
    *file = (struct disk_file){.exists = true, .len = (uint64_t)len, .data = malloc((size_t)len)};
    snprintf(file->path, sizeof(file->path), "%s", path);
    cr_assert_eq(fread(file->data, 1, (size_t)len, in), (size_t)len);
    fclose(in);
    return file;
}

static void write_golden(const char *name, const struct disk_file *file, uint64_t len)
{
    char to[256];
    FILE *out;

    golden_path(name, to);
    out = fopen(to, "wb");
    cr_assert_not_null(out, "%s", to);
    cr_assert_eq(fwrite(file->data, 1, len, out), len);
    fclose(out);
}

// What version 1 wrote stays readable, and is written today byte for byte: who changes a byte of
// the format gives it another number. PH_WRITE_GOLDEN=1 writes the files of a new version.
Test(spool_recovery, the_golden_spool_of_version_1)
{
    struct disk_file *golden;
    uint64_t end;

    fill();
    free(meant_bytes(segment_file(1), &end));
    if (getenv("PH_WRITE_GOLDEN") != NULL) {
        write_golden("format", disk_find(&disk, "/s/format"), disk_find(&disk, "/s/format")->len);
        write_golden("seg-00001.dat", segment_file(1), end);
    }
    {
        static struct disk today;

        disk_copy(&today, &disk);
        disk_deinit(&disk);
        disk_init(&disk);
        golden = golden_file("format", "/s/format");
        cr_assert_not_null(golden);
        cr_expect_eq(memcmp(golden->data, disk_find(&today, "/s/format")->data, golden->len), 0);
        golden = golden_file("seg-00001.dat", "/s/log-000/seg-00001.dat");
        cr_assert_not_null(golden);
        cr_assert_eq(golden->len, end);
        cr_expect_eq(memcmp(golden->data, disk_find(&today, "/s/log-000/seg-00001.dat")->data, end),
                     0);
        disk_deinit(&today);
    }
    fixture_open(&f, &disk);
    cr_expect_eq(f.found_count, COUNT);
    cr_expect_eq(f.report.quarantined_records, 0);
    cr_expect_eq(sound_messages(), COUNT);
    cr_expect_eq(fixture_found(&f, ids[3])->first.attempts, 4);
    cr_expect_eq(fixture_found(&f, ids[3])->first.kind, PH_REASON_RCPT_REJECTED);
    fixture_close(&f);
    disk_deinit(&disk);
}
