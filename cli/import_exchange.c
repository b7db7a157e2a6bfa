// Exchange's own words, as PowerShell writes them in JSON, into ours. Keys and values are the same;
// what differs is how PowerShell shows them, and what rests on files.
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/import.h"
#include "config/ranges.h"
#include "config/keys.h"

// Members that describe the object, not the mail's way.
static const char *const noise[] = {"Name",
                                    "Identity",
                                    "Id",
                                    "Guid",
                                    "DistinguishedName",
                                    "ObjectCategory",
                                    "ObjectClass",
                                    "WhenChanged",
                                    "WhenCreated",
                                    "WhenChangedUTC",
                                    "WhenCreatedUTC",
                                    "OrganizationId",
                                    "OriginatingServer",
                                    "IsValid",
                                    "ObjectState",
                                    "ExchangeVersion",
                                    "AdminDisplayName",
                                    "RunspaceId",
                                    "PSComputerName",
                                    "PSShowComputerName",
                                    "Server",
                                    "HomeMTA",
                                    "HomeMtaServerId",
                                    "SmartHostsString",
                                    "ConnectedDomains",
                                    "IsSmtpConnector",
                                    "SourceRoutingGroup",
                                    "AddressSpacesString",
                                    "PSSourceJobInstanceId",
                                    "OrganizationalUnitRootInternal",
                                    "ExchangeObjectId",
                                    "OrganizationalUnitRoot",
                                    "TlsCertificate"};

struct words {
    struct ph_buf text; // each ended by NUL
    size_t count;
};

struct object {
    struct ph_import *import;
    const json_t *json;
    enum ph_block_kind kind;
    const char *name;
    struct ph_buf lines; // of its block
    bool off;            // disabled where it comes from
    bool held;           // something is missing here: its mail waits
    bool failed;
};

static const json_t *member(const json_t *object, const char *key)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (strcasecmp(name, key) == 0) {
            return value;
        }
    }
    return NULL;
}

// PowerShell's enumerations have a "value" and a "Value": the one that is text is meant.
static const char *string_of(const json_t *object, const char *key)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (strcasecmp(name, key) == 0 && json_is_string(value)) {
            return json_string_value(value);
        }
    }
    return NULL;
}

static void add_word(struct words *words, struct ph_str text)
{
    text = ph_str_trim(text);
    if (text.len > 0) {
        ph_buf_append(&words->text, text);
        ph_buf_append_char(&words->text, '\0');
        words->count++;
    }
}

static void add_printed(struct words *words, const char *format, ...) PH_PRINTF(2, 3);
static void add_printed(struct words *words, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    add_word(words, ph_str_from(text));
}

// An address as text, or as the object that .NET makes of it.
static const char *address_of(const json_t *value)
{
    const char *text = json_string_value(value);

    return text != NULL ? text : string_of(value, "IPAddressToString");
}

static void add_space(struct object *o, struct words *words, const json_t *value)
{
    const char *type = string_of(value, "Type");
    const char *domain = string_of(value, "Address");
    long long cost = json_integer_value(member(value, "Cost"));
    bool below = json_is_true(member(value, "IncludeSubDomains"));

    domain = domain != NULL ? domain : string_of(value, "Domain");
    if (domain == NULL || (type != NULL && strcasecmp(type, "smtp") != 0)) {
        ph_import_note(o->import, "%s: an address space of type %s has no meaning here", o->name,
                       type != NULL ? type : "unknown");
        return;
    }
    add_printed(words, "%s%s;%lld", below && domain[0] != '*' ? "*." : "", domain,
                cost > 0 ? cost : 1);
}

static void add_object(struct object *o, struct words *words, const json_t *value)
{
    const json_t *address = member(value, "Address");

    if (member(value, "Cost") != NULL) {
        add_space(o, words, value);
    } else if (json_is_true(member(value, "IsUnlimited"))) {
        add_word(words, PH_STR("unlimited"));
    } else if (json_is_number(member(value, "TotalMilliseconds"))) {
        add_printed(words, "%.0fms", json_number_value(member(value, "TotalMilliseconds")));
    } else if (json_is_integer(member(value, "Port")) && address_of(address) != NULL) {
        bool six = strchr(address_of(address), ':') != NULL;

        add_printed(words, "%s%s%s:%lld", six ? "[" : "", address_of(address), six ? "]" : "",
                    json_integer_value(member(value, "Port")));
    } else if (string_of(value, "Expression") != NULL) {
        add_word(words, ph_str_from(string_of(value, "Expression")));
    } else if (json_is_true(member(value, "IsIPAddress")) && address_of(address) != NULL) {
        add_word(words, ph_str_from(address_of(address)));
    } else if (string_of(value, "Domain") != NULL) {
        bool below = json_is_true(member(value, "IncludeSubDomains"));

        add_printed(words, "%s%s", below && string_of(value, "Domain")[0] != '*' ? "*." : "",
                    string_of(value, "Domain"));
    } else if (address_of(value) != NULL) {
        add_word(words, ph_str_from(address_of(value)));
    } else if (string_of(value, "Value") != NULL) {
        add_word(words, ph_str_from(string_of(value, "Value")));
    }
}

// "35 MB (36,700,160 bytes)"
static void add_size(struct words *words, const char *text)
{
    const char *open = strchr(text, '(');
    char digits[32];
    size_t len = 0;

    for (const char *at = open; at != NULL && *at != '\0' && len + 2 < sizeof(digits); at++) {
        if (*at >= '0' && *at <= '9') {
            digits[len++] = *at;
        }
    }
    digits[len] = '\0';
    if (len > 0) {
        add_printed(words, "%sB", digits);
    } else {
        add_word(words, ph_str_from(text));
    }
}

static void add_value(struct object *o, struct words *words, const struct ph_key *key,
                      const json_t *value)
{
    bool list = key->type == PH_KEY_LIST || key->type == PH_KEY_BITS;
    bool enumerated = key->type == PH_KEY_CHOICE || key->type == PH_KEY_BITS;
    const json_t *each;
    size_t i;

    if (json_is_array(value)) {
        json_array_foreach((json_t *)(uintptr_t)value, i, each)
        {
            add_value(o, words, key, each);
        }
    } else if (json_is_object(value)) {
        add_object(o, words, value);
    } else if (json_is_boolean(value)) {
        add_word(words, json_is_true(value) ? PH_STR("true") : PH_STR("false"));
    } else if (json_is_integer(value) && enumerated && key->state != PH_KEY_NO_EFFECT) {
        fprintf(stderr,
                "posthaste: %s: %s is written as a number (%lld), which doesn't say what it means; "
                "export it with ConvertTo-Json -EnumsAsStrings\n",
                o->name, key->name, json_integer_value(value));
        o->failed = true;
    } else if (json_is_integer(value)) {
        add_printed(words, "%lld", json_integer_value(value));
    } else if (json_is_string(value) && key->type == PH_KEY_SIZE) {
        add_size(words, json_string_value(value));
    } else if (json_is_string(value)) {
        struct ph_str text = ph_str_from(json_string_value(value));
        struct ph_str word;

        while (list && ph_str_find_char(text, ',') >= 0 && ph_str_cut(&text, ',', &word)) {
            add_word(words, word);
        }
        add_word(words, text);
    }
}

// --- our text ---

static bool only_default(const struct ph_key *key, const struct words *words)
{
    return words->count == 0 ||
           (words->count == 1 &&
            (strcasecmp(words->text.data, key->fallback) == 0 ||
             (key->type == PH_KEY_BOOL && strcmp(words->text.data, "false") == 0 &&
              strcmp(key->fallback, "false") == 0)));
}

static void put_line(struct ph_buf *out, const struct ph_key *key, const struct words *words)
{
    bool list = key->type == PH_KEY_LIST || key->type == PH_KEY_BITS;
    bool quoted = key->type == PH_KEY_LIST || key->type == PH_KEY_TEXT;
    const char *at = words->text.data;

    ph_buf_printf(out, "    %s = %s", key->name, list ? "{" : "");
    for (size_t i = 0; i < words->count; i++, at += strlen(at) + 1) {
        ph_buf_append(out, i > 0 ? PH_STR(", ") : PH_STR_NONE);
        if (quoted) {
            ph_import_put_quoted(out, ph_str_from(at));
        } else {
            ph_buf_append(out, ph_str_from(at));
        }
    }
    ph_buf_append(out, list ? PH_STR("}\n") : PH_STR("\n"));
}

// A number that is larger than ours may be: ours.
static void clamp(struct object *o, const struct ph_key *key, struct words *words)
{
    uint64_t number;

    if (key->type == PH_KEY_NUMBER && words->count == 1 &&
        ((ph_str_to_u64(ph_str_from(words->text.data), &number) && key->max > 0 &&
          number > key->max) ||
         (key->max > 0 && strcasecmp(words->text.data, "unlimited") == 0))) {
        ph_import_note(o->import, "%s: %s = %s is more than is possible here: %llu", o->name,
                       key->name, words->text.data, (unsigned long long)key->max);
        ph_buf_clear(&words->text);
        words->count = 0;
        add_printed(words, "%llu", (unsigned long long)key->max);
    }
}

static void hold(struct object *o, const char *why)
{
    o->held = true;
    ph_import_note(o->import, "%s: disabled until %s", o->name, why);
}

static bool has_word(const struct words *words, const char *word)
{
    const char *at = words->text.data;

    for (size_t i = 0; i < words->count; i++, at += strlen(at) + 1) {
        if (strcasecmp(at, word) == 0) {
            return true;
        }
    }
    return false;
}

// Passwords aren't exported, so the connector waits for its file.
static void put_authentication(struct object *o, const struct ph_key *key,
                               const struct words *words)
{
    if (strcasecmp(words->text.data, "ExternalAuthoritative") == 0) {
        put_line(&o->lines, key, words);
        return;
    }
    ph_buf_printf(&o->lines,
                  "    # AuthenticationCredential = \"/etc/posthaste/credential.secret\"\n    # "
                  "SmartHostAuthMechanism = %s\n",
                  words->text.data);
    hold(o, "AuthenticationCredential names a file with its user and password (mode 0600) and "
            "SmartHostAuthMechanism is no comment any more");
}

static void put_certificate_name(struct object *o, const struct ph_key *key,
                                 const struct words *words)
{
    struct ph_buf line = {0};

    put_line(&line, key, words);
    ph_buf_printf(&o->lines, "    #%.*s", PH_STR_ARG(ph_str_after(ph_buf_str(&line), 3)));
    ph_buf_deinit(&line);
    if (json_is_true(member(o->json, "DomainSecureEnabled"))) {
        hold(o, "TlsCertificateName is no comment any more: put the certificate and its key into "
                "CertificateDir, or write the path of a PEM file");
    } else {
        ph_import_note(o->import,
                       "%s: TlsCertificateName is a comment until the certificate and its key are "
                       "in CertificateDir",
                       o->name);
    }
}

static void put_mechanisms(struct object *o, const struct ph_key *key, const struct words *words)
{
    static const char *const kept[] = {"Tls", "BasicAuth", "BasicAuthRequireTLS", "None"};
    struct words ours = {0};
    const char *at = words->text.data;

    for (size_t i = 0; i < words->count; i++, at += strlen(at) + 1) {
        bool known = false;

        for (size_t j = 0; j < PH_ARRAY_LEN(kept); j++) {
            known |= strcasecmp(at, kept[j]) == 0;
        }
        if (known) {
            add_word(&ours, ph_str_from(at));
        } else {
            ph_import_note(o->import, "%s: AuthMechanism %s has no meaning here", o->name, at);
        }
    }
    if (has_word(&ours, "BasicAuth")) {
        ph_import_note(o->import,
                       "%s: users authenticate by AuthFile here: name one, with lines user:hash",
                       o->name);
    }
    if (ours.count > 0) {
        put_line(&o->lines, key, &ours);
    }
    ph_buf_deinit(&ours.text);
}

// There it says whom the connector serves, here who may relay: not everybody.
static void put_ranges(struct object *o, const struct ph_key *key, const struct words *words)
{
    struct words ranges = {0};
    const char *at = words->text.data;
    struct ph_buf one = {0};

    for (size_t i = 0; i < words->count; i++, at += strlen(at) + 1) {
        bool everything = false;

        ph_buf_clear(&one);
        if (!ph_ranges_read(ph_str_from(at), &one, &everything)) {
            ph_import_note(o->import, "%s: RemoteIPRanges %s can't be read", o->name, at);
        } else if (everything) {
            ph_import_note(o->import,
                           "%s: RemoteIPRanges %s would let everybody relay here; write who may",
                           o->name, at);
        } else {
            for (size_t j = 0; j < one.len; j += strlen(one.data + j) + 1) {
                add_word(&ranges, ph_str_from(one.data + j));
            }
        }
    }
    if (ranges.count > 0) {
        put_line(&o->lines, key, &ranges);
    }
    ph_buf_deinit(&ranges.text);
    ph_buf_deinit(&one);
}

static void put_key(struct object *o, const struct ph_key *key, const struct words *words)
{
    bool send = o->kind == PH_BLOCK_SEND;
    bool receive = o->kind == PH_BLOCK_RECEIVE;

    if (strcmp(key->name, "Enabled") == 0) {
        o->off = true; // the other value is the default
    } else if (send && strcmp(key->name, "SmartHostAuthMechanism") == 0) {
        put_authentication(o, key, words);
    } else if (strcmp(key->name, "AuthenticationCredential") == 0) {
        return; // told with the mechanism
    } else if (strcmp(key->name, "TlsCertificateName") == 0) {
        put_certificate_name(o, key, words);
    } else if (send && strcmp(key->name, "Port") == 0 &&
               !json_is_false(member(o->json, "DNSRoutingEnabled"))) {
        ph_import_note(o->import, "%s: Port = %s is for smart hosts, and it has none", o->name,
                       words->text.data);
    } else if (receive && strcmp(key->name, "AuthMechanism") == 0) {
        put_mechanisms(o, key, words);
    } else if (receive && strcmp(key->name, "RemoteIPRanges") == 0) {
        put_ranges(o, key, words);
    } else if (receive && strcmp(key->name, "RequireTLS") == 0) {
        ph_buf_append(&o->lines, PH_STR("    # RequireTLS = true\n"));
        hold(o, "TlsCertificate names its certificate and RequireTLS is no comment any more");
    } else if (receive && strcmp(key->name, "DomainSecureEnabled") == 0) {
        ph_buf_append(&o->lines, PH_STR("    # DomainSecureEnabled = true\n"));
        hold(o, "TlsCertificate names its certificate and DomainSecureEnabled is no comment any "
                "more");
    } else {
        put_line(&o->lines, key, words);
    }
}

static void put_member(struct object *o, const struct ph_key *key, const json_t *value)
{
    struct words words = {0};

    add_value(o, &words, key, value);
    clamp(o, key, &words);
    if (only_default(key, &words)) {
        // Nothing to say.
    } else if (key->state == PH_KEY_NO_EFFECT) {
        if (strcmp(key->name, "PermissionGroups") != 0 && strcmp(key->name, "Usage") != 0) {
            ph_import_note(o->import, "%s: %s = %s has no effect here", o->name, key->name,
                           words.text.data);
        }
    } else {
        put_key(o, key, &words);
    }
    ph_buf_deinit(&words.text);
}

static bool says_something(const json_t *value)
{
    return !json_is_null(value) && !json_is_false(value) &&
           !(json_is_array(value) && json_array_size(value) == 0) &&
           !(json_is_string(value) && json_string_length(value) == 0);
}

static const struct ph_key *key_of(enum ph_block_kind kind, const char *name)
{
    size_t count;
    const struct ph_key *keys = ph_keys_of(kind, &count);

    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

static bool is_noise(const char *name)
{
    for (size_t i = 0; i < PH_ARRAY_LEN(noise); i++) {
        if (strcasecmp(name, noise[i]) == 0) {
            return true;
        }
    }
    return strncmp(name, "@odata", 6) == 0;
}

static bool put_object(struct ph_import *import, const json_t *json, enum ph_block_kind kind)
{
    const char *given = string_of(json, "Name");
    struct object o = {.import = import,
                       .json = json,
                       .kind = kind,
                       .name = given != NULL ? given : ph_block_name(kind)};
    struct ph_buf meaningless = {0};
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)json, name, value)
    {
        const struct ph_key *key = key_of(kind, name);

        if (key != NULL) {
            put_member(&o, key, value);
        } else if (!is_noise(name) && says_something(value) &&
                   (kind != PH_BLOCK_TRANSPORT || key_of(PH_BLOCK_QUEUE, name) == NULL)) {
            ph_buf_printf(&meaningless, "%s%s", meaningless.len > 0 ? ", " : "", name);
        }
    }
    if (o.off || o.held) {
        ph_buf_append(&o.lines, PH_STR("    Enabled = false\n"));
    }
    if (o.held && kind == PH_BLOCK_SEND) {
        ph_buf_append(&o.lines, PH_STR("    HoldWhenDisabled = true\n"));
    }
    if (meaningless.len > 0) {
        ph_import_note(import, "%s: no meaning here: %.*s", o.name,
                       PH_STR_ARG(ph_buf_str(&meaningless)));
    }
    if (kind == PH_BLOCK_SEND &&
        ph_str_find(ph_buf_str(&o.lines), PH_STR(" AddressSpaces = ")) < 0) {
        ph_import_note(import, "%s: left out, as no address space of it has a meaning here",
                       o.name);
    } else if (kind == PH_BLOCK_TRANSPORT) {
        ph_buf_append(&import->transport, ph_buf_str(&o.lines));
    } else if (o.lines.len > 0 || kind != PH_BLOCK_QUEUE) {
        ph_buf_append(&import->config, ph_str_from(ph_block_name(kind)));
        if (kind == PH_BLOCK_SEND || kind == PH_BLOCK_RECEIVE) {
            ph_buf_append_char(&import->config, ' ');
            ph_import_put_quoted(&import->config, ph_str_from(o.name));
        }
        ph_buf_printf(&import->config, " {\n%.*s}\n\n", PH_STR_ARG(ph_buf_str(&o.lines)));
    }
    ph_buf_deinit(&o.lines);
    ph_buf_deinit(&meaningless);
    return !o.failed;
}

// Which cmdlet's object it is shows in its members.
static bool take(struct ph_import *import, const json_t *json)
{
    const json_t *each;
    const char *name;
    json_t *value;
    size_t i;
    bool good = true;

    if (json_is_array(json)) {
        json_array_foreach((json_t *)(uintptr_t)json, i, each)
        {
            good &= take(import, each);
        }
        return good;
    }
    if (member(json, "AddressSpaces") != NULL) {
        return put_object(import, json, PH_BLOCK_SEND);
    }
    if (member(json, "Bindings") != NULL) {
        return put_object(import, json, PH_BLOCK_RECEIVE);
    }
    if (member(json, "TLSSendDomainSecureList") != NULL ||
        member(json, "MaxPerDomainOutboundConnections") != NULL) {
        good = put_object(import, json, PH_BLOCK_TRANSPORT);
        if (member(json, "MessageExpirationTimeout") != NULL) {
            struct ph_import quiet = {0}; // what means nothing was told above

            good &= put_object(&quiet, json, PH_BLOCK_QUEUE);
            ph_buf_append(&import->config, ph_buf_str(&quiet.config));
            ph_buf_deinit(&quiet.config);
            ph_buf_deinit(&quiet.notes);
        }
        return good;
    }
    json_object_foreach((json_t *)(uintptr_t)json, name, value) // {"SendConnector": [...], …}
    {
        if (json_is_array(value) || json_is_object(value)) {
            good &= take(import, value);
        }
    }
    return good;
}

// Windows PowerShell puts a byte order mark in front of UTF-8.
static json_t *load(const char *path, json_error_t *error)
{
    FILE *file = fopen(path, "r");
    json_t *json = NULL;
    int first[3];

    if (file == NULL) {
        snprintf(error->text, sizeof(error->text), "it can't be read");
        error->line = 1;
        return NULL;
    }
    for (int i = 0; i < 3; i++) {
        first[i] = fgetc(file);
    }
    if (first[0] != 0xef || first[1] != 0xbb || first[2] != 0xbf) {
        rewind(file);
    }
    json = json_loadf(file, JSON_DECODE_ANY, error);
    fclose(file);
    return json;
}

bool ph_import_exchange(struct ph_import *import, const char *path)
{
    json_error_t error;
    json_t *json = load(path, &error);
    size_t before = import->config.len + import->transport.len;
    bool good;

    if (json == NULL) {
        fprintf(stderr, "posthaste: %s:%d: %s; write it with ConvertTo-Json -Depth 4, in UTF-8\n",
                path, error.line, error.text);
        return false;
    }
    good = take(import, json);
    if (good && import->config.len + import->transport.len == before) {
        fprintf(stderr,
                "posthaste: %s holds none of Get-SendConnector, Get-ReceiveConnector and "
                "Get-TransportConfig\n",
                path);
        good = false;
    }
    json_decref(json);
    return good;
}
