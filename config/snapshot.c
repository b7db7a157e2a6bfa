// The snapshot: its life, and the answers it gives.
#include "config/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

#include "config/keys.h"
#include "config/snapshot_parts.h"

static struct ph_snapshot *of(const struct ph_config *config)
{
    return PH_CONTAINER_OF(config, struct ph_snapshot, config);
}

struct ph_config *ph_config_retain(struct ph_config *config)
{
    atomic_fetch_add_explicit(&of(config)->references, 1, memory_order_relaxed);
    return config;
}

void ph_config_release(struct ph_config *config)
{
    struct ph_snapshot *snapshot;

    if (config == NULL) {
        return;
    }
    snapshot = of(config);
    if (atomic_fetch_sub_explicit(&snapshot->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < snapshot->trust_count; i++) {
        ph_trust_release(snapshot->trusts[i]);
    }
    for (size_t i = 0; i < snapshot->identity_count; i++) {
        ph_tls_identity_destroy(snapshot->identities[i]);
    }
    for (size_t i = 0; i < snapshot->server_count; i++) {
        ph_tls_server_destroy(snapshot->servers[i]);
    }
    for (size_t i = 0; i < snapshot->memory_count; i++) {
        free(snapshot->memory[i]);
    }
    for (size_t i = 0; i < snapshot->source_count; i++) {
        free(snapshot->sources[i].name);
        ph_buf_deinit(&snapshot->sources[i].text);
    }
    for (size_t i = 0; i < snapshot->expression_count; i++) {
        regfree(&snapshot->expressions[i]->compiled);
        free(snapshot->expressions[i]);
    }
    free(snapshot->expressions);
    ph_buf_deinit(&snapshot->config.effective);
    free(snapshot->sources);
    free(snapshot->watched);
    free(snapshot->trusts);
    free(snapshot->identities);
    free(snapshot->servers);
    free(snapshot->memory);
    free(snapshot);
}

static bool listed(const struct ph_str *list, size_t count, struct ph_str domain)
{
    for (size_t i = 0; i < count; i++) {
        if (ph_str_eq_nocase(list[i], domain)) {
            return true;
        }
    }
    return false;
}

bool ph_config_receives_secure(const struct ph_config *config, struct ph_str domain)
{
    return listed(config->receive_domain_secure, config->receive_domain_secure_count, domain);
}

struct ph_tls_policy ph_config_policy(const struct ph_config *config,
                                      const struct ph_send_connector *connector,
                                      struct ph_str domain, bool requiretls)
{
    struct ph_tls_policy policy = connector->policy;
    bool secure = listed(config->send_domain_secure, config->send_domain_secure_count, domain);

    policy.domain_secure = secure && connector->domain_secure_enabled;
    policy.mutual = policy.domain_secure;
    policy.domain_secure_misrouted = secure && !connector->domain_secure_enabled;
    policy.requiretls = requiretls;
    return policy;
}

bool ph_config_use_only(struct ph_config *config, struct ph_str connector)
{
    static const struct ph_address_space all = {.all = true, .cost = 1};
    struct ph_send_connector *only = NULL;

    for (size_t i = 0; i < config->send_connector_count; i++) {
        if (ph_str_eq_nocase(config->send_connectors[i].name, connector)) {
            // Made by the builder, and nobody else's yet.
            only = (struct ph_send_connector *)&config->send_connectors[i];
        }
    }
    if (only != NULL) {
        only->enabled = true;
        only->address_spaces = &all;
        only->address_space_count = 1;
        only->index = 0;
        config->send_connectors = only;
        config->send_connector_count = 1;
        config->receive_connector_count = 0;
    }
    return only != NULL;
}

// By its token, or by the codes of a peer's reply; a TLS refusal's codes are ours and say nothing.
static bool code_listed(const struct ph_str *list, size_t count, const struct ph_reason *reason)
{
    char code[8];
    char status[PH_STATUS_TEXT_MAX];

    snprintf(code, sizeof(code), "%u", reason->code);
    ph_status_format(reason->status, status);
    return listed(list, count, ph_str_from(ph_reason_token(reason->kind))) ||
           (!ph_reason_is_tls(reason->kind) &&
            (listed(list, count, ph_str_from(code)) || listed(list, count, ph_str_from(status))));
}

void ph_config_apply_error_policies(const struct ph_send_connector *connector,
                                    struct ph_reason *reason)
{
    bool permanent = ph_reason_is_permanent(reason);
    bool dns =
        reason->kind >= PH_REASON_DNS_FAILURE && reason->kind <= PH_REASON_DNS_TARGET_REFUSED;
    unsigned policies = connector->error_policies;

    if (!permanent && (policies & PH_ERROR_UPGRADE_CUSTOM) &&
        code_listed(connector->upgrade_codes, connector->upgrade_code_count, reason)) {
        reason->code = (uint16_t)(reason->code + 100);
        reason->status.class = 5;
    } else if (permanent && (((policies & PH_ERROR_DOWNGRADE_DNS) && dns) ||
                             ((policies & PH_ERROR_DOWNGRADE_CUSTOM) &&
                              code_listed(connector->downgrade_codes,
                                          connector->downgrade_code_count, reason)))) {
        reason->code = (uint16_t)(reason->code - 100);
        reason->status.class = 4;
    }
}

bool ph_reply_pattern_matches(const struct ph_reply_pattern *patterns, size_t count, uint16_t code,
                              const char *text)
{
    char whole[600];

    snprintf(whole, sizeof(whole), "%u %s", code, text);
    for (size_t i = 0; i < count; i++) {
        const struct ph_reply_pattern *p = &patterns[i];

        if (p->expression != NULL
                ? regexec(p->expression, whole, 0, NULL, 0) == 0
                : (p->code == code && ph_str_starts_nocase(ph_str_from(text), p->prefix))) {
            return true;
        }
    }
    return false;
}

uint32_t ph_send_connector_source_factor(const struct ph_send_connector *connector)
{
    uint32_t v4 = 0;
    uint32_t v6 = 0;

    for (size_t i = 0; i < connector->source_count; i++) {
        v4 += connector->sources[i].address.family == PH_FAMILY_IPV4;
        v6 += connector->sources[i].address.family == PH_FAMILY_IPV6;
    }
    return v4 > v6 ? v4 : v6 > 0 ? v6 : 1;
}

static bool host_matches(struct ph_str pattern, struct ph_str host)
{
    if (ph_str_eq(pattern, PH_STR("*"))) {
        return true;
    }
    if (ph_str_starts(pattern, PH_STR("*."))) {
        struct ph_str below = ph_str_after(pattern, 1);

        return host.len > below.len && ph_str_ends_nocase(host, below);
    }
    return ph_str_eq_nocase(pattern, host);
}

struct ph_limits ph_config_limits(const struct ph_config *config,
                                  const struct ph_send_connector *connector, struct ph_str host,
                                  struct ph_str *out_source)
{
    struct ph_limits limits = connector->limits;

    if (out_source != NULL) {
        *out_source = connector->source;
    }
    if (limits.max_connections == 0) {
        uint64_t most = config->max_per_domain_outbound_connections;

        limits.max_connections = most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
        if (out_source != NULL) {
            *out_source = PH_STR("TransportConfig");
        }
    }
    for (size_t i = 0; i < config->site_count; i++) {
        const struct ph_site_block *block = &config->sites[i];

        if (!host_matches(block->pattern, host)) {
            continue;
        }
        if (block->given & PH_SITE_GIVES_MAX_CONNECTIONS) {
            limits.max_connections = block->limits.max_connections;
            if (out_source != NULL) {
                *out_source = block->source;
            }
        }
        if (block->given & PH_SITE_GIVES_MESSAGES_PER_CONNECTION) {
            limits.max_messages_per_connection = block->limits.max_messages_per_connection;
        }
        if (block->given & PH_SITE_GIVES_RECIPIENTS) {
            limits.max_recipients_per_transaction = block->limits.max_recipients_per_transaction;
        }
        if (block->given & PH_SITE_GIVES_PIPELINE_DEPTH) {
            limits.pipeline_depth = block->limits.pipeline_depth;
        }
        if (block->given & PH_SITE_GIVES_CONNECT_RATE) {
            limits.connect_rate = block->limits.connect_rate;
        }
        if (block->given & PH_SITE_GIVES_MESSAGE_RATE) {
            limits.message_rate = block->limits.message_rate;
        }
        limits.backoff_on = block->limits.backoff_on;
        limits.backoff_on_count = block->limits.backoff_on_count;
        break; // the first that matches
    }
    return limits;
}

// The value and the origin of a key outside of connectors, as ph_config.effective has them.
static bool find_effective(const struct ph_config *config, const char *name,
                           struct ph_str *out_value, struct ph_str *out_origin)
{
    struct ph_str lines = ph_buf_str(&config->effective);
    struct ph_str line;
    struct ph_str key;

    while (ph_str_cut(&lines, '\n', &line)) {
        if (ph_str_cut(&line, '\t', &key) && ph_str_eq(key, ph_str_from(name))) {
            *out_value = PH_STR_NONE;
            (void)!ph_str_cut(&line, '\t', out_value);
            *out_origin = line;
            return true;
        }
    }
    return false;
}

void ph_config_told_at_start(const struct ph_config *old, const struct ph_config *renewed,
                             struct ph_buf *out)
{
    for (int kind = PH_BLOCK_GLOBAL; kind < PH_BLOCK_KINDS; kind++) {
        const char *block = ph_block_name((enum ph_block_kind)kind);
        size_t count;
        const struct ph_key *keys = ph_keys_of((enum ph_block_kind)kind, &count);

        for (size_t i = 0; i < count; i++) {
            struct ph_str was = PH_STR_NONE;
            struct ph_str is = PH_STR_NONE;
            struct ph_str origin = PH_STR_NONE;
            char name[128];

            snprintf(name, sizeof(name), "%s%s%s", block, block[0] != '\0' ? "." : "",
                     keys[i].name);
            if (keys[i].state == PH_KEY_AT_START && find_effective(old, name, &was, &origin) &&
                find_effective(renewed, name, &is, &origin) && !ph_str_eq(was, is)) {
                ph_buf_printf(out,
                              "%.*s: %s: \"%.*s\" takes the place of \"%.*s\" at the next start "
                              "only; restart posthaste\n",
                              PH_STR_ARG(origin), name, PH_STR_ARG(is), PH_STR_ARG(was));
            }
        }
    }
}
