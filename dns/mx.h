// The answer to an MX question → the hosts to try, in order (RFC 5321 §5.1, RFC 7505).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/io.h"
#include "base/reason.h"
#include "base/str.h"

#define PH_MX_HOSTS_MAX 64 // ours: a zone that lists more is read so far by preference

struct ph_mx_host {
    char name[PH_DNS_NAME_BYTES_MAX]; // lower case, without the trailing dot
    uint16_t preference;
};

struct ph_mx_hosts {
    struct ph_mx_host
        hosts[PH_MX_HOSTS_MAX]; // by preference, then name: chance among equals is the
    size_t count;               // caller's, at each attempt
};

enum ph_mx_result {
    PH_MX_REFUSED, // `out_reason`: waits or has failed
    PH_MX_FOUND,   // from MX records, or the domain itself where it has none (implicit MX)
};

// `own_names` are the names this host greets with: where one is listed, it and every host of equal
// or higher preference number are left out, lest mail go round; PH_REASON_DNS_MX_LOOP where none is
// left.
PH_MUST_CHECK enum ph_mx_result ph_mx_read(const struct ph_resolve_op *answer,
                                           const struct ph_str *own_names, size_t own_name_count,
                                           struct ph_mx_hosts *out_hosts,
                                           struct ph_reason *out_reason);
