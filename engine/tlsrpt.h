// TLS reporting (RFC 8460): sessions counted by policy domain, policy and result, and the report
// made of them. Shared by all workers.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/endpoint.h"
#include "base/reason.h"
#include "base/str.h"
#include "dns/tlsa.h"
#include "tls/mta_sts.h"

#define PH_TLSRPT_ENTRIES_MAX 65536 // policies of one period; what comes beyond isn't counted; ours
#define PH_TLSRPT_FAILURES_MAX 128  // kinds of failure of one policy; ours

enum ph_tlsrpt_policy {
    PH_TLSRPT_TLSA,
    PH_TLSRPT_STS,
    PH_TLSRPT_NO_POLICY,
};

enum ph_tlsrpt_result { // RFC 8460 §4.3
    PH_TLSRPT_SUCCESS,
    PH_TLSRPT_STARTTLS_NOT_SUPPORTED,
    PH_TLSRPT_CERTIFICATE_HOST_MISMATCH,
    PH_TLSRPT_CERTIFICATE_EXPIRED,
    PH_TLSRPT_CERTIFICATE_NOT_TRUSTED,
    PH_TLSRPT_VALIDATION_FAILURE,
    PH_TLSRPT_TLSA_INVALID,
    PH_TLSRPT_DNSSEC_INVALID,
    PH_TLSRPT_DANE_REQUIRED,
    PH_TLSRPT_STS_POLICY_FETCH_ERROR,
    PH_TLSRPT_STS_POLICY_INVALID,
    PH_TLSRPT_STS_WEBPKI_INVALID,
};

struct ph_tlsrpt_session {
    struct ph_str domain; // policy domain
    enum ph_tlsrpt_policy policy;
    const struct ph_tlsa *tlsa; // of TLSA
    struct ph_sts_policy *sts;  // of STS; NULL: it couldn't be had
    enum ph_tlsrpt_result result;
    struct ph_str sending_ip; // each empty where it isn't known
    struct ph_str receiving_host;
    struct ph_str receiving_ip;
    struct ph_str reason; // our token
};

struct ph_tlsrpt;

// Periods of so long, from midnight UTC on: a day, or less in a laboratory.
struct ph_tlsrpt *ph_tlsrpt_create(uint64_t period_ms);
void ph_tlsrpt_destroy(struct ph_tlsrpt *reports); // NULL accepted
// From any thread.
void ph_tlsrpt_count(struct ph_tlsrpt *reports, const struct ph_tlsrpt_session *session,
                     uint64_t wall_ms);
// What is counted and not reported yet, as a text for the next process; it goes on from there. Save
// false: there is nothing. Load false: it can't be read, and nothing of it counts.
PH_MUST_CHECK bool ph_tlsrpt_save(struct ph_tlsrpt *reports, struct ph_buf *out);
PH_MUST_CHECK bool ph_tlsrpt_load(struct ph_tlsrpt *reports, struct ph_str text, uint64_t wall_ms);
// The result that a refusal for this reason is reported as.
enum ph_tlsrpt_result ph_tlsrpt_result_of(enum ph_reason_kind kind);
const char *ph_tlsrpt_result_name(enum ph_tlsrpt_result result); // "starttls-not-supported"

// One domain's counts of a period that is over; the caller's.
struct ph_tlsrpt_report;
struct ph_tlsrpt_report *ph_tlsrpt_take(struct ph_tlsrpt *reports, uint64_t wall_ms); // NULL: none
void ph_tlsrpt_report_destroy(struct ph_tlsrpt_report *report); // NULL accepted
struct ph_str ph_tlsrpt_report_domain(const struct ph_tlsrpt_report *report);
uint64_t ph_tlsrpt_report_start_ms(const struct ph_tlsrpt_report *report);
uint64_t ph_tlsrpt_report_end_ms(const struct ph_tlsrpt_report *report); // its last second

struct ph_tlsrpt_names {
    struct ph_str organization;
    struct ph_str contact;
    struct ph_str id;
};
// RFC 8460 §4.4, appended to `out`.
void ph_tlsrpt_format(const struct ph_tlsrpt_report *report, const struct ph_tlsrpt_names *names,
                      struct ph_buf *out);
