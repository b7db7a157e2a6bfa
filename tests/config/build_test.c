// Covers: config/build config/build_values config/build_send config/build_receive
// Covers: config/build_rules config/build_report config/build_resolver config/build_sites
// Covers: config/build_trust config/keys
//
// Each error and each warning of the configuration: a text that has it, and its neighbour that
// hasn't.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "bench/lib/certs.h"
#include "tests/config/files.h"

#define NOW_S (PH_CERTS_NOT_BEFORE_S + 86400) // the leaf "soon.pem" has 20 days left

#define SEND(rest) "SendConnector \"s\" {\n AddressSpaces = {\"*\"}\n " rest "\n}\n"
#define EIGHT(letter)                                                                              \
    "\"" letter "1\", \"" letter "2\", \"" letter "3\", \"" letter "4\", \"" letter                \
    "5\", \"" letter "6\", \"" letter "7\", \"" letter "8\", "
#define SMART_HOSTS(hosts)                                                                         \
    OTHER("s", "AddressSpaces = {\"*\"}\n DNSRoutingEnabled = false\n SmartHosts = {" hosts "}")
#define SMART(rest) SEND("DNSRoutingEnabled = false\n SmartHosts = {\"r.test\"}\n " rest)
#define RECEIVE(rest) "ReceiveConnector \"r\" {\n " rest "\n}\n"
#define OTHER(name, rest) "SendConnector \"" name "\" { " rest " }\n"
#define AUTH "AuthenticationCredential = \"/secret\"\n "

static const struct {
    const char *id;
    const char *bad;
    const char *place; // "LINE: ID KEY"
    const char *good;
} cases[] = {
    {"C01", SEND("TlsAuthLevel = EncryptionOnly"), "3: C01 TlsAuthLevel",
     SEND("TlsAuthLevel = EncryptionOnly RequireTLS = true")},
    {"C02", SEND("IgnoreSTARTTLS = true\n TlsAuthLevel = CertificateValidation"),
     "4: C02 TlsAuthLevel", SEND("IgnoreSTARTTLS = true\n TlsAuthLevel = \"\"")},
    {"C03", SEND("IgnoreSTARTTLS = true\n RequireTLS = true"), "4: C03 RequireTLS",
     SEND("IgnoreSTARTTLS = $false\n RequireTLS = $true")},
    {"C04", SMART("RequireTLS = true\n TlsAuthLevel = DomainValidation"), "6: C04 TlsAuthLevel",
     SMART("RequireTLS = true TlsAuthLevel = DomainValidation TlsDomain = {\"r.test\"}")},
    {"C05", SEND("SmartHosts = {\"r.test\"}"), "3: C05 SmartHosts", SMART("")},
    {"C06", SEND("DNSRoutingEnabled = false"), "3: C06 DNSRoutingEnabled", SMART("")},
    {"C07", SEND(AUTH "SmartHostAuthMechanism = BasicAuth"), "4: C07 SmartHostAuthMechanism",
     SMART(AUTH "SmartHostAuthMechanism = BasicAuth")},
    {"C08", SMART("SmartHostAuthMechanism = BasicAuth"), "5: C08 SmartHostAuthMechanism",
     SMART("SmartHostAuthMechanism = ExternalAuthoritative")},
    {"C08", SMART("AuthenticationCredential = \"/readable\"\n SmartHostAuthMechanism = BasicAuth"),
     "5: C08 AuthenticationCredential", SMART(AUTH "SmartHostAuthMechanism = BasicAuth")},
    {"C08", SMART("AuthenticationCredential = \"/good.pem2\"\n SmartHostAuthMechanism = BasicAuth"),
     "5: C08 AuthenticationCredential", SMART(AUTH "SmartHostAuthMechanism = BasicAuth")},
    {"C08", RECEIVE("AuthFile = \"/secret\""), "2: C08 AuthFile", RECEIVE("AuthFile = \"/users\"")},
    {"C09", SEND("DomainSecureEnabled = true IgnoreSTARTTLS = true"), "3: C09 DomainSecureEnabled",
     SEND("DomainSecureEnabled = true")},
    {"C10", SMART("DomainSecureEnabled = true"), "5: C10 DomainSecureEnabled",
     SEND("DomainSecureEnabled = true")},
    {"C11", "TransportConfig {\n TLSSendDomainSecureList = {\"*.a.test\"}\n}\n",
     "2: C11 TLSSendDomainSecureList",
     "TransportConfig { TLSSendDomainSecureList = {\"a.test\"} }"},
    {"C11", "TransportConfig { TLSReceiveDomainSecureList = {\"*.a.test\"} }\n",
     "1: C11 TLSReceiveDomainSecureList",
     "TransportConfig { TLSReceiveDomainSecureList = {\"a.test\"} }"},
#define LEVEL "RequireTLS = true TlsAuthLevel = DomainValidation\n "
    {"C13", SEND(LEVEL "TlsDomain = {\"*\"}"), "4: C13 TlsDomain",
     SEND(LEVEL "TlsDomain = {\"*.a.test\"}")},
    {"C13", SEND(LEVEL "TlsDomain = {\"*.com\"}"), "4: C13 TlsDomain",
     SEND(LEVEL "TlsDomain = {\"*.a.com\"}")},
    {"C13", SEND(LEVEL "TlsDomain = {\"mail.*.a.test\"}"), "4: C13 TlsDomain",
     SEND(LEVEL "TlsDomain = \"mail.a.test\"")},
    {"C13", SEND(LEVEL "TlsDomain = {\"*a.test\"}"), "4: C13 TlsDomain",
     SEND(LEVEL "TlsDomain = {\"a.test\", \"*.b.test\"}")},
    {"C13", SEND(LEVEL "TlsDomain = {\"10.0.0.1\"}"), "4: C13 TlsDomain",
     SEND(LEVEL "TlsDomain = {\"A.Test.\"}")},
    {"C13", SEND(LEVEL "TlsDomain = {\"a..test\"}"), "4: C13 TlsDomain",
     SEND(LEVEL "TlsDomain = {\"b\xc3\xbc"
                "cher.test\"}")},
    {"C15", SEND("ForceHELO = true RequireTLS = true"), "3: C15 ForceHELO",
     SEND("ForceHELO = true")},
    {"C15", SEND("ForceHELO = true DomainSecureEnabled = true"), "3: C15 ForceHELO",
     SEND("ForceHELO = false DomainSecureEnabled = true")},
    {"C15", SMART(AUTH "SmartHostAuthMechanism = BasicAuthRequireTLS\n ForceHELO = true"),
     "7: C15 ForceHELO", SMART(AUTH "SmartHostAuthMechanism = BasicAuth\n ForceHELO = true")},
    {"C16", "SendConnector \"s\" {\n AddressSpaces = {\"*a.test\"}\n}\n", "2: C16 AddressSpaces",
     OTHER("s", "AddressSpaces = {\"*.test\"}")},
    {"C16", "SendConnector \"s\" {\n AddressSpaces = {\"a.test;101\"}\n}\n", "2: C16 AddressSpaces",
     OTHER("s", "AddressSpaces = {\"a.test;100\"}")},
    {"C16", "SendConnector \"s\" {\n AddressSpaces = {\"X400:c=US\"}\n}\n", "2: C16 AddressSpaces",
     OTHER("s", "AddressSpaces = {\"smtp:a.test\"}")},
    {"C16", "SendConnector \"s\" {\n AddressSpaces = {\"--\"}\n}\n", "2: C16 AddressSpaces",
     OTHER("s", "AddressSpaces = \"*\"")},
    {"C16", "SendConnector \"s\" {\n}\n", "1: C16 AddressSpaces",
     OTHER("s", "AddressSpaces = {\"*\"}")},
    {"C17",
     SMART_HOSTS(EIGHT("a") EIGHT("b") EIGHT("c") EIGHT("d") EIGHT("e") EIGHT("f") EIGHT("g")
                     EIGHT("h") "\"one-more\""),
     "3: C17 SmartHosts: 65 of them; write at most 64",
     SMART_HOSTS(EIGHT("a") EIGHT("b") EIGHT("c") EIGHT("d") EIGHT("e") EIGHT("f")
                     EIGHT("g") "\"h1\", \"h2\", \"h3\", \"h4\", \"h5\", \"h6\", \"h7\", \"h8\"")},
    {"C17", SEND("Port = 0"), "3: C17 Port: 0 is out of range; write something from 1 to 65535",
     SMART("Port = 65535")},
    {"C17", SEND("MaxConnectionAge = 999ms"),
     "3: C17 MaxConnectionAge: 999ms is out of range; "
     "write something from 1s to 1d",
     SEND("MaxConnectionAge = 1.00:00:00")},
    {"C17", SEND("RetryTls = {5m, 21d}"), "3: C17 RetryTls", SEND("RetryTls = {5m, 20d}")},
    {"C17", SEND("RetryTls = {5m, never}"), "3: C17 RetryTls", SEND("RetryTls = 5m")},
    {"C17", SEND("MessageRate = 5"), "3: C17 MessageRate", SEND("MessageRate = 5/s")},
    {"C17", SEND("TlsAuthLevel = Strong"), "3: C17 TlsAuthLevel", SEND("TlsAuthLevel = none")},
    {"C17", SEND("RequireTLS = {true, true}"), "3: C17 RequireTLS", SEND("RequireTLS = true")},
    {"C17", SEND("SourceIPAddress = {\"out1\"}"), "3: C17 SourceIPAddress",
     SEND("SourceIPAddress = {\"0.0.0.0\", \"::1\"}")},
    {"C17", SEND("TlsPins = {\"spki:12\"}"), "3: C17 TlsPins", SEND("TlsPins = {}")},
    {"C17", SEND("RequireTLS = true TlsRequireGroups = \"?X25519\""), "3: C17 TlsRequireGroups",
     SEND("RequireTLS = true TlsRequireGroups = \"X25519\"")},
    {"C17", SEND("RequireTLS = true TlsRequireGroups = \"X448\""), "3: C17 TlsRequireGroups",
     SEND("RequireTLS = true TlsRequireGroups = \"P-256:X25519\"")},
    {"C17", SEND("TlsRequireGroups = \"X25519\""), "3: C17 TlsRequireGroups",
     SEND("RequireTLS = true TlsRequireGroups = \"X25519\"")},
    {"C17", SEND("TlsGroups = \"X448\""), "3: C17 TlsGroups", SEND("TlsGroups = \"X25519:P-256\"")},
    {"C17", SEND("SmartHostAuthMechanism = ExchangeServer"), "3: C17 SmartHostAuthMechanism",
     SEND("SmartHostAuthMechanism = None")},
    {"C17", "SendConnector { AddressSpaces = {\"*\"} }\n", "1: C17 SendConnector", SEND("")},
    {"C17", "Site {\n}\n", "1: C17 Site", "Site \"*.big.test\" {\n}\n"},
    {"C17", RECEIVE("Bindings = {\"2525\"}"), "2: C17 Bindings",
     RECEIVE("Bindings = {\"127.0.0.1:0\"}")},
    {"C17", RECEIVE("RemoteIPRanges = {\"10.0.0.0/33\"}"), "2: C17 RemoteIPRanges",
     RECEIVE("RemoteIPRanges = {\"10.0.0.0/8\", \"192.0.2.1-192.0.2.9\", "
             "\"192.0.2.0(255.255.255.0)\"}")},
    {"C17", RECEIVE("RemoteIPRanges = {\"10.0.0.9-10.0.0.1\"}"), "2: C17 RemoteIPRanges",
     RECEIVE("RemoteIPRanges = {\"10.0.0.1-10.0.0.1\"}")},
    {"C17", RECEIVE("ConnectionTimeout = 1m\n ConnectionInactivityTimeout = 1m"),
     "3: C17 ConnectionInactivityTimeout",
     RECEIVE("ConnectionTimeout = 1m\n ConnectionInactivityTimeout = 59s")},
    {"C17", "Admin { Http = \"8025\" }\n", "1: C17 Http", "Admin { Http = \"127.0.0.1:8025\" }\n"},
    {"C17", "Queue { MessageExpirationTimeout = 91d }\n", "1: C17 MessageExpirationTimeout",
     "Queue { MessageExpirationTimeout = 90d }\n"},
    {"C17", "TransportConfig { TLSSendDomainSecureList = {\"a b\"} }\n",
     "1: C17 TLSSendDomainSecureList",
     "TransportConfig { TLSSendDomainSecureList = {\"b\xc3\xbc"
     "cher.test\"} }\n"},
    {"C17", "Resolver {\n Forwarders = {\"ns.test\"}\n}\n", "2: C17 Forwarders",
     "Resolver { Forwarders = {\"192.0.2.53@5353\", \"2001:db8::53\"} }\n"},
    {"C17", "Resolver { Forwarders = {\"192.0.2.53@0\"} }\n", "1: C17 Forwarders",
     "Resolver { Forwarders = {\"192.0.2.53\"} }\n"},
    {"C17", "Resolver { LocalData = {\"a.test. MX 10\"} }\n", "1: C17 LocalData",
     "Resolver { LocalData = {\"a.test. MX 10 mx.a.test.\"} }\n"},
    {"C17", "Resolver { TrustAnchor = \"/nowhere\" }\n", "1: C17 TrustAnchor",
     "Resolver { TrustAnchor = \"/anchor\" }\n"},
    {"C17", "Resolver { TrustAnchor = \"/secret\" }\n", "1: C17 TrustAnchor",
     "Resolver { TrustAnchor = \"/anchor\" }\n"},
    {"C17", "Site \"goo*gle.test\" {\n}\n", "1: C17 Site", "Site \"*\" {\n}\n"},
    {"C17", SEND("TlsAuthLevel = DomainValidtion"),
     "3: C17 TlsAuthLevel: \"DomainValidtion\" isn't possible; did you mean DomainValidation?",
     SEND("TlsAuthLevel = None")},
    {"C17", SEND("Ramp = perhaps"), "3: C17 Ramp", SEND("Ramp = on TlsReporting = false")},
    {"C24", "Site \"*.a.test\" {\n}\nSite \"*.A.test\" {\n}\n", "3: C24 Site",
     "Site \"*.a.test\" {\n}\nSite \"a.test\" {\n}\n"},
    {"C18", "TransportConfig { MaxPerDomainOutboundConnections = 9 MaxOutboundConnections = 8 }\n",
     "1: C18 MaxPerDomainOutboundConnections",
     "TransportConfig { MaxPerDomainOutboundConnections = 8 MaxOutboundConnections = 8 }\n"},
    {"C20", SEND("TlsCertificateName = \"/nowhere.pem\""), "3: C20 TlsCertificateName",
     SEND("TlsCertificateName = \"/good.pem\"")},
    {"C20", SEND("TlsCertificateName = \"/root.pem\""), "3: C20 TlsCertificateName",
     SEND("TlsCertificateName = \"/good.pem\"")},
    {"C20",
     SEND("RequireTLS = true TlsAuthLevel = CertificateValidation\n TlsTrustAnchors = "
          "{\"/secret\"}"),
     "4: C20 TlsTrustAnchors",
     SEND("RequireTLS = true TlsAuthLevel = CertificateValidation\n TlsTrustAnchors = "
          "{\"/root.pem\"}")},
    {"C20", RECEIVE("TlsCertificate = \"/nowhere.pem\""), "2: C20 TlsCertificate",
     RECEIVE("TlsCertificate = \"/good.pem\"")},
    {"C20", RECEIVE("Bindings = {\"127.0.0.1:0/tls\"}"), "2: C20 Bindings",
     RECEIVE("Bindings = {\"127.0.0.1:0/tls\"} TlsCertificate = \"/good.pem\"")},
    {"C20", RECEIVE("RequireTLS = true"), "2: C20 RequireTLS",
     RECEIVE("RequireTLS = true TlsCertificate = \"/good.pem\"")},
    {"C21", SEND("RequireTSL = true"), "3: C21 RequireTSL: unknown; did you mean RequireTLS?",
     SEND("requiretls = TRUE")},
    {"C21", SEND("Forwarders = {}"), "3: C21 Forwarders: unknown here; it belongs to Resolver",
     "Resolver { Forwarders = {} }\n"},
    {"C21", SEND("Colour = \"blue\""), "3: C21 Colour: unknown here; remove it",
     SEND("Comment = \"blue\"")},
    {"C21", "SendConector \"s\" { }\n",
     "1: C21 SendConector: unknown kind of block; did you mean SendConnector?", SEND("")},
    {"C22", SEND("UpgradeCodes = {\"4.2.2\"} DowngradeCodes = {\"5.1.1\", \"4.2.2\"}"),
     "3: C22 UpgradeCodes", SEND("UpgradeCodes = {\"4.2.2\"} DowngradeCodes = {\"5.1.1\"}")},
    {"C23", SMART(AUTH "SmartHostAuthMechanism = BasicAuthRequireTLS\n IgnoreSTARTTLS = true"),
     "6: C23 SmartHostAuthMechanism",
     SMART(AUTH "SmartHostAuthMechanism = BasicAuth\n IgnoreSTARTTLS = true")},
    {"C24", SEND("") "SendConnector \"S\" { AddressSpaces = {\"a.test\"} }\n",
     "5: C24 SendConnector", SEND("") OTHER("s2", "AddressSpaces = {\"a.test\"}")},
    {"C24",
     RECEIVE("Bindings = {\"127.0.0.1:25\"}") "ReceiveConnector \"t\" {\n Bindings = "
                                              "{\"127.0.0.1:25\"}\n}\n",
     "4: C24 Bindings: 127.0.0.1:25 is bound by \"r\" already",
     RECEIVE("Bindings = {\"127.0.0.1:25\"}") "ReceiveConnector \"t\" {\n Bindings = "
                                              "{\"127.0.0.1:25\"}\n Enabled = false\n}\n"},
    {"C24", RECEIVE("Bindings = {\"[::1]:25\", \"[::1]:25\"}"), "1: C24 Bindings",
     RECEIVE("Bindings = {\"[::1]:25\", \"[::1]:26\"}")},
    {"C24", RECEIVE("") "ReceiveConnector \"R\" {\n}\n", "4: C24 ReceiveConnector", RECEIVE("")},
    {"C24", "Queue {\n}\nQueue {\n}\n", "3: C24 Queue", "Queue {\n}\n"},
    {"C25", SEND("Port = 26"), "3: C25 Port", SMART("Port = 26")},
    {"C26",
     SEND("DNSRoutingEnabled = false SmartHosts = {\"192.0.2.1\"}\n " AUTH
          "SmartHostAuthMechanism = BasicAuthRequireTLS"),
     "5: C26 SmartHostAuthMechanism",
     SEND("DNSRoutingEnabled = false SmartHosts = {\"192.0.2.1\"}\n RequireTLS = true "
          "TlsAuthLevel = DomainValidation TlsDomain = {\"r.test\"}\n " AUTH
          "SmartHostAuthMechanism = BasicAuthRequireTLS")},
    {"C27", SEND("RequireTLS"), "3: C27 syntax", SEND("RequireTLS = true")},
    {"C27", SEND("Fqdn = out.test"), "3: C27 Fqdn", SEND("Fqdn = \"out.test\"")},
    {"C27", SEND("TlsPins = {\"\", bare}"), "3: C27 TlsPins", SEND("")},
    {"C28", RECEIVE("AuthMechanism = {None, Tls}"), "2: C28 AuthMechanism",
     RECEIVE("AuthMechanism = {None}")},
    {"C28", RECEIVE("AuthMechanism = {Integrated}"), "2: C28 AuthMechanism",
     RECEIVE("AuthMechanism = Tls")},
    {"C28", RECEIVE("AuthMechanism = {Tls, BasicAuthRequireTLS}"), "2: C28 AuthMechanism",
     RECEIVE("AuthMechanism = {Tls, BasicAuth, BasicAuthRequireTLS}")},
    {"C28", RECEIVE("AuthMechanism = {Tls, ExternalAuthoritative}"), "2: C28 AuthMechanism",
     RECEIVE("AuthMechanism = {Tls, ExternalAuthoritative} PermissionGroups = "
             "{\"ExchangeServers\"}")},
    {"C28", RECEIVE("AuthMechanism = {None} RequireTLS = true TlsCertificate = \"/good.pem\""),
     "2: C28 RequireTLS", RECEIVE("RequireTLS = true TlsCertificate = \"/good.pem\"")},
    {"C28", RECEIVE("AuthMechanism = {None} DomainSecureEnabled = true"),
     "2: C28 DomainSecureEnabled",
     RECEIVE("AuthMechanism = {Tls} DomainSecureEnabled = true TlsCertificate = \"/good.pem\" "
             "TlsTrustAnchors = {\"/root.pem\"}")},
    {"C29", SEND("DomainSecureEnabled = true FrontendProxyEnabled = true"),
     "3: C29 FrontendProxyEnabled", SEND("FrontendProxyEnabled = true")},

    {"W1", SEND("IsScopedConnector = true"), "3: W1 IsScopedConnector", SEND("")},
    {"W2",
     SEND("") "SendConnector \"p\" {\n AddressSpaces = {\"p.test\"} RequireTLS = true\n "
              "Enabled = false\n}\n",
     "5: W2 Enabled",
     SEND("") OTHER("p", "AddressSpaces = {\"p.test\"} RequireTLS = true Enabled = false "
                         "HoldWhenDisabled = true")},
    {"W3", SMART(AUTH "SmartHostAuthMechanism = BasicAuth"), "6: W3 SmartHostAuthMechanism",
     SMART(AUTH "SmartHostAuthMechanism = BasicAuthRequireTLS")},
    {"W4", SEND("RequireTLS = true\n TlsDomain = {\"a.test\"}"), "4: W4 TlsDomain",
     SEND(LEVEL "TlsDomain = {\"a.test\"}")},
    {"W5", SEND("") "TransportConfig {\n TLSSendDomainSecureList = {\"a.test\"}\n}\n",
     "6: W5 TLSSendDomainSecureList",
     SEND("DomainSecureEnabled = true") "TransportConfig { TLSSendDomainSecureList = {\"a.test\"} "
                                        "}"},
    {"W5",
     SEND("") OTHER(
         "x", "AddressSpaces = {\"b.test\"} DomainSecureEnabled = true") "TransportConfig {\n "
                                                                         "TLSSendDomainSecureList "
                                                                         "= {\"a.test\"}\n}\n",
     "7: W5 TLSSendDomainSecureList", SEND("")},
    {"W6", SEND("RequireTLS = true\n TlsAuthLevel = CertificateValidation"), "4: W6 TlsAuthLevel",
     SEND(LEVEL)},
    {"W7", SEND("DomainSecureEnabled = true"), "1: W7 DomainSecureEnabled",
     SEND("DomainSecureEnabled = true") "TransportConfig { TLSSendDomainSecureList = {\"a.test\"} "
                                        "}"},
    {"W8", "Queue { DelayNotificationTimeout = 30m }\n", "1: W8 DelayNotificationTimeout",
     "Queue { DelayNotificationTimeout = 31m }\n"},
    {"W8", "Queue { TransientFailureRetryInterval = 1h }\n", "1: W8 DelayNotificationTimeout",
     "Queue { TransientFailureRetryInterval = 39m }\n"},
    {"W9", SEND("TlsCertificateName = \"/soon.pem\""),
     "3: W9 TlsCertificateName: our own certificate expires in 20 days",
     SEND("TlsCertificateName = \"/good.pem\"")},
    {"W9", RECEIVE("TlsCertificate = \"/over.pem\""),
     "2: W9 TlsCertificate: our own certificate has expired",
     RECEIVE("TlsCertificate = \"/good.pem\"")},
    {"W10", SEND("RequireTLS = true") OTHER("leak", "AddressSpaces = {\"a.test\"}"),
     "1: W10 RequireTLS",
     SEND("RequireTLS = true") OTHER("tight", "AddressSpaces = {\"a.test\"} "
                                              "RequireTLS = true")},
    {"W10",
     OTHER("p", "AddressSpaces = {\"p.test;2\"} RequireTLS = true")
         OTHER("q", "AddressSpaces = {\"p.test\"}"),
     "1: W10 RequireTLS",
     OTHER("p", "AddressSpaces = {\"p.test\"} RequireTLS = true")
         OTHER("q", "AddressSpaces = {\"p.test;2\"}")},
    {"W11", SEND(LEVEL "TlsNameSource = host"), "4: W11 TlsNameSource",
     SEND(LEVEL "TlsNameSource = recipient")},
    {"W12", SEND("TlsCertificateName = \"/server.pem\""), "3: W12 TlsCertificateName",
     SEND("TlsCertificateName = \"/good.pem\"")},
    {"W13",
     SEND("RevocationFetch = false\n RequireTLS = true TlsAuthLevel = CertificateValidation"),
     ": W13 ", SEND("RequireTLS = true RevocationFetch = false")},
    {"W14", SEND("RequireTLS = true TlsAuthLevel = CertificateValidation\n Mode = report"),
     "4: W14 Mode: report: Opportunistic is enforced; recorded, and not enforced, is: "
     "RequireTLS = true, TlsAuthLevel = CertificateValidation",
     SEND("RequireTLS = true Mode = enforce")},
    {"W14", SEND("RequireTLS = true\n Mode = report ReportFloor = RequireTLS"),
     "4: W14 Mode: report: RequireTLS is enforced; recorded, and not enforced, is: nothing",
     SEND("RequireTLS = true Mode = enforce")},
    {"W14", SEND("RequireTLS = true\n Mode = report"), "4: W14 Mode",
     SEND("RequireTLS = true Mode = enforce")},
    {"W15", RECEIVE("AuthMechanism = {Tls, BasicAuth}"), "2: W15 AuthMechanism",
     RECEIVE("AuthMechanism = {Tls, BasicAuth, BasicAuthRequireTLS}")},
    {"W16", SEND("ProtocolLoggingLevel = Verbose"), "3: W16 ProtocolLoggingLevel",
     SEND("ProtocolLoggingLevel = Verbose") "Log { Protocol = \"-\" }\n"},
    {"W17", "Resolver {\n Port = 2525\n}\n", "2: W17 Port", "Resolver { Port = 25 }\n"},
    {"W20", "Resolver {\n Forwarders = {\"127.0.0.1\"}\n}\n", "2: W20 Forwarders",
     "Resolver { Forwarders = {\"127.0.0.1\"} TrustAnchor = \"/anchor\" }\n"},
    {"W18", RECEIVE("RemoteIPRanges = {\"0.0.0.0-255.255.255.255\"}"), "2: W18 RemoteIPRanges",
     RECEIVE("RemoteIPRanges = {\"0.0.0.1-255.255.255.255\"}")},
    {"W18", RECEIVE("RemoteIPRanges = {\"0.0.0.0/0\"}"), "2: W18 RemoteIPRanges",
     RECEIVE("RemoteIPRanges = {\"0.0.0.0/1\"}")},
};

static const char *const ids[] = {"C01", "C02", "C03", "C04", "C05", "C06", "C07", "C08", "C09",
                                  "C10", "C11", "C13", "C15", "C16", "C17", "C18", "C20", "C21",
                                  "C22", "C23", "C24", "C25", "C26", "C27", "C28", "C29", "W1",
                                  "W2",  "W3",  "W4",  "W5",  "W6",  "W7",  "W8",  "W9",  "W10",
                                  "W11", "W12", "W13", "W14", "W15", "W16", "W17", "W18", "W20"};

static void add_leaf(struct files *files, const char *name, int64_t not_after_s,
                     enum ph_certs_usage usage)
{
    struct ph_buf *out = files_add(files, name, 0600);
    struct ph_cert *leaf = ph_certs_make(
        NULL, &(struct ph_certs_options){
                  .common_name = "own.test", .not_after_s = not_after_s, .usage = usage});

    ph_certs_append(leaf, out);
    ph_certs_append_key(leaf, out);
    ph_certs_destroy(leaf);
}

static void fill(struct files *files)
{
    struct ph_cert *root = ph_certs_root("root");

    files_init(files, NOW_S);
    ph_buf_append(files_add(files, "/secret", 0600), PH_STR("user\npassword\n"));
    ph_buf_append(files_add(files, "/readable", 0640), PH_STR("user\npassword\n"));
    ph_buf_append(files_add(files, "/good.pem2", 0600), PH_STR("user without a password\n"));
    ph_buf_append(files_add(files, "/users", 0600), PH_STR("# one\nu:$6$salt$hash\n"));
    ph_buf_append(files_add(files, "/anchor", 0644), PH_STR(". IN DS 20326 8 2 e06d\n"));
    ph_certs_append(root, files_add(files, "/root.pem", 0644));
    ph_certs_destroy(root);
    add_leaf(files, "/good.pem", 0, PH_CERTS_USAGE_BOTH);
    add_leaf(files, "/server.pem", 0, PH_CERTS_USAGE_SERVER);
    add_leaf(files, "/soon.pem", NOW_S + 86400 * 20 + 3600, PH_CERTS_USAGE_BOTH);
    add_leaf(files, "/over.pem", NOW_S, PH_CERTS_USAGE_BOTH);
}

// Every line of `text` is complete: place, id, key, and for errors what to write instead.
static void expect_well_formed(struct ph_str text, bool errors, const char *of)
{
    struct ph_str line;

    while (ph_str_cut(&text, '\n', &line)) {
        cr_expect(ph_str_starts(line, PH_STR("/t.conf:")), "\"%.*s\" of %s", PH_STR_ARG(line), of);
        cr_expect(!errors || ph_str_find(line, PH_STR("; ")) >= 0, "no remedy in \"%.*s\"",
                  PH_STR_ARG(line));
    }
}

static void run_case(struct files *files, size_t i)
{
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    bool error = cases[i].id[0] == 'C';
    char wanted[128];
    char mark[16];
    struct ph_config *config = ph_config_parse_text("/t.conf", ph_str_from(cases[i].bad),
                                                    &files->calls, &errors, &warnings);

    snprintf(wanted, sizeof(wanted), "%s%s",
             cases[i].place[0] == ':' ? "" : "/t.conf:", cases[i].place);
    cr_expect_eq(config == NULL, error, "%s\n%s", cases[i].bad, ph_buf_cstr(&errors));
    cr_expect(ph_str_find(ph_buf_str(error ? &errors : &warnings), ph_str_from(wanted)) >= 0,
              "wanted \"%s\" in\n%s%s", wanted, ph_buf_cstr(&errors), ph_buf_cstr(&warnings));
    expect_well_formed(ph_buf_str(&errors), true, cases[i].bad);
    expect_well_formed(ph_buf_str(&warnings), false, cases[i].bad);
    ph_config_release(config);
    ph_buf_clear(&errors);
    ph_buf_clear(&warnings);
    config = ph_config_parse_text("/t.conf", ph_str_from(cases[i].good), &files->calls, &errors,
                                  &warnings);
    snprintf(mark, sizeof(mark), ": %s ", cases[i].id);
    if (error) {
        cr_expect_not_null(config, "%s\n%s", cases[i].good, ph_buf_cstr(&errors));
    }
    cr_expect(ph_str_find(ph_buf_str(&errors), ph_str_from(mark)) < 0 &&
                  ph_str_find(ph_buf_str(&warnings), ph_str_from(mark)) < 0,
              "%s in the good neighbour\n%s%s%s", cases[i].id, cases[i].good, ph_buf_cstr(&errors),
              ph_buf_cstr(&warnings));
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

Test(build, each_error_and_warning)
{
    struct files files;

    fill(&files);
    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        run_case(&files, i);
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(ids); i++) {
        bool found = false;

        for (size_t j = 0; j < PH_ARRAY_LEN(cases); j++) {
            found |= strcmp(ids[i], cases[j].id) == 0;
        }
        cr_expect(found, "%s has no case", ids[i]);
    }
    files_deinit(&files);
}

Test(build, every_default_is_within_its_own_bounds)
{
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config =
        ph_config_parse_text("/t.conf", PH_STR(SEND("") RECEIVE("")), NULL, &errors, &warnings);

    cr_assert_not_null(config, "%s", ph_buf_cstr(&errors));
    cr_expect_eq(warnings.len, 0, "%s", ph_buf_cstr(&warnings));
    cr_expect_eq(config->max_per_domain_outbound_connections, 20);
    cr_expect_eq(config->max_outbound_connections, 20000);
    cr_expect_eq(config->outcome_sync_delay_ms, 50);
    cr_expect_eq(config->send_connectors[0].limits.max_messages_per_connection, 100);
    cr_expect_eq(config->send_connectors[0].limits.inactivity_timeout_ms, 10000);
    cr_expect_eq(config->send_connectors[0].max_message_size, 35 << 20);
    cr_expect_eq(config->send_connectors[0].timeouts.final_dot_ms, 600000);
    cr_expect_eq(config->send_connectors[0].policy.level, PH_TLS_OPPORTUNISTIC);
    cr_expect_eq(config->send_connectors[0].retry_tls_count, 0);
    cr_expect_eq(config->receive_connectors[0].max_inbound_connection, 5000);
    cr_expect_eq(config->receive_connectors[0].max_recipients_per_message, 1000);
    cr_expect_eq(config->retry.delay_notification_ms, 4 * 3600000);
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

// Domains are looked for in A-labels: what an administrator writes another way is the same domain.
Test(build, domains_and_hosts_are_normalized)
{
    static const char text[] = "TransportConfig { TLSSendDomainSecureList = {\"Contoso.COM.\", "
                               "\"b\xc3\xbc"
                               "cher.test\"} }\n"
                               "Site \"*.B\xc3\xbc"
                               "cher.test.\" { MaxConnections = 3 }\nSite \"*\" { MaxConnections "
                               "= 4294967297 }\n" SEND("");
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config =
        ph_config_parse_text("/t.conf", ph_str_from(text), NULL, &errors, &warnings);
    const struct ph_send_connector *connector;

    cr_assert_not_null(config, "%s", ph_buf_cstr(&errors));
    connector = &config->send_connectors[0];
    cr_expect(
        ph_config_policy(config, connector, PH_STR("contoso.com"), false).domain_secure_misrouted);
    cr_expect(ph_config_policy(config, connector, PH_STR("xn--bcher-kva.test"), false)
                  .domain_secure_misrouted);
    cr_expect_eq(
        ph_config_limits(config, connector, PH_STR("mx.xn--bcher-kva.test"), NULL).max_connections,
        3);
    cr_expect_eq(ph_config_limits(config, connector, PH_STR("mx.a.test"), NULL).max_connections,
                 UINT32_MAX);
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

Test(build, errors_stand_in_the_order_of_the_files)
{
    static const char text[] = "Workers = 999\ninclude \"/more.conf\"\nRequireTLS\n"
                               "SendConnector \"s\" {\n Port = 0\n AddressSpaces = {\"*\"}\n}\n"
                               "Nonsense = 1\n";
    static const char *const wanted[] = {"/t.conf:1: C17 Workers", "/t.conf:3: C27 syntax",
                                         "/t.conf:5: C17 Port", "/t.conf:8: C21 Nonsense",
                                         "/more.conf:2: C21 Workers"};
    struct files files;
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_str rest;
    struct ph_str line;
    size_t count = 0;

    files_init(&files, NOW_S);
    ph_buf_append(files_add(&files, "/more.conf", 0644), PH_STR("\nSite \"x\" { Workers = 1 }\n"));
    cr_expect_null(
        ph_config_parse_text("/t.conf", ph_str_from(text), &files.calls, &errors, &warnings));
    rest = ph_buf_str(&errors);
    for (; ph_str_cut(&rest, '\n', &line); count++) {
        cr_assert(count < PH_ARRAY_LEN(wanted), "%s", ph_buf_cstr(&errors));
        cr_expect(ph_str_starts(line, ph_str_from(wanted[count])), "wanted %s in %s", wanted[count],
                  ph_buf_cstr(&errors));
    }
    cr_expect_eq(count, PH_ARRAY_LEN(wanted), "%s", ph_buf_cstr(&errors));
    files_deinit(&files);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

Test(build, shares_and_sizes)
{
    static const char text[] = "MinFreeSpace = 5GB\nMemoryLimit = 50%\n";
    struct files files;
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config;

    files_init(&files, NOW_S);
    ph_buf_append(files_add(&files, "/proc/self/cgroup", 0444), PH_STR("0::/mail/out\n"));
    ph_buf_append(files_add(&files, "/sys/fs/cgroup/mail/out/memory.max", 0444), PH_STR("max\n"));
    ph_buf_append(files_add(&files, "/sys/fs/cgroup/mail/memory.max", 0444), PH_STR("1000000\n"));
    config = ph_config_parse_text("/t.conf", ph_str_from(text), &files.calls, &errors, &warnings);
    cr_assert_not_null(config, "%s", ph_buf_cstr(&errors));
    cr_expect_eq(config->memory_limit, 500000);
    cr_expect_eq(config->min_free_bytes, UINT64_C(5) << 30);
    cr_expect_eq(config->min_free_percent, 0);
    ph_config_release(config);
    files_deinit(&files);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

// Lists that the engine keeps in arrays: at their limit, and one past it.
Test(build, lists_have_their_limits)
{
    static const struct {
        const char *id;
        const char *before; // the list
        size_t most;
    } rows[] = {
        {"C13 TlsDomain",
         "RequireTLS = true TlsAuthLevel = DomainValidation AddressSpaces = {\"*\"} TlsDomain",
         PH_TLS_DOMAINS_MAX},
        {"C17 SmartHosts", "AddressSpaces = {\"*\"} DNSRoutingEnabled = false SmartHosts",
         PH_SMART_HOSTS_MAX},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        for (size_t more = 0; more <= 1; more++) {
            struct ph_buf text = {0};
            struct ph_buf errors = {0};
            struct ph_buf warnings = {0};
            struct ph_config *config;

            ph_buf_printf(&text, "SendConnector \"s\" { %s = {", rows[i].before);
            for (size_t n = 0; n < rows[i].most + more; n++) {
                ph_buf_printf(&text, "%s\"h%zu.a.test\"", n > 0 ? ", " : "", n);
            }
            ph_buf_append(&text, PH_STR("} }\n"));
            config = ph_config_parse_text("/t.conf", ph_buf_str(&text), NULL, &errors, &warnings);
            cr_expect_eq(ph_str_find(ph_buf_str(&errors), ph_str_from(rows[i].id)) >= 0, more == 1,
                         "%s %zu: %s", rows[i].id, more, ph_buf_cstr(&errors));
            ph_config_release(config);
            ph_buf_deinit(&text);
            ph_buf_deinit(&errors);
            ph_buf_deinit(&warnings);
        }
    }
}
