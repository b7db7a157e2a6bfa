// main.cf and its TLS policy maps into ours. What Postfix demands of a destination's TLS is
// demanded here too, or more; where that isn't possible a note says so.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <uthash.h>

#include "cli/import.h"
#include "smtp/address.h"

#define EXPANSIONS_MAX 16 // $names within each other; ours
#define VALUE_BYTES_MAX 8192

struct parameter {
    UT_hash_handle hh;
    char *name;
    char *value;
    bool used;
};

// Of the TLS policy maps.
struct entry {
    UT_hash_handle hh;
    char *key;
    char *policy;
};

struct postfix {
    struct ph_import *import;
    struct parameter *parameters; // uthash
    struct entry *entries;        // uthash
    char directory[4096];         // of main.cf, with its slash
    bool relay;
};

// --- main.cf ---

static void set(struct postfix *p, const char *name, const char *value)
{
    struct parameter *parameter;

    HASH_FIND(hh, p->parameters, name, strlen(name), parameter);
    if (parameter == NULL) {
        parameter = ph_alloc(sizeof(*parameter));
        parameter->name = ph_strdup(name);
        HASH_ADD_KEYPTR(hh, p->parameters, parameter->name, strlen(parameter->name), parameter);
    }
    free(parameter->value);
    parameter->value = ph_strdup(value); // the last one counts
}

static void take_line(struct postfix *p, char *line)
{
    char *equals = strchr(line, '=');
    struct ph_str name;
    struct ph_str value;
    char name_text[256];
    char value_text[VALUE_BYTES_MAX];

    if (equals == NULL) {
        return;
    }
    name = ph_str_trim((struct ph_str){.data = line, .len = (size_t)(equals - line)});
    value = ph_str_trim(ph_str_from(equals + 1));
    ph_str_copy(name_text, sizeof(name_text), name);
    ph_str_copy(value_text, sizeof(value_text), value);
    set(p, name_text, value_text);
}

// Lines that begin with white space go on with the one before; comments and empty ones stand alone.
static bool read_lines(const char *path, void (*take)(struct postfix *p, char *line),
                       struct postfix *p)
{
    FILE *file = fopen(path, "r");
    struct ph_buf whole = {0};
    char *line = NULL;
    size_t room = 0;
    ssize_t len;

    while (file != NULL && (len = getline(&line, &room, file)) > 0) {
        struct ph_str text = ph_str_trim((struct ph_str){.data = line, .len = (size_t)len});

        if (text.len == 0 || text.data[0] == '#') {
            continue;
        }
        if (line[0] != ' ' && line[0] != '\t' && whole.len > 0) {
            take(p, (char *)(uintptr_t)ph_buf_cstr(&whole));
            ph_buf_clear(&whole);
        }
        ph_buf_append(&whole, whole.len > 0 ? PH_STR(" ") : PH_STR_NONE);
        ph_buf_append(&whole, text);
    }
    if (whole.len > 0) {
        take(p, (char *)(uintptr_t)ph_buf_cstr(&whole));
    }
    ph_buf_deinit(&whole);
    free(line);
    if (file != NULL) {
        fclose(file);
    }
    return file != NULL;
}

static struct parameter *find(struct postfix *p, const char *name, size_t len)
{
    struct parameter *parameter;

    HASH_FIND(hh, p->parameters, name, len, parameter);
    if (parameter != NULL) {
        parameter->used = true;
    }
    return parameter;
}

// $name, ${name} and $(name).
static void expand(struct postfix *p, const char *text, unsigned depth, struct ph_buf *out)
{
    while (*text != '\0') {
        const char *end = text + 1;
        const struct parameter *parameter;
        bool closed;

        if (text[0] != '$' || text[1] == '$' || depth == 0) {
            ph_buf_append_char(out, *text++);
            continue;
        }
        closed = *end == '{' || *end == '(';
        end += closed;
        text = end;
        while ((*end >= 'a' && *end <= 'z') || (*end >= 'A' && *end <= 'Z') ||
               (*end >= '0' && *end <= '9') || *end == '_') {
            end++;
        }
        parameter = find(p, text, (size_t)(end - text));
        if (parameter != NULL) {
            expand(p, parameter->value, depth - 1, out);
        }
        text = end + (closed && *end != '\0');
    }
}

// Expanded; "" where it isn't given. Freed by the caller.
static char *value_of(struct postfix *p, const char *name)
{
    const struct parameter *parameter = find(p, name, strlen(name));
    struct ph_buf out = {0};
    char *value;

    if (parameter != NULL) {
        expand(p, parameter->value, EXPANSIONS_MAX, &out);
    }
    value = ph_strdup(ph_buf_cstr(&out));
    ph_buf_deinit(&out);
    return value;
}

// --- TLS levels ---

static bool next_word(struct ph_str *rest, struct ph_str *out)
{
    *rest = ph_str_trim(*rest);
    for (size_t i = 0; i <= rest->len; i++) {
        if (i == rest->len || rest->data[i] == ' ' || rest->data[i] == '\t' ||
            rest->data[i] == ',') {
            *out = ph_str_first(*rest, i);
            *rest = ph_str_after(*rest, i < rest->len ? i + 1 : i);
            return out->len > 0 || (rest->len > 0 && next_word(rest, out));
        }
    }
    return false;
}

static void put_pins(struct postfix *p, struct ph_str prints, const char *of, struct ph_buf *out)
{
    struct ph_buf pins = {0};
    struct ph_str print;

    while (ph_str_cut(&prints, '|', &print)) {
        char hex[65];
        size_t len = 0;

        for (size_t i = 0; i < print.len && len < 64; i++) {
            if (print.data[i] != ':') {
                hex[len++] = print.data[i];
            }
        }
        hex[len] = '\0';
        if (len == 64) {
            ph_buf_printf(&pins, "%s\"%s\"", pins.len > 0 ? ", " : "", hex);
        }
    }
    ph_buf_append(out, PH_STR("    RequireTLS = true\n"));
    if (pins.len > 0) {
        ph_buf_printf(out, "    TlsPins = {%.*s}\n", PH_STR_ARG(ph_buf_str(&pins)));
        ph_import_note(p->import,
                       "%s: TlsPins are SHA-256 of public keys; replace those that are of "
                       "certificates",
                       of);
    } else {
        ph_buf_append(out, PH_STR("    Enabled = false\n    HoldWhenDisabled = true\n"));
        ph_import_note(p->import,
                       "%s: held until TlsPins names SHA-256 fingerprints of public keys: other "
                       "digests aren't possible here",
                       of);
    }
    ph_buf_deinit(&pins);
}

// match=nexthop:dot-nexthop:hostname:name → TlsDomain, or TlsNameSource = host.
static void put_names(struct postfix *p, struct ph_str match, const char *nexthop, const char *of,
                      struct ph_buf *out)
{
    struct ph_buf names = {0};
    struct ph_str name;
    bool host = false;

    while (ph_str_cut(&match, ':', &name)) {
        char text[PH_DOMAIN_BYTES_MAX + 8] = "";

        name = ph_str_trim(name);
        if (ph_str_eq(name, PH_STR("hostname"))) {
            host = true;
        } else if (ph_str_eq(name, PH_STR("nexthop"))) {
            snprintf(text, sizeof(text), "%s", nexthop != NULL ? nexthop : "");
        } else if (ph_str_eq(name, PH_STR("dot-nexthop"))) {
            snprintf(text, sizeof(text), nexthop != NULL ? "*.%s" : "", nexthop);
        } else if (name.len > 0) {
            snprintf(text, sizeof(text), "%s%.*s", name.data[0] == '.' ? "*" : "",
                     PH_STR_ARG(name));
        }
        if (text[0] != '\0') {
            ph_buf_append(&names, names.len > 0 ? PH_STR(", ") : PH_STR_NONE);
            ph_import_put_quoted(&names, ph_str_from(text));
        }
    }
    ph_buf_append(out, PH_STR("    RequireTLS = true\n    TlsAuthLevel = DomainValidation\n"));
    if (names.len > 0) {
        ph_buf_printf(out, "    TlsDomain = {%.*s}\n", PH_STR_ARG(ph_buf_str(&names)));
        if (host) {
            ph_import_note(p->import,
                           "%s: Postfix takes the host's own name too (hostname), which DNS gives "
                           "and so proves little; here the certificate must match TlsDomain",
                           of);
        }
    } else if (host && p->relay && nexthop != NULL) {
        ph_buf_append(out, PH_STR("    TlsDomain = {"));
        ph_import_put_quoted(out, ph_str_from(nexthop));
        ph_buf_append(out, PH_STR("}\n"));
    } else if (host) {
        ph_buf_append(out, PH_STR("    TlsNameSource = host\n"));
    } else {
        ph_import_note(p->import,
                       "%s: the certificate must match the recipient's domain itself, names below "
                       "it (dot-nexthop) don't count; write TlsDomain for domains that need it",
                       of);
    }
    ph_buf_deinit(&names);
}

// "secure match=… protocols=…": one level with its attributes, of a policy map or of main.cf.
static void put_level(struct postfix *p, struct ph_str text, const char *nexthop, const char *of,
                      struct ph_buf *out)
{
    struct ph_str level = PH_STR_NONE;
    struct ph_str match = PH_STR_NONE;
    struct ph_str protocols = PH_STR_NONE;
    struct ph_str word;

    if (!next_word(&text, &level)) {
        return;
    }
    while (next_word(&text, &word)) {
        struct ph_str key;

        if (!ph_str_cut(&word, '=', &key)) {
            continue;
        }
        if (ph_str_eq(key, PH_STR("match"))) {
            match = word;
        } else if (ph_str_eq(key, PH_STR("protocols"))) {
            protocols = word;
        } else {
            ph_import_note(p->import, "%s: %.*s has no meaning here", of, PH_STR_ARG(key));
        }
    }
    if (ph_str_eq_nocase(level, PH_STR("none"))) {
        ph_buf_append(out, PH_STR("    IgnoreSTARTTLS = true\n"));
    } else if (ph_str_eq_nocase(level, PH_STR("encrypt"))) {
        ph_buf_append(out, PH_STR("    RequireTLS = true\n"));
    } else if (ph_str_eq_nocase(level, PH_STR("dane-only")) ||
               ph_str_eq_nocase(level, PH_STR("half-dane"))) {
        ph_buf_append(out, PH_STR("    RequireTLS = true\n    SmtpDaneMode = Mandatory\n"));
    } else if (ph_str_eq_nocase(level, PH_STR("fingerprint"))) {
        put_pins(p, match, of, out);
    } else if (ph_str_eq_nocase(level, PH_STR("verify"))) {
        put_names(p, match.len > 0 ? match : PH_STR("hostname"), nexthop, of, out);
    } else if (ph_str_eq_nocase(level, PH_STR("secure"))) {
        put_names(p, match.len > 0 ? match : PH_STR("nexthop:dot-nexthop"), nexthop, of, out);
    } else if (!ph_str_eq_nocase(level, PH_STR("may")) &&
               !ph_str_eq_nocase(level, PH_STR("dane"))) {
        ph_buf_append(out, PH_STR("    Enabled = false\n    HoldWhenDisabled = true\n"));
        ph_import_note(p->import, "%s: held, as the TLS level %.*s is unknown", of,
                       PH_STR_ARG(level));
    }
    if (ph_str_find(protocols, PH_STR(">=TLSv1.3")) >= 0) {
        ph_buf_append(out, PH_STR("    TlsMinVersion = TLS1.3\n"));
    }
}

static void put_default_level(struct postfix *p, const char *nexthop, const char *of,
                              struct ph_buf *out)
{
    char *level = value_of(p, "smtp_tls_security_level");
    char *enforce = value_of(p, "smtp_enforce_tls");
    char *use = value_of(p, "smtp_use_tls");
    char *secure = value_of(p, "smtp_tls_secure_cert_match");
    char *verify = value_of(p, "smtp_tls_verify_cert_match");
    char *prints = value_of(p, "smtp_tls_fingerprint_cert_match");
    char *protocols = value_of(p, "smtp_tls_mandatory_protocols");
    struct ph_buf text = {0};
    const char *match = strcmp(level, "secure") == 0        ? secure
                        : strcmp(level, "verify") == 0      ? verify
                        : strcmp(level, "fingerprint") == 0 ? prints
                                                            : "";

    if (level[0] == '\0') { // before 2.3
        ph_buf_append(&text, strcmp(enforce, "yes") == 0 ? PH_STR("verify")
                             : strcmp(use, "yes") == 0   ? PH_STR("may")
                                                         : PH_STR("none"));
    } else {
        ph_buf_append(&text, ph_str_from(level));
    }
    if (match[0] != '\0') {
        ph_buf_append(&text, PH_STR(" match="));
        for (const char *at = match; *at != '\0'; at++) { // lists there are parted by , or blanks
            ph_buf_append_char(&text, *at == ',' || *at == ' ' ? ':' : *at);
        }
    }
    if (strstr(protocols, ">=TLSv1.3") != NULL) {
        ph_buf_append(&text, PH_STR(" protocols=>=TLSv1.3"));
    }
    put_level(p, ph_buf_str(&text), nexthop, of, out);
    ph_buf_deinit(&text);
    free(level), free(enforce), free(use), free(secure), free(verify), free(prints),
        free(protocols);
}

// --- connectors ---

static void put_files(struct postfix *p, const char *of, struct ph_buf *out)
{
    char *anchors = value_of(p, "smtp_tls_CAfile");
    char *certificate = value_of(p, "smtp_tls_cert_file");
    char *key = value_of(p, "smtp_tls_key_file");

    if (anchors[0] != '\0') {
        bool there = ph_import_readable(anchors);

        ph_buf_printf(out, "    %sTlsTrustAnchors = {", there ? "" : "# ");
        ph_import_put_quoted(out, ph_str_from(anchors));
        ph_buf_append(out, PH_STR("}\n"));
        if (!there) {
            ph_import_note(
                p->import,
                "%s: TlsTrustAnchors is a comment, as %s can't be read: the system's are "
                "in force",
                of, anchors);
        }
    }
    if (certificate[0] != '\0') {
        ph_buf_append(out, PH_STR("    # TlsCertificateName = "));
        ph_import_put_quoted(out, ph_str_from(certificate));
        ph_buf_append_char(out, '\n');
        ph_import_note(p->import,
                       "%s: TlsCertificateName is a comment until one file holds the chain and the "
                       "key (%s and %s)",
                       of, certificate, key[0] != '\0' ? key : certificate);
    }
    free(anchors), free(certificate), free(key);
}

// A number alone means so many of the parameter's own unit.
static void put_time(struct ph_buf *out, const char *value, const char *unit)
{
    bool bare = value[0] != '\0' && strspn(value, "0123456789") == strlen(value);

    ph_buf_printf(out, "%s%s", value, bare ? unit : "");
}

static void put_common(struct postfix *p, const char *of, struct ph_buf *out)
{
    static const struct {
        const char *name;
        const char *key;
        bool quoted;
        const char *unit;
    } same[] = {{"smtp_helo_name", "Fqdn", true, ""},
                {"smtp_bind_address", "SourceIPAddress", true, ""},
                {"message_size_limit", "MaxMessageSize", false, ""},
                {"smtp_connect_timeout", "ConnectTimeout", false, "s"},
                {"smtp_helo_timeout", "EhloTimeout", false, "s"},
                {"smtp_starttls_timeout", "TlsTimeout", false, "s"},
                {"smtp_mail_timeout", "MailTimeout", false, "s"},
                {"smtp_rcpt_timeout", "RcptTimeout", false, "s"},
                {"smtp_data_init_timeout", "DataTimeout", false, "s"},
                {"smtp_data_done_timeout", "FinalDotTimeout", false, "s"}};

    for (size_t i = 0; i < PH_ARRAY_LEN(same); i++) {
        char *value = value_of(p, same[i].name);
        bool zero = strcmp(value, "0") == 0;

        if (value[0] != '\0' && !(zero && !same[i].quoted)) {
            ph_buf_printf(out, "    %s = ", same[i].key);
            if (same[i].quoted) {
                ph_import_put_quoted(out, ph_str_from(value));
            } else {
                put_time(out, value, same[i].unit);
            }
            ph_buf_append_char(out, '\n');
        } else if (zero && strcmp(same[i].key, "MaxMessageSize") == 0) {
            ph_buf_append(out, PH_STR("    MaxMessageSize = unlimited\n"));
        }
        free(value);
    }
    put_files(p, of, out);
}

static void put_connector(struct postfix *p, const char *name, const char *space,
                          struct ph_str lines)
{
    struct ph_buf *out = &p->import->config;

    ph_buf_append(out, PH_STR("SendConnector "));
    ph_import_put_quoted(out, ph_str_from(name));
    ph_buf_append(out, PH_STR(" {\n    AddressSpaces = {"));
    ph_import_put_quoted(out, ph_str_from(space));
    ph_buf_printf(out, "}\n%.*s", PH_STR_ARG(lines));
    put_common(p, name, out);
    ph_buf_append(out, PH_STR("}\n\n"));
}

// "[host]:port", "host:port", "host".
static void split_relay(struct ph_str relay, char host[512], char port[8])
{
    ptrdiff_t close = ph_str_find_char(relay, ']');
    ptrdiff_t colon = -1;

    for (size_t i = close >= 0 ? (size_t)close : 0; i < relay.len; i++) {
        colon = relay.data[i] == ':' ? (ptrdiff_t)i : colon;
    }
    ph_str_copy(host, 512, colon >= 0 ? ph_str_first(relay, (size_t)colon) : relay);
    ph_str_copy(port, 8, colon >= 0 ? ph_str_after(relay, (size_t)colon + 1) : PH_STR_NONE);
    if (strcasecmp(port, "smtp") == 0) {
        ph_str_copy(port, 8, PH_STR("25"));
    } else if (strcasecmp(port, "submission") == 0) {
        ph_str_copy(port, 8, PH_STR("587"));
    }
}

static void put_relay(struct postfix *p, const char *relay, struct ph_str policy)
{
    struct ph_buf lines = {0};
    char host[512];
    char bare[512];
    char port[8];
    char *sasl = value_of(p, "smtp_sasl_auth_enable");

    split_relay(ph_str_from(relay), host, port);
    snprintf(bare, sizeof(bare), "%.*s", (int)(strcspn(host + (host[0] == '['), "]")),
             host + (host[0] == '['));
    ph_buf_append(&lines, PH_STR("    DNSRoutingEnabled = false\n    SmartHosts = {"));
    ph_import_put_quoted(&lines, ph_str_from(host));
    ph_buf_append(&lines, PH_STR("}\n"));
    if (port[0] != '\0') {
        ph_buf_printf(&lines, "    Port = %s\n", port);
    }
    if (policy.len > 0) {
        put_level(p, policy, bare, "relayhost", &lines);
    } else {
        put_default_level(p, bare, "relayhost", &lines);
    }
    if (strcmp(sasl, "yes") == 0) {
        ph_buf_append(
            &lines, PH_STR("    Enabled = false\n    HoldWhenDisabled = true\n"
                           "    # AuthenticationCredential = \"/etc/posthaste/relayhost.secret\"\n"
                           "    # SmartHostAuthMechanism = BasicAuthRequireTLS\n"));
        ph_import_note(p->import,
                       "relayhost: disabled until AuthenticationCredential names a file with the "
                       "user and the password (smtp_sasl_password_maps; mode 0600), and "
                       "SmartHostAuthMechanism is no comment any more");
    }
    put_connector(p, "relayhost", "*", ph_buf_str(&lines));
    ph_buf_deinit(&lines);
    free(sasl);
}

// --- policy maps ---

static void take_entry(struct postfix *p, char *line)
{
    struct ph_str rest = ph_str_from(line);
    struct ph_str key;
    struct entry *entry;
    char text[512];

    if (!next_word(&rest, &key)) {
        return;
    }
    ph_str_copy(text, sizeof(text), key);
    HASH_FIND(hh, p->entries, text, strlen(text), entry);
    if (entry == NULL) { // the first one counts, as in Postfix's maps
        struct ph_buf policy = {0};

        ph_buf_append(&policy, ph_str_trim(rest));
        entry = ph_alloc(sizeof(*entry));
        entry->key = ph_strdup(text);
        entry->policy = ph_strdup(ph_buf_cstr(&policy));
        HASH_ADD_KEYPTR(hh, p->entries, entry->key, strlen(entry->key), entry);
        ph_buf_deinit(&policy);
    }
}

// inline:{ example.com=encrypt, { example.net = secure match=.example.net } }
static void take_inline(struct postfix *p, struct ph_str text)
{
    struct ph_str item;

    while (ph_str_cut(&text, ',', &item)) {
        struct ph_buf line = {0};
        bool parted = false;

        for (size_t i = 0; i < item.len; i++) {
            bool equals = item.data[i] == '=' && !parted;

            parted |= equals;
            ph_buf_append_char(&line,
                               equals || strchr("{}", item.data[i]) != NULL ? ' ' : item.data[i]);
        }
        take_entry(p, (char *)(uintptr_t)ph_buf_cstr(&line));
        ph_buf_deinit(&line);
    }
}

static void read_maps(struct postfix *p)
{
    char *maps = value_of(p, "smtp_tls_policy_maps");
    struct ph_str rest = ph_str_from(maps);
    struct ph_str map;

    if (strncmp(maps, "inline:", 7) == 0) {
        take_inline(p, ph_str_after(rest, 7));
        rest = PH_STR_NONE;
    }
    while (next_word(&rest, &map)) {
        ptrdiff_t colon = ph_str_find_char(map, ':');
        struct ph_str file = colon >= 0 ? ph_str_after(map, (size_t)colon + 1) : map;
        char path[8192];

        snprintf(path, sizeof(path), "%s%.*s",
                 file.len > 0 && file.data[0] == '/' ? "" : p->directory, PH_STR_ARG(file));
        if (!read_lines(path, take_entry, p)) {
            p->import->incomplete = true;
            ph_import_note(p->import,
                           "smtp_tls_policy_maps: %s can't be read: its policies are "
                           "missing here",
                           path);
        }
    }
    free(maps);
}

static void put_entry(struct postfix *p, const struct entry *entry)
{
    bool below = entry->key[0] == '.';
    const char *domain = entry->key + below;
    struct ph_buf lines = {0};
    char name[256];
    char space[512];

    if (strpbrk(entry->key, "[]:") != NULL || p->relay) {
        ph_import_note(p->import, "smtp_tls_policy_maps: %s is left out: %s", entry->key,
                       p->relay ? "relayhost carries everything, there too"
                                : "a next hop of transport_maps, which aren't read");
        return;
    }
    snprintf(space, sizeof(space), "%s%s", below ? "*." : "", domain);
    snprintf(name, sizeof(name), "tls %.100s", entry->key);
    put_level(p, ph_str_from(entry->policy), domain, name, &lines);
    put_connector(p, name, space, ph_buf_str(&lines));
    if (below) {
        ph_import_note(p->import,
                       "%s: \"%s\" is for %s itself too, where Postfix means names below "
                       "it only",
                       name, space, domain);
    }
    ph_buf_deinit(&lines);
}

// --- the whole ---

static void put_globals(struct postfix *p)
{
    char *hostname = value_of(p, "myhostname");
    char *lifetime = value_of(p, "maximal_queue_lifetime");
    char *delay = value_of(p, "delay_warning_time");
    char *concurrency = value_of(p, "default_destination_concurrency_limit");

    if (hostname[0] != '\0') {
        ph_buf_append(&p->import->config, PH_STR("Hostname = "));
        ph_import_put_quoted(&p->import->config, ph_str_from(hostname));
        ph_buf_append(&p->import->config, PH_STR("\n\n"));
    }
    if (lifetime[0] != '\0' || delay[0] != '\0') {
        bool off = strncmp(delay, "0", 1) == 0;

        ph_buf_append(&p->import->config, PH_STR("Queue {\n"));
        if (lifetime[0] != '\0') {
            ph_buf_append(&p->import->config, PH_STR("    MessageExpirationTimeout = "));
            put_time(&p->import->config, lifetime, "d");
            ph_buf_append_char(&p->import->config, '\n');
        }
        if (delay[0] != '\0') {
            ph_buf_printf(&p->import->config, "    %s = ",
                          off ? "ExternalDelayDsnEnabled" : "DelayNotificationTimeout");
            put_time(&p->import->config, off ? "false" : delay, "h");
            ph_buf_append_char(&p->import->config, '\n');
        }
        ph_buf_append(&p->import->config, PH_STR("}\n\n"));
    }
    if (concurrency[0] != '\0') {
        ph_buf_printf(&p->import->transport, "    MaxPerDomainOutboundConnections = %s\n",
                      concurrency);
    }
    free(hostname), free(lifetime), free(delay), free(concurrency);
}

static void put_connectors(struct postfix *p)
{
    char *relay = value_of(p, "relayhost");
    struct entry *entry;
    struct entry *next;
    struct ph_buf lines = {0};

    p->relay = relay[0] != '\0';
    read_maps(p);
    if (p->relay) {
        char host[512];
        char port[8];

        split_relay(ph_str_from(relay), host, port);
        HASH_FIND(hh, p->entries, relay, strlen(relay), entry);
        if (entry == NULL) {
            HASH_FIND(hh, p->entries, host, strlen(host), entry);
        }
        put_relay(p, relay, entry != NULL ? ph_str_from(entry->policy) : PH_STR_NONE);
        if (entry != NULL) {
            HASH_DEL(p->entries, entry);
            free(entry->key), free(entry->policy), free(entry);
        }
    } else {
        put_default_level(p, NULL, "internet", &lines);
        put_connector(p, "internet", "*", ph_buf_str(&lines));
    }
    HASH_ITER(hh, p->entries, entry, next)
    {
        put_entry(p, entry);
        HASH_DEL(p->entries, entry);
        free(entry->key), free(entry->policy), free(entry);
    }
    ph_buf_deinit(&lines);
    free(relay);
}

static void note_unused(struct postfix *p)
{
    struct ph_buf names = {0};
    struct parameter *parameter;
    struct parameter *next;

    HASH_ITER(hh, p->parameters, parameter, next)
    {
        if (!parameter->used && names.len < 800) {
            ph_buf_printf(&names, "%s%s", names.len > 0 ? ", " : "", parameter->name);
        }
        HASH_DEL(p->parameters, parameter);
        free(parameter->name), free(parameter->value), free(parameter);
    }
    if (names.len > 0) {
        ph_import_note(p->import, "not taken over: %.*s", PH_STR_ARG(ph_buf_str(&names)));
    }
    ph_buf_deinit(&names);
}

bool ph_import_postfix(struct ph_import *import, const char *path)
{
    struct postfix p = {.import = import};
    const char *slash = strrchr(path, '/');

    snprintf(p.directory, sizeof(p.directory), "%.*s", slash != NULL ? (int)(slash - path) + 1 : 0,
             path);
    if (!read_lines(path, take_line, &p)) {
        fprintf(stderr, "posthaste: %s can't be read\n", path);
        return false;
    }
    put_globals(&p);
    put_connectors(&p);
    note_unused(&p);
    return true;
}
