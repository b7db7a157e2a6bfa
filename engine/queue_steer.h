// What an administrator does with waiting mail, some of it at each call.
#pragma once

#include "engine/queue_query.h"

enum ph_queue_steer_kind {
    PH_STEER_SUSPEND, // until it is resumed, over restarts too; its time goes on
    PH_STEER_RESUME,
    PH_STEER_BOUNCE, // fails, and its sender is told
    PH_STEER_DELETE, // gone, and nobody is told
    PH_STEER_FIND,   // the ids of the messages, into `ids`
};

struct ph_queue_steer {
    enum ph_queue_steer_kind kind;
    struct ph_queue_query query;
    uint32_t at;        // message slot to go on from
    bool done;          // this worker has no more
    uint64_t count;     // recipients (FIND: messages) so far
    struct ph_buf *ids; // FIND: sixteen digits and a newline each
};

PH_MUST_CHECK bool ph_queue_steer_kind(struct ph_str name, enum ph_queue_steer_kind *out);
// Called on the worker's thread until `done`.
void ph_queue_steer_answer(struct ph_worker *worker, void *steer);

// One message's content, read back for an export. Shared by who asks and the worker; the last one
// lets it go.
struct ph_queue_export;
struct ph_queue_export *ph_queue_export_create(uint64_t id);
void ph_queue_export_release(struct ph_queue_export *item);
// On the worker's thread: begins where the message is here, and looks whether it is over.
void ph_queue_export_answer(struct ph_worker *worker, void *item);
// After answers: 1 there is a content (appended), 0 not yet, -1 no such message, or it is damaged.
int ph_queue_export_take(struct ph_queue_export *item, struct ph_buf *out);
