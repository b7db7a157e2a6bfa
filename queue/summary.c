// The bytes of summaries.
#include "queue/summary.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/bytes.h"
#include "base/hash.h"

#define FOOT_MAGIC UINT64_C(0x314d555348504850) // "PHPHSUM1"
#define FOOT_SUM_AT (PH_SUMMARY_FOOT_BYTES - 8)
#define RECIPIENTS_FEW 64 // of a message, read without allocating; ours

// Entries: a head, perhaps numbers or letters behind it, zeros up to a multiple of 8.
#define ENTRY_TEXT 0x40
#define ENTRY_TOKEN 0x41
#define ENTRY_ALIGN 8
#define TEXT_HEAD_BYTES 4
#define MESSAGE_HEAD_BYTES 52
#define OUTCOME_BYTES 32
#define ATTEMPT_HEAD_BYTES 16
#define PLAIN_BYTES 16

struct ph_summary_text {
    UT_hash_handle hh;
    uint32_t number;
    char bytes[];
};

static uint64_t aligned(uint64_t len)
{
    return (len + ENTRY_ALIGN - 1) / ENTRY_ALIGN * ENTRY_ALIGN;
}

// --- gathering ---

void ph_summary_init(struct ph_summary *summary, uint64_t hash_seed)
{
    *summary = (struct ph_summary){.hash_seed = hash_seed};
}

static void free_texts(struct ph_summary_text **texts)
{
    struct ph_summary_text *text;
    struct ph_summary_text *next;

    HASH_ITER(hh, *texts, text, next)
    {
        HASH_DEL(*texts, text);
        free(text);
    }
}

void ph_summary_deinit(struct ph_summary *summary)
{
    if (summary != NULL) {
        free_texts(&summary->texts);
        free_texts(&summary->tokens);
        ph_buf_deinit(&summary->entries);
        ph_summary_init(summary, summary->hash_seed);
    }
}

// Room for an entry of so many bytes, zeroed; NULL: the summary is lacking from now on.
static char *add(struct ph_summary *summary, uint64_t len)
{
    char *entry = ph_buf_reserve(&summary->entries, (size_t)aligned(len));

    if (entry == NULL) {
        summary->lacking = true;
    } else {
        memset(entry, 0, (size_t)aligned(len));
        ph_buf_grew(&summary->entries, (size_t)aligned(len));
    }
    return entry;
}

// The number of a string, which is told where it comes for the first time.
static uint32_t number_of(struct ph_summary *summary, struct ph_str bytes, bool token)
{
    struct ph_summary_text **texts = token ? &summary->tokens : &summary->texts;
    unsigned hash = (unsigned)ph_hash_str(bytes, summary->hash_seed);
    struct ph_summary_text *text;

    HASH_FIND_BYHASHVALUE(hh, *texts, bytes.data, bytes.len, hash, text);
    if (text == NULL) {
        char *entry = add(summary, TEXT_HEAD_BYTES + bytes.len);

        if (entry == NULL) {
            return 0;
        }
        entry[0] = token ? ENTRY_TOKEN : ENTRY_TEXT;
        ph_bytes_store_u16(entry + 2, (uint16_t)bytes.len);
        text = ph_alloc(sizeof(*text) + bytes.len);
        if (bytes.len > 0) {
            memcpy(entry + TEXT_HEAD_BYTES, bytes.data, bytes.len);
            memcpy(text->bytes, bytes.data, bytes.len);
        }
        text->number = token ? summary->token_count++ : summary->text_count++;
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, *texts, text->bytes, bytes.len, hash, text);
    }
    return text->number;
}

void ph_summary_group(struct ph_summary *summary, const struct ph_group *group)
{
    if (summary->first_group == 0) {
        summary->first_group = group->number;
    } else {
        summary->lacking |= group->number != summary->last_group + 1;
    }
    summary->last_group = group->number;
    summary->oldest = group->oldest;
}

static void take_message(struct ph_summary *summary, const struct ph_record *record, uint32_t at)
{
    uint32_t count = ph_record_recipient_count(record);
    struct ph_envelope_recipient few[RECIPIENTS_FEW];
    struct ph_envelope_recipient *recipients = few;
    uint32_t numbers[RECIPIENTS_FEW];
    uint32_t *domains = numbers;
    struct ph_message_body body;
    struct ph_envelope envelope;
    uint32_t sender;
    char *entry;

    if (count == 0 || count > record->body.len) {
        summary->lacking = true;
        return;
    }
    if (count > RECIPIENTS_FEW) {
        recipients = ph_alloc(count * sizeof(*recipients));
        domains = ph_alloc(count * sizeof(*domains));
    }
    if (ph_record_read_message(record, &envelope, recipients, count, &body)) {
        sender = number_of(summary, envelope.sender, false);
        for (uint32_t i = 0; i < count; i++) {
            domains[i] = number_of(summary, recipients[i].domain, false);
        }
        entry = add(summary, MESSAGE_HEAD_BYTES + (uint64_t)count * 4);
        if (entry != NULL) {
            entry[0] = PH_RECORD_MESSAGE;
            entry[1] = (char)record->flags;
            entry[2] = (char)envelope.priority;
            ph_bytes_store_u32(entry + 4, at);
            ph_bytes_store_u64(entry + 8, record->id);
            ph_bytes_store_u64(entry + 16, body.len);
            ph_bytes_store_u64(entry + 24, envelope.arrival_ms);
            ph_bytes_store_u64(entry + 32, envelope.expiry_ms);
            ph_bytes_store_u32(entry + 40, record->len);
            ph_bytes_store_u32(entry + 44, sender);
            ph_bytes_store_u32(entry + 48, count);
            for (uint32_t i = 0; i < count; i++) {
                ph_bytes_store_u32(entry + MESSAGE_HEAD_BYTES + (size_t)i * 4, domains[i]);
            }
        }
    } else {
        summary->lacking = true;
    }
    if (recipients != few) {
        free(recipients);
        free(domains);
    }
}

static void take_outcome(struct ph_summary *summary, const struct ph_record *record)
{
    struct ph_outcome_record outcome;
    struct ph_str token;
    uint32_t number;
    char *entry;

    if (!ph_record_read_outcome_token(record, &outcome, &token)) {
        summary->lacking = true;
        return;
    }
    number = number_of(summary, token, true);
    entry = add(summary, OUTCOME_BYTES);
    if (entry != NULL) {
        entry[0] = PH_RECORD_OUTCOME;
        entry[1] = (char)record->flags;
        entry[2] = (char)outcome.state;
        ph_bytes_store_u32(entry + 4, outcome.recipient);
        ph_bytes_store_u64(entry + 8, record->id);
        ph_bytes_store_u64(entry + 16, outcome.due_ms);
        ph_bytes_store_u32(entry + 24, number);
        ph_bytes_store_u32(entry + 28, outcome.attempts);
    }
}

static void take_attempt(struct ph_summary *summary, const struct ph_record *record)
{
    uint32_t count = 0;
    uint32_t index;
    char *entry;

    while (ph_record_attempt_at(record, count, &index)) {
        count++;
    }
    entry = add(summary, ATTEMPT_HEAD_BYTES + (uint64_t)count * 4);
    if (entry != NULL) {
        entry[0] = PH_RECORD_ATTEMPT;
        ph_bytes_store_u32(entry + 4, count);
        ph_bytes_store_u64(entry + 8, record->id);
        for (uint32_t i = 0; i < count && ph_record_attempt_at(record, i, &index); i++) {
            ph_bytes_store_u32(entry + ATTEMPT_HEAD_BYTES + (size_t)i * 4, index);
        }
    }
}

static void take_plain(struct ph_summary *summary, const struct ph_record *record)
{
    char *entry = add(summary, PLAIN_BYTES);

    if (entry != NULL) {
        entry[0] = (char)record->type;
        ph_bytes_store_u64(entry + 8, record->id);
    }
}

void ph_summary_take(struct ph_summary *summary, const struct ph_record *record, uint32_t at)
{
    switch (record->type) {
    case PH_RECORD_MESSAGE:
        take_message(summary, record, at);
        break;
    case PH_RECORD_ATTEMPT:
        take_attempt(summary, record);
        break;
    case PH_RECORD_OUTCOME:
        take_outcome(summary, record);
        break;
    case PH_RECORD_DONE:
    case PH_RECORD_DELAYED:
    case PH_RECORD_UNATTEMPT:
        take_plain(summary, record);
        break;
    case PH_RECORD_VOID:
        break; // of other segments' groups: it is looked for in the segment's first group itself
    }
}

static uint64_t disk_bytes(uint64_t entries_len)
{
    return (entries_len + PH_SUMMARY_FOOT_BYTES + PH_DURABLE_BLOCK_BYTES - 1) /
           PH_DURABLE_BLOCK_BYTES * PH_DURABLE_BLOCK_BYTES;
}

uint64_t ph_summary_disk_bytes(const struct ph_summary *summary)
{
    return disk_bytes(summary->entries.len);
}

// The foot's sum covers the entries too.
static uint64_t sum_of(const char *foot, struct ph_str entries, uint64_t seed)
{
    return ph_hash_str(entries, ph_hash_bytes(foot, FOOT_SUM_AT, seed));
}

void ph_summary_encode(const struct ph_summary *summary, uint64_t segment, uint64_t used,
                       uint64_t seed, char *out)
{
    struct ph_str entries = ph_buf_str(&summary->entries);
    uint64_t whole = disk_bytes(entries.len);
    char *foot = out + whole - PH_SUMMARY_FOOT_BYTES;

    if (entries.len > 0) {
        memcpy(out, entries.data, entries.len);
    }
    memset(out + entries.len, 0, (size_t)whole - entries.len);
    ph_bytes_store_u64(foot, FOOT_MAGIC);
    ph_bytes_store_u64(foot + 8, segment);
    ph_bytes_store_u64(foot + 16, summary->first_group);
    ph_bytes_store_u64(foot + 24, summary->last_group);
    ph_bytes_store_u64(foot + 32, summary->oldest);
    ph_bytes_store_u64(foot + 40, used);
    ph_bytes_store_u32(foot + 48, (uint32_t)entries.len);
    ph_bytes_store_u64(foot + FOOT_SUM_AT, sum_of(foot, entries, seed));
}

// --- reading ---

bool ph_summary_foot_decode(struct ph_str end, struct ph_summary_foot *out)
{
    const char *foot;

    if (end.len < PH_SUMMARY_FOOT_BYTES) {
        return false;
    }
    foot = end.data + end.len - PH_SUMMARY_FOOT_BYTES;
    if (ph_bytes_load_u64(foot) != FOOT_MAGIC) {
        return false;
    }
    *out = (struct ph_summary_foot){
        .segment = ph_bytes_load_u64(foot + 8),
        .first_group = ph_bytes_load_u64(foot + 16),
        .last_group = ph_bytes_load_u64(foot + 24),
        .oldest = ph_bytes_load_u64(foot + 32),
        .used = ph_bytes_load_u64(foot + 40),
        .entries_len = ph_bytes_load_u32(foot + 48),
    };
    return true;
}

uint64_t ph_summary_foot_disk_bytes(const struct ph_summary_foot *foot)
{
    return disk_bytes(foot->entries_len);
}

bool ph_summary_valid(struct ph_str whole, const struct ph_summary_foot *foot, uint64_t seed,
                      struct ph_str *out_entries)
{
    struct ph_str entries = ph_str_first(whole, foot->entries_len);
    struct ph_summary_entry entry;
    struct ph_str rest = entries;
    const char *end;
    uint32_t texts = 0;
    uint32_t tokens = 0;
    bool sound = true;

    if (whole.len != disk_bytes(foot->entries_len)) {
        return false;
    }
    end = whole.data + whole.len - PH_SUMMARY_FOOT_BYTES;
    if (ph_bytes_load_u64(end + FOOT_SUM_AT) != sum_of(end, entries, seed)) {
        return false;
    }
    // Numbers name what was told before: who reads it needs no more checks.
    while (sound && ph_summary_next(&rest, &entry)) {
        if (entry.kind != PH_SUMMARY_RECORD) {
            texts += entry.kind == PH_SUMMARY_TEXT;
            tokens += entry.kind == PH_SUMMARY_TOKEN;
        } else if (entry.type == PH_RECORD_MESSAGE) {
            sound = entry.sender < texts;
            for (uint32_t i = 0; i < entry.count; i++) {
                sound &= ph_summary_number(&entry, i) < texts;
            }
        } else if (entry.type == PH_RECORD_OUTCOME) {
            sound = entry.token < tokens;
        }
    }
    *out_entries = entries;
    return sound && rest.len == 0;
}

// The bytes of the entry that begins here; 0: none does.
static uint64_t entry_bytes(struct ph_str entries)
{
    const char *at = entries.data;
    uint64_t len = 0;

    if (entries.len < ENTRY_ALIGN) {
        return 0;
    }
    switch ((unsigned char)at[0]) {
    case ENTRY_TEXT:
    case ENTRY_TOKEN:
        len = TEXT_HEAD_BYTES + (uint64_t)ph_bytes_load_u16(at + 2);
        break;
    case PH_RECORD_MESSAGE:
        len = entries.len < MESSAGE_HEAD_BYTES
                  ? 0
                  : MESSAGE_HEAD_BYTES + (uint64_t)ph_bytes_load_u32(at + 48) * 4;
        break;
    case PH_RECORD_ATTEMPT:
        len = ATTEMPT_HEAD_BYTES + (uint64_t)ph_bytes_load_u32(at + 4) * 4;
        break;
    case PH_RECORD_OUTCOME:
        len = OUTCOME_BYTES;
        break;
    case PH_RECORD_DONE:
    case PH_RECORD_DELAYED:
    case PH_RECORD_UNATTEMPT:
        len = PLAIN_BYTES;
        break;
    }
    len = aligned(len);
    return len <= entries.len ? len : 0;
}

static void read_record(const char *at, struct ph_summary_entry *out)
{
    out->kind = PH_SUMMARY_RECORD;
    out->type = (enum ph_record_type)(unsigned char)at[0];
    out->id = ph_bytes_load_u64(at + 8);
    if (out->type == PH_RECORD_MESSAGE) {
        out->flags = (unsigned char)at[1];
        out->priority = (uint8_t)at[2];
        out->at = ph_bytes_load_u32(at + 4);
        out->size = ph_bytes_load_u64(at + 16);
        out->arrival_ms = ph_bytes_load_u64(at + 24);
        out->expiry_ms = ph_bytes_load_u64(at + 32);
        out->len = ph_bytes_load_u32(at + 40);
        out->sender = ph_bytes_load_u32(at + 44);
        out->count = ph_bytes_load_u32(at + 48);
        out->numbers = at + MESSAGE_HEAD_BYTES;
    } else if (out->type == PH_RECORD_OUTCOME) {
        out->flags = (unsigned char)at[1];
        out->state = (enum ph_recipient_state)(unsigned char)at[2];
        out->recipient = ph_bytes_load_u32(at + 4);
        out->due_ms = ph_bytes_load_u64(at + 16);
        out->token = ph_bytes_load_u32(at + 24);
        out->attempts = (uint16_t)ph_bytes_load_u32(at + 28);
    } else if (out->type == PH_RECORD_ATTEMPT) {
        out->count = ph_bytes_load_u32(at + 4);
        out->numbers = at + ATTEMPT_HEAD_BYTES;
    }
}

bool ph_summary_next(struct ph_str *entries, struct ph_summary_entry *out)
{
    const char *at = entries->data;
    uint64_t len = entry_bytes(*entries);

    if (len == 0) {
        return false;
    }
    if ((unsigned char)at[0] == ENTRY_TEXT || (unsigned char)at[0] == ENTRY_TOKEN) {
        out->kind = (unsigned char)at[0] == ENTRY_TEXT ? PH_SUMMARY_TEXT : PH_SUMMARY_TOKEN;
        out->text = (struct ph_str){.data = at + TEXT_HEAD_BYTES, .len = ph_bytes_load_u16(at + 2)};
    } else {
        read_record(at, out);
        if (out->type == PH_RECORD_OUTCOME && out->state > PH_QUEUED_DELETED) {
            return false;
        }
        if (out->type == PH_RECORD_MESSAGE && out->count == 0) {
            return false;
        }
    }
    *entries = ph_str_after(*entries, (size_t)len);
    return true;
}

uint32_t ph_summary_number(const struct ph_summary_entry *entry, uint32_t which)
{
    return ph_bytes_load_u32(entry->numbers + (size_t)which * 4);
}
