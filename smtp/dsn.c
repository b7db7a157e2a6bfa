// Delivery status notifications.
#include "smtp/dsn.h"

#include <string.h>

#include "base/date.h"

#define PH_DSN_LINE_MAX 900 // RFC 5322 §2.1.1 allows 998

bool ph_dsn_wanted(const struct ph_envelope *envelope,
                   const struct ph_envelope_recipient *recipient, enum ph_dsn_action action)
{
    static const enum ph_notify bits[] = {[PH_DSN_FAILED] = PH_NOTIFY_FAILURE,
                                          [PH_DSN_DELAYED] = PH_NOTIFY_DELAY,
                                          [PH_DSN_RELAYED] = PH_NOTIFY_SUCCESS};

    if (envelope->reverse_path.len == 0) {
        return false;
    }
    if (recipient->notify == 0) {
        return action != PH_DSN_RELAYED; // not asked for: failures and delays
    }
    return (recipient->notify & (unsigned)bits[action]) != 0;
}

// Text from elsewhere on one line: no control characters, bounded.
static void put_text(struct ph_buf *out, struct ph_str text)
{
    text = ph_str_first(text, PH_DSN_LINE_MAX);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];

        ph_buf_append_char(out, c < 0x20 || c == 0x7f ? ' ' : (char)c);
    }
}

static const char *const actions[] = {
    [PH_DSN_FAILED] = "failed", [PH_DSN_DELAYED] = "delayed", [PH_DSN_RELAYED] = "relayed"};

static const char *const subjects[] = {
    [PH_DSN_FAILED] = "Undelivered mail",
    [PH_DSN_DELAYED] = "Delayed mail (still being tried)",
    [PH_DSN_RELAYED] = "Mail passed on",
};

static const char *const introductions[] = {
    [PH_DSN_FAILED] = "Your message could not be delivered to:",
    [PH_DSN_DELAYED] = "Your message has not been delivered yet. It is still being tried; you "
                       "need not send it again:",
    [PH_DSN_RELAYED] = "Your message was passed on to a host that doesn't report deliveries:",
};

static void put_header(const struct ph_dsn_options *o, bool utf8, struct ph_buf *out)
{
    char date[PH_DATE_TEXT_MAX];

    ph_buf_printf(out, "Date: %s\r\nFrom: Mail delivery <%.*s>\r\nTo: <%.*s>\r\n",
                  ph_date_format(o->wall_ms, date), PH_STR_ARG(o->from),
                  PH_STR_ARG(o->envelope->reverse_path));
    ph_buf_printf(out,
                  "Subject: %s\r\nMessage-ID: <%.*s@%.*s>\r\nAuto-Submitted: auto-replied\r\n"
                  "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=%s;\r\n"
                  "\tboundary=\"=_%.*s\"\r\n%s\r\n",
                  subjects[o->action], PH_STR_ARG(o->id), PH_STR_ARG(o->reporting_mta),
                  utf8 ? "global-delivery-status" : "delivery-status", PH_STR_ARG(o->id),
                  utf8 ? "Content-Transfer-Encoding: 8bit\r\n" : "");
}

static void put_boundary(const struct ph_dsn_options *o, struct ph_buf *out, const char *end)
{
    ph_buf_printf(out, "\r\n--=_%.*s%s\r\n", PH_STR_ARG(o->id), end);
}

static void put_words(const struct ph_dsn_options *o, struct ph_buf *out)
{
    char date[PH_DATE_TEXT_MAX];

    put_boundary(o, out, "");
    ph_buf_append(out, PH_STR("Content-Type: text/plain; charset=utf-8\r\n"
                              "Content-Transfer-Encoding: 8bit\r\n\r\n"));
    ph_buf_printf(out, "This is the mail system at %.*s.\r\n\r\n%s\r\n\r\n",
                  PH_STR_ARG(o->reporting_mta), introductions[o->action]);
    for (uint32_t i = 0; i < o->recipient_count; i++) {
        const struct ph_dsn_recipient *r = &o->recipients[i];

        ph_buf_append(out, PH_STR("  <"));
        put_text(out, r->recipient->address);
        ph_buf_append(out, PH_STR(">\r\n    "));
        // For the one who wrote it first, then what the administrators go by.
        if (ph_reason_is_tls(r->reason)) {
            ph_buf_printf(out,
                          "It may leave over a protected connection only, and that could not be "
                          "had: nothing of it\r\n    was sent unprotected. What the administrators "
                          "of both sides need to know:\r\n    %s: ",
                          ph_reason_token(r->reason));
        }
        put_text(out, r->text);
        ph_buf_append(out, PH_STR("\r\n"));
    }
    if (o->action == PH_DSN_DELAYED) {
        ph_buf_printf(out,
                      "\r\nIt is tried until %s; if it can't be delivered until then, you "
                      "will be told.\r\n",
                      ph_date_format(o->retry_until_ms, date));
    }
}

// Our own reason as Exchange would word it, with the token that scripts go by.
static void put_own_reason(const struct ph_dsn_recipient *r, struct ph_buf *out)
{
    const char *text = ph_reason_exchange_text(r->reason);

    ph_buf_printf(out, "Diagnostic-Code: x-posthaste;%s%s%s: ", text != NULL ? text : "",
                  text != NULL ? " - " : "", ph_reason_token(r->reason));
    put_text(out, r->text);
    ph_buf_append(out, PH_STR("\r\n"));
}

// RFC 3464 §2.3.
static void put_recipient(const struct ph_dsn_options *o, const struct ph_dsn_recipient *r,
                          bool utf8, struct ph_buf *out)
{
    char date[PH_DATE_TEXT_MAX];
    char status[PH_STATUS_TEXT_MAX];
    struct ph_status made = {.class = o->action == PH_DSN_FAILED    ? 5
                                      : o->action == PH_DSN_DELAYED ? 4
                                                                    : 2};
    // What expired shows the real cause, which was temporary each time (RFC 3464 §2.3.4).
    bool fits =
        r->status.class == made.class || (o->action == PH_DSN_FAILED && r->status.class == 4);

    ph_buf_append(out, PH_STR("\r\n"));
    if (r->recipient->orcpt.len > 0) {
        ph_buf_append(out, PH_STR("Original-Recipient: "));
        put_text(out, r->recipient->orcpt);
        ph_buf_append(out, PH_STR("\r\n"));
    }
    ph_buf_printf(out, "Final-Recipient: %s;", utf8 ? "utf-8" : "rfc822");
    put_text(out, r->recipient->address);
    ph_buf_printf(out, "\r\nAction: %s\r\nStatus: %s\r\n", actions[o->action],
                  ph_status_format(fits ? r->status : made, status));
    if (r->remote.len > 0) {
        ph_buf_append(out, PH_STR("Remote-MTA: dns;"));
        put_text(out, r->remote);
        ph_buf_append(out, PH_STR("\r\n"));
    }
    if (r->code != 0) {
        ph_buf_printf(out, "Diagnostic-Code: smtp;%u ", r->code);
        put_text(out, r->text);
        ph_buf_append(out, PH_STR("\r\n"));
    } else if (r->reason != PH_REASON_NONE) {
        put_own_reason(r, out);
    }
    if (r->last_attempt_ms > 0) {
        ph_buf_printf(out, "Last-Attempt-Date: %s\r\n", ph_date_format(r->last_attempt_ms, date));
    }
    if (o->action == PH_DSN_DELAYED) {
        ph_buf_printf(out, "Will-Retry-Until: %s\r\n", ph_date_format(o->retry_until_ms, date));
    }
}

static void put_status(const struct ph_dsn_options *o, bool utf8, struct ph_buf *out)
{
    char date[PH_DATE_TEXT_MAX];

    put_boundary(o, out, "");
    ph_buf_printf(out, "Content-Type: message/%s\r\n\r\nReporting-MTA: dns;%.*s\r\n",
                  utf8 ? "global-delivery-status" : "delivery-status",
                  PH_STR_ARG(o->reporting_mta));
    if (o->envelope->envid.len > 0) {
        ph_buf_append(out, PH_STR("Original-Envelope-Id: "));
        put_text(out, o->envelope->envid);
        ph_buf_append(out, PH_STR("\r\n"));
    }
    ph_buf_printf(out, "Arrival-Date: %s\r\n", ph_date_format(o->envelope->arrival_ms, date));
    for (uint32_t i = 0; i < o->recipient_count; i++) {
        put_recipient(o, &o->recipients[i], utf8, out);
    }
}

static bool header_ends(struct ph_str text, size_t at)
{
    return at >= 4 && memcmp(text.data + at - 4, "\r\n\r\n", 4) == 0;
}

// The original's header, or all of it where RET=FULL asks and it is short enough.
static void put_original(const struct ph_dsn_options *o, bool utf8, struct ph_buf *out)
{
    // What had to be protected isn't sent round more than needed (RFC 8689 §5).
    bool full =
        o->envelope->ret == PH_RET_FULL && o->action == PH_DSN_FAILED && !o->envelope->requiretls;
    struct ph_buf text = {0};
    size_t len = 0;
    struct ph_str quoted;
    uint64_t total = 0;

    for (int i = 0; i < o->body_count; i++) {
        size_t room = PH_DSN_QUOTED_BYTES_MAX - text.len;
        size_t part = o->body[i].iov_len < room ? o->body[i].iov_len : room;

        ph_buf_append_bytes(&text, o->body[i].iov_base, part);
        total += o->body[i].iov_len;
    }
    full = full && total == text.len;
    quoted = ph_buf_str(&text);
    len = full ? text.len : 0;
    while (!full && len < quoted.len && !header_ends(quoted, len)) {
        len++;
    }
    // Whole lines only.
    while (len > 0 && quoted.data[len - 1] != '\n') {
        len--;
    }
    put_boundary(o, out, "");
    ph_buf_printf(out, "Content-Type: %s\r\n%s\r\n",
                  full ? (utf8 ? "message/global" : "message/rfc822")
                       : (utf8 ? "message/global-headers" : "text/rfc822-headers"),
                  o->envelope->has_8bit ? "Content-Transfer-Encoding: 8bit\r\n" : "");
    ph_buf_append(out, ph_str_first(quoted, len));
    ph_buf_deinit(&text);
}

void ph_dsn_build(const struct ph_dsn_options *options, struct ph_buf *out)
{
    bool utf8 = options->envelope->smtputf8;

    put_header(options, utf8, out);
    put_words(options, out);
    put_status(options, utf8, out);
    put_original(options, utf8, out);
    put_boundary(options, out, "--");
}
