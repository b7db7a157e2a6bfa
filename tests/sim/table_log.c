// The delivery log, as it tells of the rows' recipients.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/address.h"
#include "tests/sim/table_parts.h"

// "u12@contoso59.com": each recipient of a row has a number of its own.
struct table_recipient *table_recipient_of(struct sim_stage *stage, struct ph_str address)
{
    ptrdiff_t at = ph_str_rfind_char(address, '@');
    char domain[PH_DOMAIN_BYTES_MAX + 1];
    uint64_t number;

    if (at < 1 || address.data[0] != 'u' ||
        !ph_str_to_u64(ph_str_first(ph_str_after(address, 1), (size_t)at - 1), &number) ||
        !ph_domain_normalize(ph_str_after(address, (size_t)at + 1), domain)) {
        return NULL;
    }
    for (unsigned i = 0; i < stage->table->row_count; i++) {
        struct table_play *play = stage->plays[i];

        if (play != NULL && number < play->recipient_count &&
            strcmp(play->recipients[number].a_label, domain) == 0) {
            return &play->recipients[number];
        }
    }
    return NULL;
}

static void take(json_t *line, const char *name, char *out, size_t capacity)
{
    const char *value = json_string_value(json_object_get(line, name));

    snprintf(out, capacity, "%s", value != NULL ? value : "");
}

static void note(struct table_recipient *r, json_t *line)
{
    take(line, "event", r->event, sizeof(r->event));
    take(line, "status", r->status, sizeof(r->status));
    take(line, "reason", r->reason, sizeof(r->reason));
    take(line, "text", r->text, sizeof(r->text));
    take(line, "verified_by", r->verified, sizeof(r->verified));
    take(line, "revocation", r->revocation, sizeof(r->revocation));
    take(json_object_get(line, "would_defer"), "reason", r->would, sizeof(r->would));
    r->said_ns = r->message->play->stage->sim->clock.now_ns;
}

// What no row allows, whatever befell it.
static void hold(struct table_recipient *r)
{
    struct table_play *play = r->message->play;
    const struct table_outcome *outcome = table_outcome_of(play->row, r->nth);
    bool ends = outcome->kind == TABLE_NDR;

    if (r->delivered > r->accepts) {
        table_fail(play, "logged as delivered and taken by nobody: recipient %u", r->nth);
    } else if (r->delivered > 0 && (outcome->kind == TABLE_DEFER || ends) && !r->excused &&
               !play->mended) {
        table_fail(play, "recipient %u is logged as delivered", r->nth);
    } else if (r->failed > 0 && !ends) {
        table_fail(play, "recipient %u failed for ever: %s %s: %s", r->nth, r->status, r->reason,
                   r->text);
    } else if (r->expired > 0 && play->stage->sim->options.table != SIM_TABLE_LIVES) {
        table_fail(play, "recipient %u expired before its time", r->nth);
    } else if (r->deferred > 0 && r->reason[0] == '\0') {
        table_fail(play, "a deferral without a reason");
    }
}

void table_log_line(struct sim_stage *stage, struct ph_str text)
{
    json_t *line = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    const char *event = json_string_value(json_object_get(line, "event"));
    const char *address = json_string_value(json_object_get(line, "recipient"));
    struct table_recipient *r;

    if (event == NULL) {
        sim_fail(stage->sim, "no line of a log: %.*s", PH_STR_ARG(text));
        json_decref(line);
        return;
    }
    sim_trace_text(stage->sim, "log", ph_str_from(event));
    r = address != NULL ? table_recipient_of(stage, ph_str_from(address)) : NULL;
    if (r != NULL && strcmp(event, "attempt") == 0) {
        r->attempts++;
    } else if (r != NULL && (strcmp(event, "delivered") == 0 || strcmp(event, "deferred") == 0 ||
                             strcmp(event, "failed") == 0 || strcmp(event, "expired") == 0)) {
        r->delivered += event[2] == 'l';
        r->deferred += event[2] == 'f';
        r->failed += event[2] == 'i';
        r->expired += event[2] == 'p';
        note(r, line);
        sim_trace_text(stage->sim, "of", ph_str_from(address));
        sim_trace_text(stage->sim, "because", ph_str_from(r->reason));
        hold(r);
    }
    json_decref(line);
}
