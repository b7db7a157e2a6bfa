// Blocks → values → the snapshot's parts that aren't connectors.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/endpoint.h"
#include "config/build_parts.h"
#include "config/snapshot_parts.h"
#include "config/value.h"
#include "smtp/address.h"

static struct ph_snapshot *of(const struct ph_builder *b)
{
    return PH_CONTAINER_OF(b->config, struct ph_snapshot, config);
}

static void keep(void *list, size_t *count, void *take)
{
    void ***at = list;

    *at = reallocarray(*at, *count + 1, sizeof(**at));
    PH_CHECK(*at != NULL);
    (*at)[(*count)++] = take;
}

void *ph_build_alloc(struct ph_builder *b, size_t size)
{
    void *memory = ph_alloc(size > 0 ? size : 1);

    keep(&of(b)->memory, &of(b)->memory_count, memory);
    return memory;
}

struct ph_str ph_build_str(struct ph_builder *b, struct ph_str text)
{
    char *copy = ph_build_alloc(b, text.len + 1);

    memcpy(copy, text.data, text.len);
    return (struct ph_str){.data = copy, .len = text.len};
}

void ph_build_keep_trust(struct ph_builder *b, struct ph_trust *trust)
{
    keep(&of(b)->trusts, &of(b)->trust_count, trust);
}

void ph_build_keep_identity(struct ph_builder *b, struct ph_tls_identity *identity)
{
    keep(&of(b)->identities, &of(b)->identity_count, identity);
}

static void keep_source(struct ph_snapshot *snapshot, const char *name, struct ph_str text)
{
    struct ph_config_source *source;

    snapshot->sources =
        reallocarray(snapshot->sources, snapshot->source_count + 1, sizeof(*snapshot->sources));
    PH_CHECK(snapshot->sources != NULL);
    source = &snapshot->sources[snapshot->source_count++];
    source->name = strdup(name);
    PH_CHECK(source->name != NULL);
    source->text = (struct ph_buf){0};
    ph_buf_append(&source->text, text);
}

void ph_build_watch(struct ph_builder *b, struct ph_str path)
{
    struct ph_snapshot *snapshot = of(b);

    snapshot->watched =
        reallocarray(snapshot->watched, snapshot->watched_count + 1, sizeof(*snapshot->watched));
    PH_CHECK(snapshot->watched != NULL);
    snapshot->watched[snapshot->watched_count++] = ph_build_str(b, path);
}

void ph_build_keep_server(struct ph_builder *b, struct ph_tls_server *server)
{
    keep(&of(b)->servers, &of(b)->server_count, server);
}

static void report(struct ph_buf *out, struct ph_config_position at, const char *id,
                   const char *key, const char *format, va_list arguments)
{
    char text[1024];

    vsnprintf(text, sizeof(text), format, arguments);
    ph_buf_printf(out, "%s:%u: %s %s: %s\n", at.file != NULL ? at.file : "posthaste.conf", at.line,
                  id, key, text);
}

void ph_build_error(struct ph_builder *b, struct ph_config_position at, const char *id,
                    const char *key, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    report(b->errors, at, id, key, format, arguments);
    va_end(arguments);
    b->error_count++;
}

void ph_build_warning(struct ph_builder *b, struct ph_config_position at, const char *id,
                      const char *key, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    report(b->warnings, at, id, key, format, arguments);
    va_end(arguments);
}

struct ph_str ph_build_source(struct ph_builder *b, const struct ph_config_block *block)
{
    struct ph_buf text = {0};
    struct ph_str kept;

    ph_buf_printf(&text, "%s:%u %.*s %.*s", block->at.file, block->at.line, PH_STR_ARG(block->type),
                  PH_STR_ARG(block->label));
    kept = ph_build_str(b, ph_buf_str(&text));
    ph_buf_deinit(&text);
    return kept;
}

void ph_build_check_label(struct ph_builder *b, const struct ph_config_block *block,
                          const char *example)
{
    struct ph_str label = block->label;
    char type[64];
    bool good = label.len > 0 && label.len <= PH_CONFIG_LABEL_BYTES_MAX;

    for (size_t i = 0; i < label.len; i++) {
        good &= (unsigned char)label.data[i] >= 0x20 && label.data[i] != 0x7f;
    }
    if (!good) {
        ph_str_copy(type, sizeof(type), block->type);
        ph_build_error(b, block->at, "C17", type,
                       "needs a name of 1 to %d bytes without control characters; write %s "
                       "\"%s\" {",
                       PH_CONFIG_LABEL_BYTES_MAX, type, example);
    }
}

bool ph_build_file(struct ph_builder *b, const struct ph_value *value, struct ph_str path,
                   const char *id, const char *key, struct ph_str *out_text, unsigned *out_mode)
{
    struct ph_buf text = {0};
    struct ph_buf error = {0};
    unsigned mode = 0;
    char name[4096];
    bool good;

    ph_str_copy(name, sizeof(name), path);
    good = b->files != NULL && b->files->read(b->files->owner, name, &text, &mode, &error);
    if (good) {
        *out_text = ph_build_str(b, ph_buf_str(&text));
        if (out_mode != NULL) {
            *out_mode = mode;
        }
    } else {
        ph_build_error(b, value->at, id, key, "%s can't be read (%.*s); name a file that can", name,
                       PH_STR_ARG(error.len > 0 ? ph_buf_str(&error) : PH_STR("no files here")));
    }
    ph_buf_deinit(&text);
    ph_buf_deinit(&error);
    return good;
}

// --- the blocks that aren't connectors ---

static struct ph_config_block *only_block(struct ph_builder *b, enum ph_block_kind kind)
{
    struct ph_config_block *found = NULL;

    for (size_t i = 1; i < b->tree.block_count; i++) {
        struct ph_config_block *block = &b->tree.blocks[i];

        if (!ph_str_eq_nocase(block->type, ph_str_from(ph_block_name(kind)))) {
            continue;
        }
        if (found != NULL) {
            ph_build_error(b, block->at, "C24", ph_block_name(kind),
                           "there is one at %s:%u already; put all its keys there", found->at.file,
                           found->at.line);
        } else {
            found = block;
        }
    }
    return found;
}

static uint64_t machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long size = sysconf(_SC_PAGESIZE);

    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_C(1) << 30;
}

// The daemon makes the file where there is none.
static void build_ticket_key(struct ph_builder *b, const struct ph_value *value)
{
    struct ph_buf text = {0};
    struct ph_buf unused = {0};
    unsigned mode = 0;
    char name[4096];

    b->config->tls_ticket_key = value->text;
    if (value->text.len == 0 || b->files == NULL) {
        return;
    }
    ph_str_copy(name, sizeof(name), value->text);
    if (b->files->read(b->files->owner, name, &text, &mode, &unused)) {
        if ((mode & 077) != 0) {
            ph_build_error(b, value->at, "C20", "TlsTicketKey",
                           "%s can be read by others; its mode must be 0600", name);
        } else if (text.len != 32) {
            ph_build_error(b, value->at, "C20", "TlsTicketKey",
                           "%s does not hold 32 random bytes; remove it, and one is made", name);
        }
    }
    ph_buf_deinit(&text);
    ph_buf_deinit(&unused);
}

static void build_global(struct ph_builder *b)
{
    struct ph_config *config = b->config;
    const struct ph_value *v = b->global;
    char host[256] = "localhost";

    config->hostname = v[PH_GLOBAL_HOSTNAME].text;
    if (config->hostname.len == 0) {
        (void)!gethostname(host, sizeof(host) - 1);
        config->hostname = ph_build_str(b, ph_str_from(host));
    }
    config->spool_dir = v[PH_GLOBAL_SPOOL_DIR].text;
    config->workers = (uint32_t)v[PH_GLOBAL_WORKERS].number;
    config->io_world = (enum ph_io_world)v[PH_GLOBAL_IO_WORLD].number;
    config->durability_os = v[PH_GLOBAL_DURABILITY].number == 1;
    config->tls_caches_off = v[PH_GLOBAL_TLS_CACHES].number == 1;
    if (config->tls_caches_off) {
        ph_build_warning(b, v[PH_GLOBAL_TLS_CACHES].at, "W19", "TlsCaches",
                         "off is for laboratories: every certificate chain is verified anew and no "
                         "TLS session is resumed");
    }
    config->tls_report_interval_ms = v[PH_GLOBAL_TLS_REPORT_INTERVAL].number;
    config->outcome_sync_delay_ms = v[PH_GLOBAL_OUTCOME_SYNC_DELAY].number;
    build_ticket_key(b, &v[PH_GLOBAL_TLS_TICKET_KEY]);
    config->revocation_refresh_ms = v[PH_GLOBAL_REVOCATION_REFRESH].number;
    config->shutdown_timeout_ms = v[PH_GLOBAL_SHUTDOWN_TIMEOUT].number;
    config->spool_lock_timeout_ms = v[PH_GLOBAL_SPOOL_LOCK_TIMEOUT].number;
    config->min_free_percent =
        v[PH_GLOBAL_MIN_FREE_SPACE].percent ? (uint32_t)v[PH_GLOBAL_MIN_FREE_SPACE].number : 10;
    config->memory_limit = v[PH_GLOBAL_MEMORY_LIMIT].percent
                               ? machine_memory() / 100 * v[PH_GLOBAL_MEMORY_LIMIT].number
                               : v[PH_GLOBAL_MEMORY_LIMIT].number;
    config->user = v[PH_GLOBAL_USER].text;
    config->postmaster = v[PH_GLOBAL_POSTMASTER].text;
    if (config->postmaster.len == 0) {
        struct ph_buf text = {0};

        ph_buf_printf(&text, "postmaster@%.*s", PH_STR_ARG(config->hostname));
        config->postmaster = ph_build_str(b, ph_buf_str(&text));
        ph_buf_deinit(&text);
    }
}

static void refuse_wildcards(struct ph_builder *b, const struct ph_value *value, const char *key)
{
    for (size_t i = 0; i < value->word_count; i++) {
        if (ph_str_find_char(value->words[i], '*') >= 0) {
            ph_build_error(b, value->at, "C11", key,
                           "%.*s has a wildcard, which Exchange forbids; list each domain",
                           PH_STR_ARG(value->words[i]));
        }
    }
}

static void build_transport(struct ph_builder *b)
{
    struct ph_config *config = b->config;
    const struct ph_value *v = b->transport;

    config->max_per_domain_outbound_connections = v[PH_TRANSPORT_MAX_PER_DOMAIN].number;
    config->max_outbound_connections = v[PH_TRANSPORT_MAX_OUTBOUND].number;
    if (config->max_per_domain_outbound_connections > config->max_outbound_connections) {
        ph_build_error(b, v[PH_TRANSPORT_MAX_PER_DOMAIN].at, "C18",
                       "MaxPerDomainOutboundConnections",
                       "%llu is more than MaxOutboundConnections (%llu); write a smaller number",
                       (unsigned long long)config->max_per_domain_outbound_connections,
                       (unsigned long long)config->max_outbound_connections);
    }
    refuse_wildcards(b, &v[PH_TRANSPORT_SEND_SECURE], "TLSSendDomainSecureList");
    refuse_wildcards(b, &v[PH_TRANSPORT_RECEIVE_SECURE], "TLSReceiveDomainSecureList");
    config->send_domain_secure = v[PH_TRANSPORT_SEND_SECURE].words;
    config->send_domain_secure_count = v[PH_TRANSPORT_SEND_SECURE].word_count;
    config->receive_domain_secure = v[PH_TRANSPORT_RECEIVE_SECURE].words;
    config->receive_domain_secure_count = v[PH_TRANSPORT_RECEIVE_SECURE].word_count;
}

enum { QUEUE_RETRY_EXCHANGE, QUEUE_RETRY_EXPONENTIAL }; // as RetrySchedule lists them

static void build_queue(struct ph_builder *b)
{
    struct ph_value v[PH_QUEUE_KEY_COUNT];
    struct ph_retry_series *retry = &b->config->retry;

    ph_build_values(b, PH_BLOCK_QUEUE, only_block(b, PH_BLOCK_QUEUE), v);
    *retry = (struct ph_retry_series){
        .glitch_count = (uint32_t)v[PH_QUEUE_KEY_GLITCH_COUNT].number,
        .glitch_ms = v[PH_QUEUE_KEY_GLITCH_INTERVAL].number,
        .transient_count = (uint32_t)v[PH_QUEUE_KEY_TRANSIENT_COUNT].number,
        .transient_ms = v[PH_QUEUE_KEY_TRANSIENT_INTERVAL].number,
        .later_ms = v[PH_QUEUE_KEY_LATER_INTERVAL].number,
        .message_ms = v[PH_QUEUE_KEY_MESSAGE_RETRY].number,
        .exponential_first_ms = v[PH_QUEUE_KEY_RETRY_SCHEDULE].number == QUEUE_RETRY_EXPONENTIAL
                                    ? v[PH_QUEUE_KEY_RETRY_FIRST].number
                                    : 0,
        .exponential_last_ms = v[PH_QUEUE_KEY_RETRY_LAST].number,
        .expiration_ms = v[PH_QUEUE_KEY_EXPIRATION].number,
        .delay_notification_ms = v[PH_QUEUE_KEY_DELAY_NOTIFICATION].number,
    };
    b->config->delay_dsn_enabled = v[PH_QUEUE_KEY_DELAY_DSN].boolean;
    if (retry->delay_notification_ms <= retry->transient_count * retry->transient_ms) {
        ph_build_warning(b, v[PH_QUEUE_KEY_DELAY_NOTIFICATION].at, "W8", "DelayNotificationTimeout",
                         "senders are told of delays before the transient retries are over");
    }
}

static void build_resolver(struct ph_builder *b)
{
    struct ph_resolver_settings *settings = &b->config->resolver;
    struct ph_value v[PH_RESOLVER_COUNT];
    struct ph_cidr *ranges;

    ph_build_values(b, PH_BLOCK_RESOLVER, only_block(b, PH_BLOCK_RESOLVER), v);
    ranges = ph_build_alloc(b, v[PH_RESOLVER_ALLOWED_DESTINATIONS].word_count * sizeof(*ranges));
    for (size_t i = 0; i < v[PH_RESOLVER_ALLOWED_DESTINATIONS].word_count; i++) {
        struct ph_str text = v[PH_RESOLVER_ALLOWED_DESTINATIONS].words[i];

        if (!ph_cidr_parse(text, &ranges[i])) {
            ph_build_error(b, v[PH_RESOLVER_ALLOWED_DESTINATIONS].at, "C17", "AllowedDestinations",
                           "%.*s is no range; write \"192.0.2.0/24\" or an address",
                           PH_STR_ARG(text));
        }
    }
    *settings = (struct ph_resolver_settings){
        .forwarders = v[PH_RESOLVER_FORWARDERS].words,
        .forwarder_count = v[PH_RESOLVER_FORWARDERS].word_count,
        .local_data = v[PH_RESOLVER_LOCAL_DATA].words,
        .local_data_count = v[PH_RESOLVER_LOCAL_DATA].word_count,
        .trust_anchor = v[PH_RESOLVER_TRUST_ANCHOR].text,
        .allowed_destinations = ranges,
        .allowed_destination_count = v[PH_RESOLVER_ALLOWED_DESTINATIONS].word_count,
        .port = (uint16_t)v[PH_RESOLVER_PORT].number,
        .https_port = (uint16_t)v[PH_RESOLVER_HTTPS_PORT].number,
        .https_trust_anchors = v[PH_RESOLVER_HTTPS_TRUST_ANCHORS].text,
    };
    if (settings->https_trust_anchors.len > 0) {
        struct ph_str pem;

        (void)ph_build_file(b, &v[PH_RESOLVER_HTTPS_TRUST_ANCHORS], settings->https_trust_anchors,
                            "C17", "HttpsTrustAnchors", &pem, NULL);
    }
    if (settings->forwarder_count > 0 && settings->trust_anchor.len == 0) {
        ph_build_warning(b, v[PH_RESOLVER_FORWARDERS].at, "W20", "Forwarders",
                         "what forwarders answer is validated with TrustAnchor only: without it "
                         "nobody's DANE is seen; write TrustAnchor = \"/usr/share/dns/root.key\" "
                         "where they pass DNSSEC on");
    }
    if (settings->https_port != 443) {
        ph_build_warning(b, v[PH_RESOLVER_HTTPS_PORT].at, "W17", "HttpsPort",
                         "what is published by https is fetched from port %u instead of 443: for "
                         "laboratories only",
                         settings->https_port);
    }
    if (settings->port != 25) {
        ph_build_warning(b, v[PH_RESOLVER_PORT].at, "W17", "Port",
                         "mail goes to port %u instead of 25: for laboratories only",
                         settings->port);
    }
}

static void build_admin_and_log(struct ph_builder *b)
{
    struct ph_value admin[PH_ADMIN_COUNT];
    struct ph_value log[PH_LOG_KEY_COUNT];
    struct ph_str http;

    ph_build_values(b, PH_BLOCK_ADMIN, only_block(b, PH_BLOCK_ADMIN), admin);
    ph_build_values(b, PH_BLOCK_LOG, only_block(b, PH_BLOCK_LOG), log);
    b->config->control_socket = admin[PH_ADMIN_CONTROL_SOCKET].text;
    http = admin[PH_ADMIN_HTTP].text;
    if (http.len > 0 && !ph_endpoint_parse(http, &b->config->http)) {
        ph_build_error(b, admin[PH_ADMIN_HTTP].at, "C17", "Http",
                       "\"%.*s\" is no address; write \"127.0.0.1:8025\"", PH_STR_ARG(http));
    }
    b->config->delivery_log = log[PH_LOG_KEY_DELIVERY].text;
    b->config->log_level = log[PH_LOG_KEY_LEVEL].text;
}

static struct ph_rate rate_of(const struct ph_value *value)
{
    return (struct ph_rate){.count = value->number, .interval_ms = value->interval};
}

// "/…/": an expression over "CODE text".
static const regex_t *build_expression(struct ph_builder *b, const struct ph_value *value,
                                       struct ph_str word)
{
    struct ph_expression *expression = ph_alloc(sizeof(*expression));
    struct ph_buf text = {0};
    char why[128] = "";
    int result;

    ph_buf_append(&text, (struct ph_str){.data = word.data + 1, .len = word.len - 2});
    result =
        regcomp(&expression->compiled, ph_buf_cstr(&text), REG_EXTENDED | REG_ICASE | REG_NOSUB);
    ph_buf_deinit(&text);
    if (result != 0) {
        regerror(result, &expression->compiled, why, sizeof(why));
        ph_build_error(b, value->at, "C17", "BackoffOn",
                       "\"%.*s\" is no expression: %s; write \"/rate limit/\"", PH_STR_ARG(word),
                       why);
        free(expression);
        return NULL;
    }
    keep(&of(b)->expressions, &of(b)->expression_count, expression);
    return &expression->compiled;
}

static void build_patterns(struct ph_builder *b, const struct ph_value *value,
                           struct ph_limits *limits)
{
    struct ph_reply_pattern *patterns = ph_build_alloc(b, value->word_count * sizeof(*patterns));

    for (size_t i = 0; i < value->word_count; i++) {
        struct ph_str word = value->words[i];
        uint64_t code = 0;

        if (word.len > 2 && word.data[0] == '/' && word.data[word.len - 1] == '/') {
            patterns[i].expression = build_expression(b, value, word);
        } else if (ph_str_to_u64(ph_str_first(word, 3), &code) && code >= 400 && code <= 599 &&
                   (word.len == 3 || word.data[3] == ' ')) {
            patterns[i].code = (uint16_t)code;
            patterns[i].prefix = ph_build_str(b, ph_str_trim(ph_str_after(word, 3)));
        } else {
            ph_build_error(b, value->at, "C17", "BackoffOn",
                           "\"%.*s\" is neither a reply's beginning nor an expression; write "
                           "\"421 4.7.28\" or \"/rate limit/\"",
                           PH_STR_ARG(word));
        }
    }
    limits->backoff_on = patterns;
    limits->backoff_on_count = value->word_count;
}

static void build_sites(struct ph_builder *b)
{
    struct ph_site_block *sites = ph_build_alloc(b, b->tree.block_count * sizeof(*sites));

    for (size_t i = 1; i < b->tree.block_count; i++) {
        struct ph_config_block *block = &b->tree.blocks[i];
        struct ph_value v[PH_SITE_KEY_COUNT];
        struct ph_site_block *site = &sites[b->config->site_count];

        if (!ph_str_eq_nocase(block->type, PH_STR("Site"))) {
            continue;
        }
        ph_build_check_label(b, block, "*.example.net");
        ph_build_values(b, PH_BLOCK_SITE, block, v);
        site->pattern = ph_build_str(b, block->label);
        site->source = ph_build_source(b, block);
        site->limits.max_connections = (uint32_t)v[PH_SITE_KEY_MAX_CONNECTIONS].number;
        site->limits.max_messages_per_connection =
            (uint32_t)v[PH_SITE_KEY_MESSAGES_PER_CONNECTION].number;
        site->limits.max_recipients_per_transaction =
            (uint32_t)v[PH_SITE_KEY_RECIPIENTS_PER_TRANSACTION].number;
        site->limits.pipeline_depth = (uint32_t)v[PH_SITE_KEY_PIPELINE_DEPTH].number;
        site->limits.connect_rate = rate_of(&v[PH_SITE_KEY_CONNECT_RATE]);
        site->limits.message_rate = rate_of(&v[PH_SITE_KEY_MESSAGE_RATE]);
        build_patterns(b, &v[PH_SITE_KEY_BACKOFF_ON], &site->limits);
        site->given =
            (v[PH_SITE_KEY_MAX_CONNECTIONS].given ? PH_SITE_GIVES_MAX_CONNECTIONS : 0u) |
            (v[PH_SITE_KEY_MESSAGES_PER_CONNECTION].given ? PH_SITE_GIVES_MESSAGES_PER_CONNECTION
                                                          : 0u) |
            (v[PH_SITE_KEY_RECIPIENTS_PER_TRANSACTION].given ? PH_SITE_GIVES_RECIPIENTS : 0u) |
            (v[PH_SITE_KEY_PIPELINE_DEPTH].given ? PH_SITE_GIVES_PIPELINE_DEPTH : 0u) |
            (v[PH_SITE_KEY_CONNECT_RATE].given ? PH_SITE_GIVES_CONNECT_RATE : 0u) |
            (v[PH_SITE_KEY_MESSAGE_RATE].given ? PH_SITE_GIVES_MESSAGE_RATE : 0u);
        b->config->site_count++;
    }
    b->config->sites = sites;
}

static void refuse_unknown_blocks(struct ph_builder *b)
{
    for (size_t i = 1; i < b->tree.block_count; i++) {
        const struct ph_config_block *block = &b->tree.blocks[i];
        const char *nearest = "";
        unsigned best = 9;
        bool known = false;
        char type[64];

        for (int kind = PH_BLOCK_RECEIVE; kind < PH_BLOCK_KINDS; kind++) {
            const char *name = ph_block_name((enum ph_block_kind)kind);
            unsigned distance = ph_value_distance(block->type, ph_str_from(name));

            known |= ph_str_eq_nocase(block->type, ph_str_from(name));
            nearest = distance < best ? name : nearest;
            best = distance < best ? distance : best;
        }
        if (!known && best <= 4) {
            ph_str_copy(type, sizeof(type), block->type);
            ph_build_error(b, block->at, "C21", type, "unknown kind of block; did you mean %s?",
                           nearest);
        } else if (!known) {
            ph_str_copy(type, sizeof(type), block->type);
            ph_build_error(b, block->at, "C21", type,
                           "unknown kind of block; the kinds are SendConnector, ReceiveConnector, "
                           "TransportConfig, Site, Queue, Resolver, Admin and Log");
        }
    }
}

struct includes {
    const struct ph_config_files *files;
    struct ph_snapshot *snapshot;
    struct ph_config_includes callbacks;
};

// A pattern without a slash in front is looked for beside the file that includes.
static void place_pattern(const char *file, struct ph_str glob, char pattern[4096])
{
    const char *slash = strrchr(file, '/');
    size_t len =
        glob.len > 0 && glob.data[0] != '/' && slash != NULL ? (size_t)(slash - file) + 1 : 0;

    snprintf(pattern, 4096, "%.*s%.*s", (int)len, file, PH_STR_ARG(glob));
}

static bool expand_include(void *owner, struct ph_config_position at, struct ph_str glob,
                           struct ph_config_tree *tree, struct ph_buf *errors, unsigned depth)
{
    struct includes *includes = owner;
    struct ph_buf names = {0};
    char pattern[4096];
    bool good = true;

    place_pattern(at.file, glob, pattern);
    if (includes->files == NULL ||
        !includes->files->expand(includes->files->owner, pattern, &names)) {
        ph_buf_printf(errors, "%s:%u: C27 include: nothing can be included here; remove it\n",
                      at.file, at.line);
        return false;
    }
    keep_source(includes->snapshot, pattern, ph_buf_str(&names));
    if (names.len == 0 && strpbrk(pattern, "*?[") == NULL) {
        ph_buf_printf(errors, "%s:%u: C27 include: there is no %s; name a file, or a pattern\n",
                      at.file, at.line, pattern);
        good = false;
    }
    for (size_t i = 0; i < names.len; i += strlen(names.data + i) + 1) {
        struct ph_buf text = {0};
        struct ph_buf error = {0};
        unsigned mode;

        if (!includes->files->read(includes->files->owner, names.data + i, &text, &mode, &error)) {
            ph_buf_printf(errors, "%s:%u: C27 include: %s can't be read (%.*s)\n", at.file, at.line,
                          names.data + i, PH_STR_ARG(ph_buf_str(&error)));
            good = false;
        } else {
            keep_source(includes->snapshot, names.data + i, ph_buf_str(&text));
            good &= ph_config_parse(tree, names.data + i, ph_buf_str(&text), &includes->callbacks,
                                    depth, errors);
        }
        ph_buf_deinit(&text);
        ph_buf_deinit(&error);
    }
    ph_buf_deinit(&names);
    return good;
}

struct ph_config *ph_config_parse_text(const char *name, struct ph_str text,
                                       const struct ph_config_files *files, struct ph_buf *errors,
                                       struct ph_buf *warnings)
{
    static _Atomic uint64_t generations;
    struct ph_snapshot *snapshot = ph_alloc(sizeof(*snapshot));
    struct ph_builder b = {
        .config = &snapshot->config, .files = files, .errors = errors, .warnings = warnings};
    struct includes includes = {.files = files, .snapshot = snapshot};
    bool good;

    includes.callbacks = (struct ph_config_includes){.expand = expand_include, .owner = &includes};
    atomic_init(&snapshot->references, 1);
    ph_config_tree_init(&b.tree);
    b.config->path = ph_build_str(&b, ph_str_from(name));
    b.config->certificates_until_s = INT64_MAX;
    keep_source(snapshot, name, text);
    b.config->generation = atomic_fetch_add(&generations, 1) + 1;
    good = ph_config_parse(&b.tree, name, text, &includes.callbacks, 0, errors);
    if (files != NULL && files->variation != NULL) {
        good &= ph_config_vary(&b.tree, files->variation, errors);
    }
    b.tree.blocks[0].at = (struct ph_config_position){.file = b.config->path.data, .line = 1};
    ph_build_values(&b, PH_BLOCK_GLOBAL, &b.tree.blocks[0], b.global);
    build_global(&b);
    ph_build_values(&b, PH_BLOCK_TRANSPORT, only_block(&b, PH_BLOCK_TRANSPORT), b.transport);
    build_transport(&b);
    build_queue(&b);
    build_resolver(&b);
    build_admin_and_log(&b);
    build_sites(&b);
    refuse_unknown_blocks(&b);
    ph_build_receive(&b);
    ph_build_send(&b);
    // The values' positions name files by strings of the tree: they are copied where they are kept.
    ph_config_tree_deinit(&b.tree);
    if (!good || b.error_count > 0) {
        ph_config_release(b.config);
        return NULL;
    }
    return b.config;
}
