// The engine: its workers, started, reloaded and drained together. Makes no thread: whoever runs it
// (cli/run, tests/sim) turns the workers.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/endpoint.h"
#include "base/io.h"
#include "config/snapshot.h"
#include "queue/spool.h"

struct ph_engine;
struct ph_worker;
struct ph_trial; // engine/trial.h

struct ph_engine_options {
    struct ph_config *config; // a reference is taken
    struct ph_io **ios;       // one a worker; borrowed
    struct ph_io *start_io;   // for the creator's own thread, at start and end; NULL: ios[0]
    uint16_t worker_count;
    // Lines of the delivery log (JSON, each ended by a newline). From the worker's thread.
    void (*log)(void *owner, uint16_t worker, struct ph_str lines);
    // Lines of the protocol log, the same way. May be NULL.
    void (*protocol)(void *owner, struct ph_str lines);
    // Each binding that listens now.
    void (*listening)(void *owner, struct ph_str connector, const struct ph_endpoint *at);
    // What was found in one log at start. May be NULL.
    void (*recovered)(void *owner, uint16_t log, const struct ph_spool_recovery_report *report);
    // Worth a look by an administrator, and no fault of ours: mail is held, a partner's certificate
    // ends (lines). May be NULL.
    void (*notice)(void *owner, struct ph_str text);
    // Something an administrator should know (lines). May be NULL.
    void (*problem)(void *owner, struct ph_str text);
    void *owner;
    // For `test`: every address of every host is tried, each session ends before MAIL, and this is
    // told what came of it. May be NULL.
    void (*tried)(void *owner, const struct ph_trial *trial);
    uint64_t connections_max; // to next hops, whatever MaxOutboundConnections says; 0: no bound
    bool caches_off;          // chain verdicts and tickets: for the differential tests
    uint64_t segment_bytes;   // of the spool's segments; 0: the default. Small in the simulator
};

// Locks the spool directory. 0, or a negative errno with a sentence in `error`.
int ph_engine_create(const struct ph_engine_options *options, struct ph_engine **out,
                     struct ph_buf *error);
// On the worker's own thread, once: recovers its logs, and worker 0 begins to listen once all
// others have been opened (it is opened last).
int ph_engine_open_worker(struct ph_engine *engine, uint16_t index, struct ph_buf *error);
struct ph_worker *ph_engine_worker(struct ph_engine *engine, uint16_t index);
uint16_t ph_engine_worker_count(const struct ph_engine *engine);

// From any thread.
void ph_engine_reload(struct ph_engine *engine, struct ph_config *config); // takes a reference
void ph_engine_stop(struct ph_engine *engine);    // no new mail; parks what is in flight in time
bool ph_engine_stopped(struct ph_engine *engine); // every worker has come to rest
struct ph_config *ph_engine_config(struct ph_engine *engine); // a reference for the caller

// On the worker's thread, after it stopped: closes its logs.
void ph_engine_close_worker(struct ph_engine *engine, uint16_t index);
void ph_engine_destroy(struct ph_engine *engine); // all workers closed; NULL accepted

// For workers.
uint16_t ph_engine_log_count(const struct ph_engine *engine);
uint64_t ph_engine_connections_max(const struct ph_engine *engine);
bool ph_engine_caches_off(const struct ph_engine *engine);
bool ph_engine_only_tries(const struct ph_engine *engine);
void ph_engine_report_trial(struct ph_engine *engine, const struct ph_trial *trial);
struct ph_spool_options ph_engine_spool_options(const struct ph_engine *engine, struct ph_io *io,
                                                uint16_t log);
void ph_engine_report_recovery(struct ph_engine *engine, uint16_t log,
                               const struct ph_spool_recovery_report *report);
void ph_engine_report_listening(struct ph_engine *engine, struct ph_str connector,
                                const struct ph_endpoint *at);
void ph_engine_report_notice(struct ph_engine *engine, struct ph_str text);
void ph_engine_report_problem(struct ph_engine *engine, struct ph_str text);
struct ph_tickets;
struct ph_tickets *ph_engine_tickets(struct ph_engine *engine); // of all workers
struct ph_holds;
struct ph_holds *ph_engine_holds(struct ph_engine *engine);
struct ph_guesses;
struct ph_guesses *ph_engine_guesses(struct ph_engine *engine);
struct ph_sources;
struct ph_sources *ph_engine_sources(struct ph_engine *engine);
struct ph_tlsrpt;
struct ph_tlsrpt *ph_engine_tlsrpt(struct ph_engine *engine);
struct ph_sts_cache;
struct ph_sts_cache *ph_engine_sts_cache(struct ph_engine *engine);
// Sockets on their way to a worker, which count as its load.
void ph_engine_socket_sent(struct ph_engine *engine, uint16_t worker, int change);
uint32_t ph_engine_sockets_sent(struct ph_engine *engine, uint16_t worker);
void ph_engine_log_protocol(struct ph_engine *engine, struct ph_str lines);
void ph_engine_log_lines(struct ph_engine *engine, uint16_t worker, struct ph_str lines);
