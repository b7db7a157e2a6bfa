// A spool on the test's disk.
#pragma once

#include <criterion/criterion.h>

#include "disk.h"
#include "queue/spool.h"

#define FIXTURE_MESSAGES_MAX 4096
#define FIXTURE_SEGMENT ((uint64_t)256 << 10) // small: many are used up

struct found_message {
    uint64_t id;
    struct ph_spool_location location;
    struct ph_spool_recovered_recipient first; // its strings are gone
    uint32_t recipient_count;
    uint64_t size;
    bool delay_notified;
};

struct fixture {
    struct disk *disk;
    struct ph_spool_directory *lock;
    struct ph_spool *spool;
    struct ph_spool_recovery_report report;
    struct found_message found[FIXTURE_MESSAGES_MAX];
    unsigned found_count;
    unsigned in_doubt; // of their first recipients
};

// The caller's disk; the spool is opened, and has a spare: in a fresh one the first group goes to
// segment 2, in seg-00001.dat.
void fixture_open(struct fixture *f, struct disk *disk);
// Looked at only: nothing is written.
void fixture_open_offline(struct fixture *f, struct disk *disk);
void fixture_close(struct fixture *f);
void fixture_reopen(struct fixture *f); // closed in good order, opened again

// Turns until the operation was stepped.
void fixture_wait(struct fixture *f, const struct ph_op *op);
void fixture_settle(struct fixture *f); // all that was given is durable
// One message of `len` letters (by `number`); waits until it is durable. `result`: the ticket's.
uint64_t fixture_put(struct fixture *f, unsigned number, size_t len, bool attempt,
                     struct ph_spool_location *out);
int64_t fixture_try(struct fixture *f, unsigned number, size_t len, uint64_t *out_id,
                    struct ph_spool_location *out);
// So many that share a group.
void fixture_put_group(struct fixture *f, unsigned number, unsigned count, size_t len,
                       uint64_t *out_ids, struct ph_spool_location *out);
// The load's result; the content is as it was put.
int64_t fixture_load(struct fixture *f, uint64_t id, const struct ph_spool_location *location,
                     unsigned number, size_t len);
// The message is copied forward as the engine does it; `location` is the new one.
int64_t fixture_copy(struct fixture *f, uint64_t id, struct ph_spool_location *location,
                     const struct ph_outcome_record *states, uint32_t state_count);
// The one found with this id, or NULL.
const struct found_message *fixture_found(const struct fixture *f, uint64_t id);
