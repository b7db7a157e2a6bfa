// What only shows when all connectors are seen together: where mail would go with weaker TLS.
#include "config/build_parts.h"
#include "config/space.h"

#define OWN_CERTIFICATE_DAYS 21 // W9

void ph_build_check_expiry(struct ph_builder *b, struct ph_config_position at, const char *key,
                           int64_t not_after_s)
{
    int64_t now_s = b->files != NULL ? b->files->now_s : 0;
    int64_t days = (not_after_s - now_s) / 86400;

    if (now_s == 0 || not_after_s >= now_s + INT64_C(86400) * OWN_CERTIFICATE_DAYS) {
        return;
    }
    if (not_after_s <= now_s) {
        ph_build_warning(b, at, "W9", key, "our own certificate has expired; renew it");
    } else {
        ph_build_warning(b, at, "W9", key, "our own certificate expires in %lld day%s; renew it",
                         (long long)days, days == 1 ? "" : "s");
    }
}

// Does `given` demand less than `wanted` of a session that carries mail for `domain`?
static bool weaker(const struct ph_config *config, const struct ph_send_connector *given,
                   const struct ph_send_connector *wanted, struct ph_str domain)
{
    struct ph_tls_policy less = ph_config_policy(config, given, domain, false);
    struct ph_tls_policy more = ph_config_policy(config, wanted, domain, false);

    return ph_tls_policy_forces(&more) &&
           (!ph_tls_policy_forces(&less) || less.level > more.level ||
            (more.domain_secure && !less.domain_secure));
}

static struct ph_space_match carrier(const struct ph_config *config, struct ph_str domain,
                                     const struct ph_send_connector *without)
{
    struct ph_space_match best = {0};

    for (size_t i = 0; i < config->send_connector_count; i++) {
        const struct ph_send_connector *connector = &config->send_connectors[i];
        struct ph_space_match match = ph_space_match(connector, domain);

        if (connector != without && connector->enabled && match.connector != NULL &&
            (best.connector == NULL || ph_space_better(&match, &best, domain))) {
            best = match;
        }
    }
    return best;
}

// A name for "*": one that only "*" matches, by itself.
static struct ph_str example_of(const struct ph_address_space *space)
{
    return space->all ? PH_STR("any-other.invalid") : space->domain;
}

// W2: a disabled connector's mail would leave by one that demands less.
static void check_disabled(struct ph_builder *b, const struct ph_send_connector *connector,
                           struct ph_config_position at)
{
    for (size_t i = 0; i < connector->address_space_count; i++) {
        struct ph_str domain = example_of(&connector->address_spaces[i]);
        struct ph_space_match other = carrier(b->config, domain, connector);

        if (other.connector != NULL && weaker(b->config, other.connector, connector, domain)) {
            ph_build_warning(b, at, "W2", "Enabled",
                             "while %.*s is disabled, mail for %.*s leaves by %.*s, which demands "
                             "less TLS; write HoldWhenDisabled = true to hold it instead",
                             PH_STR_ARG(connector->name),
                             PH_STR_ARG(connector->address_spaces[i].all ? PH_STR("*") : domain),
                             PH_STR_ARG(other.connector->name));
            return;
        }
    }
}

// W10: a part of a space that demands TLS belongs to another connector that demands less.
static void check_shadows(struct ph_builder *b, const struct ph_send_connector *connector,
                          struct ph_config_position at)
{
    for (size_t i = 0; i < b->config->send_connector_count; i++) {
        const struct ph_send_connector *other = &b->config->send_connectors[i];

        for (size_t j = 0; other != connector && other->enabled && j < other->address_space_count;
             j++) {
            struct ph_str domain = example_of(&other->address_spaces[j]);
            struct ph_space_match own = ph_space_match(connector, domain);
            struct ph_space_match theirs = ph_space_match(other, domain);

            if (own.connector != NULL && theirs.space == &other->address_spaces[j] &&
                ph_space_better(&theirs, &own, domain) &&
                weaker(b->config, other, connector, domain)) {
                ph_build_warning(b, at, "W10", "RequireTLS",
                                 "mail for \"%s%.*s\" leaves by %.*s instead, which demands less "
                                 "TLS than %.*s",
                                 other->address_spaces[j].all          ? "*"
                                 : other->address_spaces[j].subdomains ? "*."
                                                                       : "",
                                 PH_STR_ARG(other->address_spaces[j].domain),
                                 PH_STR_ARG(other->name), PH_STR_ARG(connector->name));
            }
        }
    }
}

// W5: a listed domain whose connector doesn't secure it waits for ever.
static void check_list(struct ph_builder *b)
{
    const struct ph_config *config = b->config;

    for (size_t i = 0; i < config->send_domain_secure_count; i++) {
        struct ph_str domain = config->send_domain_secure[i];
        struct ph_space_match match = carrier(config, domain, NULL);

        if (match.connector == NULL || !match.connector->domain_secure_enabled) {
            ph_build_warning(b, b->transport[PH_TRANSPORT_SEND_SECURE].at, "W5",
                             "TLSSendDomainSecureList",
                             "mail for %.*s will wait: %.*s isn't DomainSecureEnabled; write "
                             "DomainSecureEnabled = true there",
                             PH_STR_ARG(domain),
                             PH_STR_ARG(match.connector != NULL ? match.connector->name
                                                                : PH_STR("its connector")));
        }
    }
}

// W7: DomainSecureEnabled does nothing where no listed domain comes this way.
static void check_unlisted(struct ph_builder *b, const struct ph_send_connector *connector,
                           struct ph_config_position at)
{
    for (size_t i = 0; i < b->config->send_domain_secure_count; i++) {
        if (ph_space_match(connector, b->config->send_domain_secure[i]).connector != NULL) {
            return;
        }
    }
    ph_build_warning(b, at, "W7", "DomainSecureEnabled",
                     "no domain of TLSSendDomainSecureList goes through %.*s, so nothing is "
                     "secured; list the domains there",
                     PH_STR_ARG(connector->name));
}

void ph_build_check_connectors(struct ph_builder *b, const struct ph_config_position *at)
{
    for (size_t i = 0; i < b->config->send_connector_count; i++) {
        const struct ph_send_connector *connector = &b->config->send_connectors[i];

        if (!connector->enabled && !connector->hold_when_disabled) {
            check_disabled(b, connector, at[i]);
        }
        if (connector->enabled) {
            check_shadows(b, connector, at[i]);
        }
        if (connector->domain_secure_enabled) {
            check_unlisted(b, connector, at[i]);
        }
    }
    check_list(b);
}
