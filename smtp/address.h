// Mailboxes and domains as SMTP writes them (RFC 5321 §4.1.2, RFC 6531).
#pragma once

#include <stdbool.h>

#include "base/str.h"

#define PH_LOCAL_PART_BYTES_MAX 64 // RFC 5321 §4.5.3.1.1
#define PH_DOMAIN_BYTES_MAX 255    // RFC 5321 §4.5.3.1.2
#define PH_PATH_BYTES_MAX 512 // RFC 5321 §4.5.3.1.3 says 256; UTF-8 and source routes take more

struct ph_address {
    struct ph_str text;   // local-part@domain, without brackets or source route; empty: "<>"
    struct ph_str local;  // as written, with quotes where it has some
    struct ph_str domain; // as written
    bool utf8;            // some byte isn't ASCII
    bool literal;         // the domain is "[192.0.2.1]" or the like
};

// Reads "<path>" off the front of `input`; what follows (parameters) stays. Source routes are read
// over (RFC 5321 §C). False, nothing changed, when it isn't one.
PH_MUST_CHECK bool ph_address_parse_path(struct ph_str *input, struct ph_address *out);
// "local-part@domain", all of `text`.
PH_MUST_CHECK bool ph_address_parse(struct ph_str text, struct ph_address *out);

// A domain in A-labels, lower case, without the trailing dot, into `out` (NUL-terminated). False
// when it is none (RFC 1035 §2.3.4, IDNA 2008).
PH_MUST_CHECK bool ph_domain_normalize(struct ph_str domain, char out[PH_DOMAIN_BYTES_MAX + 1]);
