// Notifications made of hostile strings: their lines end with CRLF, no field gets a line of its own
// by what a peer or a client said, and no line is longer than RFC 5321 §4.5.3.1.6 allows.
#include <string.h>

#include "smtp/dsn.h"
#include "tests/fuzz/input.h"

static void check(struct ph_str text)
{
    struct ph_str line;

    PH_CHECK(text.len > 2 && memcmp(text.data + text.len - 2, "\r\n", 2) == 0);
    while (ph_str_cut_line(&text, &line)) {
        PH_CHECK(line.len <= 998);
        PH_CHECK(ph_str_find_char(line, '\r') < 0);
        PH_CHECK(!ph_str_starts_nocase(line, PH_STR("X-Injected:")));
    }
    PH_CHECK(text.len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char original[] = "Subject: hello\r\n\r\nbody\r\n";
    struct fuzz_input input = {.data = data, .len = size};
    uint8_t choice = fuzz_byte(&input);
    struct ph_envelope_recipient recipient = {.address = PH_STR("x@d.test"),
                                              .domain = PH_STR("d.test"),
                                              .orcpt = PH_STR("rfc822;x@d.test")};
    struct ph_envelope envelope = {.reverse_path = PH_STR("a@b.test"),
                                   .recipients = &recipient,
                                   .recipient_count = 1,
                                   .ret = choice & 4 ? PH_RET_FULL : PH_RET_HEADERS};
    struct iovec body = {.iov_base = original, .iov_len = sizeof(original) - 1};
    struct ph_dsn_recipient about = {.recipient = &recipient, .code = 550};
    struct ph_buf out = {0};

    about.remote = fuzz_piece(&input);
    about.text = fuzz_rest(&input);
    ph_dsn_build(&(struct ph_dsn_options){.action = (enum ph_dsn_action)(choice % 3),
                                          .reporting_mta = PH_STR("me.test"),
                                          .from = PH_STR("postmaster@me.test"),
                                          .id = PH_STR("0001000000000001"),
                                          .wall_ms = 1700000000000,
                                          .envelope = &envelope,
                                          .body = &body,
                                          .body_count = 1,
                                          .recipients = &about,
                                          .recipient_count = 1},
                 &out);
    check(ph_buf_str(&out));
    ph_buf_deinit(&out);
    return 0;
}
