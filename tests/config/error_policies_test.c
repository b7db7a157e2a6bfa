// Covers: config/snapshot
// ErrorPolicies: what a listed reason turns into, and what must never be turned.
#include "config/snapshot.h"

#include <criterion/criterion.h>

Test(error_policies, turn_what_is_listed)
{
    static const struct {
        unsigned policies;
        const char *up;
        const char *down;
        enum ph_reason_kind kind;
        uint16_t code; // 0: the kind's own
        uint16_t becomes;
    } rows[] = {
        {PH_ERROR_UPGRADE_CUSTOM, "cert-expired", "", PH_REASON_CERT_EXPIRED, 0, 554},
        {PH_ERROR_UPGRADE_CUSTOM, "cert-expired", "", PH_REASON_CERT_REVOKED, 0, 454},
        {PH_ERROR_DEFAULT, "cert-expired", "", PH_REASON_CERT_EXPIRED, 0, 454},
        // By a code, never a TLS refusal: that one must be named.
        {PH_ERROR_UPGRADE_CUSTOM, "454", "", PH_REASON_CERT_EXPIRED, 0, 454},
        {PH_ERROR_UPGRADE_CUSTOM, "4.7.5", "", PH_REASON_CERT_EXPIRED, 0, 454},
        {PH_ERROR_UPGRADE_CUSTOM, "450", "", PH_REASON_RCPT_REJECTED, 450, 550},
        {PH_ERROR_UPGRADE_CUSTOM, "451", "", PH_REASON_RCPT_REJECTED, 450, 450},
        {PH_ERROR_UPGRADE_CUSTOM, "4.2.2", "", PH_REASON_RCPT_REJECTED, 450, 550},
        {PH_ERROR_DOWNGRADE_CUSTOM, "", "550", PH_REASON_RCPT_REJECTED, 550, 450},
        {PH_ERROR_UPGRADE_CUSTOM, "", "550", PH_REASON_RCPT_REJECTED, 550, 550},
        {PH_ERROR_DOWNGRADE_DNS, "", "", PH_REASON_DNS_NO_DOMAIN, 0, 450},
        {PH_ERROR_DOWNGRADE_DNS, "", "", PH_REASON_RCPT_REJECTED, 550, 550},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_str up = ph_str_from(rows[i].up);
        struct ph_str down = ph_str_from(rows[i].down);
        struct ph_send_connector connector = {.error_policies = rows[i].policies,
                                              .upgrade_codes = &up,
                                              .upgrade_code_count = up.len > 0,
                                              .downgrade_codes = &down,
                                              .downgrade_code_count = down.len > 0};
        struct ph_status status = {
            .class = (uint8_t)(rows[i].code / 100), .subject = 2, .detail = 2};
        struct ph_reason reason =
            rows[i].code == 0 ? ph_reason_make(rows[i].kind, "a reason")
                              : ph_reason_from_reply(rows[i].kind, rows[i].code, status, "a reply");

        ph_config_apply_error_policies(&connector, &reason);
        cr_assert_eq(reason.code, rows[i].becomes, "row %zu: %u", i, reason.code);
        cr_assert_eq(reason.status.class, rows[i].becomes / 100, "row %zu", i);
    }
}
