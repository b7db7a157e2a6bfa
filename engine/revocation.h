// CRLs for all workers: fetched by distribution point, read from files, kept on disk, renewed.
// Worker 0 keeps them; each change is a new set (tls/crls) in every worker's TLS context, and a
// verdict made with another list of the same issuer ends there.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tls/facts.h"
#include "tls/trust.h"

struct ph_revocation_keeper; // worker 0's
struct ph_worker;

// On worker 0.
void ph_revocation_open(struct ph_worker *worker);
void ph_revocation_reconfigure(struct ph_worker *worker);
void ph_revocation_stop(struct ph_worker *worker); // no more I/O; what is under way ends soon
bool ph_revocation_at_rest(const struct ph_worker *worker);
void ph_revocation_close(struct ph_worker *worker);

// On any worker: the lists that the certificates of `chain`, a good one, point to are wanted.
// Returns a ticket: ph_connection_revocation_settled is called with it once each of them is at
// hand, or can't be had.
uint64_t ph_revocation_ask(struct ph_worker *worker, const struct ph_chain *chain,
                           const struct ph_trust *trust);
