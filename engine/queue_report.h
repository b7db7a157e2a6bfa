// What a worker tells an administrator of its queues, sites and messages, and what he may ask it to
// do. On the worker's thread.
#pragma once

#include "base/json.h"
#include "base/str.h"

struct ph_worker;

enum ph_queue_report_kind {
    PH_QUEUE_REPORT_LIST, // queues
    PH_QUEUE_REPORT_SHOW, // `argument`: a message's id
    PH_QUEUE_REPORT_SITES,
    PH_QUEUE_REPORT_RETRY, // `argument`: a domain, or "*": tries now; tells which
    PH_QUEUE_REPORT_TRACE, // `argument`: a host, or "*": what is said on its sessions
};

struct ph_queue_report {
    enum ph_queue_report_kind kind;
    struct ph_str argument;
    struct ph_json *json; // in an array
};

PH_MUST_CHECK bool ph_queue_report_kind(struct ph_str name, enum ph_queue_report_kind *out);
void ph_queue_report_answer(struct ph_worker *worker, void *report);
