// The administrator's side door: metrics and health over HTTP, the queue over the control socket.
// Threads of its own (libmicrohttpd); what it wants of a worker it asks for by mail.
#pragma once

#include "base/buf.h"
#include "config/snapshot.h"
#include "engine/engine.h"

struct ph_admin;

// NULL, with a sentence, when an address can't be listened on.
struct ph_admin *ph_admin_create(struct ph_engine *engine, const struct ph_config *config,
                                 struct ph_buf *error);
void ph_admin_destroy(struct ph_admin *admin); // NULL accepted
