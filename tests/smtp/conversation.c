#include "tests/smtp/conversation.h"

#include <criterion/criterion.h>
#include <stdio.h>

static void trace(void *owner, struct ph_server *server, struct ph_buf *out)
{
    (void)owner;
    (void)server;
    ph_buf_append(out, PH_STR("Received: x\r\n"));
}

struct ph_server_options conversation_options(void)
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

void conversation_run(const struct ph_server_options *options, struct ph_str in, size_t step,
                      struct ph_buf *out)
{
    struct ph_server *server = ph_server_create(options);
    struct ph_str rest = in;
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
            } else if (event == PH_SERVER_EVENT_TARPIT) {
                ph_buf_append(out, PH_STR("~"));
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

void conversation_expect(const struct ph_server_options *options, const char *in,
                         const char *wanted)
{
    for (size_t step = 0; step <= 7; step++) {
        struct ph_buf out = {0};

        conversation_run(options, ph_str_from(in), step, &out);
        cr_expect_str_eq(ph_buf_cstr(&out), wanted, "step %zu of \"%s\": %s", step, in,
                         ph_buf_cstr(&out));
        ph_buf_deinit(&out);
    }
}
