// HTTP and HTTPS fetches off the workers: one thread of its own with libcurl, shared by all worlds.
#pragma once

#include "base/io.h"
#include "config/snapshot.h"
#include "engine/offload.h"

#define PH_FETCH_WAITING_MAX 1024   // more are refused with -ENOBUFS; ours
#define PH_FETCH_CONNECTIONS_MAX 16 // at once; the others wait within their timeouts; ours
#define PH_FETCH_HOST_CONNECTIONS_MAX 4

struct ph_fetch;

struct ph_fetch *ph_fetch_create(void);
void ph_fetch_destroy(struct ph_fetch *fetch); // nothing under way; NULL accepted
// What the configuration says of all fetches; borrowed from it.
void ph_fetch_configure(struct ph_fetch_op *op, const struct ph_config *config);
// From the world of `sink`: what ph_io_fetch promises. A NULL `fetch` refuses everything.
void ph_fetch_submit(struct ph_fetch *fetch, struct ph_offload_sink *sink, struct ph_fetch_op *op);
void ph_fetch_cancel(struct ph_fetch *fetch, struct ph_fetch_op *op);
