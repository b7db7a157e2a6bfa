// Which names match which certificates (RFC 9525; Exchange's TlsDomain). Pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "tls/facts.h"
#include "tls/policy.h"

// A presented name worth comparing: labels of letters, digits, '-' and '_', at most 253 bytes in
// all, a wildcard as the whole left-most label only and above at least two labels.
bool ph_identity_is_presentable(struct ph_str name);

// `reference` is "mx.contoso.com", or "*.contoso.com" for the domain and everything below it; a
// trailing dot is ignored. `presented` is a name of the certificate, "*.contoso.com" included.
bool ph_identity_name_matches(struct ph_str reference, struct ph_str presented);

struct ph_identity_result {
    bool matches;
    bool common_name_would; // it doesn't, but the CN does: TlsUseCommonName would turn it
    struct ph_str matched;  // the presented name; borrowed from `chain`
};

// Any reference matched by any presented name will do.
struct ph_identity_result ph_identity_match(const struct ph_chain *chain,
                                            const struct ph_str *references, size_t reference_count,
                                            enum ph_tls_common_name mode);
