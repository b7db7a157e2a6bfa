// One session to one host of a site: socket, TLS, SMTP client. The state machine of an attempt:
//
//   RESOLVE → CONNECT → GREETING → EHLO → STARTTLS → HANDSHAKE → VERIFY (judge it) → EHLO again
//      ↑                                                             │        → AUTH → OPEN ⇄ gate,
//      └── the next address, while there is one ←── CLOSING ←────────┘                 envelope
//                                                       └→ ENDED
#pragma once

#include "base/wheel.h"
#include "engine/site.h"
#include "smtp/client.h"
#include "tls/session.h"

enum ph_connection_state {
    PH_CONNECTION_RESOLVE,
    PH_CONNECTION_CONNECT,
    PH_CONNECTION_GREETING,
    PH_CONNECTION_EHLO,
    PH_CONNECTION_STARTTLS,
    PH_CONNECTION_HANDSHAKE,
    PH_CONNECTION_VERIFY, // waits for revocation lists
    PH_CONNECTION_EHLO_AGAIN,
    PH_CONNECTION_AUTH,
    PH_CONNECTION_OPEN,
    PH_CONNECTION_QUIT,
    PH_CONNECTION_CLOSING,
};

struct ph_connection;

// Begins an attempt for `dispatch` under a grant. The connection ends by itself, telling its site.
void ph_connection_open(struct ph_site *site, struct ph_dispatch *dispatch);
// Takes what its site has prepared, up to its depth. For the connection's own files.
void ph_connection_fill(struct ph_connection *connection);
// As fill, and sends it: for the site's pump.
void ph_connection_pump(struct ph_connection *connection);
bool ph_connection_usable(const struct ph_connection *connection); // OPEN, with room for more
bool ph_connection_idle(const struct ph_connection *connection);   // OPEN, nothing under way
// Judges one dispatch's policy against this session's facts, now.
PH_MUST_CHECK enum ph_gate_result ph_connection_judge(struct ph_connection *connection,
                                                      struct ph_dispatch *dispatch,
                                                      struct ph_clearance **out_clearance,
                                                      struct ph_reason *out_reason);
// No new messages; ends when what is in flight is done.
void ph_connection_retire(struct ph_connection *connection);
// The worker's revocation lists have changed: an open session that was judged by one of those that
// did is retired. True: it was.
bool ph_connection_end_by_lists(struct ph_connection *connection);
// At once: what is in flight ends as it stands (in doubt where the body's end had gone).
void ph_connection_abort(struct ph_connection *connection, const struct ph_reason *reason);
// What one of the worker's connections waited for is at hand, or can't be had.
void ph_connection_revocation_settled(struct ph_worker *worker, uint64_t ticket);
const char *ph_connection_state_name(const struct ph_connection *connection);

struct ph_connection *ph_connection_next(const struct ph_connection *connection);
