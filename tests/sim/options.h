// What may go wrong in one history: chosen by its seed (a swarm), narrowed by hand.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

// name, percent of the seeds that have it, what it does. `resets` and `partial` are in each; the
// power is cut in the odd seeds.
#define SIM_OPTIONS(X)                                                                             \
    X(power_cut, 0, "the power is cut: what isn't synced is lost, torn or kept")                   \
    X(kill, 40, "the process is killed; writes under way may land later")                          \
    X(crash_in_recovery, 50, "the end also comes while a start is under way")                      \
    X(lost_names, 60, "directory entries not synced are lost at a power cut")                      \
    X(stale_bytes, 60, "blocks never synced hold old bytes of other files after a power cut")      \
    X(summaries_rot, 40, "segments' summaries have a flipped bit after an end")                    \
    X(workers_change, 25, "a restart has another number of workers")                               \
    X(reload, 30, "the configuration is reloaded")                                                 \
    X(resets, 100, "connections are reset at any byte")                                            \
    X(partial, 100, "reads and writes are cut into pieces")                                        \
    X(stalls, 25, "connections go silent at any byte")                                             \
    X(refused, 40, "connects are refused")                                                         \
    X(unreachable, 25, "connects time out or find no route")                                       \
    X(slow_peers, 30, "peers take their time for each reply")                                      \
    X(temporary, 60, "peers answer 4xx at any step")                                               \
    X(permanent, 50, "peers answer 5xx to recipients and contents")                                \
    X(shutting_down, 40, "peers answer 421 at any step")                                           \
    X(lost_replies, 60, "peers drop the session around the final reply")                           \
    X(tls_trouble, 70, "peers have bad certificates, no STARTTLS or break the handshake")          \
    X(injection, 30, "bytes come in the clear behind the reply to STARTTLS")                       \
    X(lean_peers, 50, "peers without PIPELINING or CHUNKING")                                      \
    X(dns_trouble, 40, "lookups fail and are late")                                                \
    X(slow_disk, 30, "some disk operations take long")                                             \
    X(disk_errors, 20, "reads, writes and syncs fail, once or for good in one file")               \
    X(disk_full, 15, "the disk is full for a while")                                               \
    X(no_files, 15, "no descriptor is left for a while")                                           \
    X(damage, 20, "durable bytes become others: bits, sectors, blocks")                            \
    X(bad_reads, 15, "a read has a wrong bit, the next one hasn't")                                \
    X(clock_jumps, 20, "the wall clock jumps by up to an hour, back and forth")                    \
    X(pauses, 30, "workers are held up")                                                           \
    X(large, 40, "messages that go into extents")                                                  \
    X(clients_break, 50, "clients are reset and time out")

// Faults of the simulated machine that no product survives: the checkers must see them.
#define SIM_PLANTS(X)                                                                              \
    X(early_durable, "durable writes complete before they are on the disk")                        \
    X(lazy_directory, "directory syncs do nothing")                                                \
    X(lost_write, "one durable write in 50 is not carried out")                                    \
    X(eager_client, "clients take a message for acknowledged when its last byte is sent")          \
    X(peer_twice, "peers take each message twice")

struct sim_scene;

// Which of the table's histories it is.
enum sim_table_part {
    SIM_TABLE_NONE,
    SIM_TABLE_PLAIN,    // no faults: every word of a row counts
    SIM_TABLE_UNCACHED, // the same with TlsCaches = off
    SIM_TABLE_LIVES,    // the rows that take days
    SIM_TABLE_FAULTS,
};

enum sim_option {
#define SIM_OPTION_ENUM(name, percent, text) SIM_##name,
    SIM_OPTIONS(SIM_OPTION_ENUM)
#undef SIM_OPTION_ENUM
        SIM_OPTION_COUNT
};

enum sim_plant {
    SIM_PLANT_NONE,
#define SIM_PLANT_ENUM(name, text) SIM_PLANT_##name,
    SIM_PLANTS(SIM_PLANT_ENUM)
#undef SIM_PLANT_ENUM
        SIM_PLANT_COUNT
};

// How operations fail in turn.
#define SIM_FAILURES(X)                                                                            \
    X(EIO, "any operation of the disk")                                                            \
    X(ENOSPC, "what takes room on the disk")                                                       \
    X(EMFILE, "what takes a descriptor: files, directories, connects, accepts")

enum sim_failure {
#define SIM_FAILURE_ENUM(name, text) SIM_FAILS_##name,
    SIM_FAILURES(SIM_FAILURE_ENUM)
#undef SIM_FAILURE_ENUM
        SIM_FAILURE_COUNT
};

// How an end that is asked for comes, and what of the unsynced is found behind it.
#define SIM_ENDS(X)                                                                                \
    X(power_nothing, true, "the power is cut, nothing that isn't synced is left")                  \
    X(power_all, true, "the power is cut, everything is left")                                     \
    X(power_chance, true, "the power is cut, what is left is lost, torn or kept by chance")        \
    X(kill_all, false, "the process is killed, what the kernel had of it is carried out")          \
    X(kill_chance, false, "the process is killed, that happens at once, later or never")

enum sim_end {
#define SIM_END_ENUM(name, power, text) SIM_END_##name,
    SIM_ENDS(SIM_END_ENUM)
#undef SIM_END_ENUM
        SIM_END_COUNT
};

struct sim_options {
    uint64_t seed;
    const struct sim_scene *scene; // NULL: sim_history
    enum sim_table_part table;
    const char *rows;   // of the table these alone: "59,105"; NULL: all
    unsigned hours_max; // until faults are over; 0: as always
    bool on[SIM_OPTION_COUNT];
    bool forced[SIM_OPTION_COUNT];  // on whatever the seed says
    bool dropped[SIM_OPTION_COUNT]; // off whatever the seed says
    enum sim_plant plant;
    unsigned messages; // acknowledged before faults end
    unsigned workers;
    unsigned clients;
    unsigned crashes; // at most
    uint64_t segment_bytes;
    uint64_t latency_min_ns;
    uint64_t latency_max_ns;
    unsigned fail_at;         // the n-th operation that may fail so fails, …; 0: off
    enum sim_failure fail_as; // … so
    bool fail_for_good;       // EIO: and all writes that follow in that file; else all that follow
    unsigned messages_wanted; // 0: by the seed
    uint64_t crash_at;        // the process ends before this event, and not by chance; 0: off
    uint64_t crash_again;     // and before this event of the start that follows; 0: off
    enum sim_end crash_as;
    bool trace;
};

// Fills what the seed decides; `forced`, `dropped`, `plant`, `trace` and what was asked for stay.
void sim_options_choose(struct sim_options *options, uint64_t seed);
void sim_options_print(const struct sim_options *options, struct ph_buf *out); // one line
PH_MUST_CHECK bool sim_option_from(const char *name, enum sim_option *out);
PH_MUST_CHECK bool sim_plant_from(const char *name, enum sim_plant *out);
PH_MUST_CHECK bool sim_failure_from(const char *name, enum sim_failure *out);
const char *sim_failure_name(enum sim_failure failure);
PH_MUST_CHECK bool sim_end_from(const char *name, enum sim_end *out);
const char *sim_end_name(enum sim_end end);
bool sim_end_is_power(enum sim_end end);
const char *sim_option_name(enum sim_option option);
const char *sim_plant_name(enum sim_plant plant);
void sim_options_help(void);
