// Covers: smtp/client_output smtp/client_commands smtp/client_replies
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/smtp/sending.h"

#define CHUNKING "250-h\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n"
#define PIPELINING "250-h\r\n250 PIPELINING\r\n"
#define PLAIN "250 h\r\n"

struct script {
    const char *ehlo;
    const char *body;
    uint32_t recipients;
    unsigned messages;
    const char *replies;
    const char *sent;     // behind EHLO; NULL: isn't compared
    const char *outcomes; // a letter each: D R N B I
    bool ends;
};

static const char letters[] = {[PH_RECIPIENT_PENDING] = 'P', [PH_RECIPIENT_DELIVERED] = 'D',
                               [PH_RECIPIENT_REFUSED] = 'R', [PH_RECIPIENT_NOT_ATTEMPTED] = 'N',
                               [PH_RECIPIENT_BROKEN] = 'B',  [PH_RECIPIENT_IN_DOUBT] = 'I'};

// Bytes up to the end of the first reply: a peer answers what it was asked, not what it will be.
static size_t reply_len(struct ph_str text)
{
    struct ph_str rest = text;
    struct ph_str line;

    while (ph_str_cut_line(&rest, &line)) {
        if (line.len < 4 || line.data[3] != '-') {
            break;
        }
    }
    return text.len - rest.len;
}

// Runs a script, its replies fed `step` bytes at a time. `sheds`: all memory that can be is given
// back at each opportunity.
static void run(const struct script *script, size_t step, bool sheds, size_t row)
{
    struct ph_client *client = ph_client_create(
        &(struct ph_client_options){.session_id = SESSION, .hostname = PH_STR("me.test")});
    struct ph_buf sent = {0};
    struct ph_buf in = {0};
    struct ph_buf script_text = {0};
    struct message messages[3];
    char outcomes[16] = "";
    unsigned next = 0;
    size_t ehlo_end = 0;
    bool ended = false;
    struct ph_str rest;
    struct ph_client_transaction *done;

    ph_buf_printf(&script_text, "220 hi\r\n%s%s", script->ehlo, script->replies);
    rest = ph_buf_str(&script_text);
    for (unsigned i = 0; i < script->messages; i++) {
        make(&messages[i], script->body, script->recipients);
    }
    while (!ended && (rest.len > 0 || in.len > 0)) {
        struct ph_str piece = ph_str_first(ph_str_first(rest, reply_len(rest)), step);
        bool progress = piece.len > 0;
        enum ph_client_event event = PH_CLIENT_EVENT_READY;

        ph_buf_append(&in, piece);
        rest = ph_str_after(rest, piece.len);
        drain(client, &sent, UINT64_MAX);
        while (!ended && event != PH_CLIENT_EVENT_MORE) {
            struct ph_str input = ph_buf_str(&in);
            size_t before = input.len;

            drain(client, &sent, UINT64_MAX);
            if (sheds) {
                ph_client_shed(client);
            }
            event = ph_client_feed(client, &input);
            ph_buf_consume(&in, before - input.len);
            progress |= input.len < before;
            ended = event == PH_CLIENT_EVENT_ENDED;
            if (event == PH_CLIENT_EVENT_READY) {
                drain(client, &sent, UINT64_MAX);
                ehlo_end = sent.len;
            }
            while (!ended && event != PH_CLIENT_EVENT_MORE && next < script->messages &&
                   ph_client_outstanding(client) < ph_client_depth(client, 4)) {
                ph_client_send_envelope(client, cleared(PH_CLEARANCE_ENVELOPE),
                                        &messages[next++].transaction);
            }
        }
        if (!progress) {
            break;
        }
    }
    drain(client, &sent, UINT64_MAX);
    if (!ended) {
        struct ph_reason reason = ph_reason_make(PH_REASON_PEER_CLOSED, "the test is over");

        ph_client_abort(client, &reason);
    }
    while ((done = ph_client_take_done(client)) != NULL) {
        for (uint32_t i = 0; i < done->recipient_count; i++) {
            size_t len = strlen(outcomes);

            outcomes[len] = letters[done->recipients[i].outcome];
            outcomes[len + 1] = '\0';
        }
    }
    cr_expect_str_eq(outcomes, script->outcomes, "row %zu step %zu: %s", row, step, outcomes);
    cr_expect_eq(ended, script->ends, "row %zu step %zu", row, step);
    if (script->sent != NULL) {
        struct ph_str behind = ph_str_after(ph_buf_str(&sent), ehlo_end);

        cr_expect(ph_str_eq(behind, ph_str_from(script->sent)), "row %zu step %zu: %.*s", row, step,
                  PH_STR_ARG(behind));
    }
    ph_client_destroy(client);
    ph_buf_deinit(&sent);
    ph_buf_deinit(&in);
    ph_buf_deinit(&script_text);
}

Test(client, dialogues)
{
    static const struct script scripts[] = {
        // BDAT with pipelining: all in one go.
        {CHUNKING, "hi\r\n", 1, 1, "250 ok\r\n250 ok\r\n250 ok\r\n",
         "MAIL FROM:<a@b.test>\r\nRCPT TO:<x@d.test>\r\nBDAT 4 LAST\r\nhi\r\n", "D", false},
        // DATA with pipelining; dots are stuffed.
        {PIPELINING, "hi\r\n.x\r\n", 1, 1, "250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n",
         "MAIL FROM:<a@b.test>\r\nRCPT TO:<x@d.test>\r\nDATA\r\nhi\r\n..x\r\n.\r\n", "D", false},
        // Lockstep.
        {PLAIN, "hi\r\n", 2, 1, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n",
         "MAIL FROM:<a@b.test>\r\nRCPT TO:<x@d.test>\r\nRCPT TO:<y@d.test>\r\nDATA\r\nhi\r\n.\r\n",
         "DD", false},
        // One recipient refused, one accepted.
        {CHUNKING, "hi\r\n", 2, 1, "250 ok\r\n550 5.1.1 no\r\n250 ok\r\n250 ok\r\n", NULL, "RD",
         false},
        // All refused: the BDAT's answer is swallowed.
        {CHUNKING, "hi\r\n", 1, 1, "250 ok\r\n550 no\r\n503 no\r\n", NULL, "R", false},
        // All refused, and a peer that takes the message all the same: it lies.
        {CHUNKING, "hi\r\n", 1, 1, "250 ok\r\n550 no\r\n250 ok\r\n", NULL, "R", true},
        // DATA goes on with no recipient: an empty message for nobody.
        {PIPELINING, "hi\r\n", 1, 1, "250 ok\r\n550 no\r\n354 go\r\n554 no\r\n",
         "MAIL FROM:<a@b.test>\r\nRCPT TO:<x@d.test>\r\nDATA\r\n.\r\n", "R", false},
        // MAIL refused: all that follows of it is.
        {CHUNKING, "hi\r\n", 1, 1, "451 later\r\n503 no\r\n503 no\r\n", NULL, "R", false},
        // The next message behind a failed BDAT begins with RSET.
        {CHUNKING, "hi\r\n", 1, 2,
         "250 a\r\n250 a\r\n452 no\r\n250 rset\r\n250 b\r\n250 b\r\n250 b\r\n",
         "MAIL FROM:<a@b.test>\r\nRCPT TO:<x@d.test>\r\nBDAT 4 LAST\r\nhi\r\nRSET\r\n"
         "MAIL FROM:<a@b.test>\r\nRCPT TO:<x@d.test>\r\nBDAT 4 LAST\r\nhi\r\n",
         "RD", false},
        // Three messages: one first, then two at once.
        {CHUNKING, "hi\r\n", 1, 3,
         "250 a\r\n250 a\r\n250 a\r\n250 b\r\n250 b\r\n250 b\r\n250 c\r\n250 c\r\n250 c\r\n", NULL,
         "DDD", false},
        // 421 in the midst: nothing of what is under way has happened.
        {CHUNKING, "hi\r\n", 1, 2, "250 a\r\n250 a\r\n250 a\r\n421 bye\r\n", NULL, "DN", true},
        // The connection ends behind the body: in doubt.
        {CHUNKING, "hi\r\n", 1, 1, "250 a\r\n250 a\r\n", NULL, "I", false},
        // Before the body: certainly not delivered.
        {PIPELINING, "hi\r\n", 1, 1, "250 a\r\n250 a\r\n", NULL, "B", false},
        // BDAT unknown to one who announced it.
        {CHUNKING, "hi\r\n", 1, 1, "250 a\r\n250 a\r\n502 what\r\n", NULL, "I", true},
        // An answer to nothing.
        {CHUNKING, "hi\r\n", 1, 1, "250 a\r\n250 a\r\n250 a\r\n250 surplus\r\n", NULL, "D", true},
        // No SMTP at all.
        {CHUNKING, "hi\r\n", 1, 1, "HTTP/1.1 200 OK\r\n", NULL, "I", true},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(scripts); i++) {
        for (size_t step = 1; step < 40; step += 3) {
            run(&scripts[i], step, false, i);
            run(&scripts[i], step, true, i);
        }
    }
}

Test(client, starttls_injection)
{
    struct ph_client *client = ph_client_create(
        &(struct ph_client_options){.session_id = SESSION, .hostname = PH_STR("me.test")});
    struct ph_str in;
    struct ph_buf sent = {0};

    greet(client, &sent, PH_STR("250-h\r\n250 STARTTLS\r\n"));
    ph_client_starttls(client);
    drain(client, &sent, UINT64_MAX);
    in = PH_STR("220 go\r\n250 injected\r\n");
    cr_expect_eq(ph_client_feed(client, &in), PH_CLIENT_EVENT_ENDED);
    cr_expect_eq(ph_client_end_reason(client)->kind, PH_REASON_STARTTLS_INJECTION);
    ph_client_destroy(client);
    ph_buf_deinit(&sent);
}

Test(client, what_does_not_fit)
{
    struct message m;
    struct ph_client *client = ph_client_create(
        &(struct ph_client_options){.session_id = SESSION, .hostname = PH_STR("me.test")});
    struct ph_buf sent = {0};

    greet(client, &sent, PH_STR("250-h\r\n250 SIZE 3\r\n"));
    make(&m, "hi\r\n", 1);
    cr_expect_eq(ph_client_unfit(client, &m.transaction), PH_REASON_SIZE_EXCEEDED);
    make(&m, "h\r", 1);
    cr_expect_eq(ph_client_unfit(client, &m.transaction), PH_REASON_NONE);
    m.envelope.has_8bit = true;
    cr_expect_eq(ph_client_unfit(client, &m.transaction), PH_REASON_EIGHTBIT_UNSUPPORTED);
    m.envelope.smtputf8 = true;
    cr_expect_eq(ph_client_unfit(client, &m.transaction), PH_REASON_SMTPUTF8_UNSUPPORTED);
    ph_client_destroy(client);
    ph_buf_deinit(&sent);
}

static void keep_shown(void *owner, struct ph_str text)
{
    ph_buf_append(owner, text);
}

// Who watches sees the commands, and neither bodies nor credentials.
static enum ph_client_event feed(struct ph_client *client, const char *text)
{
    struct ph_str input = ph_str_from(text);
    enum ph_client_event event = PH_CLIENT_EVENT_MORE;

    while (input.len > 0) {
        event = ph_client_feed(client, &input);
    }
    return event;
}

Test(client, what_is_shown_to_who_watches)
{
    static const char *const offers[] = {"250-h\r\n250 AUTH PLAIN\r\n",
                                         "250-h\r\n250 AUTH LOGIN\r\n"};
    static const char *const steps[] = {"334 \r\n",     "334 \r\n",   "235 2.7.0 in\r\n",
                                        "250 ok\r\n",   "250 ok\r\n", "354 go\r\n",
                                        "250 taken\r\n"};

    for (size_t i = 0; i < PH_ARRAY_LEN(offers); i++) {
        struct ph_client *client = ph_client_create(
            &(struct ph_client_options){.session_id = SESSION, .hostname = PH_STR("out.test")});
        struct ph_buf shown = {0};
        struct ph_buf sent = {0};
        struct message m;

        ph_client_watch(client, keep_shown, &shown);
        (void)!feed(client, "220 mx\r\n");
        drain(client, &sent, UINT64_MAX);
        cr_assert_eq(feed(client, offers[i]), PH_CLIENT_EVENT_READY);
        cr_assert(ph_client_send_auth(client, cleared(PH_CLEARANCE_CREDENTIALS), PH_STR("user"),
                                      PH_STR("pass word")));
        for (size_t step = 0; step < PH_ARRAY_LEN(steps); step++) {
            if (i == 0 && step == 1) {
                continue; // PLAIN asks once
            }
            drain(client, &sent, UINT64_MAX);
            if (step == 3) {
                make(&m, "Subject: x\r\n\r\nthe body\r\n", 1);
                ph_client_send_envelope(client, cleared(PH_CLEARANCE_ENVELOPE), &m.transaction);
                drain(client, &sent, UINT64_MAX);
            }
            (void)!feed(client, steps[step]);
        }
        drain(client, &sent, UINT64_MAX);
        cr_expect(ph_str_find(ph_buf_str(&shown), PH_STR("EHLO out.test\r\n")) >= 0);
        cr_expect(ph_str_find(ph_buf_str(&shown), PH_STR("AUTH ")) >= 0);
        cr_expect(ph_str_find(ph_buf_str(&shown), PH_STR("MAIL FROM:<a@b.test>")) >= 0);
        cr_expect(ph_str_find(ph_buf_str(&sent), PH_STR("the body")) >= 0);
        cr_expect(ph_str_find(ph_buf_str(&shown), PH_STR("the body")) < 0);
        // base64 of "user" and "pass word", and of both with their zeroes.
        cr_expect(ph_str_find(ph_buf_str(&sent),
                              i == 0 ? PH_STR("AHVzZXIAcGFzcyB3b3Jk") : PH_STR("dXNlcg==")) >= 0);
        cr_expect(ph_str_find(ph_buf_str(&shown), PH_STR("AHVzZXI")) < 0);
        cr_expect(ph_str_find(ph_buf_str(&shown), PH_STR("dXNlcg")) < 0);
        cr_expect(ph_str_find(ph_buf_str(&shown), PH_STR("cGFzcyB3b3Jk")) < 0);
        cr_expect_not_null(ph_client_take_done(client));
        ph_client_destroy(client);
        ph_buf_deinit(&shown);
        ph_buf_deinit(&sent);
    }
}

// What is said of a message goes by what the peer offers, and by nothing else.
Test(client, parameters_as_the_peer_offers_them)
{
    static const struct {
        const char *ehlo;
        bool smtputf8;
        bool requiretls;
        bool eight_bit;
        enum ph_ret ret;
        uint8_t notify;
        const char *address;
        const char *mail; // NULL: unfit
        const char *rcpt;
    } rows[] = {
        {"250 h\r\n", true, false, true, PH_RET_FULL, PH_NOTIFY_NEVER, "x@d.test", NULL, NULL},
        {"250-h\r\n250 8BITMIME\r\n", false, false, true, PH_RET_FULL, PH_NOTIFY_NEVER, "x@d.test",
         "MAIL FROM:<a@b.test> BODY=8BITMIME\r\n", "RCPT TO:<x@d.test>\r\n"},
        {"250-h\r\n250 DSN\r\n", false, true, false, PH_RET_FULL, PH_NOTIFY_NEVER, "x@d.test",
         "MAIL FROM:<a@b.test> RET=FULL ENVID=e+2Bf\r\n",
         "RCPT TO:<x@d.test> NOTIFY=NEVER ORCPT=rfc822;o@d.test\r\n"},
        {"250-h\r\n250-SIZE\r\n250-REQUIRETLS\r\n250 DSN\r\n", false, true, false, PH_RET_HEADERS,
         PH_NOTIFY_SUCCESS | PH_NOTIFY_FAILURE | PH_NOTIFY_DELAY, "x@d.test",
         "MAIL FROM:<a@b.test> SIZE=4 REQUIRETLS RET=HDRS ENVID=e+2Bf\r\n",
         "RCPT TO:<x@d.test> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;o@d.test\r\n"},
        {"250-h\r\n250 SMTPUTF8\r\n", true, false, false, PH_RET_NONE, 0, "\xc3\xa4@\xc3\xb6.test",
         "MAIL FROM:<a@b.test> SMTPUTF8\r\n", "RCPT TO:<\xc3\xa4@\xc3\xb6.test>\r\n"},
        // Without SMTPUTF8 a domain goes as A-labels; a local part that isn't ASCII doesn't go.
        {"250 h\r\n", false, false, false, PH_RET_NONE, 0, "x@\xc3\xb6.test",
         "MAIL FROM:<a@b.test>\r\n", "RCPT TO:<x@xn--nda.test>\r\n"},
        {"250 h\r\n", true, false, false, PH_RET_NONE, 0, "\xc3\xa4@d.test", NULL, NULL},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_client *client = ph_client_create(
            &(struct ph_client_options){.session_id = SESSION, .hostname = PH_STR("me.test")});
        struct ph_buf sent = {0};
        struct message m;
        struct ph_reason reason = ph_reason_make(PH_REASON_PEER_CLOSED, "over");

        greet(client, &sent, ph_str_from(rows[i].ehlo));
        ph_buf_clear(&sent);
        make(&m, "hi\r\n", 1);
        m.envelope.smtputf8 = rows[i].smtputf8;
        m.envelope.requiretls = rows[i].requiretls;
        m.envelope.has_8bit = rows[i].eight_bit;
        m.envelope.ret = rows[i].ret;
        m.envelope.envid = PH_STR("e+2Bf");
        m.recipients[0].notify = rows[i].notify;
        m.recipients[0].address = ph_str_from(rows[i].address);
        m.recipients[0].domain = PH_STR("xn--nda.test");
        m.recipients[0].orcpt = PH_STR("rfc822;o@d.test");
        cr_expect_eq(ph_client_unfit(client, &m.transaction) == PH_REASON_NONE,
                     rows[i].mail != NULL, "row %zu", i);
        if (rows[i].mail != NULL) {
            ph_client_send_envelope(client, cleared(PH_CLEARANCE_ENVELOPE), &m.transaction);
            drain(client, &sent, UINT64_MAX);
            cr_expect_str_eq(ph_buf_cstr(&sent), rows[i].mail, "row %zu: %s", i,
                             ph_buf_cstr(&sent));
            ph_buf_clear(&sent);
            cr_expect_eq(feed(client, "250 ok\r\n"), PH_CLIENT_EVENT_MORE);
            drain(client, &sent, UINT64_MAX);
            cr_expect_str_eq(ph_buf_cstr(&sent), rows[i].rcpt, "row %zu: %s", i,
                             ph_buf_cstr(&sent));
        }
        ph_client_abort(client, &reason);
        while (ph_client_take_done(client) != NULL) {
        }
        ph_client_destroy(client);
        ph_buf_deinit(&sent);
    }
}
