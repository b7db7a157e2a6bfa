// Judges: facts × policy → a clearance, or a reasoned refusal. Nothing else can make a clearance,
// and no envelope and no credential leaves without one. Plain C: no BoringSSL, no I/O, no clock.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/reason.h"
#include "tls/dane.h"
#include "tls/facts.h"
#include "tls/policy.h"

struct ph_clearance; // opaque: made here, spent by smtp/client

enum ph_clearance_kind {
    PH_CLEARANCE_ENVELOPE,    // for one transaction
    PH_CLEARANCE_CREDENTIALS, // for AUTH on this session
};

// The subject of a judgement: one session to one host, now.
struct ph_gate_subject {
    const struct ph_tls_facts *facts; // of this very session; never NULL (plaintext has facts)
    const struct ph_chain_verdict *verdict; // of facts->chain against policy->trust, now; NULL only
                                            // where no certificate was shown
    const struct ph_tlsa *tlsa;             // what the host publishes; NULL: nobody has asked
    const struct ph_dane_verdict *dane;     // of facts->chain against `tlsa`, now; NULL where there
                                            // is no certificate or nothing to match
    struct ph_str connector;                // names for the sentence
    struct ph_str recipient_domain;         // A-labels
    struct ph_str host;                     // MX or smart host's name; empty for an IP literal
    struct ph_str address;                  // "192.0.2.1"
    bool peer_offers_requiretls;            // in the EHLO reply inside TLS
    uint64_t wall_ms;
};

enum ph_gate_result {
    PH_GATE_REFUSED, // `out_reason` says why
    PH_GATE_CLEARED, // `out_clearance` is the caller's, to be given to smtp/client
};

// What is known before there is a session (`facts` may be NULL): may this host be connected to at
// all? MX hosts that the policy of the destination rules out, DANE that is demanded and missing.
PH_MUST_CHECK enum ph_gate_result ph_gate_judge_host(const struct ph_tls_policy *policy,
                                                     const struct ph_gate_subject *subject,
                                                     struct ph_reason *out_reason);
// Must STARTTLS succeed with this host, by the policy or by what the destination publishes?
bool ph_gate_demands_tls(const struct ph_tls_policy *policy, const struct ph_tlsa *tlsa);
// Do the host's TLSA records count for this policy? (Then MTA-STS doesn't.)
bool ph_gate_dane_applies(const struct ph_tls_policy *policy, const struct ph_tlsa *tlsa);
// Would the session pass the host's TLSA records (which apply)? The MTA-STS policy, whatever its
// mode? For reports: the reason's kind tells what is wrong with the certificate (cert-expired, …).
PH_MUST_CHECK bool ph_gate_meets_dane(const struct ph_tls_policy *policy,
                                      const struct ph_gate_subject *subject,
                                      struct ph_reason *out_reason);
PH_MUST_CHECK bool ph_gate_meets_sts(const struct ph_tls_policy *policy,
                                     const struct ph_gate_subject *subject,
                                     struct ph_reason *out_reason);
// Facts that exist when the handshake is done, before the second EHLO: is this session worth going
// on with? Makes no clearance.
PH_MUST_CHECK enum ph_gate_result ph_gate_judge_session(const struct ph_tls_policy *policy,
                                                        const struct ph_gate_subject *subject,
                                                        struct ph_reason *out_reason);
PH_MUST_CHECK enum ph_gate_result ph_gate_judge(const struct ph_tls_policy *policy,
                                                const struct ph_gate_subject *subject,
                                                enum ph_clearance_kind kind,
                                                struct ph_clearance **out_clearance,
                                                struct ph_reason *out_reason);

// For smtp/client: uses the clearance up. False when it is for another session or another kind.
PH_MUST_CHECK bool ph_clearance_spend(struct ph_clearance *clearance, enum ph_clearance_kind kind,
                                      uint64_t session_id);
void ph_clearance_destroy(struct ph_clearance *clearance); // unspent; NULL accepted

// What a judgement went by, for logs: none, chain, chain+name, dane or mutual.
const char *ph_gate_verified_by(const struct ph_tls_policy *policy,
                                const struct ph_gate_subject *subject);
