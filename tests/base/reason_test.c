#include "base/reason.h"

#include <criterion/criterion.h>
#include <string.h>

Test(reason, every_kind_has_a_token_of_its_own_and_is_found_by_it)
{
    for (size_t kind = 0; kind < PH_REASON_KIND_COUNT; kind++) {
        const char *token = ph_reason_token((enum ph_reason_kind)kind);
        enum ph_reason_kind found;

        cr_assert(ph_reason_kind_from_token(ph_str_from(token), &found));
        cr_assert_eq(found, kind, "%s", token);
        cr_assert_eq(strspn(token, "abcdefghijklmnopqrstuvwxyz0123456789-"), strlen(token), "%s",
                     token);
    }
}

Test(reason, codes_and_statuses_agree)
{
    for (size_t kind = 0; kind < PH_REASON_KIND_COUNT; kind++) {
        struct ph_reason reason = ph_reason_make((enum ph_reason_kind)kind, "facts");

        if (reason.code != 0) {
            cr_assert_eq(reason.status.class, reason.code / 100, "%s",
                         ph_reason_token(reason.kind));
        }
        cr_assert_eq(ph_reason_is_permanent(&reason), reason.code >= 500);
        // A refusal by TLS policy is never permanent: the mail waits.
        cr_assert(!ph_reason_is_tls(reason.kind) || !ph_reason_is_permanent(&reason));
    }
}

Test(reason, a_sentence_is_one_bounded_line)
{
    char text[2000];
    struct ph_reason reason;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    text[3] = '\n';
    text[4] = '\r';
    text[5] = '\x1b';
    reason = ph_reason_make(PH_REASON_PEER_CLOSED, "%s", text);
    cr_assert_eq(strlen(reason.sentence), PH_REASON_SENTENCE_MAX - 1);
    cr_assert_eq(strcspn(reason.sentence, "\r\n\x1b"), strlen(reason.sentence));
}

Test(reason, a_peers_status_must_be_of_its_codes_class)
{
    struct ph_status good = {.class = 5, .subject = 1, .detail = 1};
    struct ph_reason reason =
        ph_reason_from_reply(PH_REASON_RCPT_REJECTED, 550, good, "no such user");

    cr_assert_eq(reason.status.detail, 1);
    reason = ph_reason_from_reply(PH_REASON_RCPT_REJECTED, 450, good, "later");
    cr_assert_eq(reason.status.class, 4);
    cr_assert_eq(reason.status.subject, 0);
}

Test(reason, statuses_are_read_off_the_front)
{
    static const struct {
        const char *text;
        bool valid;
        const char *status;
        const char *rest;
    } rows[] = {
        {"5.1.1 no such user", true, "5.1.1", "no such user"},
        {"4.7.324", true, "4.7.324", ""},
        {"2.0.0  ok", true, "2.0.0", "ok"},
        {"3.1.1 x", false, "", "3.1.1 x"},
        {"5.1 x", false, "", "5.1 x"},
        {"5.1.1x", false, "", "5.1.1x"},
        {"5.1.1000 x", false, "", "5.1.1000 x"},
        {"5..1 x", false, "", "5..1 x"},
        {"", false, "", ""},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ph_str text = ph_str_from(rows[i].text);
        struct ph_status status;
        char formatted[PH_STATUS_TEXT_MAX];
        bool valid = ph_status_parse(&text, &status);

        cr_assert_eq(valid, rows[i].valid, "\"%s\"", rows[i].text);
        cr_assert(ph_str_eq(text, ph_str_from(rows[i].rest)), "\"%s\"", rows[i].text);
        if (valid) {
            cr_assert_str_eq(ph_status_format(status, formatted), rows[i].status);
        }
    }
}

// EXCHANGE semantics 3.3: each refusal by a TLS policy is worded as Exchange's users know it, too.
Test(reason, exchange_has_a_text_for_each_tls_refusal)
{
    struct ph_status other = {.class = 5, .subject = 4, .detail = 7};

    for (int kind = PH_REASON_TLS_NOT_OFFERED; kind < PH_REASON_AUTH_NEEDS_TLS; kind++) {
        if (ph_reason_is_tls((enum ph_reason_kind)kind)) {
            cr_expect_not_null(ph_reason_exchange_text((enum ph_reason_kind)kind), "%s",
                               ph_reason_token((enum ph_reason_kind)kind));
        }
    }
    cr_expect_str_eq(ph_reason_exchange_text(PH_REASON_CERT_NAME_MISMATCH),
                     "Certificate validation failure, Reason:SubjectMismatch");
    cr_expect_null(ph_reason_exchange_text(PH_REASON_CONNECT_REFUSED));
    cr_expect_eq(ph_reason_own_status(PH_REASON_CERT_EXPIRED, other).detail, 5);
    cr_expect_eq(ph_reason_own_status(PH_REASON_RCPT_REJECTED, other).detail, 7);
}
