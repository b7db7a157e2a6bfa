// What a full segment's records say, without what only a delivery needs: a start reads this instead
// of the segment. Redundant: where it is missing or damaged the segment is read. Pure;
// docs/spool-format.md has the bytes.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "queue/record.h"

#define PH_SUMMARY_FOOT_BYTES 72 // at the very end of the segment

// --- gathering ---

struct ph_summary_text;

struct ph_summary {
    struct ph_buf entries;
    struct ph_summary_text *texts;  // uthash: domains and senders so far
    struct ph_summary_text *tokens; // uthash: of reasons
    uint32_t text_count;
    uint32_t token_count;
    uint64_t hash_seed; // peers choose the texts
    uint64_t first_group;
    uint64_t last_group;
    uint64_t oldest; // as the last group says
    bool lacking;    // something was left out: it must not be written
};

void ph_summary_init(struct ph_summary *summary, uint64_t hash_seed);
void ph_summary_deinit(struct ph_summary *summary); // empty, and usable, afterwards
// A group whose records follow; groups come in their order.
void ph_summary_group(struct ph_summary *summary, const struct ph_group *group);
// One of its records; `at`: where it stands in the segment.
void ph_summary_take(struct ph_summary *summary, const struct ph_record *record, uint32_t at);

// What stands in the foot.
struct ph_summary_foot {
    uint64_t segment;
    uint64_t first_group;
    uint64_t last_group;
    uint64_t oldest;      // the oldest segment needed, as the last group says
    uint64_t used;        // where the groups end
    uint32_t entries_len; // bytes in front of the foot, padding not counted
};

// Bytes on the disk: whole blocks.
uint64_t ph_summary_disk_bytes(const struct ph_summary *summary);
// Those bytes, for the end of the segment. Its entries' length, groups and oldest are the
// summary's.
void ph_summary_encode(const struct ph_summary *summary, uint64_t segment, uint64_t used,
                       uint64_t seed, char *out);

// --- reading ---

// The last bytes of a segment: do they claim to be a summary's? Not believed yet.
PH_MUST_CHECK bool ph_summary_foot_decode(struct ph_str end, struct ph_summary_foot *out);
uint64_t ph_summary_foot_disk_bytes(const struct ph_summary_foot *foot);
// `whole`: the summary's bytes on the disk. Its sums and its form are right: `*out_entries`.
PH_MUST_CHECK bool ph_summary_valid(struct ph_str whole, const struct ph_summary_foot *foot,
                                    uint64_t seed, struct ph_str *out_entries);

enum ph_summary_kind {
    PH_SUMMARY_RECORD,
    PH_SUMMARY_TEXT,  // the next text: numbers count from 0
    PH_SUMMARY_TOKEN, // the next token
};

struct ph_summary_entry {
    enum ph_summary_kind kind;
    struct ph_str text; // TEXT, TOKEN
    // A RECORD's.
    enum ph_record_type type;
    uint16_t flags;
    uint64_t id;
    // MESSAGE
    uint32_t at; // the record's place in the segment
    uint32_t len;
    uint64_t size; // of the content
    uint64_t arrival_ms;
    uint64_t expiry_ms;
    uint8_t priority;
    uint32_t sender;     // text
    uint32_t count;      // MESSAGE: recipients; ATTEMPT: of them those it is for
    const char *numbers; // ph_summary_number: MESSAGE: their domains (texts); ATTEMPT: indices
    // OUTCOME
    uint32_t recipient;
    enum ph_recipient_state state;
    uint16_t attempts;
    uint64_t due_ms;
    uint32_t token;
};

// Cuts one entry off the front. False: no more, or it makes no sense (then `entries` isn't empty).
PH_MUST_CHECK bool ph_summary_next(struct ph_str *entries, struct ph_summary_entry *out);
uint32_t ph_summary_number(const struct ph_summary_entry *entry, uint32_t which);
