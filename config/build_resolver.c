// The Resolver block.
#include <stdio.h>

#include "base/endpoint.h"
#include "config/build_parts.h"
#include "dns/local.h"

static const struct ph_cidr *build_allowed(struct ph_builder *b, const struct ph_value *value)
{
    struct ph_cidr *ranges = ph_build_alloc(b, value->word_count * sizeof(*ranges));

    for (size_t i = 0; i < value->word_count; i++) {
        if (!ph_cidr_parse(value->words[i], &ranges[i])) {
            ph_build_error(b, value->at, "C17", "AllowedDestinations",
                           "%.*s is no range; write \"192.0.2.0/24\" or an address",
                           PH_STR_ARG(value->words[i]));
        }
    }
    return ranges;
}

// "192.0.2.53" or "192.0.2.53@5353".
static void check_forwarders(struct ph_builder *b, const struct ph_value *value)
{
    for (size_t i = 0; i < value->word_count; i++) {
        struct ph_str port = value->words[i];
        struct ph_str address = PH_STR_NONE;
        struct ph_endpoint unused;
        uint64_t number = 53;

        if (!ph_str_cut(&port, '@', &address) || !ph_endpoint_parse_address(address, &unused) ||
            (address.len < value->words[i].len && !ph_str_to_u64(port, &number)) || number == 0 ||
            number > UINT16_MAX) {
            ph_build_error(b, value->at, "C17", "Forwarders",
                           "\"%.*s\" is no name server's address; write \"192.0.2.53\" or "
                           "\"192.0.2.53@5353\"",
                           PH_STR_ARG(value->words[i]));
        }
    }
}

static void check_local_data(struct ph_builder *b, const struct ph_value *value)
{
    struct ph_dns_local *local = ph_dns_local_create();
    struct ph_buf error = {0};

    for (size_t i = 0; i < value->word_count; i++) {
        if (!ph_dns_local_add(local, value->words[i], &error)) {
            ph_build_error(b, value->at, "C17", "LocalData",
                           "%.*s; write \"contoso.test. MX 10 mx1.contoso.test.\"",
                           PH_STR_ARG(ph_buf_str(&error)));
        }
        ph_buf_clear(&error);
    }
    ph_buf_deinit(&error);
    ph_dns_local_destroy(local);
}

static void check_trust_anchor(struct ph_builder *b, const struct ph_value *value)
{
    struct ph_str text;

    if (value->text.len > 0 && b->files != NULL &&
        ph_build_file(b, value, value->text, "C17", "TrustAnchor", &text, NULL) &&
        ph_str_find(text, PH_STR("DS")) < 0 && ph_str_find(text, PH_STR("DNSKEY")) < 0) {
        ph_build_error(b, value->at, "C17", "TrustAnchor",
                       "%.*s holds no DS or DNSKEY record; write \"/usr/share/dns/root.key\"",
                       PH_STR_ARG(value->text));
    }
}

static void warn(struct ph_builder *b, const struct ph_value *v)
{
    const struct ph_resolver_settings *settings = &b->config->resolver;

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

void ph_build_resolver(struct ph_builder *b)
{
    struct ph_resolver_settings *settings = &b->config->resolver;
    struct ph_value v[PH_RESOLVER_COUNT];

    ph_build_values(b, PH_BLOCK_RESOLVER, ph_build_only_block(b, PH_BLOCK_RESOLVER), v);
    *settings = (struct ph_resolver_settings){
        .forwarders = v[PH_RESOLVER_FORWARDERS].words,
        .forwarder_count = v[PH_RESOLVER_FORWARDERS].word_count,
        .local_data = v[PH_RESOLVER_LOCAL_DATA].words,
        .local_data_count = v[PH_RESOLVER_LOCAL_DATA].word_count,
        .trust_anchor = v[PH_RESOLVER_TRUST_ANCHOR].text,
        .allowed_destinations = build_allowed(b, &v[PH_RESOLVER_ALLOWED_DESTINATIONS]),
        .allowed_destination_count = v[PH_RESOLVER_ALLOWED_DESTINATIONS].word_count,
        .port = (uint16_t)v[PH_RESOLVER_PORT].number,
        .https_port = (uint16_t)v[PH_RESOLVER_HTTPS_PORT].number,
        .https_trust_anchors = v[PH_RESOLVER_HTTPS_TRUST_ANCHORS].text,
    };
    check_forwarders(b, &v[PH_RESOLVER_FORWARDERS]);
    check_local_data(b, &v[PH_RESOLVER_LOCAL_DATA]);
    check_trust_anchor(b, &v[PH_RESOLVER_TRUST_ANCHOR]);
    if (settings->https_trust_anchors.len > 0) {
        struct ph_str pem;

        (void)ph_build_file(b, &v[PH_RESOLVER_HTTPS_TRUST_ANCHORS], settings->https_trust_anchors,
                            "C17", "HttpsTrustAnchors", &pem, NULL);
    }
    warn(b, v);
}
