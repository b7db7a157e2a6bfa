// Covers: smtp/server_envelope
#include <criterion/criterion.h>

#include "tests/smtp/conversation.h"

#define ENVELOPE "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"

Test(server, messages)
{
    struct ph_server_options options = conversation_options();

    conversation_expect(&options, "EHLO x\r\n" ENVELOPE "DATA\r\nhi\r\n.\r\nQUIT\r\n",
                        "[a@b.test>1:17]220 250 250 250 354 250 221 ");
    conversation_expect(&options, "EHLO x\r\n" ENVELOPE "BDAT 4 LAST\r\nhi\r\nNOOP\r\n",
                        "[a@b.test>1:17]220 250 250 250 250 250 ");
    conversation_expect(&options, "EHLO x\r\n" ENVELOPE "BDAT 2\r\nhiBDAT 0 LAST\r\n",
                        "[a@b.test>1:17]220 250 250 250 250 250 ");
    conversation_expect(&options,
                        "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n..\r\n.\r\n",
                        "[>1:16]220 250 250 250 354 250 ");
}

Test(server, what_is_refused)
{
    struct ph_server_options options = conversation_options();

    conversation_expect(&options, "MAIL FROM:<a@b.test>\r\n", "220 503 ");
    conversation_expect(&options,
                        "EHLO x\r\nRCPT TO:<c@d.test>\r\nDATA\r\nBDAT 3 LAST\r\nabcNOOP\r\n",
                        "220 250 503 503 503 250 ");
    conversation_expect(&options, "EHLO x\r\n" ENVELOPE "MAIL FROM:<x@y.test>\r\n",
                        "220 250 250 250 503 ");
    conversation_expect(&options, "EHLO x\r\nMAIL FROM:<a@b.test> SIZE=100001\r\n", "220 250 552 ");
    conversation_expect(&options, "EHLO x\r\nMAIL FROM:<a@b.test> FOO=1\r\n", "220 250 555 ");
    conversation_expect(&options, "EHLO x\r\nMAIL FROM:<a@b.test> ENVID=a=b\r\n", "220 250 501 ");
    conversation_expect(&options, "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<postmaster>\r\n",
                        "220 250 250 501 ");
    conversation_expect(&options, "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@[127.0.0.1]>\r\n",
                        "220 250 250 550 ");
    conversation_expect(&options, "EHLO x\r\n" ENVELOPE "DATA\r\na\nb\r\n.\r\nNOOP\r\n",
                        "220 250 250 250 354 550 250 ");
    conversation_expect(&options,
                        "EHLO x\r\n" ENVELOPE
                        "DATA\r\nReceived: 1\r\nReceived: 2\r\nReceived: 3\r\nReceived: "
                        "4\r\nReceived: 5\r\n\r\n.\r\n",
                        "220 250 250 250 354 554 ");
    conversation_expect(
        &options,
        "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@d.test>\r\nRCPT TO:<b@d.test>\r\n"
        "RCPT TO:<c@d.test>\r\nRCPT TO:<e@d.test>\r\n",
        "220 250 250 250 250 250 452 ");
    conversation_expect(&options, "EHLO x\r\n" ENVELOPE "BDAT x LAST\r\n", "220 250 250 250 421 ");
    options.may_relay = false;
    conversation_expect(&options, "EHLO x\r\n" ENVELOPE, "220 250 250 550 ");
    options.require_tls = true;
    conversation_expect(&options, "EHLO x\r\n" ENVELOPE, "220 250 530 503 ");
    options.protocol_errors_max = 2;
    conversation_expect(&options, "FOO\r\nBAR\r\nNOOP\r\n", "220 500 500 421 ");
}

Test(server, starttls_and_auth)
{
    struct ph_server_options options = conversation_options();

    options.may_relay = false;
    // Over TLS the greeting is forgotten; AUTH PLAIN and LOGIN; a wrong password.
    conversation_expect(&options, "EHLO x\r\nAUTH PLAIN AHUAcA==\r\n", "220 250 538 ");
    for (size_t step = 1; step <= 1; step++) {
        struct ph_buf out = {0};

        // Byte by byte, since what stands behind STARTTLS in one piece is an attack.
        conversation_run(
            &options,
            PH_STR("EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@b.test>\r\nEHLO y\r\nAUTH PLAIN AHUAeA==\r\n"
                   "AUTH LOGIN\r\ndQ==\r\ncA==\r\n" ENVELOPE),
            step, &out);
        cr_expect_str_eq(ph_buf_cstr(&out), "220 250 220 503 250 535 334 334 235 250 250 ", "%s",
                         ph_buf_cstr(&out));
        ph_buf_deinit(&out);
    }
    {
        struct ph_buf out = {0};

        conversation_run(&options, PH_STR("EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@b.test>\r\n"), 0,
                         &out);
        cr_expect_str_eq(ph_buf_cstr(&out), "220 250 421 ", "%s", ph_buf_cstr(&out));
        ph_buf_deinit(&out);
    }
}

Test(server, long_messages_are_handed_over)
{
    struct ph_server_options options = conversation_options();
    struct ph_server *server;
    struct ph_str input;
    struct ph_buf in = {0};
    unsigned chunks = 0;
    uint64_t taken = 0;
    enum ph_server_event event;

    options.message_size_max = 1 << 20;
    server = ph_server_create(&options);
    ph_buf_append(&in, PH_STR("EHLO x\r\n" ENVELOPE "DATA\r\n"));
    for (unsigned i = 0; i < 5000; i++) {
        ph_buf_append(&in,
                      PH_STR("0123456789012345678901234567890123456789012345678901234567890\r\n"));
    }
    ph_buf_append(&in, PH_STR(".\r\n"));
    input = ph_buf_str(&in);
    while ((event = ph_server_feed(server, &input)) != PH_SERVER_EVENT_MESSAGE) {
        cr_assert_eq(event, PH_SERVER_EVENT_CHUNK);
        chunks++;
        taken += ph_server_content(server)->len;
        ph_buf_clear(ph_server_content(server));
        ph_server_chunk_stored(server);
    }
    taken += ph_server_content(server)->len;
    cr_expect_eq(chunks, 5000 * 63 / PH_SERVER_CHUNK_BYTES);
    cr_expect_eq(taken, ph_server_content_size(server));
    cr_expect_eq(taken, 13 + 5000 * 63);
    ph_buf_deinit(&in);
    ph_server_destroy(server);
}

// Each refusal is held by itself, in a pipelined batch too; who is authenticated doesn't wait.
Test(server, strangers_are_tarpitted)
{
    static const struct {
        const char *said; // behind STARTTLS
        const char *wanted;
    } under_tls[] = {
        {"AUTH PLAIN AHUAcA==\r\nFOO\r\nNOOP\r\n", "220 250 220 250 235 500 250 "},
        {"AUTH PLAIN AHUAcQ==\r\nNOOP\r\n", "~220 250 220 250 535 250 "},
    };
    struct ph_server_options options = conversation_options();

    options.tarpits = true;
    conversation_expect(&options, "EHLO x\r\nFOO\r\n" ENVELOPE, "~220 250 500 250 250 ");
    conversation_expect(&options, "FOO\r\nBAR\r\nNOOP\r\n", "~~220 500 500 250 ");
    for (size_t i = 0; i < PH_ARRAY_LEN(under_tls); i++) {
        struct ph_buf in = {0};
        struct ph_buf out = {0};

        ph_buf_printf(&in, "EHLO x\r\nSTARTTLS\r\nEHLO x\r\n%s", under_tls[i].said);
        conversation_run(&options, ph_buf_str(&in), 1, &out);
        cr_expect_str_eq(ph_buf_cstr(&out), under_tls[i].wanted);
        ph_buf_deinit(&in);
        ph_buf_deinit(&out);
    }
    options.protocol_errors_max = 1;
    conversation_expect(&options, "FOO\r\nNOOP\r\n", "~220 500 421 ");
}

static void note_heard(void *owner, struct ph_str line)
{
    ph_buf_append(owner, line);
    ph_buf_append_char(owner, '|');
}

Test(server, what_is_heard_has_no_credentials)
{
    static const char *const said[] = {
        "EHLO x\r\nSTARTTLS\r\nEHLO x\r\nAUTH PLAIN AHUAcA==\r\nNOOP\r\n",
        "EHLO x\r\nSTARTTLS\r\nEHLO x\r\nauth plain\r\nAHUAcA==\r\nNOOP\r\n",
        "EHLO x\r\nSTARTTLS\r\nEHLO x\r\nAUTH LOGIN dQ==\r\ncA==\r\nNOOP\r\n",
        // refused, and what was to follow comes all the same
        "EHLO x\r\nAUTH PLAIN\r\nAHUAcA==\r\nNOOP\r\n",
        "EHLO x\r\nAUTH LOGIN\r\ndQ==\r\ncA==\r\nSTARTTLS\r\n", " auth\tPLAIN AHUAcA==\r\n"};
    static const char *const heard[] = {
        "EHLO x|STARTTLS|EHLO x|AUTH PLAIN|(credentials)|NOOP|",
        "EHLO x|STARTTLS|EHLO x|auth plain|(credentials)|NOOP|",
        "EHLO x|STARTTLS|EHLO x|AUTH LOGIN|(credentials)|(credentials)|NOOP|",
        "EHLO x|AUTH PLAIN|(credentials)|NOOP|",
        "EHLO x|AUTH LOGIN|(credentials)|(credentials)|STARTTLS|",
        " auth\tPLAIN|(credentials)|"};
    struct ph_server_options options = conversation_options();

    options.heard = note_heard;
    for (size_t i = 0; i < PH_ARRAY_LEN(said); i++) {
        struct ph_buf lines = {0};
        struct ph_buf unused = {0};

        options.owner = &lines;
        conversation_run(&options, ph_str_from(said[i]), 1, &unused);
        cr_expect_str_eq(ph_buf_cstr(&lines), heard[i]);
        ph_buf_deinit(&lines);
        ph_buf_deinit(&unused);
    }
}
