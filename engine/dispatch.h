// One message on its way to some of its recipients, all of one queue (and, on a shared session,
// of its site): made by the worker that owes it, carried out there or at the site's home.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/reason.h"
#include "config/snapshot.h"
#include "engine/mailbox.h"
#include "engine/hops.h"
#include "queue/spool.h"
#include "dns/tlsa.h"
#include "smtp/client.h"
#include "tls/facts.h"

struct ph_queue;

#define PH_SITE_KEY_BYTES 16

struct ph_site_host {
    char name[PH_DNS_NAME_BYTES_MAX]; // MX or smart host; an IP literal's text
    uint16_t preference;              // the rank among its site's, from 0
    bool is_literal;
    struct ph_endpoint literal; // without port
};

// What makes a site: its hosts and what is sent to them. Immutable, counted (atomically).
struct ph_site_spec {
    _Atomic uint32_t references;
    uint8_t key[PH_SITE_KEY_BYTES];            // hash of all below
    uint16_t home;                             // worker
    struct ph_config *config;                  // referenced
    const struct ph_send_connector *connector; // for what is sent: any with this sending identity
    struct ph_limits limits;
    bool smart; // smart hosts: the administrator's word, so any address is allowed
    uint16_t port;
    char best_host[PH_DNS_NAME_BYTES_MAX]; // smallest name of the best preference
    size_t host_count;
    struct ph_site_host hosts[]; // by preference, then name
};
void ph_site_spec_retain(struct ph_site_spec *spec);
void ph_site_spec_release(struct ph_site_spec *spec); // NULL accepted

// What is known of a session, rendered once as members of a JSON object for the delivery log
// ("host":…,"tls":{…},"cert":{…}). Immutable, counted (atomically).
struct ph_session_note {
    _Atomic uint32_t references;
    char host[PH_DNS_NAME_BYTES_MAX];
    char address[PH_ENDPOINT_TEXT_MAX];
    struct ph_buf json;
};
void ph_session_note_retain(struct ph_session_note *note);
void ph_session_note_release(struct ph_session_note *note); // NULL accepted

// What was found of the peer's certificate, beside what was demanded of it: evidence for the log.
struct ph_session_proof {
    bool chain_judged;         // against the connector's trust store; false: there was none
    enum ph_reason_kind chain; // NONE: a good chain
    enum ph_revocation revocation;
    enum ph_tlsa_status dane; // what the host publishes
};

enum ph_dispatch_result {
    PH_DISPATCH_DONE,        // each recipient has its outcome
    PH_DISPATCH_REFUSED,     // by TLS policy, on every address: `reason`; backs off the queue
    PH_DISPATCH_UNREACHABLE, // no host could be reached: `reason`; backs off the site
    PH_DISPATCH_UNFIT,       // the next hop can't take such a message: `reason`, permanent
    PH_DISPATCH_RETURNED,    // untouched: goes back to the head of its queue
};

enum ph_dispatch_purpose {
    PH_DISPATCH_DELIVER,
    PH_DISPATCH_FAIL, // its recipients fail with `reason`: the message is read for the notification
    PH_DISPATCH_EXPIRE, // their time is over
    PH_DISPATCH_DELETE, // an administrator's word: nobody is told
    PH_DISPATCH_DELAY,  // their sender is told that they are late; they wait on
};

struct ph_dispatch {
    struct ph_mail mail;
    enum ph_dispatch_purpose purpose;
    TAILQ_ENTRY(ph_dispatch) link; // the site's prepared list
    uint16_t origin;               // worker that owes it
    uint64_t id;
    uint32_t message;            // the origin's index
    struct ph_queue *queue;      // the origin's; it lives as long as this, `domain` too
    struct ph_str domain;        // immutable
    struct ph_str policy_domain; // whose published policy counts; empty: nobody's. Immutable
    bool tls_reporting;          // its sessions are counted for TLS reports
    struct ph_str connector;     // its name; immutable
    bool unsuited;               // some session was not good enough for it: counted so at its queue
    const struct ph_tls_policy *policy; // `own_policy`: the queue's may change under it
    struct ph_tls_policy own_policy;
    struct ph_sts_policy *sts;   // what `own_policy` points to: referenced, or held by `hops`
    struct ph_hops *hops;        // referenced; NULL: there is one next hop
    enum ph_dane_mode dane_mode; // the connector's, before anybody waived anything
    bool waived_by_sender;       // TLS-Required: No
    struct ph_site_spec *spec;   // referenced
    struct ph_content *content;  // referenced once prepared
    uint64_t formed_ms;
    uint64_t arrival_ms;
    uint64_t due_ms; // DELAY: until when its recipient waits; 0: it is ready
    bool ambiguous;  // a recipient was left in doubt before: this may be a second delivery

    // Preparation at the origin.
    struct ph_spool_load load;
    struct ph_spool_ticket attempt_ticket;
    unsigned pending;            // operations outstanding
    struct ph_site *prepared_at; // counted as preparing there
    bool damaged;
    bool unrecorded; // that an attempt follows could not be written down: there is none

    // The result, written by whoever carries it out.
    enum ph_dispatch_result result;
    struct ph_reason reason;
    struct ph_session_note *note; // referenced; NULL before a session was there
    const char *verified_by;
    const char *step; // how far the last address was followed: dns, connect, …, mail; NULL: nowhere
    struct ph_session_proof proof;
    struct ph_crls_asked lists;    // revocation lists, another of which may turn the refusal
    struct ph_reason *would_defer; // owned; Mode = report: what the full setting would have refused
    uint64_t attempt_ms;
    bool reused_session; // it wasn't the session's first
    bool peer_dsn;       // the next hop took over the duty to notify of success (RFC 3461 §5.2.2)

    struct iovec body; // of the content, as far as it goes out
    struct ph_client_transaction transaction;
    uint32_t recipient_count;
    uint32_t *slots; // the origin's recipient indices
    bool *doubtful;  // [recipient_count]: an earlier attempt may have delivered it
    struct ph_client_recipient recipients[];
};
TAILQ_HEAD(ph_dispatch_list, ph_dispatch);
