// What the tests of the sending conversation share: messages, and taking its output.
#pragma once

#include <criterion/criterion.h>
#include <string.h>

#include "smtp/client.h"
#include "tests/smtp/cleared.h"

struct message {
    struct ph_envelope envelope;
    struct ph_envelope_recipient recipients[2];
    struct ph_client_recipient answers[2];
    struct iovec body;
    struct ph_client_transaction transaction;
};

static inline void make(struct message *m, const char *body, uint32_t recipients)
{
    *m = (struct message){
        .envelope = {.reverse_path = PH_STR("a@b.test")},
        .recipients = {{.address = PH_STR("x@d.test"), .domain = PH_STR("d.test")},
                       {.address = PH_STR("y@d.test"), .domain = PH_STR("d.test")}},
        .body = {.iov_base = (void *)(uintptr_t)body, .iov_len = strlen(body)},
    };
    for (uint32_t i = 0; i < recipients; i++) {
        m->answers[i].recipient = &m->recipients[i];
    }
    m->envelope.recipients = m->recipients;
    m->envelope.recipient_count = recipients;
    m->transaction = (struct ph_client_transaction){.envelope = &m->envelope,
                                                    .recipients = m->answers,
                                                    .recipient_count = recipients,
                                                    .body = &m->body,
                                                    .body_count = 1,
                                                    .body_len = m->body.iov_len};
}

// Takes at most `max` bytes of output into `sent`.
static inline void drain(struct ph_client *client, struct ph_buf *sent, uint64_t max)
{
    struct iovec slices[16];
    int count;

    while (max > 0 && (count = ph_client_output(client, slices, 16)) > 0) {
        for (int i = 0; i < count && max > 0; i++) {
            size_t len = slices[i].iov_len < max ? slices[i].iov_len : max;

            ph_buf_append_bytes(sent, slices[i].iov_base, len);
            ph_client_sent(client, len);
            max -= len;
            if (len < slices[i].iov_len) {
                return;
            }
        }
    }
}

// From the greeting to READY. Each reply comes after its command: one that is early ends a session.
static inline void greet(struct ph_client *client, struct ph_buf *sent, struct ph_str ehlo_reply)
{
    struct ph_str in = PH_STR("220 hi\r\n");

    cr_assert_eq(ph_client_feed(client, &in), PH_CLIENT_EVENT_MORE);
    drain(client, sent, UINT64_MAX);
    cr_assert_eq(ph_client_feed(client, &ehlo_reply), PH_CLIENT_EVENT_READY);
}
