// The engine: its workers and what they share.
#include "engine/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/keep_file.h"
#include "engine/guesses.h"
#include "engine/holds.h"
#include "engine/sources.h"
#include "engine/ticket_file.h"
#include "engine/sts_cache.h"
#include "engine/tlsrpt.h"
#include "engine/worker.h"

#define PH_ENGINE_MESSAGE_SEGMENT_BYTES (UINT64_C(64) << 20) // DESIGN: sealed at 64 MiB
#define PH_ENGINE_CONTENT_BYTES_MIN ((uint64_t)64 << 20) // of fresh bodies kept in memory a worker

#define PH_ENGINE_TICKETS_PER_WORKER 8192 // ours

struct ph_engine {
    struct ph_engine_options options;
    struct ph_config *config; // referenced; under the lock
    pthread_mutex_t lock;
    struct ph_spool_directory *directory;
    char *spool_dir;
    uint16_t log_count;
    struct ph_worker *workers;
    struct ph_sources *sources;
    struct ph_guesses *guesses;
    struct ph_holds *holds;
    struct ph_tickets *tickets; // of all workers
    struct ph_sts_cache *sts_cache;
    struct ph_tlsrpt *tlsrpt;
    _Atomic uint32_t sockets_sent[PH_WORKERS_MAX];
};

// What destinations were known to publish: without it they are asked anew.
static void load_sts(struct ph_engine *engine)
{
    const struct ph_engine_options *options = &engine->options;
    struct ph_io *io = options->start_io != NULL ? options->start_io : options->ios[0];
    struct ph_buf path = {0};
    struct ph_buf problems = {0};
    int64_t result;

    ph_buf_printf(&path, "%s/policies", engine->spool_dir);
    engine->sts_cache = ph_sts_cache_create(ph_buf_cstr(&path));
    result = ph_sts_cache_load(engine->sts_cache, io, &problems);
    if (result < 0) {
        ph_buf_printf(&problems, "%s can't be used: %s; policies are forgotten at a restart\n",
                      ph_buf_cstr(&path), strerror((int)-result));
    }
    if (problems.len > 0) {
        ph_engine_report_problem(engine, ph_buf_str(&problems));
    }
    ph_buf_deinit(&problems);
    ph_buf_deinit(&path);
}

static struct ph_io *start_io(struct ph_engine *engine)
{
    return engine->options.start_io != NULL ? engine->options.start_io : engine->options.ios[0];
}

static void load_tickets(struct ph_engine *engine)
{
    struct ph_buf problem = {0};

    engine->tickets =
        ph_tickets_create(engine->options.caches_off ? 0
                                                     : (size_t)PH_ENGINE_TICKETS_PER_WORKER *
                                                           engine->options.worker_count);
    ph_ticket_file_load(start_io(engine), engine->options.config->tls_ticket_key, engine->spool_dir,
                        engine->tickets, &problem);
    if (problem.len > 0) {
        ph_engine_report_problem(engine, ph_buf_str(&problem));
    }
    ph_buf_deinit(&problem);
}

struct ph_tickets *ph_engine_tickets(struct ph_engine *engine)
{
    return engine->tickets;
}

#define PH_ENGINE_TLSRPT_FILE "tlsrpt"
#define PH_ENGINE_TLSRPT_BYTES_MAX ((size_t)128 << 20) // ours

// What the process before counted for TLS reports. The file goes: after a crash a report sent
// already must not be sent again.
static void load_tlsrpt(struct ph_engine *engine)
{
    struct ph_io *io = start_io(engine);
    struct ph_buf path = {0};
    struct ph_buf text = {0};

    ph_buf_printf(&path, "%s/" PH_ENGINE_TLSRPT_FILE, ph_sts_cache_directory(engine->sts_cache));
    if (ph_keep_file_read(io, ph_buf_cstr(&path), PH_ENGINE_TLSRPT_BYTES_MAX, &text) == 0) {
        if (!ph_tlsrpt_load(engine->tlsrpt, ph_buf_str(&text), io->wall_ms)) {
            ph_buf_clear(&text);
            ph_buf_printf(&text, "%s is damaged: TLS reports begin anew\n", ph_buf_cstr(&path));
            ph_engine_report_problem(engine, ph_buf_str(&text));
        }
        ph_keep_file_remove(io, ph_buf_cstr(&path));
    }
    ph_buf_deinit(&text);
    ph_buf_deinit(&path);
}

static void save_tlsrpt(struct ph_engine *engine)
{
    struct ph_buf text = {0};
    int64_t result = 0;

    if (ph_tlsrpt_save(engine->tlsrpt, &text)) {
        result = ph_keep_file_write(start_io(engine), ph_sts_cache_directory(engine->sts_cache),
                                    PH_ENGINE_TLSRPT_FILE, ph_buf_str(&text));
    }
    if (result < 0) {
        ph_buf_clear(&text);
        ph_buf_printf(&text, "what was counted for TLS reports can't be kept: %s\n",
                      strerror((int)-result));
        ph_engine_report_problem(engine, ph_buf_str(&text));
    }
    ph_buf_deinit(&text);
}

static void load_holds(struct ph_engine *engine)
{
    struct ph_buf error = {0};

    engine->holds = ph_holds_create(engine->options.start_io, engine->spool_dir, &error);
    if (error.len > 0) {
        ph_engine_report_problem(engine, ph_buf_str(&error));
    }
    ph_buf_deinit(&error);
}

int ph_engine_create(const struct ph_engine_options *options, struct ph_engine **out,
                     struct ph_buf *error)
{
    struct ph_engine *engine = ph_alloc(sizeof(*engine));
    const struct ph_config *config = options->config;
    struct ph_buf path = {0};
    uint64_t guesses_seed;
    int result;

    PH_CHECK(options->worker_count > 0 && options->worker_count <= PH_WORKERS_MAX);
    engine->options = *options;
    // The array of worlds is borrowed for this call; the world for the end is kept.
    engine->options.start_io = start_io(engine);
    engine->config = ph_config_retain(options->config);
    pthread_mutex_init(&engine->lock, NULL);
    engine->log_count = options->worker_count;
    ph_buf_append(&path, config->spool_dir);
    engine->spool_dir = ph_strdup(ph_buf_cstr(&path));
    ph_buf_deinit(&path);
    result = ph_spool_directory_open(
        options->start_io != NULL ? options->start_io : options->ios[0], engine->spool_dir,
        config->spool_lock_timeout_ms, &engine->log_count, &engine->directory, error);
    if (result < 0) {
        ph_config_release(engine->config);
        free(engine->spool_dir);
        free(engine);
        return result;
    }
    engine->sources = ph_sources_create();
    ph_io_random(engine->options.start_io, &guesses_seed, sizeof(guesses_seed));
    engine->guesses = ph_guesses_create(guesses_seed);
    load_holds(engine);
    load_tickets(engine);
    load_sts(engine);
    engine->tlsrpt = ph_tlsrpt_create(config->tls_report_interval_ms);
    load_tlsrpt(engine);
    engine->workers = ph_alloc(options->worker_count * sizeof(struct ph_worker));
    for (uint16_t i = 0; i < options->worker_count; i++) {
        struct ph_worker *worker = &engine->workers[i];

        worker->index = i;
        worker->engine = engine;
        worker->io = options->ios[i];
        worker->config = ph_config_retain(engine->config);
        ph_mailbox_init(&worker->mailbox, worker->io);
    }
    *out = engine;
    return 0;
}

int ph_engine_open_worker(struct ph_engine *engine, uint16_t index, struct ph_buf *error)
{
    return ph_worker_open(&engine->workers[index], error);
}

struct ph_worker *ph_engine_worker(struct ph_engine *engine, uint16_t index)
{
    PH_CHECK(index < engine->options.worker_count);
    return &engine->workers[index];
}

uint16_t ph_engine_worker_count(const struct ph_engine *engine)
{
    return engine->options.worker_count;
}

uint16_t ph_engine_log_count(const struct ph_engine *engine)
{
    return engine->log_count;
}

bool ph_engine_only_tries(const struct ph_engine *engine)
{
    return engine->options.tried != NULL;
}

void ph_engine_report_trial(struct ph_engine *engine, const struct ph_trial *trial)
{
    engine->options.tried(engine->options.owner, trial);
}

uint64_t ph_engine_connections_max(const struct ph_engine *engine)
{
    return engine->options.connections_max > 0 ? engine->options.connections_max : UINT64_MAX;
}

bool ph_engine_caches_off(const struct ph_engine *engine)
{
    return engine->options.caches_off;
}

struct ph_spool_options ph_engine_spool_options(const struct ph_engine *engine, struct ph_io *io,
                                                uint16_t log)
{
    const struct ph_config *config = engine->options.config;
    uint64_t memory = config->memory_limit / 4 / engine->options.worker_count;
    uint64_t segment = engine->options.segment_bytes;

    return (struct ph_spool_options){
        .io = io,
        .directory = engine->spool_dir,
        .log = log,
        .lock_timeout_ms = config->spool_lock_timeout_ms,
        .durability_os = config->durability_os,
        .outcome_delay_ns = config->outcome_sync_delay_ms * PH_NS_PER_MS,
        .message_segment_bytes = segment > 0 ? segment : PH_ENGINE_MESSAGE_SEGMENT_BYTES,
        .min_free_percent = config->min_free_percent,
        .min_free_bytes = config->min_free_bytes,
        .content_memory_max =
            memory > PH_ENGINE_CONTENT_BYTES_MIN ? memory : PH_ENGINE_CONTENT_BYTES_MIN,
    };
}

void ph_engine_report_recovery(struct ph_engine *engine, uint16_t log,
                               const struct ph_spool_recovery_report *report)
{
    if (engine->options.recovered != NULL) {
        engine->options.recovered(engine->options.owner, log, report);
    }
}

void ph_engine_report_notice(struct ph_engine *engine, struct ph_str text)
{
    if (engine->options.notice != NULL) {
        engine->options.notice(engine->options.owner, text);
    }
}

void ph_engine_report_problem(struct ph_engine *engine, struct ph_str text)
{
    if (engine->options.problem != NULL) {
        engine->options.problem(engine->options.owner, text);
    }
}

struct ph_tlsrpt *ph_engine_tlsrpt(struct ph_engine *engine)
{
    return engine->tlsrpt;
}

struct ph_sts_cache *ph_engine_sts_cache(struct ph_engine *engine)
{
    return engine->sts_cache;
}

struct ph_holds *ph_engine_holds(struct ph_engine *engine)
{
    return engine->holds;
}

struct ph_guesses *ph_engine_guesses(struct ph_engine *engine)
{
    return engine->guesses;
}

struct ph_sources *ph_engine_sources(struct ph_engine *engine)
{
    return engine->sources;
}

void ph_engine_socket_sent(struct ph_engine *engine, uint16_t worker, int change)
{
    atomic_fetch_add(&engine->sockets_sent[worker], (uint32_t)change);
}

uint32_t ph_engine_sockets_sent(struct ph_engine *engine, uint16_t worker)
{
    return atomic_load(&engine->sockets_sent[worker]);
}

void ph_engine_log_lines(struct ph_engine *engine, uint16_t worker, struct ph_str lines)
{
    if (engine->options.log != NULL) {
        engine->options.log(engine->options.owner, worker, lines);
    }
}

void ph_engine_log_protocol(struct ph_engine *engine, struct ph_str lines)
{
    if (engine->options.protocol != NULL) {
        engine->options.protocol(engine->options.owner, lines);
    }
}

void ph_engine_report_listening(struct ph_engine *engine, struct ph_str connector,
                                const struct ph_endpoint *at)
{
    if (engine->options.listening != NULL) {
        engine->options.listening(engine->options.owner, connector, at);
    }
}

struct ph_config *ph_engine_config(struct ph_engine *engine)
{
    struct ph_config *config;

    pthread_mutex_lock(&engine->lock);
    config = ph_config_retain(engine->config);
    pthread_mutex_unlock(&engine->lock);
    return config;
}

static void call_all(struct ph_engine *engine,
                     void (*call)(struct ph_worker *worker, struct ph_mail_call *mail),
                     void *(*argument)(void *of), void *of)
{
    for (uint16_t i = 0; i < engine->options.worker_count; i++) {
        struct ph_mail_call *mail = ph_alloc(sizeof(*mail));

        mail->mail.kind = PH_MAIL_CALL;
        mail->call = call;
        mail->argument = argument != NULL ? argument(of) : NULL;
        ph_mailbox_post(&engine->workers[i].mailbox, &mail->mail);
    }
}

static void reconfigure(struct ph_worker *worker, struct ph_mail_call *mail)
{
    if (!worker->stopping) {
        ph_worker_reconfigure(worker, mail->argument);
    }
    ph_config_release(mail->argument);
    free(mail);
}

static void *retained(void *config)
{
    return ph_config_retain(config);
}

void ph_engine_reload(struct ph_engine *engine, struct ph_config *config)
{
    struct ph_config *old;

    pthread_mutex_lock(&engine->lock);
    old = engine->config;
    engine->config = ph_config_retain(config);
    pthread_mutex_unlock(&engine->lock);
    call_all(engine, reconfigure, retained, config);
    // Spool options are read from the first configuration: it stays until the engine goes.
    if (old != engine->options.config) {
        ph_config_release(old);
    }
}

static void stop(struct ph_worker *worker, struct ph_mail_call *mail)
{
    ph_worker_stop(worker);
    free(mail);
}

void ph_engine_stop(struct ph_engine *engine)
{
    call_all(engine, stop, NULL, NULL);
}

bool ph_engine_stopped(struct ph_engine *engine)
{
    bool stopped = true;

    for (uint16_t i = 0; i < engine->options.worker_count; i++) {
        stopped &= atomic_load(&engine->workers[i].stopped);
    }
    return stopped;
}

void ph_engine_close_worker(struct ph_engine *engine, uint16_t index)
{
    ph_worker_close(&engine->workers[index]);
}

void ph_engine_destroy(struct ph_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    ph_ticket_file_save(start_io(engine), engine->options.config->tls_ticket_key, engine->spool_dir,
                        engine->tickets);
    ph_tickets_release(engine->tickets);
    save_tlsrpt(engine);
    ph_spool_directory_close(engine->directory);
    ph_sources_destroy(engine->sources);
    ph_guesses_destroy(engine->guesses);
    ph_holds_destroy(engine->holds);
    ph_sts_cache_destroy(engine->sts_cache);
    ph_tlsrpt_destroy(engine->tlsrpt);
    if (engine->config != engine->options.config) {
        ph_config_release(engine->options.config);
    }
    ph_config_release(engine->config);
    pthread_mutex_destroy(&engine->lock);
    free(engine->spool_dir);
    free(engine->workers);
    free(engine);
}
