// What recovery has found so far: messages and their recipients' states, in slabs. Only
// queue/spool_recovery includes it.
#pragma once

#include "queue/record.h"
#include "queue/spool.h"

struct ph_found;

struct ph_found *ph_found_create(uint64_t hash_seed);
void ph_found_destroy(struct ph_found *found); // NULL accepted

// What one record says. Of a MESSAGE, `location` is where it stands.
void ph_found_take(struct ph_found *found, const struct ph_record *record,
                   const struct ph_spool_location *location);
// The same for all that a segment's summary says, which was found valid. Returns the highest id.
uint64_t ph_found_take_summary(struct ph_found *found, struct ph_str entries, uint32_t segment);
// Records are missing here: what is known of anybody's outcome may be out of date.
void ph_found_doubt_all(struct ph_found *found);
bool ph_found_has(struct ph_found *found, uint64_t id);

// Where a message stands, and how many bytes of record and content are there.
typedef void ph_found_on_place(void *owner, const struct ph_spool_location *location,
                               uint64_t bytes);
// Some of these recipients are in doubt: their addresses, where they can be read; borrowed until
// the next call.
typedef void ph_found_addresses(void *owner, uint64_t id, const struct ph_spool_location *location,
                                struct ph_spool_recovered_recipient *recipients, uint32_t count);
struct ph_found_listener {
    ph_found_on_place *on_place;
    ph_found_addresses *addresses;
    void *owner;                         // of both
    ph_spool_on_recovered *on_recovered; // NULL: only places are told
    void *recovered_owner;
};
// All that are owed, in order of id. Those whose recipients are all terminal need no more than
// their end. The memory goes meanwhile: nothing else may be asked afterwards.
void ph_found_tell(struct ph_found *found, const struct ph_found_listener *listener);
