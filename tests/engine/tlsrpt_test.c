// TLS reports: what is counted, and when.
#include "engine/tlsrpt.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <string.h>

#define DAY_MS UINT64_C(86400000)
#define NOON_MS (UINT64_C(20000) * DAY_MS + DAY_MS / 2) // 2024-10-04

static struct ph_tlsrpt_session session(const char *domain, enum ph_tlsrpt_result result,
                                        const char *host)
{
    return (struct ph_tlsrpt_session){
        .domain = ph_str_from(domain),
        .policy = PH_TLSRPT_NO_POLICY,
        .result = result,
        .sending_ip = PH_STR("192.0.2.1"),
        .receiving_host = ph_str_from(host),
        .receiving_ip = PH_STR("192.0.2.7"),
        .reason = PH_STR("token"),
    };
}

static json_t *format(const struct ph_tlsrpt_report *report)
{
    struct ph_buf text = {0};
    json_error_t error;
    json_t *json;

    ph_tlsrpt_format(report,
                     &(struct ph_tlsrpt_names){.organization = PH_STR("Out \"Org\""),
                                               .contact = PH_STR("pm@out.example"),
                                               .id = PH_STR("id-1")},
                     &text);
    json = json_loads(ph_buf_cstr(&text), JSON_REJECT_DUPLICATES, &error);
    cr_assert_not_null(json, "%s in %s", error.text, ph_buf_cstr(&text));
    ph_buf_deinit(&text);
    return json;
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

Test(tlsrpt, a_day_is_reported_when_it_is_over)
{
    struct ph_tlsrpt *reports = ph_tlsrpt_create(DAY_MS);
    struct ph_tlsrpt_session good = session("a.example", PH_TLSRPT_SUCCESS, "mx.a.example");
    struct ph_tlsrpt_session bad =
        session("a.example", PH_TLSRPT_CERTIFICATE_EXPIRED, "mx.a.example");
    struct ph_tlsrpt_report *report;
    json_t *json;
    json_t *policy;
    json_t *failure;

    for (int i = 0; i < 3; i++) {
        ph_tlsrpt_count(reports, &good, NOON_MS);
    }
    ph_tlsrpt_count(reports, &bad, NOON_MS);
    ph_tlsrpt_count(reports, &bad, NOON_MS + DAY_MS / 2 - 1);
    bad.receiving_host = PH_STR("mx2.a.example");
    ph_tlsrpt_count(reports, &bad, NOON_MS);
    cr_assert_null(ph_tlsrpt_take(reports, NOON_MS + DAY_MS / 2 - 1)); // the day isn't over
    ph_tlsrpt_count(reports, &good, NOON_MS + DAY_MS / 2);             // the next one
    report = ph_tlsrpt_take(reports, NOON_MS + DAY_MS / 2);
    cr_assert_not_null(report);
    cr_assert_null(ph_tlsrpt_take(reports, NOON_MS + DAY_MS / 2));
    json = format(report);
    cr_assert_str_eq(text_at(json, "organization-name"), "Out \"Org\"");
    cr_assert_str_eq(text_at(json, "report-id"), "id-1");
    cr_assert_str_eq(text_at(json_object_get(json, "date-range"), "start-datetime"),
                     "2024-10-04T00:00:00Z");
    cr_assert_str_eq(text_at(json_object_get(json, "date-range"), "end-datetime"),
                     "2024-10-04T23:59:59Z");
    cr_assert_eq(json_array_size(json_object_get(json, "policies")), 1);
    policy = json_array_get(json_object_get(json, "policies"), 0);
    cr_assert_str_eq(text_at(json_object_get(policy, "policy"), "policy-type"), "no-policy-found");
    cr_assert_str_eq(text_at(json_object_get(policy, "policy"), "policy-domain"), "a.example");
    cr_assert_eq(json_integer_value(json_object_get(json_object_get(policy, "summary"),
                                                    "total-successful-session-count")),
                 3);
    cr_assert_eq(json_integer_value(json_object_get(json_object_get(policy, "summary"),
                                                    "total-failure-session-count")),
                 3);
    cr_assert_eq(json_array_size(json_object_get(policy, "failure-details")), 2);
    failure = json_array_get(json_object_get(policy, "failure-details"), 0);
    cr_assert_str_eq(text_at(failure, "result-type"), "certificate-expired");
    cr_assert_str_eq(text_at(failure, "receiving-mx-hostname"), "mx.a.example");
    cr_assert_eq(json_integer_value(json_object_get(failure, "failed-session-count")), 2);
    json_decref(json);
    ph_tlsrpt_report_destroy(report);
    ph_tlsrpt_destroy(reports);
}

Test(tlsrpt, policies_of_one_domain_are_told_apart)
{
    struct ph_tlsrpt *reports = ph_tlsrpt_create(DAY_MS);
    struct ph_tlsrpt_session s = session("a.example", PH_TLSRPT_SUCCESS, "mx.a.example");
    struct ph_buf error = {0};
    struct ph_tlsa tlsa = {
        .status = PH_TLSA_USABLE, .records = ph_alloc(sizeof(*tlsa.records)), .record_count = 1};
    struct ph_tlsrpt_report *report;
    json_t *json;
    json_t *entry;
    size_t i;
    int seen = 0;

    tlsa.records[0] =
        (struct ph_tlsa_record){.usage = PH_TLSA_DANE_EE, .selector = PH_TLSA_SPKI, .data_len = 2};
    ph_buf_append(&tlsa.data, PH_STR("\xab\x01"));
    ph_tlsrpt_count(reports, &s, NOON_MS);
    s.policy = PH_TLSRPT_STS;
    s.sts = ph_sts_policy_parse(PH_STR("a.example"), PH_STR("1"), NOON_MS,
                                PH_STR("version: STSv1\r\nmode: testing\r\n\r\nmx: *.a.example\r\n"
                                       "max_age: 1"),
                                &error);
    cr_assert_not_null(s.sts);
    ph_tlsrpt_count(reports, &s, NOON_MS);
    ph_tlsrpt_count(reports, &s, NOON_MS);
    ph_sts_policy_release(s.sts);
    s.policy = PH_TLSRPT_TLSA;
    s.sts = NULL;
    s.tlsa = &tlsa;
    ph_tlsrpt_count(reports, &s, NOON_MS);
    s.domain = PH_STR("b.example");
    ph_tlsrpt_count(reports, &s, NOON_MS);
    ph_tlsa_deinit(&tlsa);
    report = ph_tlsrpt_take(reports, NOON_MS + DAY_MS);
    cr_assert(ph_str_eq(ph_tlsrpt_report_domain(report), PH_STR("a.example")));
    json = format(report);
    cr_assert_eq(json_array_size(json_object_get(json, "policies")), 3);
    json_array_foreach(json_object_get(json, "policies"), i, entry)
    {
        const json_t *policy = json_object_get(entry, "policy");
        const json_t *lines = json_object_get(policy, "policy-string");

        if (strcmp(text_at(policy, "policy-type"), "sts") == 0) {
            cr_assert_eq(json_array_size(lines), 4);
            cr_assert_str_eq(json_string_value(json_array_get(lines, 0)), "version: STSv1");
            cr_assert_str_eq(json_string_value(json_array_get(lines, 3)), "max_age: 1");
            cr_assert_str_eq(
                json_string_value(json_array_get(json_object_get(policy, "mx-host"), 0)),
                "*.a.example");
            seen |= 1;
        } else if (strcmp(text_at(policy, "policy-type"), "tlsa") == 0) {
            cr_assert_str_eq(json_string_value(json_array_get(lines, 0)), "3 1 0 AB01");
            seen |= 2;
        } else {
            cr_assert_null(lines);
            seen |= 4;
        }
        cr_assert_null(json_object_get(entry, "failure-details"));
    }
    cr_assert_eq(seen, 7);
    json_decref(json);
    ph_tlsrpt_report_destroy(report);
    report = ph_tlsrpt_take(reports, NOON_MS + DAY_MS);
    cr_assert(ph_str_eq(ph_tlsrpt_report_domain(report), PH_STR("b.example")));
    ph_tlsrpt_report_destroy(report);
    // What nobody took is past when another period is over.
    ph_tlsrpt_count(
        reports,
        &(struct ph_tlsrpt_session){.domain = PH_STR("c.example"), .policy = PH_TLSRPT_NO_POLICY},
        NOON_MS + DAY_MS);
    ph_tlsrpt_count(
        reports,
        &(struct ph_tlsrpt_session){.domain = PH_STR("d.example"), .policy = PH_TLSRPT_NO_POLICY},
        NOON_MS + 2 * DAY_MS);
    report = ph_tlsrpt_take(reports, NOON_MS + 3 * DAY_MS);
    cr_assert(ph_str_eq(ph_tlsrpt_report_domain(report), PH_STR("d.example")));
    ph_tlsrpt_report_destroy(report);
    cr_assert_null(ph_tlsrpt_take(reports, NOON_MS + 3 * DAY_MS));
    ph_tlsrpt_destroy(reports);
}

Test(tlsrpt, kinds_of_failure_are_bounded_and_counted)
{
    struct ph_tlsrpt *reports = ph_tlsrpt_create(DAY_MS);
    struct ph_tlsrpt_report *report;
    json_t *json;
    json_t *policy;

    for (int i = 0; i < PH_TLSRPT_FAILURES_MAX + 5; i++) {
        char host[32];
        struct ph_tlsrpt_session s;

        snprintf(host, sizeof(host), "mx%d.example", i);
        s = session("a.example", PH_TLSRPT_TLSA_INVALID, host);
        ph_tlsrpt_count(reports, &s, NOON_MS);
    }
    report = ph_tlsrpt_take(reports, NOON_MS + DAY_MS);
    json = format(report);
    policy = json_array_get(json_object_get(json, "policies"), 0);
    cr_assert_eq(json_array_size(json_object_get(policy, "failure-details")),
                 PH_TLSRPT_FAILURES_MAX);
    cr_assert_eq(json_integer_value(json_object_get(json_object_get(policy, "summary"),
                                                    "total-failure-session-count")),
                 PH_TLSRPT_FAILURES_MAX + 5);
    json_decref(json);
    ph_tlsrpt_report_destroy(report);
    ph_tlsrpt_destroy(reports);
}

Test(tlsrpt, goes_on_over_a_restart)
{
    struct ph_tlsrpt *reports = ph_tlsrpt_create(DAY_MS);
    struct ph_tlsrpt_session s = session("a.example", PH_TLSRPT_SUCCESS, "mx.a.example");
    struct ph_buf error = {0};
    struct ph_buf saved = {0};
    struct ph_tlsrpt_report *report;
    json_t *before;
    json_t *after;

    cr_assert_not(ph_tlsrpt_save(reports, &saved)); // nothing yet
    s.domain = PH_STR("yesterday.example");
    ph_tlsrpt_count(reports, &s, NOON_MS - DAY_MS);
    s.domain = PH_STR("a.example");
    s.policy = PH_TLSRPT_STS;
    s.sts = ph_sts_policy_parse(
        s.domain, PH_STR("1"), NOON_MS,
        PH_STR("version: STSv1\nmode: testing\nmx: *.a.example\nmax_age: 1\n"), &error);
    ph_tlsrpt_count(reports, &s, NOON_MS);
    ph_tlsrpt_count(reports, &s, NOON_MS);
    s.result = PH_TLSRPT_CERTIFICATE_EXPIRED;
    ph_tlsrpt_count(reports, &s, NOON_MS);
    s.receiving_ip = PH_STR_NONE;
    ph_tlsrpt_count(reports, &s, NOON_MS);
    ph_sts_policy_release(s.sts);
    cr_assert(ph_tlsrpt_save(reports, &saved));
    report = ph_tlsrpt_take(reports, NOON_MS + DAY_MS);
    before = format(report);
    ph_tlsrpt_report_destroy(report);
    ph_tlsrpt_destroy(reports);
    // Another process, the same day: both days are there, equal to the last count.
    reports = ph_tlsrpt_create(DAY_MS);
    cr_assert(ph_tlsrpt_load(reports, ph_buf_str(&saved), NOON_MS + 1));
    report = ph_tlsrpt_take(reports, NOON_MS + 1);
    cr_assert(ph_str_eq(ph_tlsrpt_report_domain(report), PH_STR("yesterday.example")));
    ph_tlsrpt_report_destroy(report);
    cr_assert_null(ph_tlsrpt_take(reports, NOON_MS + 1));
    report = ph_tlsrpt_take(reports, NOON_MS + DAY_MS);
    after = format(report);
    cr_assert(json_equal(before, after));
    ph_tlsrpt_report_destroy(report);
    ph_tlsrpt_destroy(reports);
    json_decref(before);
    json_decref(after);
    // Each damaged byte is noticed, and nothing of it counts.
    for (size_t at = 0; at < saved.len; at += 3) {
        saved.data[at] ^= 1;
        reports = ph_tlsrpt_create(DAY_MS);
        cr_assert_not(ph_tlsrpt_load(reports, ph_buf_str(&saved), NOON_MS), "byte %zu", at);
        cr_assert_null(ph_tlsrpt_take(reports, NOON_MS + DAY_MS));
        ph_tlsrpt_destroy(reports);
        saved.data[at] ^= 1;
    }
    ph_buf_deinit(&saved);
}

Test(tlsrpt, reasons_and_their_results)
{
    static const struct {
        enum ph_reason_kind kind;
        const char *name;
    } rows[] = {
        {PH_REASON_NONE, "success"},
        {PH_REASON_TLS_NOT_OFFERED, "starttls-not-supported"},
        {PH_REASON_STARTTLS_REFUSED, "starttls-not-supported"},
        {PH_REASON_CERT_NAME_MISMATCH, "certificate-host-mismatch"},
        {PH_REASON_CERT_EXPIRED, "certificate-expired"},
        {PH_REASON_CERT_SELF_SIGNED, "certificate-not-trusted"},
        {PH_REASON_TLS_HANDSHAKE_FAILED, "validation-failure"},
        {PH_REASON_STARTTLS_INJECTION, "validation-failure"},
        {PH_REASON_CERT_REVOKED, "validation-failure"},
        {PH_REASON_DANE_MISMATCH, "tlsa-invalid"},
        {PH_REASON_DNSSEC_BOGUS, "dnssec-invalid"},
        {PH_REASON_DANE_REQUIRED, "dane-required"},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        cr_assert_str_eq(ph_tlsrpt_result_name(ph_tlsrpt_result_of(rows[i].kind)), rows[i].name);
    }
}
