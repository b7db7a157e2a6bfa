// Covers: smtp/server_envelope
#include <criterion/criterion.h>
#include <stdio.h>

#include "smtp/server.h"

static void trace(void *owner, struct ph_server *server, struct ph_buf *out)
{
    (void)owner;
    (void)server;
    ph_buf_append(out, PH_STR("Received: x\r\n"));
}

static struct ph_server_options defaults(void)
{
    return (struct ph_server_options){.hostname = PH_STR("mx.test"),
                                      .connector = PH_STR("in"),
                                      .client_address = PH_STR("192.0.2.1"),
                                      .starttls_offered = true,
                                      .auth_offered = true,
                                      .may_relay = true,
                                      .message_size_max = 100000,
                                      .recipients_max = 3,
                                      .protocol_errors_max = 100,
                                      .hops_max = 5,
                                      .trace = trace};
}

// Feeds `in` in pieces of `step` bytes (0: whole), stores every message, and writes down the codes
// of the replies and what was stored.
static void converse(const struct ph_server_options *options, const char *in, size_t step,
                     struct ph_buf *out)
{
    struct ph_server *server = ph_server_create(options);
    struct ph_str rest = ph_str_from(in);
    struct ph_buf inbound = {0};
    bool ended = false;

    while (!ended && (rest.len > 0 || inbound.len > 0)) {
        struct ph_str piece = ph_str_first(rest, step > 0 ? step : rest.len);
        enum ph_server_event event = PH_SERVER_EVENT_DISCARD;
        bool last = rest.len == piece.len;

        ph_buf_append(&inbound, piece);
        rest = ph_str_after(rest, piece.len);
        while (!ended && event != PH_SERVER_EVENT_MORE) {
            struct ph_str input = ph_buf_str(&inbound);
            size_t before = input.len;

            event = ph_server_feed(server, &input);
            ph_buf_consume(&inbound, before - input.len);
            if (event == PH_SERVER_EVENT_MESSAGE) {
                const struct ph_envelope *e = ph_server_envelope(server);

                ph_buf_printf(out, "[%.*s>%u:%zu]", PH_STR_ARG(e->reverse_path), e->recipient_count,
                              ph_server_content(server)->len);
                ph_server_stored(server, PH_STR("1"));
            } else if (event == PH_SERVER_EVENT_CHUNK) {
                ph_buf_clear(ph_server_content(server));
                ph_server_chunk_stored(server);
            } else if (event == PH_SERVER_EVENT_STARTTLS) {
                ph_server_tls_established(server);
            } else if (event == PH_SERVER_EVENT_AUTH) {
                struct ph_str user;
                struct ph_str password;

                ph_server_credentials(server, &user, &password);
                ph_server_authenticated(server, ph_str_eq(user, PH_STR("u")) &&
                                                    ph_str_eq(password, PH_STR("p")));
            }
            ended = event == PH_SERVER_EVENT_ENDED;
        }
        if (last && !ended) {
            break;
        }
    }
    {
        struct ph_str replies = ph_buf_str(ph_server_output(server));
        struct ph_str line;

        while (ph_str_cut_line(&replies, &line)) {
            if (line.len < 4 || line.data[3] != '-') {
                ph_buf_printf(out, "%.3s ", line.data);
            }
        }
    }
    ph_buf_deinit(&inbound);
    ph_server_destroy(server);
}

static void expect(const struct ph_server_options *options, const char *in, const char *wanted)
{
    for (size_t step = 0; step <= 7; step++) {
        struct ph_buf out = {0};

        converse(options, in, step, &out);
        cr_expect_str_eq(ph_buf_cstr(&out), wanted, "step %zu of \"%s\": %s", step, in,
                         ph_buf_cstr(&out));
        ph_buf_deinit(&out);
    }
}

#define ENVELOPE "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"

Test(server, messages)
{
    struct ph_server_options options = defaults();

    expect(&options, "EHLO x\r\n" ENVELOPE "DATA\r\nhi\r\n.\r\nQUIT\r\n",
           "[a@b.test>1:17]220 250 250 250 354 250 221 ");
    expect(&options, "EHLO x\r\n" ENVELOPE "BDAT 4 LAST\r\nhi\r\nNOOP\r\n",
           "[a@b.test>1:17]220 250 250 250 250 250 ");
    expect(&options, "EHLO x\r\n" ENVELOPE "BDAT 2\r\nhiBDAT 0 LAST\r\n",
           "[a@b.test>1:17]220 250 250 250 250 250 ");
    expect(&options, "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n..\r\n.\r\n",
           "[>1:16]220 250 250 250 354 250 ");
}

Test(server, what_is_refused)
{
    struct ph_server_options options = defaults();

    expect(&options, "MAIL FROM:<a@b.test>\r\n", "220 503 ");
    expect(&options, "EHLO x\r\nRCPT TO:<c@d.test>\r\nDATA\r\nBDAT 3 LAST\r\nabcNOOP\r\n",
           "220 250 503 503 503 250 ");
    expect(&options, "EHLO x\r\n" ENVELOPE "MAIL FROM:<x@y.test>\r\n", "220 250 250 250 503 ");
    expect(&options, "EHLO x\r\nMAIL FROM:<a@b.test> SIZE=100001\r\n", "220 250 552 ");
    expect(&options, "EHLO x\r\nMAIL FROM:<a@b.test> FOO=1\r\n", "220 250 555 ");
    expect(&options, "EHLO x\r\nMAIL FROM:<a@b.test> ENVID=a=b\r\n", "220 250 501 ");
    expect(&options, "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<postmaster>\r\n",
           "220 250 250 501 ");
    expect(&options, "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@[127.0.0.1]>\r\n",
           "220 250 250 550 ");
    expect(&options, "EHLO x\r\n" ENVELOPE "DATA\r\na\nb\r\n.\r\nNOOP\r\n",
           "220 250 250 250 354 550 250 ");
    expect(&options,
           "EHLO x\r\n" ENVELOPE "DATA\r\nReceived: 1\r\nReceived: 2\r\nReceived: 3\r\nReceived: "
           "4\r\nReceived: 5\r\n\r\n.\r\n",
           "220 250 250 250 354 554 ");
    expect(&options,
           "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@d.test>\r\nRCPT TO:<b@d.test>\r\n"
           "RCPT TO:<c@d.test>\r\nRCPT TO:<e@d.test>\r\n",
           "220 250 250 250 250 250 452 ");
    expect(&options, "EHLO x\r\n" ENVELOPE "BDAT x LAST\r\n", "220 250 250 250 421 ");
    options.may_relay = false;
    expect(&options, "EHLO x\r\n" ENVELOPE, "220 250 250 550 ");
    options.require_tls = true;
    expect(&options, "EHLO x\r\n" ENVELOPE, "220 250 530 503 ");
    options.protocol_errors_max = 2;
    expect(&options, "FOO\r\nBAR\r\nNOOP\r\n", "220 500 500 421 ");
}

Test(server, starttls_and_auth)
{
    struct ph_server_options options = defaults();

    options.may_relay = false;
    // Over TLS the greeting is forgotten; AUTH PLAIN and LOGIN; a wrong password.
    expect(&options, "EHLO x\r\nAUTH PLAIN AHUAcA==\r\n", "220 250 538 ");
    for (size_t step = 1; step <= 1; step++) {
        struct ph_buf out = {0};

        // Byte by byte, since what stands behind STARTTLS in one piece is an attack.
        converse(&options,
                 "EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@b.test>\r\nEHLO y\r\nAUTH PLAIN AHUAeA==\r\n"
                 "AUTH LOGIN\r\ndQ==\r\ncA==\r\n" ENVELOPE,
                 step, &out);
        cr_expect_str_eq(ph_buf_cstr(&out), "220 250 220 503 250 535 334 334 235 250 250 ", "%s",
                         ph_buf_cstr(&out));
        ph_buf_deinit(&out);
    }
    {
        struct ph_buf out = {0};

        converse(&options, "EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@b.test>\r\n", 0, &out);
        cr_expect_str_eq(ph_buf_cstr(&out), "220 250 421 ", "%s", ph_buf_cstr(&out));
        ph_buf_deinit(&out);
    }
}

Test(server, long_messages_are_handed_over)
{
    struct ph_server_options options = defaults();
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
