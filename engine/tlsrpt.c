// TLS reporting: counts, and the JSON made of them.
#include "engine/tlsrpt.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/date.h"
#include "base/hash.h"
#include "base/json.h"

#define PH_TLSRPT_TEXT_MAX 256 // of what a peer or a zone chose; ours

struct failure {
    enum ph_tlsrpt_result result;
    char sending_ip[PH_ENDPOINT_TEXT_MAX];
    char host[PH_DNS_NAME_BYTES_MAX];
    char ip[PH_ENDPOINT_TEXT_MAX];
    char reason[64];
    uint64_t count;
};

// One policy of one domain in one period.
struct entry {
    enum ph_tlsrpt_policy policy;
    struct ph_buf policy_lines; // each ended by '\n'
    struct ph_sts_policy *sts;  // referenced: its mx patterns
    uint64_t succeeded;
    uint64_t failed;
    struct failure *failures;
    size_t failure_count;
    struct entry *next;
};

struct domain {
    char name[PH_DNS_NAME_BYTES_MAX];
    UT_hash_handle hh;
    struct entry *entries;
};

struct ph_tlsrpt {
    pthread_mutex_t lock;
    uint64_t period_ms;
    uint64_t start_ms; // of the period of `domains`
    struct domain *domains;
    size_t entry_count;
    uint64_t over_start_ms;
    struct domain *over; // of the period before
};

struct ph_tlsrpt_report {
    uint64_t start_ms;
    uint64_t period_ms;
    struct domain *domain;
};

struct ph_tlsrpt *ph_tlsrpt_create(uint64_t period_ms)
{
    struct ph_tlsrpt *reports = ph_alloc(sizeof(*reports));

    pthread_mutex_init(&reports->lock, NULL);
    reports->period_ms = period_ms;
    return reports;
}

static void domain_destroy(struct domain *domain)
{
    struct entry *entry = domain->entries;

    while (entry != NULL) {
        struct entry *next = entry->next;

        ph_buf_deinit(&entry->policy_lines);
        ph_sts_policy_release(entry->sts);
        free(entry->failures);
        free(entry);
        entry = next;
    }
    free(domain);
}

static void drop_all(struct domain **domains)
{
    struct domain *domain;
    struct domain *next;

    HASH_ITER(hh, *domains, domain, next)
    {
        HASH_DEL(*domains, domain);
        domain_destroy(domain);
    }
}

void ph_tlsrpt_destroy(struct ph_tlsrpt *reports)
{
    if (reports != NULL) {
        drop_all(&reports->domains);
        drop_all(&reports->over);
        pthread_mutex_destroy(&reports->lock);
        free(reports);
    }
}

// A period that is over is reported; what the one before it left unreported is past.
static void roll_over(struct ph_tlsrpt *reports, uint64_t wall_ms)
{
    uint64_t start_ms = wall_ms - wall_ms % reports->period_ms;

    if (start_ms == reports->start_ms) {
        return;
    }
    if (reports->domains != NULL) {
        drop_all(&reports->over);
        reports->over = reports->domains;
        reports->over_start_ms = reports->start_ms;
        reports->domains = NULL;
        reports->entry_count = 0;
    }
    reports->start_ms = start_ms;
}

// --- counting ---

static void put_policy_lines(const struct ph_tlsrpt_session *session, struct ph_buf *out)
{
    if (session->policy == PH_TLSRPT_TLSA) {
        for (size_t i = 0; i < session->tlsa->record_count; i++) {
            const struct ph_tlsa_record *record = &session->tlsa->records[i];
            struct ph_str data = ph_tlsa_data(session->tlsa, record);

            ph_buf_printf(out, "%d %d %d ", (int)record->usage, (int)record->selector,
                          (int)record->matching);
            for (size_t at = 0; at < data.len; at++) {
                ph_buf_printf(out, "%02X", (uint8_t)data.data[at]);
            }
            ph_buf_append_char(out, '\n');
        }
    } else if (session->policy == PH_TLSRPT_STS && session->sts != NULL) {
        struct ph_str rest = ph_buf_str(&session->sts->text);

        while (rest.len > 0) {
            struct ph_str line;

            if (!ph_str_cut_line(&rest, &line)) {
                line = rest; // the last one may lack its end
                rest = PH_STR_NONE;
            }
            line = ph_str_trim(line);
            if (line.len > 0) {
                ph_buf_append(out, line);
                ph_buf_append_char(out, '\n');
            }
        }
    }
}

static struct domain *find_domain(struct ph_tlsrpt *reports, struct ph_str name)
{
    struct domain *domain;

    HASH_FIND(hh, reports->domains, name.data, name.len, domain);
    if (domain == NULL) {
        domain = ph_alloc(sizeof(*domain));
        ph_str_copy(domain->name, sizeof(domain->name), name);
        HASH_ADD_KEYPTR(hh, reports->domains, domain->name, name.len, domain);
    }
    return domain;
}

// NULL: there are too many. Takes the lines.
static struct entry *find_or_add(struct ph_tlsrpt *reports, struct ph_str name,
                                 enum ph_tlsrpt_policy policy, struct ph_buf *take_lines,
                                 struct ph_sts_policy *sts)
{
    struct ph_buf lines = *take_lines;
    struct domain *domain;
    struct entry *entry;

    *take_lines = (struct ph_buf){0};
    if (reports->entry_count == PH_TLSRPT_ENTRIES_MAX || name.len >= PH_DNS_NAME_BYTES_MAX) {
        ph_buf_deinit(&lines);
        return NULL;
    }
    domain = find_domain(reports, name);
    entry = domain->entries;
    while (entry != NULL && !(entry->policy == policy &&
                              ph_str_eq(ph_buf_str(&entry->policy_lines), ph_buf_str(&lines)))) {
        entry = entry->next;
    }
    if (entry == NULL) {
        entry = ph_alloc(sizeof(*entry));
        entry->policy = policy;
        entry->policy_lines = lines;
        lines = (struct ph_buf){0};
        entry->sts = policy == PH_TLSRPT_STS ? ph_sts_policy_retain(sts) : NULL;
        entry->next = domain->entries;
        domain->entries = entry;
        reports->entry_count++;
    }
    ph_buf_deinit(&lines);
    return entry;
}

// `failure->count` times more.
static void add_failure(struct entry *entry, const struct failure *failure)
{
    for (size_t i = 0; i < entry->failure_count; i++) {
        struct failure *known = &entry->failures[i];

        if (known->result == failure->result &&
            strcmp(known->sending_ip, failure->sending_ip) == 0 &&
            strcmp(known->host, failure->host) == 0 && strcmp(known->ip, failure->ip) == 0 &&
            strcmp(known->reason, failure->reason) == 0) {
            known->count += failure->count;
            return;
        }
    }
    if (entry->failure_count < PH_TLSRPT_FAILURES_MAX) {
        entry->failures = reallocarray(entry->failures, entry->failure_count + 1, sizeof(*failure));
        PH_CHECK(entry->failures != NULL);
        entry->failures[entry->failure_count++] = *failure;
    }
}

static void count_failure(struct entry *entry, const struct ph_tlsrpt_session *session)
{
    struct failure failure = {.result = session->result, .count = 1};

    ph_str_copy(failure.sending_ip, sizeof(failure.sending_ip), session->sending_ip);
    ph_str_copy(failure.host, sizeof(failure.host), session->receiving_host);
    ph_str_copy(failure.ip, sizeof(failure.ip), session->receiving_ip);
    ph_str_copy(failure.reason, sizeof(failure.reason), session->reason);
    add_failure(entry, &failure);
}

void ph_tlsrpt_count(struct ph_tlsrpt *reports, const struct ph_tlsrpt_session *session,
                     uint64_t wall_ms)
{
    struct ph_buf lines = {0};
    struct entry *entry;

    pthread_mutex_lock(&reports->lock);
    roll_over(reports, wall_ms);
    put_policy_lines(session, &lines);
    entry = find_or_add(reports, session->domain, session->policy, &lines, session->sts);
    if (entry != NULL && session->result == PH_TLSRPT_SUCCESS) {
        entry->succeeded++;
    } else if (entry != NULL) {
        entry->failed++;
        count_failure(entry, session);
    }
    pthread_mutex_unlock(&reports->lock);
}

enum ph_tlsrpt_result ph_tlsrpt_result_of(enum ph_reason_kind kind)
{
    static const struct {
        enum ph_reason_kind kind;
        enum ph_tlsrpt_result result;
    } rows[] = {
        {PH_REASON_NONE, PH_TLSRPT_SUCCESS},
        {PH_REASON_TLS_NOT_OFFERED, PH_TLSRPT_STARTTLS_NOT_SUPPORTED},
        {PH_REASON_STARTTLS_REFUSED, PH_TLSRPT_STARTTLS_NOT_SUPPORTED},
        {PH_REASON_CERT_NAME_MISMATCH, PH_TLSRPT_CERTIFICATE_HOST_MISMATCH},
        {PH_REASON_DANE_HOST_MISMATCH, PH_TLSRPT_CERTIFICATE_HOST_MISMATCH},
        {PH_REASON_CERT_EXPIRED, PH_TLSRPT_CERTIFICATE_EXPIRED},
        {PH_REASON_DANE_EXPIRED, PH_TLSRPT_CERTIFICATE_EXPIRED},
        {PH_REASON_CERT_SELF_SIGNED, PH_TLSRPT_CERTIFICATE_NOT_TRUSTED},
        {PH_REASON_CERT_UNTRUSTED_ROOT, PH_TLSRPT_CERTIFICATE_NOT_TRUSTED},
        {PH_REASON_CERT_PARTIAL_CHAIN, PH_TLSRPT_CERTIFICATE_NOT_TRUSTED},
        {PH_REASON_CERT_NOT_YET_VALID, PH_TLSRPT_CERTIFICATE_NOT_TRUSTED},
        {PH_REASON_CERT_USAGE, PH_TLSRPT_CERTIFICATE_NOT_TRUSTED},
        {PH_REASON_CERT_WEAK, PH_TLSRPT_CERTIFICATE_NOT_TRUSTED},
        {PH_REASON_DANE_MISMATCH, PH_TLSRPT_TLSA_INVALID},
        {PH_REASON_DNSSEC_BOGUS, PH_TLSRPT_DNSSEC_INVALID},
        {PH_REASON_DANE_REQUIRED, PH_TLSRPT_DANE_REQUIRED},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        if (rows[i].kind == kind) {
            return rows[i].result;
        }
    }
    return PH_TLSRPT_VALIDATION_FAILURE; // handshake, injection, revocation, MX names, …
}

const char *ph_tlsrpt_result_name(enum ph_tlsrpt_result result)
{
    static const char *const names[] = {
        [PH_TLSRPT_SUCCESS] = "success",
        [PH_TLSRPT_STARTTLS_NOT_SUPPORTED] = "starttls-not-supported",
        [PH_TLSRPT_CERTIFICATE_HOST_MISMATCH] = "certificate-host-mismatch",
        [PH_TLSRPT_CERTIFICATE_EXPIRED] = "certificate-expired",
        [PH_TLSRPT_CERTIFICATE_NOT_TRUSTED] = "certificate-not-trusted",
        [PH_TLSRPT_VALIDATION_FAILURE] = "validation-failure",
        [PH_TLSRPT_TLSA_INVALID] = "tlsa-invalid",
        [PH_TLSRPT_DNSSEC_INVALID] = "dnssec-invalid",
        [PH_TLSRPT_DANE_REQUIRED] = "dane-required",
        [PH_TLSRPT_STS_POLICY_FETCH_ERROR] = "sts-policy-fetch-error",
        [PH_TLSRPT_STS_POLICY_INVALID] = "sts-policy-invalid",
        [PH_TLSRPT_STS_WEBPKI_INVALID] = "sts-webpki-invalid",
    };

    return names[result];
}

// --- over a restart ---

#define PH_TLSRPT_FIRST_LINE "posthaste-tlsrpt 1"

static void save_entry(const struct domain *domain, const struct entry *entry, struct ph_buf *out)
{
    struct ph_str rest = ph_buf_str(&entry->policy_lines);
    struct ph_str line;

    ph_buf_printf(out, "p\t%s\t%d\t%llu\t%llu\n", domain->name, (int)entry->policy,
                  (unsigned long long)entry->succeeded, (unsigned long long)entry->failed);
    while (ph_str_cut_line(&rest, &line)) {
        ph_buf_printf(out, "l\t%.*s\n", PH_STR_ARG(line));
    }
    for (size_t i = 0; i < entry->failure_count; i++) {
        const struct failure *f = &entry->failures[i];

        ph_buf_printf(out, "f\t%d\t%s\t%s\t%s\t%s\t%llu\n", (int)f->result, f->sending_ip, f->host,
                      f->ip, f->reason, (unsigned long long)f->count);
    }
}

static void save_period(const struct domain *domains, uint64_t start_ms, struct ph_buf *out)
{
    ph_buf_printf(out, "s\t%llu\n", (unsigned long long)start_ms);
    for (const struct domain *domain = domains; domain != NULL; domain = domain->hh.next) {
        for (const struct entry *entry = domain->entries; entry != NULL; entry = entry->next) {
            save_entry(domain, entry, out);
        }
    }
}

bool ph_tlsrpt_save(struct ph_tlsrpt *reports, struct ph_buf *out)
{
    struct ph_buf text = {0};
    bool any;

    pthread_mutex_lock(&reports->lock);
    if (reports->over != NULL) {
        save_period(reports->over, reports->over_start_ms, &text);
    }
    if (reports->domains != NULL) {
        save_period(reports->domains, reports->start_ms, &text);
    }
    pthread_mutex_unlock(&reports->lock);
    any = text.len > 0;
    if (any) {
        ph_buf_printf(out, PH_TLSRPT_FIRST_LINE "\n%016llx\n",
                      (unsigned long long)ph_hash_str(ph_buf_str(&text), 1));
        ph_buf_append(out, ph_buf_str(&text));
    }
    ph_buf_deinit(&text);
    return any;
}

// Fields of a line, parted by tabs; what is missing is empty.
static struct ph_str next_field(struct ph_str *rest)
{
    struct ph_str field;

    if (!ph_str_cut(rest, '\t', &field)) {
        field = *rest;
        *rest = PH_STR_NONE;
    }
    return field;
}

static uint64_t next_number(struct ph_str *rest)
{
    uint64_t number = 0;

    (void)!ph_str_to_u64(next_field(rest), &number);
    return number;
}

// One 'p' line with the 'l' lines behind it; `rest` is at what follows then.
static struct entry *load_entry(struct ph_tlsrpt *reports, struct ph_str fields,
                                struct ph_str *rest)
{
    struct ph_str name = next_field(&fields);
    uint64_t policy = next_number(&fields);
    uint64_t succeeded = next_number(&fields);
    uint64_t failed = next_number(&fields);
    struct ph_sts_policy *sts = NULL;
    struct ph_buf lines = {0};
    struct ph_buf error = {0};
    struct entry *entry;
    struct ph_str line;

    while (ph_str_starts(*rest, PH_STR("l\t")) && ph_str_cut_line(rest, &line)) {
        ph_buf_append(&lines, ph_str_after(line, 2));
        ph_buf_append_char(&lines, '\n');
    }
    if (policy == PH_TLSRPT_STS && lines.len > 0) {
        sts = ph_sts_policy_parse(name, PH_STR("kept"), 0, ph_buf_str(&lines), &error);
    }
    entry = find_or_add(reports, name,
                        policy <= PH_TLSRPT_NO_POLICY ? (enum ph_tlsrpt_policy)policy
                                                      : PH_TLSRPT_NO_POLICY,
                        &lines, sts);
    if (entry != NULL) {
        entry->succeeded += succeeded;
        entry->failed += failed;
    }
    ph_sts_policy_release(sts);
    ph_buf_deinit(&error);
    return entry;
}

static void load_failure(struct entry *entry, struct ph_str fields)
{
    uint64_t result = next_number(&fields);
    struct failure failure = {.result = PH_TLSRPT_VALIDATION_FAILURE};

    if (result <= PH_TLSRPT_STS_WEBPKI_INVALID) {
        failure.result = (enum ph_tlsrpt_result)result;
    }
    ph_str_copy(failure.sending_ip, sizeof(failure.sending_ip), next_field(&fields));
    ph_str_copy(failure.host, sizeof(failure.host), next_field(&fields));
    ph_str_copy(failure.ip, sizeof(failure.ip), next_field(&fields));
    ph_str_copy(failure.reason, sizeof(failure.reason), next_field(&fields));
    failure.count = next_number(&fields);
    add_failure(entry, &failure);
}

bool ph_tlsrpt_load(struct ph_tlsrpt *reports, struct ph_str text, uint64_t wall_ms)
{
    struct entry *entry = NULL;
    struct ph_str line;
    char sum[17];

    if (!ph_str_cut_line(&text, &line) || !ph_str_eq(line, PH_STR(PH_TLSRPT_FIRST_LINE)) ||
        !ph_str_cut_line(&text, &line)) {
        return false;
    }
    snprintf(sum, sizeof(sum), "%016llx", (unsigned long long)ph_hash_str(text, 1));
    if (!ph_str_eq(line, ph_str_from(sum))) {
        return false;
    }
    pthread_mutex_lock(&reports->lock);
    while (ph_str_cut_line(&text, &line)) {
        struct ph_str fields = line;
        struct ph_str kind = next_field(&fields);

        if (ph_str_eq(kind, PH_STR("s"))) {
            roll_over(reports, next_number(&fields)); // as if it were then
        } else if (ph_str_eq(kind, PH_STR("p"))) {
            entry = load_entry(reports, fields, &text);
        } else if (ph_str_eq(kind, PH_STR("f")) && entry != NULL) {
            load_failure(entry, fields);
        }
    }
    roll_over(reports, wall_ms);
    pthread_mutex_unlock(&reports->lock);
    return true;
}

// --- reports ---

struct ph_tlsrpt_report *ph_tlsrpt_take(struct ph_tlsrpt *reports, uint64_t wall_ms)
{
    struct ph_tlsrpt_report *report = NULL;

    pthread_mutex_lock(&reports->lock);
    roll_over(reports, wall_ms);
    if (reports->over != NULL) {
        report = ph_alloc(sizeof(*report));
        report->start_ms = reports->over_start_ms;
        report->period_ms = reports->period_ms;
        report->domain = reports->over;
        HASH_DEL(reports->over, report->domain);
    }
    pthread_mutex_unlock(&reports->lock);
    return report;
}

void ph_tlsrpt_report_destroy(struct ph_tlsrpt_report *report)
{
    if (report != NULL) {
        domain_destroy(report->domain);
        free(report);
    }
}

struct ph_str ph_tlsrpt_report_domain(const struct ph_tlsrpt_report *report)
{
    return ph_str_from(report->domain->name);
}

uint64_t ph_tlsrpt_report_start_ms(const struct ph_tlsrpt_report *report)
{
    return report->start_ms;
}

uint64_t ph_tlsrpt_report_end_ms(const struct ph_tlsrpt_report *report)
{
    return report->start_ms + report->period_ms - 1000;
}

// RFC 3339 without fractions, as the RFC's example has it.
static void put_date(struct ph_json *json, const char *key, uint64_t wall_ms)
{
    char date[PH_DATE_TEXT_MAX];

    ph_date_format_iso(wall_ms, date);
    ph_json_string(json, key, ph_str_first(ph_str_from(date), 19), 0);
    json->out->len--; // the closing quote, behind the Z
    ph_buf_append(json->out, PH_STR("Z\""));
}

static void put_policy(struct ph_json *json, const struct entry *entry, const char *domain)
{
    static const char *const types[] = {[PH_TLSRPT_TLSA] = "tlsa",
                                        [PH_TLSRPT_STS] = "sts",
                                        [PH_TLSRPT_NO_POLICY] = "no-policy-found"};
    struct ph_str rest = ph_buf_str(&entry->policy_lines);
    struct ph_str line;

    ph_json_open_object(json, "policy");
    ph_json_text(json, "policy-type", types[entry->policy]);
    if (entry->policy_lines.len > 0) {
        ph_json_open_array(json, "policy-string");
        while (ph_str_cut_line(&rest, &line)) {
            ph_json_string(json, NULL, line, 0);
        }
        ph_json_close_array(json);
    }
    ph_json_text(json, "policy-domain", domain);
    if (entry->sts != NULL && entry->sts->mx_count > 0) {
        ph_json_open_array(json, "mx-host");
        for (size_t i = 0; i < entry->sts->mx_count; i++) {
            ph_json_text(json, NULL, entry->sts->mx[i]);
        }
        ph_json_close_array(json);
    }
    ph_json_close_object(json);
}

static void put_known(struct ph_json *json, const char *key, const char *text)
{
    if (text[0] != '\0') {
        ph_json_string(json, key, ph_str_from(text), PH_TLSRPT_TEXT_MAX);
    }
}

static void put_entry(struct ph_json *json, const struct entry *entry, const char *domain)
{
    ph_json_open_object(json, NULL);
    put_policy(json, entry, domain);
    ph_json_open_object(json, "summary");
    ph_json_u64(json, "total-successful-session-count", entry->succeeded);
    ph_json_u64(json, "total-failure-session-count", entry->failed);
    ph_json_close_object(json);
    if (entry->failure_count > 0) {
        ph_json_open_array(json, "failure-details");
        for (size_t i = 0; i < entry->failure_count; i++) {
            const struct failure *failure = &entry->failures[i];

            ph_json_open_object(json, NULL);
            ph_json_text(json, "result-type", ph_tlsrpt_result_name(failure->result));
            put_known(json, "sending-mta-ip", failure->sending_ip);
            put_known(json, "receiving-mx-hostname", failure->host);
            put_known(json, "receiving-ip", failure->ip);
            ph_json_u64(json, "failed-session-count", failure->count);
            put_known(json, "failure-reason-code", failure->reason);
            ph_json_close_object(json);
        }
        ph_json_close_array(json);
    }
    ph_json_close_object(json);
}

void ph_tlsrpt_format(const struct ph_tlsrpt_report *report, const struct ph_tlsrpt_names *names,
                      struct ph_buf *out)
{
    struct ph_json json;

    ph_json_init(&json, out);
    ph_json_open_object(&json, NULL);
    ph_json_string(&json, "organization-name", names->organization, 0);
    ph_json_open_object(&json, "date-range");
    put_date(&json, "start-datetime", ph_tlsrpt_report_start_ms(report));
    put_date(&json, "end-datetime", ph_tlsrpt_report_end_ms(report));
    ph_json_close_object(&json);
    ph_json_string(&json, "contact-info", names->contact, 0);
    ph_json_string(&json, "report-id", names->id, 0);
    ph_json_open_array(&json, "policies");
    for (const struct entry *entry = report->domain->entries; entry != NULL; entry = entry->next) {
        put_entry(&json, entry, report->domain->name);
    }
    ph_json_close_array(&json);
    ph_json_close_object(&json);
}
