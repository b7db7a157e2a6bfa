// `posthaste test`: what delivery would meet, up to MAIL. The engine itself runs, on a spool of its
// own with one message that never leaves, and tells of each address.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/tools.h"
#include "cli/trials.h"
#include "engine/engine.h"
#include "engine/fetch.h"
#include "engine/resolver.h"
#include "engine/router.h"
#include "engine/storing.h"
#include "engine/worker.h"
#include "engine/world.h"
#include "smtp/address.h"

#define SETTINGS_MAX 64
#define OFFLOAD_THREADS 2
#define STOP_TURNS_MAX 10000
#define TURN_WAIT_NS (20 * PH_NS_PER_MS)
#define BODY PH_STR("Subject: test\r\n\r\n")

struct test {
    const char *config_path;
    bool json;
    const char *connector; // NULL: the one that routing chooses
    const char *recipient; // NULL: any of the connector's
    struct ph_config_setting settings[SETTINGS_MAX];
    size_t setting_count;
    char domain[PH_DOMAIN_BYTES_MAX + 1];
    char address[PH_ADDRESS_BYTES_MAX + 1];
    char connector_name[256];
    struct ph_config *config;
    char directory[64];
    struct ph_offload *offload;
    struct ph_resolver *resolver;
    struct ph_fetch *fetch;
    struct ph_io *io;
    struct ph_engine *engine;
    struct ph_cli_trials trials;
    struct ph_reason reason; // of the queue, where nothing was tried
};

// --- what is asked ---

static bool read_setting(struct test *t, const char *text)
{
    struct ph_str rest = ph_str_from(text);
    struct ph_str key;

    if (ph_str_find_char(rest, '=') <= 0 || t->setting_count == SETTINGS_MAX ||
        !ph_str_cut(&rest, '=', &key)) {
        fprintf(stderr, "posthaste test: --set %s isn't KEY=VALUE; write --set RequireTLS=true\n",
                text);
        return false;
    }
    t->settings[t->setting_count++] =
        (struct ph_config_setting){.key = ph_str_trim(key), .value = ph_str_trim(rest)};
    return true;
}

static bool read_arguments(struct test *t, const struct ph_cli_options *options)
{
    for (int i = 0; i < options->argument_count; i++) {
        const char *argument = options->arguments[i];
        bool valued = strcmp(argument, "--connector") == 0 || strcmp(argument, "--set") == 0;

        if (valued && i + 1 == options->argument_count) {
            fprintf(stderr, "posthaste test: %s needs a value\n", argument);
            return false;
        }
        if (strcmp(argument, "--connector") == 0) {
            t->connector = options->arguments[++i];
        } else if (strcmp(argument, "--set") == 0) {
            if (!read_setting(t, options->arguments[++i])) {
                return false;
            }
        } else if (t->recipient != NULL || argument[0] == '-') {
            return false;
        } else {
            t->recipient = argument;
        }
    }
    return t->recipient != NULL || t->connector != NULL;
}

static const struct ph_send_connector *find(const struct ph_config *config, const char *name)
{
    for (size_t i = 0; i < config->send_connector_count; i++) {
        if (ph_str_eq_nocase(config->send_connectors[i].name, ph_str_from(name))) {
            return &config->send_connectors[i];
        }
    }
    return NULL;
}

// A domain that the connector carries, where no recipient was given.
static bool choose_domain(struct test *t, const struct ph_send_connector *connector)
{
    for (size_t i = 0; i < connector->address_space_count; i++) {
        if (!connector->address_spaces[i].all) {
            ph_str_copy(t->domain, sizeof(t->domain), connector->address_spaces[i].domain);
            return true;
        }
    }
    if (!connector->dns_routing) {
        ph_str_copy(t->domain, sizeof(t->domain), connector->smart_hosts[0].name);
        return true;
    }
    fprintf(
        stderr,
        "posthaste test: connector %s carries all domains; name a recipient too, whose MX hosts "
        "are tried\n",
        t->connector);
    return false;
}

static enum ph_exit choose_recipient(struct test *t, const struct ph_send_connector *connector)
{
    struct ph_address address;

    if (t->recipient == NULL) {
        if (!choose_domain(t, connector)) {
            return PH_EXIT_USAGE;
        }
        snprintf(t->address, sizeof(t->address), "postmaster@%.255s", t->domain);
    } else if (!ph_address_parse(ph_str_from(t->recipient), &address) ||
               !ph_domain_normalize(address.domain, t->domain)) {
        fprintf(stderr, "posthaste test: %s is no recipient; write user@example.org\n",
                t->recipient);
        return PH_EXIT_USAGE;
    } else {
        ph_str_copy(t->address, sizeof(t->address), ph_str_from(t->recipient));
    }
    return PH_EXIT_YES;
}

// Which connector: by the file as it stands. YES: t->connector_name is filled.
static enum ph_exit choose(struct test *t)
{
    struct ph_config *config = ph_cli_config(t->config_path, false);
    const struct ph_send_connector *connector = NULL;
    enum ph_exit result = PH_EXIT_YES;

    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    if (t->connector != NULL) {
        connector = find(config, t->connector);
        if (connector == NULL) {
            fprintf(stderr, "posthaste test: there is no SendConnector \"%s\" in %s\n",
                    t->connector, t->config_path);
            result = PH_EXIT_USAGE;
        }
    }
    if (result == PH_EXIT_YES) {
        result = choose_recipient(t, connector);
    }
    if (result == PH_EXIT_YES && connector == NULL &&
        ph_router_route(config, ph_str_from(t->domain), 0, &connector, &t->reason) !=
            PH_ROUTE_FOUND) {
        t->reason = ph_reason_make(PH_REASON_NO_CONNECTOR,
                                   "no send connector that is enabled matches %s; posthaste test "
                                   "--connector NAME %s tries one all the same",
                                   t->domain, t->address);
        result = PH_EXIT_UNDECIDED;
    }
    if (result == PH_EXIT_YES) {
        ph_str_copy(t->connector_name, sizeof(t->connector_name), connector->name);
    }
    ph_config_release(config);
    return result;
}

static bool load(struct test *t)
{
    struct ph_config_variation variation = {.connector = ph_str_from(t->connector_name),
                                            .settings = t->settings,
                                            .setting_count = t->setting_count};
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};

    t->config = ph_config_load_varied(t->config_path, &variation, &errors, &warnings);
    fprintf(stderr, "%.*s", PH_STR_ARG(ph_buf_str(&errors)));
    if (t->config != NULL) {
        t->config->spool_dir = ph_str_from(t->directory);
        t->config->min_free_percent = 0;
        t->config->min_free_bytes = 0;
    }
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
    return t->config != NULL;
}

// --- the engine ---

static void take_trial(void *owner, const struct ph_trial *trial)
{
    struct test *t = owner;

    ph_cli_trials_add(&t->trials, trial);
}

static void ignore_log(void *owner, uint16_t worker, struct ph_str lines)
{
    (void)owner, (void)worker, (void)lines;
}

static bool make_world(struct test *t)
{
    struct ph_buf error = {0};
    const struct ph_resolver_settings *settings = &t->config->resolver;
    bool good;

    t->resolver = ph_resolver_create(
        &(struct ph_resolver_options){.forwarders = settings->forwarders,
                                      .forwarder_count = settings->forwarder_count,
                                      .local_data = settings->local_data,
                                      .local_data_count = settings->local_data_count,
                                      .trust_anchor = settings->trust_anchor},
        &error);
    t->offload = ph_offload_create(OFFLOAD_THREADS);
    t->fetch = ph_fetch_create();
    good = t->resolver != NULL &&
           ph_world_create(
               &(struct ph_world_options){
                   .wanted = PH_IO_POLL,
                   .threads = {.offload = t->offload, .resolver = t->resolver, .fetch = t->fetch}},
               &t->io, 1, &error) == 0;
    if (!good) {
        fprintf(stderr, "posthaste test: %.*s\n", PH_STR_ARG(ph_buf_str(&error)));
    }
    ph_buf_deinit(&error);
    return good;
}

static bool start(struct test *t)
{
    struct ph_buf error = {0};
    bool good = ph_engine_create(&(struct ph_engine_options){.config = t->config,
                                                             .ios = &t->io,
                                                             .worker_count = 1,
                                                             .log = ignore_log,
                                                             .tried = take_trial,
                                                             .owner = t},
                                 &t->engine, &error) == 0 &&
                ph_engine_open_worker(t->engine, 0, &error) == 0;

    if (!good) {
        fprintf(stderr, "posthaste test: %.*s\n", PH_STR_ARG(ph_buf_str(&error)));
    }
    ph_buf_deinit(&error);
    return good;
}

// The message that is never sent: from nobody, so that nobody is told.
static bool submit(struct test *t)
{
    struct ph_worker *worker = ph_engine_worker(t->engine, 0);
    uint64_t now_ms = ph_worker_now_ms(worker);
    struct ph_envelope_recipient recipient = {.address = ph_str_from(t->address),
                                              .domain = ph_str_from(t->domain),
                                              .notify = PH_NOTIFY_NEVER};
    struct ph_envelope envelope = {.recipients = &recipient,
                                   .recipient_count = 1,
                                   .connector = PH_STR("test"),
                                   .priority = 1,
                                   .arrival_ms = now_ms,
                                   .expiry_ms = now_ms + t->config->retry.expiration_ms};

    return ph_storing_begin(worker, &(struct ph_storing_options){
                                        .id = ph_spool_take_id(worker->spool),
                                        .envelope = &envelope,
                                        .content = BODY,
                                        .size = BODY.len,
                                    }) == PH_SPOOL_OK;
}

// Its queue waits: everything was tried, or nothing could be.
static bool finished(struct test *t)
{
    struct ph_worker *worker = ph_engine_worker(t->engine, 0);
    struct ph_queue *queue;
    struct ph_queue *next;
    bool over = PH_COUNTER_READ(worker, failed) > 0; // ErrorPolicies made it so

    HASH_ITER(hh, worker->queues, queue, next)
    {
        if (queue->state == PH_QUEUE_RETRY || queue->connector == NULL || queue->unroutable) {
            over = true;
            t->reason = queue->last_error;
        }
    }
    return over;
}

static void turn(struct test *t)
{
    struct ph_worker *worker = ph_engine_worker(t->engine, 0);
    uint64_t deadline_ns = ph_worker_turn(worker);
    uint64_t latest_ns = t->io->now_ns + TURN_WAIT_NS;

    ph_io_wait(t->io, deadline_ns < latest_ns ? deadline_ns : latest_ns);
}

static void stop(struct test *t)
{
    ph_engine_stop(t->engine);
    for (unsigned i = 0; i < STOP_TURNS_MAX && !ph_engine_stopped(t->engine); i++) {
        turn(t);
    }
    ph_engine_close_worker(t->engine, 0);
}

static enum ph_exit run(struct test *t)
{
    if (!make_world(t) || !start(t) || !submit(t)) {
        return PH_EXIT_INTERNAL;
    }
    while (!finished(t)) {
        turn(t);
    }
    stop(t);
    if (t->trials.tried > 0 && t->trials.passed == 0) {
        t->reason = t->trials.reason;
    }
    ph_config_apply_error_policies(&t->config->send_connectors[0], &t->reason);
    return t->trials.passed > 0                 ? PH_EXIT_YES
           : ph_reason_is_permanent(&t->reason) ? PH_EXIT_NO
                                                : PH_EXIT_UNDECIDED;
}

static void clean_up(struct test *t)
{
    ph_engine_destroy(t->engine);
    if (t->io != NULL) {
        t->io->vtable->destroy(t->io);
    }
    ph_fetch_destroy(t->fetch);
    ph_resolver_destroy(t->resolver);
    ph_offload_destroy(t->offload);
    ph_config_release(t->config);
    ph_cli_trials_deinit(&t->trials);
    if (t->directory[0] != '\0') {
        ph_cli_remove_tree(t->directory);
    }
}

// --- the answer ---

static const char *verdict_of(enum ph_exit result)
{
    return result == PH_EXIT_YES ? "accept" : result == PH_EXIT_NO ? "reject" : "defer";
}

static void print_json(struct test *t, enum ph_exit result)
{
    struct ph_buf text = {0};
    struct ph_json out;
    char status[PH_STATUS_TEXT_MAX];

    ph_json_close_array(&t->trials.json);
    ph_json_init(&out, &text);
    ph_json_open_object(&out, NULL);
    ph_json_text(&out, "recipient", t->address);
    ph_json_text(&out, "domain", t->domain);
    ph_json_text(&out, "connector", t->connector_name);
    if (t->config != NULL) {
        struct ph_tls_policy policy = ph_config_policy(t->config, &t->config->send_connectors[0],
                                                       ph_str_from(t->domain), false);

        ph_json_text(&out, "level", ph_tls_level_name(ph_tls_policy_level(&policy)));
        ph_json_string(&out, "source", policy.source, 0);
    }
    ph_json_text(&out, "result", verdict_of(result));
    if (result != PH_EXIT_YES) {
        ph_json_text(&out, "reason", ph_reason_token(t->reason.kind));
        ph_json_text(&out, "status", ph_status_format(t->reason.status, status));
        ph_json_text(&out, "text", t->reason.sentence);
    }
    ph_json_u64(&out, "tried", t->trials.tried);
    ph_json_u64(&out, "accepted", t->trials.passed);
    ph_json_close_object(&out);
    // The addresses last: an array that is text already.
    printf("%.*s,\"addresses\":%.*s}\n", (int)text.len - 1, text.data,
           PH_STR_ARG(ph_buf_str(&t->trials.array)));
    ph_buf_deinit(&text);
}

static void print_text(struct test *t, enum ph_exit result)
{
    printf("mail for %s by connector %s\n", t->address, t->connector_name);
    if (t->config != NULL) {
        struct ph_tls_policy policy = ph_config_policy(t->config, &t->config->send_connectors[0],
                                                       ph_str_from(t->domain), false);

        printf("demands %s (%.*s)\n", ph_tls_level_name(ph_tls_policy_level(&policy)),
               PH_STR_ARG(policy.source));
    }
    printf("%.*s\n", PH_STR_ARG(ph_buf_str(&t->trials.text)));
    if (result == PH_EXIT_YES) {
        printf("would be delivered%s\n",
               t->trials.passed_clear == t->trials.passed ? ", in the clear" : "");
        if (t->trials.passed < t->trials.tried) {
            printf("but not by every address: %u of %u were refused\n",
                   t->trials.tried - t->trials.passed, t->trials.tried);
        }
    } else {
        printf("would be %s: %s: %s\n", result == PH_EXIT_NO ? "returned" : "deferred",
               ph_reason_token(t->reason.kind), t->reason.sentence);
    }
}

int ph_cli_test(int argc, char **argv)
{
    struct ph_cli_options options;
    struct test t = {0};
    enum ph_exit result;

    if (!ph_cli_options_read(argc, argv, &options) || options.help ||
        !read_arguments(&t, &options)) {
        printf("usage: posthaste test RECIPIENT | --connector NAME [RECIPIENT] "
               "[--set KEY=VALUE]… [-c FILE] [--json]\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    t.config_path = options.config_path;
    signal(SIGPIPE, SIG_IGN);
    ph_log_set_level(PH_LOG_ERROR);
    ph_cli_trials_init(&t.trials, options.json);
    result = choose(&t);
    if (result == PH_EXIT_YES) {
        char directory[] = "/tmp/posthaste-test-XXXXXX";

        if (mkdtemp(directory) == NULL) {
            fprintf(stderr, "posthaste test: no temporary directory: %s\n", strerror(errno));
            result = PH_EXIT_INTERNAL;
        } else {
            ph_str_copy(t.directory, sizeof(t.directory), ph_str_from(directory));
            result = load(&t) ? run(&t) : PH_EXIT_CONFIG;
        }
    }
    if (result <= PH_EXIT_UNDECIDED && options.json) {
        print_json(&t, result);
    } else if (result <= PH_EXIT_UNDECIDED) {
        print_text(&t, result);
    }
    clean_up(&t);
    return result;
}
