// Exchange's ways to write a range of addresses → CIDR.
#pragma once

#include "base/buf.h"

// "10.0.0.1-10.0.0.9", "10.0.0.1(255.255.255.0)", "10.0.0.0/8" or one address: appends ranges, each
// ended by NUL. `out_everything`: it is all there is. False: none of these forms.
PH_MUST_CHECK bool ph_ranges_read(struct ph_str text, struct ph_buf *out, bool *out_everything);
