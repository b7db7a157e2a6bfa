// The delivery log's lines.
#include "engine/delivery_log.h"

#include <stdio.h>

#include "base/date.h"
#include "base/json.h"
#include "engine/queues.h"
#include "engine/worker.h"
#include "tls/digest.h"
#include "tls/mta_sts.h"

#define PH_LOG_TEXT_MAX 512 // bytes of any one text; ours

static size_t begin_line(struct ph_worker *worker, struct ph_json *out, const char *event,
                         uint64_t id)
{
    size_t start = worker->log.len;
    char date[PH_DATE_TEXT_MAX];
    char id_text[PH_MESSAGE_ID_TEXT_MAX];

    ph_json_init(out, &worker->log);
    ph_json_open_object(out, NULL);
    ph_json_text(out, "time", ph_date_format_iso(ph_worker_wall_ms(worker), date));
    ph_json_text(out, "event", event);
    ph_json_text(out, "id", ph_message_id_format(id, id_text));
    return start;
}

// Each line names its place in its worker's chain, and ends with a digest over the one before and
// itself: `log verify` finds what was altered or taken out.
static void end_line(struct ph_worker *worker, struct ph_json *out, size_t start)
{
    struct ph_log_chain *chain = &worker->log_chain;
    char digits[PH_STR_U64_DIGITS_MAX];
    char place[PH_LOG_PLACE_MAX + PH_STR_U64_DIGITS_MAX];
    size_t len;

    if (chain->next == 0) {
        // When the run began, in ms since 1970.
        snprintf(chain->place, sizeof(chain->place), "%llx.%u.",
                 (unsigned long long)ph_worker_wall_ms(worker), worker->index);
    }
    len = ph_str_copy(place, sizeof(place), ph_str_from(chain->place));
    ph_str_copy(place + len, sizeof(place) - len, ph_str_u64(++chain->next, digits));
    ph_json_text(out, "seq", place);
    ph_digest_chain(chain->digest, ph_str_after(ph_buf_str(&worker->log), start), chain->digest);
    ph_json_text(out, "chain", chain->digest);
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

// Who demands what: one entry a demand, with the place it comes from.
static void put_sources(struct ph_json *out, const struct ph_tls_policy *policy,
                        enum ph_tlsa_status dane)
{
    char text[PH_LOG_TEXT_MAX];
    size_t len = ph_str_copy(text, sizeof(text), ph_str_from(ph_tls_level_name(policy->level)));

    ph_json_open_array(out, "sources");
    len += ph_str_copy(text + len, sizeof(text) - len, PH_STR(": "));
    ph_str_copy(text + len, sizeof(text) - len, policy->source);
    ph_json_text(out, NULL, text);
    if (policy->domain_secure || policy->domain_secure_misrouted) {
        ph_json_text(out, NULL, "mutual TLS: TLSSendDomainSecureList");
    }
    if (policy->requiretls) {
        ph_json_text(out, NULL, "REQUIRETLS: the message");
    }
    if (policy->credentials_exact_host) {
        ph_json_text(out, NULL, "the smart host's name: BasicAuthRequireTLS");
    }
    if (dane == PH_TLSA_USABLE || dane == PH_TLSA_UNUSABLE) {
        ph_json_text(out, NULL, "DANE: the host's TLSA records");
    }
    if (ph_tls_policy_enforces_sts(policy)) {
        snprintf(text, sizeof(text), "MTA-STS: %s", policy->sts->domain);
        ph_json_string(out, NULL, ph_str_from(text), PH_LOG_TEXT_MAX);
    }
    if (policy->destination_waived) {
        ph_json_text(out, NULL,
                     "what the destination publishes is passed over: policy override, "
                     "or the sender's TLS-Required: No");
    }
    ph_json_close_array(out);
}

static const char *const dane_words[] = {[PH_TLSA_UNKNOWN] = "not-asked",
                                         [PH_TLSA_FAILED] = "failed",
                                         [PH_TLSA_USABLE] = "published",
                                         [PH_TLSA_UNUSABLE] = "unusable",
                                         [PH_TLSA_NONE] = "none"};

static void put_policy(struct ph_json *out, const struct ph_dispatch *dispatch,
                       const struct ph_session_note *note, enum ph_tlsa_status dane)
{
    const struct ph_tls_policy *policy = dispatch->policy;
    struct ph_str names[PH_TLS_DOMAINS_MAX];
    struct ph_str host = note != NULL ? ph_str_from(note->host) : PH_STR_NONE;
    size_t count = ph_tls_policy_names(policy, policy->level, dispatch->domain, host, names);

    ph_json_open_object(out, "policy");
    ph_json_text(out, "mode", policy->report ? "report" : "enforce");
    ph_json_text(out, "level", ph_tls_level_name(policy->level));
    if (policy->report) {
        ph_json_text(out, "enforced", ph_tls_level_name(ph_tls_policy_level(policy)));
    }
    ph_json_open_array(out, "names");
    for (size_t i = 0; i < count; i++) {
        if (names[i].len > 0) { // the host's, before there is one
            ph_json_string(out, NULL, names[i], PH_LOG_TEXT_MAX);
        }
    }
    ph_json_close_array(out);
    ph_json_text(out, "dane", dane_words[dane]);
    ph_json_text(out, "sts", policy->sts != NULL ? ph_sts_mode_name(policy->sts->mode) : "none");
    put_sources(out, policy, dane);
    ph_json_close_object(out);
}

static void put_proof(struct ph_json *out, const struct ph_dispatch *dispatch,
                      const struct ph_session_note *note)
{
    const struct ph_session_proof *proof = &dispatch->proof;

    ph_json_text(out, "verified_by", dispatch->verified_by);
    ph_json_text(out, "revocation", ph_revocation_name(proof->revocation));
    if (proof->chain_judged) {
        ph_json_text(out, "cert_chain",
                     proof->chain == PH_REASON_NONE ? "good" : ph_reason_token(proof->chain));
    }
    if (dispatch->connector.len > 0) {
        put_policy(out, dispatch, note, proof->dane);
    } else {
        ph_json_null(out, "policy"); // none has been chosen, so none is claimed
    }
    if (dispatch->would_defer != NULL) {
        ph_json_open_object(out, "would_defer");
        put_reason(out, dispatch->would_defer);
        ph_json_close_object(out);
    }
}

static void put_dispatch(struct ph_json *out, const struct ph_dispatch *dispatch, uint32_t which)
{
    if (dispatch->content != NULL && dispatch->content->envelope.envid.len > 0) {
        ph_json_string(out, "envelope_id", dispatch->content->envelope.envid, PH_LOG_TEXT_MAX);
    }
    if (dispatch->recipients[which].recipient != NULL) {
        ph_json_string(out, "recipient", dispatch->recipients[which].recipient->address,
                       PH_LOG_TEXT_MAX);
    }
    ph_json_string(out, "connector", dispatch->connector, PH_LOG_TEXT_MAX);
    ph_json_string(out, "rule", dispatch->policy->source, PH_LOG_TEXT_MAX);
    if (dispatch->spec != NULL) {
        ph_json_text(out, "site", dispatch->spec->best_host);
    }
}

static void put_times(struct ph_worker *worker, struct ph_json *out,
                      const struct ph_dispatch *dispatch)
{
    uint64_t now_ms = ph_worker_now_ms(worker);

    if (dispatch->content != NULL) {
        ph_json_u64(out, "size", dispatch->content->body_len);
    }
    ph_json_u64(out, "queued_ms",
                now_ms > dispatch->arrival_ms ? now_ms - dispatch->arrival_ms : 0);
}

void ph_delivery_log_attempt(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                             const struct ph_session_note *note, const struct ph_reason *reason)
{
    struct ph_json out;
    size_t start = begin_line(worker, &out, "attempt", dispatch->id);

    put_dispatch(&out, dispatch, 0);
    ph_json_members(&out, ph_buf_str(&note->json));
    ph_json_text(&out, "step", dispatch->step);
    ph_json_text(&out, "result", "refused");
    put_reason(&out, reason);
    put_proof(&out, dispatch, note);
    put_times(worker, &out, dispatch);
    end_line(worker, &out, start);
}

void ph_delivery_log_outcome(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                             uint32_t which, const char *event, const struct ph_reason *reason,
                             uint16_t attempts, uint64_t due_ms)
{
    const struct ph_client_recipient *answer = &dispatch->recipients[which];
    struct ph_json out;
    size_t start = begin_line(worker, &out, event, dispatch->id);

    put_dispatch(&out, dispatch, which);
    if (dispatch->note != NULL) {
        ph_json_members(&out, ph_buf_str(&dispatch->note->json));
    }
    if (dispatch->step != NULL) {
        ph_json_text(&out, "step", dispatch->step);
    }
    ph_json_text(&out, "result", event);
    if (answer->code != 0) {
        ph_json_u64(&out, "reply", answer->code);
    }
    if (reason != NULL) {
        put_reason(&out, reason);
    } else {
        char status[PH_STATUS_TEXT_MAX];

        ph_json_text(&out, "reason", ph_reason_token(PH_REASON_NONE));
        ph_json_text(&out, "status", ph_status_format(answer->status, status));
        ph_json_string(&out, "text", ph_str_from(answer->text), PH_LOG_TEXT_MAX);
    }
    put_proof(&out, dispatch, dispatch->note);
    put_times(worker, &out, dispatch);
    ph_json_u64(&out, "attempts", attempts);
    ph_json_u64(&out, "attempt_ms", dispatch->attempt_ms);
    if (due_ms > 0) {
        char date[PH_DATE_TEXT_MAX];

        ph_json_text(&out, "next_attempt", ph_date_format_iso(due_ms, date));
    }
    ph_json_bool(&out, "ambiguous_resend", dispatch->doubtful[which]);
    end_line(worker, &out, start);
}

void ph_delivery_log_describe(const struct ph_envelope *envelope, uint64_t size,
                              struct ph_buf *out_members)
{
    struct ph_json out;

    ph_json_init(&out, out_members);
    if (envelope->envid.len > 0) {
        ph_json_string(&out, "envelope_id", envelope->envid, PH_LOG_TEXT_MAX);
    }
    ph_json_string(&out, "sender", envelope->reverse_path, PH_LOG_TEXT_MAX);
    ph_json_u64(&out, "recipients", envelope->recipient_count);
    ph_json_string(&out, "connector", envelope->connector, PH_LOG_TEXT_MAX);
    ph_json_string(&out, "client", envelope->client_address, PH_LOG_TEXT_MAX);
    ph_json_u64(&out, "size", size);
}

void ph_delivery_log_accepted(struct ph_worker *worker, uint64_t id, struct ph_str members)
{
    struct ph_json out;
    size_t start = begin_line(worker, &out, "accepted", id);

    ph_json_members(&out, members);
    end_line(worker, &out, start);
}

void ph_delivery_log_bounced(struct ph_worker *worker, uint64_t id, uint64_t notification_id,
                             struct ph_str sender)
{
    char text[PH_MESSAGE_ID_TEXT_MAX];
    struct ph_json out;
    size_t start = begin_line(worker, &out, "bounced", id);

    ph_json_string(&out, "recipient", sender, PH_LOG_TEXT_MAX);
    ph_json_text(&out, "notification", ph_message_id_format(notification_id, text));
    end_line(worker, &out, start);
}

void ph_delivery_log_in_doubt(struct ph_worker *worker, uint64_t id, uint32_t recipient,
                              struct ph_str address, struct ph_str domain)
{
    struct ph_reason reason = ph_reason_make(
        PH_REASON_IN_DOUBT, "an attempt was under way when posthaste ended: the message may have "
                            "been delivered, and the next attempt may be a second delivery");
    struct ph_json out;
    size_t start = begin_line(worker, &out, "deferred", id);

    if (address.len > 0) {
        ph_json_string(&out, "recipient", address, PH_LOG_TEXT_MAX);
    } else {
        ph_json_u64(&out, "recipient_index", recipient);
        ph_json_string(&out, "domain", domain, PH_LOG_TEXT_MAX);
    }
    put_reason(&out, &reason);
    ph_json_bool(&out, "ambiguous_resend", true);
    end_line(worker, &out, start);
}
