// The spool: per worker a log of commit groups. What a ticket says is durable, is durable.
//
// Everything appended between two calls of ph_spool_flush shares one group (up to the group's
// maximum size), and a group counts whole or not at all after a crash: so a message with its
// state, or a DSN with the outcome that caused it, is atomic. docs/spool-format.md has the bytes.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/reason.h"
#include "queue/content.h"
#include "smtp/envelope.h"

#define PH_SPOOL_INLINE_BYTES_MAX ((size_t)128 << 10) // larger contents go into extents; ours
#define PH_SPOOL_EXTENT_BYTES_MAX ((size_t)256 << 10) // one extent

// id = log number (16 bits), sequence (48 bits): it never changes and isn't the location.
#define PH_MESSAGE_ID_LOG(id) ((uint16_t)((id) >> 48))
#define PH_MESSAGE_ID_TEXT_MAX 24
char *ph_message_id_format(uint64_t id, char out[PH_MESSAGE_ID_TEXT_MAX]); // 16 hex digits
PH_MUST_CHECK bool ph_message_id_parse(struct ph_str text, uint64_t *out_id);

#define PH_SPOOL_IN_EXTENT UINT32_C(0x80000000)

// Where a message's record stands. 12 bytes in memory per queued message.
struct ph_spool_location {
    uint32_t segment; // number within its log
    uint32_t offset;
    uint32_t len; // of the record; with PH_SPOOL_IN_EXTENT where its content is a file of its own
};

// Waits for the group that holds what it was given with. result: 0 durable; -ENOSPC, -EIO: it will
// not be (nothing of it remains after a crash either).
struct ph_spool_ticket {
    struct ph_op op;
    STAILQ_ENTRY(ph_spool_ticket) link; // the spool's own
    struct ph_spool_location location;  // of a message: valid once the result is 0
};

enum ph_recipient_state {
    PH_QUEUED_WAITING,   // never attempted, or to be attempted again
    PH_QUEUED_DELIVERED, // terminal from here on
    PH_QUEUED_FAILED,
    PH_QUEUED_EXPIRED,
    PH_QUEUED_DELETED,
};

// What became of one recipient in one attempt.
struct ph_outcome_record {
    uint32_t recipient; // index
    enum ph_recipient_state state;
    bool in_doubt;     // the attempt that ended so left it in doubt; the next one is ambiguous
    uint16_t attempts; // so far
    uint64_t due_ms;   // WAITING: when to try again (wall clock)
    enum ph_reason_kind kind;
    uint16_t code;
    struct ph_status status;
    struct ph_str text; // bounded to 480 bytes by the spool
};

struct ph_spool;

struct ph_spool_options {
    struct ph_io *io;
    const char *directory;     // SpoolDir
    uint16_t log;              // number of this log
    uint64_t lock_timeout_ms;  // SpoolLockTimeout: how long a segment may be another process's
    bool offline;              // only looked at: nothing is written (check, dump)
    bool adopted;              // append state only: this log belongs to no worker of its own now
    bool durability_os;        // Durability = os: written, not synced
    uint64_t outcome_delay_ns; // OutcomeSyncDelay
    uint64_t message_segment_bytes; // 64 MiB; small in tests, and where the file system is small
    uint64_t min_free_percent;      // MinFreeSpace, one or the other
    uint64_t min_free_bytes;
    size_t content_memory_max; // fresh contents kept in memory
};

// One live message found by recovery. Borrowed for the call.
struct ph_spool_recovered_recipient {
    struct ph_str domain;   // A-labels
    uint32_t domain_number; // the same one for equal domains of one recovery; from 0 on
    struct ph_str address;  // of those in doubt, where it can be read; else empty
    enum ph_recipient_state state;
    bool in_doubt; // an ATTEMPT without OUTCOME, or one recorded as in doubt
    uint16_t attempts;
    uint64_t due_ms; // 0: at once
    enum ph_reason_kind kind;
};
struct ph_spool_recovered {
    uint64_t id;
    struct ph_spool_location location;
    uint64_t arrival_ms;
    uint64_t expiry_ms;
    uint64_t size; // of the content
    uint8_t priority;
    bool delay_notified;
    struct ph_str sender;
    const struct ph_spool_recovered_recipient *recipients;
    uint32_t recipient_count;
};
typedef void ph_spool_on_recovered(void *owner, const struct ph_spool_recovered *message);

struct ph_spool_recovery_report {
    uint64_t messages;
    uint64_t quarantined_records; // damaged below the durable mark: set aside, reported
    uint64_t quarantined_bytes;
    uint64_t torn_bytes;        // at or after the durable mark: never acknowledged
    uint64_t summaries;         // segments that were read by their summary alone
    uint64_t summaries_damaged; // offline: those that can't be read, and it isn't known why
    uint64_t summaries_wrong;   // offline: those that are sound and say what isn't so
    char detail[256];
};

// The directory: made when missing, locked (waiting up to lock_timeout_ms for a predecessor's last
// writes), its format version checked. `log_count` in: workers; out: logs that exist (≥ workers).
struct ph_spool_directory;
int ph_spool_directory_open(struct ph_io *io, const char *path, uint64_t lock_timeout_ms,
                            uint16_t *log_count, struct ph_spool_directory **out,
                            struct ph_buf *error);
void ph_spool_directory_close(struct ph_spool_directory *directory);

// Opens or creates one log and recovers it, calling back for each live message, in order of id.
// Runs synchronously over ph_io_finish. 0 or a negative errno with a sentence.
int ph_spool_open(const struct ph_spool_options *options, ph_spool_on_recovered *on_recovered,
                  void *owner, struct ph_spool_recovery_report *out_report, struct ph_spool **out,
                  struct ph_buf *error);
// Writes out what is pending (synchronously), seals, closes. NULL accepted.
void ph_spool_close(struct ph_spool *spool);

enum ph_spool_result {
    PH_SPOOL_OK,
    PH_SPOOL_FULL,   // space: answer 452 4.3.1
    PH_SPOOL_FAILED, // the log can't be written (health): answer 451 4.3.0
};

struct ph_spool_append_options {
    uint64_t id; // of ph_spool_take_id
    const struct ph_envelope *envelope;
    struct ph_str content;                // inline, at most PH_SPOOL_INLINE_BYTES_MAX; copied
    struct ph_spool_writer *take_extents; // or a finished writer
    bool attempt;  // an attempt will follow at once: the ATTEMPT record rides along as a flag
    bool reserved; // a notification: may use what MinFreeSpace keeps back
};
// Joins the group being gathered. The ticket's operation completes when it is durable.
// `out_content` is a reference for the caller, to be looked into once that has happened; NULL where
// the content went into extents or memory is short.
PH_MUST_CHECK enum ph_spool_result ph_spool_append(struct ph_spool *spool,
                                                   struct ph_spool_ticket *ticket,
                                                   const struct ph_spool_append_options *options,
                                                   struct ph_content **out_content);

// An id for a message that is to be appended later (it stands in the Received field before).
uint64_t ph_spool_take_id(struct ph_spool *spool);

// Large contents: bytes become durable extents before the record that names them.
struct ph_spool_writer;
PH_MUST_CHECK enum ph_spool_result ph_spool_writer_create(struct ph_spool *spool, uint64_t id,
                                                          struct ph_spool_writer **out);
// `bytes` are borrowed until the ticket is stepped; PH_SPOOL_EXTENT_BYTES_MAX of them, the last
// time perhaps fewer; one at a time.
PH_MUST_CHECK enum ph_spool_result ph_spool_writer_append(struct ph_spool_writer *writer,
                                                          struct ph_spool_ticket *ticket,
                                                          struct ph_str bytes);
uint64_t ph_spool_writer_bytes(const struct ph_spool_writer *writer);
// For ph_spool_append: the writer's sum; frees the writer and keeps its file.
uint64_t ph_spool_writer_finish(struct ph_spool_writer *take_writer);
void ph_spool_writer_abandon(struct ph_spool_writer *writer); // nothing pending; NULL accepted

// State. Tickets may be NULL where nobody waits. These never fail for want of space (a reserve is
// kept); what can't be written is kept in memory and written to the next segment.
void ph_spool_attempt(struct ph_spool *spool, struct ph_spool_ticket *ticket, uint64_t id,
                      const uint32_t *recipients, uint32_t recipient_count);
void ph_spool_outcome(struct ph_spool *spool, struct ph_spool_ticket *ticket, uint64_t id,
                      const struct ph_outcome_record *outcome);
// Accepted for an attempt at once (`attempt` of the append), and none was begun: nothing is in
// doubt.
void ph_spool_unattempt(struct ph_spool *spool, uint64_t id);
void ph_spool_delay_notified(struct ph_spool *spool, uint64_t id);
// Every recipient is terminal: the message's space may be used again once this is durable.
void ph_spool_done(struct ph_spool *spool, struct ph_spool_ticket *ticket, uint64_t id,
                   const struct ph_spool_location *location);

// Reads a message back. `load->content` is the caller's reference when op's result is 0; -EBADMSG:
// damaged (it was read twice), and a copy of what is there was put into the quarantine; then the
// reference, where it isn't NULL, has the envelope and no body, for who must be told.
struct ph_spool_load {
    struct ph_op op;
    bool for_copy; // in: a content in a file of its own isn't read (body_count is 0)
    struct ph_content *content;
    bool in_extent;
    uint64_t content_sum;
};
void ph_spool_load(struct ph_spool *spool, struct ph_spool_load *load, uint64_t id,
                   const struct ph_spool_location *location);

// Compaction. Segments are used again from the oldest on, so one message that lingers would hold on
// to all that came after it: it is copied forward. 0: nothing need be; else the live messages of
// segments below the returned number should be.
uint64_t ph_spool_compact_below(const struct ph_spool *spool);
struct ph_spool_copy_options {
    const struct ph_spool_load *load;       // done, with its content
    const struct ph_outcome_record *states; // of recipients that aren't as at arrival
    uint32_t state_count;
    bool delay_notified;
};
// The message once more, with its state as it is now; what is recorded later counts for the copy.
// When the ticket says 0 there are two: the caller keeps one location and gives up the other.
PH_MUST_CHECK enum ph_spool_result ph_spool_copy(struct ph_spool *spool,
                                                 struct ph_spool_ticket *ticket, uint64_t id,
                                                 const struct ph_spool_copy_options *options);
void ph_spool_unneeded(struct ph_spool *spool, const struct ph_spool_location *location);

// Starts the group that was gathered, if one may start now: messages when no group is in flight and
// no more are expected (queue/group_pace), state alone after outcome_delay_ns. Returns when it
// wants to be called again (ns; PH_NEVER). Called once per turn, and once more before waiting.
uint64_t ph_spool_flush(struct ph_spool *spool, uint64_t now_ns);

enum ph_spool_health {
    PH_SPOOL_HEALTHY,
    PH_SPOOL_DEGRADED, // a segment was poisoned; going on in another
    PH_SPOOL_STOPPED,  // no more mail is accepted; attempts wait until they can be written down
};
struct ph_spool_stats {
    enum ph_spool_health health;
    bool full; // below MinFreeSpace, or no segment can be made: new mail gets 452
    uint64_t groups;
    uint64_t group_messages; // messages in them
    uint64_t group_records;
    uint64_t bytes;
    uint64_t messages_live;
    uint64_t segments;
    uint64_t segments_free;
    uint64_t content_bytes; // in memory
    uint64_t poisoned;
};
struct ph_spool_stats ph_spool_stats(const struct ph_spool *spool);

// Offline: `posthaste spool check` and `dump`. Both need the lock. `report` gets lines of text, or
// of JSON. check: 0 sound, 1 damaged.
int ph_spool_check(struct ph_io *io, const char *directory, bool json, struct ph_buf *report);
int ph_spool_dump(struct ph_io *io, const char *directory, bool json, bool with_content,
                  struct ph_buf *report);
