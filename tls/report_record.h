// TLS reporting (RFC 8460): the TXT record that says who wants reports. Pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/io.h"
#include "base/str.h"

#define PH_REPORT_TARGETS_MAX 8        // of one record; ours
#define PH_REPORT_TARGET_BYTES_MAX 512 // of one URI, with NUL; ours

struct ph_report_targets {
    struct {
        bool mail;                           // else https
        char to[PH_REPORT_TARGET_BYTES_MAX]; // an address, or a URL
    } target[PH_REPORT_TARGETS_MAX];
    size_t count;
};

// The answer to the TXT question for _smtp._tls.DOMAIN. False: nobody wants reports.
PH_MUST_CHECK bool ph_report_record_read(const struct ph_resolve_op *answer,
                                         struct ph_report_targets *out);
