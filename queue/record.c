// The bytes of groups and records.
#include "queue/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"

#define GROUP_MAGIC UINT32_C(0x31474850) // "PHG1"
#define SEGMENT_MAGIC UINT64_C(0x3153474553484850)
#define RECORD_VERSION 1
#define OUTCOME_TEXT_MAX 480 // ours: a reply's text that is kept

// --- writing numbers and strings ---

static void put_u8(struct ph_buf *out, uint8_t value)
{
    ph_buf_append_char(out, (char)value);
}

static void put_u16(struct ph_buf *out, uint16_t value)
{
    char bytes[2];

    ph_bytes_store_u16(bytes, value);
    ph_buf_append_bytes(out, bytes, sizeof(bytes));
}

static void put_u32(struct ph_buf *out, uint32_t value)
{
    char bytes[4];

    ph_bytes_store_u32(bytes, value);
    ph_buf_append_bytes(out, bytes, sizeof(bytes));
}

static void put_u64(struct ph_buf *out, uint64_t value)
{
    char bytes[8];

    ph_bytes_store_u64(bytes, value);
    ph_buf_append_bytes(out, bytes, sizeof(bytes));
}

static void put_str(struct ph_buf *out, struct ph_str text)
{
    PH_CHECK(text.len <= UINT16_MAX);
    put_u16(out, (uint16_t)text.len);
    ph_buf_append(out, text);
}

// --- reading them ---

struct reader {
    struct ph_str rest;
    bool bad;
};

// `len`: 1, 2, 4 or 8.
static inline uint64_t get(struct reader *reader, size_t len)
{
    const char *at = reader->rest.data;
    uint64_t value = 0;

    if (reader->rest.len < len) {
        reader->bad = true;
        return 0;
    }
    switch (len) {
    case 1:
        value = (unsigned char)*at;
        break;
    case 2:
        value = ph_bytes_load_u16(at);
        break;
    case 4:
        value = ph_bytes_load_u32(at);
        break;
    default:
        value = ph_bytes_load_u64(at);
        break;
    }
    reader->rest = ph_str_after(reader->rest, len);
    return value;
}

static struct ph_str get_str(struct reader *reader)
{
    size_t len = (size_t)get(reader, 2);
    struct ph_str text = ph_str_first(reader->rest, len);

    reader->bad |= text.len < len;
    reader->rest = ph_str_after(reader->rest, text.len);
    return text;
}

uint64_t ph_record_seed(uint64_t spool_seed, uint64_t segment)
{
    return ph_hash_bytes(&segment, sizeof(segment), spool_seed);
}

// --- groups and segments ---

// Head: magic, reserved, number, oldest, meta_len, gap, body_len, record_count, durable, segment,
// and the sum over all of it and the records.
#define GROUP_SUM_AT (PH_GROUP_HEAD_BYTES - 8)

static uint64_t group_sum(const char *head, struct ph_str meta, uint64_t seed)
{
    return ph_hash_str(meta, ph_hash_bytes(head, GROUP_SUM_AT, seed));
}

void ph_group_encode(const struct ph_group *group, struct ph_str meta, uint64_t seed,
                     char out[PH_GROUP_HEAD_BYTES])
{
    memset(out, 0, PH_GROUP_HEAD_BYTES);
    ph_bytes_store_u32(out, GROUP_MAGIC);
    ph_bytes_store_u64(out + 8, group->number);
    ph_bytes_store_u64(out + 16, group->oldest);
    ph_bytes_store_u32(out + 24, group->meta_len);
    ph_bytes_store_u32(out + 28, group->gap);
    ph_bytes_store_u32(out + 32, group->body_len);
    ph_bytes_store_u32(out + 36, group->record_count);
    ph_bytes_store_u64(out + 40, group->durable);
    ph_bytes_store_u64(out + 48, group->segment);
    ph_bytes_store_u64(out + GROUP_SUM_AT, group_sum(out, meta, seed));
}

bool ph_group_decode(struct ph_str head, struct ph_group *out)
{
    struct reader reader = {.rest = head};

    if (head.len < PH_GROUP_HEAD_BYTES || get(&reader, 4) != GROUP_MAGIC) {
        return false;
    }
    get(&reader, 4);
    out->number = get(&reader, 8);
    out->oldest = get(&reader, 8);
    out->meta_len = (uint32_t)get(&reader, 4);
    out->gap = (uint32_t)get(&reader, 4);
    out->body_len = (uint32_t)get(&reader, 4);
    out->record_count = (uint32_t)get(&reader, 4);
    out->durable = get(&reader, 8);
    out->segment = get(&reader, 8);
    return out->gap < PH_DURABLE_BLOCK_BYTES;
}

bool ph_group_meta_valid(struct ph_str head, struct ph_str meta, uint64_t seed)
{
    struct reader reader = {.rest = ph_str_after(head, GROUP_SUM_AT)};

    return get(&reader, 8) == group_sum(head.data, meta, seed);
}

uint64_t ph_group_disk_bytes(const struct ph_group *group)
{
    uint64_t bytes = (uint64_t)PH_GROUP_HEAD_BYTES + group->meta_len + group->gap + group->body_len;

    return (bytes + PH_DURABLE_BLOCK_BYTES - 1) / PH_DURABLE_BLOCK_BYTES * PH_DURABLE_BLOCK_BYTES;
}

void ph_segment_head_encode(const struct ph_segment_head *head, uint64_t spool_seed,
                            char out[PH_SEGMENT_HEAD_BYTES])
{
    memset(out, 0, PH_SEGMENT_HEAD_BYTES);
    ph_bytes_store_u64(out, SEGMENT_MAGIC);
    ph_bytes_store_u32(out + 8, PH_SPOOL_FORMAT_VERSION);
    ph_bytes_store_u32(out + 12, head->log);
    ph_bytes_store_u64(out + 16, head->number);
    ph_bytes_store_u64(out + 24, ph_hash_bytes(out, 24, spool_seed));
}

bool ph_segment_head_decode(struct ph_str block, uint64_t spool_seed, struct ph_segment_head *out)
{
    struct reader reader = {.rest = block};
    uint64_t version;

    if (block.len < 32 || get(&reader, 8) != SEGMENT_MAGIC) {
        return false;
    }
    version = get(&reader, 4);
    out->log = (uint16_t)get(&reader, 4);
    out->number = get(&reader, 8);
    return version == PH_SPOOL_FORMAT_VERSION &&
           get(&reader, 8) == ph_hash_bytes(block.data, 24, spool_seed);
}

// --- records ---

// Head: type u8, version u8, flags u16, length u32, id u64, sum u64 (over the whole record with the
// sum as zero).
static size_t begin_record(struct ph_buf *out, enum ph_record_type type, uint16_t flags,
                           uint64_t id)
{
    size_t at = out->len;

    put_u8(out, (uint8_t)type);
    put_u8(out, RECORD_VERSION);
    put_u16(out, flags);
    put_u32(out, 0);
    put_u64(out, id);
    put_u64(out, 0);
    return at;
}

static void end_record(struct ph_buf *out, size_t at)
{
    while ((out->len - at) % PH_RECORD_ALIGN != 0) {
        put_u8(out, 0);
    }
    PH_CHECK(!out->overflow);
    ph_bytes_store_u32(out->data + at + 4, (uint32_t)(out->len - at));
}

#define MESSAGE_OFFSET_AT                                                                          \
    (PH_RECORD_HEAD_BYTES + 16) // where a MESSAGE record says where its content is
#define SUM_AT 16

void ph_records_seal(char *meta, size_t len, uint64_t seed, uint32_t bodies_at)
{
    for (size_t at = 0; at < len;) {
        size_t record_len = ph_bytes_load_u32(meta + at + 4);

        PH_CHECK(record_len >= PH_RECORD_HEAD_BYTES && record_len <= len - at);
        if (meta[at] == PH_RECORD_MESSAGE) {
            char *offset = meta + at + MESSAGE_OFFSET_AT;

            ph_bytes_store_u32(offset, ph_bytes_load_u32(offset) + bodies_at);
        }
        ph_bytes_store_u64(meta + at + SUM_AT, 0);
        ph_bytes_store_u64(meta + at + SUM_AT, ph_hash_bytes(meta + at, record_len, seed));
        at += record_len;
    }
}

void ph_record_message(struct ph_buf *out, uint64_t id, const struct ph_envelope *envelope,
                       const struct ph_message_body *body, uint16_t flags)
{
    size_t at = begin_record(out, PH_RECORD_MESSAGE, flags, id);

    put_u64(out, body->len);
    put_u64(out, body->sum);
    put_u32(out, body->offset);
    put_u64(out, envelope->arrival_ms);
    put_u64(out, envelope->expiry_ms);
    put_u8(out, envelope->priority);
    put_u8(out, (uint8_t)envelope->ret);
    put_u8(out, (uint8_t)envelope->body_type);
    put_u8(out, (uint8_t)(envelope->smtputf8 | envelope->requiretls << 1 | envelope->has_8bit << 2 |
                          envelope->tls_optional << 3));
    put_u32(out, envelope->recipient_count);
    put_str(out, envelope->reverse_path);
    put_str(out, envelope->envid);
    put_str(out, envelope->sender);
    put_str(out, envelope->connector);
    put_str(out, envelope->client_name);
    put_str(out, envelope->client_address);
    for (uint32_t i = 0; i < envelope->recipient_count; i++) {
        put_u8(out, envelope->recipients[i].notify);
        put_str(out, envelope->recipients[i].address);
        put_str(out, envelope->recipients[i].domain);
        put_str(out, envelope->recipients[i].orcpt);
    }
    end_record(out, at);
}

void ph_record_attempt(struct ph_buf *out, uint64_t id, const uint32_t *recipients, uint32_t count)
{
    size_t at = begin_record(out, PH_RECORD_ATTEMPT, 0, id);

    put_u32(out, count);
    for (uint32_t i = 0; i < count; i++) {
        put_u32(out, recipients[i]);
    }
    end_record(out, at);
}

void ph_record_outcome(struct ph_buf *out, uint64_t id, const struct ph_outcome_record *outcome)
{
    size_t at =
        begin_record(out, PH_RECORD_OUTCOME, outcome->in_doubt ? PH_RECORD_FLAG_IN_DOUBT : 0, id);

    put_u32(out, outcome->recipient);
    put_u8(out, (uint8_t)outcome->state);
    put_u8(out, outcome->status.class);
    put_u16(out, outcome->status.subject);
    put_u16(out, outcome->status.detail);
    put_u16(out, outcome->attempts);
    put_u16(out, outcome->code);
    put_u64(out, outcome->due_ms);
    // By its token: numbers of kinds change from version to version, tokens don't.
    put_str(out, ph_str_from(ph_reason_token(outcome->kind)));
    put_str(out, ph_str_first(outcome->text, OUTCOME_TEXT_MAX));
    end_record(out, at);
}

void ph_record_plain(struct ph_buf *out, enum ph_record_type type, uint64_t id)
{
    end_record(out, begin_record(out, type, 0, id));
}

static void cut_record(struct ph_str *meta, size_t len, struct ph_record *out)
{
    *out = (struct ph_record){
        .type = (enum ph_record_type)(uint8_t)meta->data[0],
        .flags = ph_bytes_load_u16(meta->data + 2),
        .id = ph_bytes_load_u64(meta->data + 8),
        .body = ph_str_after(ph_str_first(*meta, len), PH_RECORD_HEAD_BYTES),
        .len = (uint32_t)len,
    };
    *meta = ph_str_after(*meta, len);
}

bool ph_record_walk(struct ph_str *meta, struct ph_record *out)
{
    if (meta->len == 0) {
        return false;
    }
    cut_record(meta, ph_bytes_load_u32(meta->data + 4), out);
    return true;
}

enum ph_record_result ph_record_next(struct ph_str *meta, uint64_t seed, struct ph_record *out)
{
    char stack[1024];
    char *copy = stack;
    uint64_t len;
    uint64_t sum;

    if (meta->len == 0) {
        return PH_RECORD_END;
    }
    if (meta->len < PH_RECORD_HEAD_BYTES) {
        return PH_RECORD_DAMAGED;
    }
    len = ph_bytes_load_u32(meta->data + 4);
    if (len < PH_RECORD_HEAD_BYTES || len > meta->len || len % PH_RECORD_ALIGN != 0) {
        return PH_RECORD_DAMAGED;
    }
    // The sum was taken with its own place as zero.
    if (len > sizeof(stack)) {
        copy = malloc(len);
        PH_CHECK(copy != NULL);
    }
    memcpy(copy, meta->data, len);
    ph_bytes_store_u64(copy + SUM_AT, 0);
    sum = ph_hash_bytes(copy, len, seed);
    if (copy != stack) {
        free(copy);
    }
    if (sum != ph_bytes_load_u64(meta->data + SUM_AT)) {
        return PH_RECORD_DAMAGED;
    }
    if ((uint8_t)meta->data[1] != RECORD_VERSION || (uint8_t)meta->data[0] < PH_RECORD_MESSAGE ||
        (uint8_t)meta->data[0] > PH_RECORD_VOID) {
        return PH_RECORD_UNKNOWN;
    }
    cut_record(meta, (size_t)len, out);
    return PH_RECORD_OK;
}

uint64_t ph_record_len(struct ph_str head)
{
    uint64_t len;

    if (head.len < PH_RECORD_HEAD_BYTES || (uint8_t)head.data[1] != RECORD_VERSION ||
        (uint8_t)head.data[0] < PH_RECORD_MESSAGE || (uint8_t)head.data[0] > PH_RECORD_VOID) {
        return 0;
    }
    len = ph_bytes_load_u32(head.data + 4);
    return len >= PH_RECORD_HEAD_BYTES && len % PH_RECORD_ALIGN == 0 ? len : 0;
}

#define MESSAGE_COUNT_AT 40 // where the number of recipients stands in a MESSAGE's body

uint32_t ph_record_recipient_count(const struct ph_record *record)
{
    struct reader reader = {.rest = ph_str_after(record->body, MESSAGE_COUNT_AT)};
    uint64_t count = get(&reader, 4);

    return reader.bad ? 0 : (uint32_t)count;
}

bool ph_record_read_message(const struct ph_record *record, struct ph_envelope *out,
                            struct ph_envelope_recipient *recipients, uint32_t recipients_max,
                            struct ph_message_body *out_body)
{
    struct reader reader = {.rest = record->body};
    uint64_t flags;

    out_body->len = get(&reader, 8);
    out_body->sum = get(&reader, 8);
    out_body->offset = (uint32_t)get(&reader, 4);
    *out = (struct ph_envelope){.arrival_ms = get(&reader, 8)};
    out->expiry_ms = get(&reader, 8);
    out->priority = (uint8_t)get(&reader, 1);
    out->ret = (enum ph_ret)get(&reader, 1);
    out->body_type = (enum ph_body_type)get(&reader, 1);
    flags = get(&reader, 1);
    out->smtputf8 = flags & 1;
    out->requiretls = flags >> 1 & 1;
    out->has_8bit = flags >> 2 & 1;
    out->tls_optional = flags >> 3 & 1;
    out->recipient_count = (uint32_t)get(&reader, 4);
    out->reverse_path = get_str(&reader);
    out->envid = get_str(&reader);
    out->sender = get_str(&reader);
    out->connector = get_str(&reader);
    out->client_name = get_str(&reader);
    out->client_address = get_str(&reader);
    if (out->recipient_count > recipients_max) {
        return false;
    }
    for (uint32_t i = 0; i < out->recipient_count && !reader.bad; i++) {
        recipients[i].notify = (uint8_t)get(&reader, 1);
        recipients[i].address = get_str(&reader);
        recipients[i].domain = get_str(&reader);
        recipients[i].orcpt = get_str(&reader);
    }
    out->recipients = recipients;
    return !reader.bad && out->recipient_count > 0;
}

bool ph_record_read_outcome(const struct ph_record *record, struct ph_outcome_record *out)
{
    struct ph_str token;
    bool sound = ph_record_read_outcome_token(record, out, &token);

    if (!ph_reason_kind_from_token(token, &out->kind)) {
        out->kind = PH_REASON_NONE; // of another version: the text still says it
    }
    return sound;
}

bool ph_record_read_outcome_token(const struct ph_record *record, struct ph_outcome_record *out,
                                  struct ph_str *out_token)
{
    struct reader reader = {.rest = record->body};

    out->recipient = (uint32_t)get(&reader, 4);
    out->state = (enum ph_recipient_state)get(&reader, 1);
    out->status.class = (uint8_t)get(&reader, 1);
    out->status.subject = (uint16_t)get(&reader, 2);
    out->status.detail = (uint16_t)get(&reader, 2);
    out->attempts = (uint16_t)get(&reader, 2);
    out->code = (uint16_t)get(&reader, 2);
    out->due_ms = get(&reader, 8);
    *out_token = get_str(&reader);
    out->text = get_str(&reader);
    out->in_doubt = record->flags & PH_RECORD_FLAG_IN_DOUBT;
    out->kind = PH_REASON_NONE;
    return !reader.bad && out->state <= PH_QUEUED_DELETED;
}

bool ph_record_attempt_at(const struct ph_record *record, uint32_t which, uint32_t *out_recipient)
{
    struct reader reader = {.rest = record->body};
    uint64_t count = get(&reader, 4);
    struct reader at = {.rest = ph_str_after(record->body, 4 + 4 * (size_t)which)};

    if (reader.bad || which >= count) {
        return false;
    }
    *out_recipient = (uint32_t)get(&at, 4);
    return !at.bad;
}
