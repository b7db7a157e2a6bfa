// One history: a virtual machine with clock, disk and network, the engine's workers on it, and
// those who send and receive. What each of them may suffer is in README.md.
#pragma once

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/endpoint.h"
#include "base/io.h"
#include "tests/sim/clock.h"
#include "tests/sim/ledger.h"
#include "tests/sim/options.h"
#include "tests/sim/random.h"

#define SIM_WORKERS_MAX 4
#define SIM_SMTP_PORT 25
#define SIM_INGEST_PORT 2525
#define SIM_FAILURE_BYTES_MAX 512
#define SIM_REPORT_ENDS_MAX 32
#define SIM_EPOCH_MS INT64_C(1795000000000) // the wall clock at the beginning: 2026-11-18

struct sim_disk;
struct sim_network;
struct sim_clients;
struct sim_peers;
struct sim_scene;
struct sim_stage;
struct ph_engine;
struct ph_dns_local;
struct ph_config;

enum sim_result {
    SIM_HELD,      // all promises
    SIM_BROKEN,    // one
    SIM_UNTOUCHED, // all, and what was to befall it (fail_at, crash_again) never came
};

// What a history tells of itself.
struct sim_report {
    enum sim_result result;
    uint64_t lived_ms;                   // of its own time
    uint64_t events;                     // in all
    uint64_t start_events;               // of the start behind the first end
    uint64_t connections;                // of the table: to its rows' hosts,
    uint64_t attacked;                   // of these those that somebody meddled with,
    uint64_t recipients;                 // and what was written to
    unsigned ends;                       // of the process, out of order
    unsigned ends_in_start;              // of these
    uint64_t summaries;                  // segments that starts read by their summary
    uint64_t summaries_rotten;           // those that had a flipped bit
    uint64_t disks[SIM_REPORT_ENDS_MAX]; // what each end left, as a sum
};

// The outside of one worker in one life of the process.
struct sim_io {
    struct ph_io io;
    struct sim *sim;
    unsigned life;
    unsigned index;
    struct sim_event turn;
    bool awake;   // ph_io_wake came
    bool in_turn; // the engine is on the stack: no other turn of this worker now
    bool turn_missed;
    bool waiting; // in a wait of its own, inside of a turn or at start
};

struct sim {
    struct sim_options options;
    const struct sim_scene *scene;
    struct sim_random random; // of the world
    struct sim_random engine; // what the engine is given
    struct sim_clock clock;
    int64_t wall_offset_ms; // wall = monotonic + this
    uint64_t trace_hash;
    uint64_t events;
    bool calm;                           // faults are over
    unsigned damages;                    // done to the disk
    unsigned damage_reports;             // by recovery
    bool mended;                         // somebody has seen to it
    unsigned strikable;                  // operations so far that could fail as was asked for
    bool struck;                         // the operation that was to fail has failed
    char failure[SIM_FAILURE_BYTES_MAX]; // the first promise broken; empty: none

    struct sim_disk *disk;
    struct sim_network *network;
    struct sim_ledger ledger; // history.c's, as the two below
    struct sim_clients *clients;
    struct sim_peers *peers;
    struct sim_stage *stage; // table.c's
    struct ph_dns_local *dns;

    // The process.
    unsigned life; // counts its starts
    bool running;  // all workers are open
    jmp_buf end_of_life;
    struct sim_event pass;   // time that is let go by
    uint64_t crash_at_event; // 0: none is planned
    bool crash_by_power;
    bool crash_in_write; // rather while a write is under way
    uint64_t life_began; // at this event
    struct ph_engine *engine_now;
    struct sim_io *workers[SIM_WORKERS_MAX];
    unsigned worker_count;
    struct ph_config *config;
    unsigned crashes_done;
    struct sim_report report;
    unsigned failed_starts;
    unsigned reloads_done;
    uint64_t queued_shown; // by the counters, after the last turn
};

// end.c: whether, when and how the process ends.
void sim_end_plan(struct sim *sim);   // at each start
bool sim_end_is_due(struct sim *sim); // before each event
void sim_end_note(struct sim *sim);   // it has come

// A promise is broken; the history ends at the next event. The first one counts.
void sim_fail(struct sim *sim, const char *format, ...) PH_PRINTF(2, 3);
// A step of the history: into its hash, and onto the screen with --trace.
void sim_trace(struct sim *sim, const char *what, uint64_t a, uint64_t b, uint64_t c);
void sim_trace_text(struct sim *sim, const char *what, struct ph_str text);
// Recipients that wait or are under way.
uint64_t sim_queued(struct sim *sim);
// The configuration of now comes into force.
void sim_reload(struct sim *sim);
// With the option on, and faults not over yet.
// An operation that may fail so: does this one, in its turn?
bool sim_strikes(struct sim *sim, enum sim_failure as);
bool sim_files_short(struct sim *sim); // no descriptor is left now
bool sim_fault(struct sim *sim, enum sim_option option, unsigned permille);

// io.c
struct sim_io *sim_io_create(struct sim *sim, unsigned index);
void sim_io_complete(struct sim_io *io, struct ph_op *op, int64_t result);
void sim_io_notify(struct sim_io *io, struct ph_op *op, int64_t result);
void sim_io_make_runnable(struct sim_io *io);
// The next event happens, whatever it is; the end of the process may be it (then it doesn't
// return).
void sim_step(struct sim *sim);

// run.c: one whole history. `out_line` gets its last line.
void sim_run(const struct sim_options *options, struct ph_buf *out_line,
             struct sim_report *out_report);
