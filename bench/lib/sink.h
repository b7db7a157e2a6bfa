// A destination for tests, benchmarks and the demo: one thread, many addresses, each with its own
// behaviour and its own ledger of what it saw. Knows nothing of the engine it judges.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/endpoint.h"
#include "base/str.h"

#define PH_SINK_ADDRESSES_MAX 2048
#define PH_SINK_NAME_MAX 64

enum ph_sink_tls {
    PH_SINK_TLS_NONE,    // STARTTLS isn't offered
    PH_SINK_TLS_GOOD,    // offered, with the certificate given
    PH_SINK_TLS_REFUSED, // offered, and answered with 454
    PH_SINK_TLS_BROKEN,  // offered, and the handshake fails
};

struct ph_sink_behaviour {
    char name[PH_SINK_NAME_MAX];
    struct ph_endpoint at;
    enum ph_sink_tls tls;
    struct ph_str chain_pem; // with the key; borrowed for the call
    bool request_certificate;
    bool no_pipelining;
    bool no_chunking;
    uint32_t latency_ms;   // each reply leaves so long after its command
    uint32_t messages_max; // per session, then 421; 0: no limit
    uint32_t close_every;  // the session breaks at every n-th message, before its reply; 0: never
};

// What one address saw. Counters are written by the sink's thread alone.
struct ph_sink_ledger {
    _Atomic uint64_t sessions;
    _Atomic uint64_t handshakes_full;
    _Atomic uint64_t handshakes_resumed;
    _Atomic uint64_t handshakes_failed;
    _Atomic uint64_t mails_in_clear; // MAIL commands without TLS
    _Atomic uint64_t mails_in_tls;
    _Atomic uint64_t messages; // answered with 250
    _Atomic uint64_t recipients;
    _Atomic uint64_t bytes;
    _Atomic uint64_t duplicates; // an X-Ledger-Id seen before
    _Atomic uint64_t distinct;   // different X-Ledger-Ids
};

struct ph_sink;

struct ph_sink *ph_sink_create(void);
// Before start. NULL, with a message on standard error, when the address can't be listened on.
// `at` with port 0 takes any: `out_port`, which may be NULL.
struct ph_sink_ledger *ph_sink_add(struct ph_sink *sink, const struct ph_sink_behaviour *behaviour,
                                   uint16_t *out_port);
// Before start. Each message that is answered with 250 becomes a line of `file`: the address's
// name, the session's number, how it came to be (clear, full, resumed), and the recipients.
// Borrowed until stop.
void ph_sink_record(struct ph_sink *sink, FILE *file);
void ph_sink_start(struct ph_sink *sink); // its thread
void ph_sink_stop(struct ph_sink *sink);  // and frees all; ledgers are gone with it
// Counts an id in the whole sink, whichever address saw it: how often it was delivered.
uint32_t ph_sink_deliveries_of(struct ph_sink *sink, uint64_t id);
#define PH_SINK_IDS_MAX (UINT64_C(1) << 24)
