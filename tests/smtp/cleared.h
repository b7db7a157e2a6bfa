// A clearance as the gate gives it, for a session in the clear under an opportunistic policy: what
// the client's tests and its fuzzer send with.
#pragma once

#include "tls/gate.h"

#define SESSION 7

static inline struct ph_clearance *cleared(enum ph_clearance_kind kind)
{
    struct ph_tls_policy policy = {.level = PH_TLS_OPPORTUNISTIC,
                                   .dane_mode = PH_DANE_NONE,
                                   .fallback = PH_TLS_FALLBACK_PLAINTEXT,
                                   .credentials_in_clear = true};
    struct ph_tls_facts facts = ph_tls_facts_plaintext(SESSION, false);
    struct ph_gate_subject subject = {.facts = &facts,
                                      .connector = PH_STR("c"),
                                      .recipient_domain = PH_STR("d.test"),
                                      .host = PH_STR("mx.d.test"),
                                      .address = PH_STR("192.0.2.1")};
    struct ph_clearance *clearance = NULL;
    struct ph_reason reason;

    PH_CHECK(ph_gate_judge(&policy, &subject, kind, &clearance, &reason) == PH_GATE_CLEARED);
    return clearance;
}
