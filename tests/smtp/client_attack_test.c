// What hostile hosts have said to mail clients (docs/ATTACKS.md, NO STARTTLS), said to ours.
#include "tests/smtp/sending.h"

static struct ph_client *begin(void)
{
    return ph_client_create(
        &(struct ph_client_options){.session_id = SESSION, .hostname = PH_STR("me.test")});
}

static void end(struct ph_client *client)
{
    struct ph_reason reason = ph_reason_make(PH_REASON_PEER_CLOSED, "the test is over");

    ph_client_abort(client, &reason);
    while (ph_client_take_done(client) != NULL) {
    }
    ph_client_destroy(client);
}

static enum ph_client_event say(struct ph_client *client, const char *text)
{
    struct ph_str in = ph_str_from(text);

    return ph_client_feed(client, &in);
}

// N5: not any positive code will do.
Test(client_attack, greetings)
{
    static const struct {
        const char *reply;
        enum ph_reason_kind kind; // NONE: goes on
    } rows[] = {
        {"220 hi\r\n", PH_REASON_NONE},
        {"221 hi\r\n", PH_REASON_PEER_PROTOCOL},
        {"250 hi\r\n", PH_REASON_PEER_PROTOCOL},
        {"354 hi\r\n", PH_REASON_PEER_PROTOCOL},
        {"421 no\r\n", PH_REASON_GREETING_4XX},
        {"450 no\r\n", PH_REASON_GREETING_4XX},
        {"521 no\r\n", PH_REASON_GREETING_5XX}, // RFC 7504
        {"554 no\r\n", PH_REASON_GREETING_5XX},
        {"120 hi\r\n", PH_REASON_PEER_PROTOCOL},
        {"SSH-2.0-x\r\n", PH_REASON_PEER_PROTOCOL},
        {"\r\n", PH_REASON_PEER_PROTOCOL},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_client *client = begin();
        enum ph_client_event event = say(client, rows[i].reply);

        cr_expect_eq(event == PH_CLIENT_EVENT_ENDED, rows[i].kind != PH_REASON_NONE, "row %zu", i);
        if (event == PH_CLIENT_EVENT_ENDED) {
            cr_expect_eq(ph_client_end_reason(client)->kind, rows[i].kind, "row %zu", i);
        }
        end(client);
    }
}

Test(client_attack, answers_to_ehlo)
{
    static const struct {
        const char *reply;
        enum ph_client_event event;
    } rows[] = {
        {"250 h\r\n", PH_CLIENT_EVENT_READY}, {"220 h\r\n", PH_CLIENT_EVENT_ENDED},
        {"251 h\r\n", PH_CLIENT_EVENT_ENDED}, {"354 h\r\n", PH_CLIENT_EVENT_ENDED},
        {"334 h\r\n", PH_CLIENT_EVENT_ENDED}, {"421 h\r\n", PH_CLIENT_EVENT_ENDED},
        {"450 h\r\n", PH_CLIENT_EVENT_ENDED}, {"500 h\r\n", PH_CLIENT_EVENT_MORE}, // HELO
        {"502 h\r\n", PH_CLIENT_EVENT_MORE},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_client *client = begin();
        struct ph_buf sent = {0};

        (void)!say(client, "220 hi\r\n");
        drain(client, &sent, UINT64_MAX);
        cr_expect_eq(say(client, rows[i].reply), rows[i].event, "row %zu", i);
        end(client);
        ph_buf_deinit(&sent);
    }
}

// N3 and N1: what may follow STARTTLS.
Test(client_attack, answers_to_starttls)
{
    static const struct {
        const char *reply;
        enum ph_client_event event;
    } rows[] = {
        {"220 go\r\n", PH_CLIENT_EVENT_STARTTLS_READY},
        {"220-go\r\n220 go\r\n", PH_CLIENT_EVENT_STARTTLS_READY},
        {"220 go\r\n\x16", PH_CLIENT_EVENT_ENDED},
        {"220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n", PH_CLIENT_EVENT_ENDED},
        {"220 go\r\n220 go\r\n", PH_CLIENT_EVENT_ENDED},
        {"250 go\r\n", PH_CLIENT_EVENT_STARTTLS_REFUSED},
        {"354 go\r\n", PH_CLIENT_EVENT_STARTTLS_REFUSED},
        {"454 no\r\n", PH_CLIENT_EVENT_STARTTLS_REFUSED},
        {"500 no\r\n", PH_CLIENT_EVENT_STARTTLS_REFUSED},
        {"421 no\r\n", PH_CLIENT_EVENT_ENDED},
        {"220-go\r\n250 go\r\n", PH_CLIENT_EVENT_ENDED},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_client *client = begin();
        struct ph_buf sent = {0};

        greet(client, &sent, PH_STR("250-h\r\n250 STARTTLS\r\n"));
        ph_client_starttls(client);
        drain(client, &sent, UINT64_MAX);
        cr_expect_eq(say(client, rows[i].reply), rows[i].event, "row %zu", i);
        end(client);
        ph_buf_deinit(&sent);
    }
}

// N2: nothing that was said in the clear is known over TLS.
Test(client_attack, what_was_said_in_the_clear_is_forgotten)
{
    struct ph_client *client = begin();
    struct ph_buf sent = {0};
    struct message m;

    greet(
        client, &sent,
        PH_STR("250-h\r\n250-STARTTLS\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-AUTH PLAIN LOGIN\r\n"
               "250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-REQUIRETLS\r\n250 SIZE 3\r\n"));
    ph_client_starttls(client);
    drain(client, &sent, UINT64_MAX);
    cr_assert_eq(say(client, "220 go\r\n"), PH_CLIENT_EVENT_STARTTLS_READY);
    ph_client_tls_established(client);
    ph_buf_clear(&sent);
    drain(client, &sent, UINT64_MAX);
    cr_expect_str_eq(ph_buf_cstr(&sent), "EHLO me.test\r\n");
    cr_assert_eq(say(client, "250 h\r\n"), PH_CLIENT_EVENT_READY);
    {
        const struct ph_ehlo *ehlo = ph_client_ehlo(client);

        cr_expect(!ehlo->pipelining && !ehlo->chunking && !ehlo->auth_plain && !ehlo->auth_login &&
                  !ehlo->eightbitmime && !ehlo->smtputf8 && !ehlo->dsn && !ehlo->requiretls &&
                  !ehlo->size && !ehlo->starttls);
    }
    make(&m, "hello\r\n", 1);
    cr_expect_eq(ph_client_unfit(client, &m.transaction), PH_REASON_NONE); // SIZE 3 is forgotten
    ph_buf_clear(&sent);
    ph_client_send_envelope(client, cleared(PH_CLEARANCE_ENVELOPE), &m.transaction);
    drain(client, &sent, UINT64_MAX);
    cr_expect_str_eq(ph_buf_cstr(&sent), "MAIL FROM:<a@b.test>\r\n"); // without pipelining
    end(client);
    ph_buf_deinit(&sent);
}

// N6: over TLS nobody talks us into HELO.
Test(client_attack, no_helo_over_tls)
{
    struct ph_client *client = begin();
    struct ph_buf sent = {0};

    greet(client, &sent, PH_STR("250-h\r\n250 STARTTLS\r\n"));
    ph_client_starttls(client);
    drain(client, &sent, UINT64_MAX);
    cr_assert_eq(say(client, "220 go\r\n"), PH_CLIENT_EVENT_STARTTLS_READY);
    ph_client_tls_established(client);
    drain(client, &sent, UINT64_MAX);
    cr_expect_eq(say(client, "502 EHLO?\r\n"), PH_CLIENT_EVENT_ENDED);
    cr_expect_eq(ph_client_end_reason(client)->kind, PH_REASON_EHLO_REJECTED);
    end(client);
    ph_buf_deinit(&sent);
}

// N9: answers that came before their questions. Nothing of it is believed.
Test(client_attack, answers_ahead)
{
    static const char *const ahead[] = {
        "220 hi\r\n250 h\r\n",
        "220 hi\r\n250 h\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n",
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(ahead); i++) {
        struct ph_client *client = begin();

        cr_expect_eq(say(client, ahead[i]), PH_CLIENT_EVENT_ENDED);
        cr_expect_eq(ph_client_end_reason(client)->kind, PH_REASON_PEER_PROTOCOL);
        end(client);
    }
    // And in the midst of a message: after the first of three commands has gone.
    for (size_t sent_bytes = 1; sent_bytes < 40; sent_bytes++) {
        struct ph_client *client = begin();
        struct ph_buf sent = {0};
        struct message m;

        greet(client, &sent, PH_STR("250-h\r\n250-PIPELINING\r\n250 CHUNKING\r\n"));
        make(&m, "hello\r\n", 1);
        ph_client_send_envelope(client, cleared(PH_CLEARANCE_ENVELOPE), &m.transaction);
        drain(client, &sent, sent_bytes);
        cr_expect_eq(say(client, "250 ok\r\n250 ok\r\n250 ok\r\n"), PH_CLIENT_EVENT_ENDED);
        cr_expect_neq(m.answers[0].outcome, PH_RECIPIENT_DELIVERED, "after %zu bytes", sent_bytes);
        end(client);
        ph_buf_deinit(&sent);
    }
}

// OpenSMTPD CVE-2020-8794: the last line of a reply that isn't there, and text that would begin a
// line elsewhere.
Test(client_attack, replies_that_break_off)
{
    static const struct {
        const char *reply;
        enum ph_recipient_outcome outcome;
    } rows[] = {
        {"553-", PH_RECIPIENT_BROKEN},
        {"553-\r\n553", PH_RECIPIENT_BROKEN},
        {"553-no\r\n", PH_RECIPIENT_BROKEN},
        {"553\r\n", PH_RECIPIENT_REFUSED},
        {"553-\r\n553\r\n", PH_RECIPIENT_REFUSED},
        {"553 a\x0b\x1b[2Jb\r\n", PH_RECIPIENT_REFUSED},
        {"553-one\r\n553-two\r\n553 three\r\n", PH_RECIPIENT_REFUSED},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_client *client = begin();
        struct ph_buf sent = {0};
        struct message m;

        greet(client, &sent, PH_STR("250 h\r\n"));
        make(&m, "hello\r\n", 1);
        ph_client_send_envelope(client, cleared(PH_CLEARANCE_ENVELOPE), &m.transaction);
        drain(client, &sent, UINT64_MAX);
        cr_assert_eq(say(client, "250 ok\r\n"), PH_CLIENT_EVENT_MORE);
        drain(client, &sent, UINT64_MAX);
        (void)!say(client, rows[i].reply);
        end(client);
        cr_expect_eq(m.answers[0].outcome, rows[i].outcome, "row %zu: %u", i,
                     (unsigned)m.answers[0].outcome);
        for (const char *c = m.answers[0].text; *c != '\0'; c++) {
            cr_expect((unsigned char)*c >= 0x20 && *c != 0x7f, "row %zu", i);
        }
        ph_buf_deinit(&sent);
    }
}

// Smuggling's other half: whatever lines a message holds, one CRLF.CRLF goes out, at its end.
Test(client_attack, one_end_of_data)
{
    static const char *const bodies[] = {
        ".\r\n",     "..\r\n",      "a\r\n.\r\nQUIT\r\n", ".\r\n.\r\n.\r\n",
        "\r\n.\r\n", "a\r\n..\r\n", ".a\r\n.b\r\n",       "a.\r\n",
        "a\r\n\r\n", "...\r\n",
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(bodies); i++) {
        for (size_t step = 1; step < 9; step++) {
            struct ph_client *client = begin();
            struct ph_buf sent = {0};
            struct message m;
            struct ph_str wire;

            greet(client, &sent, PH_STR("250-h\r\n250 PIPELINING\r\n"));
            make(&m, bodies[i], 1);
            ph_client_send_envelope(client, cleared(PH_CLEARANCE_ENVELOPE), &m.transaction);
            drain(client, &sent, UINT64_MAX);
            (void)!say(client, "250 ok\r\n250 ok\r\n354 go\r\n");
            ph_buf_clear(&sent);
            ph_buf_append(&sent, PH_STR("\r\n")); // of DATA
            while (ph_client_has_output(client)) {
                drain(client, &sent, step);
            }
            wire = ph_buf_str(&sent);
            cr_expect_eq((size_t)ph_str_find(wire, PH_STR("\r\n.\r\n")), wire.len - 5, "%s",
                         bodies[i]);
            end(client);
            ph_buf_deinit(&sent);
        }
    }
}
