// Every key of the configuration: its block, type, default and bounds. The defaults are texts that
// are read like the administrator's own.
#pragma once

#include <stddef.h>
#include <stdint.h>

enum ph_key_type {
    PH_KEY_TEXT,
    PH_KEY_BOOL,
    PH_KEY_TIME, // ms
    PH_KEY_SIZE, // bytes
    PH_KEY_NUMBER,
    PH_KEY_SHARE,  // 10%, or a size
    PH_KEY_RATE,   // 200/s, off
    PH_KEY_CHOICE, // one of `choices`
    PH_KEY_BITS,   // a list of `choices`
    PH_KEY_LIST,   // of texts
    PH_KEY_TIMES,  // a list of times, ms
};

enum ph_key_state {
    PH_KEY_IN_FORCE,
    PH_KEY_NO_EFFECT, // Exchange's: accepted, W1 where it is given
    PH_KEY_AT_START,  // in force from the start on: a reload doesn't change it
};

struct ph_key {
    const char *name;
    enum ph_key_type type;
    const char *fallback; // the default's text
    uint64_t min;
    uint64_t max;        // 0: no bound
    const char *choices; // "a|b|c", numbered from 0
    enum ph_key_state state;
};

enum ph_block_kind {
    PH_BLOCK_GLOBAL,
    PH_BLOCK_RECEIVE,
    PH_BLOCK_SEND,
    PH_BLOCK_TRANSPORT,
    PH_BLOCK_SITE,
    PH_BLOCK_QUEUE,
    PH_BLOCK_RESOLVER,
    PH_BLOCK_ADMIN,
    PH_BLOCK_LOG,
    PH_BLOCK_KINDS,
};

#define PH_DAYS_MS(days) (UINT64_C(86400000) * (days))

#define PH_GLOBAL_KEYS(X)                                                                          \
    X(HOSTNAME, "Hostname", TEXT, "", 0, 0, NULL, IN_FORCE)                                        \
    X(SPOOL_DIR, "SpoolDir", TEXT, "/var/spool/posthaste", 0, 0, NULL, AT_START)                   \
    X(WORKERS, "Workers", NUMBER, "0", 0, 256, NULL, AT_START)                                     \
    X(IO_WORLD, "IoWorld", CHOICE, "auto", 0, 0, "auto|ring|poll", AT_START)                       \
    X(DURABILITY, "Durability", CHOICE, "commit", 0, 0, "commit|os", AT_START)                     \
    X(OUTCOME_SYNC_DELAY, "OutcomeSyncDelay", TIME, "50ms", 0, 60000, NULL, AT_START)              \
    X(SHUTDOWN_TIMEOUT, "ShutdownTimeout", TIME, "30s", 0, 3600000, NULL, IN_FORCE)                \
    X(SPOOL_LOCK_TIMEOUT, "SpoolLockTimeout", TIME, "10s", 0, 3600000, NULL, AT_START)             \
    X(MIN_FREE_SPACE, "MinFreeSpace", SHARE, "10%", 0, 0, NULL, AT_START)                          \
    X(MEMORY_LIMIT, "MemoryLimit", SHARE, "50%", 0, 0, NULL, AT_START)                             \
    X(TLS_TICKET_KEY, "TlsTicketKey", TEXT, "", 0, 0, NULL, AT_START)                              \
    X(REVOCATION_REFRESH, "RevocationRefresh", TIME, "4h", 1000, 604800000, NULL, IN_FORCE)        \
    X(CERTIFICATE_DIR, "CertificateDir", TEXT, "/etc/posthaste/certs", 0, 0, NULL, IN_FORCE)       \
    X(TLS_REPORT_INTERVAL, "TlsReportInterval", TIME, "1d", 1000, PH_DAYS_MS(7), NULL, AT_START)   \
    X(TLS_CACHES, "TlsCaches", CHOICE, "on", 0, 0, "on|off", AT_START)                             \
    X(POSTMASTER, "Postmaster", TEXT, "", 0, 0, NULL, IN_FORCE)                                    \
    X(USER, "User", TEXT, "", 0, 0, NULL, AT_START)

#define PH_RECEIVE_KEYS(X)                                                                         \
    X(ENABLED, "Enabled", BOOL, "true", 0, 0, NULL, IN_FORCE)                                      \
    X(BINDINGS, "Bindings", LIST, "", 0, 0, NULL, IN_FORCE)                                        \
    X(REMOTE_IP_RANGES, "RemoteIPRanges", LIST, "", 0, 0, NULL, IN_FORCE)                          \
    X(AUTH_MECHANISM, "AuthMechanism", BITS, "Tls", 0, 0,                                          \
      "Tls|BasicAuth|BasicAuthRequireTLS|ExternalAuthoritative|None|Integrated|ExchangeServer",    \
      IN_FORCE)                                                                                    \
    X(REQUIRE_TLS, "RequireTLS", BOOL, "false", 0, 0, NULL, IN_FORCE)                              \
    X(DOMAIN_SECURE, "DomainSecureEnabled", BOOL, "false", 0, 0, NULL, IN_FORCE)                   \
    X(TLS_TRUST_ANCHORS, "TlsTrustAnchors", LIST, "system", 0, 0, NULL, IN_FORCE)                  \
    X(REVOCATION_CRLS, "RevocationCrls", LIST, "", 0, 0, NULL, IN_FORCE)                           \
    X(TLS_CERTIFICATE, "TlsCertificate", TEXT, "", 0, 0, NULL, IN_FORCE)                           \
    X(TLS_KEY, "TlsKey", TEXT, "", 0, 0, NULL, IN_FORCE)                                           \
    X(TLS_CERTIFICATE_NAME, "TlsCertificateName", TEXT, "", 0, 0, NULL, IN_FORCE)                  \
    X(AUTH_FILE, "AuthFile", TEXT, "", 0, 0, NULL, IN_FORCE)                                       \
    X(FQDN, "Fqdn", TEXT, "", 0, 0, NULL, IN_FORCE)                                                \
    X(BANNER, "Banner", TEXT, "", 0, 0, NULL, IN_FORCE)                                            \
    X(MAX_MESSAGE_SIZE, "MaxMessageSize", SIZE, "35MB", 1024, 0, NULL, IN_FORCE)                   \
    X(BARE_LINE_ENDINGS, "BareLineEndings", CHOICE, "reject", 0, 0, "reject|normalize", IN_FORCE)  \
    X(MAX_INBOUND, "MaxInboundConnection", NUMBER, "5000", 1, 0, NULL, IN_FORCE)                   \
    X(MAX_INBOUND_SOURCE, "MaxInboundConnectionPerSource", NUMBER, "20", 1, 0, NULL, IN_FORCE)     \
    X(MAX_RECIPIENTS, "MaxRecipientsPerMessage", NUMBER, "1000", 1, 1000, NULL, IN_FORCE)          \
    X(MAX_ERRORS, "MaxProtocolErrors", NUMBER, "5", 1, 1000, NULL, IN_FORCE)                       \
    X(TARPIT, "TarpitInterval", TIME, "0", 0, 600000, NULL, IN_FORCE)                              \
    X(PROTOCOL_LOGGING, "ProtocolLoggingLevel", CHOICE, "None", 0, 0, "None|Verbose", IN_FORCE)    \
    X(CONNECTION_TIMEOUT, "ConnectionTimeout", TIME, "10m", 1000, 86400000, NULL, IN_FORCE)        \
    X(INACTIVITY_TIMEOUT, "ConnectionInactivityTimeout", TIME, "5m", 1000, 86400000, NULL,         \
      IN_FORCE)                                                                                    \
    X(MAX_HOPS, "MaxHopCount", NUMBER, "100", 1, 500, NULL, IN_FORCE)                              \
    X(PERMISSION_GROUPS, "PermissionGroups", LIST, "", 0, 0, NULL, NO_EFFECT)                      \
    X(TLS_CAPABILITIES, "TlsDomainCapabilities", LIST, "", 0, 0, NULL, NO_EFFECT)                  \
    X(ENABLE_AUTH_GSSAPI, "EnableAuthGSSAPI", BOOL, "false", 0, 0, NULL, NO_EFFECT)                \
    X(SUPPRESS_ANONYMOUS_TLS, "SuppressXAnonymousTls", BOOL, "false", 0, 0, NULL, NO_EFFECT)       \
    X(COMMENT, "Comment", TEXT, "", 0, 0, NULL, IN_FORCE)

#define PH_SEND_KEYS(X)                                                                            \
    X(ENABLED, "Enabled", BOOL, "true", 0, 0, NULL, IN_FORCE)                                      \
    X(ADDRESS_SPACES, "AddressSpaces", LIST, "", 0, 0, NULL, IN_FORCE)                             \
    X(DNS_ROUTING, "DNSRoutingEnabled", BOOL, "true", 0, 0, NULL, IN_FORCE)                        \
    X(SMART_HOSTS, "SmartHosts", LIST, "", 0, 0, NULL, IN_FORCE)                                   \
    X(PORT, "Port", NUMBER, "25", 1, 65535, NULL, IN_FORCE)                                        \
    X(SMART_HOST_AUTH, "SmartHostAuthMechanism", CHOICE, "None", 0, 0,                             \
      "None|BasicAuth|BasicAuthRequireTLS|ExternalAuthoritative|ExchangeServer", IN_FORCE)         \
    X(CREDENTIAL, "AuthenticationCredential", TEXT, "", 0, 0, NULL, IN_FORCE)                      \
    X(REQUIRE_TLS, "RequireTLS", BOOL, "false", 0, 0, NULL, IN_FORCE)                              \
    X(IGNORE_STARTTLS, "IgnoreSTARTTLS", BOOL, "false", 0, 0, NULL, IN_FORCE)                      \
    X(TLS_AUTH_LEVEL, "TlsAuthLevel", CHOICE, "None", 0, 0,                                        \
      "DomainValidation|CertificateValidation|EncryptionOnly|None", IN_FORCE)                      \
    X(TLS_DOMAIN, "TlsDomain", LIST, "", 0, 0, NULL, IN_FORCE)                                     \
    X(DOMAIN_SECURE, "DomainSecureEnabled", BOOL, "false", 0, 0, NULL, IN_FORCE)                   \
    X(TLS_CERTIFICATE_NAME, "TlsCertificateName", TEXT, "", 0, 0, NULL, IN_FORCE)                  \
    X(FQDN, "Fqdn", TEXT, "", 0, 0, NULL, IN_FORCE)                                                \
    X(FORCE_HELO, "ForceHELO", BOOL, "false", 0, 0, NULL, IN_FORCE)                                \
    X(SOURCE_IP, "SourceIPAddress", LIST, "", 0, 0, NULL, IN_FORCE)                                \
    X(MAX_MESSAGE_SIZE, "MaxMessageSize", SIZE, "35MB", 0, 0, NULL, IN_FORCE)                      \
    X(MAX_CONNECTIONS, "MaxConnections", NUMBER, "0", 0, 0, NULL, IN_FORCE)                        \
    X(MESSAGES_PER_CONNECTION, "SmtpMaxMessagesPerConnection", NUMBER, "100", 0, 0, NULL,          \
      IN_FORCE)                                                                                    \
    X(RECIPIENTS_PER_TRANSACTION, "MaxRecipientsPerTransaction", NUMBER, "100", 1, 1000, NULL,     \
      IN_FORCE)                                                                                    \
    X(MAX_CONNECTION_AGE, "MaxConnectionAge", TIME, "5m", 1000, 86400000, NULL, IN_FORCE)          \
    X(INACTIVITY_TIMEOUT, "ConnectionInactivityTimeOut", TIME, "10s", 1000, 86400000, NULL,        \
      IN_FORCE)                                                                                    \
    X(PIPELINE_DEPTH, "PipelineDepth", NUMBER, "0", 0, 1024, NULL, IN_FORCE)                       \
    X(IN_DOUBT_LIMIT, "InDoubtLimit", NUMBER, "64", 1, 0, NULL, IN_FORCE)                          \
    X(CONNECT_RATE, "ConnectRate", RATE, "off", 0, 0, NULL, IN_FORCE)                              \
    X(MESSAGE_RATE, "MessageRate", RATE, "off", 0, 0, NULL, IN_FORCE)                              \
    X(RAMP, "Ramp", BOOL, "true", 0, 0, NULL, IN_FORCE)                                            \
    X(CONNECT_TIMEOUT, "ConnectTimeout", TIME, "30s", 1000, 3600000, NULL, IN_FORCE)               \
    X(GREETING_TIMEOUT, "GreetingTimeout", TIME, "60s", 1000, 3600000, NULL, IN_FORCE)             \
    X(EHLO_TIMEOUT, "EhloTimeout", TIME, "60s", 1000, 3600000, NULL, IN_FORCE)                     \
    X(TLS_TIMEOUT, "TlsTimeout", TIME, "15s", 1000, 3600000, NULL, IN_FORCE)                       \
    X(MAIL_TIMEOUT, "MailTimeout", TIME, "2m", 1000, 3600000, NULL, IN_FORCE)                      \
    X(RCPT_TIMEOUT, "RcptTimeout", TIME, "2m", 1000, 3600000, NULL, IN_FORCE)                      \
    X(DATA_TIMEOUT, "DataTimeout", TIME, "2m", 1000, 3600000, NULL, IN_FORCE)                      \
    X(FINAL_DOT_TIMEOUT, "FinalDotTimeout", TIME, "10m", 1000, 3600000, NULL, IN_FORCE)            \
    X(MODE, "Mode", CHOICE, "enforce", 0, 0, "enforce|report", IN_FORCE)                           \
    X(REPORT_FLOOR, "ReportFloor", CHOICE, "Opportunistic", 0, 0,                                  \
      "Opportunistic|RequireTLS|EncryptionOnly|CertificateValidation", IN_FORCE)                   \
    X(FALLBACK, "OpportunisticFallback", CHOICE, "plaintext", 0, 0, "plaintext|defer", IN_FORCE)   \
    X(TLS_MIN_VERSION, "TlsMinVersion", CHOICE, "TLS1.2", 0, 0, "TLS1.2|TLS1.3", IN_FORCE)         \
    X(TLS_GROUPS, "TlsGroups", TEXT, "?X25519MLKEM768:X25519:P-256", 0, 0, NULL, IN_FORCE)         \
    X(TLS_REQUIRE_GROUPS, "TlsRequireGroups", TEXT, "", 0, 0, NULL, IN_FORCE)                      \
    X(TLS_TRUST_ANCHORS, "TlsTrustAnchors", LIST, "system", 0, 0, NULL, IN_FORCE)                  \
    X(TLS_INTERMEDIATES, "TlsIntermediates", LIST, "", 0, 0, NULL, IN_FORCE)                       \
    X(TLS_PINS, "TlsPins", LIST, "", 0, 0, NULL, IN_FORCE)                                         \
    X(TLS_USE_COMMON_NAME, "TlsUseCommonName", CHOICE, "never", 0, 0, "never|fallback|always",     \
      IN_FORCE)                                                                                    \
    X(TLS_NAME_SOURCE, "TlsNameSource", CHOICE, "tlsdomain", 0, 0, "tlsdomain|recipient|host",     \
      IN_FORCE)                                                                                    \
    X(REVOCATION_FETCH, "RevocationFetch", BOOL, "true", 0, 0, NULL, IN_FORCE)                     \
    X(REVOCATION_CRLS, "RevocationCrls", LIST, "", 0, 0, NULL, IN_FORCE)                           \
    X(REVOCATION_UNKNOWN, "RevocationUnknown", CHOICE, "defer", 0, 0, "defer|accept", IN_FORCE)    \
    X(DANE_MODE, "SmtpDaneMode", CHOICE, "Opportunistic", 0, 0, "Opportunistic|Mandatory|None",    \
      IN_FORCE)                                                                                    \
    X(MTA_STS_MODE, "MtaStsMode", CHOICE, "Opportunistic", 0, 0, "Opportunistic|None", IN_FORCE)   \
    X(REQUIRETLS_EXTENSION, "RequireTlsExtension", CHOICE, "on", 0, 0, "on|off", IN_FORCE)         \
    X(TLS_REPORTING, "TlsReporting", CHOICE, "on", 0, 0, "on|off", IN_FORCE)                       \
    X(RETRY_TLS, "RetryTls", TIMES, "", 1000, PH_DAYS_MS(20), NULL, IN_FORCE)                      \
    X(ACCEPT_DANE, "AcceptDane", BOOL, "false", 0, 0, NULL, IN_FORCE)                              \
    X(ORGANIZATION_HEADERS, "SendOrganizationHeaders", BOOL, "false", 0, 0, NULL, IN_FORCE)        \
    X(HOLD_WHEN_DISABLED, "HoldWhenDisabled", BOOL, "false", 0, 0, NULL, IN_FORCE)                 \
    X(ERROR_POLICIES, "ErrorPolicies", BITS, "Default", 0, 0,                                      \
      "Default|DowngradeDnsFailures|DowngradeCustomFailures|UpgradeCustomFailures", IN_FORCE)      \
    X(DOWNGRADE_CODES, "DowngradeCodes", LIST, "", 0, 0, NULL, IN_FORCE)                           \
    X(UPGRADE_CODES, "UpgradeCodes", LIST, "", 0, 0, NULL, IN_FORCE)                               \
    X(PROTOCOL_LOGGING, "ProtocolLoggingLevel", CHOICE, "None", 0, 0, "None|Verbose", IN_FORCE)    \
    X(FRONTEND_PROXY, "FrontendProxyEnabled", BOOL, "false", 0, 0, NULL, NO_EFFECT)                \
    X(CLOUD_SERVICES, "CloudServicesMailEnabled", BOOL, "false", 0, 0, NULL, NO_EFFECT)            \
    X(CONNECTOR_TYPE, "ConnectorType", TEXT, "Default", 0, 0, NULL, NO_EFFECT)                     \
    X(SOURCE_TRANSPORT_SERVERS, "SourceTransportServers", LIST, "", 0, 0, NULL, NO_EFFECT)         \
    X(IS_SCOPED, "IsScopedConnector", BOOL, "false", 0, 0, NULL, NO_EFFECT)                        \
    X(REQUIRE_OORG, "RequireOorg", BOOL, "false", 0, 0, NULL, NO_EFFECT)                           \
    X(LINKED_RECEIVE, "LinkedReceiveConnector", TEXT, "", 0, 0, NULL, NO_EFFECT)                   \
    X(IS_COEXISTENCE, "IsCoexistenceConnector", BOOL, "false", 0, 0, NULL, NO_EFFECT)              \
    X(EXTERNAL_DNS, "UseExternalDNSServersEnabled", BOOL, "false", 0, 0, NULL, NO_EFFECT)          \
    X(USAGE, "Usage", CHOICE, "Custom", 0, 0, "Custom|Internal|Internet|Partner", NO_EFFECT)       \
    X(COMMENT, "Comment", TEXT, "", 0, 0, NULL, IN_FORCE)

#define PH_TRANSPORT_KEYS(X)                                                                       \
    X(MAX_PER_DOMAIN, "MaxPerDomainOutboundConnections", NUMBER, "20", 1, 0, NULL, IN_FORCE)       \
    X(MAX_OUTBOUND, "MaxOutboundConnections", NUMBER, "20000", 1, 0, NULL, IN_FORCE)               \
    X(SEND_SECURE, "TLSSendDomainSecureList", LIST, "", 0, 0, NULL, IN_FORCE)                      \
    X(RECEIVE_SECURE, "TLSReceiveDomainSecureList", LIST, "", 0, 0, NULL, IN_FORCE)

#define PH_SITE_KEYS(X)                                                                            \
    X(MAX_CONNECTIONS, "MaxConnections", NUMBER, "0", 1, 0, NULL, IN_FORCE)                        \
    X(MESSAGES_PER_CONNECTION, "SmtpMaxMessagesPerConnection", NUMBER, "0", 0, 0, NULL, IN_FORCE)  \
    X(RECIPIENTS_PER_TRANSACTION, "MaxRecipientsPerTransaction", NUMBER, "0", 1, 1000, NULL,       \
      IN_FORCE)                                                                                    \
    X(PIPELINE_DEPTH, "PipelineDepth", NUMBER, "0", 1, 1024, NULL, IN_FORCE)                       \
    X(CONNECT_RATE, "ConnectRate", RATE, "off", 0, 0, NULL, IN_FORCE)                              \
    X(MESSAGE_RATE, "MessageRate", RATE, "off", 0, 0, NULL, IN_FORCE)                              \
    X(BACKOFF_ON, "BackoffOn", LIST, "", 0, 0, NULL, IN_FORCE)

#define PH_QUEUE_KEYS(X)                                                                           \
    X(EXPIRATION, "MessageExpirationTimeout", TIME, "2d", 1000, PH_DAYS_MS(90), NULL, IN_FORCE)    \
    X(DELAY_NOTIFICATION, "DelayNotificationTimeout", TIME, "4h", 0, PH_DAYS_MS(30), NULL,         \
      IN_FORCE)                                                                                    \
    X(MESSAGE_RETRY, "MessageRetryInterval", TIME, "15m", 1000, 86400000, NULL, IN_FORCE)          \
    X(GLITCH_COUNT, "QueueGlitchRetryCount", NUMBER, "4", 0, 15, NULL, IN_FORCE)                   \
    X(GLITCH_INTERVAL, "QueueGlitchRetryInterval", TIME, "1m", 100, 86400000, NULL, IN_FORCE)      \
    X(TRANSIENT_COUNT, "TransientFailureRetryCount", NUMBER, "6", 0, 15, NULL, IN_FORCE)           \
    X(TRANSIENT_INTERVAL, "TransientFailureRetryInterval", TIME, "5m", 100, 43200000, NULL,        \
      IN_FORCE)                                                                                    \
    X(LATER_INTERVAL, "OutboundConnectionFailureRetryInterval", TIME, "10m", 1000, PH_DAYS_MS(20), \
      NULL, IN_FORCE)                                                                              \
    X(RETRY_SCHEDULE, "RetrySchedule", CHOICE, "Exchange", 0, 0, "Exchange|Exponential", IN_FORCE) \
    X(RETRY_FIRST, "RetryFirstInterval", TIME, "5m", 100, 86400000, NULL, IN_FORCE)                \
    X(RETRY_LAST, "RetryLastInterval", TIME, "4h", 100, PH_DAYS_MS(20), NULL, IN_FORCE)            \
    X(DELAY_DSN, "ExternalDelayDsnEnabled", BOOL, "true", 0, 0, NULL, IN_FORCE)                    \
    X(INTERNAL_DELAY_DSN, "InternalDelayDsnEnabled", BOOL, "true", 0, 0, NULL, NO_EFFECT)          \
    X(MAX_IDLE_BEFORE_RESUBMIT, "MaxIdleTimeBeforeResubmit", TIME, "12h", 0, PH_DAYS_MS(7), NULL,  \
      NO_EFFECT)

#define PH_RESOLVER_KEYS(X)                                                                        \
    X(FORWARDERS, "Forwarders", LIST, "", 0, 0, NULL, IN_FORCE)                                    \
    X(LOCAL_DATA, "LocalData", LIST, "", 0, 0, NULL, IN_FORCE)                                     \
    X(TRUST_ANCHOR, "TrustAnchor", TEXT, "", 0, 0, NULL, IN_FORCE)                                 \
    X(ALLOWED_DESTINATIONS, "AllowedDestinations", LIST, "", 0, 0, NULL, IN_FORCE)                 \
    X(PORT, "Port", NUMBER, "25", 1, 65535, NULL, IN_FORCE)                                        \
    X(HTTPS_PORT, "HttpsPort", NUMBER, "443", 1, 65535, NULL, IN_FORCE)                            \
    X(HTTPS_TRUST_ANCHORS, "HttpsTrustAnchors", TEXT, "", 0, 0, NULL, IN_FORCE)

#define PH_ADMIN_KEYS(X)                                                                           \
    X(CONTROL_SOCKET, "ControlSocket", TEXT, "/run/posthaste/control", 0, 0, NULL, AT_START)       \
    X(HTTP, "Http", TEXT, "", 0, 0, NULL, AT_START)

#define PH_LOG_KEYS(X)                                                                             \
    X(DELIVERY, "Delivery", TEXT, "", 0, 0, NULL, IN_FORCE)                                        \
    X(PROTOCOL, "Protocol", TEXT, "", 0, 0, NULL, IN_FORCE)                                        \
    X(LEVEL, "Level", CHOICE, "info", 0, 0, "error|warn|info|debug", IN_FORCE)

#define PH_KEY_NUMBER_GLOBAL(id, ...) PH_GLOBAL_##id,
#define PH_KEY_NUMBER_RECEIVE(id, ...) PH_RECEIVE_##id,
#define PH_KEY_NUMBER_SEND(id, ...) PH_SEND_##id,
#define PH_KEY_NUMBER_TRANSPORT(id, ...) PH_TRANSPORT_##id,
#define PH_KEY_NUMBER_SITE(id, ...) PH_SITE_KEY_##id,
#define PH_KEY_NUMBER_QUEUE(id, ...) PH_QUEUE_KEY_##id,
#define PH_KEY_NUMBER_RESOLVER(id, ...) PH_RESOLVER_##id,
#define PH_KEY_NUMBER_ADMIN(id, ...) PH_ADMIN_##id,
#define PH_KEY_NUMBER_LOG(id, ...) PH_LOG_KEY_##id,
enum { PH_GLOBAL_KEYS(PH_KEY_NUMBER_GLOBAL) PH_GLOBAL_COUNT };
enum { PH_RECEIVE_KEYS(PH_KEY_NUMBER_RECEIVE) PH_RECEIVE_COUNT };
enum { PH_SEND_KEYS(PH_KEY_NUMBER_SEND) PH_SEND_COUNT };
enum { PH_TRANSPORT_KEYS(PH_KEY_NUMBER_TRANSPORT) PH_TRANSPORT_COUNT };
enum { PH_SITE_KEYS(PH_KEY_NUMBER_SITE) PH_SITE_KEY_COUNT };
enum { PH_QUEUE_KEYS(PH_KEY_NUMBER_QUEUE) PH_QUEUE_KEY_COUNT };
enum { PH_RESOLVER_KEYS(PH_KEY_NUMBER_RESOLVER) PH_RESOLVER_COUNT };
enum { PH_ADMIN_KEYS(PH_KEY_NUMBER_ADMIN) PH_ADMIN_COUNT };
enum { PH_LOG_KEYS(PH_KEY_NUMBER_LOG) PH_LOG_KEY_COUNT };

#define PH_KEYS_OF_BLOCK_MAX 96

// The keys of one kind of block, and how the block is called.
const struct ph_key *ph_keys_of(enum ph_block_kind kind, size_t *out_count);
const char *ph_block_name(enum ph_block_kind kind); // "SendConnector"; empty: outside of blocks
