// Blocks → values → the snapshot's parts that aren't connectors.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/endpoint.h"
#include "config/build_parts.h"
#include "config/snapshot_parts.h"
#include "config/value.h"
#include "smtp/address.h"

uint32_t ph_build_bounded(uint64_t number)
{
    return number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
}

bool ph_build_protocol_logging(struct ph_builder *b, const struct ph_value *value)
{
    bool verbose = value->number == 1; // None|Verbose

    if (verbose && b->config->protocol_log.len == 0) {
        ph_build_warning(
            b, value->at, "W16", "ProtocolLoggingLevel",
            "Verbose has no effect while there is no file for it; write Log { Protocol "
            "= \"/var/log/posthaste/protocol.log\" }");
    }
    return verbose;
}

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

static void keep_source(struct ph_snapshot *snapshot, const char *name, bool pattern,
                        struct ph_str text)
{
    struct ph_config_source *source;

    snapshot->sources =
        reallocarray(snapshot->sources, snapshot->source_count + 1, sizeof(*snapshot->sources));
    PH_CHECK(snapshot->sources != NULL);
    source = &snapshot->sources[snapshot->source_count++];
    source->name = strdup(name);
    PH_CHECK(source->name != NULL);
    source->pattern = pattern;
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

void ph_build_keep_expression(struct ph_builder *b, struct ph_expression *expression)
{
    keep(&of(b)->expressions, &of(b)->expression_count, expression);
}

void ph_build_keep_server(struct ph_builder *b, struct ph_tls_server *server)
{
    keep(&of(b)->servers, &of(b)->server_count, server);
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

struct ph_config_block *ph_build_only_block(struct ph_builder *b, enum ph_block_kind kind)
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

// What a group of processes may have, and the groups it is in: "max", or bytes.
static uint64_t cgroup_memory(struct ph_builder *b)
{
    struct ph_buf text = {0};
    struct ph_buf unused = {0};
    uint64_t least = UINT64_MAX;
    char group[1024] = "";
    char *above;
    unsigned mode;

    if (b->files == NULL || b->files->read == NULL ||
        !b->files->read(b->files->owner, "/proc/self/cgroup", &text, &mode, &unused)) {
        ph_buf_deinit(&unused);
        return least;
    }
    if (ph_str_starts(ph_buf_str(&text), PH_STR("0::"))) {
        ph_str_copy(group, sizeof(group), ph_str_trim(ph_str_after(ph_buf_str(&text), 3)));
    }
    do {
        char path[1200];
        uint64_t bytes;

        snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", group);
        ph_buf_clear(&text);
        if (b->files->read(b->files->owner, path, &text, &mode, &unused) &&
            ph_str_to_u64(ph_str_trim(ph_buf_str(&text)), &bytes) && bytes < least) {
            least = bytes;
        }
        above = strrchr(group, '/');
        if (above != NULL) {
            *above = '\0';
        }
    } while (above != NULL);
    ph_buf_deinit(&text);
    ph_buf_deinit(&unused);
    return least;
}

static uint64_t machine_memory(struct ph_builder *b)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long size = sysconf(_SC_PAGESIZE);
    uint64_t whole = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_C(1) << 30;
    uint64_t ours = cgroup_memory(b);

    return ours < whole ? ours : whole;
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
    if (v[PH_GLOBAL_MIN_FREE_SPACE].percent) {
        config->min_free_percent = (uint32_t)v[PH_GLOBAL_MIN_FREE_SPACE].number;
    } else {
        config->min_free_bytes = v[PH_GLOBAL_MIN_FREE_SPACE].number;
    }
    config->memory_limit = v[PH_GLOBAL_MEMORY_LIMIT].percent
                               ? machine_memory(b) / 100 * v[PH_GLOBAL_MEMORY_LIMIT].number
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

// In A-labels, as mail's domains are when they are looked for here. What is no domain is left out:
// one error is enough.
static const struct ph_str *build_domains(struct ph_builder *b, const struct ph_value *value,
                                          const char *key, size_t *out_count)
{
    struct ph_str *domains = ph_build_alloc(b, value->word_count * sizeof(*domains));
    char name[PH_DOMAIN_BYTES_MAX + 1];
    size_t count = 0;

    for (size_t i = 0; i < value->word_count; i++) {
        if (ph_str_find_char(value->words[i], '*') >= 0) {
            ph_build_error(b, value->at, "C11", key,
                           "\"%.*s\" has a wildcard, and Domain Security knows none; list each "
                           "domain by itself",
                           PH_STR_ARG(value->words[i]));
        } else if (!ph_domain_normalize(value->words[i], name)) {
            ph_build_error(b, value->at, "C17", key,
                           "\"%.*s\" is no domain; write \"partner.example\"",
                           PH_STR_ARG(value->words[i]));
        } else {
            domains[count++] = ph_build_str(b, ph_str_from(name));
        }
    }
    *out_count = count;
    return domains;
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
    config->send_domain_secure =
        build_domains(b, &v[PH_TRANSPORT_SEND_SECURE], "TLSSendDomainSecureList",
                      &config->send_domain_secure_count);
    config->receive_domain_secure =
        build_domains(b, &v[PH_TRANSPORT_RECEIVE_SECURE], "TLSReceiveDomainSecureList",
                      &config->receive_domain_secure_count);
}

enum { QUEUE_RETRY_EXCHANGE, QUEUE_RETRY_EXPONENTIAL }; // as RetrySchedule lists them

static void build_queue(struct ph_builder *b)
{
    struct ph_value v[PH_QUEUE_KEY_COUNT];
    struct ph_retry_series *retry = &b->config->retry;

    ph_build_values(b, PH_BLOCK_QUEUE, ph_build_only_block(b, PH_BLOCK_QUEUE), v);
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

static void build_admin_and_log(struct ph_builder *b)
{
    struct ph_value admin[PH_ADMIN_COUNT];
    struct ph_value log[PH_LOG_KEY_COUNT];
    struct ph_str http;

    ph_build_values(b, PH_BLOCK_ADMIN, ph_build_only_block(b, PH_BLOCK_ADMIN), admin);
    ph_build_values(b, PH_BLOCK_LOG, ph_build_only_block(b, PH_BLOCK_LOG), log);
    b->config->control_socket = admin[PH_ADMIN_CONTROL_SOCKET].text;
    http = admin[PH_ADMIN_HTTP].text;
    if (http.len > 0 && !ph_endpoint_parse(http, &b->config->http)) {
        ph_build_error(b, admin[PH_ADMIN_HTTP].at, "C17", "Http",
                       "\"%.*s\" is no address; write \"127.0.0.1:8025\"", PH_STR_ARG(http));
    }
    b->config->delivery_log = log[PH_LOG_KEY_DELIVERY].text;
    b->config->protocol_log = log[PH_LOG_KEY_PROTOCOL].text;
    b->config->log_level = log[PH_LOG_KEY_LEVEL].text;
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
    keep_source(includes->snapshot, pattern, true, ph_buf_str(&names));
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
            keep_source(includes->snapshot, names.data + i, false, ph_buf_str(&text));
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
    keep_source(snapshot, name, false, text);
    b.config->generation = atomic_fetch_add(&generations, 1) + 1;
    good = ph_config_parse(&b.tree, name, text, &includes.callbacks, 0, errors);
    if (files != NULL && files->variation != NULL) {
        good &= ph_config_vary(&b.tree, files->variation, errors);
    }
    b.tree.blocks[0].at = (struct ph_config_position){.file = b.config->path.data, .line = 1};
    ph_build_values(&b, PH_BLOCK_GLOBAL, &b.tree.blocks[0], b.global);
    build_global(&b);
    ph_build_values(&b, PH_BLOCK_TRANSPORT, ph_build_only_block(&b, PH_BLOCK_TRANSPORT),
                    b.transport);
    build_transport(&b);
    build_queue(&b);
    ph_build_resolver(&b);
    build_admin_and_log(&b);
    ph_build_sites(&b);
    refuse_unknown_blocks(&b);
    ph_build_receive(&b);
    ph_build_send(&b);
    ph_build_sort_lines(errors, b.config->path);
    ph_build_sort_lines(warnings, b.config->path);
    // The values' positions name files by strings of the tree: they are copied where they are kept.
    ph_config_tree_deinit(&b.tree);
    if (!good || b.error_count > 0) {
        ph_config_release(b.config);
        return NULL;
    }
    return b.config;
}
