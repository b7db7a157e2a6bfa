// Injectors.
#include "tests/sim/client.h"

#include <stdlib.h>

#include "tests/sim/network.h"
#include "tests/sim/sim.h"

#define CLIENT_PATIENCE_NS (200 * 1000 * PH_NS_PER_MS)
#define CLIENT_PAUSE_NS (2 * 1000 * PH_NS_PER_MS) // at most, between messages
#define CLIENT_AWAY_NS (5 * 1000 * PH_NS_PER_MS)  // at most, between connections

enum client_state {
    CLIENT_AWAY,
    CLIENT_GREETING,
    CLIENT_EHLO,
    CLIENT_IDLE,
    CLIENT_ENVELOPE, // MAIL, RCPT…, and DATA, all sent; their replies are awaited
    CLIENT_FINAL,    // the content is sent
    CLIENT_QUIT,
    CLIENT_DONE,
};

struct client {
    struct sim *sim;
    unsigned number;
    enum client_state state;
    struct sim_conn *conn;
    struct ph_buf in;
    struct sim_message *message; // under way
    unsigned awaited;            // replies of the envelope
    bool uses_bdat;
    unsigned left; // messages on this connection
    struct sim_event timer;
};

struct sim_clients {
    struct sim *sim;
    struct client *clients;
    unsigned count;
};

static void on_timer(struct sim_event *event);

struct sim_clients *sim_clients_create(struct sim *sim)
{
    struct sim_clients *clients = ph_alloc(sizeof(*clients));

    clients->sim = sim;
    clients->count = sim->options.clients;
    clients->clients = ph_alloc(clients->count * sizeof(*clients->clients));
    for (unsigned i = 0; i < clients->count; i++) {
        struct client *c = &clients->clients[i];

        c->sim = sim;
        c->number = i;
        sim_event_init(&c->timer, on_timer, c);
        sim_after(&sim->clock, &c->timer, sim_below(&sim->random, CLIENT_PAUSE_NS));
    }
    return clients;
}

bool sim_clients_done(const struct sim_clients *clients)
{
    bool done = true;

    for (unsigned i = 0; i < clients->count; i++) {
        done &= clients->clients[i].state == CLIENT_DONE;
    }
    return done;
}

static bool enough(const struct client *c)
{
    return c->sim->ledger.acked >= c->sim->options.messages ||
           c->sim->ledger.message_count >= SIM_MESSAGES_MAX - c->sim->options.clients;
}

static void wait_for_reply(struct client *c)
{
    sim_after(&c->sim->clock, &c->timer, CLIENT_PATIENCE_NS);
}

// Away for a while; a message under way stays in the ledger as it is: nobody knows.
static void go_away(struct client *c)
{
    c->message = NULL;
    c->conn = NULL;
    ph_buf_clear(&c->in);
    c->state = enough(c) ? CLIENT_DONE : CLIENT_AWAY;
    if (c->state == CLIENT_AWAY) {
        sim_after(&c->sim->clock, &c->timer, sim_below(&c->sim->random, CLIENT_AWAY_NS));
    } else {
        sim_cancel(&c->sim->clock, &c->timer);
    }
}

static void say(struct client *c, struct ph_str text)
{
    sim_conn_send(c->conn, text);
    wait_for_reply(c);
}

// The whole envelope at once, as PIPELINING allows.
static void begin_message(struct client *c)
{
    struct sim_message *message = sim_ledger_begin(c->sim);
    struct ph_buf out = {0};

    c->message = message;
    c->uses_bdat = sim_chance(&c->sim->random, 400);
    c->awaited = 1 + message->recipient_count + !c->uses_bdat;
    ph_buf_printf(&out, "MAIL FROM:<s%u@origin.example>\r\n", message->id);
    for (unsigned i = 0; i < message->recipient_count; i++) {
        ph_buf_append(&out, PH_STR("RCPT TO:<"));
        sim_address_format(message, i, &out);
        ph_buf_append(&out, PH_STR(">\r\n"));
    }
    if (!c->uses_bdat) {
        ph_buf_append(&out, PH_STR("DATA\r\n"));
    }
    c->state = CLIENT_ENVELOPE;
    say(c, ph_buf_str(&out));
    ph_buf_deinit(&out);
}

static void send_content(struct client *c)
{
    struct ph_buf text = {0};
    struct ph_buf out = {0};
    struct ph_str rest;
    struct ph_str line;

    sim_message_text(c->message, &text);
    rest = ph_buf_str(&text);
    if (c->uses_bdat) {
        size_t first = (size_t)sim_below(&c->sim->random, rest.len);

        if (sim_chance(&c->sim->random, 300)) {
            ph_buf_printf(&out, "BDAT %zu\r\n", first);
            ph_buf_append(&out, ph_str_first(rest, first));
            rest = ph_str_after(rest, first);
            c->awaited++;
        }
        ph_buf_printf(&out, "BDAT %zu LAST\r\n", rest.len);
        ph_buf_append(&out, rest);
    } else {
        while (ph_str_cut_line(&rest, &line)) {
            if (line.len > 0 && line.data[0] == '.') {
                ph_buf_append_char(&out, '.');
            }
            ph_buf_append(&out, line);
            ph_buf_append(&out, PH_STR("\r\n"));
        }
        ph_buf_append(&out, PH_STR(".\r\n"));
    }
    if (c->sim->options.plant == SIM_PLANT_eager_client) {
        c->message->state = SIM_MESSAGE_ACKED;
    }
    c->awaited++;
    c->state = CLIENT_FINAL;
    say(c, ph_buf_str(&out));
    ph_buf_deinit(&text);
    ph_buf_deinit(&out);
}

static void acknowledge(struct client *c)
{
    c->message->state = SIM_MESSAGE_ACKED;
    c->sim->ledger.acked++;
    sim_trace(c->sim, "acked", c->message->id, c->number, 0);
}

static void idle(struct client *c)
{
    c->message = NULL;
    c->state = CLIENT_IDLE;
    sim_after(&c->sim->clock, &c->timer, sim_below(&c->sim->random, CLIENT_PAUSE_NS));
}

// A reply that is good enough to go on with?
static bool expected(const struct client *c, struct ph_str line)
{
    char wanted = c->state == CLIENT_ENVELOPE && c->awaited == 1 && !c->uses_bdat ? '3' : '2';

    return line.data[0] == wanted;
}

static void take_reply(struct client *c, struct ph_str line)
{
    bool good = expected(c, line);

    switch (c->state) {
    case CLIENT_GREETING:
        c->state = CLIENT_EHLO;
        say(c, PH_STR("EHLO client.example\r\n"));
        break;
    case CLIENT_EHLO:
        idle(c);
        break;
    case CLIENT_ENVELOPE:
        c->awaited--;
        if (!good) {
            // Whatever follows: this connection is given up, and nothing of it counts.
            c->message->state = SIM_MESSAGE_REFUSED;
            sim_conn_reset(c->conn);
            go_away(c);
        } else if (c->awaited == 0) {
            send_content(c);
        }
        break;
    case CLIENT_FINAL:
        c->awaited--;
        if (!good) {
            c->message->state = SIM_MESSAGE_REFUSED;
            sim_conn_reset(c->conn);
            go_away(c);
        } else if (c->awaited == 0) {
            acknowledge(c);
            idle(c);
        }
        break;
    case CLIENT_IDLE:
    case CLIENT_QUIT:
        sim_conn_reset(c->conn); // 421, or the goodbye
        go_away(c);
        break;
    case CLIENT_AWAY:
    case CLIENT_DONE:
        break;
    }
}

static void received(void *owner, struct ph_str bytes)
{
    struct client *c = owner;
    struct ph_str rest;
    struct ph_str line;
    struct sim_conn *conn = c->conn;

    ph_buf_append(&c->in, bytes);
    rest = ph_buf_str(&c->in);
    while (c->conn == conn && conn != NULL && ph_str_cut_line(&rest, &line)) {
        if (line.len < 3) {
            sim_fail(c->sim, "not a reply: %.*s", PH_STR_ARG(line));
        } else if (line.len == 3 || line.data[3] == ' ') {
            take_reply(c, line);
        }
    }
    if (c->conn == conn && conn != NULL) {
        ph_buf_consume(&c->in, c->in.len - rest.len);
    }
}

static void ended(void *owner, bool reset)
{
    struct client *c = owner;

    if (!reset && c->conn != NULL) {
        sim_conn_finish(c->conn);
    }
    go_away(c);
}

static void connect_to_engine(struct client *c)
{
    struct ph_endpoint from = {.family = PH_FAMILY_IPV4,
                               .port = (uint16_t)(40000 + c->number),
                               .bytes = {127, 0, 1, (uint8_t)(c->number + 1)}};

    c->conn = sim_conn_open(c->sim->network,
                            &(struct sim_far_end){.received = received, .ended = ended, .owner = c},
                            &from);
    if (c->conn == NULL) {
        go_away(c); // nobody listens now
        return;
    }
    c->state = CLIENT_GREETING;
    c->left = (unsigned)sim_between(&c->sim->random, 1, 20);
    wait_for_reply(c);
}

static void on_timer(struct sim_event *event)
{
    struct client *c = event->owner;

    switch (c->state) {
    case CLIENT_AWAY:
        if (enough(c)) {
            c->state = CLIENT_DONE;
        } else {
            connect_to_engine(c);
        }
        break;
    case CLIENT_IDLE:
        if (c->left == 0 || enough(c)) {
            c->state = CLIENT_QUIT;
            say(c, PH_STR("QUIT\r\n"));
        } else {
            c->left--;
            begin_message(c);
        }
        break;
    case CLIENT_GREETING:
    case CLIENT_EHLO:
    case CLIENT_ENVELOPE:
    case CLIENT_FINAL:
    case CLIENT_QUIT:
        sim_conn_reset(c->conn); // out of patience
        go_away(c);
        break;
    case CLIENT_DONE:
        break;
    }
}
