// Notifications to senders.
#include "engine/bounce.h"

#include <stdlib.h>

#include "engine/delivery_log.h"
#include "engine/storing.h"
#include "smtp/address.h"
#include "smtp/dsn.h"

static bool has_8bit(struct ph_str text)
{
    bool found = false;

    for (size_t i = 0; i < text.len; i++) {
        found |= (unsigned char)text.data[i] >= 0x80;
    }
    return found;
}

// To the original's sender, from nobody: a notification is never answered by another.
static bool store(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                  struct ph_dsn_options *options)
{
    const struct ph_envelope *original = &dispatch->content->envelope;
    struct iovec body = ph_content_beyond_marks(dispatch->content);
    char domain[PH_DOMAIN_BYTES_MAX + 1];
    char id_text[PH_MESSAGE_ID_TEXT_MAX];
    struct ph_address sender;
    struct ph_buf content = {0};
    uint64_t now_ms = ph_worker_now_ms(worker);
    uint64_t id = ph_spool_take_id(worker->spool);
    enum ph_spool_result result;

    if (!ph_address_parse(original->reverse_path, &sender) ||
        !ph_domain_normalize(sender.domain, domain)) {
        return true; // there is nobody to tell
    }
    options->id = ph_str_from(ph_message_id_format(id, id_text));
    options->reporting_mta = worker->config->hostname;
    options->from = worker->config->postmaster;
    options->wall_ms = ph_worker_wall_ms(worker);
    options->envelope = original;
    options->body = &body;
    options->body_count = 1;
    ph_dsn_build(options, &content);
    result = ph_storing_begin(
        worker,
        &(struct ph_storing_options){
            .id = id,
            .envelope =
                &(struct ph_envelope){
                    .reverse_path = PH_STR_NONE,
                    .envid = PH_STR_NONE,
                    .smtputf8 = original->smtputf8,
                    .requiretls = original->requiretls, // RFC 8689 §5
                    .has_8bit = has_8bit(ph_buf_str(&content)),
                    .body_type = PH_BODY_8BITMIME,
                    .sender = PH_STR("dsn"),
                    .connector = PH_STR("dsn"),
                    .client_name = PH_STR_NONE,
                    .client_address = PH_STR_NONE,
                    .arrival_ms = now_ms,
                    .expiry_ms = now_ms + worker->config->retry.expiration_ms,
                    .priority = 1,
                    .recipients = &(struct ph_envelope_recipient){.address = original->reverse_path,
                                                                  .domain = ph_str_from(domain),
                                                                  .orcpt = PH_STR_NONE,
                                                                  .notify = PH_NOTIFY_NEVER},
                    .recipient_count = 1,
                },
            .content = ph_buf_str(&content),
            .size = content.len,
            .own = true,
        });
    ph_buf_deinit(&content);
    if (result == PH_SPOOL_OK) {
        ph_delivery_log_bounced(worker, dispatch->id, id, original->reverse_path);
    }
    return result == PH_SPOOL_OK;
}

// Of mail that expired: what kept it.
static enum ph_reason_kind cause_of(const struct ph_worker *worker,
                                    const struct ph_dispatch *dispatch,
                                    const struct ph_bounce_item *item)
{
    const struct ph_recipient *r = ph_store_recipient(&worker->store, dispatch->slots[item->which]);
    enum ph_reason_kind last = dispatch->queue->last_error.kind != PH_REASON_NONE
                                   ? dispatch->queue->last_error.kind
                                   : (enum ph_reason_kind)r->last_kind;

    return item->reason.kind == PH_REASON_EXPIRED && last != PH_REASON_NONE ? last
                                                                            : item->reason.kind;
}

bool ph_bounce_send(struct ph_worker *worker, const struct ph_dispatch *dispatch,
                    const struct ph_bounce_item *items, uint32_t count)
{
    struct ph_dsn_recipient *told = ph_alloc(count * sizeof(*told));
    struct ph_dsn_options options = {.action = PH_DSN_FAILED, .recipients = told};
    bool good = true;

    for (uint32_t i = 0; i < count; i++) {
        const struct ph_client_recipient *answer = &dispatch->recipients[items[i].which];
        enum ph_reason_kind cause = cause_of(worker, dispatch, &items[i]);

        if (ph_dsn_wanted(&dispatch->content->envelope, answer->recipient, PH_DSN_FAILED)) {
            told[options.recipient_count++] = (struct ph_dsn_recipient){
                .recipient = answer->recipient,
                .status = ph_reason_own_status(cause, items[i].reason.status),
                .reason = cause,
                .code = answer->code,
                .last_attempt_ms = dispatch->purpose == PH_DISPATCH_DELIVER
                                       ? ph_worker_now_ms(worker)
                                       : dispatch->queue->last_retry_ms,
                .text = ph_str_from(items[i].reason.sentence),
                .remote = dispatch->note != NULL && answer->code != 0
                              ? ph_str_from(dispatch->note->host)
                              : PH_STR_NONE,
            };
        }
    }
    if (options.recipient_count > 0) {
        good = store(worker, dispatch, &options);
    }
    free(told);
    return good;
}

void ph_bounce_relayed(struct ph_worker *worker, const struct ph_dispatch *dispatch)
{
    struct ph_dsn_recipient *told = NULL;
    struct ph_dsn_options options = {.action = PH_DSN_RELAYED};

    for (uint32_t i = 0; i < dispatch->recipient_count; i++) {
        const struct ph_client_recipient *answer = &dispatch->recipients[i];

        if (answer->outcome == PH_RECIPIENT_DELIVERED &&
            ph_dsn_wanted(&dispatch->content->envelope, answer->recipient, PH_DSN_RELAYED)) {
            told = reallocarray(told, options.recipient_count + 1, sizeof(*told));
            PH_CHECK(told != NULL);
            told[options.recipient_count++] = (struct ph_dsn_recipient){
                .recipient = answer->recipient,
                .status = answer->status,
                .code = answer->code,
                .last_attempt_ms = ph_worker_now_ms(worker),
                .text = ph_str_from(answer->text),
                .remote = dispatch->note != NULL ? ph_str_from(dispatch->note->host) : PH_STR_NONE,
            };
        }
    }
    options.recipients = told;
    if (options.recipient_count > 0) {
        (void)store(worker, dispatch, &options); // without room it goes unsaid: the mail is there
    }
    free(told);
}

void ph_bounce_delayed(struct ph_worker *worker, const struct ph_dispatch *dispatch)
{
    const struct ph_envelope *envelope = &dispatch->content->envelope;
    const struct ph_message *message = ph_store_message(&worker->store, dispatch->message);
    struct ph_dsn_recipient *told = ph_alloc(envelope->recipient_count * sizeof(*told));
    struct ph_dsn_options options = {
        .action = PH_DSN_DELAYED,
        .retry_until_ms = envelope->expiry_ms,
        .recipients = told,
    };

    for (uint32_t slot = message->first_recipient; slot != PH_INDEX_NONE;) {
        const struct ph_recipient *r = ph_store_recipient(&worker->store, slot);

        if (r->place != PH_PLACE_DONE && r->index < envelope->recipient_count &&
            ph_dsn_wanted(envelope, &envelope->recipients[r->index], PH_DSN_DELAYED)) {
            const struct ph_queue *queue = ph_queues_at(worker, r->queue);
            const struct ph_reason *last = &queue->last_error;
            enum ph_reason_kind kind = (enum ph_reason_kind)r->last_kind;

            told[options.recipient_count++] = (struct ph_dsn_recipient){
                .recipient = &envelope->recipients[r->index],
                .status = last->status,
                .reason = last->kind != PH_REASON_NONE ? last->kind : kind,
                .last_attempt_ms = queue->last_retry_ms,
                .text = ph_str_from(last->kind != PH_REASON_NONE ? last->sentence
                                                                 : ph_reason_summary(kind)),
                .remote = PH_STR_NONE,
            };
        }
        slot = r->next_of_message;
    }
    if (options.recipient_count > 0) {
        (void)store(worker, dispatch, &options);
    }
    free(told);
}
