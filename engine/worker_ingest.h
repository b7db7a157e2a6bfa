// The receiving half of a worker: listeners (worker 0), accepted connections.
#pragma once

#include "engine/ingest.h"
#include "engine/mailbox.h"
#include "engine/worker.h"

int ph_worker_ingest_open(struct ph_worker *worker, struct ph_buf *error);
void ph_worker_ingest_close(struct ph_worker *worker); // at rest
void ph_worker_ingest_receive(struct ph_worker *worker, struct ph_mail *take_mail);
void ph_worker_ingest_reconfigure(struct ph_worker *worker);
void ph_worker_ingest_stop(struct ph_worker *worker);
void ph_worker_ingest_abort(struct ph_worker *worker);
bool ph_worker_ingest_at_rest(const struct ph_worker *worker);

// For engine/ingest: it lives, it is gone (ph_worker_ingest_forget is its own half of that).
void ph_worker_ingest_forget(struct ph_worker *worker, struct ph_ingest *ingest);
void ph_worker_ingest_add(struct ph_worker *worker, struct ph_ingest *ingest);
void ph_worker_ingest_remove(struct ph_worker *worker, struct ph_ingest *ingest,
                             const struct ph_receive_connector *connector,
                             const struct ph_endpoint *peer);
