#include "queue/summary.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT 7
#define SEED UINT64_C(0x1234)
#define AT 8192

// Records as a group has them, one of each kind.
static void put_records(struct ph_buf *meta)
{
    struct ph_envelope_recipient recipients[3] = {
        {.address = PH_STR("a@one.test"), .domain = PH_STR("one.test"), .orcpt = PH_STR_NONE},
        {.address = PH_STR("b@two.test"), .domain = PH_STR("two.test"), .orcpt = PH_STR_NONE},
        {.address = PH_STR("c@one.test"), .domain = PH_STR("one.test"), .orcpt = PH_STR_NONE},
    };
    struct ph_envelope envelope = {.reverse_path = PH_STR("s@from.test"),
                                   .envid = PH_STR_NONE,
                                   .sender = PH_STR("from.test"),
                                   .connector = PH_STR("in"),
                                   .client_name = PH_STR_NONE,
                                   .client_address = PH_STR_NONE,
                                   .arrival_ms = 1000,
                                   .expiry_ms = 2000,
                                   .priority = 2,
                                   .recipients = recipients,
                                   .recipient_count = 3};
    struct ph_message_body body = {.len = 70000, .sum = 1};
    uint32_t tried[2] = {0, 2};

    ph_record_plain(meta, PH_RECORD_VOID, 3); // says nothing of messages
    ph_record_message(meta, 0x10, &envelope, &body, PH_RECORD_FLAG_ATTEMPT);
    ph_record_attempt(meta, 0x10, tried, 2);
    ph_record_outcome(meta, 0x10,
                      &(struct ph_outcome_record){.recipient = 2,
                                                  .state = PH_QUEUED_WAITING,
                                                  .in_doubt = true,
                                                  .attempts = 9,
                                                  .due_ms = 4711,
                                                  .kind = PH_REASON_RCPT_REJECTED,
                                                  .text = PH_STR("not now")});
    ph_record_plain(meta, PH_RECORD_DELAYED, 0x10);
    ph_record_plain(meta, PH_RECORD_UNATTEMPT, 0x10);
    envelope.recipient_count = 1;
    ph_record_message(meta, 0x11, &envelope, &body, PH_RECORD_FLAG_EXTENT);
    ph_record_plain(meta, PH_RECORD_DONE, 0x11);
}

// Their summary's bytes on the disk, to be freed.
static char *summarize(struct ph_buf *meta, uint64_t *out_len)
{
    struct ph_summary summary;
    struct ph_record record;
    struct ph_str rest = ph_buf_str(meta);
    uint32_t at = AT;
    char *bytes;

    ph_summary_init(&summary, 1);
    ph_summary_group(&summary, &(struct ph_group){.number = 5, .oldest = 2});
    ph_summary_group(&summary, &(struct ph_group){.number = 6, .oldest = 3});
    while (ph_record_walk(&rest, &record)) {
        ph_summary_take(&summary, &record, at);
        at += record.len;
    }
    cr_assert(!summary.lacking);
    *out_len = ph_summary_disk_bytes(&summary);
    bytes = malloc(*out_len);
    ph_summary_encode(&summary, SEGMENT, 16384, SEED, bytes);
    ph_summary_deinit(&summary);
    return bytes;
}

static char *example(uint64_t *out_len)
{
    struct ph_buf meta = {0};
    char *bytes;

    put_records(&meta);
    bytes = summarize(&meta, out_len);
    ph_buf_deinit(&meta);
    return bytes;
}

static bool valid(const char *bytes, uint64_t len, uint64_t seed, struct ph_str *out_entries)
{
    struct ph_str whole = {.data = bytes, .len = len};
    struct ph_summary_foot foot;

    return ph_summary_foot_decode(whole, &foot) &&
           ph_summary_valid(whole, &foot, seed, out_entries);
}

Test(summary, says_what_the_records_say)
{
    uint64_t len;
    char *bytes = example(&len);
    struct ph_summary_foot foot;
    struct ph_summary_entry e;
    struct ph_str rest;
    static const char *const texts[] = {"from.test", "one.test", "two.test"};

    cr_assert_eq(len, PH_DURABLE_BLOCK_BYTES);
    cr_assert(ph_summary_foot_decode((struct ph_str){.data = bytes, .len = len}, &foot));
    cr_expect(foot.segment == SEGMENT && foot.first_group == 5 && foot.last_group == 6 &&
              foot.oldest == 3 && foot.used == 16384);
    cr_expect_eq(ph_summary_foot_disk_bytes(&foot), len);
    cr_assert(ph_summary_valid((struct ph_str){.data = bytes, .len = len}, &foot, SEED, &rest));
    for (unsigned i = 0; i < 3; i++) {
        cr_assert(ph_summary_next(&rest, &e));
        cr_expect(e.kind == PH_SUMMARY_TEXT && ph_str_eq(e.text, ph_str_from(texts[i])));
    }
    cr_assert(ph_summary_next(&rest, &e));
    cr_expect(e.kind == PH_SUMMARY_RECORD && e.type == PH_RECORD_MESSAGE && e.id == 0x10 &&
              e.flags == PH_RECORD_FLAG_ATTEMPT && e.at == AT + 24 && e.size == 70000 &&
              e.arrival_ms == 1000 && e.expiry_ms == 2000 && e.priority == 2 && e.sender == 0 &&
              e.count == 3 && ph_summary_number(&e, 0) == 1 && ph_summary_number(&e, 1) == 2 &&
              ph_summary_number(&e, 2) == 1);
    cr_assert(ph_summary_next(&rest, &e));
    cr_expect(e.type == PH_RECORD_ATTEMPT && e.id == 0x10 && e.count == 2 &&
              ph_summary_number(&e, 1) == 2);
    cr_assert(ph_summary_next(&rest, &e));
    cr_expect(e.kind == PH_SUMMARY_TOKEN &&
              ph_str_eq(e.text, ph_str_from(ph_reason_token(PH_REASON_RCPT_REJECTED))));
    cr_assert(ph_summary_next(&rest, &e));
    cr_expect(e.type == PH_RECORD_OUTCOME && e.recipient == 2 && e.state == PH_QUEUED_WAITING &&
              e.flags == PH_RECORD_FLAG_IN_DOUBT && e.attempts == 9 && e.due_ms == 4711 &&
              e.token == 0);
    cr_expect(ph_summary_next(&rest, &e) && e.type == PH_RECORD_DELAYED && e.id == 0x10);
    cr_expect(ph_summary_next(&rest, &e) && e.type == PH_RECORD_UNATTEMPT);
    cr_assert(ph_summary_next(&rest, &e));
    cr_expect(e.type == PH_RECORD_MESSAGE && e.id == 0x11 && e.count == 1 &&
              e.flags == PH_RECORD_FLAG_EXTENT && e.at > AT + 24);
    cr_expect(ph_summary_next(&rest, &e) && e.type == PH_RECORD_DONE && e.id == 0x11);
    cr_expect(!ph_summary_next(&rest, &e) && rest.len == 0);
    free(bytes);
}

Test(summary, every_flipped_bit_of_what_is_meant)
{
    uint64_t len;
    char *bytes = example(&len);
    struct ph_summary_foot foot;
    struct ph_str entries;
    unsigned flips = 0;

    cr_assert(ph_summary_foot_decode((struct ph_str){.data = bytes, .len = len}, &foot));
    for (uint64_t at = 0; at < len; at++) {
        // Between them are zeros that nobody reads; the foot's own are summed.
        if (at >= foot.entries_len && at < len - PH_SUMMARY_FOOT_BYTES) {
            continue;
        }
        for (int bit = 0; bit < 8; bit++) {
            bytes[at] ^= (char)(1 << bit);
            cr_expect(!valid(bytes, len, SEED, &entries), "byte %llu bit %d",
                      (unsigned long long)at, bit);
            bytes[at] ^= (char)(1 << bit);
            flips++;
        }
    }
    cr_expect(flips > 2000, "%u", flips);
    cr_expect(valid(bytes, len, SEED, &entries));
    // Of another segment, or of another life of these blocks.
    cr_expect(!valid(bytes, len, SEED + 1, &entries));
    cr_expect(!valid(bytes, PH_SUMMARY_FOOT_BYTES - 1, SEED, &entries));
    free(bytes);
}

// Rightly summed, and nonsense all the same: whoever reads it must not be led astray.
Test(summary, nonsense)
{
    static const struct {
        const char *what;
        size_t at; // in the first message's entry
        uint32_t value;
    } cases[] = {
        {"a sender that wasn't told", 44, 3},
        {"a domain that wasn't told", 52, 4000000000},
        {"no recipients", 48, 0},
        {"more recipients than there is room for", 48, 100000},
    };
    uint64_t len;
    char *bytes = example(&len);
    struct ph_str entries;
    char *message = NULL;

    cr_assert(valid(bytes, len, SEED, &entries));
    for (uint64_t at = 0; at < len && message == NULL; at += 8) {
        message = bytes[at] == PH_RECORD_MESSAGE && bytes[at + 8] == 0x10 ? bytes + at : NULL;
    }
    cr_assert_not_null(message);
    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_summary_entry entry;
        struct ph_str rest = entries;
        uint32_t texts = 0;
        char kept[4];
        bool sense = true;

        memcpy(kept, message + cases[i].at, 4);
        memcpy(message + cases[i].at, &cases[i].value, 4);
        while (sense && ph_summary_next(&rest, &entry)) {
            texts += entry.kind == PH_SUMMARY_TEXT;
            if (entry.kind == PH_SUMMARY_RECORD && entry.type == PH_RECORD_MESSAGE) {
                sense = entry.sender < texts && ph_summary_number(&entry, 0) < texts;
            }
        }
        cr_expect(!sense || rest.len > 0, "%s", cases[i].what);
        memcpy(message + cases[i].at, kept, 4);
    }
    free(bytes);
}

// Something that can't be summarized makes the whole unusable, never a summary without it.
Test(summary, lacking)
{
    struct ph_summary summary;
    struct ph_record record = {.type = PH_RECORD_OUTCOME, .body = PH_STR("short")};

    ph_summary_init(&summary, 1);
    ph_summary_take(&summary, &record, 0);
    cr_expect(summary.lacking);
    ph_summary_deinit(&summary);
    cr_expect(!summary.lacking);
    record.type = PH_RECORD_MESSAGE;
    ph_summary_take(&summary, &record, 0);
    cr_expect(summary.lacking);
    ph_summary_deinit(&summary);
    // Groups that don't follow each other.
    ph_summary_group(&summary, &(struct ph_group){.number = 5});
    cr_expect(!summary.lacking);
    ph_summary_group(&summary, &(struct ph_group){.number = 7});
    cr_expect(summary.lacking);
    ph_summary_deinit(&summary);
}

// What is written today byte for byte: who changes a byte of the format gives it another magic
// number. PH_WRITE_GOLDEN=1 writes the file anew.
Test(summary, the_golden_summary)
{
    uint64_t len;
    char *bytes = example(&len);
    char path[512];
    char golden[PH_DURABLE_BLOCK_BYTES];
    FILE *file;

    snprintf(path, sizeof(path), "%s/queue/golden/summary-1", PH_TESTS_DIR);
    if (getenv("PH_WRITE_GOLDEN") != NULL) {
        file = fopen(path, "wb");
        cr_assert(file != NULL && fwrite(bytes, 1, len, file) == len);
        fclose(file);
    }
    file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fread(golden, 1, sizeof(golden), file), len);
    fclose(file);
    cr_expect_eq(memcmp(golden, bytes, len), 0);
    free(bytes);
}
