// What the files of a connection share: engine/connection (hosts, addresses, socket, deadlines),
// engine/connection_session (the conversation over it), engine/connection_tls (the handshake) and
// engine/connection_gate (what is known, judged). Nobody else includes it.
#pragma once

#include "engine/connection.h"
#include "engine/dane_lookup.h"
#include "engine/dialogue.h"
#include "engine/worker.h"

#define PH_CONNECTION_ADDRESSES_MAX 16               // addresses of one host; ours
#define PH_CONNECTION_HOSTS_MAX 64                   // hosts of a site tried in one attempt; ours
#define PH_CONNECTION_TRIES_MAX 16                   // addresses tried in one attempt; ours
#define PH_CONNECTION_SEND_BYTES_MAX (256u << 10)    // handed to one send
#define PH_CONNECTION_READ_BYTES_MAX (64u << 10)     // plaintext taken from TLS at a time
#define PH_CONNECTION_INBOUND_BYTES_MAX (256u << 10) // replies not yet read; ours
#define PH_CONNECTION_TLSA_MIN_S 60   // a session lives so long whatever the TTL; ours
#define PH_CONNECTION_VERIFY_MS 10000 // how long revocation lists are waited for; ours
#define PH_CONNECTION_QUIT_MS 5000    // how long 221 is waited for; ours

enum ph_connection_after_close {
    PH_CONNECTION_THEN_NEXT_ADDRESS,
    PH_CONNECTION_THEN_SAME_ADDRESS, // opportunistic: once more, without STARTTLS
    PH_CONNECTION_THEN_SMALLER,      // once more, with a ClientHello that fits one segment
    PH_CONNECTION_THEN_END,
};

struct ph_connection {
    TAILQ_ENTRY(ph_connection) link;
    struct ph_site *site;
    struct ph_worker *worker;
    enum ph_connection_state state;
    enum ph_connection_after_close after_close;
    uint64_t session_id;
    struct ph_dispatch *opened_for; // until it was sent

    // The plan of the attempt.
    uint16_t order[PH_CONNECTION_HOSTS_MAX]; // indices of the site's hosts
    size_t order_count;
    size_t order_next;
    const struct ph_site_host *host;
    struct ph_endpoint *addresses; // room for PH_CONNECTION_ADDRESSES_MAX; NULL once it is open
    size_t address_count;
    size_t address_next;
    struct ph_resolve_op *lookups[2]; // AAAA, A; while RESOLVE
    unsigned lookups_pending;
    struct ph_dane_lookup *dane_lookup;   // while RESOLVE, after the addresses
    struct ph_tlsa tlsa;                  // what the host publishes
    uint64_t tlsa_until_ms;               // then it is asked anew: no more messages here
    struct ph_dane_verdict *dane_verdict; // owned; of the chain it was last made for; NULL: none
    struct ph_crls_asked lists;           // by which the session at hand was judged
    unsigned tries;
    bool refused_by_policy;
    bool failed_otherwise;    // some address failed for another reason than the lack of REQUIRETLS
    struct ph_reason *reason; // owned; of the last failure; a policy refusal is kept; NULL: none

    // The session.
    struct ph_endpoint endpoint;
    char address[PH_ENDPOINT_TEXT_MAX]; // of the endpoint, without the port
    struct ph_socket *socket;
    struct ph_op connect_op;
    struct ph_op recv_op;
    struct ph_op send_op;
    struct ph_op close_op;
    struct ph_client *client;
    struct ph_tls_session *tls;
    struct ph_tls_facts plain_facts;
    bool small_hello;    // of this handshake: the host doesn't take a long ClientHello
    bool plaintext_only; // STARTTLS failed on this address and the policy allows to go on without
    bool usable;         // it came to OPEN: counted so at the site
    bool sending;
    uint64_t sending_client_bytes; // of the client's output, in the send under way (plaintext)
    struct ph_buf ciphertext;      // in the send under way
    struct ph_buf inbound;         // replies, not yet read
    bool close_requested;
    bool close_issued;
    bool retiring;
    bool quits_for_next; // a trial that went well
    bool limited;        // 421: fewer connections
    bool doubtful; // a message that may be a second delivery is under way: nothing goes behind it
    const struct ph_endpoint *source; // where the session comes from; NULL: any
    struct ph_timer timer;
    enum ph_client_wait waiting_for;
    uint64_t opened_ms;
    uint64_t handshake_began_ns;
    uint64_t revocation_ticket; // 0: none is waited for
    TAILQ_ENTRY(ph_connection) revocation_link;
    uint32_t messages_sent;
    uint32_t messages_done; // with an outcome from the peer
    struct ph_session_note *note;
    uint32_t said;           // lines of the protocol log
    struct ph_buf dialogue;  // until it is usable
    struct ph_buf answering; // commands put out while a reply is read: they come behind it
    bool reading;
};

// engine/connection
// Must TLS succeed for the message the connection was opened for, or does it go on without?
bool ph_connection_demands_tls(const struct ph_connection *c);
// This address won't do for the message the connection was opened for.
void ph_connection_address_failed(struct ph_connection *c, const struct ph_reason *reason,
                                  const char *step);
// The connection is lost, or the peer can't be talked to any more.
void ph_connection_broken(struct ph_connection *c, const struct ph_reason *reason);
void ph_connection_request_close(struct ph_connection *c, enum ph_connection_after_close after);
void ph_connection_quit(struct ph_connection *c);
void ph_connection_set_timer(struct ph_connection *c, uint64_t delay_ms);
// Each reply awaited has its time from when the one before it was read. `progress`: one was.
void ph_connection_arm_deadline(struct ph_connection *c, bool progress);

// engine/connection_session
void ph_connection_greet(struct ph_connection *c); // connected: the conversation begins
void ph_connection_on_received(struct ph_op *op);
void ph_connection_on_sent(struct ph_op *op);
// The end of every entry: what was decided is carried out.
void ph_connection_settle(struct ph_connection *c);
// It succeeded: no other address will be tried, and what failed before doesn't count.
void ph_connection_drop_plan(struct ph_connection *c);
// Takes the results of transactions that are over, wherever they stand.
void ph_connection_finish_done(struct ph_connection *c);

// engine/connection_tls
void ph_connection_begin_handshake(struct ph_connection *c); // 220 to STARTTLS was read
void ph_connection_handshake(struct ph_connection *c);       // more of it has come
// The handshake failed for want of an answer to a long ClientHello: once more with a shorter one,
// where that is possible. False: it isn't.
PH_MUST_CHECK bool ph_connection_retry_smaller(struct ph_connection *c,
                                               const struct ph_reason *reason);
// Revocation lists are not waited for any longer: judge by what is at hand.
void ph_connection_verify(struct ph_connection *c);
void ph_connection_stop_waiting(struct ph_connection *c);

// engine/connection_gate
const struct ph_tls_facts *ph_connection_facts(const struct ph_connection *c); // of this session
// What was found so far, for the log; plaintext until a handshake is over.
const struct ph_tls_facts *ph_connection_known_facts(const struct ph_connection *c);
// The lists it was made with are noted: the session ends with them.
const struct ph_chain_verdict *ph_connection_verdict(struct ph_connection *c,
                                                     const struct ph_chain *chain,
                                                     const struct ph_trust *trust);
// What the gate goes by; `facts` NULL: before there is a session.
struct ph_gate_subject ph_connection_subject(struct ph_connection *c,
                                             const struct ph_dispatch *dispatch,
                                             const struct ph_tls_facts *facts);
// Is a session of these facts worth going on with for the message it was opened for?
PH_MUST_CHECK bool ph_connection_acceptable(struct ph_connection *c,
                                            const struct ph_tls_facts *facts,
                                            struct ph_reason *out_reason);
// What is known of the peer's chain, by the policy of `dispatch`.
struct ph_session_proof ph_connection_proof(struct ph_connection *c,
                                            const struct ph_dispatch *dispatch);
// Mode = report: what the whole setting would have said is noted at the dispatch.
void ph_connection_note_would_defer(struct ph_connection *c, struct ph_dispatch *dispatch);
// For the messages to come: what this host showed.
void ph_connection_note_prospect(struct ph_connection *c, const struct ph_tls_facts *facts);
// Of the address at hand; NULL: mail would have been sent.
void ph_connection_report_trial(struct ph_connection *c, const struct ph_reason *reason,
                                const char *step);

// engine/connection_report: counts the session for TLS reports (RFC 8460). What was measured on it
// decides; or it failed, for this reason.
void ph_connection_report(struct ph_connection *c, const struct ph_tls_facts *facts);
void ph_connection_report_failure(struct ph_connection *c, enum ph_reason_kind kind);

// engine/connection_note
// Of the session as far as it came: also of one that ended in a refusal.
struct ph_session_note *ph_connection_note_create(const struct ph_connection *c);
// engine/connection
const struct ph_endpoint *ph_connection_source(const struct ph_connection *c); // NULL: any
