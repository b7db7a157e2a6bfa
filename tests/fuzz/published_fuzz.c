// What destinations publish: TLSA records, the TXT records of MTA-STS and TLS reporting, policies.
#include <string.h>

#include "dns/tlsa.h"
#include "tests/fuzz/input.h"
#include "tls/mta_sts.h"
#include "tls/report_record.h"

static void read_tlsa(const struct ph_resolve_op *answer)
{
    struct ph_tlsa *tlsa = calloc(1, sizeof(*tlsa));
    struct ph_reason reason = {0};

    PH_CHECK(tlsa != NULL);
    ph_tlsa_read(answer, "mx.d.test", tlsa, &reason);
    PH_CHECK(tlsa->status != PH_TLSA_UNKNOWN);
    PH_CHECK((tlsa->status == PH_TLSA_USABLE) == (tlsa->record_count > 0));
    PH_CHECK((tlsa->status == PH_TLSA_FAILED) == (reason.kind != PH_REASON_NONE));
    PH_CHECK(answer->secure || tlsa->record_count == 0);
    for (size_t i = 0; i < tlsa->record_count; i++) {
        PH_CHECK(ph_tlsa_data(tlsa, &tlsa->records[i]).len == tlsa->records[i].data_len);
        PH_CHECK(tlsa->records[i].data_len > 0);
    }
    ph_tlsa_deinit(tlsa);
    free(tlsa);
}

static void read_text(const struct ph_resolve_op *answer)
{
    char id[PH_STS_ID_BYTES_MAX + 1] = "";
    struct ph_report_targets targets;

    if (ph_sts_record_read(answer, id) == PH_STS_RECORD_FOUND) {
        PH_CHECK(id[0] != '\0' && strlen(id) <= PH_STS_ID_BYTES_MAX);
    }
    if (ph_report_record_read(answer, &targets)) {
        PH_CHECK(targets.count > 0 && targets.count <= PH_REPORT_TARGETS_MAX);
        for (size_t i = 0; i < targets.count; i++) {
            // It goes into headers and URLs: nothing in it starts a line or ends a path.
            for (const char *at = targets.target[i].to; *at != '\0'; at++) {
                PH_CHECK((unsigned char)*at > 0x20 && (unsigned char)*at < 0x7f);
            }
        }
    }
}

static void read_policy(struct ph_str text)
{
    struct ph_buf error = {0};
    struct ph_sts_policy *policy =
        ph_sts_policy_parse(PH_STR("d.test"), PH_STR("1"), 0, text, &error);

    PH_CHECK((policy == NULL) == (error.len > 0));
    if (policy != NULL) {
        PH_CHECK(policy->mode == PH_STS_NONE || policy->mx_count > 0);
        PH_CHECK(policy->max_age_s <= PH_STS_MAX_AGE_S);
        for (size_t i = 0; i < policy->mx_count; i++) {
            struct ph_str pattern = ph_str_from(policy->mx[i]);

            // A pattern names hosts of one domain, never everything.
            PH_CHECK(!ph_str_eq(pattern, PH_STR("*")) && pattern.len > 0);
            (void)ph_sts_mx_matches(policy, pattern);
        }
        PH_CHECK(!ph_sts_mx_matches(policy, PH_STR("")));
    }
    ph_sts_policy_release(policy);
    ph_buf_deinit(&error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .len = size};
    uint8_t choice = fuzz_byte(&input);
    struct ph_resolve_op answer = {.name = "d.test", .secure = choice & 64};

    answer.status = (enum ph_resolve_status)(choice % (PH_RESOLVE_OK + 1));
    read_policy((struct ph_str){.data = (const char *)input.data, .len = input.len});
    while (input.len > 0 && answer.rdata.len < 60000) {
        struct ph_str record = fuzz_piece(&input);

        ph_buf_append_char(&answer.rdata, (char)(record.len >> 8));
        ph_buf_append_char(&answer.rdata, (char)(record.len & 0xff));
        ph_buf_append(&answer.rdata, record);
    }
    if (choice & 128) { // lengths that lie
        answer.rdata.len -= answer.rdata.len > 3 ? 3 : 0;
    }
    read_tlsa(&answer);
    read_text(&answer);
    ph_buf_deinit(&answer.rdata);
    return 0;
}
