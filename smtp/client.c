// The sending conversation: what begins it, what ends it, and what is asked of it.
#include "smtp/client.h"

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "smtp/client_parts.h"

#define PH_CLIENT_EXPECTED_FIRST 16 // power of two

// --- making, asking ---

struct ph_client_expected *ph_client_expected_at(struct ph_client *client, uint32_t index)
{
    return &client->expected[(client->expected_first + index) & (client->expected_cap - 1)];
}

void ph_client_expect(struct ph_client *client, enum ph_client_expected_kind kind,
                      struct ph_client_transaction *transaction, uint32_t recipient)
{
    if (client->expected_count == client->expected_cap) {
        uint32_t cap =
            client->expected_cap > 0 ? 2 * client->expected_cap : PH_CLIENT_EXPECTED_FIRST;
        struct ph_client_expected *grown = ph_alloc(cap * sizeof(*grown));

        for (uint32_t i = 0; i < client->expected_count; i++) {
            grown[i] = *ph_client_expected_at(client, i);
        }
        free(client->expected);
        client->expected = grown;
        client->expected_cap = cap;
        client->expected_first = 0;
    }
    client->expected_count++;
    *ph_client_expected_at(client, client->expected_count - 1) =
        (struct ph_client_expected){.kind = kind,
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
    STAILQ_INIT(&client->transactions);
    STAILQ_INIT(&client->done);
    ph_client_expect(client, PH_CLIENT_EXPECT_GREETING, NULL, 0);
    return client;
}

void ph_client_wipe_credentials(struct ph_client *client)
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
    ph_client_wipe_credentials(client);
    ph_buf_deinit(&client->credentials);
    ph_reply_deinit(&client->reply);
    ph_client_output_deinit(&client->output);
    free(client->expected);
    free(client->end_reason);
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
    static const struct ph_reason none;

    return client->end_reason != NULL ? client->end_reason : &none;
}

bool ph_client_bdat_unsafe(const struct ph_client *client)
{
    return client->bdat_unsafe;
}

uint64_t ph_client_reply_count(const struct ph_client *client)
{
    return client->reply_count;
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
        [PH_CLIENT_EXPECT_GREETING] = PH_CLIENT_WAIT_GREETING,
        [PH_CLIENT_EXPECT_EHLO] = PH_CLIENT_WAIT_EHLO,
        [PH_CLIENT_EXPECT_HELO] = PH_CLIENT_WAIT_EHLO,
        [PH_CLIENT_EXPECT_STARTTLS] = PH_CLIENT_WAIT_STARTTLS,
        [PH_CLIENT_EXPECT_AUTH_PLAIN] = PH_CLIENT_WAIT_AUTH,
        [PH_CLIENT_EXPECT_AUTH_USER] = PH_CLIENT_WAIT_AUTH,
        [PH_CLIENT_EXPECT_AUTH_PASSWORD] = PH_CLIENT_WAIT_AUTH,
        [PH_CLIENT_EXPECT_AUTH_RESULT] = PH_CLIENT_WAIT_AUTH,
        [PH_CLIENT_EXPECT_MAIL] = PH_CLIENT_WAIT_MAIL,
        [PH_CLIENT_EXPECT_RCPT] = PH_CLIENT_WAIT_RCPT,
        [PH_CLIENT_EXPECT_DATA] = PH_CLIENT_WAIT_DATA,
        [PH_CLIENT_EXPECT_BODY] = PH_CLIENT_WAIT_FINAL,
        [PH_CLIENT_EXPECT_BDAT] = PH_CLIENT_WAIT_FINAL,
        [PH_CLIENT_EXPECT_RSET] = PH_CLIENT_WAIT_MAIL,
        [PH_CLIENT_EXPECT_QUIT] = PH_CLIENT_WAIT_QUIT,
    };

    if (client->expected_count == 0) {
        return PH_CLIENT_WAIT_NONE;
    }
    return waits[client->expected[client->expected_first].kind];
}

// --- commands ---

void ph_client_say_ehlo(struct ph_client *client, bool helo)
{
    client->state = helo ? PH_CLIENT_HELO : PH_CLIENT_EHLO;
    ph_client_output_printf(&client->output, "%s %.*s\r\n", helo ? "HELO" : "EHLO",
                            PH_STR_ARG(client->hostname));
    ph_client_expect(client, helo ? PH_CLIENT_EXPECT_HELO : PH_CLIENT_EXPECT_EHLO, NULL, 0);
}

void ph_client_starttls(struct ph_client *client)
{
    PH_CHECK(client->state == PH_CLIENT_IDLE && client->ehlo.starttls);
    client->state = PH_CLIENT_STARTTLS;
    ph_client_output_text(&client->output, PH_STR("STARTTLS\r\n"));
    ph_client_expect(client, PH_CLIENT_EXPECT_STARTTLS, NULL, 0);
}

void ph_client_tls_established(struct ph_client *client)
{
    PH_CHECK(client->state == PH_CLIENT_TLS && client->expected_count == 0);
    // RFC 3207 §4.2: nothing that was learned in the clear counts.
    client->ehlo = (struct ph_ehlo){0};
    client->helo_allowed = false;
    ph_client_say_ehlo(client, false);
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
    ph_client_wipe_credentials(client);
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
        ph_client_expect(client, PH_CLIENT_EXPECT_AUTH_PLAIN, NULL, 0);
    } else if (client->ehlo.auth_login) {
        ph_base64_encode(user, &client->credentials);
        ph_buf_append_char(&client->credentials, ' ');
        ph_base64_encode(password, &client->credentials);
        ph_client_output_text(&client->output, PH_STR("AUTH LOGIN\r\n"));
        ph_client_expect(client, PH_CLIENT_EXPECT_AUTH_USER, NULL, 0);
    } else {
        return false;
    }
    client->state = PH_CLIENT_AUTH;
    return true;
}

void ph_client_shed(struct ph_client *client)
{
    if (client->outstanding > 0 || client->expected_count > 0 ||
        client->output.sent_offset < client->output.end_offset) {
        return;
    }
    ph_client_output_shed(&client->output);
    ph_buf_deinit(&client->reply.text);
    free(client->expected);
    client->expected = NULL;
    client->expected_cap = 0;
    client->expected_first = 0;
}

void ph_client_quit(struct ph_client *client)
{
    PH_CHECK(client->state == PH_CLIENT_IDLE || client->state == PH_CLIENT_TRANSACTIONS);
    PH_CHECK(client->outstanding == 0);
    client->state = PH_CLIENT_QUIT;
    ph_client_output_text(&client->output, PH_STR("QUIT\r\n"));
    ph_client_expect(client, PH_CLIENT_EXPECT_QUIT, NULL, 0);
}

// --- the end ---

static void settle_outcome(struct ph_client *client, struct ph_client_transaction *t)
{
    uint64_t sent = client->output.handed_offset;
    enum ph_recipient_outcome outcome = PH_RECIPIENT_BROKEN;

    if (t->end_offset <= sent &&
        (t->accepted_count > 0 || t->phase == PH_CLIENT_PHASE_LAST_REPLY)) {
        outcome = PH_RECIPIENT_IN_DOUBT;
    } else if (t->begin_offset >= sent) {
        outcome = PH_RECIPIENT_NOT_ATTEMPTED;
    }
    for (uint32_t i = 0; i < t->recipient_count; i++) {
        if (t->recipients[i].outcome == PH_RECIPIENT_PENDING) {
            t->recipients[i].outcome = outcome;
            t->recipients[i].kind = client->end_reason->kind;
        }
    }
}

enum ph_client_event ph_client_end(struct ph_client *client, const struct ph_reason *reason)
{
    struct ph_client_transaction *t;

    if (client->end_reason == NULL) {
        client->end_reason = ph_alloc(sizeof(*client->end_reason));
    }
    *client->end_reason = *reason;
    client->state = PH_CLIENT_ENDED;
    client->expected_count = 0;
    while ((t = STAILQ_FIRST(&client->transactions)) != NULL) {
        settle_outcome(client, t);
        ph_client_finish(client, t);
    }
    ph_client_output_drop(&client->output);
    ph_client_wipe_credentials(client);
    return PH_CLIENT_EVENT_ENDED;
}

void ph_client_abort(struct ph_client *client, const struct ph_reason *reason)
{
    if (client->state != PH_CLIENT_ENDED) {
        (void)ph_client_end(client, reason);
    }
}
