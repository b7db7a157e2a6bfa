// What was asked of the engine, and what came of it, by those outside.
#include "tests/sim/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/network.h"
#include "tests/sim/sim.h"

void sim_ledger_init(struct sim_ledger *ledger)
{
    *ledger = (struct sim_ledger){0};
    ledger->messages = ph_alloc((SIM_MESSAGES_MAX + 1) * sizeof(*ledger->messages));
}

struct sim_message *sim_ledger_message(struct sim *sim, unsigned id)
{
    return id > 0 && id <= sim->ledger.message_count ? &sim->ledger.messages[id] : NULL;
}

static uint32_t choose_size(struct sim *sim)
{
    uint64_t kind = sim_below(&sim->random, 100);

    if (kind < 3 && sim->options.on[SIM_large]) {
        return (uint32_t)sim_between(&sim->random, 60000, 300000);
    }
    return (uint32_t)(kind < 15 ? sim_between(&sim->random, 4000, 20000)
                                : sim_between(&sim->random, 200, 4000));
}

struct sim_message *sim_ledger_begin(struct sim *sim)
{
    struct sim_ledger *ledger = &sim->ledger;
    struct sim_message *message;

    PH_CHECK(ledger->message_count < SIM_MESSAGES_MAX);
    message = &ledger->messages[++ledger->message_count];
    message->id = ledger->message_count;
    message->bytes = choose_size(sim);
    message->recipient_count =
        sim_chance(&sim->random, 700) ? 1 : (unsigned)sim_between(&sim->random, 2, 3);
    for (unsigned i = 0; i < message->recipient_count; i++) {
        message->recipients[i].site = (unsigned)sim_below(&sim->random, SIM_SITES);
        message->recipients[i].rejected = sim_chance(&sim->random, 30);
    }
    return message;
}

unsigned sim_ledger_accept(struct sim *sim, unsigned id, unsigned recipient)
{
    struct sim_ledger *ledger = &sim->ledger;
    struct sim_accept *accept;

    if (ledger->accept_count + 2 > ledger->accept_capacity) {
        ledger->accept_capacity = ledger->accept_capacity == 0 ? 1024 : ledger->accept_capacity * 2;
        ledger->accepts =
            reallocarray(ledger->accepts, ledger->accept_capacity, sizeof(*ledger->accepts));
        PH_CHECK(ledger->accepts != NULL);
    }
    accept = &ledger->accepts[++ledger->accept_count];
    *accept = (struct sim_accept){.message = id, .recipient = recipient, .first = true};
    if (recipient < SIM_RECIPIENTS_MAX) {
        accept->first = ledger->messages[id].recipients[recipient].accepts++ == 0;
    }
    sim_trace(sim, "taken", id, recipient, ledger->accept_count);
    return ledger->accept_count;
}

size_t sim_ledger_whole(struct sim *sim, unsigned id, unsigned recipient,
                        const struct sim_conn *conn)
{
    struct sim_ledger *ledger = &sim->ledger;

    if (ledger->whole_count == ledger->whole_capacity) {
        ledger->whole_capacity = ledger->whole_capacity == 0 ? 1024 : ledger->whole_capacity * 2;
        ledger->wholes =
            reallocarray(ledger->wholes, ledger->whole_capacity, sizeof(*ledger->wholes));
        PH_CHECK(ledger->wholes != NULL);
    }
    ledger->wholes[ledger->whole_count] = (struct sim_whole){
        .message = id, .recipient = recipient, .conn = conn, .answered_at = UINT64_MAX};
    return ledger->whole_count++;
}

void sim_ledger_doubt_all(struct sim *sim)
{
    for (unsigned id = 1; id <= sim->ledger.message_count; id++) {
        sim->ledger.messages[id].in_doubt = true;
    }
}

bool sim_ledger_doubtful(const struct sim *sim, unsigned id, unsigned recipient)
{
    const struct sim_ledger *ledger = &sim->ledger;
    bool doubtful = ledger->messages[id].in_doubt;

    for (size_t i = 0; i < ledger->whole_count && !doubtful; i++) {
        const struct sim_whole *whole = &ledger->wholes[i];

        doubtful = whole->message == id && whole->recipient == recipient &&
                   sim_conn_read(whole->conn) < whole->answered_at;
    }
    return doubtful;
}

static bool cut_number(struct ph_str *text, unsigned *out)
{
    size_t digits = 0;
    uint64_t value = 0;

    while (digits < text->len && digits < 9 && text->data[digits] >= '0' &&
           text->data[digits] <= '9') {
        value = value * 10 + (uint64_t)(text->data[digits] - '0');
        digits++;
    }
    *text = ph_str_after(*text, digits);
    *out = (unsigned)value;
    return digits > 0;
}

bool sim_address_parse(struct ph_str address, unsigned *out_id, unsigned *out_recipient)
{
    if (address.len == 0 || (address.data[0] != 'm' && address.data[0] != 'r')) {
        return false;
    }
    address = ph_str_after(address, 1);
    if (!cut_number(&address, out_id) || !ph_str_starts(address, PH_STR("."))) {
        return false;
    }
    address = ph_str_after(address, 1);
    return cut_number(&address, out_recipient) && ph_str_starts(address, PH_STR("@site"));
}

void sim_address_format(const struct sim_message *message, unsigned recipient, struct ph_buf *out)
{
    const struct sim_recipient *r = &message->recipients[recipient];

    ph_buf_printf(out, "%c%u.%u@site%u.example", r->rejected ? 'r' : 'm', message->id, recipient,
                  r->site);
}

bool sim_sender_parse(struct ph_str address, unsigned *out_id)
{
    if (address.len == 0 || address.data[0] != 's') {
        return false;
    }
    address = ph_str_after(address, 1);
    return cut_number(&address, out_id) && ph_str_starts(address, PH_STR("@origin"));
}

void sim_message_text(const struct sim_message *message, struct ph_buf *out)
{
    struct sim_random random;
    size_t end;

    sim_random_init(&random, message->id);
    ph_buf_printf(out, "X-Sim-Id: %u\r\nSubject: message %u\r\n\r\n", message->id, message->id);
    end = out->len + message->bytes;
    while (out->len < end) {
        char line[76];
        size_t len = (size_t)sim_below(&random, sizeof(line));

        // A dot in front now and then: it is stuffed on the way.
        for (size_t i = 0; i < len; i += 8) {
            uint64_t bits = sim_random_next(&random);

            for (size_t j = i; j < len && j < i + 8; j++, bits >>= 8) {
                line[j] = (char)('.' + (bits & 63));
            }
        }
        ph_buf_append_bytes(out, line, len);
        ph_buf_append(out, PH_STR("\r\n"));
    }
}
