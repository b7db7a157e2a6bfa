// What accompanies a message beside its content: reverse-path, recipients, parameters
// (RFC 5321 §3.3, RFC 3461 §4, RFC 6531, RFC 8689).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define PH_ADDRESS_BYTES_MAX 320 // 64 + '@' + 255; RFC 5321 §4.5.3.1
#define PH_ENVID_BYTES_MAX 100   // RFC 3461 §4.4
#define PH_ORCPT_BYTES_MAX 500   // RFC 3461 §4.2
#define PH_RECIPIENTS_MAX 1000  // per message; the default of MaxRecipientsPerMessage and its bound
#define PH_SENDER_BYTES_MAX 256 // identity for fair sharing

enum ph_notify {
    PH_NOTIFY_NEVER = 1,
    PH_NOTIFY_SUCCESS = 2,
    PH_NOTIFY_FAILURE = 4,
    PH_NOTIFY_DELAY = 8, // 0: not given, failures and delays are reported (RFC 3461 §4.1)
};

enum ph_ret {
    PH_RET_NONE,
    PH_RET_FULL,
    PH_RET_HEADERS,
};

enum ph_body_type {
    PH_BODY_7BIT,
    PH_BODY_8BITMIME,
};

struct ph_envelope_recipient {
    struct ph_str address; // local-part@domain, as given; the domain may be a U-label
    struct ph_str domain;  // A-labels, lower case, without trailing dot: what routing uses
    struct ph_str orcpt;   // "rfc822;…", decoded of nothing: as given; empty when absent
    uint8_t notify;        // enum ph_notify bits
};

struct ph_envelope {
    struct ph_str reverse_path; // empty: the null reverse-path
    struct ph_str envid;        // as given (xtext), empty when absent
    enum ph_ret ret;
    enum ph_body_type body_type;
    bool smtputf8;        // SMTPUTF8 was given: addresses or headers may hold UTF-8
    bool requiretls;      // RFC 8689
    bool tls_optional;    // "TLS-Required: No" (RFC 8689 §3): the destination's policy is waived
    bool has_8bit;        // found in the content, whatever BODY= said
    struct ph_str sender; // who answers for it: the authenticated identity, else connector and
                          // reverse-path domain
    struct ph_str connector;      // the ReceiveConnector's name; "dsn" for our own
    struct ph_str client_name;    // of EHLO
    struct ph_str client_address; // "192.0.2.1"
    uint64_t arrival_ms;          // wall clock, since 1970
    uint64_t expiry_ms;
    uint8_t priority; // 0 bulk .. 3 high; 1 normal
    const struct ph_envelope_recipient *recipients;
    uint32_t recipient_count;
};
