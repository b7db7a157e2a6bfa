#include <criterion/criterion.h>
#include <string.h>

#include "queue/record.h"

static struct ph_buf sealed(uint64_t seed)
{
    struct ph_envelope_recipient recipients[2] = {
        {.address = PH_STR("x@d.test"),
         .domain = PH_STR("d.test"),
         .orcpt = PH_STR("rfc822;x@d.test"),
         .notify = PH_NOTIFY_SUCCESS},
        {.address = PH_STR("y@e.test"), .domain = PH_STR("e.test"), .orcpt = PH_STR_NONE}};
    struct ph_envelope envelope = {.reverse_path = PH_STR("a@b.test"),
                                   .envid = PH_STR("e7"),
                                   .sender = PH_STR("b.test"),
                                   .connector = PH_STR("in"),
                                   .client_name = PH_STR("c"),
                                   .client_address = PH_STR("192.0.2.1"),
                                   .arrival_ms = 11,
                                   .expiry_ms = 22,
                                   .priority = 2,
                                   .ret = PH_RET_HEADERS,
                                   .has_8bit = true,
                                   .tls_optional = true,
                                   .recipients = recipients,
                                   .recipient_count = 2};
    struct ph_message_body body = {.offset = 100, .len = 5, .sum = 99};
    struct ph_outcome_record outcome = {.recipient = 1,
                                        .state = PH_QUEUED_WAITING,
                                        .in_doubt = true,
                                        .attempts = 3,
                                        .due_ms = 777,
                                        .kind = PH_REASON_IN_DOUBT,
                                        .code = 451,
                                        .status = {4, 4, 2},
                                        .text = PH_STR("later")};
    uint32_t attempted[2] = {0, 1};
    struct ph_buf out = {0};

    ph_record_message(&out, 5, &envelope, &body, PH_RECORD_FLAG_ATTEMPT);
    ph_record_attempt(&out, 5, attempted, 2);
    ph_record_outcome(&out, 5, &outcome);
    ph_record_plain(&out, PH_RECORD_DONE, 5);
    ph_records_seal(out.data, out.len, seed, 4096);
    return out;
}

Test(record, there_and_back)
{
    struct ph_buf bytes = sealed(1);
    struct ph_str meta = ph_buf_str(&bytes);
    struct ph_envelope_recipient recipients[2];
    struct ph_outcome_record outcome;
    struct ph_message_body body;
    struct ph_envelope envelope;
    struct ph_record record;
    uint32_t recipient;

    cr_assert_eq(ph_record_next(&meta, 1, &record), PH_RECORD_OK);
    cr_assert(record.type == PH_RECORD_MESSAGE && record.id == 5 &&
              record.flags == PH_RECORD_FLAG_ATTEMPT);
    cr_assert_eq(ph_record_recipient_count(&record), 2);
    cr_assert(ph_record_read_message(&record, &envelope, recipients, 2, &body));
    cr_expect(body.offset == 4196 && body.len == 5 && body.sum == 99);
    cr_expect(ph_str_eq(envelope.reverse_path, PH_STR("a@b.test")) && envelope.has_8bit &&
              envelope.tls_optional && envelope.arrival_ms == 11 && envelope.expiry_ms == 22 &&
              envelope.priority == 2 && envelope.ret == PH_RET_HEADERS);
    cr_expect(ph_str_eq(recipients[1].domain, PH_STR("e.test")) &&
              recipients[0].notify == PH_NOTIFY_SUCCESS);
    cr_expect(!ph_record_read_message(&record, &envelope, recipients, 1, &body), "more than fit");
    cr_assert_eq(ph_record_next(&meta, 1, &record), PH_RECORD_OK);
    cr_expect(ph_record_attempt_at(&record, 1, &recipient) && recipient == 1);
    cr_expect(!ph_record_attempt_at(&record, 2, &recipient));
    cr_assert_eq(ph_record_next(&meta, 1, &record), PH_RECORD_OK);
    cr_assert(ph_record_read_outcome(&record, &outcome));
    cr_expect(outcome.recipient == 1 && outcome.in_doubt && outcome.attempts == 3 &&
              outcome.due_ms == 777 && outcome.kind == PH_REASON_IN_DOUBT && outcome.code == 451 &&
              ph_str_eq(outcome.text, PH_STR("later")));
    cr_assert_eq(ph_record_next(&meta, 1, &record), PH_RECORD_OK);
    cr_expect_eq(record.type, PH_RECORD_DONE);
    cr_expect_eq(ph_record_next(&meta, 1, &record), PH_RECORD_END);
    ph_buf_deinit(&bytes);
}

Test(record, each_flipped_bit_is_seen)
{
    struct ph_buf bytes = sealed(1);

    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        struct ph_str meta = ph_buf_str(&bytes);
        struct ph_record record;
        enum ph_record_result result = PH_RECORD_OK;

        bytes.data[bit / 8] ^= (char)(1 << bit % 8);
        while (result == PH_RECORD_OK) {
            result = ph_record_next(&meta, 1, &record);
        }
        cr_assert_eq(result, PH_RECORD_DAMAGED, "bit %zu", bit);
        bytes.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    ph_buf_deinit(&bytes);
}

Test(record, of_an_earlier_life_nothing_counts)
{
    struct ph_buf bytes = sealed(ph_record_seed(9, 3));
    struct ph_str meta = ph_buf_str(&bytes);
    struct ph_record record;

    cr_expect_eq(ph_record_next(&meta, ph_record_seed(9, 4), &record), PH_RECORD_DAMAGED);
    ph_buf_deinit(&bytes);
}

Test(record, groups_and_segments)
{
    struct ph_group group = {.number = 7,
                             .oldest = 2,
                             .meta_len = 5,
                             .gap = 27,
                             .body_len = 4096,
                             .record_count = 1,
                             .durable = 6,
                             .segment = 12};
    struct ph_segment_head head = {.number = 12, .log = 3};
    char bytes[PH_GROUP_HEAD_BYTES];
    char block[PH_SEGMENT_HEAD_BYTES];
    struct ph_group read;
    struct ph_segment_head read_head;

    ph_group_encode(&group, PH_STR("abcde"), 4, bytes);
    cr_assert(ph_group_decode((struct ph_str){.data = bytes, .len = sizeof(bytes)}, &read));
    cr_expect(read.number == 7 && read.oldest == 2 && read.body_len == 4096 && read.durable == 6 &&
              read.segment == 12);
    cr_expect_eq(ph_group_disk_bytes(&read), 8192);
    cr_expect(ph_group_meta_valid((struct ph_str){bytes, sizeof(bytes)}, PH_STR("abcde"), 4));
    cr_expect(!ph_group_meta_valid((struct ph_str){bytes, sizeof(bytes)}, PH_STR("abcdf"), 4));
    cr_expect(!ph_group_meta_valid((struct ph_str){bytes, sizeof(bytes)}, PH_STR("abcde"), 5));
    ph_segment_head_encode(&head, 4, block);
    cr_expect(ph_segment_head_decode((struct ph_str){block, sizeof(block)}, 4, &read_head) &&
              read_head.number == 12 && read_head.log == 3);
    cr_expect(!ph_segment_head_decode((struct ph_str){block, sizeof(block)}, 5, &read_head));
}
