// Summaries of segments: any bytes, and any entries behind a sum that is right. What is found valid
// must be read within its bounds, with numbers that name what was told before.
#include <stdlib.h>

#include "queue/summary.h"
#include "tests/fuzz/input.h"

#define SEED 42

static void read_all(struct ph_str entries)
{
    struct ph_str rest = entries;
    struct ph_summary_entry entry;
    uint32_t texts = 0;
    uint32_t tokens = 0;

    while (ph_summary_next(&rest, &entry)) {
        if (entry.kind != PH_SUMMARY_RECORD) {
            PH_CHECK(entry.text.data + entry.text.len <= entries.data + entries.len);
            texts += entry.kind == PH_SUMMARY_TEXT;
            tokens += entry.kind == PH_SUMMARY_TOKEN;
        } else if (entry.type == PH_RECORD_MESSAGE) {
            PH_CHECK(entry.sender < texts && entry.count > 0);
            for (uint32_t i = 0; i < entry.count; i++) {
                PH_CHECK(ph_summary_number(&entry, i) < texts);
            }
        } else if (entry.type == PH_RECORD_OUTCOME) {
            PH_CHECK(entry.token < tokens && entry.state <= PH_QUEUED_DELETED);
        } else if (entry.type == PH_RECORD_ATTEMPT && entry.count > 0) {
            (void)ph_summary_number(&entry, entry.count - 1);
        }
    }
    PH_CHECK(rest.len == 0);
}

static void read_summary(struct ph_str whole)
{
    struct ph_summary_foot foot;
    struct ph_str entries;

    if (ph_summary_foot_decode(whole, &foot) && ph_summary_foot_disk_bytes(&foot) == whole.len &&
        ph_summary_valid(whole, &foot, SEED, &entries)) {
        read_all(entries);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ph_str text = {.data = (const char *)data, .len = size};
    struct ph_summary summary;
    uint64_t len;
    char *bytes;

    read_summary(text);
    ph_summary_init(&summary, 1);
    ph_buf_append(&summary.entries, text);
    ph_summary_group(&summary, &(struct ph_group){.number = 1, .oldest = 1});
    len = ph_summary_disk_bytes(&summary);
    bytes = malloc(len);
    PH_CHECK(bytes != NULL);
    ph_summary_encode(&summary, 7, 8192, SEED, bytes);
    read_summary((struct ph_str){.data = bytes, .len = len});
    free(bytes);
    ph_summary_deinit(&summary);
    return 0;
}
