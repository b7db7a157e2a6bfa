// The sending conversation: messages, command by command.
#include <string.h>

#include "smtp/client_parts.h"

#define PH_CLIENT_COMMAND_LINE_MAX 2048 // longer than any path and its parameters; ours
#define PH_CLIENT_NOT_IN_OUTPUT UINT64_MAX

static void begin_transaction(struct ph_client *client, struct ph_client_transaction *t);

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
    t->phase = PH_CLIENT_PHASE_QUEUED;
    t->failure = PH_CLIENT_FAILURE_NONE;
    t->next_recipient = 0;
    t->accepted_count = 0;
    t->begin_offset = PH_CLIENT_NOT_IN_OUTPUT;
    t->end_offset = PH_CLIENT_NOT_IN_OUTPUT;
    STAILQ_INSERT_TAIL(&client->transactions, t, link);
    client->outstanding++;
    ph_client_begin_queued(client);
}

// The next transaction that waits begins when the one before it is far enough.
void ph_client_begin_queued(struct ph_client *client)
{
    struct ph_client_transaction *before = NULL;
    struct ph_client_transaction *t;

    STAILQ_FOREACH(t, &client->transactions, link)
    {
        bool may = before == NULL ||
                   (client->ehlo.pipelining && before->phase == PH_CLIENT_PHASE_LAST_REPLY);

        if (t->phase == PH_CLIENT_PHASE_QUEUED && may) {
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

void ph_client_say_mail(struct ph_client *client, struct ph_client_transaction *t)
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
    ph_client_expect(client, PH_CLIENT_EXPECT_MAIL, t, 0);
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

void ph_client_say_rcpt(struct ph_client *client, struct ph_client_transaction *t, uint32_t which)
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
    ph_client_expect(client, PH_CLIENT_EXPECT_RCPT, t, which);
}

void ph_client_say_bdat(struct ph_client *client, struct ph_client_transaction *t)
{
    struct command command;

    command.len = 0;
    put(&command, PH_STR("BDAT "));
    put_number(&command, t->body_len);
    put(&command, PH_STR(" LAST"));
    end_command(client, &command);
    ph_client_output_body(&client->output, t);
    t->end_offset = client->output.end_offset;
    t->phase = PH_CLIENT_PHASE_LAST_REPLY;
    ph_client_expect(client, PH_CLIENT_EXPECT_BDAT, t, 0);
}

void ph_client_say_data(struct ph_client *client, struct ph_client_transaction *t)
{
    ph_client_output_text(&client->output, PH_STR("DATA\r\n"));
    ph_client_expect(client, PH_CLIENT_EXPECT_DATA, t, 0);
}

static void begin_transaction(struct ph_client *client, struct ph_client_transaction *t)
{
    t->begin_offset = client->output.end_offset;
    t->phase = PH_CLIENT_PHASE_COMMANDS;
    if (client->need_reset) {
        client->need_reset = false;
        ph_client_output_text(&client->output, PH_STR("RSET\r\n"));
        ph_client_expect(client, PH_CLIENT_EXPECT_RSET, t, 0);
        if (!client->ehlo.pipelining) {
            return; // MAIL follows its reply
        }
    }
    ph_client_say_mail(client, t);
    if (client->ehlo.pipelining) {
        for (uint32_t i = 0; i < t->recipient_count; i++) {
            ph_client_say_rcpt(client, t, i);
        }
        t->next_recipient = t->recipient_count;
        if (client->ehlo.chunking) {
            ph_client_say_bdat(client, t);
        } else {
            ph_client_say_data(client, t);
        }
    }
}
