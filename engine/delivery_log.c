// The delivery log's lines.
#include "engine/delivery_log.h"

#include "base/date.h"
#include "base/json.h"
#include "engine/queues.h"
#include "engine/worker.h"

#define PH_LOG_TEXT_MAX 512 // bytes of any one text; ours

static void begin_line(struct ph_worker *worker, struct ph_json *out, const char *event,
                       uint64_t id)
{
    char date[PH_DATE_TEXT_MAX];
    char id_text[PH_MESSAGE_ID_TEXT_MAX];

    ph_json_init(out, &worker->log);
    ph_json_open_object(out, NULL);
    ph_json_text(out, "time", ph_date_format_iso(ph_worker_wall_ms(worker), date));
    ph_json_text(out, "event", event);
    ph_json_text(out, "id", ph_message_id_format(id, id_text));
}

static void end_line(struct ph_worker *worker, struct ph_json *out)
{
    ph_json_close_object(out);
    ph_buf_append_char(&worker->log, '\n');
}

static void put_reason(struct ph_json *out, const struct ph_reason *reason)
{
    char status[PH_STATUS_TEXT_MAX];

    ph_json_text(out, "reason", ph_reason_token(reason->kind));
    ph_json_text(out, "status", ph_status_format(reason->status, status));
    ph_json_string(out, "text", ph_str_from(reason->sentence), PH_LOG_TEXT_MAX);
}

static void put_policy(struct ph_json *out, const struct ph_tls_policy *policy)
{
    ph_json_open_object(out, "policy");
    ph_json_text(out, "mode", policy->report ? "report" : "enforce");
    ph_json_text(out, "level", ph_tls_level_name(policy->level));
    if (policy->tls_domain_count > 0) {
        ph_json_open_array(out, "names");
        for (size_t i = 0; i < policy->tls_domain_count; i++) {
            ph_json_string(out, NULL, policy->tls_domains[i], PH_LOG_TEXT_MAX);
        }
        ph_json_close_array(out);
    }
    ph_json_string(out, "source", policy->source, PH_LOG_TEXT_MAX);
    ph_json_close_object(out);
}

static void put_dispatch(struct ph_json *out, const struct ph_dispatch *dispatch, uint32_t which)
{
    if (dispatch->recipients[which].recipient != NULL) {
        ph_json_string(out, "recipient", dispatch->recipients[which].recipient->address,
                       PH_LOG_TEXT_MAX);
    }
    ph_json_string(out, "connector", dispatch->connector, PH_LOG_TEXT_MAX);
    if (dispatch->spec != NULL) {
        ph_json_text(out, "site", dispatch->spec->best_host);
    }
    if (dispatch->content != NULL && dispatch->content->envelope.envid.len > 0) {
        ph_json_string(out, "envelope_id", dispatch->content->envelope.envid, PH_LOG_TEXT_MAX);
    }
}

void ph_delivery_log_attempt(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                             struct ph_str host, struct ph_str address, uint16_t port,
                             const char *step, const struct ph_reason *reason)
{
    struct ph_json out;

    begin_line(worker, &out, "attempt", dispatch->id);
    put_dispatch(&out, dispatch, 0);
    ph_json_string(&out, "host", host, PH_LOG_TEXT_MAX);
    if (address.len > 0) {
        ph_json_string(&out, "ip", address, PH_LOG_TEXT_MAX);
        ph_json_u64(&out, "port", port);
    }
    ph_json_text(&out, "step", step);
    ph_json_text(&out, "result", "failed");
    put_reason(&out, reason);
    put_policy(&out, dispatch->policy);
    end_line(worker, &out);
}

void ph_delivery_log_outcome(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                             uint32_t which, const char *event, const struct ph_reason *reason,
                             uint16_t attempts, uint64_t due_ms)
{
    const struct ph_client_recipient *answer = &dispatch->recipients[which];
    uint64_t now_ms = ph_worker_now_ms(worker);
    struct ph_json out;

    begin_line(worker, &out, event, dispatch->id);
    put_dispatch(&out, dispatch, which);
    if (dispatch->note != NULL) {
        ph_json_members(&out, ph_buf_str(&dispatch->note->json));
    }
    if (answer->code != 0) {
        ph_json_u64(&out, "reply", answer->code);
    }
    if (reason != NULL) {
        put_reason(&out, reason);
    } else {
        char status[PH_STATUS_TEXT_MAX];

        ph_json_text(&out, "status", ph_status_format(answer->status, status));
        ph_json_string(&out, "text", ph_str_from(answer->text), PH_LOG_TEXT_MAX);
    }
    ph_json_text(&out, "verified_by", dispatch->verified_by);
    put_policy(&out, dispatch->policy);
    if (dispatch->content != NULL) {
        ph_json_u64(&out, "size", dispatch->content->body_len);
    }
    ph_json_u64(&out, "attempts", attempts);
    ph_json_u64(&out, "queued_ms",
                now_ms > dispatch->arrival_ms ? now_ms - dispatch->arrival_ms : 0);
    ph_json_u64(&out, "attempt_ms", dispatch->attempt_ms);
    if (due_ms > 0) {
        char date[PH_DATE_TEXT_MAX];

        ph_json_text(&out, "next_attempt", ph_date_format_iso(due_ms, date));
    }
    ph_json_bool(&out, "ambiguous_resend", dispatch->ambiguous);
    end_line(worker, &out);
}

void ph_delivery_log_accepted(struct ph_worker *worker, uint64_t id,
                              const struct ph_envelope *envelope, uint64_t size)
{
    struct ph_json out;

    begin_line(worker, &out, "accepted", id);
    ph_json_string(&out, "sender", envelope->reverse_path, PH_LOG_TEXT_MAX);
    ph_json_u64(&out, "recipients", envelope->recipient_count);
    ph_json_string(&out, "connector", envelope->connector, PH_LOG_TEXT_MAX);
    ph_json_string(&out, "client", envelope->client_address, PH_LOG_TEXT_MAX);
    ph_json_u64(&out, "size", size);
    end_line(worker, &out);
}

void ph_delivery_log_bounced(struct ph_worker *worker, uint64_t id, uint64_t notification_id,
                             struct ph_str sender)
{
    char text[PH_MESSAGE_ID_TEXT_MAX];
    struct ph_json out;

    begin_line(worker, &out, "bounced", id);
    ph_json_string(&out, "recipient", sender, PH_LOG_TEXT_MAX);
    ph_json_text(&out, "notification", ph_message_id_format(notification_id, text));
    end_line(worker, &out);
}
