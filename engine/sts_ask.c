// One domain's MTA-STS policy, found out.
#include "engine/sts_ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fetch.h"
#include "engine/tlsrpt.h"
#include "engine/worker.h"

#define PH_STS_FETCH_MS UINT64_C(30000) // RFC 8461 §3.3 allows a minute; mail waits for it

static void on_record(struct ph_op *op);
static void on_fetched(struct ph_op *op);
static void on_kept(struct ph_op *op);

static struct ph_sts_cache *cache_of(const struct ph_worker *worker)
{
    return ph_engine_sts_cache(worker->engine);
}

void ph_sts_ask_start(struct ph_sts_ask *ask, struct ph_worker *worker, struct ph_str domain,
                      enum ph_sts_ask_how how)
{
    ask->worker = worker;
    ask->record = PH_STS_RECORD_NONE;
    ask->distrust = how == PH_STS_ASK_DISTRUST;
    ask->refresh = how == PH_STS_ASK_REFRESH;
    ask->policy = NULL;
    ask->id[0] = '\0';
    ph_str_copy(ask->domain, sizeof(ask->domain), domain);
    worker->asking_count++;
    TAILQ_INSERT_TAIL(&worker->asks, ask, link);
    ph_io_begin(worker->io, &ask->op);
    ph_op_init(&ask->question.op, on_record, ask);
    ask->question.rrtype = PH_RRTYPE_TXT;
    if (how == PH_STS_ASK_EXCEPTION ||
        snprintf(ask->question.name, sizeof(ask->question.name), "_mta-sts.%.*s",
                 PH_STR_ARG(domain)) >= (int)sizeof(ask->question.name)) {
        ask->question.status = PH_RESOLVE_NXDOMAIN;
        ph_io_begin(worker->io, &ask->question.op);
        ph_io_complete(worker->io, &ask->question.op, 0);
    } else {
        ph_io_resolve(worker->io, &ask->question);
    }
}

void ph_sts_ask_hurry_all(struct ph_worker *worker)
{
    struct ph_sts_ask *ask;

    TAILQ_FOREACH(ask, &worker->asks, link)
    {
        if (ask->fetch.op.state == PH_OP_PENDING) {
            ph_io_fetch_cancel(&ask->fetch);
        }
    }
}

void ph_sts_ask_deinit(struct ph_sts_ask *ask)
{
    ph_sts_policy_release(ask->policy);
    ph_buf_deinit(&ask->question.rdata);
    ph_buf_deinit(&ask->fetch.body);
}

static void end(struct ph_sts_ask *ask)
{
    struct ph_sts_answer answer;

    ph_sts_cache_look(cache_of(ask->worker), ph_str_from(ask->domain), ask->record, ask->id, false,
                      ph_worker_wall_ms(ask->worker), &answer);
    ask->policy = answer.policy;
    ask->waived_until_ms = answer.waived_until_ms;
    ask->worker->asking_count--;
    TAILQ_REMOVE(&ask->worker->asks, ask, link);
    ph_io_complete(ask->worker->io, &ask->op, 0);
}

static void fetch(struct ph_sts_ask *ask)
{
    snprintf(ask->url, sizeof(ask->url), "https://mta-sts.%s/.well-known/mta-sts.txt", ask->domain);
    ask->fetch = (struct ph_fetch_op){
        .url = ask->url,
        .https_only = true,
        .redirects_max = 0, // RFC 8461 §3.3
        .bytes_max = PH_STS_POLICY_BYTES_MAX,
        .timeout_ms = PH_STS_FETCH_MS,
    };
    ph_fetch_configure(&ask->fetch, ask->worker->config);
    ph_op_init(&ask->fetch.op, on_fetched, ask);
    ph_io_fetch(ask->worker->io, &ask->fetch);
}

static void on_record(struct ph_op *op)
{
    struct ph_sts_ask *ask = op->owner;
    struct ph_sts_answer answer;

    ask->record =
        op->result < 0 ? PH_STS_RECORD_FAILED : ph_sts_record_read(&ask->question, ask->id);
    ph_sts_cache_look(cache_of(ask->worker), ph_str_from(ask->domain), ask->record, ask->id,
                      ask->distrust, ph_worker_wall_ms(ask->worker), &answer);
    if (ask->refresh && ask->record != PH_STS_RECORD_FOUND && answer.policy != NULL) {
        memcpy(ask->id, answer.policy->id, sizeof(ask->id));
    }
    ph_sts_policy_release(answer.policy);
    if ((answer.fetch || (ask->refresh && ask->id[0] != '\0')) && !ask->worker->stopping) {
        fetch(ask);
    } else {
        end(ask);
    }
}

static const char *fetch_problem(const struct ph_fetch_op *fetch)
{
    struct ph_str type = ph_str_from(fetch->content_type);
    struct ph_str first;

    if (fetch->op.result < 0 || fetch->status != PH_FETCH_ANSWERED) {
        return fetch->detail[0] != '\0' ? fetch->detail : "the fetch could not be carried out";
    }
    if (fetch->http_status != 200) {
        return "the policy host did not answer 200";
    }
    if (ph_str_cut(&type, ';', &first)) {
        type = first;
    }
    return ph_str_eq_nocase(ph_str_trim(type), PH_STR("text/plain")) ? NULL
                                                                     : "it is not text/plain";
}

// A policy that can't be had is what a domain wants to hear of first (RFC 8460 §4.3.2.2).
static void report_failure(const struct ph_sts_ask *ask, bool unfetched, bool failed)
{
    if (failed) {
        ph_tlsrpt_count(ph_engine_tlsrpt(ask->worker->engine),
                        &(struct ph_tlsrpt_session){
                            .domain = ph_str_from(ask->domain),
                            .policy = PH_TLSRPT_STS,
                            .result = ask->fetch.status == PH_FETCH_TLS
                                          ? PH_TLSRPT_STS_WEBPKI_INVALID
                                      : unfetched ? PH_TLSRPT_STS_POLICY_FETCH_ERROR
                                                  : PH_TLSRPT_STS_POLICY_INVALID,
                            .sending_ip = PH_STR_NONE,
                            .receiving_host = PH_STR_NONE,
                            .receiving_ip = PH_STR_NONE,
                            .reason = PH_STR("sts-policy"),
                        },
                        ph_worker_wall_ms(ask->worker));
    }
}

static void on_fetched(struct ph_op *op)
{
    struct ph_sts_ask *ask = op->owner;
    struct ph_worker *worker = ask->worker;
    const char *problem = fetch_problem(&ask->fetch);
    struct ph_sts_policy *policy = NULL;
    struct ph_buf why = {0};

    if (problem != NULL) {
        ph_buf_append(&why, ph_str_from(problem));
    } else {
        policy = ph_sts_policy_parse(ph_str_from(ask->domain), ph_str_from(ask->id),
                                     ph_worker_wall_ms(worker), ph_buf_str(&ask->fetch.body), &why);
    }
    // A fetch that was ended because we stop says nothing about the policy.
    if (op->result != -ECANCELED) {
        report_failure(ask, problem != NULL, policy == NULL);
        ph_sts_cache_fetched(cache_of(worker), ph_str_from(ask->domain), policy, ph_buf_str(&why),
                             ph_worker_wall_ms(worker));
    }
    ph_buf_deinit(&why);
    if (policy == NULL) {
        end(ask);
    } else {
        struct ph_buf text = {0};
        char name[PH_DNS_NAME_BYTES_MAX];

        ph_sts_cache_format(policy, name, &text);
        ph_sts_policy_release(policy);
        ask->keep = ph_alloc(sizeof(*ask->keep));
        ph_op_init(&ask->keep->op, on_kept, ask);
        ph_keep_file_start(ask->keep, worker->io, ph_sts_cache_directory(cache_of(worker)),
                           ph_str_from(name), worker->index, &text);
    }
}

static void report_unkept(struct ph_worker *worker, const struct ph_keep_file *keep, int64_t result)
{
    struct ph_buf text = {0};

    ph_buf_printf(&text, "%s can't be written: %s; it is remembered until the next restart only\n",
                  keep->path, strerror((int)-result));
    ph_engine_report_problem(worker->engine, ph_buf_str(&text));
    ph_buf_deinit(&text);
}

static void on_kept(struct ph_op *op)
{
    struct ph_sts_ask *ask = op->owner;

    if (op->result < 0) {
        report_unkept(ask->worker, ask->keep, op->result);
    }
    free(ask->keep);
    ask->keep = NULL;
    end(ask);
}

// --- nobody waits ---

static void look_again(struct ph_worker *worker, struct ph_mail_call *mail)
{
    if (!worker->stopping) {
        ph_queues_look_again(worker, ph_str_from(mail->argument));
    }
    free(mail->argument);
    free(mail);
}

static void on_refreshed(struct ph_op *op)
{
    struct ph_sts_ask *ask = op->owner;

    for (uint16_t i = 0; ask->tell && i < ph_engine_worker_count(ask->worker->engine); i++) {
        struct ph_mail_call *mail = ph_alloc(sizeof(*mail));

        mail->mail.kind = PH_MAIL_CALL;
        mail->call = look_again;
        mail->argument = ph_strdup(ask->domain);
        ph_mailbox_post(&ph_worker_at(ask->worker, i)->mailbox, &mail->mail);
    }

    ph_sts_ask_deinit(ask);
    free(ask);
}

static void refresh(struct ph_worker *worker, struct ph_str domain, bool tell)
{
    struct ph_sts_ask *ask = ph_alloc(sizeof(*ask));

    ask->tell = tell;
    ph_op_init(&ask->op, on_refreshed, ask);
    ph_sts_ask_start(ask, worker, domain, PH_STS_ASK_REFRESH);
}

void ph_sts_refresh(struct ph_worker *worker, struct ph_str domain)
{
    refresh(worker, domain, true);
}

void ph_sts_refresh_due(struct ph_worker *worker)
{
    char domain[PH_DNS_NAME_BYTES_MAX];

    if (!worker->stopping &&
        ph_sts_cache_due(cache_of(worker), ph_worker_wall_ms(worker), domain)) {
        refresh(worker, ph_str_from(domain), false);
    }
}

struct waived_write {
    struct ph_keep_file keep;
    struct ph_worker *worker;
};

static void on_waived_kept(struct ph_op *op)
{
    struct waived_write *writing = op->owner;

    if (op->result < 0) {
        report_unkept(writing->worker, &writing->keep, op->result);
    }
    writing->worker->asking_count--;
    free(writing);
}

void ph_sts_keep_waived(struct ph_worker *worker)
{
    struct waived_write *writing = ph_alloc(sizeof(*writing));
    struct ph_buf text = {0};

    writing->worker = worker;
    worker->asking_count++;
    ph_sts_cache_format_waived(cache_of(worker), ph_worker_wall_ms(worker), &text);
    ph_op_init(&writing->keep.op, on_waived_kept, writing);
    ph_keep_file_start(&writing->keep, worker->io, ph_sts_cache_directory(cache_of(worker)),
                       PH_STR(PH_STS_WAIVED_FILE), worker->index, &text);
}
