// TLS reports on their way.
#include "engine/tlsrpt_send.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/base64.h"
#include "base/date.h"
#include "engine/fetch.h"
#include "engine/storing.h"
#include "engine/tlsrpt.h"
#include "engine/worker.h"
#include "smtp/address.h"
#include "tls/report_record.h"

#define PH_TLSRPT_SLOTS 8                          // reports under way at a time; ours
#define PH_TLSRPT_SPREAD_MAX_MS UINT64_C(14400000) // RFC 8460 §4.1: not all at midnight
#define PH_TLSRPT_POST_MS UINT64_C(60000)
#define PH_TLSRPT_POST_TRIES_MAX 3
#define PH_TLSRPT_POST_PAUSE_MS UINT64_C(300000)
#define PH_TLSRPT_ANSWER_BYTES_MAX 65536
#define PH_TLSRPT_BASE64_LINE 76 // RFC 2045 §6.8

struct slot {
    struct ph_tlsrpt_sender *sender;
    struct ph_tlsrpt_report *report; // NULL: free
    struct ph_resolve_op question;
    struct ph_report_targets targets;
    size_t target_next;
    unsigned tries;
    struct ph_fetch_op post;
    struct ph_timer pause;
    struct ph_buf json;
    struct ph_buf gzip;
    char id[96];
};

struct ph_tlsrpt_sender {
    struct ph_worker *worker;
    struct ph_timer timer;
    uint64_t period_ms;
    struct slot slots[PH_TLSRPT_SLOTS];
};

static void on_period(struct ph_timer *timer);
static void fill_slots(struct ph_tlsrpt_sender *sender);
static void on_record(struct ph_op *op);
static void on_posted(struct ph_op *op);
static void on_pause_over(struct ph_timer *timer);
static void next_target(struct slot *slot);

// --- when ---

// Some time after the period is over, at random: else every sender's reports come at once.
static void plan(struct ph_tlsrpt_sender *sender)
{
    struct ph_worker *worker = sender->worker;
    uint64_t wall_ms = ph_worker_wall_ms(worker);
    uint64_t spread_ms = sender->period_ms / 6 < PH_TLSRPT_SPREAD_MAX_MS ? sender->period_ms / 6
                                                                         : PH_TLSRPT_SPREAD_MAX_MS;
    uint64_t delay_ms = sender->period_ms - wall_ms % sender->period_ms +
                        ph_io_random_below(worker->io, spread_ms + 1);

    ph_wheel_set(&worker->wheel, &sender->timer, worker->io->now_ns + delay_ms * PH_NS_PER_MS);
}

struct ph_tlsrpt_sender *ph_tlsrpt_sender_create(struct ph_worker *worker)
{
    struct ph_tlsrpt_sender *sender = ph_alloc(sizeof(*sender));

    sender->worker = worker;
    sender->period_ms = worker->config->tls_report_interval_ms;
    ph_timer_init(&sender->timer, on_period, sender);
    for (size_t i = 0; i < PH_TLSRPT_SLOTS; i++) {
        sender->slots[i].sender = sender;
        ph_timer_init(&sender->slots[i].pause, on_pause_over, &sender->slots[i]);
    }
    plan(sender);
    return sender;
}

static void free_slot(struct slot *slot)
{
    ph_tlsrpt_report_destroy(slot->report);
    slot->report = NULL;
    ph_buf_deinit(&slot->question.rdata);
    ph_buf_deinit(&slot->post.body);
    ph_buf_deinit(&slot->json);
    ph_buf_deinit(&slot->gzip);
}

void ph_tlsrpt_sender_destroy(struct ph_tlsrpt_sender *sender)
{
    if (sender != NULL) {
        ph_wheel_cancel(&sender->worker->wheel, &sender->timer);
        for (size_t i = 0; i < PH_TLSRPT_SLOTS; i++) {
            ph_wheel_cancel(&sender->worker->wheel, &sender->slots[i].pause);
            free_slot(&sender->slots[i]);
        }
        free(sender);
    }
}

void ph_tlsrpt_sender_hurry(struct ph_tlsrpt_sender *sender)
{
    for (size_t i = 0; sender != NULL && i < PH_TLSRPT_SLOTS; i++) {
        if (sender->slots[i].post.op.state == PH_OP_PENDING) {
            ph_io_fetch_cancel(&sender->slots[i].post);
        }
    }
}

static void on_period(struct ph_timer *timer)
{
    struct ph_tlsrpt_sender *sender = timer->owner;

    fill_slots(sender);
    plan(sender);
}

static void fill_slots(struct ph_tlsrpt_sender *sender)
{
    struct ph_worker *worker = sender->worker;
    struct ph_tlsrpt *reports = ph_engine_tlsrpt(worker->engine);

    for (size_t i = 0; i < PH_TLSRPT_SLOTS && !worker->stopping; i++) {
        struct slot *slot = &sender->slots[i];

        if (slot->report != NULL) {
            continue;
        }
        slot->report = ph_tlsrpt_take(reports, ph_worker_wall_ms(worker));
        if (slot->report == NULL) {
            break;
        }
        slot->question = (struct ph_resolve_op){.rrtype = PH_RRTYPE_TXT};
        slot->target_next = 0;
        snprintf(slot->question.name, sizeof(slot->question.name), "_smtp._tls.%.*s",
                 PH_STR_ARG(ph_str_first(ph_tlsrpt_report_domain(slot->report),
                                         PH_DNS_NAME_BYTES_MAX - 16)));
        ph_op_init(&slot->question.op, on_record, slot);
        worker->asking_count++;
        ph_io_resolve(worker->io, &slot->question);
    }
}

static void slot_done(struct slot *slot)
{
    free_slot(slot);
    fill_slots(slot->sender);
}

// --- what ---

static bool compress_text(struct ph_str text, struct ph_buf *out)
{
    z_stream stream = {0};
    size_t bound;
    char *room;
    bool good;

    // 16: with gzip's header and trailer.
    if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        return false;
    }
    bound = deflateBound(&stream, text.len);
    room = ph_buf_reserve(out, bound);
    stream.next_in = (Bytef *)(uintptr_t)text.data;
    stream.avail_in = (uInt)text.len;
    stream.next_out = (Bytef *)room;
    stream.avail_out = (uInt)bound;
    good = room != NULL && deflate(&stream, Z_FINISH) == Z_STREAM_END;
    ph_buf_grew(out, good ? bound - stream.avail_out : 0);
    deflateEnd(&stream);
    return good;
}

static bool build(struct slot *slot)
{
    const struct ph_config *config = slot->sender->worker->config;
    char date[PH_DATE_TEXT_MAX];
    uint64_t chance;

    ph_io_random(slot->sender->worker->io, &chance, sizeof(chance));
    ph_date_format_iso(ph_tlsrpt_report_start_ms(slot->report), date);
    snprintf(slot->id, sizeof(slot->id), "%.10s_%016llx", date, (unsigned long long)chance);
    ph_tlsrpt_format(slot->report,
                     &(struct ph_tlsrpt_names){.organization = config->hostname,
                                               .contact = config->postmaster,
                                               .id = ph_str_from(slot->id)},
                     &slot->json);
    return compress_text(ph_buf_str(&slot->json), &slot->gzip);
}

static void on_record(struct ph_op *op)
{
    struct slot *slot = op->owner;

    slot->sender->worker->asking_count--;
    if (op->result < 0 || !ph_report_record_read(&slot->question, &slot->targets) || !build(slot)) {
        slot_done(slot);
    } else {
        next_target(slot);
    }
}

// --- by mail ---

static void put_header(const struct slot *slot, const char *to, struct ph_str id,
                       struct ph_buf *out)
{
    const struct ph_worker *worker = slot->sender->worker;
    struct ph_str host = worker->config->hostname;
    struct ph_str domain = ph_tlsrpt_report_domain(slot->report);
    char date[PH_DATE_TEXT_MAX];

    ph_buf_printf(out, "Date: %s\r\nFrom: <%.*s>\r\nTo: <%s>\r\n",
                  ph_date_format(ph_worker_wall_ms(worker), date),
                  PH_STR_ARG(worker->config->postmaster), to);
    ph_buf_printf(out, "Subject: Report Domain: %.*s Submitter: %.*s\r\n Report-ID: <%s@%.*s>\r\n",
                  PH_STR_ARG(domain), PH_STR_ARG(host), slot->id, PH_STR_ARG(host));
    ph_buf_printf(out, "Message-ID: <%.*s@%.*s>\r\nTLS-Report-Domain: %.*s\r\n", PH_STR_ARG(id),
                  PH_STR_ARG(host), PH_STR_ARG(domain));
    ph_buf_printf(out,
                  "TLS-Report-Submitter: %.*s\r\nTLS-Required: No\r\nAuto-Submitted: "
                  "auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; "
                  "report-type=\"tlsrpt\";\r\n\tboundary=\"=_%.*s\"\r\n\r\n",
                  PH_STR_ARG(host), PH_STR_ARG(id));
}

static void put_parts(const struct slot *slot, struct ph_str id, struct ph_buf *out)
{
    struct ph_str host = slot->sender->worker->config->hostname;
    struct ph_str domain = ph_tlsrpt_report_domain(slot->report);
    struct ph_buf encoded = {0};
    struct ph_str rest;

    ph_buf_printf(out,
                  "--=_%.*s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nThis is an "
                  "aggregate TLS report from %.*s about %.*s.\r\n\r\n",
                  PH_STR_ARG(id), PH_STR_ARG(host), PH_STR_ARG(domain));
    ph_buf_printf(out,
                  "--=_%.*s\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: "
                  "base64\r\nContent-Disposition: attachment;\r\n\tfilename=\"%.*s!%.*s!%llu!%llu"
                  ".json.gz\"\r\n\r\n",
                  PH_STR_ARG(id), PH_STR_ARG(host), PH_STR_ARG(domain),
                  (unsigned long long)ph_tlsrpt_report_start_ms(slot->report) / 1000,
                  (unsigned long long)ph_tlsrpt_report_end_ms(slot->report) / 1000);
    ph_base64_encode(ph_buf_str(&slot->gzip), &encoded);
    rest = ph_buf_str(&encoded);
    while (rest.len > 0) {
        ph_buf_append(out, ph_str_first(rest, PH_TLSRPT_BASE64_LINE));
        ph_buf_append(out, PH_STR("\r\n"));
        rest = ph_str_after(rest, PH_TLSRPT_BASE64_LINE);
    }
    ph_buf_deinit(&encoded);
    ph_buf_printf(out, "--=_%.*s--\r\n", PH_STR_ARG(id));
}

// From nobody, so that no notification comes back; and the domain's own policy is waived: a report
// of its failure must not fail by it (RFC 8460 §3).
static void send_mail(struct slot *slot, const char *to)
{
    struct ph_worker *worker = slot->sender->worker;
    uint64_t now_ms = ph_worker_now_ms(worker);
    uint64_t id = ph_spool_take_id(worker->spool);
    char id_text[PH_MESSAGE_ID_TEXT_MAX];
    char domain[PH_DOMAIN_BYTES_MAX + 1];
    struct ph_address address;
    struct ph_buf content = {0};
    struct ph_envelope_recipient recipient;

    if (!ph_address_parse(ph_str_from(to), &address) ||
        !ph_domain_normalize(address.domain, domain)) {
        return;
    }
    ph_message_id_format(id, id_text);
    put_header(slot, to, ph_str_from(id_text), &content);
    put_parts(slot, ph_str_from(id_text), &content);
    recipient = (struct ph_envelope_recipient){.address = ph_str_from(to),
                                               .domain = ph_str_from(domain),
                                               .orcpt = PH_STR_NONE,
                                               .notify = PH_NOTIFY_NEVER};
    // Without room in the spool this one is not sent: mail of others goes first.
    (void)!ph_storing_begin(
        worker,
        &(struct ph_storing_options){
            .id = id,
            .envelope =
                &(struct ph_envelope){.reverse_path = PH_STR_NONE,
                                      .envid = PH_STR_NONE,
                                      .tls_optional = true,
                                      .sender = PH_STR("tlsrpt"),
                                      .connector = PH_STR("tlsrpt"),
                                      .client_name = PH_STR_NONE,
                                      .client_address = PH_STR_NONE,
                                      .arrival_ms = now_ms,
                                      .expiry_ms = now_ms + worker->config->retry.expiration_ms,
                                      .recipients = &recipient,
                                      .recipient_count = 1},
            .content = ph_buf_str(&content),
            .size = content.len,
            .own = true,
        });
    ph_buf_deinit(&content);
}

// --- by HTTPS ---

static void post(struct slot *slot)
{
    struct ph_worker *worker = slot->sender->worker;

    slot->tries++;
    ph_buf_deinit(&slot->post.body);
    slot->post = (struct ph_fetch_op){
        .url = slot->targets.target[slot->target_next - 1].to,
        .post = ph_buf_str(&slot->gzip),
        .post_type = "application/tlsrpt+gzip",
        .https_only = true,
        .redirects_max = 0,
        .bytes_max = PH_TLSRPT_ANSWER_BYTES_MAX,
        .timeout_ms = PH_TLSRPT_POST_MS,
    };
    ph_fetch_configure(&slot->post, worker->config);
    ph_op_init(&slot->post.op, on_posted, slot);
    worker->asking_count++;
    ph_io_fetch(worker->io, &slot->post);
}

static void on_posted(struct ph_op *op)
{
    struct slot *slot = op->owner;
    struct ph_worker *worker = slot->sender->worker;
    bool taken = op->result >= 0 && slot->post.status == PH_FETCH_ANSWERED &&
                 slot->post.http_status / 100 == 2;

    worker->asking_count--;
    if (!taken && slot->tries < PH_TLSRPT_POST_TRIES_MAX && !worker->stopping) {
        ph_wheel_set(&worker->wheel, &slot->pause,
                     worker->io->now_ns + PH_TLSRPT_POST_PAUSE_MS * PH_NS_PER_MS);
    } else {
        next_target(slot);
    }
}

static void on_pause_over(struct ph_timer *timer)
{
    struct slot *slot = timer->owner;

    if (slot->sender->worker->stopping) {
        slot_done(slot);
    } else {
        post(slot);
    }
}

static void next_target(struct slot *slot)
{
    while (slot->target_next < slot->targets.count && !slot->sender->worker->stopping) {
        size_t which = slot->target_next++;

        if (slot->targets.target[which].mail) {
            send_mail(slot, slot->targets.target[which].to);
        } else {
            slot->tries = 0;
            post(slot);
            return;
        }
    }
    slot_done(slot);
}
