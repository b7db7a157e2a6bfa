// The rows' clients: one message each, and the answer to it.
#include <stdlib.h>

#include "tests/sim/table_parts.h"

#define PATIENCE_NS (200 * 1000 * PH_NS_PER_MS)

// What is said after each good reply. The recipients' step comes once for each of them.
enum step {
    STEP_GREETING,
    STEP_EHLO,
    STEP_MAIL,
    STEP_RCPT,
    STEP_DATA,
    STEP_CONTENT,
    STEP_QUIT,
};

struct sender {
    struct sim *sim;
    struct table_message *message;
    struct sim_conn *conn;
    struct ph_buf in;
    enum step step; // whose reply is awaited
    unsigned rcpts;
    struct sim_event patience;
    bool over;
};

static void leave(struct sender *s)
{
    s->over = true;
    s->message->over = true;
    sim_cancel(&s->sim->clock, &s->patience);
    ph_buf_deinit(&s->in);
}

static void say(struct sender *s, struct ph_buf *text)
{
    sim_conn_send(s->conn, ph_buf_str(text));
    sim_after(&s->sim->clock, &s->patience, PATIENCE_NS);
}

static struct table_recipient *recipient(const struct sender *s, unsigned which)
{
    return &s->message->play->recipients[s->message->first + which];
}

static void say_content(const struct sender *s, struct ph_buf *out)
{
    ph_buf_append(out, PH_STR("From: <s@" TABLE_HOME ">\r\nSubject: row\r\n\r\n"));
    do {
        ph_buf_append(out, PH_STR("yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
                                  "yyyyyyyyyyyy\r\n"));
    } while (out->len < s->message->bytes);
    ph_buf_append(out, PH_STR(".\r\n"));
}

static bool any_utf8(const struct sender *s)
{
    bool found = false;

    for (unsigned i = 0; i < s->message->count; i++) {
        for (const char *at = recipient(s, i)->domain; *at != '\0'; at++) {
            found |= (unsigned char)*at >= 0x80;
        }
    }
    return found;
}

static void next(struct sender *s)
{
    struct ph_buf out = {0};

    s->rcpts += s->step == STEP_RCPT;
    if (s->step != STEP_RCPT || s->rcpts == s->message->count) {
        s->step++;
    }
    switch (s->step) {
    case STEP_GREETING:
        break;
    case STEP_EHLO:
        ph_buf_append(&out, PH_STR("EHLO client.example\r\n"));
        break;
    case STEP_MAIL:
        ph_buf_printf(&out, "MAIL FROM:<s@" TABLE_HOME ">%s\r\n", any_utf8(s) ? " SMTPUTF8" : "");
        break;
    case STEP_RCPT:
        ph_buf_printf(&out, "RCPT TO:<u%u@%s>\r\n", s->message->first + s->rcpts,
                      recipient(s, s->rcpts)->domain);
        break;
    case STEP_DATA:
        ph_buf_append(&out, PH_STR("DATA\r\n"));
        break;
    case STEP_CONTENT:
        say_content(s, &out);
        break;
    case STEP_QUIT:
        s->message->state = TABLE_ACKED;
        sim_trace(s->sim, "acked", s->message->play->row->index, s->message->first, 0);
        ph_buf_append(&out, PH_STR("QUIT\r\n"));
        break;
    }
    say(s, &out);
    ph_buf_deinit(&out);
}

static void received(void *owner, struct ph_str bytes)
{
    struct sender *s = owner;
    struct ph_str rest;
    struct ph_str line;

    if (s->over) {
        return;
    }
    ph_buf_append(&s->in, bytes);
    rest = ph_buf_str(&s->in);
    while (!s->over && ph_str_cut_line(&rest, &line)) {
        if (line.len > 3 && line.data[3] == '-') {
            continue;
        }
        if (s->step == STEP_QUIT) {
            sim_conn_finish(s->conn);
            leave(s);
        } else if (line.data[0] == (s->step == STEP_DATA ? '3' : '2')) {
            next(s);
        } else {
            s->message->state = TABLE_REFUSED;
            sim_conn_reset(s->conn);
            leave(s);
        }
    }
    if (!s->over) {
        ph_buf_consume(&s->in, s->in.len - rest.len);
    }
}

static void ended(void *owner, bool reset)
{
    struct sender *s = owner;

    if (!s->over) {
        if (!reset) {
            sim_conn_finish(s->conn);
        }
        leave(s);
    }
}

static void out_of_patience(struct sim_event *event)
{
    struct sender *s = event->owner;

    sim_conn_reset(s->conn);
    leave(s);
}

void table_send(struct table_message *message)
{
    struct sim *sim = message->play->stage->sim;
    struct sender *s = ph_alloc(sizeof(*s));
    unsigned row = message->play->row->index;
    struct ph_endpoint from = {.family = PH_FAMILY_IPV4,
                               .port = (uint16_t)(40000 + message->first),
                               .bytes = {127, 0, 1, (uint8_t)(row + 1)}};

    s->sim = sim;
    s->message = message;
    sim_event_init(&s->patience, out_of_patience, s);
    s->conn = sim_conn_open(sim->network,
                            &(struct sim_far_end){.received = received, .ended = ended, .owner = s},
                            &from);
    if (s->conn == NULL) { // nobody listens now
        message->state = TABLE_REFUSED;
        leave(s);
    } else {
        sim_after(&sim->clock, &s->patience, PATIENCE_NS);
    }
}
