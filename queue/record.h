// The bytes of groups and records: docs/spool-format.md. Little endian. Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "queue/spool.h"

#define PH_SPOOL_FORMAT_VERSION 1
#define PH_RECORD_HEAD_BYTES 24
#define PH_RECORD_ALIGN 8
#define PH_GROUP_HEAD_BYTES 64
#define PH_SEGMENT_HEAD_BYTES PH_DURABLE_BLOCK_BYTES // the segment's first block

enum ph_record_type {
    PH_RECORD_MESSAGE = 1,
    PH_RECORD_ATTEMPT = 2,
    PH_RECORD_OUTCOME = 3,
    PH_RECORD_DONE = 4,
    PH_RECORD_DELAYED = 5,   // the sender was told of a delay
    PH_RECORD_UNATTEMPT = 6, // the attempt that the message's flag announced wasn't begun
    PH_RECORD_VOID = 7,      // id: number of a group that failed; nothing of it counts
};

enum ph_record_flags {
    PH_RECORD_FLAG_ATTEMPT = 1,  // MESSAGE: an attempt follows at once
    PH_RECORD_FLAG_EXTENT = 2,   // MESSAGE: the content is a file of its own
    PH_RECORD_FLAG_IN_DOUBT = 4, // OUTCOME
};

struct ph_record {
    enum ph_record_type type;
    uint16_t flags;
    uint64_t id;
    struct ph_str body; // behind the head
    uint32_t len;       // with the head, padded to 8
};

// One group's head: in front of its metadata, which is in front of its bodies.
struct ph_group {
    uint64_t number;   // consecutive over all segments of a log
    uint64_t oldest;   // the oldest segment that is still needed
    uint32_t meta_len; // records
    uint32_t gap;      // bytes between the records and the bodies
    uint32_t body_len;
    uint32_t record_count;
    uint64_t durable; // number of the last group known durable when this one was written
    uint64_t segment; // the number of the segment it is in
};

struct ph_segment_head {
    uint64_t number; // of the segment, rising
    uint16_t log;
};

// What a MESSAGE record holds beside the envelope.
struct ph_message_body {
    uint32_t
        offset; // of the content: within the group's bodies, and once sealed within the segment
    uint64_t len;
    uint64_t sum; // XXH3 of the content
};

// All sums are seeded: with the spool's seed and the segment's number, so that what an earlier life
// of the same blocks left behind never parses.
uint64_t ph_record_seed(uint64_t spool_seed, uint64_t segment);

void ph_group_encode(const struct ph_group *group, struct ph_str meta, uint64_t seed,
                     char out[PH_GROUP_HEAD_BYTES]);
// Of the head alone, not believed yet: ph_group_meta_valid checks both.
PH_MUST_CHECK bool ph_group_decode(struct ph_str head, struct ph_group *out);
PH_MUST_CHECK bool ph_group_meta_valid(struct ph_str head, struct ph_str meta, uint64_t seed);
// Bytes on the disk, padded to a block.
uint64_t ph_group_disk_bytes(const struct ph_group *group);

void ph_segment_head_encode(const struct ph_segment_head *head, uint64_t spool_seed,
                            char out[PH_SEGMENT_HEAD_BYTES]);
PH_MUST_CHECK bool ph_segment_head_decode(struct ph_str block, uint64_t spool_seed,
                                          struct ph_segment_head *out);

// Records are appended to `out`. Each has its own sum, so that one can be read alone; it is made by
// ph_records_seal, when it is known where they go.
void ph_record_message(struct ph_buf *out, uint64_t id, const struct ph_envelope *envelope,
                       const struct ph_message_body *body, uint16_t flags);
void ph_record_attempt(struct ph_buf *out, uint64_t id, const uint32_t *recipients, uint32_t count);
void ph_record_outcome(struct ph_buf *out, uint64_t id, const struct ph_outcome_record *outcome);
void ph_record_plain(struct ph_buf *out, enum ph_record_type type, uint64_t id);
// All records of a group, before it is written: contents begin at `bodies_at` in the segment (the
// offsets of messages were counted from there), and sums are filled in.
void ph_records_seal(char *meta, size_t len, uint64_t seed, uint32_t bodies_at);
// As next, for records that were just made: without a look at the sum. False: no more.
PH_MUST_CHECK bool ph_record_walk(struct ph_str *meta, struct ph_record *out);

enum ph_record_result {
    PH_RECORD_OK,
    PH_RECORD_END,     // nothing is left
    PH_RECORD_DAMAGED, // its sum is wrong, or it makes no sense
    PH_RECORD_UNKNOWN, // a type or version of the future
};
// Cuts one record off the front of `meta`.
PH_MUST_CHECK enum ph_record_result ph_record_next(struct ph_str *meta, uint64_t seed,
                                                   struct ph_record *out);

// What the bytes at `head` say of a record's length, if they may be the head of one; else 0.
uint64_t ph_record_len(struct ph_str head);

// The envelope's strings point into the record; `recipients` has room for `recipients_max`. False:
// damaged, or more recipients.
PH_MUST_CHECK bool ph_record_read_message(const struct ph_record *record,
                                          struct ph_envelope *out_envelope,
                                          struct ph_envelope_recipient *recipients,
                                          uint32_t recipients_max,
                                          struct ph_message_body *out_body);
uint32_t ph_record_recipient_count(const struct ph_record *record); // of a MESSAGE
// `out->text` points into the record.
PH_MUST_CHECK bool ph_record_read_outcome(const struct ph_record *record,
                                          struct ph_outcome_record *out);
// The same with the reason's token as it stands there: `out->kind` is NONE.
PH_MUST_CHECK bool ph_record_read_outcome_token(const struct ph_record *record,
                                                struct ph_outcome_record *out,
                                                struct ph_str *out_token);
// The recipient indices of an ATTEMPT, one by one: false when there are no more.
PH_MUST_CHECK bool ph_record_attempt_at(const struct ph_record *record, uint32_t which,
                                        uint32_t *out_recipient);
