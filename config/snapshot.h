// One configuration: immutable, validated whole, reference-counted, shared by all threads.
#pragma once

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/endpoint.h"
#include "base/reason.h"
#include "base/str.h"
#include "tls/policy.h"
#include "tls/session.h"
#include "tls/trust.h"

#define PH_UNLIMITED UINT64_MAX
#define PH_SOURCE_WEIGHT_MAX 1000 // of a SourceIPAddress; ours

enum ph_auth_mechanism { // of a ReceiveConnector, bits
    PH_AUTH_TLS = 1,
    PH_AUTH_BASIC = 2,
    PH_AUTH_BASIC_REQUIRE_TLS = 4,
    PH_AUTH_EXTERNAL_AUTHORITATIVE = 8,
};

enum ph_bare_line_endings {
    PH_BARE_REJECT,
    PH_BARE_NORMALIZE,
};

struct ph_binding {
    struct ph_endpoint at;
    bool implicit_tls; // "[::]:465/tls"
};

struct ph_auth_user {
    struct ph_str user;
    struct ph_str hash; // crypt(3)
};

struct ph_receive_connector {
    struct ph_str name;
    struct ph_str source; // "posthaste.conf:12"
    bool enabled;
    const struct ph_binding *bindings;
    size_t binding_count;
    const struct ph_cidr *remote_ip_ranges; // who may relay
    size_t remote_ip_range_count;
    unsigned auth_mechanism; // enum ph_auth_mechanism bits
    bool require_tls;
    // Mail from domains of TLSReceiveDomainSecureList needs mutual TLS here, judged by `trust`.
    bool domain_secure_enabled;
    struct ph_trust *trust;           // for clients' certificates; NULL where nobody asks
    struct ph_tls_server *tls;        // NULL: STARTTLS isn't offered
    const struct ph_auth_user *users; // of AuthFile, sorted by user
    size_t user_count;
    struct ph_str fqdn; // for the greeting: Fqdn or Hostname
    struct ph_str banner;
    uint64_t max_message_size; // bytes
    enum ph_bare_line_endings bare_line_endings;
    uint32_t max_inbound_connection;
    uint32_t max_inbound_connection_per_source; // not for remote_ip_ranges
    uint32_t max_recipients_per_message;
    uint32_t max_protocol_errors;
    uint64_t tarpit_interval_ms; // 5xx replies to strangers wait so long; 0: they don't
    bool protocol_logging;
    uint64_t connection_timeout_ms;
    uint64_t connection_inactivity_timeout_ms;
    uint32_t max_hop_count; // Received fields; 100
};

enum ph_smart_host_auth {
    PH_SMART_HOST_AUTH_NONE,
    PH_SMART_HOST_AUTH_BASIC,
    PH_SMART_HOST_AUTH_BASIC_REQUIRE_TLS,
    PH_SMART_HOST_AUTH_EXTERNAL_AUTHORITATIVE,
};

struct ph_address_space {
    struct ph_str domain; // A-labels, lower case; "" for "*"
    bool all;             // "*"
    bool subdomains;      // "*.contoso.com": the domain and all below it
    uint32_t cost;        // 1..100
};

#define PH_SMART_HOSTS_MAX 64 // of one connector; ours

struct ph_smart_host {
    struct ph_str name; // as it is looked up; the text of an IP literal too
    bool is_literal;    // an IP address
    bool no_mx;         // "[host]": no MX lookup
    struct ph_endpoint literal;
};

// MaxConnections and the like, where given (SendConnector or Site block); PH_UNLIMITED as written.
struct ph_rate {
    uint64_t count; // per interval; 0: off
    uint64_t interval_ms;
};
// One entry of BackoffOn: "421 4.7.28" (a code, and how the text begins) or "/rate limit/".
struct ph_reply_pattern {
    uint16_t code;             // 0: any
    struct ph_str prefix;      // of the text
    const regex_t *expression; // NULL: none; extended, case ignored
};
struct ph_limits {
    uint32_t max_connections;             // per site and source address
    uint32_t max_messages_per_connection; // 0: unlimited
    uint32_t max_recipients_per_transaction;
    uint32_t pipeline_depth; // 0: the default (4, smart hosts 64)
    struct ph_rate connect_rate;
    struct ph_rate message_rate;
    uint64_t max_connection_age_ms;
    uint64_t inactivity_timeout_ms;
    const struct ph_reply_pattern *backoff_on; // replies that slow the site for a time
    size_t backoff_on_count;
};

struct ph_timeouts {
    uint64_t connect_ms;
    uint64_t greeting_ms;
    uint64_t ehlo_ms;
    uint64_t tls_ms;
    uint64_t mail_ms;
    uint64_t rcpt_ms;
    uint64_t data_ms;
    uint64_t final_dot_ms;
};

struct ph_source {
    struct ph_endpoint address;
    uint32_t weight;
};

struct ph_send_connector {
    struct ph_str name;
    struct ph_str source;
    size_t index; // in the snapshot's array
    bool enabled;
    const struct ph_address_space *address_spaces;
    size_t address_space_count;
    bool dns_routing;
    const struct ph_smart_host *smart_hosts;
    size_t smart_host_count;
    uint16_t port;
    enum ph_smart_host_auth smart_host_auth;
    struct ph_str auth_user; // of AuthenticationCredential
    struct ph_str auth_password;
    // As configured; ph_config_policy makes the one for a recipient's domain of it.
    struct ph_tls_policy policy;
    bool domain_secure_enabled;
    bool hold_when_disabled;
    // SendOrganizationHeaders: its next hop is ours, and learns who a message was authenticated as.
    bool send_organization_headers;
    bool requiretls_extension;        // RequireTlsExtension
    bool mta_sts;                     // MtaStsMode
    bool tls_reporting;               // TlsReporting
    struct ph_tls_identity *identity; // client certificate; NULL: none
    bool identity_configured;         // TlsCertificateName was given
    // Why there is no identity though one is configured (a configuration that runs is not given up
    // for a certificate that went): mail through this connector waits.
    enum ph_reason_kind identity_fault;
    struct ph_str tls_groups;
    struct ph_str fqdn; // Fqdn or Hostname
    bool force_helo;
    bool protocol_logging;
    const struct ph_source *sources; // sessions come from these, by weight
    size_t source_count;
    uint64_t max_message_size;
    struct ph_limits limits;
    struct ph_timeouts timeouts;
    bool ramp;
    uint32_t in_doubt_limit;
    // A hash of all that is *sent* on a session (identity, EHLO name, source address, port,
    // credentials, groups): part of the pool's key. Never 0.
    uint64_t sending_identity;
    // RetryTls: how long TLS-held mail waits after the first refusal, the second, …; the last one
    // counts on. None: as the transient series.
    const uint64_t *retry_tls_ms;
    size_t retry_tls_count;
    unsigned error_policies;            // enum ph_error_policy bits
    const struct ph_str *upgrade_codes; // reason tokens or reply codes: fail at once
    size_t upgrade_code_count;
    const struct ph_str *downgrade_codes; // wait
    size_t downgrade_code_count;
};

enum ph_error_policy { // of a SendConnector, bits
    PH_ERROR_DEFAULT = 1,
    PH_ERROR_DOWNGRADE_DNS = 2,
    PH_ERROR_DOWNGRADE_CUSTOM = 4,
    PH_ERROR_UPGRADE_CUSTOM = 8,
};

enum ph_site_gives { // which limits a Site block gives
    PH_SITE_GIVES_MAX_CONNECTIONS = 1,
    PH_SITE_GIVES_MESSAGES_PER_CONNECTION = 2,
    PH_SITE_GIVES_RECIPIENTS = 4,
    PH_SITE_GIVES_PIPELINE_DEPTH = 8,
    PH_SITE_GIVES_CONNECT_RATE = 16,
    PH_SITE_GIVES_MESSAGE_RATE = 32,
};

struct ph_site_block {
    struct ph_str pattern;   // MX host: "*.google.com", a name, or "*"; A-labels, lower case
    struct ph_limits limits; // only fields that were given (`given` bits)
    unsigned given;          // enum ph_site_gives bits
    struct ph_str source;
};

struct ph_retry_series {
    uint32_t glitch_count;         // 4
    uint64_t glitch_ms;            // 1 min
    uint32_t transient_count;      // 6
    uint64_t transient_ms;         // 5 min
    uint64_t later_ms;             // OutboundConnectionFailureRetryInterval, 10 min
    uint64_t message_ms;           // MessageRetryInterval, 15 min
    uint64_t exponential_first_ms; // RetrySchedule = Exponential; 0: Exchange's series
    uint64_t exponential_last_ms;
    uint64_t expiration_ms;         // MessageExpirationTimeout, 2 d
    uint64_t delay_notification_ms; // 4 h
};

struct ph_resolver_settings {
    const struct ph_str *forwarders; // "192.0.2.53" or "192.0.2.53@5353"
    size_t forwarder_count;
    const struct ph_str *local_data;
    size_t local_data_count;
    struct ph_str trust_anchor;
    const struct ph_cidr *allowed_destinations;
    size_t allowed_destination_count;
    uint16_t port;                     // Resolver.Port: destination port of MX deliveries, 25
    uint16_t https_port;               // of published https URLs that name none, 443
    struct ph_str https_trust_anchors; // PEM file for fetches by https; empty: the system's
};

enum ph_io_world {
    PH_IO_AUTO, // ring where it works, else poll
    PH_IO_RING,
    PH_IO_POLL,
};

struct ph_config {
    struct ph_str path;
    struct ph_str hostname;
    struct ph_str spool_dir;
    uint32_t workers; // as configured; 0: one per core
    enum ph_io_world io_world;
    bool durability_os;
    bool tls_caches_off; // TlsCaches = off: every chain is verified, every handshake made in full
    uint64_t outcome_sync_delay_ms;
    uint64_t tls_report_interval_ms; // RFC 8460: a day
    uint64_t shutdown_timeout_ms;
    uint64_t spool_lock_timeout_ms;
    uint32_t min_free_percent; // MinFreeSpace, one or the other
    uint64_t min_free_bytes;
    uint64_t memory_limit;    // bytes; 0: half of the machine
    struct ph_str user;       // whose rights the daemon runs with; empty: who started it
    struct ph_str postmaster; // DSN From, "postmaster@hostname" by default
    bool delay_dsn_enabled;

    const struct ph_receive_connector *receive_connectors;
    size_t receive_connector_count;
    const struct ph_send_connector *send_connectors;
    size_t send_connector_count;
    const struct ph_site_block *sites;
    size_t site_count;

    uint64_t max_outbound_connections;
    uint64_t max_per_domain_outbound_connections;
    const struct ph_str *send_domain_secure; // TLSSendDomainSecureList
    size_t send_domain_secure_count;
    const struct ph_str *receive_domain_secure;
    size_t receive_domain_secure_count;

    struct ph_retry_series retry;
    struct ph_str tls_ticket_key;          // file; empty: tickets aren't kept over a restart
    uint64_t revocation_refresh_ms;        // CRLs are fetched and read again so often at least
    const struct ph_str *revocation_files; // RevocationCrls of all connectors, each once
    size_t revocation_file_count;
    struct ph_resolver_settings resolver;
    struct ph_str control_socket;
    struct ph_endpoint http;    // family NONE: off
    struct ph_str delivery_log; // "" : none; "-": standard output
    struct ph_str protocol_log; // as delivery_log
    struct ph_str log_level;
    struct ph_buf effective; // for `config`: lines of key, value and origin, parted by tabs
    uint64_t generation;     // rises with each snapshot of a process
    // When another of our own certificates should be chosen, since 1970: one begins, or ends.
    int64_t certificates_until_s;
};

// Counted references, atomic.
struct ph_config *ph_config_retain(struct ph_config *config);
void ph_config_release(struct ph_config *config); // NULL accepted

// Lines "FILE:LINE: KEY: …" for what the new one says otherwise and only a start brings into force.
void ph_config_told_at_start(const struct ph_config *old, const struct ph_config *renewed,
                             struct ph_buf *out);

// The policy in force for mail to `domain` (A-labels) through `connector`, with Domain Security and
// the message's REQUIRETLS. A value; its pointers live as long as the snapshot.
struct ph_tls_policy ph_config_policy(const struct ph_config *config,
                                      const struct ph_send_connector *connector,
                                      struct ph_str domain, bool requiretls);
// Is mail from `domain` (A-labels) a partner's, which has to come over mutual TLS?
bool ph_config_receives_secure(const struct ph_config *config, struct ph_str domain);
// Before it is shared: all mail goes by this send connector, disabled or not, and nothing is
// listened on. False: there is none of that name.
PH_MUST_CHECK bool ph_config_use_only(struct ph_config *config, struct ph_str connector);
// What the connector's ErrorPolicies make of a reason: a listed one that waits fails, and the other
// way round. A refusal by TLS policy is upgraded only where its token is listed.
void ph_config_apply_error_policies(const struct ph_send_connector *connector,
                                    struct ph_reason *reason);
// Does a peer's reply match one of them?
bool ph_reply_pattern_matches(const struct ph_reply_pattern *patterns, size_t count, uint16_t code,
                              const char *text);
// How many sessions a site may have for each one of MaxConnections: its source addresses, of the
// family that has more of them.
uint32_t ph_send_connector_source_factor(const struct ph_send_connector *connector);
// The limits in force for a site whose best host is `host`: Site block, connector, TransportConfig.
// `out_source` (may be NULL) says which won.
struct ph_limits ph_config_limits(const struct ph_config *config,
                                  const struct ph_send_connector *connector, struct ph_str host,
                                  struct ph_str *out_source);
