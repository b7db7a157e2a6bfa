#include "spool_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ATTEMPT 26000000u // added to a message's number: an attempt is announced

static void nothing(struct ph_op *op)
{
    (void)op;
}

static void take(void *owner, const struct ph_spool_recovered *message)
{
    struct fixture *f = owner;
    struct found_message *found = &f->found[f->found_count++];

    cr_assert(f->found_count < FIXTURE_MESSAGES_MAX);
    *found = (struct found_message){
        .id = message->id,
        .location = message->location,
        .first = message->recipients[0],
        .recipient_count = message->recipient_count,
        .size = message->size,
        .delay_notified = message->delay_notified,
    };
    cr_expect(ph_str_eq(message->recipients[0].domain, PH_STR("d.test")));
    cr_expect(ph_str_eq(message->sender, PH_STR("e.test")));
    f->in_doubt += message->recipients[0].in_doubt;
}

static void open_spool(struct fixture *f, bool offline)
{
    uint16_t logs = 1;
    struct ph_buf error = {0};

    f->found_count = 0;
    f->in_doubt = 0;
    f->report = (struct ph_spool_recovery_report){0};
    cr_assert_eq(ph_spool_directory_open(&f->disk->io, "/s", 0, &logs, &f->lock, &error), 0, "%s",
                 ph_buf_cstr(&error));
    cr_assert_eq(ph_spool_open(&(struct ph_spool_options){.io = &f->disk->io,
                                                          .directory = "/s",
                                                          .offline = offline,
                                                          .message_segment_bytes = FIXTURE_SEGMENT,
                                                          .outcome_delay_ns = PH_NS_PER_MS,
                                                          .content_memory_max = 1 << 30},
                               take, f, &f->report, &f->spool, &error),
                 0, "%s", ph_buf_cstr(&error));
}

void fixture_open(struct fixture *f, struct disk *disk)
{
    f->disk = disk;
    open_spool(f, false);
    fixture_settle(f);
}

void fixture_open_offline(struct fixture *f, struct disk *disk)
{
    f->disk = disk;
    open_spool(f, true);
}

void fixture_close(struct fixture *f)
{
    ph_spool_close(f->spool);
    ph_spool_directory_close(f->lock);
}

void fixture_reopen(struct fixture *f)
{
    fixture_close(f);
    open_spool(f, false);
}

static void turn(struct fixture *f)
{
    ph_io_run_ready(&f->disk->io);
    (void)ph_spool_flush(f->spool, f->disk->io.now_ns);
    ph_io_wait(&f->disk->io, f->disk->io.now_ns + PH_NS_PER_MS);
}

void fixture_wait(struct fixture *f, const struct ph_op *op)
{
    for (unsigned i = 0; op->state != PH_OP_IDLE; i++) {
        cr_assert(i < 100000, "it does not end");
        turn(f);
    }
}

void fixture_settle(struct fixture *f)
{
    for (unsigned i = 0; i < 20; i++) {
        turn(f);
    }
}

static char letter(unsigned number)
{
    return (char)('a' + number % 26);
}

struct put {
    struct ph_spool_ticket ticket;
    struct ph_content *content;
    uint64_t id;
    char *text;
};

static enum ph_spool_result begin_put(struct fixture *f, unsigned number, size_t len,
                                      struct put *put)
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

    *put = (struct put){.id = ph_spool_take_id(f->spool), .text = malloc(len + 1)};
    memset(put->text, letter(number), len);
    ph_op_init(&put->ticket.op, nothing, NULL);
    return ph_spool_append(f->spool, &put->ticket,
                           &(struct ph_spool_append_options){
                               .id = put->id,
                               .envelope = &envelope,
                               .content = {.data = put->text, .len = len},
                               .attempt = number >= ATTEMPT,
                           },
                           &put->content);
}

static int64_t end_put(struct fixture *f, size_t len, struct put *put)
{
    fixture_wait(f, &put->ticket.op);
    if (put->ticket.op.result == 0) {
        cr_assert_eq(put->content->body_len, len);
        cr_expect_eq(memcmp(put->content->body[0].iov_base, put->text, len), 0);
        cr_expect(ph_str_eq(put->content->envelope.recipients[0].domain, PH_STR("d.test")));
    }
    ph_content_release(put->content);
    free(put->text);
    return put->ticket.op.result;
}

int64_t fixture_try(struct fixture *f, unsigned number, size_t len, uint64_t *out_id,
                    struct ph_spool_location *out)
{
    struct put put;
    int64_t result;

    switch (begin_put(f, number, len, &put)) {
    case PH_SPOOL_FULL:
        free(put.text);
        return -ENOSPC;
    case PH_SPOOL_FAILED:
        free(put.text);
        return -EIO;
    case PH_SPOOL_OK:
        break;
    }
    result = end_put(f, len, &put);
    *out_id = put.id;
    *out = put.ticket.location;
    return result;
}

void fixture_put_group(struct fixture *f, unsigned number, unsigned count, size_t len,
                       uint64_t *out_ids, struct ph_spool_location *out)
{
    struct put *puts = calloc(count, sizeof(*puts));

    for (unsigned i = 0; i < count; i++) {
        cr_assert_eq(begin_put(f, number + i, len, &puts[i]), PH_SPOOL_OK);
    }
    for (unsigned i = 0; i < count; i++) {
        cr_assert_eq(end_put(f, len, &puts[i]), 0);
        out_ids[i] = puts[i].id;
        out[i] = puts[i].ticket.location;
    }
    free(puts);
}

uint64_t fixture_put(struct fixture *f, unsigned number, size_t len, bool attempt,
                     struct ph_spool_location *out)
{
    uint64_t id;

    cr_assert_eq(fixture_try(f, number + (attempt ? ATTEMPT : 0), len, &id, out), 0);
    return id;
}

int64_t fixture_load(struct fixture *f, uint64_t id, const struct ph_spool_location *location,
                     unsigned number, size_t len)
{
    struct ph_spool_load load = {0};

    ph_op_init(&load.op, nothing, NULL);
    ph_spool_load(f->spool, &load, id, location);
    fixture_wait(f, &load.op);
    if (load.op.result == 0) {
        const char *bytes = load.content->body[0].iov_base;

        cr_expect_eq(load.content->body_len, len);
        for (size_t i = 0; i < len; i++) {
            cr_assert_eq(bytes[i], letter(number));
        }
    }
    if (load.content != NULL) {
        // Of what is damaged the envelope is there, too, where its record can be read.
        cr_expect(ph_str_eq(load.content->envelope.reverse_path, PH_STR("s@e.test")));
        cr_expect(load.op.result == 0 || load.content->body_len == 0);
        ph_content_release(load.content);
    }
    return load.op.result;
}

int64_t fixture_copy(struct fixture *f, uint64_t id, struct ph_spool_location *location,
                     const struct ph_outcome_record *states, uint32_t state_count)
{
    struct ph_spool_load load = {.for_copy = true};
    struct ph_spool_ticket ticket = {0};
    enum ph_spool_result result;

    ph_op_init(&load.op, nothing, NULL);
    ph_op_init(&ticket.op, nothing, NULL);
    ph_spool_load(f->spool, &load, id, location);
    fixture_wait(f, &load.op);
    if (load.op.result < 0) {
        return load.op.result;
    }
    result = ph_spool_copy(f->spool, &ticket, id,
                           &(struct ph_spool_copy_options){
                               .load = &load, .states = states, .state_count = state_count});
    cr_assert_eq(result, PH_SPOOL_OK);
    ph_content_release(load.content);
    fixture_wait(f, &ticket.op);
    if (ticket.op.result == 0) {
        ph_spool_unneeded(f->spool, location);
        *location = ticket.location;
    }
    return ticket.op.result;
}

const struct found_message *fixture_found(const struct fixture *f, uint64_t id)
{
    for (unsigned i = 0; i < f->found_count; i++) {
        if (f->found[i].id == id) {
            return &f->found[i];
        }
    }
    return NULL;
}
