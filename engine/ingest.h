// One client's connection on its worker, driven through smtp/server: bytes, TLS, passwords,
// storing.
#pragma once

#include "base/endpoint.h"
#include "config/snapshot.h"
#include "engine/worker.h"

struct ph_ingest; // opaque: ends by itself

// Takes the socket. `connector` lives as long as `config`, which is retained.
void ph_ingest_accept(struct ph_worker *worker, struct ph_socket *take_socket,
                      struct ph_config *config, const struct ph_receive_connector *connector,
                      bool implicit_tls, const struct ph_endpoint *peer);
bool ph_ingest_judges_partners(const struct ph_ingest *ingest); // Domain Security
// 421 as soon as no message is under way.
void ph_ingest_stop(struct ph_ingest *ingest);
void ph_ingest_abort(struct ph_ingest *ingest); // at once
struct ph_ingest *ph_ingest_next(const struct ph_ingest *ingest);
