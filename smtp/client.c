// The sending conversation.
#include "smtp/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "smtp/client_parts.h"

#define PH_CLIENT_EXPECTED_FIRST 16     // power of two
#define PH_CLIENT_AUTH_LINE_MAX 12288   // RFC 4954 §4
#define PH_CLIENT_COMMAND_LINE_MAX 2048 // longer than any path and its parameters; ours
#define PH_CLIENT_NOT_IN_OUTPUT UINT64_MAX

// A reply that is awaited. They come in the order in which their commands went.
enum expected_kind {
    EXPECT_GREETING,
    EXPECT_EHLO,
    EXPECT_HELO,
    EXPECT_STARTTLS,
    EXPECT_AUTH_PLAIN,
    EXPECT_AUTH_USER,
    EXPECT_AUTH_PASSWORD,
    EXPECT_AUTH_RESULT,
    EXPECT_MAIL,
    EXPECT_RCPT,
    EXPECT_DATA,
    EXPECT_BODY, // the reply to the dot
    EXPECT_BDAT,
    EXPECT_RSET,
    EXPECT_QUIT,
};

struct expected {
    enum expected_kind kind;
    uint32_t recipient;                        // of RCPT
    struct ph_client_transaction *transaction; // NULL: of none
    uint64_t end_offset;                       // of output: a reply before this went is a lie
};

enum transaction_phase {
    PHASE_QUEUED,     // its first command waits for another transaction
    PHASE_COMMANDS,   // MAIL, RCPT, DATA; or all of it with BDAT
    PHASE_LAST_REPLY, // the body is in the output
};

enum transaction_failure {
    FAILURE_NONE,
    FAILURE_MAIL,         // MAIL was refused: what follows of it is refused too
    FAILURE_NOT_ATTEMPTED // the peer had not got over an earlier failure
};

struct ph_client {
    uint64_t session_id;
    struct ph_str hostname;
    bool force_helo;
    bool helo_allowed; // never inside TLS
    enum ph_client_state state;
    struct ph_ehlo ehlo;
    struct ph_reply reply;
    bool reply_whole; // it was read to its end, and taken
    struct ph_reason end_reason;
    struct ph_client_output output;
    struct expected *expected; // ring
    uint32_t expected_cap;
    uint32_t expected_first;
    uint32_t expected_count;
    struct ph_client_transaction_list transactions; // outstanding, in order
    struct ph_client_transaction_list done;
    uint32_t outstanding;
    bool bdat_done;   // the peer has completed one in this session
    bool bdat_unsafe; // it mistreated one
    bool need_reset;  // RSET goes before the next MAIL
    bool shallow;     // a failure behind which MAIL was refused: one at a time from now on
    struct ph_buf credentials;
};

static void begin_queued(struct ph_client *client);
static void begin_transaction(struct ph_client *client, struct ph_client_transaction *t);
static enum ph_client_event take_reply(struct ph_client *client);
static enum ph_client_event end(struct ph_client *client, const struct ph_reason *reason);
static void finish(struct ph_client *client, struct ph_client_transaction *t);

// --- making, asking ---

static struct expected *expected_at(struct ph_client *client, uint32_t index)
{
    return &client->expected[(client->expected_first + index) & (client->expected_cap - 1)];
}

static void expect(struct ph_client *client, enum expected_kind kind,
                   struct ph_client_transaction *transaction, uint32_t recipient)
{
    if (client->expected_count == client->expected_cap) {
        struct expected *grown = ph_alloc(2 * client->expected_cap * sizeof(*grown));

        for (uint32_t i = 0; i < client->expected_count; i++) {
            grown[i] = *expected_at(client, i);
        }
        free(client->expected);
        client->expected = grown;
        client->expected_cap *= 2;
        client->expected_first = 0;
    }
    client->expected_count++;
    *expected_at(client, client->expected_count - 1) =
        (struct expected){.kind = kind,
                          .transaction = transaction,
                          .recipient = recipient,
                          .end_offset = client->output.end_offset};
}

struct ph_client *ph_client_create(const struct ph_client_options *options)
{
    struct ph_client *client = ph_alloc(sizeof(*client));

    PH_CHECK(options->session_id != 0);
    client->session_id = options->session_id;
    client->hostname = options->hostname;
    client->force_helo = options->force_helo;
    client->helo_allowed = true;
    client->state = PH_CLIENT_GREETING;
    ph_reply_init(&client->reply);
    ph_client_output_init(&client->output);
    client->expected_cap = PH_CLIENT_EXPECTED_FIRST;
    client->expected = ph_alloc(PH_CLIENT_EXPECTED_FIRST * sizeof(*client->expected));
    STAILQ_INIT(&client->transactions);
    STAILQ_INIT(&client->done);
    expect(client, EXPECT_GREETING, NULL, 0);
    return client;
}

static void wipe_credentials(struct ph_client *client)
{
    if (client->credentials.cap > 0) {
        explicit_bzero(client->credentials.data, client->credentials.cap);
    }
    ph_buf_clear(&client->credentials);
}

void ph_client_destroy(struct ph_client *client)
{
    if (client == NULL) {
        return;
    }
    PH_CHECK(STAILQ_EMPTY(&client->transactions) && STAILQ_EMPTY(&client->done));
    wipe_credentials(client);
    ph_buf_deinit(&client->credentials);
    ph_reply_deinit(&client->reply);
    ph_client_output_deinit(&client->output);
    free(client->expected);
    free(client);
}

enum ph_client_state ph_client_state(const struct ph_client *client)
{
    return client->state;
}

const struct ph_ehlo *ph_client_ehlo(const struct ph_client *client)
{
    return &client->ehlo;
}

const struct ph_reply *ph_client_last_reply(const struct ph_client *client)
{
    return &client->reply;
}

const struct ph_reason *ph_client_end_reason(const struct ph_client *client)
{
    return &client->end_reason;
}

bool ph_client_bdat_unsafe(const struct ph_client *client)
{
    return client->bdat_unsafe;
}

uint32_t ph_client_outstanding(const struct ph_client *client)
{
    return client->outstanding;
}

int ph_client_output(struct ph_client *client, struct iovec *out_slices, int max)
{
    return ph_client_output_slices(&client->output, out_slices, max);
}

void ph_client_sent(struct ph_client *client, uint64_t len)
{
    ph_client_output_sent(&client->output, len);
}

void ph_client_handed(struct ph_client *client, uint64_t len)
{
    client->output.handed_offset = client->output.sent_offset + len;
    PH_CHECK(client->output.handed_offset <= client->output.end_offset);
}

bool ph_client_has_output(const struct ph_client *client)
{
    return client->output.part_count > 0;
}

enum ph_client_wait ph_client_waits_for(const struct ph_client *client)
{
    static const enum ph_client_wait waits[] = {
        [EXPECT_GREETING] = PH_CLIENT_WAIT_GREETING,  [EXPECT_EHLO] = PH_CLIENT_WAIT_EHLO,
        [EXPECT_HELO] = PH_CLIENT_WAIT_EHLO,          [EXPECT_STARTTLS] = PH_CLIENT_WAIT_STARTTLS,
        [EXPECT_AUTH_PLAIN] = PH_CLIENT_WAIT_AUTH,    [EXPECT_AUTH_USER] = PH_CLIENT_WAIT_AUTH,
        [EXPECT_AUTH_PASSWORD] = PH_CLIENT_WAIT_AUTH, [EXPECT_AUTH_RESULT] = PH_CLIENT_WAIT_AUTH,
        [EXPECT_MAIL] = PH_CLIENT_WAIT_MAIL,          [EXPECT_RCPT] = PH_CLIENT_WAIT_RCPT,
        [EXPECT_DATA] = PH_CLIENT_WAIT_DATA,          [EXPECT_BODY] = PH_CLIENT_WAIT_FINAL,
        [EXPECT_BDAT] = PH_CLIENT_WAIT_FINAL,         [EXPECT_RSET] = PH_CLIENT_WAIT_MAIL,
        [EXPECT_QUIT] = PH_CLIENT_WAIT_QUIT,
    };

    if (client->expected_count == 0) {
        return PH_CLIENT_WAIT_NONE;
    }
    return waits[client->expected[client->expected_first].kind];
}

// --- commands ---

static void say_ehlo(struct ph_client *client, bool helo)
{
    client->state = helo ? PH_CLIENT_HELO : PH_CLIENT_EHLO;
    ph_client_output_printf(&client->output, "%s %.*s\r\n", helo ? "HELO" : "EHLO",
                            PH_STR_ARG(client->hostname));
    expect(client, helo ? EXPECT_HELO : EXPECT_EHLO, NULL, 0);
}

void ph_client_starttls(struct ph_client *client)
{
    PH_CHECK(client->state == PH_CLIENT_IDLE && client->ehlo.starttls);
    client->state = PH_CLIENT_STARTTLS;
    ph_client_output_text(&client->output, PH_STR("STARTTLS\r\n"));
    expect(client, EXPECT_STARTTLS, NULL, 0);
}

void ph_client_tls_established(struct ph_client *client)
{
    PH_CHECK(client->state == PH_CLIENT_TLS && client->expected_count == 0);
    // RFC 3207 §4.2: nothing that was learned in the clear counts.
    client->ehlo = (struct ph_ehlo){0};
    client->helo_allowed = false;
    say_ehlo(client, false);
}

void ph_client_watch(struct ph_client *client, void (*sent)(void *owner, struct ph_str text),
                     void *owner)
{
    client->output.watch = sent;
    client->output.watch_owner = owner;
}

bool ph_client_send_auth(struct ph_client *client, struct ph_clearance *take_clearance,
                         struct ph_str user, struct ph_str password)
{
    PH_CHECK(client->state == PH_CLIENT_IDLE);
    PH_CHECK(ph_clearance_spend(take_clearance, PH_CLEARANCE_CREDENTIALS, client->session_id));
    wipe_credentials(client);
    if (client->ehlo.auth_plain) {
        struct ph_buf plain = {0};

        ph_buf_append_char(&plain, '\0');
        ph_buf_append(&plain, user);
        ph_buf_append_char(&plain, '\0');
        ph_buf_append(&plain, password);
        ph_base64_encode(ph_buf_str(&plain), &client->credentials);
        explicit_bzero(plain.data, plain.cap);
        ph_buf_deinit(&plain);
        ph_client_output_text(&client->output, PH_STR("AUTH PLAIN\r\n"));
        expect(client, EXPECT_AUTH_PLAIN, NULL, 0);
    } else if (client->ehlo.auth_login) {
        ph_base64_encode(user, &client->credentials);
        ph_buf_append_char(&client->credentials, ' ');
        ph_base64_encode(password, &client->credentials);
        ph_client_output_text(&client->output, PH_STR("AUTH LOGIN\r\n"));
        expect(client, EXPECT_AUTH_USER, NULL, 0);
    } else {
        return false;
    }
    client->state = PH_CLIENT_AUTH;
    return true;
}

void ph_client_quit(struct ph_client *client)
{
    PH_CHECK(client->state == PH_CLIENT_IDLE || client->state == PH_CLIENT_TRANSACTIONS);
    PH_CHECK(client->outstanding == 0);
    client->state = PH_CLIENT_QUIT;
    ph_client_output_text(&client->output, PH_STR("QUIT\r\n"));
    expect(client, EXPECT_QUIT, NULL, 0);
}

// --- messages ---

static bool is_ascii(struct ph_str text)
{
    bool ascii = true;

    for (size_t i = 0; i < text.len; i++) {
        ascii &= (unsigned char)text.data[i] < 0x80;
    }
    return ascii;
}

static bool addresses_are_ascii(const struct ph_client_transaction *t)
{
    bool ascii = is_ascii(t->envelope->reverse_path);

    for (uint32_t i = 0; i < t->recipient_count; i++) {
        struct ph_str address = t->recipients[i].recipient->address;
        ptrdiff_t at = ph_str_rfind_char(address, '@');

        // A domain goes as A-labels where the peer lacks SMTPUTF8.
        ascii &= is_ascii(at >= 0 ? ph_str_first(address, (size_t)at) : address);
    }
    return ascii;
}

enum ph_reason_kind ph_client_unfit(const struct ph_client *client,
                                    const struct ph_client_transaction *t)
{
    const struct ph_ehlo *ehlo = &client->ehlo;
    enum ph_reason_kind kind = PH_REASON_NONE;

    if (ehlo->size && ehlo->size_max > 0 && t->body_len > ehlo->size_max) {
        kind = PH_REASON_SIZE_EXCEEDED;
    } else if (t->envelope->smtputf8 && !ehlo->smtputf8 &&
               (t->envelope->has_8bit || !addresses_are_ascii(t))) {
        kind = PH_REASON_SMTPUTF8_UNSUPPORTED;
    } else if (t->envelope->has_8bit && !ehlo->eightbitmime) {
        kind = PH_REASON_EIGHTBIT_UNSUPPORTED;
    }
    return kind;
}

uint32_t ph_client_depth(const struct ph_client *client, uint32_t configured)
{
    uint32_t depth = configured;

    if (!client->ehlo.pipelining || client->bdat_unsafe || client->shallow ||
        (client->ehlo.chunking && !client->bdat_done)) {
        depth = 1;
    } else if (!client->ehlo.chunking && depth > 2) {
        depth = 2; // the next MAIL goes behind the body's end, and no further
    }
    return depth > 0 ? depth : 1;
}

void ph_client_send_envelope(struct ph_client *client, struct ph_clearance *take_clearance,
                             struct ph_client_transaction *t)
{
    PH_CHECK(client->state == PH_CLIENT_IDLE || client->state == PH_CLIENT_TRANSACTIONS);
    PH_CHECK(ph_clearance_spend(take_clearance, PH_CLEARANCE_ENVELOPE, client->session_id));
    PH_CHECK(t->recipient_count > 0);
    client->state = PH_CLIENT_TRANSACTIONS;
    t->phase = PHASE_QUEUED;
    t->failure = FAILURE_NONE;
    t->next_recipient = 0;
    t->accepted_count = 0;
    t->begin_offset = PH_CLIENT_NOT_IN_OUTPUT;
    t->end_offset = PH_CLIENT_NOT_IN_OUTPUT;
    STAILQ_INSERT_TAIL(&client->transactions, t, link);
    client->outstanding++;
    begin_queued(client);
}

// The next transaction that waits begins when the one before it is far enough.
static void begin_queued(struct ph_client *client)
{
    struct ph_client_transaction *before = NULL;
    struct ph_client_transaction *t;

    STAILQ_FOREACH(t, &client->transactions, link)
    {
        bool may = before == NULL || (client->ehlo.pipelining && before->phase == PHASE_LAST_REPLY);

        if (t->phase == PHASE_QUEUED && may) {
            begin_transaction(client, t);
        }
        before = t;
    }
}

// A command line as it grows; one that is cut is found by end_command.
struct command {
    size_t len;
    char text[PH_CLIENT_COMMAND_LINE_MAX];
};

static void put(struct command *command, struct ph_str text)
{
    command->len +=
        ph_str_copy(command->text + command->len, sizeof(command->text) - command->len, text);
}

static void put_number(struct command *command, uint64_t value)
{
    char digits[PH_STR_U64_DIGITS_MAX];

    put(command, ph_str_u64(value, digits));
}

static void end_command(struct ph_client *client, struct command *command)
{
    put(command, PH_STR("\r\n"));
    PH_CHECK(command->len + 1 < sizeof(command->text));
    ph_client_output_text(&client->output,
                          (struct ph_str){.data = command->text, .len = command->len});
}

static void say_mail(struct ph_client *client, struct ph_client_transaction *t)
{
    const struct ph_envelope *envelope = t->envelope;
    const struct ph_ehlo *ehlo = &client->ehlo;
    struct command command;

    command.len = 0;
    put(&command, PH_STR("MAIL FROM:<"));
    put(&command, envelope->reverse_path);
    put(&command, PH_STR(">"));
    if (ehlo->size) {
        put(&command, PH_STR(" SIZE="));
        put_number(&command, t->body_len);
    }
    if (ehlo->eightbitmime && (envelope->has_8bit || envelope->body_type == PH_BODY_8BITMIME)) {
        put(&command, PH_STR(" BODY=8BITMIME"));
    }
    if (ehlo->smtputf8 && envelope->smtputf8) {
        put(&command, PH_STR(" SMTPUTF8"));
    }
    if (ehlo->requiretls && envelope->requiretls) {
        put(&command, PH_STR(" REQUIRETLS"));
    }
    if (ehlo->dsn && envelope->ret != PH_RET_NONE) {
        put(&command, envelope->ret == PH_RET_FULL ? PH_STR(" RET=FULL") : PH_STR(" RET=HDRS"));
    }
    if (ehlo->dsn && envelope->envid.len > 0) {
        put(&command, PH_STR(" ENVID="));
        put(&command, envelope->envid);
    }
    end_command(client, &command);
    expect(client, EXPECT_MAIL, t, 0);
}

static void put_notify(struct command *command, uint8_t notify)
{
    static const struct {
        enum ph_notify bit;
        const char *name;
    } bits[] = {
        {PH_NOTIFY_SUCCESS, "SUCCESS"}, {PH_NOTIFY_FAILURE, "FAILURE"}, {PH_NOTIFY_DELAY, "DELAY"}};
    const char *separator = " NOTIFY=";

    if (notify & PH_NOTIFY_NEVER) {
        put(command, PH_STR(" NOTIFY=NEVER"));
        return;
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(bits); i++) {
        if (notify & bits[i].bit) {
            put(command, ph_str_from(separator));
            put(command, ph_str_from(bits[i].name));
            separator = ",";
        }
    }
}

static void say_rcpt(struct ph_client *client, struct ph_client_transaction *t, uint32_t which)
{
    const struct ph_envelope_recipient *recipient = t->recipients[which].recipient;
    struct ph_str address = recipient->address;
    ptrdiff_t at = client->ehlo.smtputf8 ? -1 : ph_str_rfind_char(address, '@');
    struct command command;

    command.len = 0;
    put(&command, PH_STR("RCPT TO:<"));
    if (at >= 0 && !is_ascii(address)) {
        put(&command, ph_str_first(address, (size_t)at + 1));
        put(&command, recipient->domain);
    } else {
        put(&command, address);
    }
    put(&command, PH_STR(">"));
    if (client->ehlo.dsn) {
        put_notify(&command, recipient->notify);
        if (recipient->orcpt.len > 0) {
            put(&command, PH_STR(" ORCPT="));
            put(&command, recipient->orcpt);
        }
    }
    end_command(client, &command);
    expect(client, EXPECT_RCPT, t, which);
}

static void say_bdat(struct ph_client *client, struct ph_client_transaction *t)
{
    struct command command;

    command.len = 0;
    put(&command, PH_STR("BDAT "));
    put_number(&command, t->body_len);
    put(&command, PH_STR(" LAST"));
    end_command(client, &command);
    ph_client_output_body(&client->output, t);
    t->end_offset = client->output.end_offset;
    t->phase = PHASE_LAST_REPLY;
    expect(client, EXPECT_BDAT, t, 0);
}

static void say_data(struct ph_client *client, struct ph_client_transaction *t)
{
    ph_client_output_text(&client->output, PH_STR("DATA\r\n"));
    expect(client, EXPECT_DATA, t, 0);
}

static void begin_transaction(struct ph_client *client, struct ph_client_transaction *t)
{
    t->begin_offset = client->output.end_offset;
    t->phase = PHASE_COMMANDS;
    if (client->need_reset) {
        client->need_reset = false;
        ph_client_output_text(&client->output, PH_STR("RSET\r\n"));
        expect(client, EXPECT_RSET, t, 0);
        if (!client->ehlo.pipelining) {
            return; // MAIL follows its reply
        }
    }
    say_mail(client, t);
    if (client->ehlo.pipelining) {
        for (uint32_t i = 0; i < t->recipient_count; i++) {
            say_rcpt(client, t, i);
        }
        t->next_recipient = t->recipient_count;
        if (client->ehlo.chunking) {
            say_bdat(client, t);
        } else {
            say_data(client, t);
        }
    }
}

// --- replies ---

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
            return end(client, &reason);
        case PH_REPLY_COMPLETE:
            client->reply_whole = true;
            break;
        }
        if (client->state == PH_CLIENT_STARTTLS && client->reply.code == 220 && input->len > 0) {
            reason = ph_reason_make(PH_REASON_STARTTLS_INJECTION,
                                    "%zu bytes in the clear stood behind the reply to STARTTLS: "
                                    "somebody may be injecting commands",
                                    input->len);
            return end(client, &reason);
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

static void finish(struct ph_client *client, struct ph_client_transaction *t)
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
    finish(client, t);
    begin_queued(client);
    return PH_CLIENT_EVENT_TRANSACTION_DONE;
}

static enum ph_client_event protocol_end(struct ph_client *client, const char *what)
{
    char text[PH_CLIENT_REPLY_TEXT_MAX];
    struct ph_reason reason;

    reply_text(client, text);
    reason = ph_reason_make(PH_REASON_PEER_PROTOCOL, "%s: %u %s", what, client->reply.code, text);
    client->bdat_unsafe = true;
    return end(client, &reason);
}

static enum ph_client_event take_mail(struct ph_client *client, struct ph_client_transaction *t)
{
    bool behind_failure = client->reply.code == 503 && client->need_reset;

    if (positive(client)) {
        if (!client->ehlo.pipelining) {
            say_rcpt(client, t, t->next_recipient++);
        }
        return PH_CLIENT_EVENT_MORE;
    }
    if (behind_failure) {
        // The peer had not got over the transaction before: this one never began.
        t->failure = FAILURE_NOT_ATTEMPTED;
        set_pending(client, t, PH_RECIPIENT_NOT_ATTEMPTED, PH_REASON_MAIL_REJECTED);
        client->shallow = true;
    } else {
        t->failure = FAILURE_MAIL;
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
    if (t->failure == FAILURE_NONE && positive(client)) {
        t->accepted_count++;
    } else if (t->failure == FAILURE_NONE) {
        set_answer(client, &t->recipients[which], PH_RECIPIENT_REFUSED, PH_REASON_RCPT_REJECTED);
    }
    if (client->ehlo.pipelining) {
        return PH_CLIENT_EVENT_MORE;
    }
    if (t->next_recipient < t->recipient_count) {
        say_rcpt(client, t, t->next_recipient++);
    } else if (t->accepted_count == 0) {
        client->need_reset = true;
        return transaction_over(client, t);
    } else if (client->ehlo.chunking) {
        say_bdat(client, t);
    } else {
        say_data(client, t);
    }
    return PH_CLIENT_EVENT_MORE;
}

static enum ph_client_event take_data(struct ph_client *client, struct ph_client_transaction *t)
{
    if (client->reply.code != 354) {
        set_pending(client, t, PH_RECIPIENT_REFUSED, PH_REASON_DATA_REJECTED);
        client->need_reset = t->failure == FAILURE_NONE;
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
    t->phase = PHASE_LAST_REPLY;
    expect(client, EXPECT_BODY, t, 0);
    begin_queued(client);
    return PH_CLIENT_EVENT_MORE;
}

static enum ph_client_event take_last(struct ph_client *client, struct ph_client_transaction *t,
                                      bool bdat)
{
    bool nobody = t->accepted_count == 0;

    if (bdat && (client->reply.code == 500 || client->reply.code == 502) &&
        t->failure == FAILURE_NONE && !nobody) {
        // It announced CHUNKING and doesn't know BDAT: it may run the body as commands.
        return protocol_end(client, "the host announced CHUNKING and refused BDAT");
    }
    if (nobody) {
        if (bdat && positive(client)) {
            return protocol_end(client, "the host accepted a message without recipients");
        }
        client->need_reset |= t->failure == FAILURE_NONE;
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
        say_ehlo(client, true);
        event = PH_CLIENT_EVENT_MORE;
    } else {
        reply_text(client, text);
        reason = ph_reason_make(PH_REASON_EHLO_REJECTED, "the host answered %s with %u %s",
                                helo ? "HELO" : "EHLO", client->reply.code, text);
        take_code(client, &reason);
        event = end(client, &reason);
    }
    return event;
}

static enum ph_client_event take_greeting(struct ph_client *client)
{
    char text[PH_CLIENT_REPLY_TEXT_MAX];
    struct ph_reason reason;

    if (client->reply.code == 220) {
        say_ehlo(client, client->force_helo);
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
    return end(client, &reason);
}

// The next step of AUTH (RFC 4954 §4): `line` answers a 334.
static enum ph_client_event go_on_with_auth(struct ph_client *client, struct ph_str line,
                                            enum expected_kind next)
{
    if (client->reply.code != 334) {
        client->state = PH_CLIENT_IDLE;
        wipe_credentials(client);
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
    expect(client, next, NULL, 0);
    return PH_CLIENT_EVENT_MORE;
}

static enum ph_client_event take_auth(struct ph_client *client, enum expected_kind kind)
{
    struct ph_str credentials = ph_buf_str(&client->credentials);
    ptrdiff_t space = ph_str_find_char(credentials, ' ');
    enum ph_client_event event;

    if (kind == EXPECT_AUTH_PLAIN) {
        event = go_on_with_auth(client, credentials, EXPECT_AUTH_RESULT);
    } else if (kind == EXPECT_AUTH_USER) {
        event =
            go_on_with_auth(client, ph_str_first(credentials, (size_t)space), EXPECT_AUTH_PASSWORD);
    } else if (kind == EXPECT_AUTH_PASSWORD) {
        event = go_on_with_auth(client, ph_str_after(credentials, (size_t)space + 1),
                                EXPECT_AUTH_RESULT);
    } else {
        client->state = PH_CLIENT_IDLE;
        wipe_credentials(client);
        event = client->reply.code == 235 ? PH_CLIENT_EVENT_AUTH_OK : PH_CLIENT_EVENT_AUTH_REFUSED;
    }
    return event;
}

static enum ph_client_event take_expected(struct ph_client *client, const struct expected *e)
{
    enum ph_client_event event = PH_CLIENT_EVENT_MORE;

    switch (e->kind) {
    case EXPECT_GREETING:
        event = take_greeting(client);
        break;
    case EXPECT_EHLO:
    case EXPECT_HELO:
        event = take_ehlo(client, e->kind == EXPECT_HELO);
        break;
    case EXPECT_STARTTLS:
        if (client->reply.code == 220) {
            client->state = PH_CLIENT_TLS;
            event = PH_CLIENT_EVENT_STARTTLS_READY;
        } else {
            client->state = PH_CLIENT_IDLE;
            event = PH_CLIENT_EVENT_STARTTLS_REFUSED;
        }
        break;
    case EXPECT_AUTH_PLAIN:
    case EXPECT_AUTH_USER:
    case EXPECT_AUTH_PASSWORD:
    case EXPECT_AUTH_RESULT:
        event = take_auth(client, e->kind);
        break;
    case EXPECT_MAIL:
        event = take_mail(client, e->transaction);
        break;
    case EXPECT_RCPT:
        event = take_rcpt(client, e->transaction, e->recipient);
        break;
    case EXPECT_DATA:
        event = take_data(client, e->transaction);
        break;
    case EXPECT_BODY:
    case EXPECT_BDAT:
        event = take_last(client, e->transaction, e->kind == EXPECT_BDAT);
        break;
    case EXPECT_RSET:
        if (!client->ehlo.pipelining) {
            say_mail(client, e->transaction);
        }
        break;
    case EXPECT_QUIT: {
        struct ph_reason none = {0};

        event = end(client, &none);
        break;
    }
    }
    return event;
}

// A reply to what wasn't sent whole. A refusal in the midst of a message is a refusal, but nothing
// can follow on this session; anything else is a lie.
static enum ph_client_event take_early(struct ph_client *client, const struct expected *e)
{
    struct ph_reason reason;

    if ((e->kind != EXPECT_BODY && e->kind != EXPECT_BDAT) || client->reply.code < 400) {
        return protocol_end(client, "the host answered before it was asked");
    }
    set_pending(client, e->transaction, PH_RECIPIENT_REFUSED, PH_REASON_DATA_REJECTED);
    reason = ph_reason_make(PH_REASON_PEER_CLOSED,
                            "the host refused a message (%u) before it was sent whole",
                            client->reply.code);
    return end(client, &reason);
}

static enum ph_client_event take_reply(struct ph_client *client)
{
    struct expected e;
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
        return end(client, &reason);
    }
    if (client->expected_count == 0) {
        return protocol_end(client, "the host answered what was not asked");
    }
    e = *expected_at(client, 0);
    if (client->output.handed_offset < e.end_offset) {
        return take_early(client, &e);
    }
    client->expected_first = (client->expected_first + 1) & (client->expected_cap - 1);
    client->expected_count--;
    return take_expected(client, &e);
}

// --- the end ---

static void settle_outcome(struct ph_client *client, struct ph_client_transaction *t)
{
    uint64_t sent = client->output.handed_offset;
    enum ph_recipient_outcome outcome = PH_RECIPIENT_BROKEN;

    if (t->end_offset <= sent && (t->accepted_count > 0 || t->phase == PHASE_LAST_REPLY)) {
        outcome = PH_RECIPIENT_IN_DOUBT;
    } else if (t->begin_offset >= sent) {
        outcome = PH_RECIPIENT_NOT_ATTEMPTED;
    }
    for (uint32_t i = 0; i < t->recipient_count; i++) {
        if (t->recipients[i].outcome == PH_RECIPIENT_PENDING) {
            t->recipients[i].outcome = outcome;
            t->recipients[i].kind = client->end_reason.kind;
        }
    }
}

static enum ph_client_event end(struct ph_client *client, const struct ph_reason *reason)
{
    struct ph_client_transaction *t;

    client->end_reason = *reason;
    client->state = PH_CLIENT_ENDED;
    client->expected_count = 0;
    while ((t = STAILQ_FIRST(&client->transactions)) != NULL) {
        settle_outcome(client, t);
        finish(client, t);
    }
    ph_client_output_drop(&client->output);
    wipe_credentials(client);
    return PH_CLIENT_EVENT_ENDED;
}

void ph_client_abort(struct ph_client *client, const struct ph_reason *reason)
{
    if (client->state != PH_CLIENT_ENDED) {
        (void)end(client, reason);
    }
}
