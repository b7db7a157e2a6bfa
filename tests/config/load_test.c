// Covers: config/snapshot
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/lib/certs.h"
#include "config/load.h"

static struct ph_config *parse(const char *text, struct ph_buf *errors, struct ph_buf *warnings)
{
    return ph_config_parse_text("t.conf", ph_str_from(text), NULL, errors, warnings);
}

Test(load, ten_mistakes_in_one_run)
{
    static const char *const lines[] = {
        "t.conf:1: C21 Hostnme: unknown; did you mean Hostname?",
        "t.conf:2: C17 Workers: 9999 is out of range; write something from 0 to 256",
        "t.conf:5: C01 TlsAuthLevel:",
        "t.conf:6: C16 AddressSpaces: \"a.*.com\"",
        "t.conf:9: C13 TlsDomain: \"*.com\"",
        "t.conf:10: C03 RequireTLS:",
        "t.conf:15: C05 SmartHosts:",
        "t.conf:16: C25 Port:",
        "t.conf:18: C24 SendConnector: there is another \"a\"",
        "t.conf:21: C17 MessageRetryInterval: \"soon\" isn't possible",
        "t.conf:22: C27 syntax:",
    };
    static const char text[] = "Hostnme = \"x\"\n"
                               "Workers = 9999\n"
                               "\n"
                               "SendConnector \"a\" {\n"
                               "    TlsAuthLevel = EncryptionOnly\n"
                               "    AddressSpaces = {\"a.*.com\"}\n"
                               "}\n"
                               "SendConnector \"b\" { AddressSpaces = {\"b.test\"}\n"
                               "    TlsDomain = {\"*.com\"}\n"
                               "    RequireTLS = true\n"
                               "    IgnoreSTARTTLS = true\n"
                               "}\n"
                               "SendConnector \"c\" {\n"
                               "    AddressSpaces = {\"c.test\"}\n"
                               "    SmartHosts = {\"relay.test\"}\n"
                               "    Port = 587\n"
                               "}\n"
                               "SendConnector \"A\" { AddressSpaces = {\"*\"} }\n"
                               "\n"
                               "Queue {\n"
                               "    MessageRetryInterval = soon\n"
                               "    =\n"
                               "}\n";
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};

    // The same name in other letters is the same name.
    cr_expect_null(parse(text, &errors, &warnings));
    for (size_t i = 0; i < PH_ARRAY_LEN(lines); i++) {
        const char *wanted = lines[i];

        if (i == 8) {
            wanted = "t.conf:18: C24 SendConnector: there is another \"A\"";
        }
        cr_expect(ph_str_find(ph_buf_str(&errors), ph_str_from(wanted)) >= 0,
                  "wanted \"%s\" in:\n%s", wanted, ph_buf_cstr(&errors));
    }
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

Test(load, values_and_their_origin)
{
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config = parse(
        "Hostname = \"h.test\"\n"
        "ReceiveConnector \"r\" { Bindings = {\"127.0.0.1:25\", \"[::1]:25\"} "
        "RemoteIPRanges = {\"10.0.0.0/8\"} MaxMessageSize = 1MB }\n"
        "SendConnector \"s\" { addressspaces = {\"SMTP:*.Contoso.COM.;7\"} REQUIRETLS = $true\n"
        "MaxConnectionAge = 00:02:00 }\n"
        "Site \"*.big.test\" { MaxConnections = 3 }\n"
        "Queue { MessageExpirationTimeout = 1.12:00:00 }\n",
        &errors, &warnings);
    struct ph_limits limits;
    struct ph_tls_policy policy;

    cr_assert_not_null(config, "%s", ph_buf_cstr(&errors));
    cr_expect_eq(config->receive_connectors[0].binding_count, 2);
    cr_expect_eq(config->receive_connectors[0].max_message_size, 1 << 20);
    cr_expect(
        ph_str_eq(config->send_connectors[0].address_spaces[0].domain, PH_STR("contoso.com")));
    cr_expect_eq(config->send_connectors[0].address_spaces[0].cost, 7);
    cr_expect_eq(config->send_connectors[0].limits.max_connection_age_ms, 120000);
    cr_expect_eq(config->retry.expiration_ms, 129600000);
    limits = ph_config_limits(config, &config->send_connectors[0], PH_STR("mx.big.test"), NULL);
    cr_expect_eq(limits.max_connections, 3);
    limits = ph_config_limits(config, &config->send_connectors[0], PH_STR("mx.test"), NULL);
    cr_expect_eq(limits.max_connections, 20);
    policy = ph_config_policy(config, &config->send_connectors[0], PH_STR("a.contoso.com"), false);
    cr_expect_eq(policy.level, PH_TLS_ENCRYPTION_ONLY);
    cr_expect(ph_str_find(ph_buf_str(&config->effective), PH_STR("Hostname\th.test\tt.conf:1\n")) >=
              0);
    cr_expect(ph_str_find(ph_buf_str(&config->effective), PH_STR("Workers\t0\tdefault\n")) >= 0);
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

// --- the disk ---

static char directory[] = "/tmp/posthaste-load-XXXXXX";

static void make_directory(void)
{
    cr_assert_not_null(mkdtemp(directory));
}

static void path_of(const char *name, char out[256])
{
    snprintf(out, 256, "%s/%s", directory, name);
}

static void write_file(const char *name, struct ph_str text, mode_t mode)
{
    char path[256];
    FILE *file;

    path_of(name, path);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    fwrite(text.data, 1, text.len, file);
    fclose(file);
    cr_assert_eq(chmod(path, mode), 0);
}

static void remove_directory(void)
{
    static const char *const names[] = {"posthaste.conf", "a.conf",  "b.conf",
                                        "c.conf",         "own.pem", "relay.secret"};
    char path[256];

    for (size_t i = 0; i < PH_ARRAY_LEN(names); i++) {
        path_of(names[i], path);
        unlink(path);
    }
    rmdir(directory);
}

static struct ph_config *load(struct ph_buf *errors, struct ph_buf *warnings)
{
    char path[256];

    path_of("posthaste.conf", path);
    return ph_config_load(path, errors, warnings);
}

Test(load, includes_are_looked_for_beside_their_file, .init = make_directory,
     .fini = remove_directory)
{
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config;

    write_file("posthaste.conf", PH_STR("include \"[ab].conf\"\ninclude \"none*.conf\"\n"), 0644);
    write_file("a.conf", PH_STR("SendConnector \"a\" { AddressSpaces = {\"a.test\"} }\n"), 0644);
    write_file("b.conf", PH_STR("SendConnector \"b\" { AddressSpaces = {\"b.test\"} }\n"), 0644);
    config = load(&errors, &warnings);
    cr_assert_not_null(config, "%s", ph_buf_cstr(&errors));
    cr_expect_eq(config->send_connector_count, 2);
    cr_expect(ph_str_ends_nocase(
        ph_str_first(config->send_connectors[1].source, config->send_connectors[1].source.len),
        PH_STR("/b.conf:1 SendConnector b")));
    ph_config_release(config);

    // A name without a pattern must be there, a mistake is told where it stands, and a file that
    // includes itself ends.
    write_file("posthaste.conf", PH_STR("\ninclude \"missing.conf\"\ninclude \"c.conf\"\n"), 0644);
    write_file("c.conf", PH_STR("Workers = many\ninclude \"c.conf\"\n"), 0644);
    cr_expect_null(load(&errors, &warnings));
    cr_expect(ph_str_find(ph_buf_str(&errors), PH_STR("posthaste.conf:2: C27 include: there is "
                                                      "no ")) >= 0,
              "%s", ph_buf_cstr(&errors));
    cr_expect(ph_str_find(ph_buf_str(&errors), PH_STR("c.conf:1: C17 Workers")) >= 0, "%s",
              ph_buf_cstr(&errors));
    cr_expect(ph_str_find(ph_buf_str(&errors), PH_STR("c.conf:2: C27 syntax: too many files")) >= 0,
              "%s", ph_buf_cstr(&errors));
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

Test(load, the_whole_example_is_accepted_once_its_files_exist, .init = make_directory,
     .fini = remove_directory)
{
    static const char sample[] =
        "Hostname = \"out1.example.net\"\n"
        "SpoolDir = \"/var/spool/posthaste\"\n"
        "Workers  = 0                                   # 0: one per core\n"
        "\n"
        "ReceiveConnector \"apps\" {\n"
        "    Bindings       = {\"127.0.0.1:2525\", \"[::1]:2525\"}\n"
        "    RemoteIPRanges = {\"127.0.0.0/8\", \"::1\"}    # who may relay\n"
        "    AuthMechanism  = {Tls, BasicAuth, BasicAuthRequireTLS}\n"
        "    RequireTLS     = false\n"
        "    TlsCertificate = \"DIR/own.pem\" # and TlsKey\n"
        "    MaxMessageSize = 35MB\n"
        "}\n"
        "\n"
        "SendConnector \"internet\" {                     # opportunistic TLS, MX routing\n"
        "    AddressSpaces  = {\"*\"}\n"
        "}\n"
        "\n"
        "SendConnector \"contoso\" {                      # forced TLS to a partner\n"
        "    AddressSpaces  = {\"contoso.com\", \"*.contoso.com;2\"}\n"
        "    RequireTLS     = true\n"
        "    TlsAuthLevel   = DomainValidation\n"
        "    TlsDomain      = {\"*.contoso.com\"}\n"
        "}\n"
        "\n"
        "SendConnector \"relay\" {                        # smart host\n"
        "    AddressSpaces        = {\"*.internal.example\"}\n"
        "    DNSRoutingEnabled    = false\n"
        "    SmartHosts           = {\"relay.example.net\"}\n"
        "    Port                 = 587\n"
        "    SmartHostAuthMechanism = BasicAuthRequireTLS\n"
        "    AuthenticationCredential = \"DIR/relay.secret\"\n"
        "    RequireTLS           = true\n"
        "}\n"
        "\n"
        "SendConnector \"partner\" {                      # Domain Security: mutual TLS\n"
        "    AddressSpaces        = {\"partner.example\"}\n"
        "    DomainSecureEnabled  = true\n"
        "    TlsCertificateName   = \"DIR/own.pem\"\n"
        "}\n"
        "\n"
        "TransportConfig {\n"
        "    MaxPerDomainOutboundConnections = 20\n"
        "    TLSSendDomainSecureList    = {\"partner.example\"}\n"
        "    TLSReceiveDomainSecureList = {\"partner.example\"}\n"
        "}\n"
        "\n"
        "Site \"*.google.com\" {                          # limits by MX host name\n"
        "    MaxConnections = 50\n"
        "    MessageRate    = 200/s\n"
        "    BackoffOn      = {\"421 4.7.28\", \"/rate limit/\"}\n"
        "}\n"
        "\n"
        "Queue    { MessageExpirationTimeout = 2d  DelayNotificationTimeout = 4h  "
        "MessageRetryInterval = 15m }\n"
        "Resolver { Forwarders = {}  LocalData = {}  TrustAnchor = \"\"  AllowedDestinations = {} "
        "}\n"
        "Admin    { ControlSocket = \"/run/posthaste/control\"  Http = \"127.0.0.1:8025\" }\n"
        "Log      { Delivery = \"/var/log/posthaste/delivery.jsonl\"  Level = info }\n";
    struct ph_buf text = {0};
    struct ph_buf pem = {0};
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_cert *own =
        ph_certs_make(NULL, &(struct ph_certs_options){.common_name = "out1.example.net",
                                                       .usage = PH_CERTS_USAGE_BOTH});
    struct ph_config *config;

    for (const char *at = sample; *at != '\0';) {
        bool here = strncmp(at, "DIR", 3) == 0;

        ph_buf_append(&text, here ? ph_str_from(directory) : ph_str_first(ph_str_from(at), 1));
        at += here ? 3 : 1;
    }
    ph_certs_append(own, &pem);
    ph_certs_append_key(own, &pem);
    write_file("posthaste.conf", ph_buf_str(&text), 0644);
    cr_expect_null(load(&errors, &warnings));
    cr_expect(ph_str_find(ph_buf_str(&errors), PH_STR("C20 TlsCertificateName")) >= 0);
    ph_buf_clear(&errors);
    ph_buf_clear(&warnings);
    write_file("own.pem", ph_buf_str(&pem), 0600);
    write_file("relay.secret", PH_STR("user\npassword\n"), 0600);
    config = load(&errors, &warnings);
    cr_expect_not_null(config, "%s", ph_buf_cstr(&errors));
    cr_expect_eq(config->send_connector_count, 4);
    cr_expect_eq(config->site_count, 1);
    ph_config_release(config);
    ph_certs_destroy(own);
    ph_buf_deinit(&text);
    ph_buf_deinit(&pem);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

// The daemon's own look at its certificates: the text of the start counts, the files of today too.
Test(load, the_same_once_more_with_the_certificates_of_today, .init = make_directory,
     .fini = remove_directory)
{
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_buf text = {0};
    struct ph_config *config;
    struct ph_config *again;
    uint64_t state;

    ph_buf_printf(&text,
                  "include \"a.conf\"\n"
                  "ReceiveConnector \"in\" { Bindings = {\"127.0.0.1:0\"}\n"
                  "    TlsCertificate = \"%s/own.pem\" TlsKey = \"%s/own.pem\" }\n",
                  directory, directory);
    for (unsigned round = 0; round < 2; round++) {
        struct ph_cert *own =
            ph_certs_make(NULL, &(struct ph_certs_options){.common_name = "out1.example.net",
                                                           .usage = PH_CERTS_USAGE_BOTH});
        struct ph_buf pem = {0};

        ph_certs_append(own, &pem);
        ph_certs_append_key(own, &pem);
        write_file(round == 0 ? "own.pem" : "relay.secret", ph_buf_str(&pem), 0600);
        ph_buf_deinit(&pem);
        ph_certs_destroy(own);
    }
    write_file("posthaste.conf", ph_buf_str(&text), 0644);
    write_file("a.conf", PH_STR("SendConnector \"a\" { AddressSpaces = {\"*\"} }\n"), 0644);
    config = load(&errors, &warnings);
    cr_assert_not_null(config, "%s", ph_buf_cstr(&errors));
    cr_expect(!ph_config_certificates_changed(config, &state));

    // What is being written into the files of the text doesn't count; another certificate does.
    write_file("posthaste.conf", PH_STR("nonsense {\n"), 0644);
    write_file("a.conf", PH_STR("nonsense {\n"), 0644);
    {
        char from[256];
        char to[256];

        path_of("relay.secret", from);
        path_of("own.pem", to);
        cr_assert_eq(rename(from, to), 0);
    }
    cr_expect(ph_config_certificates_changed(config, &state));
    again = ph_config_load_again(config, &errors, &warnings);
    cr_assert_not_null(again, "%s", ph_buf_cstr(&errors));
    cr_expect_eq(again->send_connector_count, 1);
    cr_expect(!ph_config_certificates_changed(again, &state));
    ph_config_release(again);
    ph_config_release(config);
    cr_expect_null(load(&errors, &warnings));
    cr_expect(ph_str_find(ph_buf_str(&errors), PH_STR("posthaste.conf:1: C")) >= 0);
    ph_buf_deinit(&text);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

Test(load, one_connector_alone_and_files_that_are_not_there, .init = make_directory,
     .fini = remove_directory)
{
    static const struct ph_config_setting settings[] = {{PH_STR("RequireTLS"), PH_STR("true")}};
    struct ph_config_variation variation = {
        .connector = PH_STR("b"), .settings = settings, .setting_count = 1};
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config;
    char path[256];

    cr_expect_null(load(&errors, &warnings));
    cr_expect(ph_str_find(ph_buf_str(&errors), PH_STR("C27 file: can't be read (No such file")) >=
                  0,
              "%s", ph_buf_cstr(&errors));
    ph_buf_clear(&errors);
    write_file("posthaste.conf",
               PH_STR("SendConnector \"a\" { AddressSpaces = {\"a.test\"} }\n"
                      "SendConnector \"b\" { AddressSpaces = {\"b.test\"} Enabled = false }\n"),
               0644);
    path_of("posthaste.conf", path);
    config = ph_config_load_varied(path, &variation, &errors, &warnings);
    cr_assert_not_null(config, "%s", ph_buf_cstr(&errors));
    cr_expect_eq(config->send_connector_count, 1);
    cr_expect(config->send_connectors[0].enabled);
    cr_expect_eq(
        ph_config_policy(config, &config->send_connectors[0], PH_STR("x.test"), false).level,
        PH_TLS_ENCRYPTION_ONLY);
    ph_config_release(config);
    variation.connector = PH_STR("nobody");
    cr_expect_null(ph_config_load_varied(path, &variation, &errors, &warnings));
    variation.connector = PH_STR("b");
    config = ph_config_load_text(
        "t.conf", PH_STR("SendConnector \"a\" { AddressSpaces = {\"*\"} }\n"), &errors, &warnings);
    cr_assert_not_null(config, "%s", ph_buf_cstr(&errors));
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}
