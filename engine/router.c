// Which send connector carries a recipient.
#include "engine/router.h"

#include <string.h>

#include "config/space.h"

// The best connector; `size` UINT64_MAX: whatever its size, `disabled`: even where it is disabled
// and holds its mail.
static struct ph_space_match find(const struct ph_config *config, struct ph_str domain,
                                  uint64_t size, bool any_size)
{
    struct ph_space_match best = {0};

    for (size_t i = 0; i < config->send_connector_count; i++) {
        const struct ph_send_connector *connector = &config->send_connectors[i];
        bool too_large = !any_size && size > connector->max_message_size;
        struct ph_space_match match = ph_space_match(connector, domain);

        if ((connector->enabled || connector->hold_when_disabled) && !too_large &&
            match.connector != NULL &&
            (best.connector == NULL || ph_space_better(&match, &best, domain))) {
            best = match;
        }
    }
    return best;
}

enum ph_route_result ph_router_route(const struct ph_config *config, struct ph_str domain,
                                     uint64_t size, const struct ph_send_connector **out_connector,
                                     struct ph_reason *out_reason)
{
    struct ph_space_match fit = find(config, domain, size, false);
    struct ph_space_match ideal = find(config, domain, size, true);
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

uint64_t ph_router_small_size(const struct ph_config *config)
{
    uint64_t small = UINT64_MAX;

    for (size_t i = 0; i < config->send_connector_count; i++) {
        uint64_t max = config->send_connectors[i].max_message_size;

        small = max < small ? max : small;
    }
    return small;
}

static void put_space(const struct ph_address_space *space, struct ph_buf *out)
{
    ph_buf_printf(out, "\"%s%.*s\"",
                  space->all          ? "*"
                  : space->subdomains ? "*."
                                      : "",
                  PH_STR_ARG(space->domain));
}

// It matches, and another one is better: by the first of Exchange's rules that tells them apart.
static void put_defeat(const struct ph_space_match *own, const struct ph_space_match *chosen,
                       struct ph_str domain, struct ph_buf *out)
{
    put_space(own->space, out);
    if (ph_space_specificity(own->space, domain) != ph_space_specificity(chosen->space, domain)) {
        ph_buf_append(out, PH_STR(" is less specific than "));
        put_space(chosen->space, out);
        ph_buf_printf(out, " of %.*s", PH_STR_ARG(chosen->connector->name));
    } else if (own->space->cost != chosen->space->cost) {
        ph_buf_printf(out, " costs %u, and %u through %.*s", own->space->cost, chosen->space->cost,
                      PH_STR_ARG(chosen->connector->name));
    } else {
        ph_buf_printf(out, " matches as well, and %.*s comes first by name",
                      PH_STR_ARG(chosen->connector->name));
    }
}

bool ph_router_explain(const struct ph_config *config, const struct ph_send_connector *connector,
                       struct ph_str domain, uint64_t size, struct ph_buf *out)
{
    struct ph_space_match chosen = find(config, domain, size, false);
    struct ph_space_match own = ph_space_match(connector, domain);

    if (connector == chosen.connector) {
        ph_buf_append(out, PH_STR("chosen: "));
        put_space(chosen.space, out);
        ph_buf_printf(out, " is the most specific match, cost %u (%.*s)%s", chosen.space->cost,
                      PH_STR_ARG(connector->source),
                      connector->enabled ? "" : "; it is disabled, and holds its mail");
        return true;
    }
    if (own.connector == NULL) {
        ph_buf_append(out, PH_STR("no address space matches"));
    } else if (!connector->enabled) {
        put_space(own.space, out);
        ph_buf_append(out, PH_STR(" would match, but it is disabled"));
    } else if (size > connector->max_message_size) {
        put_space(own.space, out);
        ph_buf_printf(out, " would match, but MaxMessageSize is %llu bytes",
                      (unsigned long long)connector->max_message_size);
    } else {
        put_defeat(&own, &chosen, domain, out);
    }
    return false;
}
