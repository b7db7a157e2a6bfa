// A site as one worker sees it: what is prepared for it, the sessions open to it, and the
// conversation with its account at the home worker.
#pragma once

#include <uthash.h>

#include "base/wheel.h"
#include "engine/dispatch.h"
#include "engine/prospects.h"
#include "queue/flow.h"
#include "queue/site.h"

struct ph_worker;
struct ph_connection;
struct ph_dialogue_watch;
TAILQ_HEAD(ph_connection_list, ph_connection);
TAILQ_HEAD(ph_queue_list, ph_queue);

#define PH_SITE_SHALLOW_MS UINT64_C(86400000) // a peer that mistreated a BDAT: depth 1 for so long

// While the sites are reported on: what a TLS policy holds back from one.
struct ph_site_held {
    uint64_t recipients;
    uint64_t queues;
    uint64_t next_retry_ms; // the earliest
};

struct ph_site {
    uint8_t key[PH_SITE_KEY_BYTES];
    UT_hash_handle hh;
    struct ph_worker *worker;
    struct ph_site_spec *spec;
    struct ph_queue_list active; // queues with ready recipients
    struct ph_turns turns;       // of their senders, where there are several queues
    struct ph_dispatch_list prepared;
    uint32_t prepared_count;
    uint32_t preparing_count;
    struct ph_connection_list connections;
    uint32_t connection_count;
    uint32_t opening_count; // of them not usable yet
    uint32_t queue_count;   // queues routed here
    bool asked;             // an answer of the home is awaited
    bool others_wait;       // sites of other workers do, for connections: idle ones are theirs
    uint32_t pull_count;    // messages the home asked for
    uint32_t credit_count;  // connections granted and not begun
    uint64_t backoff_until_ms;
    uint64_t slow_until_ms;            // also where a connection succeeds meanwhile
    struct ph_rate_meter message_rate; // at home, where MessageRate is given
    struct ph_timer rate_timer;
    uint32_t ambiguous_count;    // messages under way that may be second deliveries
    struct ph_reason last_error; // NONE: none since the last success
    struct ph_timer backoff_timer;
    bool dirty;
    TAILQ_ENTRY(ph_site) dirty_link;
    uint64_t used_ms;
    uint32_t next_host_seed;
    struct ph_prospect *prospects; // by host; NULL: nothing is known, or there is one host
    // Pinned to depth 1 until then: a peer that mistreated a BDAT.
    uint64_t shallow_until_ms;
    uint64_t delivered_count;
    struct ph_site_held held;
    struct ph_buf last_failure; // what was said on the last session that didn't come to be open
    struct ph_dialogue_watch *watch; // NULL: nobody watches
};

// The worker's site for `spec`; made when missing. NULL: memory is short.
struct ph_site *ph_site_find_or_create(struct ph_worker *worker, struct ph_site_spec *spec);
// A queue of this site has ready recipients; it has none, or leaves.
void ph_site_activate(struct ph_site *site, struct ph_queue *queue);
void ph_site_deactivate(struct ph_site *site, struct ph_queue *queue);
void ph_site_destroy(struct ph_site *site); // nothing open, prepared or active
bool ph_site_idle(const struct ph_site *site);

// Something changed: the site is looked at before this turn ends.
void ph_site_mark(struct ph_site *site);
// Forms, prepares, sends home, draws, connects: as much as is possible now.
void ph_site_pump(struct ph_site *site);
// A dispatch is ready to be carried out here.
void ph_site_offer(struct ph_site *site, struct ph_dispatch *dispatch, bool front);
// Fewer than `wanted` are prepared, and more will be in a moment, as they are of a long queue.
bool ph_site_more_soon(const struct ph_site *site, uint32_t wanted);
// Sessions without work are to go: nothing waits here, and others have use for their connections.
bool ph_site_makes_room(const struct ph_site *site);
// The next prepared dispatch that `connection` may carry, with the clearance for it; NULL: none.
struct ph_dispatch *ph_site_draw(struct ph_site *site, struct ph_connection *connection,
                                 struct ph_clearance **out_clearance);

// A connection under a grant has ended, or has become usable.
void ph_site_connection_ended(struct ph_site *site, enum ph_site_release how,
                              const struct ph_reason *reason);
void ph_site_connection_usable(struct ph_site *site);
// One prepared message goes back to its queue.
void ph_site_return(struct ph_site *site, struct ph_dispatch *dispatch);
// Every message that waits here goes back to its queue (shutdown, reload, a back-off).
void ph_site_return_prepared(struct ph_site *site);
// An administrator's word.
void ph_site_retry(struct ph_site *site);

// The home's answer to what this site asked. `reason` (may be NULL) is a back-off's.
void ph_site_answered(struct ph_site *site, const struct ph_site_answer *answer,
                      const struct ph_reason *reason);
bool ph_site_resting(const struct ph_site *site); // backing off
uint64_t ph_site_rests_until_ms(const struct ph_site *site);
// A reply on one of its sessions said to slow down (BackoffOn).
void ph_site_slow(struct ph_site *site, const struct ph_reason *reason);
// A message that was drawn, or for which a connection was opened, is over with.
void ph_site_message_over(struct ph_site *site, const struct ph_dispatch *dispatch);
