// Records and groups of the spool: any bytes, and sound ones of which some were changed. What
// passes a checksum must be read within its bounds.
#include <string.h>

#include "queue/record.h"
#include "tests/fuzz/input.h"

#define SEED 42
#define RECIPIENTS_MAX 16

static void read_record(const struct ph_record *record)
{
    struct ph_envelope_recipient recipients[RECIPIENTS_MAX];
    struct ph_outcome_record outcome;
    struct ph_message_body body;
    struct ph_envelope envelope;
    uint32_t recipient;

    switch (record->type) {
    case PH_RECORD_MESSAGE:
        if (ph_record_read_message(record, &envelope, recipients, RECIPIENTS_MAX, &body)) {
            PH_CHECK(envelope.recipient_count <= RECIPIENTS_MAX);
            for (uint32_t i = 0; i < envelope.recipient_count; i++) {
                PH_CHECK(recipients[i].address.data >= record->body.data &&
                         recipients[i].address.data + recipients[i].address.len <=
                             record->body.data + record->body.len);
            }
        }
        break;
    case PH_RECORD_OUTCOME:
        if (ph_record_read_outcome(record, &outcome)) {
            PH_CHECK(outcome.text.len <= record->body.len);
        }
        break;
    case PH_RECORD_ATTEMPT:
        for (uint32_t i = 0; ph_record_attempt_at(record, i, &recipient); i++) {
            PH_CHECK(i < record->body.len);
        }
        break;
    case PH_RECORD_DONE:
    case PH_RECORD_DELAYED:
    case PH_RECORD_UNATTEMPT:
    case PH_RECORD_VOID:
        break;
    }
}

static void read_all(struct ph_str meta)
{
    enum ph_record_result result = PH_RECORD_OK;
    struct ph_record record;

    while (result == PH_RECORD_OK) {
        size_t before = meta.len;

        result = ph_record_next(&meta, SEED, &record);
        if (result == PH_RECORD_OK) {
            PH_CHECK(meta.len < before);
            read_record(&record);
        }
    }
}

// Sound records made of the input's strings, sealed, then changed at one place: the sum must tell.
static void change_one(struct fuzz_input *input)
{
    struct ph_buf meta = {0};
    struct ph_str address = fuzz_piece(input);
    struct ph_envelope_recipient recipient = {.address = address, .domain = PH_STR("d.test")};
    struct ph_envelope envelope = {
        .reverse_path = fuzz_piece(input), .recipients = &recipient, .recipient_count = 1};
    struct ph_message_body body = {.len = 3, .sum = 5};
    struct ph_record record;
    struct ph_str rest;
    size_t at;
    uint8_t change;

    ph_record_message(&meta, 1, &envelope, &body, 0);
    ph_records_seal(meta.data, meta.len, SEED, 4096);
    rest = ph_buf_str(&meta);
    PH_CHECK(ph_record_next(&rest, SEED, &record) == PH_RECORD_OK);
    read_record(&record);
    at = ((size_t)fuzz_byte(input) << 8 | fuzz_byte(input)) % meta.len;
    change = (uint8_t)(fuzz_byte(input) | 1);
    meta.data[at] = (char)(meta.data[at] ^ change);
    rest = ph_buf_str(&meta);
    PH_CHECK(ph_record_next(&rest, SEED, &record) != PH_RECORD_OK);
    ph_buf_deinit(&meta);
}

// Any bytes behind a head and a sum that are right: only the readers' own checks are left.
static void read_sealed(struct ph_str body)
{
    struct ph_buf meta = {0};
    struct ph_str rest;
    struct ph_record record;
    uint32_t len;

    ph_record_plain(&meta, PH_RECORD_DONE, 1);
    ph_buf_append(&meta, body);
    while (meta.len % 8 != 0) {
        ph_buf_append_char(&meta, '\0');
    }
    len = (uint32_t)meta.len;
    memcpy(meta.data + 4, &len, sizeof(len));
    meta.data[0] = (char)(PH_RECORD_MESSAGE + meta.len / 8 % PH_RECORD_VOID);
    if (meta.len < PH_RECORD_HEAD_BYTES + 64) {
        meta.data[0] = PH_RECORD_OUTCOME; // a MESSAGE has its offset patched when it is sealed
    }
    ph_records_seal(meta.data, meta.len, SEED, 4096);
    rest = ph_buf_str(&meta);
    PH_CHECK(ph_record_next(&rest, SEED, &record) == PH_RECORD_OK);
    read_record(&record);
    ph_buf_deinit(&meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .len = size};
    struct ph_str text = fuzz_rest(&input);

    read_all(text);
    read_sealed(text);
    if (text.len >= PH_GROUP_HEAD_BYTES) {
        struct ph_group group;

        (void)!ph_group_decode(ph_str_first(text, PH_GROUP_HEAD_BYTES), &group);
    }
    if (text.len >= PH_SEGMENT_HEAD_BYTES) {
        struct ph_segment_head head;

        (void)!ph_segment_head_decode(ph_str_first(text, PH_SEGMENT_HEAD_BYTES), SEED, &head);
    }
    change_one(&input);
    return 0;
}
