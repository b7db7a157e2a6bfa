// The keeper of CRLs, on worker 0: who asks for which, and who gets the set.
#include "engine/revocation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/connection.h"
#include "engine/mailbox.h"
#include "engine/revocation_parts.h"
#include "tls/crls.h"
#include "tls/verify.h"

// A question on its way to worker 0.
struct question {
    struct ph_mail_call mail;
    uint16_t worker;
    uint64_t ticket;
    struct ph_buf urls; // each ended by '\n'
    struct ph_buf issuers;
};

static void post(struct ph_worker *to, void (*call)(struct ph_worker *, struct ph_mail_call *),
                 void *argument)
{
    struct ph_mail_call *mail = ph_alloc(sizeof(*mail));

    mail->mail.kind = PH_MAIL_CALL;
    mail->call = call;
    mail->argument = argument;
    ph_mailbox_post(&to->mailbox, &mail->mail);
}

// --- answers ---

static unsigned end_sessions(struct ph_worker *worker)
{
    struct ph_site *site;
    struct ph_site *next_site;
    unsigned count = 0;

    HASH_ITER(hh, worker->sites, site, next_site)
    {
        struct ph_connection *c;
        struct ph_connection *next;

        for (c = TAILQ_FIRST(&site->connections); c != NULL; c = next) {
            next = ph_connection_next(c);
            count += ph_connection_end_by_lists(c);
        }
    }
    return count;
}

// Cached verdicts and tickets are held to the set at each use; sessions that wait for mail, and
// mail that waits for a list, would not be looked at.
static void take_set(struct ph_worker *worker, struct ph_mail_call *mail)
{
    unsigned released;

    ph_tls_context_set_crls(worker->tls, mail->argument);
    ph_crls_release(mail->argument);
    PH_COUNT(worker, revocation_sessions_ended, end_sessions(worker));
    released = ph_queues_release_by_lists(worker);
    PH_COUNT(worker, revocation_queues_released, released);
    if (released > 0) {
        char text[128];

        snprintf(text, sizeof(text),
                 "a revocation list has changed: held mail of %u domain%s is tried again", released,
                 released == 1 ? "" : "s");
        ph_engine_report_notice(worker->engine, ph_str_from(text));
    }
    free(mail);
}

void ph_revocation_publish(struct ph_revocation_keeper *keeper)
{
    struct ph_engine *engine = keeper->worker->engine;
    struct ph_crl **list = NULL;
    struct revocation_source *source;
    struct revocation_source *next;
    struct ph_crls *crls;
    size_t count = 0;

    HASH_ITER(hh, keeper->sources, source, next)
    {
        size_t more = source->obsolete ? 0 : ph_crls_count(source->lists);

        list = reallocarray(list, count + more + 1, sizeof(struct ph_crl *));
        PH_CHECK(list != NULL);
        for (size_t i = 0; i < more; i++) {
            list[count++] = ph_crls_at(source->lists, i);
        }
    }
    crls = ph_crls_create(list, count);
    PH_COUNT_SET(keeper->worker, revocation_lists, count);
    for (uint16_t i = 0; i < ph_engine_worker_count(engine); i++) {
        post(ph_engine_worker(engine, i), take_set, ph_crls_retain(crls));
    }
    ph_crls_release(crls);
    free(list);
}

static void tell_settled(struct ph_worker *worker, struct ph_mail_call *mail)
{
    ph_connection_revocation_settled(worker, (uint64_t)(uintptr_t)mail->argument);
    free(mail);
}

static void answer(struct ph_revocation_keeper *keeper, struct revocation_wait *wait)
{
    // Behind the set that was posted before: the asker judges with it.
    post(ph_engine_worker(keeper->worker->engine, wait->worker), tell_settled,
         (void *)(uintptr_t)wait->ticket);
    free(wait);
}

void ph_revocation_settle(struct revocation_source *source)
{
    struct revocation_link *link;

    while ((link = STAILQ_FIRST(&source->links)) != NULL) {
        STAILQ_REMOVE_HEAD(&source->links, link);
        link->wait->open--;
        if (link->wait->open == 0) {
            answer(source->keeper, link->wait);
        }
        free(link);
    }
}

// --- sources ---

static struct revocation_source *find(struct ph_revocation_keeper *keeper, const char *name)
{
    struct revocation_source *source;

    HASH_FIND_STR(keeper->sources, name, source);
    return source;
}

static struct revocation_source *find_or_add(struct ph_revocation_keeper *keeper, const char *name,
                                             bool is_file)
{
    struct revocation_source *source = find(keeper, name);

    if (source == NULL && HASH_COUNT(keeper->sources) < PH_REVOCATION_SOURCES_MAX) {
        source = ph_revocation_source_create(keeper, name, is_file);
        source->used_ms = ph_worker_now_ms(keeper->worker);
        HASH_ADD_KEYPTR(hh, keeper->sources, source->name, strlen(source->name), source);
    }
    return source;
}

void ph_revocation_forget(struct revocation_source *source)
{
    struct ph_revocation_keeper *keeper = source->keeper;
    bool had = source->lists != NULL && !source->obsolete;

    HASH_DEL(keeper->sources, source);
    ph_revocation_source_destroy(source);
    if (had) {
        ph_revocation_publish(keeper);
    }
}

static void add_files(struct ph_revocation_keeper *keeper)
{
    const struct ph_config *config = keeper->worker->config;
    struct revocation_source *source;
    struct revocation_source *next;
    bool dropped = false;

    HASH_ITER(hh, keeper->sources, source, next)
    {
        source->obsolete = source->is_file;
    }
    for (size_t i = 0; i < config->revocation_file_count; i++) {
        source = find_or_add(keeper, config->revocation_files[i].data, true);
        if (source != NULL) {
            source->obsolete = false;
            ph_revocation_source_refresh(source);
        }
    }
    HASH_ITER(hh, keeper->sources, source, next)
    {
        if (source->obsolete) {
            dropped = true;
            if (source->step == REVOCATION_IDLE) {
                ph_revocation_forget(source);
            }
        }
    }
    if (dropped) {
        ph_revocation_publish(keeper);
    }
}

// --- questions ---

static void ask_source(struct ph_revocation_keeper *keeper, struct question *question,
                       const char *url, struct revocation_wait *wait)
{
    struct revocation_source *source = find_or_add(keeper, url, false);
    struct revocation_link *link;

    // A file's name is no URL: the same text can't be both.
    if (source == NULL || source->is_file) {
        return;
    }
    source->used_ms = ph_worker_now_ms(keeper->worker);
    if (source->step == REVOCATION_IDLE) { // nobody reads them now
        ph_buf_clear(&source->issuers);
        ph_buf_append(&source->issuers, ph_buf_str(&question->issuers));
    }
    if (!ph_revocation_source_settled(source)) {
        link = ph_alloc(sizeof(*link));
        link->wait = wait;
        wait->open++;
        STAILQ_INSERT_TAIL(&source->links, link, link);
        ph_revocation_source_refresh(source);
    }
}

static void take_question(struct ph_worker *worker, struct ph_mail_call *mail)
{
    struct question *question = PH_CONTAINER_OF(mail, struct question, mail);
    struct ph_revocation_keeper *keeper = worker->revocation;
    struct revocation_wait *wait = ph_alloc(sizeof(*wait));
    struct ph_str rest = ph_buf_str(&question->urls);
    struct ph_str url;

    *wait =
        (struct revocation_wait){.worker = question->worker, .ticket = question->ticket, .open = 1};
    while (keeper != NULL && !keeper->stopping && ph_str_cut(&rest, '\n', &url)) {
        char text[PH_FETCH_URL_BYTES_MAX];

        if (url.len < sizeof(text)) {
            ph_str_copy(text, sizeof(text), url);
            ask_source(keeper, question, text, wait);
        }
    }
    wait->open--;
    if (wait->open == 0) {
        post(ph_engine_worker(worker->engine, wait->worker), tell_settled,
             (void *)(uintptr_t)wait->ticket);
        free(wait);
    }
    ph_buf_deinit(&question->urls);
    ph_buf_deinit(&question->issuers);
    free(question);
}

uint64_t ph_revocation_ask(struct ph_worker *worker, const struct ph_chain *chain,
                           const struct ph_trust *trust)
{
    struct question *question = ph_alloc(sizeof(*question));
    uint64_t ticket = ++worker->revocation_tickets;

    question->mail.mail.kind = PH_MAIL_CALL;
    question->mail.call = take_question;
    question->worker = worker->index;
    question->ticket = ticket;
    ph_verify_revocation_sources(worker->tls, chain, trust, ph_worker_wall_ms(worker),
                                 &question->urls, &question->issuers);
    PH_COUNT(worker, revocation_waits, 1);
    ph_mailbox_post(&ph_engine_worker(worker->engine, 0)->mailbox, &question->mail.mail);
    return ticket;
}

// --- from start to end ---

static void directory_made(struct ph_op *op)
{
    (void)op; // it is there already, or nothing can be kept: a copy that can't be written says so
}

void ph_revocation_open(struct ph_worker *worker)
{
    struct ph_revocation_keeper *keeper = ph_alloc(sizeof(*keeper));
    struct ph_buf path = {0};

    keeper->worker = worker;
    worker->revocation = keeper;
    ph_op_init(&keeper->directory_op, directory_made, keeper);
    ph_buf_printf(&path, "%.*s/revocation", PH_STR_ARG(worker->config->spool_dir));
    ph_io_directory_create(worker->io, &keeper->directory_op, ph_buf_cstr(&path));
    ph_io_finish(worker->io, &keeper->directory_op);
    ph_buf_deinit(&path);
    add_files(keeper);
}

void ph_revocation_reconfigure(struct ph_worker *worker)
{
    if (worker->revocation != NULL) {
        add_files(worker->revocation);
    }
}

void ph_revocation_stop(struct ph_worker *worker)
{
    struct revocation_source *source;
    struct revocation_source *next;

    if (worker->revocation == NULL) {
        return;
    }
    worker->revocation->stopping = true;
    HASH_ITER(hh, worker->revocation->sources, source, next)
    {
        ph_wheel_cancel(&worker->wheel, &source->timer);
        if (source->step == REVOCATION_FETCH) {
            ph_io_fetch_cancel(&source->fetch);
        }
    }
}

bool ph_revocation_at_rest(const struct ph_worker *worker)
{
    return worker->revocation == NULL || worker->revocation->busy == 0;
}

void ph_revocation_close(struct ph_worker *worker)
{
    struct ph_revocation_keeper *keeper = worker->revocation;
    struct revocation_source *source;
    struct revocation_source *next;

    if (keeper == NULL) {
        return;
    }
    HASH_ITER(hh, keeper->sources, source, next)
    {
        HASH_DEL(keeper->sources, source);
        ph_revocation_source_destroy(source);
    }
    worker->revocation = NULL;
    free(keeper);
}
