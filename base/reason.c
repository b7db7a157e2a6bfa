// Why a recipient waits or failed.
#include "base/reason.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct reason_row {
    const char *token;
    uint16_t code;
    const char *status;
    const char *summary;
};

static const struct reason_row rows[PH_REASON_KIND_COUNT] = {
#define PH_REASON_ROW(kind, token, code, status, text)                                             \
    [PH_REASON_##kind] = {token, code, status, text},
    PH_REASON_TABLE(PH_REASON_ROW)
#undef PH_REASON_ROW
};

// A sentence is one line, whatever a peer put into it.
static void make_one_line(char *sentence)
{
    ph_text_make_plain(sentence, strlen(sentence));
}

struct ph_reason ph_reason_make(enum ph_reason_kind kind, const char *format, ...)
{
    struct ph_reason reason = {.kind = kind, .code = rows[kind].code};
    struct ph_str status = ph_str_from(rows[kind].status);
    va_list arguments;

    PH_CHECK(status.len == 0 || ph_status_parse(&status, &reason.status));
    va_start(arguments, format);
    vsnprintf(reason.sentence, sizeof(reason.sentence), format, arguments);
    va_end(arguments);
    make_one_line(reason.sentence);
    return reason;
}

struct ph_reason ph_reason_from_reply(enum ph_reason_kind kind, uint16_t code,
                                      struct ph_status status, const char *format, ...)
{
    struct ph_reason reason = {.kind = kind, .code = code, .status = status};
    va_list arguments;

    if (status.class != code / 100) {
        reason.status = (struct ph_status){.class = (uint8_t)(code / 100)};
    }
    va_start(arguments, format);
    vsnprintf(reason.sentence, sizeof(reason.sentence), format, arguments);
    va_end(arguments);
    make_one_line(reason.sentence);
    return reason;
}

bool ph_reason_is_permanent(const struct ph_reason *reason)
{
    return reason->code >= 500;
}

bool ph_reason_is_tls(enum ph_reason_kind kind)
{
    return (kind >= PH_REASON_TLS_NOT_OFFERED && kind <= PH_REASON_AUTH_NEEDS_TLS) ||
           kind == PH_REASON_DNSSEC_BOGUS;
}

const char *ph_reason_token(enum ph_reason_kind kind)
{
    return rows[kind].token;
}

const char *ph_reason_summary(enum ph_reason_kind kind)
{
    return rows[kind].summary;
}

const char *ph_reason_exchange_text(enum ph_reason_kind kind)
{
    static const char *const texts[PH_REASON_KIND_COUNT] = {
        [PH_REASON_TLS_NOT_OFFERED] = "STARTTLS is required to send mail",
        [PH_REASON_STARTTLS_REFUSED] = "STARTTLS refused",
        [PH_REASON_STARTTLS_INJECTION] = "Plaintext after STARTTLS",
        [PH_REASON_TLS_HANDSHAKE_FAILED] = "TLS handshake failed",
        [PH_REASON_CERT_SELF_SIGNED] = "Certificate validation failure, Reason:UntrustedRoot",
        [PH_REASON_CERT_UNTRUSTED_ROOT] = "Certificate validation failure, Reason:UntrustedRoot",
        [PH_REASON_CERT_PARTIAL_CHAIN] = "Certificate validation failure, Reason:UntrustedRoot",
        [PH_REASON_CERT_EXPIRED] = "Certificate validation failure, Reason:Expired",
        [PH_REASON_CERT_NOT_YET_VALID] = "Certificate validation failure, Reason:NotYetValid",
        [PH_REASON_CERT_REVOKED] = "Certificate validation failure, Reason:Revoked",
        [PH_REASON_REVOCATION_UNKNOWN] = "Certificate validation failure, Reason:RevocationUnknown",
        [PH_REASON_CERT_NAME_MISMATCH] = "Certificate validation failure, Reason:SubjectMismatch",
        [PH_REASON_CERT_USAGE] = "Certificate validation failure, Reason:WrongUsage",
        [PH_REASON_CERT_WEAK] = "Certificate validation failure, Reason:WeakKey",
        [PH_REASON_CLIENT_CERT_MISSING] = "The certificate specified in TlsCertificateName of the "
                                          "SendConnector could not be found",
        [PH_REASON_CLIENT_CERT_EXPIRED] = "The certificate specified in TlsCertificateName of the "
                                          "SendConnector could not be found",
        [PH_REASON_CLIENT_CERT_NO_KEY] = "The certificate specified in TlsCertificateName of the "
                                         "SendConnector could not be found",
        [PH_REASON_MUTUAL_NOT_REQUESTED] = "Domain security requires mutual TLS",
        [PH_REASON_DOMAIN_SECURE_MISROUTED] = "Domain security requires mutual TLS",
        [PH_REASON_AUTH_NEEDS_TLS] = "Basic authentication requires TLS",
        [PH_REASON_DANE_NO_TLS] = "starttls-not-supported",
        [PH_REASON_DANE_EXPIRED] = "certificate-expired",
        [PH_REASON_DANE_MISMATCH] = "tlsa-invalid",
        [PH_REASON_DNSSEC_BOGUS] = "dnssec-invalid",
        [PH_REASON_DANE_HOST_MISMATCH] = "certificate-host-mismatch",
        [PH_REASON_MX_INSECURE] = "DANE required but the MX records are not signed",
        [PH_REASON_DANE_REQUIRED] = "DANE required but not published",
        [PH_REASON_STS_MX_MISMATCH] = "MX hosts failed MTA-STS validation",
        [PH_REASON_STS_CERT] = "Remote certificate failed MTA-STS validation",
    };

    return texts[kind];
}

struct ph_status ph_reason_own_status(enum ph_reason_kind kind, struct ph_status fallback)
{
    struct ph_str text = ph_str_from(rows[kind].status);
    struct ph_status status;

    return ph_status_parse(&text, &status) ? status : fallback;
}

bool ph_reason_kind_from_token(struct ph_str token, enum ph_reason_kind *out_kind)
{
    for (size_t kind = 0; kind < PH_REASON_KIND_COUNT; kind++) {
        // Recovery asks this a million times: most rows differ in their first byte.
        if (token.len > 0 && rows[kind].token[0] == token.data[0] &&
            ph_str_eq(token, ph_str_from(rows[kind].token))) {
            *out_kind = (enum ph_reason_kind)kind;
            return true;
        }
    }
    return false;
}

static bool cut_number(struct ph_str *text, uint16_t max, uint16_t *out_number)
{
    size_t digits = 0;
    uint64_t value;

    while (digits < text->len && text->data[digits] >= '0' && text->data[digits] <= '9') {
        digits++;
    }
    if (digits == 0 || digits > 3 || !ph_str_to_u64(ph_str_first(*text, digits), &value) ||
        value > max) {
        return false;
    }
    *out_number = (uint16_t)value;
    *text = ph_str_after(*text, digits);
    return true;
}

static bool cut_dot(struct ph_str *text)
{
    bool dot = text->len > 0 && text->data[0] == '.';

    if (dot) {
        *text = ph_str_after(*text, 1);
    }
    return dot;
}

bool ph_status_parse(struct ph_str *text, struct ph_status *out_status)
{
    struct ph_str rest = *text;
    uint16_t class;
    uint16_t subject;
    uint16_t detail;

    if (!cut_number(&rest, 5, &class) || (class != 2 && class != 4 && class != 5) ||
        !cut_dot(&rest) || !cut_number(&rest, 999, &subject) || !cut_dot(&rest) ||
        !cut_number(&rest, 999, &detail) || (rest.len > 0 && rest.data[0] != ' ')) {
        return false;
    }
    *out_status =
        (struct ph_status){.class = (uint8_t) class, .subject = subject, .detail = detail};
    *text = ph_str_trim(rest);
    return true;
}

char *ph_status_format(struct ph_status status, char out[PH_STATUS_TEXT_MAX])
{
    const uint64_t parts[] = {status.class, status.subject, status.detail};
    size_t len = 0;

    for (size_t i = 0; i < PH_ARRAY_LEN(parts); i++) {
        char digits[PH_STR_U64_DIGITS_MAX];

        if (i > 0) {
            out[len++] = '.';
        }
        len += ph_str_copy(out + len, PH_STATUS_TEXT_MAX - len, ph_str_u64(parts[i], digits));
    }
    return out;
}
