// `posthaste explain RECIPIENT`: what would happen to mail for it, without connecting.
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"
#include "config/value.h"
#include "dns/local.h"
#include "dns/mx.h"
#include "engine/router.h"
#include "smtp/address.h"

// One answer, told as text and as JSON alike.
struct explanation {
    const struct ph_config *config;
    const struct ph_send_connector *connector; // NULL: none carries it
    const char *recipient;
    char domain[PH_DOMAIN_BYTES_MAX + 1];
    uint64_t size;
    struct ph_buf text;
    struct ph_buf json_text;
    struct ph_json json;
    char best_host[PH_DNS_NAME_BYTES_MAX]; // "": not known without asking DNS
};

static struct ph_str domain_of(const struct explanation *e)
{
    return ph_str_from(e->domain);
}

static void explain_connectors(struct explanation *e)
{
    ph_buf_append(&e->text, PH_STR("\nconnectors\n"));
    ph_json_open_array(&e->json, "connectors");
    for (size_t i = 0; i < e->config->send_connector_count; i++) {
        const struct ph_send_connector *connector = &e->config->send_connectors[i];
        struct ph_buf why = {0};
        bool chosen = ph_router_explain(e->config, connector, domain_of(e), e->size, &why);

        ph_buf_printf(&e->text, "  %-20.*s %.*s\n", PH_STR_ARG(connector->name),
                      PH_STR_ARG(ph_buf_str(&why)));
        ph_json_open_object(&e->json, NULL);
        ph_json_string(&e->json, "name", connector->name, 0);
        ph_json_string(&e->json, "source", connector->source, 0);
        ph_json_bool(&e->json, "chosen", chosen);
        ph_json_string(&e->json, "why", ph_buf_str(&why), 0);
        ph_json_close_object(&e->json);
        ph_buf_deinit(&why);
    }
    ph_json_close_array(&e->json);
}

// --- where to ---

static void put_host(struct explanation *e, const char *kind, struct ph_str name, int preference,
                     uint16_t port)
{
    if (e->best_host[0] == '\0') {
        ph_str_copy(e->best_host, sizeof(e->best_host), name);
    }
    ph_json_open_object(&e->json, NULL);
    ph_json_string(&e->json, "host", name, 0);
    ph_json_u64(&e->json, "port", port);
    if (preference >= 0) {
        ph_buf_printf(&e->text, "  %s %d %.*s port %u\n", kind, preference, PH_STR_ARG(name), port);
        ph_json_i64(&e->json, "preference", preference);
    } else {
        ph_buf_printf(&e->text, "  %s %.*s port %u\n", kind, PH_STR_ARG(name), port);
    }
    ph_json_close_object(&e->json);
}

static void explain_mx(struct explanation *e)
{
    struct ph_dns_local *local = ph_dns_local_create();
    struct ph_resolve_op op = {.rrtype = PH_RRTYPE_MX};
    struct ph_mx_hosts hosts;
    struct ph_reason reason;

    for (size_t i = 0; i < e->config->resolver.local_data_count; i++) {
        struct ph_buf error = {0};

        (void)!ph_dns_local_add(local, e->config->resolver.local_data[i], &error);
        ph_buf_deinit(&error);
    }
    ph_str_copy(op.name, sizeof(op.name), domain_of(e));
    if (!ph_dns_local_answer(local, &op)) {
        ph_buf_append(&e->text,
                      PH_STR("  by its MX records, which are looked up when mail comes\n"));
    } else if (ph_mx_read(&op, &e->config->hostname, 1, &hosts, &reason) == PH_MX_FOUND) {
        for (size_t i = 0; i < hosts.count; i++) {
            put_host(e, "MX (LocalData)", ph_str_from(hosts.hosts[i].name),
                     hosts.hosts[i].preference, e->config->resolver.port);
        }
    } else {
        ph_buf_printf(&e->text, "  no host: %s\n", reason.sentence);
    }
    ph_buf_deinit(&op.rdata);
    ph_dns_local_destroy(local);
}

static void explain_hosts(struct explanation *e)
{
    ph_buf_append(&e->text, PH_STR("\nnext hop\n"));
    ph_json_open_array(&e->json, "hosts");
    for (size_t i = 0; i < e->connector->smart_host_count; i++) {
        put_host(e, "smart host", e->connector->smart_hosts[i].name, -1, e->connector->port);
    }
    if (e->connector->dns_routing) {
        explain_mx(e);
    }
    ph_json_close_array(&e->json);
}

static void explain_limits(struct explanation *e)
{
    struct ph_str source;
    struct ph_limits limits =
        ph_config_limits(e->config, e->connector, ph_str_from(e->best_host), &source);

    ph_buf_printf(
        &e->text,
        "\nlimits%s%s\n  sessions %u (%.*s), messages on one %u, recipients at a time %u\n",
        e->best_host[0] != '\0' ? " at " : "", e->best_host, limits.max_connections,
        PH_STR_ARG(source), limits.max_messages_per_connection,
        limits.max_recipients_per_transaction);
    if (e->best_host[0] == '\0' && e->config->site_count > 0) {
        ph_buf_append(&e->text,
                      PH_STR("  a Site block may say otherwise once its hosts are known\n"));
    }
    ph_json_open_object(&e->json, "limits");
    ph_json_u64(&e->json, "connections", limits.max_connections);
    ph_json_string(&e->json, "connections_source", source, 0);
    ph_json_u64(&e->json, "messages_per_connection", limits.max_messages_per_connection);
    ph_json_u64(&e->json, "recipients_per_transaction", limits.max_recipients_per_transaction);
    ph_json_close_object(&e->json);
}

// --- under which policy ---

// Entries are exact: a subdomain of a listed domain isn't secured.
static void hint_unlisted(struct explanation *e)
{
    for (size_t i = 0; i < e->config->send_domain_secure_count; i++) {
        struct ph_str listed = e->config->send_domain_secure[i];
        struct ph_str domain = domain_of(e);

        if (domain.len > listed.len + 1 && ph_str_ends_nocase(domain, listed) &&
            domain.data[domain.len - listed.len - 1] == '.') {
            ph_buf_printf(&e->text,
                          "  not Domain Security: %.*s is in TLSSendDomainSecureList, and entries "
                          "don't cover what is below them\n",
                          PH_STR_ARG(listed));
        }
    }
}

// What is offered for the key exchange, and what must come of it.
static void explain_groups(struct explanation *e, const struct ph_tls_policy *policy)
{
    struct ph_buf offered = {0};

    ph_tls_groups_describe(e->connector->tls_groups, &offered);
    ph_buf_printf(&e->text, "  key exchange  %.*s\n", PH_STR_ARG(ph_buf_str(&offered)));
    if (policy->require_groups.len > 0) {
        ph_buf_printf(&e->text, "    and it must be one of %.*s (TlsRequireGroups)\n",
                      PH_STR_ARG(policy->require_groups));
    }
    ph_json_string(&e->json, "key_exchange", ph_buf_str(&offered), 0);
    ph_json_string(&e->json, "require_groups", policy->require_groups, 0);
    ph_buf_deinit(&offered);
}

static void put_policy_json(struct explanation *e, const struct ph_tls_policy *policy)
{
    ph_json_open_object(&e->json, "policy");
    ph_json_text(&e->json, "mode", policy->report ? "report" : "enforce");
    ph_json_text(&e->json, "level", ph_tls_level_name(policy->level));
    ph_json_text(&e->json, "enforced", ph_tls_level_name(ph_tls_policy_level(policy)));
    ph_json_string(&e->json, "source", policy->source, 0);
    ph_json_open_array(&e->json, "names");
    for (size_t i = 0; i < policy->tls_domain_count; i++) {
        ph_json_string(&e->json, NULL, policy->tls_domains[i], 0);
    }
    ph_json_close_array(&e->json);
    ph_json_bool(&e->json, "forced", ph_tls_policy_forces(policy));
    ph_json_bool(&e->json, "domain_secure", policy->domain_secure);
    ph_json_bool(&e->json, "domain_secure_misrouted", policy->domain_secure_misrouted);
    ph_json_close_object(&e->json);
}

// Beside what the connector demands: what the next hop may publish is asked when mail comes.
static void explain_published(const struct ph_tls_policy *policy,
                              const struct ph_send_connector *connector, struct ph_buf *out)
{
    const char *whose = connector->dns_routing             ? "the destination"
                        : connector->smart_host_count == 1 ? "the smart host"
                                                           : "each smart host, for itself";
    static const char *const words[] = {
        [PH_DANE_MANDATORY] = "DANE must be published, and match (SmtpDaneMode)",
        [PH_DANE_OPPORTUNISTIC] = "DANE where its mail hosts publish it, and then it must match",
        [PH_DANE_NONE] = "DANE isn't looked at (SmtpDaneMode)",
    };

    ph_buf_printf(out, "  of %s: %s;\n    MTA-STS %s\n", whose, words[policy->dane_mode],
                  connector->mta_sts ? "where it publishes a policy (posthaste policy show tells)"
                                     : "isn't looked at (MtaStsMode)");
}

static void explain_policy(struct explanation *e)
{
    static const char *const words[] = {
        [PH_TLS_DOMAIN_VALIDATION] =
            "TLS must succeed; the chain must be valid and the certificate must match the name",
        [PH_TLS_CERTIFICATE_VALIDATION] =
            "TLS must succeed and the chain must be valid; identity: not checked",
        [PH_TLS_ENCRYPTION_ONLY] =
            "TLS must succeed; any certificate passes; identity: not checked",
        [PH_TLS_OPPORTUNISTIC] = "TLS where it is offered, plaintext otherwise",
        [PH_TLS_NEVER] = "STARTTLS is never used",
    };
    struct ph_tls_policy policy = ph_config_policy(e->config, e->connector, domain_of(e), false);
    struct ph_buf *out = &e->text;

    ph_buf_append(out, PH_STR("\nTLS policy\n"));
    ph_buf_printf(out, "  level    %s: %s\n", ph_tls_level_name(policy.level), words[policy.level]);
    ph_buf_printf(out, "  demanded by %.*s\n", PH_STR_ARG(policy.source));
    for (size_t i = 0; i < policy.tls_domain_count; i++) {
        ph_buf_printf(out, "  name     %.*s (TlsDomain)\n", PH_STR_ARG(policy.tls_domains[i]));
    }
    if (policy.tls_domain_count == 0 && policy.level == PH_TLS_DOMAIN_VALIDATION) {
        ph_buf_printf(out, "  name     %s\n",
                      policy.name_source == PH_TLS_NAME_HOST
                          ? "the mail host's own (TlsNameSource = host)"
                          : "the recipient's domain (no TlsDomain is given)");
    }
    if (policy.domain_secure) {
        ph_buf_append(out, PH_STR("  Domain Security: mutual TLS, the domain is in "
                                  "TLSSendDomainSecureList\n"));
    } else if (policy.domain_secure_misrouted) {
        ph_buf_append(out,
                      PH_STR("  Domain Security: the domain is listed, but this connector isn't "
                             "DomainSecureEnabled: its mail will be deferred\n"));
    } else {
        hint_unlisted(e);
    }
    if (policy.report) {
        ph_buf_printf(out, "  Mode = report: only %s is enforced\n",
                      ph_tls_level_name(ph_tls_policy_level(&policy)));
    }
    if (policy.level != PH_TLS_NEVER) {
        explain_groups(e, &policy);
    }
    explain_published(&policy, e->connector, out);
    put_policy_json(e, &policy);
}

// --- the whole ---

static int explain(struct explanation *e)
{
    struct ph_reason reason;
    enum ph_route_result route =
        ph_router_route(e->config, domain_of(e), e->size, &e->connector, &reason);

    ph_buf_printf(&e->text, "mail for %s (domain %s)\n", e->recipient, e->domain);
    ph_json_text(&e->json, "recipient", e->recipient);
    ph_json_text(&e->json, "domain", e->domain);
    explain_connectors(e);
    if (route == PH_ROUTE_FOUND) {
        ph_json_string(&e->json, "connector", e->connector->name, 0);
        explain_hosts(e);
        explain_limits(e);
        explain_policy(e);
        return PH_EXIT_YES;
    }
    ph_json_null(&e->json, "connector");
    if (route == PH_ROUTE_REFUSED) {
        ph_buf_printf(&e->text, "\nrefused for ever: %s: %s\n", ph_reason_token(reason.kind),
                      reason.sentence);
        ph_json_text(&e->json, "reason", ph_reason_token(reason.kind));
        ph_json_text(&e->json, "text", reason.sentence);
        return PH_EXIT_NO;
    }
    ph_buf_append(&e->text, PH_STR("\nno connector carries it now: the mail would wait for a "
                                   "configuration in which one does\n"));
    return PH_EXIT_UNDECIDED;
}

static bool read_arguments(const struct ph_cli_options *options, struct explanation *e)
{
    struct ph_address address;
    bool sized = options->argument_count == 3 && strcmp(options->arguments[1], "--size") == 0 &&
                 ph_value_size(ph_str_from(options->arguments[2]), &e->size);

    if (options->argument_count != 1 && !sized) {
        return false;
    }
    e->recipient = options->arguments[0];
    if (!ph_address_parse(ph_str_from(e->recipient), &address) ||
        !ph_domain_normalize(address.domain, e->domain)) {
        fprintf(stderr, "posthaste: %s is no recipient; write user@example.org\n", e->recipient);
        return false;
    }
    return true;
}

int ph_cli_explain(int argc, char **argv)
{
    struct ph_cli_options options;
    struct explanation e = {0};
    struct ph_config *config;
    int result;

    if (!ph_cli_options_read(argc, argv, &options) || options.help ||
        !read_arguments(&options, &e)) {
        printf("usage: posthaste explain RECIPIENT [--size 20MB] [-c FILE] [--json]\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    config = ph_cli_config(options.config_path, false);
    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    e.config = config;
    ph_json_init(&e.json, &e.json_text);
    ph_json_open_object(&e.json, NULL);
    result = explain(&e);
    ph_json_close_object(&e.json);
    printf("%.*s%s", PH_STR_ARG(ph_buf_str(options.json ? &e.json_text : &e.text)),
           options.json ? "\n" : "");
    ph_buf_deinit(&e.text);
    ph_buf_deinit(&e.json_text);
    ph_config_release(config);
    return result;
}
