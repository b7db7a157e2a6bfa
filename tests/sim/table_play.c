// A row's mail, step by step.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/queue_report.h"
#include "engine/queues.h"
#include "engine/worker.h"
#include "smtp/address.h"
#include "tests/sim/table_parts.h"

#define SECOND_NS (1000 * PH_NS_PER_MS)
#define SETTLES_NS (5 * SECOND_NS) // a reload is in force everywhere
#define ENDS_NS SECOND_NS // the session a message went by is closed, where a script says so
#define AGAIN_NS_MAX (60 * SECOND_NS) // from one round to the next, or until a client tries again

// --- mail ---

static unsigned count_recipients(const char *const *steps, unsigned step, unsigned step_count)
{
    unsigned count = 1;

    while (step + 2 * count < step_count && strcmp(steps[step + 2 * count - 1], "and") == 0) {
        count++;
    }
    return count;
}

static void add_recipient(struct table_message *message, const char *step, unsigned nth)
{
    struct table_play *play = message->play;
    struct table_recipient *r = &play->recipients[play->recipient_count++];

    *r = (struct table_recipient){.message = message, .domain = strchr(step, '@') + 1, .nth = nth};
    PH_CHECK(ph_domain_normalize(ph_str_from(r->domain), r->a_label));
    message->count++;
    play->stage->sim->report.recipients++;
}

// One message for `count` recipients, whose addresses stand at every other step.
static void send_message(struct table_play *play, unsigned step, unsigned count, unsigned nth)
{
    struct table_message *message = ph_alloc(sizeof(*message));

    PH_CHECK(play->recipient_count + count <= TABLE_RECIPIENTS_MAX);
    message->play = play;
    message->first = play->recipient_count;
    for (unsigned i = 0; i < play->row->step_count; i++) {
        uint64_t bytes;

        if (strncmp(play->row->steps[i], "size=", 5) == 0 &&
            ph_str_to_u64(ph_str_from(play->row->steps[i] + 5), &bytes)) {
            message->bytes = bytes;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        add_recipient(message, play->row->steps[step + 2 * i], nth + i);
    }
    message->step = step;
    play->messages[play->message_count++] = message;
    table_send(message);
}

// --- what is waited for ---

// Behind the first refusal the rest of a queue waits unseen.
static bool queue_deferred(const struct table_play *play, const char *a_label)
{
    bool found = false;

    for (unsigned i = 0; i < play->recipient_count; i++) {
        const struct table_recipient *r = &play->recipients[i];

        found |= strcmp(r->a_label, a_label) == 0 && r->deferred > 0;
    }
    return found;
}

static bool has_outcome(const struct table_play *play, const struct table_recipient *r)
{
    const struct table_outcome *outcome = table_outcome_of(play->row, r->nth);

    if (play->stage->plain && !play->mended) {
        return r->event[0] != '\0';
    }
    switch (outcome->kind) {
    case TABLE_TLS:
    case TABLE_PLAIN:
        return r->accepts > 0;
    case TABLE_DEFER:
        return queue_deferred(play, r->a_label) || r->excused;
    case TABLE_NDR:
    case TABLE_REJECT:
        break;
    }
    return r->failed > 0 || (table_has_step(play->row, "life") && r->deferred > 0);
}

// A client that got no 250 tries again, with another address: nobody knows of the old one.
static bool send_again(struct table_play *play)
{
    unsigned count = play->message_count;
    bool again = false;

    for (unsigned i = 0; i < count; i++) {
        struct table_message *m = play->messages[i];

        if (m->over && m->state != TABLE_ACKED && !m->replaced &&
            play->recipient_count + m->count <= TABLE_RECIPIENTS_MAX) {
            m->replaced = true;
            send_message(play, m->step, m->count, play->recipients[m->first].nth);
            again = true;
        }
    }
    return again;
}

// Where a refusal is to be mended, the first is enough.
static bool all_concluded(const struct table_play *play)
{
    bool mends = table_has_step(play->row, "fix") && !play->mended;
    bool all = true;
    bool any = false;

    for (unsigned i = 0; i < play->recipient_count; i++) {
        const struct table_recipient *r = &play->recipients[i];

        if (!r->message->replaced) {
            bool concluded = mends ? r->deferred > 0 : has_outcome(play, r);

            all &= r->message->state == TABLE_ACKED && (concluded || mends);
            any |= concluded;
        }
    }
    return all && any;
}

// --- steps ---

static bool engine_at_rest(const struct sim *sim)
{
    bool rest = sim->running;

    for (unsigned i = 0; rest && i < sim->worker_count; i++) {
        rest = !sim->workers[i]->in_turn;
    }
    return rest;
}

static void retry(struct table_play *play)
{
    struct sim *sim = play->stage->sim;
    struct ph_buf out = {0};
    struct ph_json json;
    struct ph_queue_report report = {.kind = PH_QUEUE_REPORT_RETRY,
                                     .argument = ph_str_from(play->row->domains[0]),
                                     .json = &json};

    ph_json_init(&json, &out);
    ph_json_open_array(&json, NULL);
    for (unsigned i = 0; i < sim->worker_count; i++) {
        ph_queue_report_answer(ph_engine_worker(sim->engine_now, (uint16_t)i), &report);
        sim_io_make_runnable(sim->workers[i]);
    }
    ph_json_close_array(&json);
    ph_buf_deinit(&out);
}

// Does mail for the row's domains wait, or is it under way? Taken by its host doesn't mean that the
// engine knows it.
static bool holds_mail(const struct table_play *play)
{
    const struct sim *sim = play->stage->sim;
    bool holds = false;

    for (unsigned i = 0; i < sim->worker_count; i++) {
        struct ph_worker *worker = ph_engine_worker(sim->engine_now, (uint16_t)i);
        struct ph_queue *queue;
        struct ph_queue *next;

        HASH_ITER(hh, worker->queues, queue, next)
        {
            for (unsigned d = 0; d < play->row->domain_count; d++) {
                holds |= ph_str_eq(queue->domain, ph_str_from(play->row->domains[d])) &&
                         (queue->ready.count > 0 || queue->deferred_count > 0 ||
                          queue->dispatch_count > 0);
            }
        }
    }
    return holds;
}

// False: not now.
static bool administer(struct table_play *play, const char *step)
{
    struct sim *sim = play->stage->sim;

    if (!engine_at_rest(sim) || (strcmp(step, "retry") != 0 && holds_mail(play))) {
        return false;
    }
    if (strcmp(step, "retry") == 0) {
        retry(play);
    } else if (strncmp(step, "reload=", 7) == 0) {
        play->reloaded = step + 7;
        sim_reload(sim);
        play->at_ns = sim->clock.now_ns + SETTLES_NS;
    } else {
        play->stage->gone = true;
        sim_reload(sim);
        play->at_ns = sim->clock.now_ns + SETTLES_NS;
    }
    return true;
}

static void take_step(struct table_play *play)
{
    const struct table_row *row = play->row;
    const char *step = row->steps[play->step];

    if (strchr(step, '@') != NULL) {
        unsigned count = count_recipients(row->steps, play->step, row->step_count);

        send_message(play, play->step, count, play->nth);
        play->nth += count;
        play->step += 2 * count - 1;
    } else if (strcmp(step, "then") == 0) {
        play->waiting = true;
        play->step++;
    } else if (strcmp(step, "fix") == 0) {
        play->mended = true;
        play->step++;
    } else if (strcmp(step, "retry") == 0 || strcmp(step, "gone") == 0 ||
               strncmp(step, "reload=", 7) == 0) {
        play->step += administer(play, step);
    } else {
        play->step++; // said of the whole: size=, life, schedule
    }
}

bool table_is_long(const struct table_row *row)
{
    return table_has_step(row, "life") || table_has_step(row, "schedule");
}

// A row whose mail can be sent once more as if nothing had been.
static bool repeats(const struct table_play *play)
{
    static const char *const once[] = {"reload", "gone", "fix", "size", "life", "schedule"};
    bool again = play->rounds > 1 && !play->stage->sim->calm &&
                 play->recipient_count + 8 < TABLE_RECIPIENTS_MAX;

    for (size_t i = 0; i < PH_ARRAY_LEN(once); i++) {
        again &= !table_has_step(play->row, once[i]);
    }
    return again;
}

static void end_round(struct table_play *play)
{
    struct sim *sim = play->stage->sim;

    if (repeats(play)) {
        play->rounds--;
        play->step = 0;
        play->nth = 0;
        play->at_ns = sim->clock.now_ns + sim_below(&sim->random, AGAIN_NS_MAX);
        return;
    }
    play->done = true;
    if (play->stage->plain && !table_is_long(play->row)) {
        table_judge_plain(play);
    }
}

void table_play_on(struct table_play *play)
{
    struct sim *sim = play->stage->sim;
    unsigned last = play->step + 1;

    while (!play->done && last != play->step && sim->clock.now_ns >= play->at_ns) {
        last = play->step;
        if (play->waiting && send_again(play)) {
            // Ever later: a disk that fails refuses mail for hours.
            play->at_ns =
                sim->clock.now_ns + ++play->refusals * sim_below(&sim->random, AGAIN_NS_MAX);
        } else if (play->waiting && all_concluded(play)) {
            play->waiting = false;
            play->at_ns = sim->clock.now_ns + ENDS_NS;
            last = play->step + 1;
        } else if (!play->waiting && play->step < play->row->step_count) {
            take_step(play);
        } else if (!play->waiting && play->step == play->row->step_count) {
            // Once more for what is behind the last "then"; then the end.
            if (all_concluded(play)) {
                end_round(play);
            } else {
                play->waiting = true;
            }
        }
    }
}

// --- in the end ---

// A domain without a host has no attempts to log: its queue says why it waits.
static void look_at_queue(const struct table_play *play, struct table_recipient *r)
{
    struct sim *sim = play->stage->sim;

    for (unsigned i = 0; i < sim->worker_count && sim->running; i++) {
        struct ph_worker *worker = ph_engine_worker(sim->engine_now, (uint16_t)i);
        struct ph_queue *queue;
        struct ph_queue *next;

        HASH_ITER(hh, worker->queues, queue, next)
        {
            char status[PH_STATUS_TEXT_MAX];

            if (ph_str_eq(queue->domain, ph_str_from(r->a_label)) &&
                queue->last_error.kind != PH_REASON_NONE) {
                r->deferred++;
                r->said_ns = sim->clock.now_ns;
                snprintf(r->event, sizeof(r->event), "deferred");
                snprintf(r->status, sizeof(r->status), "%s",
                         ph_status_format(queue->last_error.status, status));
                snprintf(r->reason, sizeof(r->reason), "%s",
                         ph_reason_token(queue->last_error.kind));
                snprintf(r->text, sizeof(r->text), "%s", queue->last_error.sentence);
            }
        }
    }
}

void table_play_look(struct table_play *play)
{
    for (unsigned i = 0; i < play->recipient_count; i++) {
        struct table_recipient *r = &play->recipients[i];

        if (r->message->state == TABLE_ACKED && r->attempts == 0 && !play->mended &&
            ph_str_ends_nocase(ph_str_from(r->a_label), PH_STR(".forged"))) {
            look_at_queue(play, r);
        }
    }
}

// Did the queue of `r` say, after all faults, what the row says?
static bool waits_as_it_should(const struct table_play *play, const struct table_recipient *r,
                               const struct table_outcome *outcome)
{
    bool found = false;

    for (unsigned i = 0; i < play->recipient_count; i++) {
        const struct table_recipient *other = &play->recipients[i];

        found |= strcmp(other->a_label, r->a_label) == 0 && other->said_ns > play->stage->calm_ns &&
                 strcmp(other->event, "deferred") == 0 &&
                 strcmp(other->status, outcome->status) == 0 &&
                 (outcome->kind == TABLE_NDR || strcmp(other->reason, outcome->reason) == 0);
    }
    return found;
}

bool table_play_settled(const struct table_play *play, char *out_why, size_t capacity)
{
    for (unsigned i = 0; i < play->recipient_count; i++) {
        const struct table_recipient *r = &play->recipients[i];
        const struct table_outcome *outcome = table_outcome_of(play->row, r->nth);
        bool waits = outcome->kind == TABLE_DEFER || table_has_step(play->row, "life");
        bool good = waits ? (r->excused && r->accepts > 0) || waits_as_it_should(play, r, outcome)
                    : outcome->kind == TABLE_NDR ? r->told_failed
                                                 : r->accepts > 0;

        if (r->message->state == TABLE_ACKED && !good) {
            snprintf(out_why, capacity, "row %s: recipient %u (%u): %s %s %s: %s", play->row->name,
                     r->nth, i, r->event, r->status, r->reason, r->text);
            return false;
        }
    }
    for (unsigned i = 0; !play->done && i < play->message_count; i++) {
        const struct table_message *m = play->messages[i];
        const struct table_recipient *r = &play->recipients[m->first];

        if (!m->replaced) {
            snprintf(out_why, capacity,
                     "row %s: step %u of %u, message %u: state %u%s, taken %u times, %s %s",
                     play->row->name, play->step, play->row->step_count, i, m->state,
                     m->over ? ", over" : "", r->accepts, r->event, r->reason);
        }
    }
    return play->done;
}
