// What an administrator has suspended as a whole: a domain's queue, a connector's mail, or all. New
// mail for it is taken and held, over restarts, until it is resumed.
#pragma once

#include "base/io.h"
#include "engine/queue_query.h"

struct ph_holds;

// Those of SPOOL/suspended; what can't be read there is told in `error` (empty: all is well).
struct ph_holds *ph_holds_create(struct ph_io *io, const char *spool_dir, struct ph_buf *error);
void ph_holds_destroy(struct ph_holds *holds); // NULL accepted

// Cheap where nothing is held. On any thread.
PH_MUST_CHECK bool ph_holds_match(struct ph_holds *holds, struct ph_str domain,
                                  struct ph_str connector);

// By whoever may wait for the disk. A query for single messages (by id, sender, reason, state or
// age) changes nothing. A negative errno: it couldn't be written down, and nothing has changed.
PH_MUST_CHECK int ph_holds_add(struct ph_holds *holds, const struct ph_queue_query *query,
                               struct ph_str text, bool *out_held);
// Those with these very terms; with "*" or "state=suspended" alone, all of them.
PH_MUST_CHECK int ph_holds_remove(struct ph_holds *holds, const struct ph_queue_query *query);
