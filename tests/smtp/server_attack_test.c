// What attackers have said to mail servers (docs/ATTACKS.md), said to ours.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/smtp/conversation.h"

#define HELLO "EHLO x\r\n"
#define ENVELOPE HELLO "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"
#define SIMPLE "220 250 250 250 "

// Feeds all of `in`, in pieces of at most 16 KiB as an owner would, and keeps no more than what the
// server leaves. Returns the replies' codes in order of their first appearance with their number.
struct tally {
    unsigned count[600];
    unsigned messages;
    size_t waiting_max; // bytes that the server left for later, at most
};

static void count_replies(struct ph_server *server, struct tally *tally)
{
    struct ph_str replies = ph_buf_str(ph_server_output(server));
    struct ph_str line;

    while (ph_str_cut_line(&replies, &line)) {
        uint64_t code = 0;

        cr_assert(ph_str_to_u64(ph_str_first(line, 3), &code) && code < 600);
        if (line.len < 4 || line.data[3] != '-') {
            tally->count[code]++;
        }
    }
    ph_buf_clear(ph_server_output(server));
}

static enum ph_server_event feed(struct ph_server *server, struct ph_str in, struct tally *tally)
{
    enum ph_server_event event = PH_SERVER_EVENT_MORE;
    struct ph_buf inbound = {0};

    while (in.len > 0 && event != PH_SERVER_EVENT_ENDED) {
        struct ph_str piece = ph_str_first(in, 16384);

        in = ph_str_after(in, piece.len);
        ph_buf_append(&inbound, piece);
        do {
            struct ph_str input = ph_buf_str(&inbound);
            size_t before = input.len;

            event = ph_server_feed(server, &input);
            ph_buf_consume(&inbound, before - input.len);
            if (event == PH_SERVER_EVENT_MESSAGE) {
                tally->messages++;
                ph_server_stored(server, PH_STR("1"));
            } else if (event == PH_SERVER_EVENT_CHUNK) {
                ph_buf_clear(ph_server_content(server));
                ph_server_chunk_stored(server);
            }
        } while (event != PH_SERVER_EVENT_MORE && event != PH_SERVER_EVENT_ENDED);
        count_replies(server, tally);
        tally->waiting_max = inbound.len > tally->waiting_max ? inbound.len : tally->waiting_max;
    }
    ph_buf_deinit(&inbound);
    return event;
}

// --- commands ---

// KumoMTA's RCPT outside a transaction; each command where it was never expected.
Test(server_attack, every_command_in_every_state)
{
    static const struct {
        const char *name;
        const char *commands;
        const char *codes;
    } states[] = {
        {"connected", "", "220 "},
        {"HELO", "HELO x\r\n", "220 250 "},
        {"EHLO", HELLO, "220 250 "},
        {"MAIL", HELLO "MAIL FROM:<a@b.test>\r\n", "220 250 250 "},
        {"RCPT", ENVELOPE, SIMPLE},
        {"BDAT", ENVELOPE "BDAT 4\r\nab\r\n", SIMPLE "250 "},
        {"MAIL refused", HELLO "MAIL FROM:<>x\r\n", "220 250 501 "},
        {"RCPT refused", HELLO "MAIL FROM:<>\r\nRCPT TO:<>\r\n", "220 250 250 501 "},
        {"RSET", ENVELOPE "RSET\r\n", SIMPLE "250 "},
        {"sent", ENVELOPE "DATA\r\n.\r\n", "[a@b.test>1:13]" SIMPLE "354 250 "},
        {"AUTH cancelled", HELLO "AUTH PLAIN\r\n", "220 250 538 "},
        {"ended", "QUIT\r\n", "220 221 "},
    };
    static const char *const commands[] = {
        "EHLO y\r\n",         "HELO y\r\n",   "MAIL FROM:<m@b.test>\r\n", "RCPT TO:<r@d.test>\r\n",
        "DATA\r\n.\r\n",      "BDAT 0\r\n",   "BDAT 0 LAST\r\n",          "RSET\r\n",
        "NOOP\r\nVRFY x\r\n", "STARTTLS\r\n", "AUTH PLAIN AHUAcA==\r\n",  "QUIT\r\n",
    };
    // One row a state, one column a command. Where DATA is refused its dot is a command unknown.
    static const char *const wanted[PH_ARRAY_LEN(states)][PH_ARRAY_LEN(commands)] = {
        {"250", "250", "503", "503", "503 500", "503", "503", "250", "250 252", "220", "502",
         "221"},
        {"250", "250", "250", "503", "503 500", "503", "503", "250", "250 252", "220", "502",
         "221"},
        {"250", "250", "250", "503", "503 500", "503", "503", "250", "250 252", "220", "538",
         "221"},
        {"250", "250", "503", "250", "554 500", "503", "503", "250", "250 252", "220", "538",
         "221"},
        {"250", "250", "503", "250", "354 250", "250", "250", "250", "250 252", "220", "538",
         "221"},
        {"250", "250", "503", "503", "503 500", "250", "250", "250", "250 252", "220", "538",
         "221"},
        {"250", "250", "250", "503", "503 500", "503", "503", "250", "250 252", "220", "538",
         "221"},
        {"250", "250", "503", "250", "554 500", "503", "503", "250", "250 252", "220", "538",
         "221"},
        {"250", "250", "250", "503", "503 500", "503", "503", "250", "250 252", "220", "538",
         "221"},
        {"250", "250", "250", "503", "503 500", "503", "503", "250", "250 252", "220", "538",
         "221"},
        {"250", "250", "250", "503", "503 500", "503", "503", "250", "250 252", "220", "538",
         "221"},
        {"", "", "", "", "", "", "", "", "", "", "", ""},
    };
    struct ph_server_options options = conversation_options();

    for (size_t s = 0; s < PH_ARRAY_LEN(states); s++) {
        for (size_t c = 0; c < PH_ARRAY_LEN(commands); c++) {
            struct ph_buf in = {0};
            struct ph_buf out = {0};
            struct ph_str codes;

            ph_buf_printf(&in, "%s%s", states[s].commands, commands[c]);
            conversation_run(&options, ph_buf_str(&in), 0, &out);
            codes = ph_buf_str(&out);
            if (ph_str_starts(codes, PH_STR("[")) && states[s].codes[0] != '[') {
                codes = ph_str_after(codes, (size_t)ph_str_find_char(codes, ']') + 1);
            }
            cr_expect(ph_str_starts(codes, ph_str_from(states[s].codes)), "%s: %s", states[s].name,
                      ph_buf_cstr(&out));
            codes = ph_str_trim(ph_str_after(codes, strlen(states[s].codes)));
            cr_expect(ph_str_eq(codes, ph_str_from(wanted[s][c])), "%s, then %s: %.*s",
                      states[s].name, commands[c], PH_STR_ARG(codes));
            ph_buf_deinit(&in);
            ph_buf_deinit(&out);
        }
    }
}

// Exim CVE-2019-16928: as long a name as one likes, with and without an end.
Test(server_attack, long_lines)
{
    static const char *const verbs[] = {"EHLO ", "HELO ", "MAIL FROM:<", "NOOP ", ""};
    struct ph_server_options options = conversation_options();

    for (size_t v = 0; v < PH_ARRAY_LEN(verbs); v++) {
        for (size_t len = (size_t)64 << 10; len <= (size_t)1 << 20; len *= 16) {
            for (unsigned ended = 0; ended < 2; ended++) {
                struct ph_server *server = ph_server_create(&options);
                struct tally tally = {0};
                struct ph_buf in = {0};

                ph_buf_append(&in, ph_str_from(verbs[v]));
                for (size_t i = 0; i < len; i++) {
                    ph_buf_append_char(&in, 'x');
                }
                ph_buf_append(&in, ended ? PH_STR("\r\nNOOP\r\n") : PH_STR_NONE);
                cr_expect_eq(feed(server, ph_buf_str(&in), &tally), PH_SERVER_EVENT_MORE);
                cr_expect_eq(tally.count[500], ended, "%s", verbs[v]);
                cr_expect_eq(tally.count[250], ended, "%s", verbs[v]);
                cr_expect_leq(tally.waiting_max, PH_SERVER_LINE_BYTES_MAX);
                ph_server_destroy(server);
                ph_buf_deinit(&in);
            }
        }
    }
}

// Exim CVE-2020-28017: a counter of recipients that runs over.
Test(server_attack, recipients_without_end)
{
    struct ph_server_options options = conversation_options();
    struct ph_server *server;
    struct tally tally = {0};
    struct ph_buf in = {0};

    options.recipients_max = 1000;
    server = ph_server_create(&options);
    ph_buf_append(&in, PH_STR(HELLO "MAIL FROM:<a@b.test>\r\n"));
    for (unsigned i = 0; i < (1u << 16) + 1; i++) {
        ph_buf_printf(&in, "RCPT TO:<u%u@d.test>\r\n", i);
    }
    ph_buf_append(&in, PH_STR("DATA\r\n.\r\n"));
    (void)!feed(server, ph_buf_str(&in), &tally);
    cr_expect_eq(tally.count[250], 2 + 1000 + 1);
    cr_expect_eq(tally.count[452], (1u << 16) + 1 - 1000);
    cr_expect_eq(tally.messages, 1);
    ph_server_destroy(server);
    ph_buf_deinit(&in);
}

// Exim CVE-2020-28021, 28022, 28026: parameters that walk out of their buffer or bring a line of
// their own to the spool.
Test(server_attack, parameters)
{
    static const struct {
        const char *line;
        unsigned code;
    } rows[] = {
        {"MAIL FROM:<> =", 555},
        {"MAIL FROM:<> ==", 555},
        {"MAIL FROM:<> =x", 555},
        {"MAIL FROM:<>\"", 501},
        {"MAIL FROM:<>\\", 501},
        {"MAIL FROM:", 501},
        {"MAIL FROM:<", 501},
        {"MAIL FROM:<\"", 501},
        {"MAIL FROM:<\"\\", 501},
        {"MAIL FROM:<@", 501},
        {"MAIL FROM:<@a,", 501},
        {"MAIL FROM:<>                  ", 250},
        {"MAIL FROM:<> SIZE=", 501},
        {"MAIL FROM:<> SIZE=18446744073709551616", 501},
        {"MAIL FROM:<> SIZE=18446744073709551615", 552},
        {"MAIL FROM:<> SIZE=-1", 501},
        {"MAIL FROM:<> BODY=BINARYMIME", 501},
        {"MAIL FROM:<> BODY=", 501},
        {"MAIL FROM:<> RET=FULLER", 501},
        {"MAIL FROM:<> HOLDFOR=60", 555},
        {"MAIL FROM:<> BY=60;R", 555},
        {"MAIL FROM:<> RRVS=2014-04-03T23:01:00Z", 555},
        {"MAIL FROM:<> ENVID=a+20b", 250},
        {"MAIL FROM:<> ENVID=a+2Bb", 250},
        {"MAIL FROM:<> ENVID=a+0A", 501},
        {"MAIL FROM:<> ENVID=a+0D", 501},
        {"MAIL FROM:<> ENVID=a+00", 501},
        {"MAIL FROM:<> ENVID=a+7F", 501},
        {"MAIL FROM:<> ENVID=a+", 501},
        {"MAIL FROM:<> ENVID=a+2", 501},
        {"MAIL FROM:<> ENVID=a+2g", 501},
        {"MAIL FROM:<> ENVID=a+2b", 501}, // RFC 3461 §4: capital letters
        {"MAIL FROM:<> ENVID=", 501},
        {"MAIL FROM:<> AUTH=<>", 250},
        {"MAIL FROM:<> AUTH=a+3Db@c.test", 250},
        {"MAIL FROM:<> AUTH=a+0Ab", 501},
        {"MAIL FROM:<> AUTH=a+0D+0Ab", 501},
        {"MAIL FROM:<> AUTH=", 501},
        {"RCPT TO:<c@d.test> ORCPT=rfc822;c+40d.test", 250},
        {"RCPT TO:<c@d.test> ORCPT=rfc822;c+0A", 501},
        {"RCPT TO:<c@d.test> ORCPT=rfc822;c+0D", 501},
        {"RCPT TO:<c@d.test> ORCPT=rfc822;c+00", 501},
        {"RCPT TO:<c@d.test> ORCPT=rfc+0A822;c", 501},
        {"RCPT TO:<c@d.test> ORCPT=;c", 501},
        {"RCPT TO:<c@d.test> ORCPT=c", 501},
        {"RCPT TO:<c@d.test> NOTIFY=NEVER,FAILURE", 501},
        {"RCPT TO:<c@d.test> NOTIFY=", 501},
        {"RCPT TO:<c@d.test> =", 555},
        {"RCPT TO:<c@d.test> SIZE=1", 555},
        {"RCPT TO:", 501},
        {"RCPT TO:<>", 501},
    };
    struct ph_server_options options = conversation_options();

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        bool rcpt = rows[i].line[0] == 'R';
        struct ph_buf in = {0};
        struct ph_buf wanted = {0};

        ph_buf_printf(&in, HELLO "%s%s\r\n", rcpt ? "MAIL FROM:<>\r\n" : "", rows[i].line);
        ph_buf_printf(&wanted, "220 250 %s%u ", rcpt ? "250 " : "", rows[i].code);
        conversation_expect(&options, ph_buf_cstr(&in), ph_buf_cstr(&wanted));
        ph_buf_deinit(&in);
        ph_buf_deinit(&wanted);
    }
}

// Exim CVE-2019-10149 and 15846, OpenSMTPD CVE-2020-7247, hints in SQL: an address is bytes to us,
// taken or refused by its grammar, and what is taken comes out as it went in.
Test(server_attack, addresses_are_bytes)
{
    static const struct {
        const char *address;
        bool taken;
    } rows[] = {
        {"${run{/bin/sh}}@d.test", true},
        {"`id`@d.test", true},
        {"%s%n%s@d.test", true},
        {"|sh@d.test", true},
        {"'@d.test", true},
        {"\"$(id)\"@d.test", true},
        {"\"';--\"@d.test", true},
        {"\";id>/tmp/x\"@d.test", true},
        {"\"a\\\\\"@d.test", true},
        {"$(id)@d.test", false},
        {";id@d.test", false},
        {"a\\@d.test", false},
        {"\"a\\\"@d.test", false},
        {"a@d.test\\", false},
        {"a@d.te;st", false},
        {"a@d.te`st", false},
        {"a\xc3@d.test", false}, // UTF-8 that is cut off
        {"a@d.test\xe2\x82", false},
        {"a@\xf0\x9f\x92", false},
        {"a@-\xc0\x80.test", false},
    };
    struct ph_server_options options = conversation_options();

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_server *server = ph_server_create(&options);
        struct ph_buf in = {0};
        struct ph_str input;
        enum ph_server_event event;

        ph_buf_printf(&in, HELLO "MAIL FROM:<a@b.test> SMTPUTF8\r\nRCPT TO:<%s>\r\nDATA\r\n.\r\n",
                      rows[i].address);
        input = ph_buf_str(&in);
        event = ph_server_feed(server, &input);
        cr_expect_eq(event == PH_SERVER_EVENT_MESSAGE, rows[i].taken, "%s", rows[i].address);
        if (event == PH_SERVER_EVENT_MESSAGE) {
            cr_expect(ph_str_eq(ph_server_envelope(server)->recipients[0].address,
                                ph_str_from(rows[i].address)));
        }
        ph_server_destroy(server);
        ph_buf_deinit(&in);
    }
}

// --- relay ---

Test(server_attack, no_open_relay)
{
    static const char *const recipients[] = {
        "<u@d.test>",          "<u%d.test@mx.test>",     "<d.test!u@mx.test>",
        "<@mx.test:u@d.test>", "<\"u@d.test\"@mx.test>", "<u@[127.0.0.1]>",
        "<u@[192.0.2.1]>",     "<u@[IPv6:::1]>",         "<\"u@d.test\"@[192.0.2.9]>",
    };
    static const char *const hellos[] = {"EHLO mx.test\r\n", "EHLO [127.0.0.1]\r\n",
                                         "HELO localhost\r\n", "EHLO .\r\n"};
    struct ph_server_options options = conversation_options();

    options.may_relay = false;
    for (size_t i = 0; i < PH_ARRAY_LEN(recipients); i++) {
        for (size_t h = 0; h < PH_ARRAY_LEN(hellos); h++) {
            struct ph_buf in = {0};

            ph_buf_printf(&in, "%sMAIL FROM:<postmaster@mx.test>\r\nRCPT TO:%s\r\nDATA\r\n",
                          hellos[h], recipients[i]);
            conversation_expect(&options, ph_buf_cstr(&in), "220 250 250 550 554 ");
            ph_buf_deinit(&in);
        }
    }
    // Nobody is believed who says on whose behalf he speaks; a greeting must name somebody.
    conversation_expect(&options,
                        "PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\nXCLIENT ADDR=127.0.0.1\r\n"
                        "XFORWARD ADDR=127.0.0.1\r\nEHLO\r\nEHLO  \r\n",
                        "220 500 500 500 501 501 ");
    // For those who may, a source route is dropped, and the rest is the next hop's business.
    options.may_relay = true;
    conversation_expect(&options,
                        HELLO "MAIL FROM:<>\r\nRCPT TO:<@x.test:u@d.test>\r\n"
                              "RCPT TO:<u%e.test@d.test>\r\nRCPT TO:<u@[127.0.0.1]>\r\n",
                        "220 250 250 250 250 550 ");
}

// --- AUTH ---

static void authenticate(const char *lines, const char *wanted)
{
    struct ph_server_options options = conversation_options();
    struct ph_buf in = {0};
    struct ph_buf out = {0};

    ph_buf_printf(&in, HELLO "STARTTLS\r\n" HELLO "%s", lines);
    conversation_run(&options, ph_buf_str(&in), 1, &out);
    cr_expect(
        ph_str_eq(ph_str_after(ph_buf_str(&out), strlen("220 250 220 250 ")), ph_str_from(wanted)),
        "%s: %s", lines, ph_buf_cstr(&out));
    ph_buf_deinit(&in);
    ph_buf_deinit(&out);
}

// Exim CVE-2018-6789: base64 of every length, with every kind of padding.
Test(server_attack, auth_base64)
{
    authenticate("AUTH PLAIN AHUAcA==\r\n", "235 ");
    authenticate("AUTH PLAIN\r\nAHUAcA==\r\n", "334 235 ");
    authenticate("AUTH PLAIN A\r\nAUTH PLAIN AH\r\nAUTH PLAIN AHU\r\nAUTH PLAIN AHUA\r\n",
                 "501 501 501 501 ");
    authenticate("AUTH PLAIN AHUAcA=\r\nAUTH PLAIN AHUAcA\r\nAUTH PLAIN AHUAcA===\r\n"
                 "AUTH PLAIN =HUAcA==\r\nAUTH PLAIN AHUAcB==\r\nAUTH PLAIN AHUA!A==\r\n",
                 "501 501 501 501 501 501 ");
    authenticate("AUTH PLAIN ====\r\nAUTH PLAIN AAAA\r\nAUTH PLAIN AHUA\r\n", "501 501 501 ");
    authenticate("AUTH LOGIN =\r\nAUTH LOGIN\r\n=\r\nAUTH LOGIN\r\ndQ==\r\n=\r\n",
                 "501 334 501 334 334 501 ");
    authenticate("AUTH\r\nAUTH NTLM\r\nAUTH EXTERNAL =\r\nAUTH CRAM-MD5\r\n", "504 504 504 504 ");
}

// Postfix CVE-2011-1720: a handle used again behind a failure or a cancellation; and no more than
// three guesses a session.
Test(server_attack, auth_again_and_again)
{
    struct ph_server_options options = conversation_options();
    struct ph_buf in = {0};
    struct ph_buf out = {0};
    unsigned cancelled = 0;
    struct ph_str rest;

    options.protocol_errors_max = 5000;
    ph_buf_append(&in, PH_STR(HELLO "STARTTLS\r\n" HELLO));
    for (unsigned i = 0; i < 1000; i++) {
        ph_buf_append(&in,
                      PH_STR("AUTH PLAIN\r\n*\r\nAUTH LOGIN\r\n*\r\nAUTH LOGIN\r\ndQ==\r\n*\r\n"));
    }
    ph_buf_append(&in, PH_STR("AUTH PLAIN AHUAcA==\r\n"));
    conversation_run(&options, ph_buf_str(&in), 1, &out);
    rest = ph_buf_str(&out);
    for (ptrdiff_t at; (at = ph_str_find(rest, PH_STR("501 "))) >= 0; cancelled++) {
        rest = ph_str_after(rest, (size_t)at + 4);
    }
    cr_expect_eq(cancelled, 3000);
    cr_expect(ph_str_eq(rest, PH_STR("235 ")), "%.*s", PH_STR_ARG(rest));
    ph_buf_deinit(&in);
    ph_buf_deinit(&out);
    authenticate("AUTH PLAIN AHUAeA==\r\nAUTH LOGIN\r\ndQ==\r\neA==\r\nNOOP\r\n"
                 "AUTH PLAIN AHgAcA==\r\nNOOP\r\n",
                 "535 334 334 535 250 535 421 ");
    // An unknown user and a wrong password get the same answer.
    authenticate("AUTH PLAIN AHUAeA==\r\n", "535 ");
    authenticate("AUTH PLAIN AHgAcA==\r\n", "535 ");
    authenticate("AUTH PLAIN AHUAcA==\r\nAUTH PLAIN AHUAcA==\r\n", "235 503 "); // RFC 4954 §4
}

// Exim CVE-2023-42115 and others: more than a buffer holds, without any zero.
Test(server_attack, auth_blobs)
{
    static const size_t lens[] = {4000, 4088, 4096, 12288, 90000};

    for (size_t i = 0; i < PH_ARRAY_LEN(lens); i++) {
        struct ph_buf lines = {0};

        ph_buf_append(&lines, PH_STR("AUTH PLAIN\r\n"));
        for (size_t n = 0; n < lens[i]; n++) {
            ph_buf_append_char(&lines, 'A' + (char)(n % 20));
        }
        ph_buf_append(&lines, PH_STR("\r\nNOOP\r\n"));
        // Too long a line, or no PLAIN: either way the dialogue is over, and a command is one
        // again.
        authenticate(ph_buf_cstr(&lines),
                     lens[i] > PH_SERVER_LINE_BYTES_MAX ? "334 500 250 " : "334 501 250 ");
        ph_buf_deinit(&lines);
    }
}

// --- content ---

// SMTP smuggling (CVE-2023-51764 to 51766): whatever stands there, it is one message or none, and
// nothing of it is a command.
Test(server_attack, smuggling)
{
    static const struct {
        const char *text;
        size_t len;
    } ends[] = {
#define END(text) {text, sizeof(text) - 1}
        END("\n.\n"),     END("\n.\r\n"),       END("\r.\r"),       END("\r.\r\n"),
        END("\r\n.\n"),   END("\r\n.\r"),       END("\r\n\0.\r\n"), END("\r\n.\0\r\n"),
        END("\r\r\n.\n"), END("\r\r\n.\r\r\n"), END("\n\r.\r\n"),   END("\r\n.\r\r\n"),
        END("\n\n.\n\n"), END("\r\n.\n\r\n"),
#undef END
    };
    static const char hidden[] = "MAIL FROM:<evil@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nx";

    for (unsigned normalize = 0; normalize < 2; normalize++) {
        for (unsigned bdat = 0; bdat < 2; bdat++) {
            for (size_t i = 0; i < PH_ARRAY_LEN(ends); i++) {
                struct ph_server_options options = conversation_options();
                struct ph_server *server;
                struct tally tally = {0};
                struct ph_buf in = {0};
                struct ph_buf content = {0};
                bool nul = memchr(ends[i].text, '\0', ends[i].len) != NULL;
                bool refused = !normalize || nul;

                options.normalize = normalize;
                server = ph_server_create(&options);
                ph_buf_append(&content, PH_STR("a"));
                ph_buf_append_bytes(&content, ends[i].text, ends[i].len);
                ph_buf_append(&content, ph_str_from(hidden));
                ph_buf_append(&in, PH_STR(ENVELOPE));
                if (bdat) {
                    ph_buf_printf(&in, "BDAT %zu LAST\r\n", content.len);
                } else {
                    ph_buf_append(&in, PH_STR("DATA\r\n"));
                }
                ph_buf_append(&in, ph_buf_str(&content));
                ph_buf_append(&in, bdat ? PH_STR("NOOP\r\n") : PH_STR("\r\n.\r\nNOOP\r\n"));
                (void)!feed(server, ph_buf_str(&in), &tally);
                cr_expect_eq(tally.messages, refused ? 0 : 1, "end %zu bdat %u normalize %u", i,
                             bdat, normalize);
                cr_expect_eq(tally.count[550], refused ? 1 : 0, "end %zu", i);
                // EHLO, MAIL, RCPT, NOOP and, where it was taken, the message.
                cr_expect_eq(tally.count[250], refused ? 4 : 5, "end %zu bdat %u", i, bdat);
                ph_server_destroy(server);
                ph_buf_deinit(&in);
                ph_buf_deinit(&content);
            }
        }
    }
}

// Exim CVE-2017-16943 and 16944: sizes that lie, chunks of nothing, chunks without an end.
Test(server_attack, bdat)
{
    struct ph_server_options options = conversation_options();

    conversation_expect(&options, ENVELOPE "BDAT 0 LAST\r\nNOOP\r\n",
                        "[a@b.test>1:13]" SIMPLE "250 250 ");
    conversation_expect(&options, ENVELOPE "BDAT 0\r\nBDAT 0\r\nBDAT 0\r\nBDAT 0 LAST\r\n",
                        "[a@b.test>1:13]" SIMPLE "250 250 250 250 ");
    conversation_expect(&options, ENVELOPE "BDAT 2\r\nhiQUIT\r\n", SIMPLE "250 221 ");
    conversation_expect(&options,
                        ENVELOPE "BDAT 2\r\nhiDATA\r\nRCPT TO:<e@d.test>\r\nRSET\r\n"
                                 "DATA\r\n",
                        SIMPLE "250 503 503 250 503 ");
    conversation_expect(&options, ENVELOPE "DATA\r\nBDAT 2 LAST\r\n.\r\n",
                        "[a@b.test>1:26]" SIMPLE "354 250 ");
    // The first says less than it sends: what is behind it are commands.
    conversation_expect(&options, ENVELOPE "BDAT 4 LAST\r\nhi\r\nRCPT TO:<e@d.test>\r\nDATA\r\n",
                        "[a@b.test>1:17]" SIMPLE "250 503 503 ");
    conversation_expect(&options, ENVELOPE "BDAT 18446744073709551615 LAST\r\nhi\r\n.\r\nQUIT\r\n",
                        SIMPLE);
    conversation_expect(&options, ENVELOPE "BDAT 18446744073709551616 LAST\r\n", SIMPLE "421 ");
    conversation_expect(&options, ENVELOPE "BDAT -1\r\n", SIMPLE "421 ");
    conversation_expect(&options, ENVELOPE "BDAT\r\n", SIMPLE "421 ");
    conversation_expect(&options, ENVELOPE "BDAT 2 LASTING\r\nhiNOOP\r\n", SIMPLE "503 250 ");
    conversation_expect(&options, "BDAT 5\r\nhelloEHLO x\r\n", "220 503 250 ");
}

// The same conversation ended after each of its bytes: nothing is left behind (the sanitizer's
// build looks), and a message is stored only by its last byte.
Test(server_attack, cut_off_at_each_byte)
{
    static const char whole[] = ENVELOPE "BDAT 6\r\nab\r\ncdBDAT 4 LAST\r\nef\r\n";
    struct ph_server_options options = conversation_options();

    for (size_t len = 0; len < sizeof(whole); len++) {
        struct ph_server *server = ph_server_create(&options);
        struct tally tally = {0};

        (void)!feed(server, (struct ph_str){.data = whole, .len = len}, &tally);
        cr_expect_eq(tally.messages, len == sizeof(whole) - 1 ? 1 : 0);
        ph_server_end(server, "4.4.2", "gone");
        ph_server_destroy(server);
    }
}

// Exim CVE-2020-28020: a header without end; and names of fields that mean something elsewhere.
Test(server_attack, headers)
{
    struct ph_server_options options = conversation_options();
    struct ph_server *server;
    struct tally tally = {0};
    struct ph_buf in = {0};

    options.message_size_max = UINT64_MAX;
    server = ph_server_create(&options);
    (void)!feed(server, PH_STR(ENVELOPE "DATA\r\nSubject: x\r\n"), &tally);
    for (unsigned i = 0; i < 1024; i++) {
        ph_buf_append(&in,
                      PH_STR(" 0123456789012345678901234567890123456789012345678901234567890\r\n"));
    }
    for (unsigned i = 0; i < 1024; i++) { // 64 MiB
        (void)!feed(server, ph_buf_str(&in), &tally);
        cr_assert_leq(ph_server_content(server)->cap, 2 * PH_SERVER_CHUNK_BYTES);
    }
    (void)!feed(server, PH_STR("\r\n.\r\nNOOP\r\n"), &tally);
    cr_expect_eq(tally.count[552], 1);
    cr_expect_eq(tally.messages, 0);
    ph_server_destroy(server);
    ph_buf_deinit(&in);
    conversation_expect(&options,
                        ENVELOPE "DATA\r\n__proto__: x\r\nconstructor: y\r\n: z\r\n:\r\n"
                                 "no colon\r\n\r\n.\r\n",
                        "[a@b.test>1:63]" SIMPLE "354 250 ");
}

// More than is taken: said before the content where it is told, and else found out.
Test(server_attack, sizes)
{
    struct ph_server_options options = conversation_options();

    options.message_size_max = 50;
    conversation_expect(&options, HELLO "MAIL FROM:<> SIZE=51\r\n", "220 250 552 ");
    conversation_expect(&options,
                        ENVELOPE "DATA\r\n01234567890123456789012345678901234567890123456789"
                                 "\r\n.\r\nNOOP\r\n",
                        SIMPLE "354 552 250 ");
    conversation_expect(&options,
                        HELLO
                        "MAIL FROM:<a@b.test> SIZE=1\r\nRCPT TO:<c@d.test>\r\nBDAT 60 LAST\r\n"
                        "012345678901234567890123456789012345678901234567890123456789NOOP\r\n",
                        SIMPLE "552 250 ");
}
