// `posthaste explain RECIPIENT`: what would happen to mail for it, without connecting.
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"
#include "dns/local.h"
#include "dns/mx.h"
#include "engine/router.h"
#include "smtp/address.h"

// Beside what the connector demands: what the destination may publish is asked when mail comes.
static void explain_destination(const struct ph_tls_policy *policy, bool sts, struct ph_buf *out)
{
    static const char *const words[] = {
        [PH_DANE_MANDATORY] = "DANE must be published, and match (SmtpDaneMode)",
        [PH_DANE_OPPORTUNISTIC] = "DANE where its mail hosts publish it, and then it must match",
        [PH_DANE_NONE] = "DANE isn't looked at (SmtpDaneMode)",
    };

    ph_buf_printf(out, "  of the destination: %s;\n    MTA-STS %s\n", words[policy->dane_mode],
                  sts ? "where it publishes a policy (posthaste policy show tells)"
                      : "isn't looked at (MtaStsMode)");
}

static void explain_policy(const struct ph_tls_policy *policy, bool sts, struct ph_buf *out)
{
    static const char *const words[] = {
        [PH_TLS_DOMAIN_VALIDATION] =
            "TLS must succeed; the chain must be valid and the certificate must match the name",
        [PH_TLS_CERTIFICATE_VALIDATION] = "TLS must succeed and the chain must be valid; the name "
                                          "isn't checked",
        [PH_TLS_ENCRYPTION_ONLY] = "TLS must succeed; any certificate passes",
        [PH_TLS_OPPORTUNISTIC] = "TLS where it is offered, plaintext otherwise",
        [PH_TLS_NEVER] = "STARTTLS is never used",
    };

    ph_buf_printf(out, "  level    %s: %s\n", ph_tls_level_name(policy->level),
                  words[policy->level]);
    ph_buf_printf(out, "  demanded by %.*s\n", PH_STR_ARG(policy->source));
    for (size_t i = 0; i < policy->tls_domain_count; i++) {
        ph_buf_printf(out, "  name     %.*s (TlsDomain)\n", PH_STR_ARG(policy->tls_domains[i]));
    }
    if (policy->tls_domain_count == 0 && policy->level == PH_TLS_DOMAIN_VALIDATION) {
        ph_buf_printf(out, "  name     the recipient's domain (no TlsDomain is given)\n");
    }
    if (policy->domain_secure) {
        ph_buf_append(out, PH_STR("  Domain Security: mutual TLS, the domain is in "
                                  "TLSSendDomainSecureList\n"));
    }
    if (policy->domain_secure_misrouted) {
        ph_buf_append(out,
                      PH_STR("  Domain Security: the domain is listed, but this connector isn't "
                             "DomainSecureEnabled: its mail will be deferred\n"));
    }
    explain_destination(policy, sts, out);
    if (policy->report) {
        ph_buf_printf(out, "  Mode = report: only %s is enforced\n",
                      ph_tls_level_name(ph_tls_policy_level(policy)));
    }
}

static void explain_hosts(const struct ph_config *config, const struct ph_send_connector *connector,
                          const char *domain, struct ph_buf *out)
{
    struct ph_dns_local *local = ph_dns_local_create();
    struct ph_resolve_op op = {.rrtype = PH_RRTYPE_MX};
    struct ph_mx_hosts hosts;
    struct ph_reason reason;

    for (size_t i = 0; i < connector->smart_host_count; i++) {
        ph_buf_printf(out, "  smart host %.*s port %u\n",
                      PH_STR_ARG(connector->smart_hosts[i].name), connector->port);
    }
    for (size_t i = 0; i < config->resolver.local_data_count; i++) {
        struct ph_buf error = {0};

        (void)!ph_dns_local_add(local, config->resolver.local_data[i], &error);
        ph_buf_deinit(&error);
    }
    ph_str_copy(op.name, sizeof(op.name), ph_str_from(domain));
    if (connector->dns_routing && !ph_dns_local_answer(local, &op)) {
        ph_buf_append(out, PH_STR("  by MX records, which the daemon looks up when mail comes\n"));
    } else if (connector->dns_routing) {
        if (ph_mx_read(&op, &config->hostname, 1, &hosts, &reason) == PH_MX_FOUND) {
            for (size_t i = 0; i < hosts.count; i++) {
                ph_buf_printf(out, "  MX %u %s port %u (LocalData)\n", hosts.hosts[i].preference,
                              hosts.hosts[i].name, config->resolver.port);
            }
        } else {
            ph_buf_printf(out, "  no host: %s\n", reason.sentence);
        }
    }
    ph_buf_deinit(&op.rdata);
    ph_dns_local_destroy(local);
}

int ph_cli_explain(int argc, char **argv)
{
    struct ph_cli_options options;
    const struct ph_send_connector *connector = NULL;
    struct ph_config *config;
    struct ph_reason reason;
    struct ph_address address;
    char domain[PH_DOMAIN_BYTES_MAX + 1];
    struct ph_buf text = {0};
    enum ph_route_result route;

    if (!ph_cli_options_read(argc, argv, &options) || options.help || options.argument_count != 1) {
        printf("usage: posthaste explain RECIPIENT [-c FILE] [--json]\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    if (!ph_address_parse(ph_str_from(options.arguments[0]), &address) ||
        !ph_domain_normalize(address.domain, domain)) {
        fprintf(stderr, "posthaste: %s is no recipient; write user@example.org\n",
                options.arguments[0]);
        return PH_EXIT_USAGE;
    }
    config = ph_cli_config(options.config_path, false);
    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    route = ph_router_route(config, ph_str_from(domain), 0, &connector, &reason);
    ph_buf_printf(&text, "mail for %s (domain %s)\n\nconnectors\n", options.arguments[0], domain);
    ph_router_explain(config, ph_str_from(domain), 0, &text);
    if (route == PH_ROUTE_FOUND) {
        struct ph_tls_policy policy =
            ph_config_policy(config, connector, ph_str_from(domain), false);

        ph_buf_append(&text, PH_STR("\nnext hop\n"));
        explain_hosts(config, connector, domain, &text);
        ph_buf_append(&text, PH_STR("\nTLS policy\n"));
        explain_policy(&policy, connector->mta_sts, &text);
    } else {
        ph_buf_append(&text, PH_STR("\nno connector carries it: the mail would wait for a "
                                    "configuration that has one\n"));
    }
    if (options.json) {
        struct ph_buf out = {0};
        struct ph_json json;

        ph_json_init(&json, &out);
        ph_json_open_object(&json, NULL);
        ph_json_text(&json, "recipient", options.arguments[0]);
        ph_json_text(&json, "domain", domain);
        if (connector != NULL) {
            ph_json_string(&json, "connector", connector->name, 0);
        } else {
            ph_json_null(&json, "connector");
        }
        ph_json_string(&json, "text", ph_buf_str(&text), 0);
        ph_json_close_object(&json);
        printf("%.*s\n", PH_STR_ARG(ph_buf_str(&out)));
        ph_buf_deinit(&out);
    } else {
        printf("%.*s", PH_STR_ARG(ph_buf_str(&text)));
    }
    ph_buf_deinit(&text);
    ph_config_release(config);
    return route == PH_ROUTE_FOUND ? PH_EXIT_YES : PH_EXIT_UNDECIDED;
}
