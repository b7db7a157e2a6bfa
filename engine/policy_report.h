// What destinations publish, for an administrator: shown, fetched again, passed over until a date.
// On the worker's thread.
#pragma once

#include "base/json.h"
#include "base/str.h"

struct ph_worker;

enum ph_policy_report_kind {
    PH_POLICY_REPORT_SHOW,     // `argument`: a domain
    PH_POLICY_REPORT_REFRESH,  // `argument`: a domain
    PH_POLICY_REPORT_OVERRIDE, // `argument`: "DOMAIN UNTIL", wall clock ms; 0: no longer
};

struct ph_policy_report {
    enum ph_policy_report_kind kind;
    struct ph_str argument;
    struct ph_json *json; // in an array
};

PH_MUST_CHECK bool ph_policy_report_kind(struct ph_str name, enum ph_policy_report_kind *out);
// Asked of every worker in turn, the first one first: it answers, the others follow.
void ph_policy_report_answer(struct ph_worker *worker, void *report);
