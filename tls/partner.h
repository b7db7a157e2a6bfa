// Judges a partner who sends to us: Domain Security's receiving side. The session's certificate
// must be the partner's own, valid now, for the domain that the mail claims to come from.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/reason.h"
#include "tls/facts.h"

struct ph_partner_subject {
    const struct ph_tls_facts *facts;       // of this session; plaintext has facts too
    const struct ph_chain_verdict *verdict; // of facts->chain by a store for clients, now; NULL
                                            // only where no certificate was shown
    struct ph_str domain;                   // of the reverse-path, A-labels
    uint64_t wall_ms;
};

// False: `out_reason` has the reply's code, status and sentence, which names what the partner can
// do.
PH_MUST_CHECK bool ph_partner_judge(const struct ph_partner_subject *subject,
                                    struct ph_reason *out_reason);
