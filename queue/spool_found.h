// What recovery has found so far: messages and their recipients' states, in slabs. Only
// queue/spool_recovery includes it.
#pragma once

#include "queue/record.h"
#include "queue/spool.h"

struct ph_found;

struct ph_found *ph_found_create(void);
void ph_found_destroy(struct ph_found *found); // NULL accepted

// What one record says. Of a MESSAGE, `location` is where it stands.
void ph_found_take(struct ph_found *found, const struct ph_record *record,
                   const struct ph_spool_location *location);
// Records are missing here: what is known of anybody's outcome may be out of date.
void ph_found_doubt_all(struct ph_found *found);
bool ph_found_has(const struct ph_found *found, uint64_t id);

// Where a message stands, and how many bytes of record and content are there.
typedef void ph_found_on_place(void *owner, const struct ph_spool_location *location,
                               uint64_t bytes);
// All that are owed, in order of id. Those whose recipients are all terminal need no more than
// their end.
void ph_found_tell(struct ph_found *found, ph_found_on_place *on_place, void *place_owner,
                   ph_spool_on_recovered *on_recovered, void *owner);
