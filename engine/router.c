// Which send connector carries a recipient.
#include "engine/router.h"

#include <string.h>

struct match {
    const struct ph_send_connector *connector;
    const struct ph_address_space *space;
};

// Longer and exact is more specific (Exchange: exact > longer *.x > shorter *.x > *); 0: no match.
static size_t specificity(const struct ph_address_space *space, struct ph_str domain)
{
    struct ph_str own = space->domain;

    if (space->all) {
        return 1;
    }
    if (ph_str_eq(own, domain)) {
        return 2 + 2 * own.len + (space->subdomains ? 0 : 1);
    }
    if (space->subdomains && domain.len > own.len && ph_str_ends_nocase(domain, own) &&
        domain.data[domain.len - own.len - 1] == '.') {
        return 2 + 2 * own.len;
    }
    return 0;
}

static bool better(const struct match *a, const struct match *b, struct ph_str domain)
{
    size_t left = specificity(a->space, domain);
    size_t right = b->connector != NULL ? specificity(b->space, domain) : 0;

    if (left != right) {
        return left > right;
    }
    if (a->space->cost != b->space->cost) {
        return a->space->cost < b->space->cost;
    }
    return ph_str_cmp(a->connector->name, b->connector->name) < 0;
}

// The best connector; `size` UINT64_MAX: whatever its size, `disabled`: even where it is disabled
// and holds its mail.
static struct match find(const struct ph_config *config, struct ph_str domain, uint64_t size,
                         bool any_size)
{
    struct match best = {0};

    for (size_t i = 0; i < config->send_connector_count; i++) {
        const struct ph_send_connector *connector = &config->send_connectors[i];
        bool too_large = !any_size && size > connector->max_message_size;

        if (!(connector->enabled || connector->hold_when_disabled) || too_large) {
            continue;
        }
        for (size_t j = 0; j < connector->address_space_count; j++) {
            struct match match = {.connector = connector, .space = &connector->address_spaces[j]};

            if (specificity(match.space, domain) > 0 &&
                (best.connector == NULL || better(&match, &best, domain))) {
                best = match;
            }
        }
    }
    return best;
}

enum ph_route_result ph_router_route(const struct ph_config *config, struct ph_str domain,
                                     uint64_t size, const struct ph_send_connector **out_connector,
                                     struct ph_reason *out_reason)
{
    struct match fit = find(config, domain, size, false);
    struct match ideal = find(config, domain, size, true);
    struct ph_tls_policy wanted;
    struct ph_tls_policy given;

    if (ideal.connector == NULL || (fit.connector != NULL && !fit.connector->enabled)) {
        return PH_ROUTE_UNREACHABLE;
    }
    if (fit.connector == NULL) {
        *out_reason = ph_reason_make(PH_REASON_SIZE_EXCEEDED,
                                     "the message has %llu bytes, more than any connector for "
                                     "%.*s takes (%.*s: MaxMessageSize %llu)",
                                     (unsigned long long)size, PH_STR_ARG(domain),
                                     PH_STR_ARG(ideal.connector->name),
                                     (unsigned long long)ideal.connector->max_message_size);
        return PH_ROUTE_REFUSED;
    }
    wanted = ph_config_policy(config, ideal.connector, domain, false);
    given = ph_config_policy(config, fit.connector, domain, false);
    // Exchange's trap: a large message would leave by a connector that demands less.
    if (fit.connector != ideal.connector && ph_tls_policy_forces(&wanted) &&
        (!ph_tls_policy_forces(&given) || given.level > wanted.level)) {
        *out_reason = ph_reason_make(
            PH_REASON_SIZE_WOULD_BYPASS_TLS,
            "the message has %llu bytes, more than connector %.*s takes, and connector %.*s would "
            "send it with weaker TLS; raise MaxMessageSize of %.*s",
            (unsigned long long)size, PH_STR_ARG(ideal.connector->name),
            PH_STR_ARG(fit.connector->name), PH_STR_ARG(ideal.connector->name));
        return PH_ROUTE_REFUSED;
    }
    *out_connector = fit.connector;
    return PH_ROUTE_FOUND;
}

void ph_router_explain(const struct ph_config *config, struct ph_str domain, uint64_t size,
                       struct ph_buf *out)
{
    struct match chosen = find(config, domain, size, false);

    for (size_t i = 0; i < config->send_connector_count; i++) {
        const struct ph_send_connector *connector = &config->send_connectors[i];
        const struct ph_address_space *best = NULL;

        for (size_t j = 0; j < connector->address_space_count; j++) {
            const struct ph_address_space *space = &connector->address_spaces[j];

            if (specificity(space, domain) > 0 &&
                (best == NULL || specificity(space, domain) > specificity(best, domain))) {
                best = space;
            }
        }
        ph_buf_printf(out, "  %-20.*s ", PH_STR_ARG(connector->name));
        if (connector == chosen.connector) {
            ph_buf_printf(out, "chosen: \"%s%.*s\" is the most specific match, cost %u (%.*s)\n",
                          chosen.space->all          ? "*"
                          : chosen.space->subdomains ? "*."
                                                     : "",
                          PH_STR_ARG(chosen.space->domain), chosen.space->cost,
                          PH_STR_ARG(connector->source));
        } else if (best == NULL) {
            ph_buf_append(out, PH_STR("no address space matches\n"));
        } else if (!connector->enabled) {
            ph_buf_append(out, PH_STR("would match, but is disabled\n"));
        } else if (size > connector->max_message_size) {
            ph_buf_append(out, PH_STR("would match, but the message is too large for it\n"));
        } else {
            ph_buf_append(out, PH_STR("matches, but less specifically, at a higher cost or with a "
                                      "later name\n"));
        }
    }
}
