// Base64 (RFC 4648 §4), as SMTP's AUTH and MIME use it: strict, padded, without line ends.
#pragma once

#include "base/buf.h"
#include "base/str.h"

void ph_base64_encode(struct ph_str bytes, struct ph_buf *out); // appends
// Appends what `text` encodes; false, `out` as it was, when it isn't exactly base64.
PH_MUST_CHECK bool ph_base64_decode(struct ph_str text, struct ph_buf *out);
