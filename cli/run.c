// `posthaste run`: the daemon. Threads, signals, the delivery log; all else is the engine's.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "cli/cli.h"
#include "cli/confine.h"
#include "cli/log_writer.h"
#include "engine/admin.h"
#include "engine/engine.h"
#include "engine/fetch.h"
#include "engine/protocol_log.h"
#include "engine/resolver.h"
#include "engine/worker.h"
#include "engine/world.h"

#define PH_RUN_ADDRESS_SPACE_MIN ((rlim_t)512 << 20) // ours; 300 MiB were enough for two workers
#define PH_RUN_CERTIFICATES_S 1  // how often our certificates' files are looked at; ours
#define PH_RUN_SPARE_FILES 1024  // of the limit of open files: not for next hops; ours
#define PH_RUN_OFFLOAD_THREADS 4 // for what blocks; ours

struct daemon;

struct run_thread {
    struct daemon *daemon;
    uint16_t index;
    pthread_t thread;
    int result;
    struct ph_buf error;
};

struct daemon {
    const char *config_path;
    const struct ph_config *started; // with it; what only a start brings into force is as it says
    struct ph_engine *engine;
    struct ph_offload *offload;
    struct ph_resolver *resolver;
    struct ph_fetch *fetch;
    struct ph_io **ios; // the workers', and behind them the one of this thread
    uint16_t worker_count;
    uint64_t connections_max;
    struct run_thread *threads;
    struct ph_log_writer *log;
    struct ph_log_writer *protocol_log;
    // Worker 0 opens when all others have, and closes come after all loops have ended.
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned opened;
    bool failed;
    unsigned ended;
    uint64_t certificates_seen;
};

static void log_lines(void *owner, uint16_t worker, struct ph_str lines)
{
    struct daemon *d = owner;

    (void)worker;
    ph_log_writer_put(d->log, lines);
}

static void log_protocol(void *owner, struct ph_str lines)
{
    struct daemon *d = owner;

    ph_log_writer_put(d->protocol_log, lines);
}

static void report_listening(void *owner, struct ph_str connector, const struct ph_endpoint *at)
{
    char text[PH_ENDPOINT_TEXT_MAX];

    (void)owner;
    printf("listening %.*s %s\n", PH_STR_ARG(connector), ph_endpoint_format(at, text));
    fflush(stdout);
}

static void report_recovery(void *owner, uint16_t log,
                            const struct ph_spool_recovery_report *report)
{
    (void)owner;
    if (report->messages > 0 || report->torn_bytes > 0 || report->quarantined_records > 0) {
        ph_log(report->quarantined_records > 0 ? PH_LOG_ERROR : PH_LOG_INFO,
               "spool log %u: %llu messages recovered, %llu bytes of a torn tail voided, %llu "
               "places damaged%s%s",
               log, (unsigned long long)report->messages, (unsigned long long)report->torn_bytes,
               (unsigned long long)report->quarantined_records,
               report->quarantined_records > 0 ? ": " : "", report->detail);
    }
}

static void log_each(enum ph_log_level level, struct ph_str text)
{
    struct ph_str line;

    while (ph_str_cut(&text, '\n', &line)) {
        ph_log(level, "%.*s", PH_STR_ARG(line));
    }
}

static void report_notice(void *owner, struct ph_str text)
{
    (void)owner;
    log_each(PH_LOG_WARN, text);
}

static void report_problem(void *owner, struct ph_str text)
{
    (void)owner;
    log_each(PH_LOG_ERROR, text);
}

// sd_notify(3): a datagram to the socket that systemd names.
static void notify_systemd(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (path == NULL || (path[0] != '/' && path[0] != '@') ||
        strlen(path) >= sizeof(address.sun_path)) {
        return;
    }
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
        close(fd);
    }
}

// --- workers' threads ---

static bool wait_for_turn_to_open(struct run_thread *t)
{
    struct daemon *d = t->daemon;
    bool may;

    pthread_mutex_lock(&d->lock);
    while (t->index == 0 && d->opened + 1 < d->worker_count && !d->failed) {
        pthread_cond_wait(&d->changed, &d->lock);
    }
    may = !d->failed;
    pthread_mutex_unlock(&d->lock);
    return may;
}

static void tell(struct daemon *d, unsigned *count, bool failed)
{
    pthread_mutex_lock(&d->lock);
    (*count)++;
    d->failed |= failed;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

static void wait_for_all(struct daemon *d, const unsigned *count)
{
    pthread_mutex_lock(&d->lock);
    while (*count < d->worker_count) {
        pthread_cond_wait(&d->changed, &d->lock);
    }
    pthread_mutex_unlock(&d->lock);
}

static void *work(void *argument)
{
    struct run_thread *t = argument;
    struct daemon *d = t->daemon;
    struct ph_io *io = d->ios[t->index];
    bool may = wait_for_turn_to_open(t);
    struct ph_worker *worker = ph_engine_worker(d->engine, t->index);

    t->result = may ? ph_engine_open_worker(d->engine, t->index, &t->error) : -ECANCELED;
    ph_log_writer_flush(d->log); // that mail is in doubt is told before any of it is sent again
    tell(d, &d->opened, t->result < 0);
    wait_for_all(d, &d->opened);
    while (!d->failed && !ph_engine_stopped(d->engine)) {
        ph_io_wait(io, ph_worker_turn(worker));
    }
    tell(d, &d->ended, false);
    wait_for_all(d, &d->ended);
    if (!d->failed) {
        ph_engine_close_worker(d->engine, t->index);
    }
    return NULL;
}

// --- signals ---

static struct ph_resolver_options resolver_options(const struct ph_config *config)
{
    return (struct ph_resolver_options){.forwarders = config->resolver.forwarders,
                                        .forwarder_count = config->resolver.forwarder_count,
                                        .local_data = config->resolver.local_data,
                                        .local_data_count = config->resolver.local_data_count,
                                        .trust_anchor = config->resolver.trust_anchor};
}

static void move_log(struct ph_log_writer *writer, struct ph_str path)
{
    if (!ph_log_writer_move(writer, path)) {
        ph_log(PH_LOG_ERROR, "the log %.*s can't be opened: %s; the old one stays",
               PH_STR_ARG(path), strerror(errno));
    }
}

// What isn't the engine's. False: said why, and nothing has changed.
static bool take_over(struct daemon *d, const struct ph_config *config)
{
    struct ph_resolver_options options = resolver_options(config);
    struct ph_buf text = {0};
    enum ph_log_level level;
    bool good = ph_resolver_renew(d->resolver, &options, &text);

    if (!good) {
        ph_log(PH_LOG_ERROR, "%.*s", PH_STR_ARG(ph_buf_str(&text)));
    } else {
        ph_config_told_at_start(d->started, config, &text);
        log_each(PH_LOG_WARN, ph_buf_str(&text));
        if (ph_log_level_from(config->log_level, &level)) {
            ph_log_set_level(level);
        }
        move_log(d->log, config->delivery_log);
        move_log(d->protocol_log, config->protocol_log);
    }
    ph_buf_deinit(&text);
    return good;
}

static void reload(struct daemon *d)
{
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config = ph_config_load(d->config_path, &errors, &warnings);

    notify_systemd("RELOADING=1");
    report_problem(d, ph_buf_str(&errors));
    log_each(PH_LOG_WARN, ph_buf_str(&warnings));
    if (config != NULL && take_over(d, config)) {
        ph_engine_reload(d->engine, config);
        ph_log(PH_LOG_INFO, "reloaded %s", d->config_path);
    } else {
        ph_log(PH_LOG_ERROR, "%s has errors: the configuration in force stays", d->config_path);
    }
    notify_systemd("READY=1");
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

// Renewed certificates of our own come into force by themselves.
static void look_at_certificates(struct daemon *d)
{
    struct ph_config *config = ph_engine_config(d->engine);
    struct ph_config *again = NULL;
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    uint64_t state;

    if (ph_config_certificates_changed(config, &state) && state != d->certificates_seen) {
        d->certificates_seen = state; // what can't be read is reported once
        again = ph_config_load_again(config, &errors, &warnings);
        report_problem(d, ph_buf_str(&errors));
        report_problem(d, ph_buf_str(&warnings));
    }
    if (again != NULL) {
        ph_engine_reload(d->engine, again);
        ph_log(PH_LOG_INFO, "our certificates were read again");
    }
    ph_config_release(again);
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

static void obey_signals(struct daemon *d, const sigset_t *signals)
{
    static const struct timespec pause = {.tv_sec = PH_RUN_CERTIFICATES_S};
    bool running = true;

    while (running) {
        int signal_number = sigtimedwait(signals, NULL, &pause);

        if (signal_number < 0) {
            look_at_certificates(d);
        } else if (signal_number == SIGHUP) {
            reload(d);
        } else if (signal_number == SIGUSR1) {
            ph_log_writer_reopen(d->log);
            ph_log_writer_reopen(d->protocol_log);
        } else {
            ph_log(PH_LOG_INFO, "stopping: what is in flight is finished or parked");
            notify_systemd("STOPPING=1");
            ph_engine_stop(d->engine);
            ph_resolver_hurry(d->resolver);
            running = false;
        }
    }
}

// --- start and end ---

static uint16_t worker_count_of(const struct ph_config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (config->workers > 0) {
        return (uint16_t)config->workers;
    }
    return cores > 0 && cores < PH_WORKERS_MAX ? (uint16_t)cores : 1;
}

// Returns how many connections to next hops the limit of open files allows; clients, logs and the
// spool have files too.
static uint64_t raise_file_limit(const struct ph_config *config)
{
    struct rlimit limit;
    uint64_t spare;
    uint64_t most;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return UINT64_MAX;
    }
    limit.rlim_cur = limit.rlim_max;
    (void)!setrlimit(RLIMIT_NOFILE, &limit);
    spare = limit.rlim_cur / 2 < PH_RUN_SPARE_FILES ? limit.rlim_cur / 2 : PH_RUN_SPARE_FILES;
    most = limit.rlim_cur - spare;
    if (most < config->max_outbound_connections) {
        ph_log(PH_LOG_WARN,
               "%llu open files are allowed: MaxOutboundConnections is %llu instead of %llu; raise "
               "the limit (LimitNOFILE=)",
               (unsigned long long)limit.rlim_cur, (unsigned long long)most,
               (unsigned long long)config->max_outbound_connections);
    }
    return most;
}

// The allocator doesn't survive a thread that begins without any memory.
static bool enough_address_space(void)
{
    struct rlimit limit;
    bool enough = getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur >= PH_RUN_ADDRESS_SPACE_MIN;

    if (!enough) {
        fprintf(stderr,
                "posthaste: %llu MiB of address space are allowed (RLIMIT_AS), at least %llu are "
                "needed; to bound its memory set MemoryLimit\n",
                (unsigned long long)(limit.rlim_cur >> 20),
                (unsigned long long)(PH_RUN_ADDRESS_SPACE_MIN >> 20));
    }
    return enough;
}

// Secrets have been read; nobody has been talked to. A kernel that can't filter is no reason not to
// deliver mail, a user that can't be had is.
static bool confine(const struct ph_config *config)
{
    struct ph_buf error = {0};
    bool good = ph_confine_become(config->user, &error);

    if (!good) {
        fprintf(stderr, "posthaste: %.*s\n", PH_STR_ARG(ph_buf_str(&error)));
    } else if (!ph_confine_calls(&error)) {
        ph_log(PH_LOG_WARN, "%.*s", PH_STR_ARG(ph_buf_str(&error)));
    }
    ph_buf_deinit(&error);
    return good;
}

static bool make_worlds(struct daemon *d, const struct ph_config *config)
{
    struct ph_resolver_options options = resolver_options(config);
    struct ph_buf error = {0};
    int result;

    d->resolver = ph_resolver_create(&options, &error);
    if (d->resolver == NULL) {
        fprintf(stderr, "posthaste: %.*s\n", PH_STR_ARG(ph_buf_str(&error)));
        ph_buf_deinit(&error);
        return false;
    }
    d->offload = ph_offload_create(PH_RUN_OFFLOAD_THREADS);
    d->fetch = ph_fetch_create();
    d->ios = ph_alloc((d->worker_count + 1U) * sizeof(struct ph_io *));
    result = ph_world_create(
        &(struct ph_world_options){
            .wanted = config->io_world,
            .threads = {.offload = d->offload, .resolver = d->resolver, .fetch = d->fetch}},
        d->ios, d->worker_count + 1U, &error);
    if (result < 0) {
        fprintf(stderr, "posthaste: %s%.*s\n",
                config->io_world == PH_IO_RING ? "IoWorld = ring, but io_uring can't be used: "
                                               : "",
                PH_STR_ARG(ph_buf_str(&error)));
    } else if (error.len > 0) {
        ph_log(PH_LOG_WARN, "io_uring can't be used, so I/O goes by epoll: %.*s",
               PH_STR_ARG(ph_buf_str(&error)));
    }
    ph_buf_deinit(&error);
    return result == 0;
}

static void unmake_worlds(struct daemon *d)
{
    for (uint16_t i = 0; d->ios != NULL && i <= d->worker_count; i++) {
        if (d->ios[i] != NULL) {
            d->ios[i]->vtable->destroy(d->ios[i]);
        }
    }
    free(d->ios);
    ph_fetch_destroy(d->fetch);
    ph_resolver_destroy(d->resolver);
    ph_offload_destroy(d->offload);
}

static int start_threads(struct daemon *d)
{
    int result = 0;

    d->threads = ph_alloc(d->worker_count * sizeof(*d->threads));
    for (uint16_t i = 0; i < d->worker_count; i++) {
        d->threads[i].daemon = d;
        d->threads[i].index = i;
        ph_thread_start(&d->threads[i].thread, work, &d->threads[i]);
    }
    wait_for_all(d, &d->opened);
    for (uint16_t i = 0; i < d->worker_count; i++) {
        if (d->threads[i].result < 0 && d->threads[i].error.len > 0) {
            fprintf(stderr, "posthaste: %.*s\n", PH_STR_ARG(ph_buf_str(&d->threads[i].error)));
        }
        result = d->threads[i].result < 0 ? d->threads[i].result : result;
    }
    return result;
}

static void join_threads(struct daemon *d)
{
    for (uint16_t i = 0; i < d->worker_count; i++) {
        pthread_join(d->threads[i].thread, NULL);
        ph_buf_deinit(&d->threads[i].error);
    }
    free(d->threads);
}

static int run(struct daemon *d, struct ph_config *config, const sigset_t *signals)
{
    struct ph_buf error = {0};
    struct ph_admin *admin = NULL;
    int result;

    result = ph_engine_create(&(struct ph_engine_options){.config = config,
                                                          .ios = d->ios,
                                                          .start_io = d->ios[d->worker_count],
                                                          .worker_count = d->worker_count,
                                                          .connections_max = d->connections_max,
                                                          .caches_off = config->tls_caches_off,
                                                          .log = log_lines,
                                                          .protocol = log_protocol,
                                                          .listening = report_listening,
                                                          .recovered = report_recovery,
                                                          .notice = report_notice,
                                                          .problem = report_problem,
                                                          .owner = d},
                              &d->engine, &error);
    if (result < 0) {
        fprintf(stderr, "posthaste: %.*s\n", PH_STR_ARG(ph_buf_str(&error)));
        ph_buf_deinit(&error);
        return PH_EXIT_INTERNAL;
    }
    result = start_threads(d);
    if (result == 0) {
        admin = ph_admin_create(d->engine, config, &error);
        if (admin == NULL) {
            ph_log(PH_LOG_WARN, "%.*s", PH_STR_ARG(ph_buf_str(&error)));
        }
        printf("ready\n");
        fflush(stdout);
        notify_systemd("READY=1");
        obey_signals(d, signals);
    }
    join_threads(d);
    ph_admin_destroy(admin);
    ph_engine_destroy(d->engine);
    ph_buf_deinit(&error);
    return result == 0 ? PH_EXIT_YES : PH_EXIT_INTERNAL;
}

static struct ph_log_writer *open_log(struct ph_str path, const char *header)
{
    struct ph_log_writer *writer = ph_log_writer_create(path, header);

    if (writer == NULL) {
        fprintf(stderr,
                "posthaste: the log %.*s can't be opened: %s; make its directory, and let the "
                "daemon's user write there\n",
                PH_STR_ARG(path), strerror(errno));
    }
    return writer;
}

int ph_cli_run(int argc, char **argv)
{
    struct ph_cli_options options;
    struct daemon d = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct ph_config *config;
    enum ph_log_level level;
    sigset_t signals;
    int result = PH_EXIT_INTERNAL;

    if (!ph_cli_options_read(argc, argv, &options) || options.argument_count > 0 || options.help) {
        printf("usage: posthaste run [-c FILE]\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); // a file at its limit is an error of the write
    config = ph_cli_config(options.config_path, true);
    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    if (ph_log_level_from(config->log_level, &level)) {
        ph_log_set_level(level);
    }
    if (!enough_address_space()) {
        ph_config_release(config);
        return PH_EXIT_INTERNAL;
    }
    d.connections_max = raise_file_limit(config);
    if (!confine(config)) {
        ph_config_release(config);
        return PH_EXIT_CONFIG;
    }
    d.config_path = options.config_path;
    d.started = config;
    d.worker_count = worker_count_of(config);
    d.log = open_log(config->delivery_log, "");
    d.protocol_log = open_log(config->protocol_log, PH_PROTOCOL_LOG_HEADER);
    if (d.log == NULL || d.protocol_log == NULL) {
        result = PH_EXIT_CONFIG;
    } else if (make_worlds(&d, config)) {
        ph_log(PH_LOG_INFO, "I/O by %s, %u workers, durability %s", d.ios[0]->vtable->name,
               d.worker_count, config->durability_os ? "os" : "commit");
        result = run(&d, config, &signals);
    }
    ph_log_writer_destroy(d.log);
    ph_log_writer_destroy(d.protocol_log);
    unmake_worlds(&d);
    ph_config_release(config);
    return result;
}
