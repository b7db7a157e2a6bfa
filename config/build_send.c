// SendConnector blocks: Exchange's rules (posthaste.conf(5)), all in one run.
#include <string.h>

#include "base/hash.h"
#include "config/build_parts.h"
#include "config/space.h"
#include "smtp/address.h"

enum { // TlsAuthLevel's choices: as enum ph_tls_level, then none
    LEVEL_NONE = 3,
};

struct send {
    struct ph_builder *b;
    struct ph_config_block *block;
    struct ph_value v[PH_SEND_COUNT];
    struct ph_send_connector *c;
};

// --- address spaces, smart hosts ---

static void build_spaces(struct send *s)
{
    const struct ph_value *value = &s->v[PH_SEND_ADDRESS_SPACES];
    struct ph_address_space *spaces = ph_build_alloc(s->b, value->word_count * sizeof(*spaces));

    if (value->word_count == 0) {
        ph_build_error(s->b, value->at, "C16", "AddressSpaces",
                       "is required; write AddressSpaces = {\"*\"} for all domains");
    }
    for (size_t i = 0; i < value->word_count; i++) {
        char domain[PH_DOMAIN_BYTES_MAX + 1];

        if (ph_space_read(value->words[i], domain, &spaces[i])) {
            spaces[i].domain = ph_build_str(s->b, spaces[i].domain);
        } else {
            spaces[i] = (struct ph_address_space){.domain = PH_STR_NONE};
            ph_build_error(s->b, value->at, "C16", "AddressSpaces",
                           "\"%.*s\" is no address space; write \"contoso.com\", "
                           "\"*.contoso.com;2\" or \"*\"",
                           PH_STR_ARG(value->words[i]));
        }
    }
    s->c->address_spaces = spaces;
    s->c->address_space_count = value->word_count;
}

static void build_smart_hosts(struct send *s)
{
    const struct ph_value *value = &s->v[PH_SEND_SMART_HOSTS];
    struct ph_smart_host *hosts = ph_build_alloc(s->b, value->word_count * sizeof(*hosts));

    for (size_t i = 0; i < value->word_count; i++) {
        struct ph_str text = value->words[i];
        char name[PH_DOMAIN_BYTES_MAX + 1];

        if (text.len > 2 && text.data[0] == '[' && text.data[text.len - 1] == ']') {
            hosts[i].no_mx = true;
            text = ph_str_first(ph_str_after(text, 1), text.len - 2);
        }
        if (ph_endpoint_parse_address(text, &hosts[i].literal)) {
            hosts[i].is_literal = true;
            hosts[i].name = ph_build_str(s->b, text);
        } else if (ph_domain_normalize(text, name)) {
            hosts[i].name = ph_build_str(s->b, ph_str_from(name));
        } else {
            ph_build_error(s->b, value->at, "C17", "SmartHosts",
                           "\"%.*s\" is neither a host name nor an IP address; write "
                           "\"relay.example.net\"",
                           PH_STR_ARG(value->words[i]));
            hosts[i].name = PH_STR_NONE;
        }
    }
    if (value->word_count > PH_SMART_HOSTS_MAX) {
        ph_build_error(s->b, value->at, "C17", "SmartHosts",
                       "%zu of them; write at most %d, or one name with several MX records",
                       value->word_count, PH_SMART_HOSTS_MAX);
    }
    s->c->smart_hosts = hosts;
    s->c->smart_host_count = value->word_count;
}

// --- TLS ---

// One name of TlsDomain: "mx.contoso.com" or "*.contoso.com" (C13).
static bool tls_domain_valid(struct ph_str text, char out[PH_DOMAIN_BYTES_MAX + 3])
{
    char name[PH_DOMAIN_BYTES_MAX + 1];
    struct ph_endpoint unused;
    bool wildcard = ph_str_starts(text, PH_STR("*."));
    struct ph_str rest = wildcard ? ph_str_after(text, 2) : text;

    if (ph_str_find_char(rest, '*') >= 0 || ph_endpoint_parse_address(rest, &unused) ||
        !ph_domain_normalize(rest, name) || ph_str_find_char(rest, '.') < 0) {
        return false;
    }
    ph_str_copy(out, PH_DOMAIN_BYTES_MAX + 3, wildcard ? PH_STR("*.") : PH_STR_NONE);
    ph_str_copy(out + (wildcard ? 2 : 0), PH_DOMAIN_BYTES_MAX + 1, ph_str_from(name));
    return true;
}

static void build_tls_domains(struct send *s)
{
    const struct ph_value *value = &s->v[PH_SEND_TLS_DOMAIN];
    struct ph_str *domains = ph_build_alloc(s->b, value->word_count * sizeof(*domains));
    char name[PH_DOMAIN_BYTES_MAX + 3];

    if (value->word_count > PH_TLS_DOMAINS_MAX) {
        ph_build_error(s->b, value->at, "C13", "TlsDomain",
                       "has %zu names, and %d are possible; write \"*.contoso.com\" for all of a "
                       "domain",
                       value->word_count, PH_TLS_DOMAINS_MAX);
    }
    for (size_t i = 0; i < value->word_count; i++) {
        if (!tls_domain_valid(value->words[i], name)) {
            ph_build_error(s->b, value->at, "C13", "TlsDomain",
                           "\"%.*s\" isn't possible; write \"mx.contoso.com\" or "
                           "\"*.contoso.com\"",
                           PH_STR_ARG(value->words[i]));
            domains[i] = PH_STR_NONE;
        } else {
            domains[i] = ph_build_str(s->b, ph_str_from(name));
        }
    }
    s->c->policy.tls_domains = domains;
    s->c->policy.tls_domain_count = value->word_count;
}

static int hex_digit(char c)
{
    c = ph_ascii_lower(c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void build_pins(struct send *s)
{
    const struct ph_value *value = &s->v[PH_SEND_TLS_PINS];
    struct ph_tls_pin *pins = ph_build_alloc(s->b, value->word_count * sizeof(*pins));

    for (size_t i = 0; i < value->word_count; i++) {
        struct ph_str text = value->words[i];
        bool good;

        if (ph_str_starts_nocase(text, PH_STR("spki:"))) {
            text = ph_str_after(text, 5);
        }
        good = text.len == 64;
        for (size_t j = 0; good && j < 32; j++) {
            int high = hex_digit(text.data[2 * j]);
            int low = hex_digit(text.data[2 * j + 1]);

            good = high >= 0 && low >= 0;
            pins[i].spki_sha256[j] = good ? (uint8_t)(high << 4 | low) : 0;
        }
        if (!good) {
            ph_build_error(s->b, value->at, "C17", "TlsPins",
                           "\"%.*s\" is no SHA-256 of a public key; write 64 hexadecimal digits",
                           PH_STR_ARG(value->words[i]));
        }
    }
    s->c->policy.pins = pins;
    s->c->policy.pin_count = value->word_count;
}

static bool validates(const struct send *s)
{
    const struct ph_tls_policy *policy = &s->c->policy;

    return policy->level <= PH_TLS_CERTIFICATE_VALIDATION || policy->credentials_exact_host ||
           s->c->domain_secure_enabled;
}

static void build_trust(struct send *s)
{
    struct ph_trust *trust = ph_build_trust(
        s->b, &(struct ph_trust_wish){.anchors = &s->v[PH_SEND_TLS_TRUST_ANCHORS],
                                      .intermediates = &s->v[PH_SEND_TLS_INTERMEDIATES],
                                      .crls = &s->v[PH_SEND_REVOCATION_CRLS],
                                      .fetch = s->v[PH_SEND_REVOCATION_FETCH].boolean,
                                      .needed = validates(s)});

    if (trust != NULL) {
        s->c->policy.trust = trust;
        s->c->policy.trust_id = ph_trust_id(trust);
    }
}

static void build_policy(struct send *s)
{
    struct ph_tls_policy *policy = &s->c->policy;
    const struct ph_value *v = s->v;
    static const enum ph_tls_level floors[] = {PH_TLS_OPPORTUNISTIC, PH_TLS_ENCRYPTION_ONLY,
                                               PH_TLS_ENCRYPTION_ONLY,
                                               PH_TLS_CERTIFICATE_VALIDATION};
    static const enum ph_dane_mode dane_modes[] = {PH_DANE_OPPORTUNISTIC, PH_DANE_MANDATORY,
                                                   PH_DANE_NONE};

    policy->level = PH_TLS_OPPORTUNISTIC;
    if (v[PH_SEND_IGNORE_STARTTLS].boolean) {
        policy->level = PH_TLS_NEVER;
    }
    if (v[PH_SEND_REQUIRE_TLS].boolean) {
        policy->level = v[PH_SEND_TLS_AUTH_LEVEL].number == LEVEL_NONE
                            ? PH_TLS_ENCRYPTION_ONLY
                            : (enum ph_tls_level)v[PH_SEND_TLS_AUTH_LEVEL].number;
    }
    policy->credentials_exact_host = s->c->smart_host_auth == PH_SMART_HOST_AUTH_BASIC_REQUIRE_TLS;
    policy->credentials_in_clear = s->c->smart_host_auth == PH_SMART_HOST_AUTH_BASIC;
    policy->fallback =
        v[PH_SEND_FALLBACK].number == 0 ? PH_TLS_FALLBACK_PLAINTEXT : PH_TLS_FALLBACK_DEFER;
    policy->name_source = (enum ph_tls_name_source)v[PH_SEND_TLS_NAME_SOURCE].number;
    policy->common_name = (enum ph_tls_common_name)v[PH_SEND_TLS_USE_COMMON_NAME].number;
    policy->revocation_unknown_accept = v[PH_SEND_REVOCATION_UNKNOWN].number == 1;
    policy->require_groups = v[PH_SEND_TLS_REQUIRE_GROUPS].text;
    policy->version_min = v[PH_SEND_TLS_MIN_VERSION].number == 1 ? 0x0304 : 0x0303;
    policy->report = v[PH_SEND_MODE].number == 1;
    policy->report_floor = floors[v[PH_SEND_REPORT_FLOOR].number];
    policy->source = s->c->source;
    policy->dane_mode = dane_modes[v[PH_SEND_DANE_MODE].number];
    policy->accept_dane = v[PH_SEND_ACCEPT_DANE].boolean;
    build_tls_domains(s);
    build_pins(s);
}

// --- the rules ---

// W14: what of the connector's own settings is recorded only.
static void warn_report(struct send *s)
{
    const struct {
        size_t key;
        const char *name;
        bool demands;
    } settings[] = {
        {PH_SEND_REQUIRE_TLS, "RequireTLS",
         s->v[PH_SEND_REQUIRE_TLS].boolean && s->v[PH_SEND_REPORT_FLOOR].number == 0},
        {PH_SEND_TLS_AUTH_LEVEL, "TlsAuthLevel",
         s->v[PH_SEND_TLS_AUTH_LEVEL].number != LEVEL_NONE &&
             s->c->policy.level < s->c->policy.report_floor},
        {PH_SEND_TLS_DOMAIN, "TlsDomain", s->v[PH_SEND_TLS_DOMAIN].word_count > 0},
        {PH_SEND_TLS_PINS, "TlsPins", s->v[PH_SEND_TLS_PINS].word_count > 0},
        {PH_SEND_TLS_REQUIRE_GROUPS, "TlsRequireGroups",
         s->v[PH_SEND_TLS_REQUIRE_GROUPS].text.len > 0},
    };
    struct ph_buf names = {0};

    for (size_t i = 0; i < PH_ARRAY_LEN(settings); i++) {
        if (settings[i].demands) {
            ph_buf_printf(&names, "%s%s = %.*s", names.len > 0 ? ", " : "", settings[i].name,
                          PH_STR_ARG(s->v[settings[i].key].text));
        }
    }
    ph_build_warning(s->b, s->v[PH_SEND_MODE].at, "W14", "Mode",
                     "report: %.*s is enforced; recorded, and not enforced, is: %s",
                     PH_STR_ARG(s->v[PH_SEND_REPORT_FLOOR].text),
                     names.len > 0 ? ph_buf_cstr(&names) : "nothing");
    ph_buf_deinit(&names);
}

static void check_tls_rules(struct send *s)
{
    struct ph_builder *b = s->b;
    const struct ph_value *v = s->v;
    bool require = v[PH_SEND_REQUIRE_TLS].boolean;
    bool ignore = v[PH_SEND_IGNORE_STARTTLS].boolean;
    uint64_t level = v[PH_SEND_TLS_AUTH_LEVEL].number;
    struct ph_config_position at = v[PH_SEND_TLS_AUTH_LEVEL].at;

    if (level != LEVEL_NONE && !require) {
        ph_build_error(b, at, "C01", "TlsAuthLevel",
                       "has no meaning without RequireTLS; write RequireTLS = true");
    }
    if (level != LEVEL_NONE && ignore) {
        ph_build_error(b, at, "C02", "TlsAuthLevel",
                       "contradicts IgnoreSTARTTLS; write IgnoreSTARTTLS = false");
    }
    if (require && ignore) {
        ph_build_error(b, v[PH_SEND_REQUIRE_TLS].at, "C03", "RequireTLS",
                       "contradicts IgnoreSTARTTLS; write IgnoreSTARTTLS = false");
    }
    if (level == PH_TLS_DOMAIN_VALIDATION && require && s->c->smart_host_count > 0 &&
        v[PH_SEND_TLS_DOMAIN].word_count == 0) {
        ph_build_error(b, at, "C04", "TlsAuthLevel",
                       "DomainValidation through a smart host needs TlsDomain; write TlsDomain = "
                       "{\"%.*s\"}",
                       PH_STR_ARG(s->c->smart_hosts[0].name));
    }
    if (v[PH_SEND_TLS_DOMAIN].given && level != PH_TLS_DOMAIN_VALIDATION) {
        ph_build_warning(b, v[PH_SEND_TLS_DOMAIN].at, "W4", "TlsDomain",
                         "counts with TlsAuthLevel = DomainValidation only");
    }
    if (level == PH_TLS_CERTIFICATE_VALIDATION && require) {
        ph_build_warning(b, at, "W6", "TlsAuthLevel",
                         "CertificateValidation authenticates nobody: any trusted certificate "
                         "passes; DomainValidation checks the name");
    }
    if (level <= PH_TLS_CERTIFICATE_VALIDATION && require &&
        v[PH_SEND_REVOCATION_CRLS].word_count == 0 && !v[PH_SEND_REVOCATION_FETCH].boolean) {
        ph_build_warning(b, at, "W13", "RevocationCrls",
                         "no local CRLs, and none are fetched: a revoked certificate passes");
    }
    if (v[PH_SEND_TLS_NAME_SOURCE].number == PH_TLS_NAME_HOST && s->c->dns_routing) {
        ph_build_warning(b, v[PH_SEND_TLS_NAME_SOURCE].at, "W11", "TlsNameSource",
                         "host names that DNS gives without DNSSEC prove nothing");
    }
    if (v[PH_SEND_MODE].number == 1) {
        warn_report(s);
    }
}

static void check_domain_security(struct send *s)
{
    const struct ph_value *secure = &s->v[PH_SEND_DOMAIN_SECURE];

    if (secure->boolean && s->v[PH_SEND_IGNORE_STARTTLS].boolean) {
        ph_build_error(s->b, secure->at, "C09", "DomainSecureEnabled",
                       "contradicts IgnoreSTARTTLS; write IgnoreSTARTTLS = false");
    }
    if (secure->boolean && !s->c->dns_routing) {
        ph_build_error(s->b, secure->at, "C10", "DomainSecureEnabled",
                       "works with DNS routing only; write DNSRoutingEnabled = true");
    }
    if (secure->boolean && s->v[PH_SEND_FRONTEND_PROXY].boolean) {
        ph_build_error(s->b, s->v[PH_SEND_FRONTEND_PROXY].at, "C29", "FrontendProxyEnabled",
                       "contradicts DomainSecureEnabled; write FrontendProxyEnabled = false");
    }
    if (s->v[PH_SEND_FORCE_HELO].boolean &&
        (s->v[PH_SEND_REQUIRE_TLS].boolean || secure->boolean ||
         s->c->smart_host_auth == PH_SMART_HOST_AUTH_BASIC_REQUIRE_TLS)) {
        ph_build_error(s->b, s->v[PH_SEND_FORCE_HELO].at, "C15", "ForceHELO",
                       "HELO shows no STARTTLS, which this connector demands; write ForceHELO = "
                       "false");
    }
}

static void check_codes(struct send *s)
{
    const struct ph_value *up = &s->v[PH_SEND_UPGRADE_CODES];
    const struct ph_value *down = &s->v[PH_SEND_DOWNGRADE_CODES];

    for (size_t i = 0; i < up->word_count; i++) {
        for (size_t j = 0; j < down->word_count; j++) {
            if (ph_str_eq_nocase(up->words[i], down->words[j])) {
                ph_build_error(s->b, up->at, "C22", "UpgradeCodes",
                               "\"%.*s\" stands in DowngradeCodes too; remove it from one",
                               PH_STR_ARG(up->words[i]));
            }
        }
    }
}

static void check_routing(struct send *s)
{
    struct ph_builder *b = s->b;
    const struct ph_value *v = s->v;
    struct ph_config_position at = v[PH_SEND_SMART_HOST_AUTH].at;
    bool basic = s->c->smart_host_auth == PH_SMART_HOST_AUTH_BASIC;
    bool require = s->c->smart_host_auth == PH_SMART_HOST_AUTH_BASIC_REQUIRE_TLS;

    if (s->c->smart_host_count > 0 && s->c->dns_routing) {
        ph_build_error(b, v[PH_SEND_SMART_HOSTS].at, "C05", "SmartHosts",
                       "contradicts DNS routing; write DNSRoutingEnabled = false");
    }
    if (s->c->smart_host_count == 0 && !s->c->dns_routing) {
        ph_build_error(b, v[PH_SEND_DNS_ROUTING].at, "C06", "DNSRoutingEnabled",
                       "false needs SmartHosts; write SmartHosts = {\"relay.example.net\"}");
    }
    if (s->c->smart_host_auth != PH_SMART_HOST_AUTH_NONE && s->c->dns_routing) {
        ph_build_error(b, at, "C07", "SmartHostAuthMechanism",
                       "is for smart hosts; write DNSRoutingEnabled = false and SmartHosts");
    }
    if ((basic || require) && v[PH_SEND_CREDENTIAL].text.len == 0) {
        ph_build_error(b, at, "C08", "SmartHostAuthMechanism",
                       "needs AuthenticationCredential; name a file with the user and the "
                       "password");
    }
    if (require && v[PH_SEND_IGNORE_STARTTLS].boolean) {
        ph_build_error(b, at, "C23", "SmartHostAuthMechanism",
                       "BasicAuthRequireTLS contradicts IgnoreSTARTTLS; write IgnoreSTARTTLS = "
                       "false");
    } else if (basic) {
        ph_build_warning(b, at, "W3", "SmartHostAuthMechanism",
                         "BasicAuth sends the password in the clear where there is no TLS; "
                         "BasicAuthRequireTLS doesn't");
    }
    if (require && s->c->policy.level != PH_TLS_DOMAIN_VALIDATION) {
        for (size_t i = 0; i < s->c->smart_host_count; i++) {
            if (s->c->smart_hosts[i].is_literal) {
                ph_build_error(b, at, "C26", "SmartHostAuthMechanism",
                               "BasicAuthRequireTLS checks the smart host's name, and %.*s has "
                               "none; write its name, or DomainValidation with TlsDomain",
                               PH_STR_ARG(s->c->smart_hosts[i].name));
            }
        }
    }
    if (s->c->dns_routing && v[PH_SEND_PORT].number != 25) {
        ph_build_error(b, v[PH_SEND_PORT].at, "C25", "Port",
                       "is for smart hosts; with DNS routing mail goes to port 25 (laboratories "
                       "set Resolver.Port)");
    }
}

// --- the rest ---

static void build_credential(struct send *s)
{
    const struct ph_value *value = &s->v[PH_SEND_CREDENTIAL];
    struct ph_str text;
    struct ph_str user;
    struct ph_str password = PH_STR_NONE;
    unsigned mode = 0;

    if (value->text.len == 0 ||
        !ph_build_file(s->b, value, value->text, "C08", "AuthenticationCredential", &text, &mode)) {
        return;
    }
    if ((mode & 077) != 0) {
        ph_build_error(s->b, value->at, "C08", "AuthenticationCredential",
                       "others may read %.*s; chmod 0600", PH_STR_ARG(value->text));
    }
    if (!ph_str_cut(&text, '\n', &user) || !ph_str_cut(&text, '\n', &password) ||
        ph_str_trim(user).len == 0 || ph_str_trim(password).len == 0) {
        ph_build_error(s->b, value->at, "C08", "AuthenticationCredential",
                       "%.*s is incomplete; write the user on line 1 and the password on line 2",
                       PH_STR_ARG(value->text));
    }
    s->c->auth_user = ph_str_trim(user);
    s->c->auth_password = ph_str_trim(password);
}

static void build_sources(struct send *s)
{
    const struct ph_value *value = &s->v[PH_SEND_SOURCE_IP];
    struct ph_source *sources = ph_build_alloc(s->b, value->word_count * sizeof(*sources));
    size_t count = 0;

    for (size_t i = 0; i < value->word_count; i++) {
        struct ph_str address = value->words[i];
        ptrdiff_t at = ph_str_find_char(address, ';');
        uint64_t number = 1;

        // As in AddressSpaces a number stands behind a semicolon.
        if (at >= 0) {
            if (!ph_str_to_u64(ph_str_after(address, (size_t)at + 1), &number)) {
                number = 0;
            }
            address = ph_str_first(address, (size_t)at);
        }
        if (!ph_endpoint_parse_address(address, &sources[count].address) || number < 1 ||
            number > PH_SOURCE_WEIGHT_MAX) {
            ph_build_error(s->b, value->at, "C17", "SourceIPAddress",
                           "\"%.*s\" is no IP address; write one of this machine's, or "
                           "\"192.0.2.1;3\" with a weight from 1 to %d",
                           PH_STR_ARG(value->words[i]), PH_SOURCE_WEIGHT_MAX);
        } else if (!ph_endpoint_is_any(
                       &sources[count].address)) { // Exchange's word for any: 0.0.0.0
            sources[count++].weight = (uint32_t)number;
        }
    }
    s->c->sources = sources;
    s->c->source_count = count;
}

static void build_limits(struct send *s)
{
    const struct ph_value *v = s->v;

    s->c->limits = (struct ph_limits){
        .max_connections = ph_build_bounded(v[PH_SEND_MAX_CONNECTIONS].number),
        .max_messages_per_connection = ph_build_bounded(v[PH_SEND_MESSAGES_PER_CONNECTION].number),
        .max_recipients_per_transaction =
            ph_build_bounded(v[PH_SEND_RECIPIENTS_PER_TRANSACTION].number),
        .pipeline_depth = ph_build_bounded(v[PH_SEND_PIPELINE_DEPTH].number),
        .connect_rate = {.count = v[PH_SEND_CONNECT_RATE].number,
                         .interval_ms = v[PH_SEND_CONNECT_RATE].interval},
        .message_rate = {.count = v[PH_SEND_MESSAGE_RATE].number,
                         .interval_ms = v[PH_SEND_MESSAGE_RATE].interval},
        .max_connection_age_ms = v[PH_SEND_MAX_CONNECTION_AGE].number,
        .inactivity_timeout_ms = v[PH_SEND_INACTIVITY_TIMEOUT].number,
    };
    s->c->timeouts = (struct ph_timeouts){
        .connect_ms = v[PH_SEND_CONNECT_TIMEOUT].number,
        .greeting_ms = v[PH_SEND_GREETING_TIMEOUT].number,
        .ehlo_ms = v[PH_SEND_EHLO_TIMEOUT].number,
        .tls_ms = v[PH_SEND_TLS_TIMEOUT].number,
        .mail_ms = v[PH_SEND_MAIL_TIMEOUT].number,
        .rcpt_ms = v[PH_SEND_RCPT_TIMEOUT].number,
        .data_ms = v[PH_SEND_DATA_TIMEOUT].number,
        .final_dot_ms = v[PH_SEND_FINAL_DOT_TIMEOUT].number,
    };
    s->c->ramp = v[PH_SEND_RAMP].boolean;
    s->c->in_doubt_limit = ph_build_bounded(v[PH_SEND_IN_DOUBT_LIMIT].number);
    s->c->max_message_size = v[PH_SEND_MAX_MESSAGE_SIZE].number;
    s->c->retry_tls_ms = v[PH_SEND_RETRY_TLS].times;
    s->c->retry_tls_count = v[PH_SEND_RETRY_TLS].word_count;
}

// A list of reason tokens ("cert-expired"), reply codes ("450") and status codes ("4.2.2").
static const struct ph_str *build_codes(struct send *s, size_t key, const char *name,
                                        size_t *out_count)
{
    const struct ph_value *value = &s->v[key];

    for (size_t i = 0; i < value->word_count; i++) {
        struct ph_str text = value->words[i];
        enum ph_reason_kind kind;
        struct ph_status status;
        uint64_t code;

        if (!ph_reason_kind_from_token(text, &kind) && !ph_status_parse(&text, &status) &&
            (!ph_str_to_u64(text, &code) || code < 400 || code > 599)) {
            ph_build_error(s->b, value->at, "C17", name,
                           "\"%.*s\" is neither a reason nor a reply's code; write "
                           "\"cert-expired\", \"450\" or \"4.2.2\"",
                           PH_STR_ARG(value->words[i]));
        }
    }
    *out_count = value->word_count;
    return value->words;
}

static void build_error_policies(struct send *s)
{
    struct ph_send_connector *c = s->c;

    c->error_policies = (unsigned)s->v[PH_SEND_ERROR_POLICIES].number;
    c->upgrade_codes =
        build_codes(s, PH_SEND_UPGRADE_CODES, "UpgradeCodes", &c->upgrade_code_count);
    c->downgrade_codes =
        build_codes(s, PH_SEND_DOWNGRADE_CODES, "DowngradeCodes", &c->downgrade_code_count);
}

// All that a session shows of us: sessions are shared where it is the same.
static uint64_t hash_identity(const struct send *s)
{
    const struct ph_send_connector *c = s->c;
    uint64_t hash = ph_hash_str(c->fqdn, 1);

    hash = ph_hash_str(c->auth_user, hash);
    hash = ph_hash_str(c->auth_password, hash);
    if (c->identity != NULL) {
        hash = ph_hash_bytes(ph_tls_identity_sha256(c->identity), PH_SHA256_BYTES, hash);
    }
    hash = ph_hash_str(c->tls_groups, hash);
    hash = ph_hash_bytes(&c->port, sizeof(c->port), hash);
    hash = ph_hash_bytes(&c->force_helo, sizeof(c->force_helo), hash);
    for (size_t i = 0; i < c->source_count; i++) {
        hash = ph_hash_bytes(c->sources[i].address.bytes, 16, hash);
    }
    return hash != 0 ? hash : 1;
}

static void build_required_groups(struct send *s)
{
    const struct ph_value *value = &s->v[PH_SEND_TLS_REQUIRE_GROUPS];
    struct ph_buf error = {0};

    if (value->text.len == 0) {
        return;
    }
    if (!ph_tls_groups_requirable(value->text, &error)) {
        ph_build_error(s->b, value->at, "C17", "TlsRequireGroups",
                       "%.*s; write for example \"X25519:P-256\"", PH_STR_ARG(ph_buf_str(&error)));
    } else if (!s->v[PH_SEND_REQUIRE_TLS].boolean) {
        // An opportunistic connector would go on in clear: less than what is demanded.
        ph_build_error(s->b, value->at, "C17", "TlsRequireGroups",
                       "needs RequireTLS = true; add it, or remove TlsRequireGroups");
    } else if (s->v[PH_SEND_MODE].number == 0) {
        // Nothing else is offered, so that the host chooses one of them.
        s->c->tls_groups = value->text;
    }
    ph_buf_deinit(&error);
}

static void build_one(struct send *s)
{
    static const enum ph_smart_host_auth auths[] = {
        PH_SMART_HOST_AUTH_NONE, PH_SMART_HOST_AUTH_BASIC, PH_SMART_HOST_AUTH_BASIC_REQUIRE_TLS,
        PH_SMART_HOST_AUTH_EXTERNAL_AUTHORITATIVE, PH_SMART_HOST_AUTH_NONE};
    struct ph_builder *b = s->b;
    struct ph_send_connector *c = s->c;
    struct ph_buf error = {0};

    ph_build_values(b, PH_BLOCK_SEND, s->block, s->v);
    c->name = ph_build_str(b, s->block->label);
    c->source = ph_build_source(b, s->block);
    c->enabled = s->v[PH_SEND_ENABLED].boolean;
    c->dns_routing = s->v[PH_SEND_DNS_ROUTING].boolean;
    c->port = (uint16_t)s->v[PH_SEND_PORT].number;
    c->smart_host_auth = auths[s->v[PH_SEND_SMART_HOST_AUTH].number];
    if (s->v[PH_SEND_SMART_HOST_AUTH].number == 4) {
        ph_build_error(b, s->v[PH_SEND_SMART_HOST_AUTH].at, "C17", "SmartHostAuthMechanism",
                       "ExchangeServer isn't possible here; write BasicAuthRequireTLS");
    }
    c->domain_secure_enabled = s->v[PH_SEND_DOMAIN_SECURE].boolean;
    c->send_organization_headers = s->v[PH_SEND_ORGANIZATION_HEADERS].boolean;
    c->hold_when_disabled = s->v[PH_SEND_HOLD_WHEN_DISABLED].boolean;
    c->tls_reporting = s->v[PH_SEND_TLS_REPORTING].number == 0;
    c->mta_sts = s->v[PH_SEND_MTA_STS_MODE].number == 0;
    c->requiretls_extension = s->v[PH_SEND_REQUIRETLS_EXTENSION].number == 0;
    c->fqdn = s->v[PH_SEND_FQDN].text.len > 0 ? s->v[PH_SEND_FQDN].text : b->config->hostname;
    c->protocol_logging = ph_build_protocol_logging(b, &s->v[PH_SEND_PROTOCOL_LOGGING]);
    c->force_helo = s->v[PH_SEND_FORCE_HELO].boolean;
    c->tls_groups = s->v[PH_SEND_TLS_GROUPS].text;
    if (!ph_tls_groups_valid(c->tls_groups, &error)) {
        ph_build_error(b, s->v[PH_SEND_TLS_GROUPS].at, "C17", "TlsGroups",
                       "%.*s; write \"X25519:P-256\"", PH_STR_ARG(ph_buf_str(&error)));
    }
    ph_buf_deinit(&error);
    build_required_groups(s);
    build_spaces(s);
    build_smart_hosts(s);
    build_credential(s);
    build_sources(s);
    build_limits(s);
    build_error_policies(s);
    build_policy(s);
    ph_build_identity(b, &s->v[PH_SEND_TLS_CERTIFICATE_NAME], c);
    check_tls_rules(s);
    check_domain_security(s);
    check_routing(s);
    check_codes(s);
    build_trust(s);
    c->sending_identity = hash_identity(s);
}

void ph_build_send(struct ph_builder *b)
{
    struct ph_send_connector *connectors =
        ph_build_alloc(b, b->tree.block_count * sizeof(*connectors));
    struct ph_config_position *at = ph_build_alloc(b, b->tree.block_count * sizeof(*at));
    size_t count = 0;

    for (size_t i = 1; i < b->tree.block_count; i++) {
        struct send send = {.b = b, .block = &b->tree.blocks[i], .c = &connectors[count]};

        if (!ph_str_eq_nocase(send.block->type, PH_STR("SendConnector"))) {
            continue;
        }
        ph_build_check_label(b, send.block, "internet");
        for (size_t j = 0; j < count; j++) {
            if (ph_str_eq_nocase(connectors[j].name, send.block->label)) {
                ph_build_error(b, send.block->at, "C24", "SendConnector",
                               "there is another \"%.*s\"; give it a name of its own",
                               PH_STR_ARG(send.block->label));
            }
        }
        send.c->index = count;
        at[count] = send.block->at;
        build_one(&send);
        count++;
    }
    b->config->send_connectors = connectors;
    b->config->send_connector_count = count;
    ph_build_check_connectors(b, at);
}
