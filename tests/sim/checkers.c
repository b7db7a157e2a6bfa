// What was promised, against what clients and peers wrote down.
#include "tests/sim/checkers.h"

#include <stdio.h>

#include "engine/survey.h"
#include "engine/worker.h"
#include "tests/sim/sim.h"

// The value of a string or number member of one flat JSON line; empty: it isn't there.
static struct ph_str member(struct ph_str line, const char *name)
{
    char pattern[64];
    size_t len = (size_t)snprintf(pattern, sizeof(pattern), "\"%s\":", name);
    ptrdiff_t at = ph_str_find(line, (struct ph_str){.data = pattern, .len = len});
    struct ph_str rest = ph_str_after(line, at >= 0 ? (size_t)at + len : line.len);
    char end = ',';
    size_t value_len = 0;

    if (rest.len > 0 && rest.data[0] == '"') {
        rest = ph_str_after(rest, 1);
        end = '"';
    }
    while (value_len < rest.len && rest.data[value_len] != end && rest.data[value_len] != '}') {
        value_len++;
    }
    return ph_str_first(rest, value_len);
}

static bool member_is(struct ph_str line, const char *name, const char *value)
{
    return ph_str_eq(member(line, name), ph_str_from(value));
}

// "…taken=12+2…" → the accept among 12 and 13 that is of this message and recipient. NULL: none is.
static struct sim_accept *accept_of(struct sim *sim, struct ph_str text, unsigned id,
                                    unsigned recipient)
{
    ptrdiff_t at = ph_str_find(text, PH_STR("taken="));
    unsigned first = 0;
    unsigned count = 0;
    char copy[64];

    ph_str_copy(copy, sizeof(copy), ph_str_after(text, at >= 0 ? (size_t)at : text.len));
    if (sscanf(copy, "taken=%u+%u", &first, &count) == 2) {
        for (unsigned n = first; n < first + count && n <= sim->ledger.accept_count; n++) {
            struct sim_accept *accept = &sim->ledger.accepts[n];

            if (n > 0 && accept->message == id && accept->recipient == recipient) {
                return accept;
            }
        }
    }
    return NULL;
}

static void check_delivered(struct sim *sim, struct ph_str line, unsigned id, unsigned recipient)
{
    struct sim_message *message = sim_ledger_message(sim, id);
    struct sim_accept *accept = accept_of(sim, member(line, "text"), id, recipient);
    bool marked = member_is(line, "ambiguous_resend", "true");

    if (accept == NULL) {
        sim_fail(sim, "logged as delivered and taken by nobody: message %u.%u", id, recipient);
        return;
    }
    if (accept->logged) {
        sim_fail(sim, "one delivery is logged twice: message %u.%u", id, recipient);
    }
    accept->logged = true;
    if (!accept->first && !marked) {
        sim_fail(sim, "delivered a second time without ambiguous_resend: message %u.%u", id,
                 recipient);
    }
    if (marked && !sim_ledger_doubtful(sim, id, recipient)) {
        sim_fail(sim, "marked ambiguous_resend, and nothing was in doubt: message %u.%u", id,
                 recipient);
    }
    message->recipients[recipient].delivered++;
}

static struct sim_message *message_by_spool_id(struct sim *sim, struct ph_str spool_id)
{
    for (unsigned id = 1; id <= sim->ledger.message_count; id++) {
        struct sim_message *message = &sim->ledger.messages[id];

        for (unsigned i = 0; i < message->spool_id_count; i++) {
            if (ph_str_eq(ph_str_from(message->spool_ids[i]), spool_id)) {
                return message;
            }
        }
    }
    return NULL;
}

// What the log says of ids in the spool: "accepted" of the message's own, "bounced" of a
// notification's.
static void learn_spool_id(struct sim *sim, struct ph_str event, struct ph_str line)
{
    bool bounced = ph_str_eq(event, PH_STR("bounced"));
    unsigned id;

    if ((bounced || ph_str_eq(event, PH_STR("accepted"))) &&
        sim_sender_parse(member(line, bounced ? "recipient" : "sender"), &id) &&
        sim_ledger_message(sim, id) != NULL) {
        struct sim_message *message = sim_ledger_message(sim, id);

        message->logged_accepted |= !bounced;
        if (message->spool_id_count < SIM_SPOOL_IDS_MAX) {
            ph_str_copy(message->spool_ids[message->spool_id_count++],
                        sizeof(message->spool_ids[0]),
                        member(line, bounced ? "notification" : "id"));
        }
    }
}

// All of it had come to its end: its large content was removed then, and where the disk changed the
// record of that end it is missed.
static bool was_over(const struct sim_message *message)
{
    for (unsigned i = 0; i < message->recipient_count; i++) {
        const struct sim_recipient *r = &message->recipients[i];

        if (r->accepts == 0 && r->failed == 0) {
            return false;
        }
    }
    return true;
}

// Given up because the disk changed it: so it did? Where its envelope is gone too, the line names
// no recipient.
static void check_damaged(struct sim *sim, struct ph_str line)
{
    struct sim_message *message = message_by_spool_id(sim, member(line, "id"));
    unsigned id;

    if (sim_sender_parse(member(line, "recipient"), &id)) {
        message = sim_ledger_message(sim, id); // a notification to its sender
    }
    if (message != NULL) {
        message->reported = true;
        if (!message->damaged && (sim->damages == 0 || !was_over(message))) {
            sim_fail(sim, "given up as damaged, and its bytes are whole: message %u", message->id);
        }
    } else if (sim->damages == 0) {
        sim_fail(sim, "damage that the disk did not do: %.*s", PH_STR_ARG(line));
    }
}

static void check_failed(struct sim *sim, struct ph_str line, unsigned id, unsigned recipient)
{
    struct sim_recipient *r = &sim_ledger_message(sim, id)->recipients[recipient];

    r->failed_marked |= member_is(line, "ambiguous_resend", "true");
    if (!r->refused && !member_is(line, "reason", "spool-damaged")) {
        sim_fail(sim, "failed for ever and no peer refused it: message %u.%u: %.*s", id, recipient,
                 PH_STR_ARG(member(line, "text")));
    }
    r->failed++;
}

static void check_line(struct sim *sim, struct ph_str line)
{
    struct ph_str event = member(line, "event");
    struct ph_str address = member(line, "recipient");
    bool marked = member_is(line, "ambiguous_resend", "true");
    unsigned id = 0;
    unsigned recipient = 0;

    if ((ph_str_eq(event, PH_STR("deferred")) || ph_str_eq(event, PH_STR("attempt"))) &&
        (member(line, "reason").len == 0 || member_is(line, "reason", "none"))) {
        sim_fail(sim, "a deferral without a reason: %.*s", PH_STR_ARG(line));
    }
    sim->ledger.log_lines++;
    sim->ledger.ambiguous_lines += marked;
    // Neither times of the real machine nor its choice of cipher come into the hash.
    sim_trace_text(sim, "log", event);
    sim_trace_text(sim, "of", address);
    sim_trace_text(sim, "because", member(line, "reason"));
    learn_spool_id(sim, event, line);
    if (member_is(line, "reason", "spool-damaged")) {
        check_damaged(sim, line);
    }
    if (sim_sender_parse(address, &id) && sim_ledger_message(sim, id) != NULL) {
        sim_ledger_message(sim, id)->marked_notifications += marked;
    } else if (sim_address_parse(address, &id, &recipient) && sim_ledger_message(sim, id) != NULL &&
               recipient < sim_ledger_message(sim, id)->recipient_count) {
        if (ph_str_eq(event, PH_STR("delivered"))) {
            check_delivered(sim, line, id, recipient);
        } else if (ph_str_eq(event, PH_STR("failed"))) {
            check_failed(sim, line, id, recipient);
        } else if (ph_str_eq(event, PH_STR("expired")) || ph_str_eq(event, PH_STR("deleted"))) {
            sim_fail(sim, "message %u.%u: nothing should expire or be deleted here", id, recipient);
        }
    }
}

void sim_check_log(struct sim *sim, struct ph_str lines)
{
    struct ph_str line;

    while (ph_str_cut_line(&lines, &line)) {
        check_line(sim, line);
    }
}

// The recipient has it not, and its sender hasn't heard that it failed.
static bool is_owed(const struct sim_message *m, unsigned which)
{
    const struct sim_recipient *r = &m->recipients[which];

    return m->state == SIM_MESSAGE_ACKED && r->accepts == 0 && r->notified == 0;
}

static void check_nothing_owed(struct sim *sim)
{
    for (unsigned id = 1; id <= sim->ledger.message_count; id++) {
        const struct sim_message *m = &sim->ledger.messages[id];

        for (unsigned i = 0; i < m->recipient_count; i++) {
            if (is_owed(m, i) && !m->damaged) {
                sim_fail(sim, "the counters show an empty queue, and message %u.%u is owed", id, i);
            }
        }
    }
}

void sim_check_counters(struct sim *sim)
{
    uint64_t queued = 0;

    for (unsigned i = 0; i < sim->worker_count; i++) {
        struct ph_worker *w = ph_engine_worker(sim->engine_now, (uint16_t)i);
        uint64_t in = PH_COUNTER_READ(w, accepted) + PH_COUNTER_READ(w, dsn_created) +
                      PH_COUNTER_READ(w, recovered);
        uint64_t out = PH_COUNTER_READ(w, delivered) + PH_COUNTER_READ(w, failed) +
                       PH_COUNTER_READ(w, expired) + PH_COUNTER_READ(w, deleted) +
                       PH_COUNTER_READ(w, quarantined) + PH_COUNTER_READ(w, queued);

        if (in != out) {
            sim_fail(sim, "the sum isn't conserved at worker %u: %llu came in, %llu are known of",
                     i, (unsigned long long)in, (unsigned long long)out);
        }
        if (PH_COUNTER_READ(w, quarantined) != 0 && sim->damages == 0) {
            sim_fail(sim, "worker %u found damage that the disk did not do", i);
        }
        queued += PH_COUNTER_READ(w, queued);
    }
    if (queued == 0 && sim->queued_shown > 0) {
        check_nothing_owed(sim);
    }
    sim->queued_shown = queued;
}

void sim_check_schedule(struct sim *sim, unsigned worker)
{
    struct ph_worker *w = ph_engine_worker(sim->engine_now, (uint16_t)worker);
    struct ph_survey survey = {0};

    if (w->stopping) {
        return; // nothing new is begun
    }
    ph_survey_answer(w, &survey);
    if (survey.unscheduled > 0) {
        sim_fail(sim, "worker %u has %llu recipients without a next event", worker,
                 (unsigned long long)survey.unscheduled);
    }
    if (survey.unreachable > 0) {
        sim_fail(sim, "worker %u finds no connector for mail that has one", worker);
    }
}

static void check_recipient(struct sim *sim, const struct sim_message *m, unsigned which)
{
    const struct sim_recipient *r = &m->recipients[which];
    bool excused = m->damaged && (m->reported || sim->damage_reports > 0);

    if (is_owed(m, which) && excused) {
        sim_trace(sim, "lost", m->id, which, m->reported);
    } else if (is_owed(m, which)) {
        sim_fail(sim, "lost: message %u.%u was acknowledged and %s", m->id, which,
                 r->failed > 0 ? "failed, and its sender was never told" : "came nowhere");
    } else if (m->state == SIM_MESSAGE_REFUSED && (r->accepts > 0 || r->notified > 0)) {
        sim_fail(sim, "message %u.%u was refused to its client, and delivered", m->id, which);
    } else if (r->accepts > 1 && r->delivered == 0 && r->failed == 0 && !excused) {
        sim_fail(sim, "message %u.%u was taken %u times, and the log tells of none", m->id, which,
                 r->accepts);
    } else if (r->notified > 1 && m->marked_notifications == 0 && !r->failed_marked) {
        sim_fail(sim, "the failure of message %u.%u was told %u times, none of them marked", m->id,
                 which, r->notified);
    }
}

// Each accept but the first was announced as a possible second one, by a line of its own or, where
// a crash took its line, by that of a later one.
static void check_accepts(struct sim *sim)
{
    const struct sim_ledger *ledger = &sim->ledger;

    for (unsigned n = 1; n <= ledger->accept_count; n++) {
        const struct sim_accept *a = &ledger->accepts[n];
        bool excused =
            a->logged || a->recipient >= SIM_RECIPIENTS_MAX || ledger->messages[a->message].damaged;

        for (unsigned later = n + 1; !excused && later <= ledger->accept_count; later++) {
            excused = ledger->accepts[later].message == a->message &&
                      ledger->accepts[later].recipient == a->recipient &&
                      ledger->accepts[later].logged;
        }
        if (!excused && sim->ledger.messages[a->message].recipients[a->recipient].failed == 0) {
            sim_fail(sim, "message %u.%u was taken by a peer, and the log never says so",
                     a->message, a->recipient);
        }
    }
}

// Nothing is owed: the spool must know it, too, or its space is never used again.
static void check_spools(struct sim *sim)
{
    for (unsigned i = 0; i < sim->worker_count; i++) {
        struct ph_worker *w = ph_engine_worker(sim->engine_now, (uint16_t)i);
        uint64_t live = ph_spool_stats(w->spool).messages_live;

        if (live > 0) {
            sim_fail(sim, "the spool of worker %u still holds %llu messages for live", i,
                     (unsigned long long)live);
        }
    }
}

void sim_check_end(struct sim *sim)
{
    for (unsigned id = 1; id <= sim->ledger.message_count; id++) {
        const struct sim_message *m = &sim->ledger.messages[id];

        for (unsigned i = 0; i < m->recipient_count; i++) {
            check_recipient(sim, m, i);
        }
        if (m->state == SIM_MESSAGE_REFUSED && m->logged_accepted) {
            sim_fail(sim, "message %u was refused to its client, and the log says accepted", id);
        }
    }
    check_accepts(sim);
    check_spools(sim);
    // For good: clients may have given up.
    if (sim->ledger.acked < sim->options.messages && !sim->options.fail_for_good) {
        sim_fail(sim, "only %u messages were acknowledged", sim->ledger.acked);
    }
}
