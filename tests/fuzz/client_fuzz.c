// The sending conversation against a peer that says anything at any time: no crash, and each
// recipient has its outcome when the session is over.
#include <string.h>

#include "smtp/client.h"
#include "tests/fuzz/input.h"
#include "tests/smtp/cleared.h"

#define MESSAGES 4
#define RECIPIENTS 2

struct message {
    struct ph_envelope envelope;
    struct ph_envelope_recipient recipients[RECIPIENTS];
    struct ph_client_recipient answers[RECIPIENTS];
    struct iovec body;
    struct ph_client_transaction transaction;
};

static void make(struct message *m, bool dots)
{
    static const char plain[] = "Subject: x\r\n\r\nhello\r\n";
    static const char dotted[] = ".\r\n..\r\nhello\r\n.x\r\n";
    const char *body = dots ? dotted : plain;

    *m = (struct message){.envelope = {.reverse_path = PH_STR("a@b.test")}};
    for (size_t i = 0; i < RECIPIENTS; i++) {
        m->recipients[i] = (struct ph_envelope_recipient){.address = PH_STR("x@d.test"),
                                                          .domain = PH_STR("d.test")};
        m->answers[i].recipient = &m->recipients[i];
    }
    m->envelope.recipients = m->recipients;
    m->envelope.recipient_count = RECIPIENTS;
    m->body = (struct iovec){.iov_base = (void *)(uintptr_t)body, .iov_len = strlen(body)};
    m->transaction = (struct ph_client_transaction){.envelope = &m->envelope,
                                                    .recipients = m->answers,
                                                    .recipient_count = RECIPIENTS,
                                                    .body = &m->body,
                                                    .body_count = 1,
                                                    .body_len = m->body.iov_len};
}

static void drain(struct ph_client *client, uint64_t max)
{
    struct iovec slices[4];
    int count;

    while (max > 0 && (count = ph_client_output(client, slices, 4)) > 0) {
        uint64_t len = 0;

        for (int i = 0; i < count; i++) {
            len += slices[i].iov_len;
        }
        len = len < max ? len : max;
        ph_client_sent(client, len);
        max -= len;
    }
}

static size_t take_done(struct ph_client *client)
{
    struct ph_client_transaction *done;
    size_t count = 0;

    while ((done = ph_client_take_done(client)) != NULL) {
        for (uint32_t i = 0; i < done->recipient_count; i++) {
            PH_CHECK(done->recipients[i].outcome != PH_RECIPIENT_PENDING);
        }
        count++;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .len = size};
    uint8_t choice = fuzz_byte(&input);
    struct message messages[MESSAGES];
    size_t sent = 0;
    size_t done = 0;
    struct ph_buf inbound = {0};
    struct ph_client *client = ph_client_create(&(struct ph_client_options){
        .session_id = SESSION, .hostname = PH_STR("me.test"), .force_helo = choice & 1});

    for (size_t i = 0; i < MESSAGES; i++) {
        make(&messages[i], (choice & 4) && i % 2 == 0);
    }
    while (input.len > 0 && ph_client_state(client) != PH_CLIENT_ENDED) {
        enum ph_client_event event = PH_CLIENT_EVENT_READY;

        drain(client, choice & 8 ? fuzz_byte(&input) : UINT64_MAX);
        ph_buf_append(&inbound, fuzz_piece(&input));
        while (event != PH_CLIENT_EVENT_MORE && event != PH_CLIENT_EVENT_ENDED) {
            struct ph_str rest = ph_buf_str(&inbound);
            size_t before = rest.len;

            event = ph_client_feed(client, &rest);
            ph_buf_consume(&inbound, before - rest.len);
            if (event == PH_CLIENT_EVENT_STARTTLS_READY) {
                ph_client_tls_established(client);
            }
            done += take_done(client);
        }
        if (ph_client_state(client) == PH_CLIENT_IDLE && ph_client_ehlo(client)->starttls &&
            (choice & 16)) {
            choice &= (uint8_t)~16u;
            ph_client_starttls(client);
        } else if (ph_client_state(client) == PH_CLIENT_IDLE && (choice & 32)) {
            choice &= (uint8_t)~32u;
            (void)!ph_client_send_auth(client, cleared(PH_CLEARANCE_CREDENTIALS), PH_STR("user"),
                                       PH_STR("password"));
        } else if ((ph_client_state(client) == PH_CLIENT_IDLE ||
                    ph_client_state(client) == PH_CLIENT_TRANSACTIONS) &&
                   sent < MESSAGES &&
                   ph_client_outstanding(client) < ph_client_depth(client, MESSAGES)) {
            struct ph_client_transaction *t = &messages[sent].transaction;

            if (ph_client_unfit(client, t) == PH_REASON_NONE) {
                ph_client_send_envelope(client, cleared(PH_CLEARANCE_ENVELOPE), t);
                sent++;
            }
        }
    }
    if (ph_client_state(client) != PH_CLIENT_ENDED) {
        struct ph_reason reason = ph_reason_make(PH_REASON_PEER_CLOSED, "over");

        ph_client_abort(client, &reason);
    }
    done += take_done(client);
    PH_CHECK(done == sent);
    ph_client_destroy(client);
    ph_buf_deinit(&inbound);
    return 0;
}
