// Covers: config/parse config/value config/keys config/build config/build_send
// Covers: config/build_receive config/snapshot
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/load.h"
#include "config/value.h"

static struct ph_config *parse(const char *text, struct ph_buf *errors, struct ph_buf *warnings)
{
    return ph_config_parse_text("t.conf", ph_str_from(text), NULL, errors, warnings);
}

static void expect_error(const char *text, const char *line)
{
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config = parse(text, &errors, &warnings);

    cr_expect_null(config, "%s", text);
    cr_expect(ph_str_find(ph_buf_str(&errors), ph_str_from(line)) >= 0, "wanted \"%s\" in: %s",
              line, ph_buf_cstr(&errors));
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

Test(load, ten_mistakes_in_one_run)
{
    static const char *const lines[] = {
        "t.conf:1: C21 Hostnme: unknown; did you mean Hostname?",
        "t.conf:2: C17 Workers: 9999 is out of range",
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

Test(load, rules)
{
#define SEND(rest) "SendConnector \"s\" { AddressSpaces = {\"*\"} " rest " }\n"
    expect_error(SEND("RequireTLS = true TlsAuthLevel = DomainValidation DNSRoutingEnabled = false "
                      "SmartHosts = {\"relay.test\"}"),
                 "C04");
    expect_error(SEND("DNSRoutingEnabled = false"), "C06");
    expect_error(SEND("SmartHostAuthMechanism = BasicAuth"), "C07");
    expect_error(SEND("DNSRoutingEnabled = false SmartHosts = {\"r.test\"} "
                      "SmartHostAuthMechanism = BasicAuth"),
                 "C08");
    expect_error(SEND("DomainSecureEnabled = true IgnoreSTARTTLS = true"), "C09");
    expect_error(
        SEND("DomainSecureEnabled = true DNSRoutingEnabled = false SmartHosts = {\"r.test\"}"),
        "C10");
    expect_error("TransportConfig { TLSSendDomainSecureList = {\"*.a.test\"} }\n", "C11");
    expect_error(SEND("ForceHELO = true RequireTLS = true"), "C15");
    expect_error("TransportConfig { MaxPerDomainOutboundConnections = 9 "
                 "MaxOutboundConnections = 8 }\n",
                 "C18");
    expect_error(SEND("TlsCertificateName = \"/nowhere.pem\""), "C20");
    expect_error(SEND("DNSRoutingEnabled = false SmartHosts = {\"192.0.2.1\"} "
                      "SmartHostAuthMechanism = BasicAuthRequireTLS"),
                 "C26");
    expect_error("Hostname = \"a\"\nHostname = \"b\"\n", "t.conf:2: C27 Hostname: given twice");
    expect_error("SendConnector \"s\" {\n AddressSpaces = {\"*\"}\n",
                 "t.conf:1: C27 syntax: the block "
                 "isn't closed");
    expect_error("Hostname = bare\n", "a text is quoted; write \"bare\"");
    expect_error("Nonsense { A = 1 }\n", "C21 Nonsense");
    expect_error("ReceiveConnector \"r\" { AuthMechanism = {None, Tls} }\n", "C28");
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

Test(value, texts)
{
    static const struct {
        const char *text;
        uint64_t ms; // UINT64_MAX: refused
    } times[] = {
        {"15m", 900000},      {"2d", 172800000},         {"50ms", 50},
        {"00:15:00", 900000}, {"2.00:00:00", 172800000}, {"0", 0},
        {"15", UINT64_MAX},   {"m", UINT64_MAX},         {"24:00:00", UINT64_MAX},
        {"1:2", UINT64_MAX},  {"-1s", UINT64_MAX},       {"99999999999999999d", UINT64_MAX}};
    uint64_t out;
    uint64_t interval;

    for (size_t i = 0; i < PH_ARRAY_LEN(times); i++) {
        bool good = ph_value_time_ms(ph_str_from(times[i].text), &out);

        cr_expect_eq(good, times[i].ms != UINT64_MAX, "%s", times[i].text);
        if (good) {
            cr_expect_eq(out, times[i].ms, "%s", times[i].text);
        }
    }
    cr_expect(ph_value_size(PH_STR("35MB"), &out) && out == 36700160);
    cr_expect(!ph_value_size(PH_STR("35M"), &out));
    cr_expect(ph_value_rate(PH_STR("200/s"), &out, &interval) && out == 200 && interval == 1000);
    cr_expect(!ph_value_rate(PH_STR("200"), &out, &interval));
    cr_expect(ph_value_percent(PH_STR("10%"), &out) && out == 10);
    cr_expect(!ph_value_percent(PH_STR("101%"), &out));
    cr_expect_eq(ph_value_distance(PH_STR("Hostnme"), PH_STR("Hostname")), 1);
}
