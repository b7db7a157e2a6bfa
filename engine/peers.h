// The certificates that hosts showed last: a change releases the mail held because of the old one,
// and an end that is near is told before it comes.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "tls/facts.h"

struct ph_worker;
struct ph_dispatch;

#define PH_PEERS_MAX 65536                               // hosts remembered by a worker; ours
#define PH_PEERS_WARN_S (INT64_C(14) * 86400)            // before a partner's certificate ends
#define PH_PEERS_RELEASE_INTERVAL_MS UINT64_C(60 * 1000) // hosts with two certificates flip; ours

struct ph_peer; // uthash

// A handshake in full with `host` for `dispatch` has shown `chain`. `proven`: the policy asked for
// a good chain, and it was one.
void ph_peers_seen(struct ph_worker *worker, const char *host, const struct ph_dispatch *dispatch,
                   const struct ph_chain *chain, bool proven);
// When the certificate ends that the host showed last, s since 1970; 0: it is not known.
int64_t ph_peers_not_after_s(const struct ph_worker *worker, const char *host);
// Hosts whose certificate was proven good and ends within PH_PEERS_WARN_S.
uint64_t ph_peers_expiring(const struct ph_worker *worker);
void ph_peers_destroy_all(struct ph_worker *worker);
