// ReceiveConnector blocks.
#include <stdlib.h>
#include <string.h>

#include "config/build_parts.h"
#include "config/ranges.h"

enum { // AuthMechanism's choices, in the table's order
    MECHANISM_TLS,
    MECHANISM_BASIC,
    MECHANISM_BASIC_REQUIRE_TLS,
    MECHANISM_EXTERNAL,
    MECHANISM_NONE,
    MECHANISM_INTEGRATED,
    MECHANISM_EXCHANGE,
};
#define HAS(bits, which) (((bits) >> (which)&1) != 0)

static void build_bindings(struct ph_builder *b, const struct ph_value *value,
                           struct ph_receive_connector *connector)
{
    struct ph_binding *bindings = ph_build_alloc(b, value->word_count * sizeof(*bindings));

    for (size_t i = 0; i < value->word_count; i++) {
        struct ph_str text = value->words[i];

        if (ph_str_ends_nocase(text, PH_STR("/tls"))) {
            bindings[i].implicit_tls = true;
            text = ph_str_first(text, text.len - 4);
        }
        if (!ph_endpoint_parse(text, &bindings[i].at)) {
            ph_build_error(b, value->at, "C17", "Bindings",
                           "\"%.*s\" is no address with a port; write \"127.0.0.1:2525\", or "
                           "\"[::]:465/tls\" for implicit TLS",
                           PH_STR_ARG(value->words[i]));
        }
    }
    connector->bindings = bindings;
    connector->binding_count = value->word_count;
}

// Exchange's forms become CIDR ranges: one of theirs may be several of ours.
static void build_ranges(struct ph_builder *b, const struct ph_value *value,
                         struct ph_receive_connector *connector)
{
    struct ph_buf texts = {0}; // each ended by NUL
    struct ph_cidr *ranges;
    size_t count = 0;

    for (size_t i = 0; i < value->word_count; i++) {
        bool everything = false;

        if (!ph_ranges_read(value->words[i], &texts, &everything)) {
            ph_build_error(b, value->at, "C17", "RemoteIPRanges",
                           "\"%.*s\" is no range; write \"192.0.2.0/24\", "
                           "\"192.0.2.1-192.0.2.9\" or an address",
                           PH_STR_ARG(value->words[i]));
        } else if (everything) {
            ph_build_warning(b, value->at, "W18", "RemoteIPRanges",
                             "%.*s lets everybody relay: an open relay",
                             PH_STR_ARG(value->words[i]));
        }
    }
    for (size_t i = 0; i < texts.len; i++) {
        count += texts.data[i] == '\0';
    }
    ranges = ph_build_alloc(b, count * sizeof(*ranges));
    count = 0;
    for (size_t i = 0; i < texts.len; i += strlen(texts.data + i) + 1) {
        PH_CHECK(ph_cidr_parse(ph_str_from(texts.data + i), &ranges[count]));
        count++;
    }
    connector->remote_ip_ranges = ranges;
    connector->remote_ip_range_count = count;
    ph_buf_deinit(&texts);
}

static int compare_users(const void *a, const void *b)
{
    return ph_str_cmp(((const struct ph_auth_user *)a)->user,
                      ((const struct ph_auth_user *)b)->user);
}

static void build_users(struct ph_builder *b, const struct ph_value *value,
                        struct ph_receive_connector *connector)
{
    struct ph_str text;
    struct ph_str line;
    struct ph_auth_user *users;
    size_t lines = 0;
    size_t count = 0;

    if (value->text.len == 0 ||
        !ph_build_file(b, value, value->text, "C08", "AuthFile", &text, NULL)) {
        return;
    }
    for (size_t i = 0; i < text.len; i++) {
        lines += text.data[i] == '\n';
    }
    users = ph_build_alloc(b, (lines + 1) * sizeof(*users));
    for (unsigned number = 1; ph_str_cut(&text, '\n', &line); number++) {
        struct ph_str user;

        line = ph_str_trim(line);
        if (line.len == 0 || line.data[0] == '#') {
            continue;
        }
        if (!ph_str_cut(&line, ':', &user) || user.len == 0 || line.len < 4 || line.len > 255 ||
            line.data[0] != '$') {
            ph_build_error(b, value->at, "C08", "AuthFile",
                           "line %u of %.*s isn't user:hash; write a crypt(3) hash like $6$… or "
                           "$y$…",
                           number, PH_STR_ARG(value->text));
            continue;
        }
        users[count++] = (struct ph_auth_user){.user = user, .hash = line};
    }
    qsort(users, count, sizeof(*users), compare_users);
    connector->users = users;
    connector->user_count = count;
}

static bool names_certificate(const struct ph_value *v)
{
    return v[PH_RECEIVE_TLS_CERTIFICATE].text.len > 0 ||
           v[PH_RECEIVE_TLS_CERTIFICATE_NAME].text.len > 0;
}

// Exchange's TlsCertificateName, or TlsCertificate with TlsKey.
static void build_certificate(struct ph_builder *b, const struct ph_value *v,
                              struct ph_receive_connector *connector)
{
    const struct ph_value *name = &v[PH_RECEIVE_TLS_CERTIFICATE_NAME];
    const struct ph_value *certificate = name->text.len > 0 ? name : &v[PH_RECEIVE_TLS_CERTIFICATE];
    const char *key_name = name->text.len > 0 ? "TlsCertificateName" : "TlsCertificate";
    const struct ph_value *key = &v[PH_RECEIVE_TLS_KEY];
    struct ph_str file = certificate->text;
    struct ph_str chain_pem;
    struct ph_str key_pem = PH_STR_NONE;
    struct ph_buf error = {0};

    if (name->text.len > 0 && (v[PH_RECEIVE_TLS_CERTIFICATE].text.len > 0 || key->text.len > 0)) {
        ph_build_error(b, name->at, "C20", key_name,
                       "stands beside TlsCertificate or TlsKey; remove it or them");
        return;
    }
    if (name->text.len > 0) {
        file = ph_build_certificate_file(b, name);
    }
    if (file.len == 0 || !ph_build_file(b, certificate, file, "C20", key_name, &chain_pem, NULL)) {
        return;
    }
    if (key->text.len > 0 && !ph_build_file(b, key, key->text, "C20", "TlsKey", &key_pem, NULL)) {
        return;
    }
    ph_build_watch(b, file);
    if (key->text.len > 0) {
        ph_build_watch(b, key->text);
    }
    connector->tls = ph_tls_server_create(chain_pem, key_pem, &error);
    if (connector->tls == NULL) {
        ph_build_error(b, certificate->at, "C20", key_name,
                       "%.*s; put the chain and its key there, or name the key in TlsKey",
                       PH_STR_ARG(ph_buf_str(&error)));
    } else {
        ph_build_keep_server(b, connector->tls);
        ph_build_check_expiry(b, certificate->at, key_name,
                              ph_tls_server_not_after_s(connector->tls));
    }
    ph_buf_deinit(&error);
}

static bool lists(const struct ph_value *value, const char *word)
{
    for (size_t i = 0; i < value->word_count; i++) {
        if (ph_str_eq_nocase(value->words[i], ph_str_from(word))) {
            return true;
        }
    }
    return false;
}

static void check_mechanisms(struct ph_builder *b, const struct ph_value *v,
                             struct ph_receive_connector *connector)
{
    uint64_t bits = v[PH_RECEIVE_AUTH_MECHANISM].number;
    struct ph_config_position at = v[PH_RECEIVE_AUTH_MECHANISM].at;

    if (HAS(bits, MECHANISM_NONE) && bits != UINT64_C(1) << MECHANISM_NONE) {
        ph_build_error(b, at, "C28", "AuthMechanism", "None stands alone; remove it or the others");
    }
    if (HAS(bits, MECHANISM_INTEGRATED) || HAS(bits, MECHANISM_EXCHANGE)) {
        ph_build_error(b, at, "C28", "AuthMechanism",
                       "Integrated and ExchangeServer aren't possible here; write {Tls, BasicAuth, "
                       "BasicAuthRequireTLS}");
    }
    if (HAS(bits, MECHANISM_BASIC_REQUIRE_TLS) &&
        (!HAS(bits, MECHANISM_BASIC) || !HAS(bits, MECHANISM_TLS))) {
        ph_build_error(b, at, "C28", "AuthMechanism",
                       "BasicAuthRequireTLS needs BasicAuth and Tls too; write {Tls, BasicAuth, "
                       "BasicAuthRequireTLS}");
    }
    if (HAS(bits, MECHANISM_EXTERNAL) && !HAS(bits, MECHANISM_TLS)) {
        ph_build_error(b, at, "C28", "AuthMechanism", "ExternalAuthoritative needs Tls; add it");
    }
    if (HAS(bits, MECHANISM_EXTERNAL) &&
        !lists(&v[PH_RECEIVE_PERMISSION_GROUPS], "ExchangeServers")) {
        ph_build_error(
            b, at, "C28", "AuthMechanism",
            "ExternalAuthoritative needs PermissionGroups = {\"ExchangeServers\"}; add it");
    }
    if (v[PH_RECEIVE_DOMAIN_SECURE].boolean &&
        (!HAS(bits, MECHANISM_TLS) || HAS(bits, MECHANISM_EXTERNAL))) {
        ph_build_error(b, v[PH_RECEIVE_DOMAIN_SECURE].at, "C28", "DomainSecureEnabled",
                       "needs Tls in AuthMechanism, and ExternalAuthoritative not in it; write "
                       "AuthMechanism = {Tls}");
    }
    if (v[PH_RECEIVE_REQUIRE_TLS].boolean && !HAS(bits, MECHANISM_TLS)) {
        ph_build_error(b, v[PH_RECEIVE_REQUIRE_TLS].at, "C28", "RequireTLS",
                       "needs Tls in AuthMechanism; add it");
    }
    if (v[PH_RECEIVE_REQUIRE_TLS].boolean && connector->tls == NULL && !names_certificate(v)) {
        ph_build_error(b, v[PH_RECEIVE_REQUIRE_TLS].at, "C20", "RequireTLS",
                       "needs a certificate; name one in TlsCertificate");
    }
    if (HAS(bits, MECHANISM_BASIC) && !HAS(bits, MECHANISM_BASIC_REQUIRE_TLS)) {
        ph_build_warning(b, at, "W15", "AuthMechanism",
                         "BasicAuth alone: AUTH is offered over TLS only all the same");
    }
    connector->auth_mechanism =
        (HAS(bits, MECHANISM_TLS) ? (unsigned)PH_AUTH_TLS : 0u) |
        (HAS(bits, MECHANISM_BASIC) ? (unsigned)PH_AUTH_BASIC : 0u) |
        (HAS(bits, MECHANISM_BASIC_REQUIRE_TLS) ? (unsigned)PH_AUTH_BASIC_REQUIRE_TLS : 0u) |
        (HAS(bits, MECHANISM_EXTERNAL) ? (unsigned)PH_AUTH_EXTERNAL_AUTHORITATIVE : 0u);
    for (size_t i = 0; i < connector->binding_count; i++) {
        if (connector->bindings[i].implicit_tls && connector->tls == NULL &&
            !names_certificate(v)) {
            ph_build_error(b, v[PH_RECEIVE_BINDINGS].at, "C20", "Bindings",
                           "/tls needs a certificate; name one in TlsCertificate");
        }
    }
}

static void build_domain_security(struct ph_builder *b, const struct ph_value *v,
                                  struct ph_receive_connector *c)
{
    const struct ph_value *secure = &v[PH_RECEIVE_DOMAIN_SECURE];

    if (!c->domain_secure_enabled) {
        return;
    }
    c->trust =
        ph_build_trust(b, &(struct ph_trust_wish){.anchors = &v[PH_RECEIVE_TLS_TRUST_ANCHORS],
                                                  .crls = &v[PH_RECEIVE_REVOCATION_CRLS],
                                                  .clients = true,
                                                  .needed = true});
    if (c->tls != NULL) {
        ph_tls_server_request_certificate(c->tls, false);
    } else if (!names_certificate(v)) {
        ph_build_error(b, secure->at, "C20", "DomainSecureEnabled",
                       "needs a certificate; name one in TlsCertificate");
    }
    if (b->config->receive_domain_secure_count == 0) {
        ph_build_warning(b, secure->at, "W7", "DomainSecureEnabled",
                         "TLSReceiveDomainSecureList is empty, so nothing is secured; list the "
                         "partners' domains there");
    }
    if (v[PH_RECEIVE_REVOCATION_CRLS].word_count == 0) {
        ph_build_warning(b, secure->at, "W13", "RevocationCrls",
                         "no local CRLs: a partner's revoked certificate passes");
    }
}

static void build_one(struct ph_builder *b, struct ph_config_block *block,
                      struct ph_receive_connector *c)
{
    struct ph_value v[PH_RECEIVE_COUNT];

    ph_build_values(b, PH_BLOCK_RECEIVE, block, v);
    c->name = ph_build_str(b, block->label);
    c->source = ph_build_source(b, block);
    c->enabled = v[PH_RECEIVE_ENABLED].boolean;
    c->require_tls = v[PH_RECEIVE_REQUIRE_TLS].boolean;
    c->domain_secure_enabled = v[PH_RECEIVE_DOMAIN_SECURE].boolean;
    c->fqdn = v[PH_RECEIVE_FQDN].text.len > 0 ? v[PH_RECEIVE_FQDN].text : b->config->hostname;
    c->banner = v[PH_RECEIVE_BANNER].text;
    c->max_message_size = v[PH_RECEIVE_MAX_MESSAGE_SIZE].number;
    if (c->max_message_size > PH_BUF_BYTES_MAX) {
        c->max_message_size = PH_BUF_BYTES_MAX;
    }
    c->bare_line_endings = (enum ph_bare_line_endings)v[PH_RECEIVE_BARE_LINE_ENDINGS].number;
    c->max_inbound_connection = ph_build_bounded(v[PH_RECEIVE_MAX_INBOUND].number);
    c->max_inbound_connection_per_source =
        ph_build_bounded(v[PH_RECEIVE_MAX_INBOUND_SOURCE].number);
    c->max_recipients_per_message = ph_build_bounded(v[PH_RECEIVE_MAX_RECIPIENTS].number);
    c->max_protocol_errors = ph_build_bounded(v[PH_RECEIVE_MAX_ERRORS].number);
    c->protocol_logging = ph_build_protocol_logging(b, &v[PH_RECEIVE_PROTOCOL_LOGGING]);
    c->tarpit_interval_ms = v[PH_RECEIVE_TARPIT].number;
    c->connection_timeout_ms = v[PH_RECEIVE_CONNECTION_TIMEOUT].number;
    c->connection_inactivity_timeout_ms = v[PH_RECEIVE_INACTIVITY_TIMEOUT].number;
    if (c->connection_inactivity_timeout_ms >= c->connection_timeout_ms) {
        ph_build_error(b, v[PH_RECEIVE_INACTIVITY_TIMEOUT].at, "C17", "ConnectionInactivityTimeout",
                       "must be shorter than ConnectionTimeout; write a shorter time, or a longer "
                       "one there");
    }
    c->max_hop_count = ph_build_bounded(v[PH_RECEIVE_MAX_HOPS].number);
    build_bindings(b, &v[PH_RECEIVE_BINDINGS], c);
    build_ranges(b, &v[PH_RECEIVE_REMOTE_IP_RANGES], c);
    build_users(b, &v[PH_RECEIVE_AUTH_FILE], c);
    build_certificate(b, v, c);
    check_mechanisms(b, v, c);
    build_domain_security(b, v, c);
}

// What is bound once belongs to one connector: the other would never see a client.
static void refuse_bound(struct ph_builder *b, const struct ph_config_block *block,
                         const struct ph_receive_connector *connectors, size_t count)
{
    const struct ph_receive_connector *own = &connectors[count];

    for (size_t i = 0; i <= count && own->enabled; i++) {
        const struct ph_receive_connector *other = &connectors[i];

        for (size_t j = 0; other->enabled && j < other->binding_count; j++) {
            for (size_t k = 0; k < (i < count ? own->binding_count : j); k++) {
                char text[PH_ENDPOINT_TEXT_MAX];

                if (own->bindings[k].at.family != PH_FAMILY_NONE &&
                    ph_endpoint_eq(&own->bindings[k].at, &other->bindings[j].at)) {
                    ph_build_error(b, block->at, "C24", "Bindings",
                                   "%s is bound by \"%.*s\" already; write another address or "
                                   "port",
                                   ph_endpoint_format(&own->bindings[k].at, text),
                                   PH_STR_ARG(other->name));
                }
            }
        }
    }
}

void ph_build_receive(struct ph_builder *b)
{
    struct ph_receive_connector *connectors =
        ph_build_alloc(b, b->tree.block_count * sizeof(*connectors));
    size_t count = 0;

    for (size_t i = 1; i < b->tree.block_count; i++) {
        struct ph_config_block *block = &b->tree.blocks[i];

        if (!ph_str_eq_nocase(block->type, PH_STR("ReceiveConnector"))) {
            continue;
        }
        ph_build_check_label(b, block, "apps");
        for (size_t j = 0; j < count; j++) {
            if (ph_str_eq_nocase(connectors[j].name, block->label)) {
                ph_build_error(b, block->at, "C24", "ReceiveConnector",
                               "there is another \"%.*s\"; give it a name of its own",
                               PH_STR_ARG(block->label));
            }
        }
        build_one(b, block, &connectors[count]);
        refuse_bound(b, block, connectors, count);
        count++;
    }
    b->config->receive_connectors = connectors;
    b->config->receive_connector_count = count;
}
