// The receiving conversation, cut anywhere: no crash, bounded, and no message with a bare CR or LF.
#include <string.h>

#include "smtp/server.h"
#include "tests/fuzz/input.h"

static void trace(void *owner, struct ph_server *server, struct ph_buf *out)
{
    (void)owner;
    (void)server;
    ph_buf_append(out, PH_STR("Received: by fuzz.test\r\n"));
}

static void check_message(struct ph_server *server)
{
    const struct ph_envelope *envelope = ph_server_envelope(server);
    struct ph_str content = ph_buf_str(ph_server_content(server));

    PH_CHECK(envelope->recipient_count > 0 && envelope->recipient_count <= 8);
    PH_CHECK(content.len < 2 || memcmp(content.data + content.len - 2, "\r\n", 2) == 0);
    for (size_t i = 0; i < content.len; i++) {
        // The first byte may be the end of a line whose front was handed over as a chunk.
        if (content.data[i] == '\n' && i > 0) {
            PH_CHECK(content.data[i - 1] == '\r');
        }
        if (content.data[i] == '\r' && i + 1 < content.len) {
            PH_CHECK(content.data[i + 1] == '\n');
        }
    }
    for (uint32_t i = 0; i < envelope->recipient_count; i++) {
        PH_CHECK(ph_str_find_char(envelope->recipients[i].address, '\n') < 0);
        PH_CHECK(ph_str_find_char(envelope->recipients[i].orcpt, '\n') < 0);
    }
    PH_CHECK(ph_str_find_char(envelope->reverse_path, '\n') < 0);
    PH_CHECK(ph_str_find_char(envelope->envid, '\n') < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .len = size};
    uint8_t choice = fuzz_byte(&input);
    struct ph_buf inbound = {0};
    bool ended = false;
    struct ph_server *server = ph_server_create(&(struct ph_server_options){
        .hostname = PH_STR("fuzz.test"),
        .connector = PH_STR("in"),
        .client_address = PH_STR("192.0.2.1"),
        .starttls_offered = choice & 1,
        .require_tls = choice & 2,
        .auth_offered = choice & 4,
        .may_relay = !(choice & 8),
        .normalize = choice & 16,
        .message_size_max = 200000,
        .recipients_max = 8,
        .protocol_errors_max = 50,
        .hops_max = 10,
        .trace = trace,
    });

    while (input.len > 0 && !ended) {
        enum ph_server_event event = PH_SERVER_EVENT_DISCARD;

        ph_buf_append(&inbound, fuzz_piece(&input));
        while (event != PH_SERVER_EVENT_MORE && !ended) {
            struct ph_str rest = ph_buf_str(&inbound);
            size_t before = rest.len;

            event = ph_server_feed(server, &rest);
            PH_CHECK(rest.len <= before);
            ph_buf_consume(&inbound, before - rest.len);
            switch (event) {
            case PH_SERVER_EVENT_MORE:
            case PH_SERVER_EVENT_DISCARD:
            case PH_SERVER_EVENT_TARPIT:
                break;
            case PH_SERVER_EVENT_STARTTLS:
                ph_buf_clear(&inbound);
                ph_server_tls_established(server);
                break;
            case PH_SERVER_EVENT_AUTH:
                ph_server_authenticated(server, choice & 32);
                break;
            case PH_SERVER_EVENT_CHUNK:
                ph_buf_clear(ph_server_content(server));
                ph_server_chunk_stored(server);
                break;
            case PH_SERVER_EVENT_MESSAGE:
                check_message(server);
                if (choice & 64) {
                    ph_server_refused(server, 452, "4.3.1", "no room");
                } else {
                    ph_server_stored(server, PH_STR("0001000000000001"));
                }
                break;
            case PH_SERVER_EVENT_ENDED:
                ended = true;
                break;
            }
            ph_buf_clear(ph_server_output(server));
        }
        PH_CHECK(inbound.len <= PH_SERVER_LINE_BYTES_MAX + 512);
    }
    ph_server_destroy(server);
    ph_buf_deinit(&inbound);
    return 0;
}
