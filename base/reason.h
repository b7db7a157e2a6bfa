// Why a recipient waits or failed: a stable token, an enhanced status code, a sentence with facts.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/str.h"

#define PH_REASON_SENTENCE_MAX 480 // bytes with NUL; ours: one line of a log, one of a DSN

// kind, token, basic reply code, enhanced status code (RFC 3463), one line for the manual.
// The tokens are the interface for scripts, metrics and alerts: they never change their meaning.
// The TLS ones and their codes are Exchange's semantics: posthaste(1) lists them.
#define PH_REASON_TABLE(X)                                                                         \
    X(NONE, "none", 0, "", "no reason: all is well")                                               \
    X(TLS_NOT_OFFERED, "tls-not-offered", 451, "4.7.3", "TLS is demanded, STARTTLS not offered")   \
    X(STARTTLS_REFUSED, "starttls-refused", 451, "4.7.3", "the host refused STARTTLS")             \
    X(STARTTLS_INJECTION, "starttls-injection", 451, "4.7.5",                                      \
      "plaintext followed the reply to STARTTLS")                                                  \
    X(TLS_HANDSHAKE_FAILED, "tls-handshake-failed", 454, "4.7.5", "the TLS handshake failed")      \
    X(CERT_SELF_SIGNED, "cert-self-signed", 454, "4.7.5", "a self-signed certificate")             \
    X(CERT_UNTRUSTED_ROOT, "cert-untrusted-root", 454, "4.7.5",                                    \
      "the chain ends in an issuer that isn't trusted")                                            \
    X(CERT_PARTIAL_CHAIN, "cert-partial-chain", 454, "4.7.5", "an intermediate is missing")        \
    X(CERT_EXPIRED, "cert-expired", 454, "4.7.5", "a certificate of the chain has expired")        \
    X(CERT_NOT_YET_VALID, "cert-not-yet-valid", 454, "4.7.5", "a certificate isn't valid yet")     \
    X(CERT_REVOKED, "cert-revoked", 454, "4.7.5", "a certificate of the chain is revoked")         \
    X(REVOCATION_UNKNOWN, "revocation-unknown", 454, "4.7.5",                                      \
      "revocation could not be ascertained")                                                       \
    X(CERT_NAME_MISMATCH, "cert-name-mismatch", 454, "4.7.5",                                      \
      "the certificate is for other names")                                                        \
    X(CERT_USAGE, "cert-usage", 454, "4.7.5", "the certificate isn't for TLS servers")             \
    X(CERT_WEAK, "cert-weak", 454, "4.7.5", "a key or signature algorithm is too weak")            \
    X(CLIENT_CERT_MISSING, "client-cert-missing", 454, "4.7.5",                                    \
      "our own client certificate can't be loaded")                                                \
    X(CLIENT_CERT_EXPIRED, "client-cert-expired", 454, "4.7.5",                                    \
      "our own client certificate has expired")                                                    \
    X(CLIENT_CERT_NO_KEY, "client-cert-no-key", 454, "4.7.5",                                      \
      "our own client certificate lacks its key")                                                  \
    X(MUTUAL_NOT_REQUESTED, "mutual-not-requested", 451, "4.7.3",                                  \
      "Domain Security: the host did not ask for our certificate")                                 \
    X(DOMAIN_SECURE_MISROUTED, "domain-secure-misrouted", 451, "4.7.3",                            \
      "a domain-secured domain's connector is not DomainSecureEnabled")                            \
    X(DANE_NO_TLS, "dane-no-tls", 451, "4.7.321", "TLSA records demand TLS, and there is none")    \
    X(DANE_EXPIRED, "dane-expired", 451, "4.7.322",                                                \
      "DANE: a certificate of the chain has expired")                                              \
    X(DANE_MISMATCH, "dane-mismatch", 451, "4.7.323", "the certificate matches no TLSA record")    \
    X(DANE_HOST_MISMATCH, "dane-host-mismatch", 451, "4.7.325",                                    \
      "DANE: the certificate is for other names")                                                  \
    X(DANE_REQUIRED, "dane-required", 451, "4.7.5", "DANE is demanded and not published")          \
    X(STS_MX_MISMATCH, "sts-mx-mismatch", 451, "4.4.8", "the MTA-STS policy names other MX hosts") \
    X(STS_CERT, "sts-cert", 451, "4.7.5", "the certificate fails the MTA-STS policy")              \
    X(MX_INSECURE, "mx-insecure", 451, "4.7.5",                                                    \
      "REQUIRETLS, and nothing vouches for the names of the MX hosts")                             \
    X(AUTH_NEEDS_TLS, "auth-needs-tls", 451, "4.7.3", "authentication demands TLS")                \
    X(AUTH_FAILED, "auth-failed", 454, "4.7.0", "the smart host refused our credentials")          \
    X(AUTH_NOT_OFFERED, "auth-not-offered", 451, "4.7.0", "the smart host offers no usable AUTH")  \
    X(DNS_FAILURE, "dns-failure", 451, "4.4.3", "a DNS lookup failed")                             \
    X(DNSSEC_BOGUS, "dnssec-bogus", 451, "4.7.324", "DNSSEC validation failed")                    \
    X(DNS_NO_DOMAIN, "dns-no-domain", 550, "5.1.2", "the domain does not exist")                   \
    X(DNS_NO_ADDRESS, "dns-no-address", 451, "4.4.4", "no host of the domain has an address")      \
    X(DNS_NULL_MX, "dns-null-mx", 556, "5.1.10", "the domain accepts no mail (null MX)")           \
    X(DNS_MX_LOOP, "dns-mx-loop", 554, "5.4.6", "the domain's MX hosts lead back to us")           \
    X(DNS_TARGET_REFUSED, "dns-target-refused", 451, "4.4.4",                                      \
      "DNS names an address that may not be a destination")                                        \
    X(NO_CONNECTOR, "no-connector", 451, "4.4.0", "no send connector matches")                     \
    X(SIZE_WOULD_BYPASS_TLS, "size-would-bypass-tls", 552, "5.3.4",                                \
      "too large for the connector that forces TLS")                                               \
    X(SIZE_EXCEEDED, "size-exceeded", 552, "5.3.4", "larger than the next hop accepts")            \
    X(CONNECT_REFUSED, "connect-refused", 451, "4.4.1", "the connection was refused")              \
    X(CONNECT_TIMEOUT, "connect-timeout", 451, "4.4.1", "the connection timed out")                \
    X(CONNECT_FAILED, "connect-failed", 451, "4.4.1", "the connection failed")                     \
    X(GREETING_4XX, "greeting-4xx", 451, "4.3.2", "the host greeted with a temporary refusal")     \
    X(GREETING_5XX, "greeting-5xx", 451, "4.3.2", "the host greeted with a refusal")               \
    X(EHLO_REJECTED, "ehlo-rejected", 451, "4.7.0", "the host refused EHLO and HELO")              \
    X(PEER_CLOSED, "peer-closed", 451, "4.4.2", "the host closed the connection")                  \
    X(PEER_TIMEOUT, "peer-timeout", 451, "4.4.2", "the host did not answer in time")               \
    X(PEER_PROTOCOL, "peer-protocol", 451, "4.5.0", "the host broke the protocol")                 \
    X(MAIL_REJECTED, "mail-rejected", 0, "", "the host refused MAIL")                              \
    X(RCPT_REJECTED, "rcpt-rejected", 0, "", "the host refused the recipient")                     \
    X(DATA_REJECTED, "data-rejected", 0, "", "the host refused the message")                       \
    X(SMTPUTF8_UNSUPPORTED, "smtputf8-unsupported", 553, "5.6.7", "the next hop lacks SMTPUTF8")   \
    X(REQUIRETLS_UNSUPPORTED, "requiretls-unsupported", 550, "5.7.30",                             \
      "the next hop lacks REQUIRETLS")                                                             \
    X(EIGHTBIT_UNSUPPORTED, "8bit-unsupported", 554, "5.6.3", "the next hop lacks 8BITMIME")       \
    X(IN_DOUBT, "in-doubt", 451, "4.4.2", "the connection broke before the final reply was read")  \
    X(SPOOL_DAMAGED, "spool-damaged", 554, "5.3.0", "the stored message is damaged")               \
    X(EXPIRED, "expired", 550, "5.4.7", "undelivered for too long")                                \
    X(SITE_BACKOFF, "site-backoff", 451, "4.4.5", "the destination is being given a rest")         \
    X(LOCAL_RESOURCES, "local-resources", 451, "4.3.1", "a resource of ours ran out")              \
    X(ADMINISTRATOR, "administrator", 554, "5.7.0", "an administrator ended it")                   \
    X(SITE_SLOWED, "site-slowed", 451, "4.4.5", "the peer said to slow down (BackoffOn)")          \
    X(SHUTDOWN, "shutdown", 451, "4.3.2", "posthaste was stopping")

enum ph_reason_kind {
#define PH_REASON_ENUM(kind, token, code, status, text) PH_REASON_##kind,
    PH_REASON_TABLE(PH_REASON_ENUM)
#undef PH_REASON_ENUM
        PH_REASON_KIND_COUNT
};

// An enhanced mail system status code (RFC 3463). Class 0: none.
struct ph_status {
    uint8_t class; // 2, 4 or 5
    uint16_t subject;
    uint16_t detail;
};

// A value: copied freely, owns nothing. Built whole or not at all.
struct ph_reason {
    enum ph_reason_kind kind;
    uint16_t code; // basic reply code: 4xx waits, 5xx failed
    struct ph_status status;
    char sentence[PH_REASON_SENTENCE_MAX]; // for a tired administrator: demand, finding, remedy
};

// With the code and status of the kind's row.
struct ph_reason ph_reason_make(enum ph_reason_kind kind, const char *format, ...) PH_PRINTF(2, 3);
// With the peer's own code and status (a status of another class than the code, or none, becomes
// X.0.0 of the code's class).
struct ph_reason ph_reason_from_reply(enum ph_reason_kind kind, uint16_t code,
                                      struct ph_status status, const char *format, ...)
    PH_PRINTF(4, 5);
bool ph_reason_is_permanent(const struct ph_reason *reason);
bool ph_reason_is_tls(enum ph_reason_kind kind); // a refusal by TLS policy: backs off the queue

const char *ph_reason_token(enum ph_reason_kind kind);
const char *ph_reason_summary(enum ph_reason_kind kind);
// How Exchange words it, for those who know its texts: "Certificate validation failure,
// Reason:SubjectMismatch". NULL: it has no word of its own for it.
const char *ph_reason_exchange_text(enum ph_reason_kind kind);
// The status of the kind's row where it has one, else `fallback`.
struct ph_status ph_reason_own_status(enum ph_reason_kind kind, struct ph_status fallback);
PH_MUST_CHECK bool ph_reason_kind_from_token(struct ph_str token, enum ph_reason_kind *out_kind);

// "4.7.5 …": reads a status code off the front of `text`; false, outputs alone, when there is none.
PH_MUST_CHECK bool ph_status_parse(struct ph_str *text, struct ph_status *out_status);
#define PH_STATUS_TEXT_MAX 16
char *ph_status_format(struct ph_status status, char out[PH_STATUS_TEXT_MAX]);
