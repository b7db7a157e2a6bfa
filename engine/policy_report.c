// Show, refresh and override of what destinations publish.
#include "engine/policy_report.h"

#include "base/date.h"
#include "engine/sts_ask.h"
#include "engine/worker.h"

bool ph_policy_report_kind(struct ph_str name, enum ph_policy_report_kind *out)
{
    static const char *const names[] = {
        [PH_POLICY_REPORT_SHOW] = "policy-show",
        [PH_POLICY_REPORT_REFRESH] = "policy-refresh",
        [PH_POLICY_REPORT_OVERRIDE] = "policy-override",
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(names); i++) {
        if (ph_str_eq(name, ph_str_from(names[i]))) {
            *out = (enum ph_policy_report_kind)i;
            return true;
        }
    }
    return false;
}

static void report_exception(struct ph_worker *worker, struct ph_str domain, uint64_t until_ms)
{
    char date[PH_DATE_TEXT_MAX];
    struct ph_buf text = {0};

    if (until_ms > 0) {
        ph_buf_printf(
            &text,
            "policy override: what %.*s publishes (DANE, MTA-STS) is passed over until %s, "
            "by the control socket\n",
            PH_STR_ARG(domain), ph_date_format_iso(until_ms, date));
    } else {
        ph_buf_printf(&text, "policy override: what %.*s publishes is in force again\n",
                      PH_STR_ARG(domain));
    }
    ph_engine_report_problem(worker->engine, ph_buf_str(&text));
    ph_buf_deinit(&text);
}

// The cache is one for all workers: the first one does what is to be done once.
static void carry_out(struct ph_worker *worker, const struct ph_policy_report *report,
                      struct ph_str domain, uint64_t until_ms)
{
    struct ph_sts_cache *cache = ph_engine_sts_cache(worker->engine);

    switch (report->kind) {
    case PH_POLICY_REPORT_SHOW:
        break;
    case PH_POLICY_REPORT_REFRESH:
        ph_sts_refresh(worker, domain);
        break;
    case PH_POLICY_REPORT_OVERRIDE:
        ph_sts_cache_waive(cache, domain, until_ms);
        ph_sts_keep_waived(worker);
        report_exception(worker, domain, until_ms);
        break;
    }
    ph_json_open_object(report->json, NULL);
    ph_json_string(report->json, "domain", domain, 0);
    ph_sts_cache_report(cache, domain, report->json);
    ph_json_close_object(report->json);
}

void ph_policy_report_answer(struct ph_worker *worker, void *argument)
{
    const struct ph_policy_report *report = argument;
    struct ph_str domain = report->argument;
    struct ph_str until = PH_STR_NONE;
    struct ph_str first;
    uint64_t until_ms = 0;

    if (ph_str_cut(&domain, ' ', &first)) {
        until = domain;
        domain = first;
    }
    if (domain.len == 0 || domain.len >= PH_DNS_NAME_BYTES_MAX ||
        (report->kind == PH_POLICY_REPORT_OVERRIDE && !ph_str_to_u64(until, &until_ms))) {
        return;
    }
    if (worker->index == 0) {
        carry_out(worker, report, domain, until_ms);
    }
    // A refresh is told to all when the policy has come.
    if (report->kind == PH_POLICY_REPORT_OVERRIDE) {
        ph_queues_look_again(worker, domain);
    }
}
