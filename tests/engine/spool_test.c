// The spool on a real disk, over the poll world.
// Covers: queue/spool queue/spool_segment queue/spool_load queue/spool_recovery
// Covers: queue/spool_directory queue/spool_report
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/poll.h"
#include "queue/spool.h"

#define SEGMENT ((uint64_t)256 << 10) // small: many are used up

struct bench {
    struct ph_offload *offload;
    struct ph_io *io;
    char directory[64];
    struct ph_spool_directory *lock;
    struct ph_spool *spool;
    unsigned recovered;
    unsigned in_doubt;
    struct ph_spool_recovered_recipient last;
    uint64_t ids[4096];
    struct ph_spool_location locations[4096];
    struct ph_spool_recovery_report report;
};

static void nothing(struct ph_op *op)
{
    (void)op;
}

static void take(void *owner, const struct ph_spool_recovered *message)
{
    struct bench *b = owner;

    b->ids[b->recovered] = message->id;
    b->locations[b->recovered++] = message->location;
    b->last = message->recipients[0];
    b->in_doubt += message->recipients[0].in_doubt;
}

static void open_spool(struct bench *b)
{
    uint16_t logs = 1;
    struct ph_buf error = {0};

    b->recovered = 0;
    b->in_doubt = 0;
    b->report = (struct ph_spool_recovery_report){0};
    cr_assert_eq(ph_spool_directory_open(b->io, b->directory, 0, &logs, &b->lock, &error), 0, "%s",
                 ph_buf_cstr(&error));
    cr_assert_eq(ph_spool_open(&(struct ph_spool_options){.io = b->io,
                                                          .directory = b->directory,
                                                          .message_segment_bytes = SEGMENT,
                                                          .outcome_delay_ns = PH_NS_PER_MS,
                                                          .content_memory_max = 1 << 30},
                               take, b, &b->report, &b->spool, &error),
                 0, "%s", ph_buf_cstr(&error));
}

static void close_spool(struct bench *b)
{
    ph_spool_close(b->spool);
    ph_spool_directory_close(b->lock);
}

static void start(struct bench *b)
{
    *b = (struct bench){0};
    b->offload = ph_offload_create(2);
    cr_assert_eq(ph_poll_create(&(struct ph_poll_options){.offload = b->offload}, &b->io), 0);
    strcpy(b->directory, "/tmp/posthaste-spool-XXXXXX");
    cr_assert_not_null(mkdtemp(b->directory));
    open_spool(b);
}

static void finish(struct bench *b)
{
    char command[128];

    close_spool(b);
    b->io->vtable->destroy(b->io);
    ph_offload_destroy(b->offload);
    snprintf(command, sizeof(command), "rm -rf %s", b->directory);
    cr_assert_eq(system(command), 0);
}

static void turn_until(struct bench *b, const struct ph_op *op)
{
    while (op->state == PH_OP_PENDING) {
        ph_io_run_ready(b->io);
        (void)ph_spool_flush(b->spool, b->io->now_ns);
        ph_io_wait(b->io, b->io->now_ns + PH_NS_PER_MS);
    }
    ph_io_run_ready(b->io);
}

static uint64_t put(struct bench *b, unsigned number, size_t len, bool attempt,
                    struct ph_spool_location *out)
{
    struct ph_envelope_recipient recipient = {
        .address = PH_STR("u@d.test"), .domain = PH_STR("d.test"), .orcpt = PH_STR_NONE};
    struct ph_envelope envelope = {.reverse_path = PH_STR("s@e.test"),
                                   .envid = PH_STR_NONE,
                                   .sender = PH_STR("e.test"),
                                   .connector = PH_STR("in"),
                                   .client_name = PH_STR_NONE,
                                   .client_address = PH_STR_NONE,
                                   .arrival_ms = 5,
                                   .expiry_ms = 6,
                                   .recipients = &recipient,
                                   .recipient_count = 1};
    struct ph_spool_ticket ticket = {0};
    struct ph_content *content = NULL;
    uint64_t id = ph_spool_take_id(b->spool);
    char *text = malloc(len);

    memset(text, (int)('a' + number % 26), len);
    ph_op_init(&ticket.op, nothing, NULL);
    cr_assert_eq(
        ph_spool_append(b->spool, &ticket,
                        &(struct ph_spool_append_options){.id = id,
                                                          .envelope = &envelope,
                                                          .content = {.data = text, .len = len},
                                                          .attempt = attempt},
                        &content),
        PH_SPOOL_OK);
    turn_until(b, &ticket.op);
    cr_assert_eq(ticket.op.result, 0);
    cr_assert_eq(content->body_len, len);
    cr_expect_eq(memcmp(content->body[0].iov_base, text, len), 0);
    cr_expect(ph_str_eq(content->envelope.recipients[0].domain, PH_STR("d.test")));
    ph_content_release(content);
    *out = ticket.location;
    free(text);
    return id;
}

static void expect_content(struct bench *b, uint64_t id, const struct ph_spool_location *location,
                           char letter, size_t len)
{
    struct ph_spool_load load = {0};

    ph_op_init(&load.op, nothing, NULL);
    ph_spool_load(b->spool, &load, id, location);
    turn_until(b, &load.op);
    cr_assert_eq(load.op.result, 0);
    cr_expect_eq(load.content->body_len, len);
    cr_expect_eq(((const char *)load.content->body[0].iov_base)[len - 1], letter);
    cr_expect(ph_str_eq(load.content->envelope.reverse_path, PH_STR("s@e.test")));
    ph_content_release(load.content);
}

// In a fresh spool segments are numbered as their files are.
static void path_of(const struct bench *b, const struct ph_spool_location *location, char out[128])
{
    snprintf(out, 128, "%s/log-000/seg-%05u.dat", b->directory, location->segment - 1);
}

Test(spool, what_was_put_is_there_after_a_restart)
{
    struct bench b;
    struct ph_spool_location locations[40];
    uint64_t ids[40];

    start(&b);
    for (unsigned i = 0; i < 40; i++) {
        ids[i] = put(&b, i, 1000 + i, false, &locations[i]);
    }
    expect_content(&b, ids[3], &locations[3], 'd', 1003);
    close_spool(&b);
    open_spool(&b);
    cr_assert_eq(b.recovered, 40);
    for (unsigned i = 0; i < 40; i++) {
        cr_expect_eq(b.ids[i], ids[i]);
        expect_content(&b, b.ids[i], &b.locations[i], (char)('a' + i % 26), 1000 + i);
    }
    cr_expect_eq(b.in_doubt, 0);
    finish(&b);
}

Test(spool, states)
{
    struct bench b;
    struct ph_spool_location locations[5];
    uint64_t ids[5];
    uint32_t first = 0;

    start(&b);
    for (unsigned i = 0; i < 5; i++) {
        ids[i] = put(&b, i, 100, i == 1 || i == 2, &locations[i]);
    }
    ph_spool_done(b.spool, NULL, ids[0], &locations[0]);
    ph_spool_unattempt(b.spool, ids[2]);
    ph_spool_outcome(b.spool, NULL, ids[3],
                     &(struct ph_outcome_record){.state = PH_QUEUED_WAITING,
                                                 .attempts = 2,
                                                 .due_ms = 99,
                                                 .kind = PH_REASON_RCPT_REJECTED,
                                                 .text = PH_STR("later")});
    ph_spool_attempt(b.spool, NULL, ids[4], &first, 1);
    close_spool(&b);
    open_spool(&b);
    cr_assert_eq(b.recovered, 4);
    cr_expect_eq(b.in_doubt, 2, "the attempt of 1 and of 4: %u", b.in_doubt);
    cr_expect(b.last.in_doubt && b.ids[3] == ids[4]);
    finish(&b);
}

Test(spool, segments_are_used_again)
{
    struct bench b;
    struct ph_spool_location location;
    struct ph_spool_location kept_location;
    uint64_t kept;
    struct ph_spool_stats stats;

    start(&b);
    for (unsigned i = 0; i < 300; i++) {
        uint64_t id = put(&b, i, 20000, false, &location);

        ph_spool_done(b.spool, NULL, id, &location);
    }
    kept = put(&b, 7, 500, false, &kept_location);
    stats = ph_spool_stats(b.spool);
    cr_expect(stats.segments < 8, "%llu segments of 6 MB that are dead",
              (unsigned long long)stats.segments);
    close_spool(&b);
    open_spool(&b);
    cr_assert_eq(b.recovered, 1);
    cr_expect_eq(b.ids[0], kept);
    expect_content(&b, kept, &b.locations[0], 'h', 500);
    finish(&b);
}

// A flipped byte in the midst of a log is damage: told, set aside, and the rest is delivered.
Test(spool, damage_is_told_and_the_rest_is_there)
{
    struct bench b;
    struct ph_spool_location locations[10];
    char path[128];
    char byte;
    int fd;

    start(&b);
    for (unsigned i = 0; i < 10; i++) {
        (void)put(&b, i, 3000, false, &locations[i]);
    }
    close_spool(&b);
    path_of(&b, &locations[4], path);
    fd = open(path, O_RDWR);
    cr_assert(fd >= 0);
    cr_assert_eq(pread(fd, &byte, 1, locations[4].offset + 30), 1);
    byte ^= 1;
    cr_assert_eq(pwrite(fd, &byte, 1, locations[4].offset + 30), 1);
    close(fd);
    open_spool(&b);
    cr_expect_eq(b.recovered, 9, "%u", b.recovered);
    cr_expect(b.report.quarantined_records > 0);
    finish(&b);
}

// The last group is cut anywhere: what was acknowledged before it is there, and so is what comes
// after the next start.
Test(spool, a_torn_tail)
{
    for (unsigned cut = 0; cut < 8; cut++) {
        struct bench b;
        struct ph_spool_location locations[6];
        char path[128];
        char zeros[4096] = {0};
        int fd;

        start(&b);
        for (unsigned i = 0; i < 6; i++) {
            (void)put(&b, i, 9000, false, &locations[i]);
        }
        close_spool(&b);
        path_of(&b, &locations[5], path);
        fd = open(path, O_RDWR);
        cr_assert(fd >= 0);
        // Sectors of the last group didn't reach the disk.
        cr_assert_eq(
            pwrite(fd, zeros, 512,
                   locations[5].offset / 4096 * 4096 + (cut == 0 ? 0 : 4096 + (cut - 1) * 1024)),
            512);
        close(fd);
        open_spool(&b);
        cr_expect_eq(b.recovered, 5, "cut %u: %u", cut, b.recovered);
        cr_expect_eq(b.report.quarantined_records, 0, "cut %u", cut);
        (void)put(&b, 9, 100, false, &locations[0]);
        close_spool(&b);
        open_spool(&b);
        cr_expect_eq(b.recovered, 6, "cut %u: %u", cut, b.recovered);
        cr_expect_eq(b.report.quarantined_records, 0, "cut %u", cut);
        finish(&b);
    }
}
