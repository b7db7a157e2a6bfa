// What came of trying one address, for `test`: by the code that delivers.
#pragma once

#include "base/reason.h"
#include "engine/dispatch.h"
#include "tls/gate.h"

struct ph_trial {
    const struct ph_reason *reason; // NULL: mail would have been sent now
    const char *step;               // how far it came: dns, connect, …, mail
    const struct ph_session_note *note;
    const struct ph_tls_policy *policy; // in force
    // What was found, judged against the connector's trust store whatever its level.
    const struct ph_gate_subject *subject;
};
