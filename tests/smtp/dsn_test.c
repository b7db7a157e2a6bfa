#include "smtp/dsn.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct ph_envelope_recipient one = {
    .address = PH_STR("u@d.test"), .domain = PH_STR("d.test"), .orcpt = PH_STR_NONE};

static struct ph_envelope envelope_of(void)
{
    return (struct ph_envelope){.reverse_path = PH_STR("me@sender.test"),
                                .envid = PH_STR_NONE,
                                .sender = PH_STR("sender.test"),
                                .arrival_ms = UINT64_C(1790000000000),
                                .recipients = &one,
                                .recipient_count = 1};
}

static struct ph_buf build(const struct ph_envelope *envelope, enum ph_dsn_action action,
                           const struct ph_dsn_recipient *recipients, uint32_t count,
                           const char *body)
{
    struct iovec slice = {.iov_base = (void *)(uintptr_t)body, .iov_len = strlen(body)};
    struct ph_buf out = {0};

    ph_dsn_build(&(struct ph_dsn_options){.action = action,
                                          .reporting_mta = PH_STR("out.test"),
                                          .from = PH_STR("postmaster@out.test"),
                                          .id = PH_STR("0000000000000009"),
                                          .wall_ms = UINT64_C(1790000001000),
                                          .retry_until_ms = UINT64_C(1790000172800),
                                          .envelope = envelope,
                                          .body = &slice,
                                          .body_count = 1,
                                          .recipients = recipients,
                                          .recipient_count = count},
                 &out);
    return out;
}

static bool has(struct ph_buf *text, const char *part)
{
    return strstr(ph_buf_cstr(text), part) != NULL;
}

static const char original[] = "Subject: hi\r\nX-Note: a\r\n\r\nBody line\r\n";

// RFC 3464: one group of fields for the message, one for each recipient.
Test(dsn, a_failure)
{
    struct ph_envelope_recipient two[] = {
        {.address = PH_STR("u@d.test"),
         .domain = PH_STR("d.test"),
         .orcpt = PH_STR("rfc822;old+40d.test")},
        {.address = PH_STR("v@d.test"), .domain = PH_STR("d.test"), .orcpt = PH_STR_NONE}};
    struct ph_envelope envelope = envelope_of();
    struct ph_dsn_recipient told[] = {{.recipient = &two[0],
                                       .status = {5, 1, 1},
                                       .code = 550,
                                       .text = PH_STR("no\r\nInjected: such\tuser"),
                                       .remote = PH_STR("mx.d.test")},
                                      {.recipient = &two[1],
                                       .status = {4, 4, 1},
                                       .text = PH_STR("undelivered for too long"),
                                       .remote = PH_STR_NONE}};
    struct ph_buf text;

    envelope.envid = PH_STR("QQ314159");
    envelope.recipients = two;
    envelope.recipient_count = 2;
    text = build(&envelope, PH_DSN_FAILED, told, 2, original);
    cr_expect(has(&text, "Auto-Submitted: auto-replied\r\n"));
    cr_expect(has(&text, "multipart/report; report-type=delivery-status;"));
    cr_expect(has(&text, "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: "
                         "dns;out.test\r\nOriginal-Envelope-Id: QQ314159\r\nArrival-Date: "));
    cr_expect(has(&text, "\r\n\r\nOriginal-Recipient: rfc822;old+40d.test\r\nFinal-Recipient: "
                         "rfc822;u@d.test\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: "
                         "dns;mx.d.test\r\nDiagnostic-Code: smtp;550 "));
    // What a peer says stays on its line.
    cr_expect_not(has(&text, "\r\nInjected:"));
    // The last word of one that was given up may be a temporary one (RFC 3463 §2).
    cr_expect(has(&text, "Final-Recipient: rfc822;v@d.test\r\nAction: failed\r\nStatus: 4.4.1"),
              "%s", ph_buf_cstr(&text));
    // The header comes back, the text only where it is asked for.
    cr_expect(has(&text, "Content-Type: text/rfc822-headers\r\n\r\nSubject: hi\r\nX-Note: a\r\n"));
    cr_expect_not(has(&text, "Body line"));
    ph_buf_deinit(&text);
    envelope.ret = PH_RET_FULL;
    text = build(&envelope, PH_DSN_FAILED, told, 2, original);
    cr_expect(has(&text, "Content-Type: message/rfc822\r\n\r\nSubject: hi\r\nX-Note: a\r\n\r\nBody "
                         "line\r\n"));
    ph_buf_deinit(&text);
}

Test(dsn, a_delay_and_a_relay)
{
    struct ph_envelope envelope = envelope_of();
    struct ph_dsn_recipient told = {
        .recipient = &one, .status = {4, 4, 1}, .text = PH_STR("refused"), .remote = PH_STR_NONE};
    struct ph_buf text = build(&envelope, PH_DSN_DELAYED, &told, 1, original);

    cr_expect(has(&text, "Action: delayed\r\nStatus: 4.4.1\r\n"));
    cr_expect(has(&text, "Will-Retry-Until: "));
    cr_expect(has(&text, "you need not send it again"));
    cr_expect(has(&text, "It is tried until Mon, 21 Sep 2026 14:16:12 "), "%s", ph_buf_cstr(&text));
    cr_expect_not(has(&text, "Last-Attempt-Date: "), "it isn't known");
    ph_buf_deinit(&text);
    // Of what a TLS policy holds: first for the one who wrote it, then for those who can mend it.
    told.status = (struct ph_status){4, 7, 5};
    told.reason = PH_REASON_CERT_NAME_MISMATCH;
    told.last_attempt_ms = UINT64_C(1790000000500);
    text = build(&envelope, PH_DSN_DELAYED, &told, 1, original);
    cr_expect(has(&text, "  <u@d.test>\r\n    It may leave over a protected connection only"));
    cr_expect(has(&text, "need to know:\r\n    cert-name-mismatch: refused\r\n"));
    cr_expect(has(&text, "Diagnostic-Code: x-posthaste;Certificate validation failure, "
                         "Reason:SubjectMismatch - cert-name-mismatch: refused\r\n"
                         "Last-Attempt-Date: Mon, 21 Sep 2026 "),
              "%s", ph_buf_cstr(&text));
    ph_buf_deinit(&text);
    told.reason = PH_REASON_NONE;
    told.status = (struct ph_status){2, 1, 5};
    envelope.ret = PH_RET_FULL;
    text = build(&envelope, PH_DSN_RELAYED, &told, 1, original);
    cr_expect(has(&text, "Action: relayed\r\nStatus: 2.1.5\r\n"));
    // RET is for failures: others bring the header (RFC 3461 §4.3).
    cr_expect_not(has(&text, "Body line"));
    ph_buf_deinit(&text);
}

// RFC 6533: addresses and headers that hold UTF-8.
Test(dsn, in_utf8)
{
    struct ph_envelope_recipient wide = {.address = PH_STR("\xc3\xbc@d.test"),
                                         .domain = PH_STR("d.test"),
                                         .orcpt = PH_STR("utf-8;\xc3\xbc@d.test")};
    struct ph_envelope envelope = envelope_of();
    struct ph_dsn_recipient told = {
        .recipient = &wide, .status = {5, 6, 7}, .text = PH_STR("no"), .remote = PH_STR_NONE};
    struct ph_buf text;

    envelope.smtputf8 = true;
    envelope.has_8bit = true;
    envelope.recipients = &wide;
    text = build(&envelope, PH_DSN_FAILED, &told, 1, "Subject: \xc3\xbc\r\n\r\nx\r\n");
    cr_expect(has(&text, "report-type=global-delivery-status;"));
    cr_expect(has(&text, "Content-Type: message/global-delivery-status\r\n"));
    cr_expect(has(&text, "Original-Recipient: utf-8;\xc3\xbc@d.test\r\nFinal-Recipient: "
                         "utf-8;\xc3\xbc@d.test\r\n"));
    cr_expect(
        has(&text, "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit"));
    ph_buf_deinit(&text);
}

// RFC 3461 §4.1, and no word to nobody.
Test(dsn, who_wants_to_hear_what)
{
    static const struct {
        uint8_t notify;
        bool failed;
        bool delayed;
        bool relayed;
    } rows[] = {
        {0, true, true, false},
        {PH_NOTIFY_NEVER, false, false, false},
        {PH_NOTIFY_SUCCESS, false, false, true},
        {PH_NOTIFY_FAILURE, true, false, false},
        {PH_NOTIFY_DELAY, false, true, false},
        {PH_NOTIFY_SUCCESS | PH_NOTIFY_FAILURE | PH_NOTIFY_DELAY, true, true, true},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ph_envelope envelope = envelope_of();
        struct ph_envelope_recipient recipient = one;

        recipient.notify = rows[i].notify;
        cr_expect_eq(ph_dsn_wanted(&envelope, &recipient, PH_DSN_FAILED), rows[i].failed);
        cr_expect_eq(ph_dsn_wanted(&envelope, &recipient, PH_DSN_DELAYED), rows[i].delayed);
        cr_expect_eq(ph_dsn_wanted(&envelope, &recipient, PH_DSN_RELAYED), rows[i].relayed);
        envelope.reverse_path = PH_STR_NONE;
        cr_expect_not(ph_dsn_wanted(&envelope, &recipient, PH_DSN_FAILED));
        cr_expect_not(ph_dsn_wanted(&envelope, &recipient, PH_DSN_DELAYED));
        cr_expect_not(ph_dsn_wanted(&envelope, &recipient, PH_DSN_RELAYED));
    }
}

// A long original is cut at a line's end, within bounds.
Test(dsn, a_long_original)
{
    static char body[200000];
    struct ph_envelope envelope = envelope_of();
    struct ph_dsn_recipient told = {
        .recipient = &one, .status = {5, 0, 0}, .text = PH_STR("no"), .remote = PH_STR_NONE};
    struct ph_buf text;
    size_t at = 0;

    while (at + 80 < sizeof(body)) {
        at += (size_t)snprintf(body + at, sizeof(body) - at, "X-Line-%06zu: %050d\r\n", at, 7);
    }
    envelope.ret = PH_RET_FULL;
    text = build(&envelope, PH_DSN_FAILED, &told, 1, body);
    cr_expect(text.len < PH_DSN_QUOTED_BYTES_MAX + 4096);
    cr_expect(has(&text, "0007\r\n\r\n--=_0000000000000009--\r\n"));
    ph_buf_deinit(&text);
}
