// The sending conversation: replies, each attributed to its command.
#include <string.h>

#include "smtp/client_parts.h"

#define PH_CLIENT_AUTH_LINE_MAX 12288 // RFC 4954 §4

static enum ph_client_event take_reply(struct ph_client *client);

enum ph_client_event ph_client_feed(struct ph_client *client, struct ph_str *input)
{
    enum ph_client_event event = PH_CLIENT_EVENT_MORE;

    while (event == PH_CLIENT_EVENT_MORE && client->state != PH_CLIENT_ENDED &&
           client->state != PH_CLIENT_TLS) {
        struct ph_reason reason;

        if (client->reply_whole) {
            ph_reply_reset(&client->reply); // kept until now for last_reply
            client->reply_whole = false;
        }
        switch (ph_reply_feed(&client->reply, input)) {
        case PH_REPLY_MORE:
            return PH_CLIENT_EVENT_MORE;
        case PH_REPLY_MALFORMED:
            reason = ph_reason_make(PH_REASON_PEER_PROTOCOL,
                                    "the host sent something that is no SMTP reply");
            return ph_client_end(client, &reason);
        case PH_REPLY_COMPLETE:
            client->reply_whole = true;
            client->reply_count++;
            break;
        }
        if (client->state == PH_CLIENT_STARTTLS && client->reply.code == 220 && input->len > 0) {
            reason = ph_reason_make(PH_REASON_STARTTLS_INJECTION,
                                    "%zu bytes in the clear stood behind the reply to STARTTLS: "
                                    "somebody may be injecting commands",
                                    input->len);
            return ph_client_end(client, &reason);
        }
        event = take_reply(client);
    }
    return event;
}

// The reply's lines in one, for people.
static void reply_text(const struct ph_client *client, char out[PH_CLIENT_REPLY_TEXT_MAX])
{
    struct ph_str text = ph_str_trim(ph_buf_str(&client->reply.text));
    size_t len = ph_str_copy(out, PH_CLIENT_REPLY_TEXT_MAX, text);

    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)out[i] < 0x20 || out[i] == 0x7f) {
            out[i] = ' ';
        }
    }
}

static bool positive(const struct ph_client *client)
{
    return client->reply.code >= 200 && client->reply.code < 300;
}

static void set_answer(struct ph_client *client, struct ph_client_recipient *recipient,
                       enum ph_recipient_outcome outcome, enum ph_reason_kind kind)
{
    recipient->outcome = outcome;
    recipient->kind = kind;
    recipient->code = client->reply.code;
    recipient->status = ph_reply_status(&client->reply, NULL);
    reply_text(client, recipient->text);
    // A reply that is neither 2xx nor 5xx where one of these is due waits.
    if (outcome == PH_RECIPIENT_REFUSED && recipient->code < 400) {
        recipient->code = 451;
    }
}

static void set_pending(struct ph_client *client, struct ph_client_transaction *t,
                        enum ph_recipient_outcome outcome, enum ph_reason_kind kind)
{
    for (uint32_t i = 0; i < t->recipient_count; i++) {
        if (t->recipients[i].outcome == PH_RECIPIENT_PENDING) {
            set_answer(client, &t->recipients[i], outcome, kind);
        }
    }
}

void ph_client_finish(struct ph_client *client, struct ph_client_transaction *t)
{
    PH_CHECK(STAILQ_FIRST(&client->transactions) == t);
    STAILQ_REMOVE_HEAD(&client->transactions, link);
    STAILQ_INSERT_TAIL(&client->done, t, link);
    client->outstanding--;
}

struct ph_client_transaction *ph_client_take_done(struct ph_client *client)
{
    struct ph_client_transaction *t = STAILQ_FIRST(&client->done);

    if (t != NULL) {
        STAILQ_REMOVE_HEAD(&client->done, link);
    }
    return t;
}

// The transaction had its last reply.
static enum ph_client_event transaction_over(struct ph_client *client,
                                             struct ph_client_transaction *t)
{
    ph_client_finish(client, t);
    ph_client_begin_queued(client);
    return PH_CLIENT_EVENT_TRANSACTION_DONE;
}

static enum ph_client_event protocol_end(struct ph_client *client, const char *what)
{
    char text[PH_CLIENT_REPLY_TEXT_MAX];
    struct ph_reason reason;

    reply_text(client, text);
    reason = ph_reason_make(PH_REASON_PEER_PROTOCOL, "%s: %u %s", what, client->reply.code, text);
    client->bdat_unsafe = true;
    return ph_client_end(client, &reason);
}

static enum ph_client_event take_mail(struct ph_client *client, struct ph_client_transaction *t)
{
    bool behind_failure = client->reply.code == 503 && client->need_reset;

    if (positive(client)) {
        if (!client->ehlo.pipelining) {
            ph_client_say_rcpt(client, t, t->next_recipient++);
        }
        return PH_CLIENT_EVENT_MORE;
    }
    if (behind_failure) {
        // The peer had not got over the transaction before: this one never began.
        t->failure = PH_CLIENT_FAILURE_NOT_ATTEMPTED;
        set_pending(client, t, PH_RECIPIENT_NOT_ATTEMPTED, PH_REASON_MAIL_REJECTED);
        client->shallow = true;
    } else {
        t->failure = PH_CLIENT_FAILURE_MAIL;
        set_pending(client, t, PH_RECIPIENT_REFUSED, PH_REASON_MAIL_REJECTED);
    }
    if (!client->ehlo.pipelining) {
        return transaction_over(client, t);
    }
    return PH_CLIENT_EVENT_MORE;
}

static enum ph_client_event take_rcpt(struct ph_client *client, struct ph_client_transaction *t,
                                      uint32_t which)
{
    if (t->failure == PH_CLIENT_FAILURE_NONE && positive(client)) {
        t->accepted_count++;
    } else if (t->failure == PH_CLIENT_FAILURE_NONE) {
        set_answer(client, &t->recipients[which], PH_RECIPIENT_REFUSED, PH_REASON_RCPT_REJECTED);
    }
    if (client->ehlo.pipelining) {
        return PH_CLIENT_EVENT_MORE;
    }
    if (t->next_recipient < t->recipient_count) {
        ph_client_say_rcpt(client, t, t->next_recipient++);
    } else if (t->accepted_count == 0) {
        client->need_reset = true;
        return transaction_over(client, t);
    } else if (client->ehlo.chunking) {
        ph_client_say_bdat(client, t);
    } else {
        ph_client_say_data(client, t);
    }
    return PH_CLIENT_EVENT_MORE;
}

static enum ph_client_event take_data(struct ph_client *client, struct ph_client_transaction *t)
{
    if (client->reply.code != 354) {
        set_pending(client, t, PH_RECIPIENT_REFUSED, PH_REASON_DATA_REJECTED);
        client->need_reset = t->failure == PH_CLIENT_FAILURE_NONE;
        return transaction_over(client, t);
    }
    // RFC 2920 §3.1: without a recipient the peer may still say 354; it gets an empty message, and
    // whatever it answers counts for nobody.
    if (t->accepted_count > 0) {
        ph_client_output_stuffed(&client->output, t);
    } else {
        ph_client_output_text(&client->output, PH_STR(".\r\n"));
    }
    t->end_offset = client->output.end_offset;
    t->phase = PH_CLIENT_PHASE_LAST_REPLY;
    ph_client_expect(client, PH_CLIENT_EXPECT_BODY, t, 0);
    ph_client_begin_queued(client);
    return PH_CLIENT_EVENT_MORE;
}

static enum ph_client_event take_last(struct ph_client *client, struct ph_client_transaction *t,
                                      bool bdat)
{
    bool nobody = t->accepted_count == 0;

    if (bdat && (client->reply.code == 500 || client->reply.code == 502) &&
        t->failure == PH_CLIENT_FAILURE_NONE && !nobody) {
        // It announced CHUNKING and doesn't know BDAT: it may run the body as commands.
        return protocol_end(client, "the host announced CHUNKING and refused BDAT");
    }
    if (nobody) {
        if (bdat && positive(client)) {
            return protocol_end(client, "the host accepted a message without recipients");
        }
        client->need_reset |= t->failure == PH_CLIENT_FAILURE_NONE;
        return transaction_over(client, t);
    }
    if (positive(client)) {
        set_pending(client, t, PH_RECIPIENT_DELIVERED, PH_REASON_NONE);
        client->bdat_done |= bdat;
    } else {
        set_pending(client, t, PH_RECIPIENT_REFUSED, PH_REASON_DATA_REJECTED);
        client->need_reset |= bdat; // RFC 3030 §2: a failed BDAT ends with RSET
    }
    return transaction_over(client, t);
}

// The host's own 4xx code tells more than ours; its 5xx to a session fails no message.
static void take_code(const struct ph_client *client, struct ph_reason *reason)
{
    struct ph_status status = ph_reply_status(&client->reply, NULL);

    if (client->reply.code >= 400 && client->reply.code < 500) {
        reason->code = client->reply.code;
        reason->status = status.class == 4 ? status : reason->status;
    }
}

static enum ph_client_event take_ehlo(struct ph_client *client, bool helo)
{
    char text[PH_CLIENT_REPLY_TEXT_MAX];
    struct ph_reason reason;
    enum ph_client_event event = PH_CLIENT_EVENT_READY;

    if (client->reply.code == 250) {
        client->ehlo = helo ? (struct ph_ehlo){0} : ph_ehlo_parse(&client->reply);
        client->state = PH_CLIENT_IDLE;
    } else if (!helo && client->reply.code >= 500 && client->helo_allowed) {
        ph_client_say_ehlo(client, true);
        event = PH_CLIENT_EVENT_MORE;
    } else {
        reply_text(client, text);
        reason = ph_reason_make(PH_REASON_EHLO_REJECTED, "the host answered %s with %u %s",
                                helo ? "HELO" : "EHLO", client->reply.code, text);
        take_code(client, &reason);
        event = ph_client_end(client, &reason);
    }
    return event;
}

static enum ph_client_event take_greeting(struct ph_client *client)
{
    char text[PH_CLIENT_REPLY_TEXT_MAX];
    struct ph_reason reason;

    if (client->reply.code == 220) {
        ph_client_say_ehlo(client, client->force_helo);
        return PH_CLIENT_EVENT_MORE;
    }
    reply_text(client, text);
    if (client->reply.code < 400) {
        reason = ph_reason_make(PH_REASON_PEER_PROTOCOL, "the host greeted with %u %s",
                                client->reply.code, text);
    } else {
        reason = ph_reason_make(client->reply.code < 500 ? PH_REASON_GREETING_4XX
                                                         : PH_REASON_GREETING_5XX,
                                "the host greeted with %u %s", client->reply.code, text);
    }
    return ph_client_end(client, &reason);
}

// The next step of AUTH (RFC 4954 §4): `line` answers a 334.
static enum ph_client_event go_on_with_auth(struct ph_client *client, struct ph_str line,
                                            enum ph_client_expected_kind next)
{
    if (client->reply.code != 334) {
        client->state = PH_CLIENT_IDLE;
        ph_client_wipe_credentials(client);
        return PH_CLIENT_EVENT_AUTH_REFUSED;
    }
    PH_CHECK(line.len <= PH_CLIENT_AUTH_LINE_MAX);
    client->output.secret = true;
    // In parts: a block of the output holds less than the longest credential.
    while (line.len > 0) {
        struct ph_str part = ph_str_first(line, 4096);

        ph_client_output_text(&client->output, part);
        line = ph_str_after(line, part.len);
    }
    ph_client_output_text(&client->output, PH_STR("\r\n"));
    client->output.secret = false;
    ph_client_expect(client, next, NULL, 0);
    return PH_CLIENT_EVENT_MORE;
}

static enum ph_client_event take_auth(struct ph_client *client, enum ph_client_expected_kind kind)
{
    struct ph_str credentials = ph_buf_str(&client->credentials);
    ptrdiff_t space = ph_str_find_char(credentials, ' ');
    enum ph_client_event event;

    if (kind == PH_CLIENT_EXPECT_AUTH_PLAIN) {
        event = go_on_with_auth(client, credentials, PH_CLIENT_EXPECT_AUTH_RESULT);
    } else if (kind == PH_CLIENT_EXPECT_AUTH_USER) {
        event = go_on_with_auth(client, ph_str_first(credentials, (size_t)space),
                                PH_CLIENT_EXPECT_AUTH_PASSWORD);
    } else if (kind == PH_CLIENT_EXPECT_AUTH_PASSWORD) {
        event = go_on_with_auth(client, ph_str_after(credentials, (size_t)space + 1),
                                PH_CLIENT_EXPECT_AUTH_RESULT);
    } else {
        client->state = PH_CLIENT_IDLE;
        ph_client_wipe_credentials(client);
        event = client->reply.code == 235 ? PH_CLIENT_EVENT_AUTH_OK : PH_CLIENT_EVENT_AUTH_REFUSED;
    }
    return event;
}

static enum ph_client_event take_expected(struct ph_client *client,
                                          const struct ph_client_expected *e)
{
    enum ph_client_event event = PH_CLIENT_EVENT_MORE;

    switch (e->kind) {
    case PH_CLIENT_EXPECT_GREETING:
        event = take_greeting(client);
        break;
    case PH_CLIENT_EXPECT_EHLO:
    case PH_CLIENT_EXPECT_HELO:
        event = take_ehlo(client, e->kind == PH_CLIENT_EXPECT_HELO);
        break;
    case PH_CLIENT_EXPECT_STARTTLS:
        if (client->reply.code == 220) {
            client->state = PH_CLIENT_TLS;
            event = PH_CLIENT_EVENT_STARTTLS_READY;
        } else {
            client->state = PH_CLIENT_IDLE;
            event = PH_CLIENT_EVENT_STARTTLS_REFUSED;
        }
        break;
    case PH_CLIENT_EXPECT_AUTH_PLAIN:
    case PH_CLIENT_EXPECT_AUTH_USER:
    case PH_CLIENT_EXPECT_AUTH_PASSWORD:
    case PH_CLIENT_EXPECT_AUTH_RESULT:
        event = take_auth(client, e->kind);
        break;
    case PH_CLIENT_EXPECT_MAIL:
        event = take_mail(client, e->transaction);
        break;
    case PH_CLIENT_EXPECT_RCPT:
        event = take_rcpt(client, e->transaction, e->recipient);
        break;
    case PH_CLIENT_EXPECT_DATA:
        event = take_data(client, e->transaction);
        break;
    case PH_CLIENT_EXPECT_BODY:
    case PH_CLIENT_EXPECT_BDAT:
        event = take_last(client, e->transaction, e->kind == PH_CLIENT_EXPECT_BDAT);
        break;
    case PH_CLIENT_EXPECT_RSET:
        if (!client->ehlo.pipelining) {
            ph_client_say_mail(client, e->transaction);
        }
        break;
    case PH_CLIENT_EXPECT_QUIT: {
        struct ph_reason none = {0};

        event = ph_client_end(client, &none);
        break;
    }
    }
    return event;
}

// A reply to what wasn't sent whole. A refusal in the midst of a message is a refusal, but nothing
// can follow on this session; anything else is a lie.
static enum ph_client_event take_early(struct ph_client *client, const struct ph_client_expected *e)
{
    struct ph_reason reason;

    if ((e->kind != PH_CLIENT_EXPECT_BODY && e->kind != PH_CLIENT_EXPECT_BDAT) ||
        client->reply.code < 400) {
        return protocol_end(client, "the host answered before it was asked");
    }
    set_pending(client, e->transaction, PH_RECIPIENT_REFUSED, PH_REASON_DATA_REJECTED);
    reason = ph_reason_make(PH_REASON_PEER_CLOSED,
                            "the host refused a message (%u) before it was sent whole",
                            client->reply.code);
    return ph_client_end(client, &reason);
}

static enum ph_client_event take_reply(struct ph_client *client)
{
    struct ph_client_expected e;
    char text[PH_CLIENT_REPLY_TEXT_MAX];
    struct ph_reason reason;

    if (client->reply.code == 421 || client->reply.code == 521) {
        bool greeting = client->state == PH_CLIENT_GREETING;

        reply_text(client, text);
        reason = ph_reason_make(!greeting                   ? PH_REASON_PEER_CLOSED
                                : client->reply.code == 421 ? PH_REASON_GREETING_4XX
                                                            : PH_REASON_GREETING_5XX,
                                "the host ended the session: %u %s", client->reply.code, text);
        take_code(client, &reason);
        // It says so itself: nothing that was under way has happened.
        for (struct ph_client_transaction *t = STAILQ_FIRST(&client->transactions); t != NULL;
             t = STAILQ_NEXT(t, link)) {
            set_pending(client, t, PH_RECIPIENT_NOT_ATTEMPTED, PH_REASON_PEER_CLOSED);
        }
        return ph_client_end(client, &reason);
    }
    if (client->expected_count == 0) {
        return protocol_end(client, "the host answered what was not asked");
    }
    e = *ph_client_expected_at(client, 0);
    if (client->output.handed_offset < e.end_offset) {
        return take_early(client, &e);
    }
    client->expected_first = (client->expected_first + 1) & (client->expected_cap - 1);
    client->expected_count--;
    return take_expected(client, &e);
}
