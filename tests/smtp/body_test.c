// Covers: smtp/address smtp/dsn
#include <criterion/criterion.h>

#include "smtp/address.h"
#include "smtp/body.h"
#include "smtp/dsn.h"

// Fed whole, byte by byte, and cut at every place: the same content, the same end.
static void expect_body(const char *in, enum ph_body_mode mode, bool normalize, const char *out,
                        bool ended, bool bare, size_t left)
{
    struct ph_str whole = ph_str_from(in);

    for (size_t cut = 0; cut <= whole.len + 1; cut++) {
        struct ph_body body;
        struct ph_buf content = {0};
        struct ph_str rest = whole;

        ph_body_init(&body, mode, normalize);
        if (cut == whole.len + 1) {
            for (size_t i = 0; i < whole.len && !body.ended; i++) {
                struct ph_str one = {.data = whole.data + i, .len = 1};

                ph_body_feed(&body, &one, &content);
                rest = ph_str_after(whole, i + 1);
            }
        } else {
            struct ph_str first = ph_str_first(whole, cut);

            ph_body_feed(&body, &first, &content);
            rest = (struct ph_str){.data = first.data, .len = first.len + whole.len - cut};
            ph_body_feed(&body, &rest, &content);
        }
        if (mode == PH_BODY_BDAT) {
            ph_body_finish(&body, &content);
        }
        cr_expect_str_eq(ph_buf_cstr(&content), out, "cut %zu of \"%s\"", cut, in);
        cr_expect_eq(body.ended, ended, "cut %zu of \"%s\"", cut, in);
        cr_expect_eq(body.bare, bare, "cut %zu of \"%s\"", cut, in);
        cr_expect_eq(rest.len, left, "cut %zu of \"%s\": %zu", cut, in, rest.len);
        ph_buf_deinit(&content);
    }
}

Test(body, data)
{
    expect_body("a\r\n.\r\n", PH_BODY_DATA, false, "a\r\n", true, false, 0);
    expect_body(".\r\n", PH_BODY_DATA, false, "", true, false, 0);
    expect_body("..a\r\n.\r\nQUIT\r\n", PH_BODY_DATA, false, ".a\r\n", true, false, 6);
    expect_body("a\r\n.b\r\n..\r\n.\r\n", PH_BODY_DATA, false, "a\r\nb\r\n.\r\n", true, false, 0);
    expect_body("a.\r\n.\r\n", PH_BODY_DATA, false, "a.\r\n", true, false, 0);
}

// None of these ends a message but CRLF.CRLF (SMTP smuggling).
Test(body, smuggling)
{
    static const char *const ends[] = {"\n.\n",   "\n.\r\n", "\r.\r",    "\r.\r\n",
                                       "\r\n.\n", "\r\n.\r", "\r\r\n.\r"};

    for (size_t i = 0; i < PH_ARRAY_LEN(ends); i++) {
        struct ph_body body;
        struct ph_buf content = {0};
        struct ph_buf in = {0};
        struct ph_str rest;

        ph_buf_printf(&in, "a%sMAIL FROM:<x@y>\r\n", ends[i]);
        rest = ph_buf_str(&in);
        ph_body_init(&body, PH_BODY_DATA, false);
        ph_body_feed(&body, &rest, &content);
        cr_expect(!body.ended, "row %zu", i);
        cr_expect(body.bare, "row %zu", i);
        ph_buf_deinit(&in);
        ph_buf_deinit(&content);
    }
}

Test(body, bare_line_ends_normalized)
{
    expect_body("a\nb\rc\r\n.\r\n", PH_BODY_DATA, true, "a\r\nb\r\nc\r\n", true, false, 0);
    expect_body("a\n.\r\nb\n..\r\n.\r\n", PH_BODY_DATA, true, "a\r\n.\r\nb\r\n..\r\n", true, false,
                0);
    expect_body("a\r\n.\r\rb\r\n.\r\n", PH_BODY_DATA, true, "a\r\n\r\n\r\nb\r\n", true, false, 0);
    expect_body("a\r\nb", PH_BODY_BDAT, false, "a\r\nb\r\n", false, false, 0);
    expect_body(".a\r\n.\r\n", PH_BODY_BDAT, false, ".a\r\n.\r\n", false, false, 0);
}

// Behind the header many bytes are looked at together: fed so and one by one, any content ends the
// same.
Test(body, pieces_and_single_bytes_agree)
{
    static const char bytes[] = {'\r', '\n', '.', 'a', 'b', '\0', (char)0xc3};
    uint64_t random = 7;

    for (unsigned round = 0; round < 20000; round++) {
        struct ph_body together;
        struct ph_body single;
        struct ph_buf out[2] = {{0}};
        char text[96] = "x\r\n\r\n";
        size_t len = strlen(text);
        struct ph_str rest;
        size_t taken = 0;

        while (len < sizeof(text)) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            if ((random >> 33) % 4 == 0 && len + 2 <= sizeof(text)) {
                text[len++] = '\r';
                text[len++] = '\n';
            } else {
                // Mostly letters, so that the long runs are reached too.
                size_t kind = (random >> 40) % (round % 3 == 0 ? 7 : 70);

                text[len++] = kind < sizeof(bytes) ? bytes[kind] : 'c';
            }
        }
        ph_body_init(&together, round & 1 ? PH_BODY_DATA : PH_BODY_BDAT, round & 2);
        single = together;
        rest = (struct ph_str){.data = text, .len = len};
        ph_body_feed(&together, &rest, &out[0]);
        while (taken < len && !single.ended) {
            struct ph_str one = {.data = text + taken++, .len = 1};

            ph_body_feed(&single, &one, &out[1]);
        }
        cr_assert_eq(len - rest.len, taken, "round %u", round);
        cr_assert(ph_str_eq(ph_buf_str(&out[0]), ph_buf_str(&out[1])), "round %u", round);
        cr_assert(together.state == single.state && together.bare == single.bare &&
                      together.nul == single.nul && together.has_8bit == single.has_8bit &&
                      together.size == single.size,
                  "round %u", round);
        ph_buf_deinit(&out[0]);
        ph_buf_deinit(&out[1]);
    }
}

Test(body, what_it_notes)
{
    struct ph_body body;
    struct ph_buf content = {0};
    struct ph_str in =
        PH_STR("Received: a\r\nRECEIVED: b\r\n c\r\nReceivedx: no\r\n\r\nReceived: no\r\n"
               "\xc3\xa4\r\n.\r\n");

    ph_body_init(&body, PH_BODY_DATA, false);
    ph_body_feed(&body, &in, &content);
    cr_expect_eq(body.received_count, 2);
    cr_expect(body.has_8bit && !body.nul && body.header_over);
    ph_buf_deinit(&content);
}

Test(body, tls_required)
{
    static const struct {
        const char *text;
        bool optional;
    } cases[] = {
        {"TLS-Required: No\r\n\r\nx", true},
        {"tls-required:no\r\n\r\n", true},
        {"Subject: a\r\nTLS-REQUIRED:  no  \r\n\r\n", true},
        {"TLS-Required: No way\r\n\r\n", false},
        {"TLS-Required: Yes\r\n\r\n", false},
        {"TLS-Required:          No\r\n\r\n", false}, // longer than is looked at: not taken
        {"X-TLS-Required: No\r\n\r\n", false},
        {"Subject: a\r\n\r\nTLS-Required: No\r\n", false}, // the header is over
        {"TLS-Required: No\r\nTLS-Required: Yes\r\n\r\n", false},
        {"", false},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        for (size_t step = 1; step < 40; step += 13) {
            struct ph_body body;
            struct ph_buf content = {0};
            struct ph_str rest = ph_str_from(cases[i].text);

            ph_body_init(&body, PH_BODY_BDAT, false);
            while (rest.len > 0) {
                struct ph_str part = ph_str_first(rest, step);
                size_t len = part.len;

                ph_body_feed(&body, &part, &content);
                rest = ph_str_after(rest, len);
            }
            ph_body_finish(&body, &content);
            cr_expect_eq(body.tls_optional, cases[i].optional, "case %zu in steps of %zu", i, step);
            ph_buf_deinit(&content);
        }
    }
}

// What an organization says to itself comes from nobody else; folded lines go with their field.
Test(body, the_border)
{
    static const struct {
        const char *in;
        const char *out;
        unsigned dropped;
    } rows[] = {
        {"A: 1\r\nX-MS-Exchange-Organization-AuthAs: Internal\r\nB: 2\r\n\r\nx\r\n",
         "A: 1\r\nB: 2\r\n\r\nx\r\n", 1},
        {"x-ms-exchange-FOREST-a: 1\r\n\t2\r\n 3\r\nB: 4\r\n 5\r\n\r\n", "B: 4\r\n 5\r\n\r\n", 1},
        {"X-MS-Exchange-Organization-: 1\r\n\r\n", "\r\n", 1},
        {"X-MS-Exchange-Organizations: 1\r\nX-MS\r\nX-MS-Exchange-Forest: 2\r\n\r\n",
         "X-MS-Exchange-Organizations: 1\r\nX-MS\r\nX-MS-Exchange-Forest: 2\r\n\r\n", 0},
        {"A: 1\r\n\r\nX-MS-Exchange-Organization-AuthAs: in the text\r\n",
         "A: 1\r\n\r\nX-MS-Exchange-Organization-AuthAs: in the text\r\n", 0},
        {"X-MS-Exchange-Organization-A: 1\r\nX-MS-Exchange-Organization-B: 2\r\nX\r\n", "X\r\n", 2},
        {" X-MS-Exchange-Organization-A: folded before any field\r\n\r\n",
         " X-MS-Exchange-Organization-A: folded before any field\r\n\r\n", 0},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        for (size_t step = 1; step < 60; step += 7) {
            struct ph_body body;
            struct ph_buf content = {0};
            struct ph_str rest = ph_str_from(rows[i].in);

            ph_body_init(&body, PH_BODY_BDAT, false);
            while (rest.len > 0) {
                struct ph_str part = ph_str_first(rest, step);
                size_t len = part.len;

                ph_body_feed(&body, &part, &content);
                rest = ph_str_after(rest, len);
            }
            ph_body_finish(&body, &content);
            cr_expect(ph_str_eq(ph_buf_str(&content), ph_str_from(rows[i].out)),
                      "row %zu in steps of %zu: %s", i, step, ph_buf_cstr(&content));
            cr_expect_eq(body.size, content.len);
            cr_expect_eq(body.dropped_count, rows[i].dropped);
            ph_buf_deinit(&content);
        }
    }
}

Test(address, paths)
{
    static const struct {
        const char *in;
        const char *text; // NULL: refused
        const char *rest;
    } rows[] = {
        {"<a@example.org> SIZE=1", "a@example.org", " SIZE=1"},
        {"<>", "", ""},
        {"<@r.example,@s.example:a@b.example>", "a@b.example", ""},
        {"<\"a b\"@example.org>", "\"a b\"@example.org", ""},
        {"<\"a\\\"b\"@example.org>", "\"a\\\"b\"@example.org", ""},
        {"<a%b@example.org>", "a%b@example.org", ""},
        {"<a@[192.0.2.1]>", "a@[192.0.2.1]", ""},
        {"<a@b\xc3\xa4.example>", "a@b\xc3\xa4.example", ""},
        {"a@example.org", NULL, NULL},
        {"<a@example.org", NULL, NULL},
        {"<a@>", NULL, NULL},
        {"<@b>", NULL, NULL},
        {"<a..b@c.example>", NULL, NULL},
        {"<.a@c.example>", NULL, NULL},
        {"<a@b..c>", NULL, NULL},
        {"<a b@c.example>", NULL, NULL},
        {"<a@c.example\r>", NULL, NULL},
        {"<\"a@c.example>", NULL, NULL},
        {"<aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@c.example>", NULL,
         NULL},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_str in = ph_str_from(rows[i].in);
        struct ph_address address;
        bool good = ph_address_parse_path(&in, &address);

        cr_expect_eq(good, rows[i].text != NULL, "%s", rows[i].in);
        if (good && rows[i].text != NULL) {
            cr_expect(ph_str_eq(address.text, ph_str_from(rows[i].text)), "%s", rows[i].in);
            cr_expect(ph_str_eq(in, ph_str_from(rows[i].rest)), "%s", rows[i].in);
        }
    }
}

Test(address, domains)
{
    static const struct {
        const char *in;
        const char *out;
    } rows[] = {{"Example.ORG.", "example.org"},
                {"b\xc3\xbc"
                 "cher.example",
                 "xn--bcher-kva.example"},
                {"", NULL},
                {"a..b", NULL},
                {"a b", NULL},
                {"b\xef\xbc\x81", NULL}, // a fullwidth "!" would become one
                {"-", "-"}};

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        char out[PH_DOMAIN_BYTES_MAX + 1];
        bool good = ph_domain_normalize(ph_str_from(rows[i].in), out);

        cr_expect_eq(good, rows[i].out != NULL, "%s", rows[i].in);
        if (good && rows[i].out != NULL) {
            cr_expect_str_eq(out, rows[i].out);
        }
    }
}

Test(dsn, a_failure_with_hostile_text)
{
    struct ph_envelope_recipient recipient = {.address = PH_STR("u@example.org"),
                                              .domain = PH_STR("example.org"),
                                              .orcpt = PH_STR("rfc822;u@example.org")};
    struct ph_envelope envelope = {.reverse_path = PH_STR("s@example.net"),
                                   .envid = PH_STR("id7"),
                                   .recipients = &recipient,
                                   .recipient_count = 1};
    struct iovec body = {.iov_base = "Subject: x\r\nFrom: y\r\n\r\nsecret body\r\n", .iov_len = 37};
    struct ph_dsn_recipient told = {.recipient = &recipient,
                                    .status = {.class = 5, .subject = 1, .detail = 1},
                                    .code = 550,
                                    .text = PH_STR("no\r\nBcc: everybody@example.com"),
                                    .remote = PH_STR("mx.example.org")};
    struct ph_buf out = {0};
    struct ph_str text;

    ph_dsn_build(&(struct ph_dsn_options){.action = PH_DSN_FAILED,
                                          .reporting_mta = PH_STR("out.example.net"),
                                          .from = PH_STR("postmaster@out.example.net"),
                                          .id = PH_STR("0001"),
                                          .envelope = &envelope,
                                          .body = &body,
                                          .body_count = 1,
                                          .recipients = &told,
                                          .recipient_count = 1},
                 &out);
    text = ph_buf_str(&out);
    cr_expect(ph_str_find(text, PH_STR("\r\nBcc:")) < 0, "text of a peer made a header");
    cr_expect(ph_str_find(text, PH_STR("Action: failed\r\nStatus: 5.1.1\r\n")) > 0);
    cr_expect(ph_str_find(text, PH_STR("Original-Envelope-Id: id7\r\n")) > 0);
    cr_expect(ph_str_find(text, PH_STR("Original-Recipient: rfc822;u@example.org\r\n")) > 0);
    cr_expect(ph_str_find(text, PH_STR("Subject: x\r\n")) > 0);
    cr_expect(ph_str_find(text, PH_STR("secret body")) < 0, "headers alone are quoted");
    for (size_t i = 0; i < text.len; i++) {
        cr_assert(text.data[i] != '\n' || (i > 0 && text.data[i - 1] == '\r'), "a bare LF");
    }
    ph_buf_deinit(&out);
}

Test(dsn, who_wants_to_hear)
{
    struct ph_envelope from = {.reverse_path = PH_STR("s@example.net")};
    struct ph_envelope nobody = {.reverse_path = PH_STR_NONE};
    struct ph_envelope_recipient r = {.notify = 0};

    cr_expect(ph_dsn_wanted(&from, &r, PH_DSN_FAILED) && ph_dsn_wanted(&from, &r, PH_DSN_DELAYED));
    cr_expect(!ph_dsn_wanted(&from, &r, PH_DSN_RELAYED));
    cr_expect(!ph_dsn_wanted(&nobody, &r, PH_DSN_FAILED));
    r.notify = PH_NOTIFY_NEVER;
    cr_expect(!ph_dsn_wanted(&from, &r, PH_DSN_FAILED));
    r.notify = PH_NOTIFY_SUCCESS;
    cr_expect(ph_dsn_wanted(&from, &r, PH_DSN_RELAYED) && !ph_dsn_wanted(&from, &r, PH_DSN_FAILED));
}

// Mail that expired while a TLS policy held it: the status of what held it, its token and
// Exchange's words for scripts, and for its sender that nothing went unprotected.
Test(dsn, what_a_tls_policy_held_to_the_end)
{
    struct ph_envelope_recipient recipient = {
        .address = PH_STR("u@example.org"), .domain = PH_STR("example.org"), .orcpt = PH_STR_NONE};
    struct ph_envelope envelope = {.reverse_path = PH_STR("s@example.net"),
                                   .envid = PH_STR_NONE,
                                   .recipients = &recipient,
                                   .recipient_count = 1};
    struct ph_dsn_recipient told = {.recipient = &recipient,
                                    .status = {.class = 4, .subject = 7, .detail = 5},
                                    .text = PH_STR("given up after 2d; the last reason was: x"),
                                    .remote = PH_STR_NONE,
                                    .reason = PH_REASON_CERT_NAME_MISMATCH};
    struct ph_dsn_options options = {.action = PH_DSN_FAILED,
                                     .reporting_mta = PH_STR("out.example.net"),
                                     .from = PH_STR("postmaster@out.example.net"),
                                     .id = PH_STR("0001"),
                                     .envelope = &envelope,
                                     .recipients = &told,
                                     .recipient_count = 1};
    struct ph_buf out = {0};

    ph_dsn_build(&options, &out);
    cr_expect(ph_str_find(ph_buf_str(&out), PH_STR("Action: failed\r\nStatus: 4.7.5\r\n")) > 0);
    cr_expect(ph_str_find(ph_buf_str(&out),
                          PH_STR("Diagnostic-Code: x-posthaste;Certificate validation failure, "
                                 "Reason:SubjectMismatch - cert-name-mismatch: given up")) > 0);
    cr_expect(ph_str_find(ph_buf_str(&out), PH_STR("nothing of it\r\n    was sent "
                                                   "unprotected")) > 0);
    ph_buf_clear(&out);
    told.reason = PH_REASON_CONNECT_TIMEOUT;
    ph_dsn_build(&options, &out);
    cr_expect(ph_str_find(ph_buf_str(&out), PH_STR("x-posthaste;connect-timeout: given up")) > 0);
    cr_expect(ph_str_find(ph_buf_str(&out), PH_STR("unprotected")) < 0);
    ph_buf_deinit(&out);
}
