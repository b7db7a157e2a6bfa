// What each host's handshakes taught about our ClientHello: which key share the host wants, and
// whether it takes one that is longer than a segment. A worker's own, kept in memory alone.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/endpoint.h"
#include "tls/facts.h"

struct ph_worker;
struct ph_flight_entry; // uthash

#define PH_FLIGHTS_MAX 16384 // addresses; ours. The one learned first goes first
#define PH_FLIGHT_KEPT_MS                                                                          \
    UINT64_C(86400000) // as long as a peer that mistreats a BDAT is remembered

struct ph_flight {
    uint16_t
        key_share; // the group that the host asked for; 0: the first offered will do, or unknown
    bool small;    // a ClientHello of several segments got no answer
};

// Zeroes where nothing is known. `at` with its port.
struct ph_flight ph_flights_of(const struct ph_worker *worker, const struct ph_endpoint *at);
// A handshake came about.
void ph_flights_succeeded(struct ph_worker *worker, const struct ph_endpoint *at,
                          const struct ph_tls_facts *facts);
// A long ClientHello got no answer.
void ph_flights_failed(struct ph_worker *worker, const struct ph_endpoint *at);
void ph_flights_destroy_all(struct ph_worker *worker);
