// What the files of the spool share: queue/spool (groups), queue/spool_segment (the files they go
// to), queue/spool_recovery and queue/spool_found, queue/spool_load. Nobody else includes it.
#pragma once

#include <stdatomic.h>
#include <sys/queue.h>

#include "queue/group_pace.h"
#include "queue/record.h"
#include "queue/spool.h"
#include "queue/summary.h"

#define PH_SPOOL_PATH_MAX 4096
#define PH_SPOOL_GROUP_FIRST_BYTES                                                                 \
    ((size_t)192 << 10)                            // of contents in a group's first buffer; ours
#define PH_SPOOL_GROUP_BYTES_MAX ((size_t)2 << 20) // of contents in one group; ours
#define PH_SPOOL_META_BYTES_FIRST                                                                  \
    ((size_t)64 << 10)        // of records a group has room for at first; ours
#define PH_SPOOL_SPARES_MAX 4 // segments kept for later; ours
#define PH_SPOOL_SLOTS_MAX 65536

// One segment's file. Slots are names of files, numbers are lives: each time a file is used again
// it gets the next number.
struct ph_segment {
    TAILQ_ENTRY(ph_segment) link;
    uint32_t slot;
    uint64_t number; // 0: not in use
    struct ph_file *file;
    uint64_t size;          // what groups may fill
    uint64_t used;          // bytes, with the head
    uint64_t live;          // messages in it that are owed
    uint64_t messages;      // put into it
    uint64_t message_bytes; // of their records and contents
    uint32_t readers;       // loads under way: it isn't used again before
    bool head_damaged;      // found so by recovery
    bool preallocated;      // written once already: synced writes are cheap
    struct ph_op op;        // while it is prepared
    int step;
};
TAILQ_HEAD(ph_segment_list, ph_segment);

struct ph_group_entry { // a message of a group
    struct ph_spool_ticket *ticket;
    struct ph_content *content; // the spool's reference until it is filled; NULL: none
    uint32_t meta_at;
    bool kept; // our own: when its write fails it goes into the next one, as nobody would send it
               // again
};

// Records and contents gathered for one write. The memory also backs the fresh contents, which hold
// references.
struct ph_spool_group {
    STAILQ_ENTRY(ph_spool_group) link;
    _Atomic uint32_t references;
    _Atomic uint64_t *content_bytes; // the spool's count of such memory
    char *memory;                    // aligned; contents from `reserve` on
    size_t reserve;
    size_t capacity; // of contents
    size_t body_len;
    struct ph_buf meta;
    STAILQ_HEAD(, ph_spool_ticket) tickets;
    struct ph_group_entry *entries;
    uint32_t entry_count;
    uint32_t entry_cap;
    uint64_t *finished_extents; // files that nobody needs once this is durable
    uint32_t finished_extent_count;
    uint32_t record_count;
    uint64_t message_bytes; // of records and contents of messages
    bool urgent;            // somebody waits
    uint64_t first_ns;      // when its first record came
    uint64_t number;
    uint64_t oldest; // segment that is needed once this is durable
    uint64_t write_len;
};

struct ph_spool {
    struct ph_spool_options options;
    struct ph_io *io;
    char *path; // of the log
    uint64_t seed;
    uint64_t next_sequence;
    uint64_t next_segment;
    uint64_t next_group;
    uint64_t durable_group;
    uint64_t void_from; // groups to be voided by the next one; 0: none
    uint64_t void_to;
    struct ph_segment_list segments; // oldest first; the last one is written to
    struct ph_segment_list spares;   // ready to be used
    unsigned segment_count;
    unsigned spare_count;
    struct ph_segment **by_number; // segment n at n modulo by_number_len, a power of 2
    uint32_t by_number_len;
    struct ph_summary summary; // of the segment that is written to
    struct ph_segment *preparing;
    uint64_t prepare_after_ns; // one could not be made: not before this again
    uint64_t write_after_ns;   // a group could not be written: not before this again
    bool no_spare;             // for want of space: what room there is, is for outcomes
    bool low_space;            // below MinFreeSpace
    uint64_t slots_used[PH_SPOOL_SLOTS_MAX / 64];
    STAILQ_HEAD(, ph_spool_group) gathered; // the last one still grows
    struct ph_spool_group *writing;
    struct ph_group_pace pace;
    size_t group_bytes; // of contents in the last group
    struct ph_op write_op;
    struct ph_op space_op;
    uint64_t space_free;
    uint64_t space_total;
    uint64_t space_asked_ns;
    unsigned failures; // consecutive
    _Atomic uint64_t content_bytes;
    unsigned loads;
    unsigned removals; // files being unlinked, damage being copied
    bool sealed;       // nothing was written since the seal
    struct ph_spool_stats stats;
};

// queue/spool_directory: opens a file and locks it, waiting for as long as another process has it.
// 0, -EWOULDBLOCK when the time is over, another negative errno. Synchronous.
int64_t ph_spool_open_locked(struct ph_io *io, const char *path, int flags, uint64_t timeout_ms,
                             struct ph_file **out);

// The names in a directory are durable. 0, or a negative errno. Synchronous.
int64_t ph_spool_sync_directory(struct ph_io *io, const char *path);

// queue/spool_segment
void ph_spool_segment_path(const struct ph_spool *spool, uint32_t slot,
                           char out[PH_SPOOL_PATH_MAX]);
// Begins to make a spare, unless there is one or it is being made.
void ph_spool_segment_prepare(struct ph_spool *spool);
// The next segment to write to, in front of which nothing stands; NULL: it is being made, or
// `*out_failure`.
struct ph_segment *ph_spool_segment_next(struct ph_spool *spool, int64_t *out_failure);
// A segment at once, synchronously; not written before. NULL, with `*out_error`.
struct ph_segment *ph_spool_segment_create(struct ph_spool *spool, int64_t *out_error);
// The segment is the one that is written to from now on (or was so, in recovery: oldest first).
void ph_spool_segment_use(struct ph_spool *spool, struct ph_segment *segment);
// Segments below `oldest` become spares, or go.
void ph_spool_segment_recycle(struct ph_spool *spool, uint64_t oldest);
// The last one failed before anything in it counted: its file goes.
void ph_spool_segment_discard(struct ph_spool *spool, struct ph_segment *segment);
// The file's slot is taken, at recovery.
void ph_spool_slot_take(struct ph_spool *spool, uint32_t slot);
// Spares beyond what is kept go.
void ph_spool_spares_trim(struct ph_spool *spool);
void ph_spool_spare_add(struct ph_spool *spool, struct ph_segment *segment);
struct ph_segment *ph_spool_segment_find(const struct ph_spool *spool, uint64_t number);
void ph_spool_segment_close(struct ph_segment *segment);

// queue/spool_summary: the segment that is written to is another one from now on.
void ph_spool_summary_begin(struct ph_spool *spool, const struct ph_segment *segment);
// This group is durable, at `segment->used`.
void ph_spool_summary_written(struct ph_spool *spool, const struct ph_segment *segment,
                              const struct ph_spool_group *group);
// Bytes to leave free at the segment's end, when this group goes into it.
uint64_t ph_spool_summary_room(const struct ph_spool *spool, const struct ph_spool_group *group);
// Nothing more is written to the segment, all in it is durable: its summary is, where there is
// room. Nobody waits for it.
void ph_spool_summary_seal(struct ph_spool *spool, struct ph_segment *segment);

// queue/spool_recovery: reads the log, tells of what is owed, leaves segments and counters in
// place.
int ph_spool_recover(struct ph_spool *spool, ph_spool_on_recovered *on_recovered, void *owner,
                     struct ph_spool_recovery_report *out_report, struct ph_buf *error);
int ph_spool_read_seed(struct ph_io *io, const char *directory, uint64_t *out_seed,
                       struct ph_buf *error);

// queue/spool_load
void ph_spool_extent_path(const struct ph_spool *spool, uint64_t id, char out[PH_SPOOL_PATH_MAX]);
void ph_spool_extent_remove(struct ph_spool *spool, uint64_t id);
uint64_t ph_spool_content_sum(const struct ph_spool *spool, uint64_t id, struct ph_str content);

// queue/spool_quarantine: a copy of what is damaged, in SpoolDir/quarantine/NAME. Best effort: the
// damage is reported in any case.
void ph_spool_quarantine(struct ph_spool *spool, const char *name, struct ph_str bytes);
