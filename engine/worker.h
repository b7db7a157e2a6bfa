// One thread, one ring, one loop. START READING HERE.
//
// A turn: step the operations that completed, fire timers, take the mail, serve the sites that
// changed, start the next commit group, hand over log lines; then wait for the outside. Nothing
// in a turn blocks.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/wheel.h"
#include "config/snapshot.h"
#include "engine/compaction.h"
#include "engine/engine.h"
#include "engine/mailbox.h"
#include "engine/flights.h"
#include "engine/peers.h"
#include "engine/queues.h"
#include "engine/site.h"
#include "engine/sts_ask.h"
#include "queue/retry.h"
#include "queue/message.h"
#include "queue/spool.h"
#include "tls/digest.h"
#include "tls/session.h"

struct ph_ingest;
struct ph_tlsrpt_sender;
struct ph_listening;
struct ph_revocation_keeper;

// Counters: written by the worker alone, read by the metrics thread.
#define PH_COUNTERS(X)                                                                             \
    X(accepted, "recipients accepted from clients")                                                \
    X(accepted_messages, "messages accepted from clients")                                         \
    X(dsn_created, "recipients of notifications of our own")                                       \
    X(recovered, "recipients found in the spool at start")                                         \
    X(delivered, "recipients delivered")                                                           \
    X(deferred, "attempts that ended in a deferral")                                               \
    X(failed, "recipients that failed for ever")                                                   \
    X(expired, "recipients whose time was over")                                                   \
    X(deleted, "recipients deleted by an administrator")                                           \
    X(quarantined, "recipients whose stored message is damaged")                                   \
    X(ambiguous_resends, "attempts that may be a second delivery")                                 \
    X(in_doubt, "attempts that ended in doubt")                                                    \
    X(ingest_connections, "connections accepted")                                                  \
    X(passwords_wrong, "passwords of clients that were wrong")                                     \
    X(passwords_put_off, "passwords not looked at after too many wrong ones")                      \
    X(partners_refused, "messages refused for want of a partner's mutual TLS")                     \
    X(ingest_refused_space, "messages refused for want of space")                                  \
    X(sessions_opened, "sessions opened to next hops")                                             \
    X(sessions_reused, "messages sent on a session that had carried others")                       \
    X(handshakes_full, "TLS handshakes in full")                                                   \
    X(handshakes_chain_cached, "of them those whose certificate chain was known good already")     \
    X(handshakes_resumed, "TLS handshakes by resumption")                                          \
    X(handshakes_failed, "TLS handshakes that failed")                                             \
    X(report_messages, "messages sent under Mode = report")                                        \
    X(fallbacks_plaintext, "opportunistic sessions that went on without TLS")                      \
    X(rescued, "recipients that nothing would have looked at again: must be 0")                    \
    X(messages_copied, "messages copied forward in the spool")                                     \
    X(revocation_fetches, "revocation lists fetched")                                              \
    X(revocation_failures, "revocation lists that could not be had")                               \
    X(revocation_waits, "handshakes that waited for a revocation list")                            \
    X(revocation_sessions_ended, "sessions ended because a revocation list changed")               \
    X(revocation_queues_released, "held queues tried again because a revocation list changed")     \
    X(connect_failures, "addresses that could not be reached")                                     \
    X(attempts, "addresses tried")

struct ph_counters {
#define PH_COUNTER_FIELD(name, help) _Atomic uint64_t name;
    PH_COUNTERS(PH_COUNTER_FIELD)
#undef PH_COUNTER_FIELD
    _Atomic uint64_t queued; // recipients, now
    _Atomic uint64_t queued_in_doubt;
    _Atomic uint64_t refusals[PH_REASON_KIND_COUNT];    // deferrals and failures by reason
    _Atomic uint64_t would_defer[PH_REASON_KIND_COUNT]; // Mode = report: what it let pass
    _Atomic uint64_t spool_groups;
    _Atomic uint64_t spool_group_messages;
    _Atomic uint64_t durable_writes;
    _Atomic uint64_t chains_verified;
    _Atomic uint64_t chains_cached;
    _Atomic uint64_t connections_out;   // now
    _Atomic uint64_t connections_in;    // now
    _Atomic uint64_t spool_health;      // enum ph_spool_health, now
    _Atomic uint64_t spool_full;        // of its own log, now: new mail gets 452
    _Atomic uint64_t spool_segments;    // of all its logs, now
    _Atomic uint64_t spool_poisoned;    // segments that failed
    _Atomic uint64_t unbalanced;        // what was taken on, less what became of it: must be 0
    _Atomic uint64_t verify_cpu_ns;     // spent on certificate chains
    _Atomic uint64_t revocation_lists;  // at hand, now
    _Atomic uint64_t config_generation; // of the configuration in force here
};

// One writer: no locked instruction is needed.
#define PH_COUNT(worker, name, amount)                                                             \
    atomic_store_explicit(&(worker)->counters.name,                                                \
                          atomic_load_explicit(&(worker)->counters.name, memory_order_relaxed) +   \
                              (uint64_t)(amount),                                                  \
                          memory_order_relaxed)
#define PH_COUNT_SET(worker, name, value)                                                          \
    atomic_store_explicit(&(worker)->counters.name, (uint64_t)(value), memory_order_relaxed)
#define PH_COUNTER_READ(worker, name)                                                              \
    atomic_load_explicit(&(worker)->counters.name, memory_order_relaxed)

// Where the worker's chain of log lines stands.
#define PH_LOG_PLACE_MAX 32 // a time in hexadecimal, a worker, two dots, NUL

struct ph_log_chain {
    char place[PH_LOG_PLACE_MAX]; // of its lines, but for their number: "RUN.WORKER."
    uint64_t next;                // lines so far
    char digest[PH_DIGEST_TEXT_MAX];
};

struct ph_worker {
    uint16_t index;
    struct ph_engine *engine;
    struct ph_io *io;
    struct ph_wheel wheel;
    struct ph_mailbox mailbox;
    struct ph_config *config; // referenced; changes between two turns only
    struct ph_spool *spool;
    struct ph_spool **adopted; // logs of workers that exist no more
    size_t adopted_count;
    struct ph_store store;
    struct ph_tls_context *tls;
    struct ph_revocation_keeper *revocation; // worker 0's: keeps the CRLs of all
    uint64_t revocation_tickets;
    TAILQ_HEAD(ph_waiting_list, ph_connection) revocation_waiting; // connections
    uint64_t clock_offset_ms; // schedule = monotonic + this: the wall clock at start, without jumps
    uint64_t hash_seed;

    struct ph_queue *queues; // uthash
    struct ph_queue **queue_table;
    uint32_t queue_table_len;
    uint32_t queue_table_free;       // a hole may be found from here on
    struct ph_site *sites;           // uthash
    struct ph_home_site *home_sites; // uthash
    uint64_t held_told_ms;           // the minute in which held_told queues were told of
    unsigned held_told;
    struct ph_peer *peers;           // uthash: engine/peers
    struct ph_flight_entry *flights; // uthash: engine/flights
    TAILQ_HEAD(ph_dirty_site_list, ph_site) dirty_sites;
    struct ph_timer sweep_timer;
    struct ph_compaction compaction;
    uint32_t sweep_at; // message slot
    uint64_t session_count;

    TAILQ_HEAD(ph_ingest_list, ph_ingest) ingests;
    TAILQ_HEAD(ph_listening_list, ph_listening) listening; // worker 0
    uint64_t storing_count;                                // messages whose group isn't durable yet
    uint64_t storing_own_recipients;                       // of notifications among them
    uint64_t asking_count; // lookups and fetches under way for queues
    struct ph_sts_ask_list asks;
    struct ph_tlsrpt_sender *tlsrpt;   // worker 0
    uint64_t dispatch_count;           // messages under way, here or at a home
    uint64_t dispatch_recipient_count; // their recipients
    struct ph_buf content_spare;       // of no client at the moment; see ingest.c
    struct ph_buf log;                 // lines of the delivery log, handed over once a turn
    struct ph_log_chain log_chain;

    bool opening; // its logs are being recovered: nothing can be read from them yet
    bool stopping;
    _Atomic bool stopped; // read by the engine
    uint64_t stop_deadline_ms;
    struct ph_counters counters;
};

// Milliseconds since 1970 on a clock that never jumps: what schedules, ages and expiries go by.
uint64_t ph_worker_now_ms(const struct ph_worker *worker);
uint64_t ph_worker_wall_ms(const struct ph_worker *worker); // the real date: logs, certificates
uint64_t ph_worker_random(struct ph_worker *worker);
// The log a message lives in: the worker's own, or an adopted one.
struct ph_spool *ph_worker_spool_of(struct ph_worker *worker, uint64_t message_id);
struct ph_worker *ph_worker_at(struct ph_worker *worker, uint16_t index);
uint64_t ph_worker_next_session_id(struct ph_worker *worker);

// Of the configuration in force.
struct ph_retry_intervals ph_worker_retry_intervals(const struct ph_retry_series *series);
uint64_t ph_worker_retry_delay(struct ph_worker *worker, const struct ph_retry_series *series,
                               enum ph_retry_kind kind, uint32_t failure_count);
// MaxOutboundConnections is reached, counting all workers.
bool ph_worker_connections_spent(const struct ph_worker *worker);

// One turn; returns the deadline for the wait that follows (ns; now or earlier: don't wait).
uint64_t ph_worker_turn(struct ph_worker *worker);

// For engine/engine: on the worker's own thread.
int ph_worker_open(struct ph_worker *worker, struct ph_buf *error); // recovers its logs
void ph_worker_close(struct ph_worker *worker);
void ph_worker_reconfigure(struct ph_worker *worker, struct ph_config *config);
void ph_worker_stop(struct ph_worker *worker); // begins to come to rest
