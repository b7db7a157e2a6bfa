// All demands on one delivery's TLS, combined: the strictest wins, each with its source. Plain C.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define PH_TLS_DOMAINS_MAX 32 // names of one TlsDomain; ours, the configuration refuses more

// In order of strictness, and zero is the strictest (RequireTLS alone is EncryptionOnly).
enum ph_tls_level {
    PH_TLS_DOMAIN_VALIDATION,      // chain, revocation and name
    PH_TLS_CERTIFICATE_VALIDATION, // chain and revocation
    PH_TLS_ENCRYPTION_ONLY,        // any certificate
    PH_TLS_OPPORTUNISTIC,          // TLS where offered, plaintext otherwise
    PH_TLS_NEVER,                  // IgnoreSTARTTLS: STARTTLS is never sent
};

enum ph_tls_name_source {
    PH_TLS_NAME_TLSDOMAIN, // TlsDomain where given, else the recipient's domain
    PH_TLS_NAME_RECIPIENT,
    PH_TLS_NAME_HOST, // the MX or smart host's name
};

enum ph_tls_common_name {
    PH_TLS_COMMON_NAME_NEVER,
    PH_TLS_COMMON_NAME_FALLBACK, // where the certificate has no dNSName
    PH_TLS_COMMON_NAME_ALWAYS,
};

enum ph_tls_fallback {
    PH_TLS_FALLBACK_DEFER,
    PH_TLS_FALLBACK_PLAINTEXT,
};

// What DANE records of the destination do (SmtpDaneMode).
enum ph_dane_mode {
    PH_DANE_MANDATORY,     // no usable record, no delivery
    PH_DANE_OPPORTUNISTIC, // what is published must match
    PH_DANE_NONE,
};

struct ph_sts_policy; // tls/mta_sts.h
struct ph_trust;      // tls/trust.h: roots and CRLs, immutable, shared by threads

// Pins: SHA-256 of the leaf's SubjectPublicKeyInfo; any match is needed when there are some.
struct ph_tls_pin {
    uint8_t spki_sha256[32];
};

// The policy of a connector, immutable, owned by the configuration snapshot; strings too.
struct ph_tls_policy {
    enum ph_tls_level level;
    bool mutual;                   // Domain Security for listed domains: see domain_secure
    bool domain_secure;            // DomainSecureEnabled and the recipient's domain is listed
    bool domain_secure_misrouted;  // listed, but this connector isn't DomainSecureEnabled
    bool requiretls;               // this message asks for it (RFC 8689)
    bool credentials_exact_host;   // BasicAuthRequireTLS: the smart host's exact name
    bool credentials_in_clear;     // BasicAuth: AUTH may go without TLS
    enum ph_tls_fallback fallback; // opportunistic, when STARTTLS was offered and then failed
    enum ph_tls_name_source name_source;
    enum ph_tls_common_name common_name;
    const struct ph_str *tls_domains; // TlsDomain: "mx.contoso.com", "*.contoso.com"; at most
                                      // PH_TLS_DOMAINS_MAX
    size_t tls_domain_count;
    const struct ph_tls_pin *pins;
    size_t pin_count;
    bool revocation_unknown_accept; // RevocationUnknown = accept
    uint16_t version_min;           // 0x0303 by default
    struct ph_str require_groups;   // TlsRequireGroups, "X25519MLKEM768:X25519"; empty: any will do
    bool report;                    // Mode = report
    enum ph_tls_level report_floor; // enforced instead of `level` where `report`
    struct ph_trust *trust;         // chain validation goes by it; NULL where no level needs one
    uint64_t trust_id;              // of `trust`; 0 where there is none
    struct ph_str source;           // "posthaste.conf:31 SendConnector contoso"

    // What the destination publishes; it only ever adds to the demands above.
    enum ph_dane_mode dane_mode;
    bool accept_dane; // AcceptDane: what DANE authenticates needs no chain of the connector's
    bool mx_secure;   // the host's name comes from DNSSEC or from the administrator
    bool destination_waived; // by an administrator's exception, or the sender's TLS-Required: No
    const struct ph_sts_policy *sts; // of the policy domain; NULL: none. The holder's
};

const char *ph_tls_level_name(enum ph_tls_level level); // "DomainValidation", …
// The level in force: in report mode the floor, unless what isn't reported demands more.
enum ph_tls_level ph_tls_policy_level(const struct ph_tls_policy *policy);
// Must STARTTLS succeed? (RequireTLS, a level, Domain Security, REQUIRETLS.)
bool ph_tls_policy_forces(const struct ph_tls_policy *policy);
// Does a judgement need a chain verdict? (By the connector, Domain Security or REQUIRETLS.)
bool ph_tls_policy_needs_chain(const struct ph_tls_policy *policy);
// Is a chain verdict of use? MTA-STS judges by one too, and reports in testing mode.
bool ph_tls_policy_wants_verdict(const struct ph_tls_policy *policy);
// The names one of which the host's certificate must have, by the level (of the policy, or another
// to judge by) or by Domain Security. 0: none is demanded.
size_t ph_tls_policy_names(const struct ph_tls_policy *policy, enum ph_tls_level level,
                           struct ph_str recipient_domain, struct ph_str host,
                           struct ph_str out[PH_TLS_DOMAINS_MAX]);
// Does the destination's MTA-STS policy have to be met?
bool ph_tls_policy_enforces_sts(const struct ph_tls_policy *policy);
// The sender's "TLS-Required: No" (RFC 8689 §4.3): what the destination publishes is passed over,
// what the administrator demands (Mandatory DANE too) is not.
void ph_tls_policy_waive_destination(struct ph_tls_policy *policy);
// Do two policies demand the same of a session to the same recipient domain?
bool ph_tls_policy_eq(const struct ph_tls_policy *a, const struct ph_tls_policy *b);
