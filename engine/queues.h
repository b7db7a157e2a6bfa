// Queues: next-hop domain × connector. A policy refusal or a DNS failure backs off a queue, never
// the site it shares with others.
//
//   NEW → RESOLVING → ROUTED ⇄ (work flows to the site)
//    ↑        └──────────┴──→ RETRY (a time and a reason) ──┐
//    └──────────────────────────────────────────────────────┘
#pragma once

#include <uthash.h>

#include "base/io.h"
#include "base/wheel.h"
#include "config/snapshot.h"
#include "engine/site.h"
#include "queue/flow.h"

enum ph_queue_state {
    PH_QUEUE_NEW,
    PH_QUEUE_RESOLVING,
    PH_QUEUE_ROUTED,
    PH_QUEUE_RETRY,
};

#define PH_QUEUE_KEY_BYTES_MAX 512 // connector name, NUL, domain

struct ph_lookup;

struct ph_queue {
    UT_hash_handle hh;
    char *key; // connector name, NUL, domain
    size_t key_len;
    struct ph_worker *worker;
    struct ph_config *config; // referenced
    const struct ph_send_connector *connector;
    struct ph_str domain;      // A-labels, in `key`
    struct ph_sts_policy *sts; // referenced; NULL: none in force
    struct ph_hops *hops; // referenced; in the place of `sts` where there are several smart hosts
    uint64_t
        waived_until_ms; // wall clock: until then what the destination publishes is passed over
    struct ph_tls_policy policy; // with what the destination publishes, as of the last look
    enum ph_queue_state state;
    uint32_t index; // in the worker's table: what a recipient holds
    struct ph_ready ready;
    uint32_t deferred_count; // of its recipients in the due heap
    uint32_t dispatch_count;
    uint32_t unsuited_count; // of them prepared, and no open session is good enough for them
    uint32_t failure_count;  // consecutive refusals and DNS failures
    uint64_t next_retry_ms;
    uint64_t last_retry_ms;
    struct ph_reason last_error;
    struct ph_timer retry_timer;
    struct ph_site *site;         // when ROUTED
    struct ph_site_spec *held_at; // referenced: where it was refused, while it waits for that
    struct ph_crls_asked lists;   // what refused it while it waits: another may let it pass
    bool active;                  // in the site's list
    bool unroutable;              // refused by the configuration: nothing of it is ever sent
    bool failing;                 // `last_error` is for ever: what is ready fails, some each turn
    bool look_again;              // what is being found out may be of yesterday: then once more
    bool obsolete;                // replaced by a new configuration: ends with its last dispatch
    struct ph_queue *successor;   // an obsolete one's, while its recipients are routed anew
    TAILQ_ENTRY(ph_queue) active_link;
    struct ph_lookup *lookup; // while RESOLVING
    uint64_t routed_until_ms; // MX answer's life
    uint64_t used_ms;
};

// The queue that carries mail for `domain` by the worker's configuration, made when missing; one
// without a connector where none matches. `size` of the message. NULL: refused for ever,
// `out_reason` says why.
PH_MUST_CHECK struct ph_queue *ph_queues_route(struct ph_worker *worker, struct ph_str domain,
                                               uint64_t size, struct ph_reason *out_reason);
// The same for mail that waives the destination's policy: it doesn't wait behind mail that is held
// by it. (Routed anew by a new configuration or after a restart, it joins the others.)
PH_MUST_CHECK struct ph_queue *ph_queues_route_apart(struct ph_worker *worker, struct ph_str domain,
                                                     uint64_t size, struct ph_reason *out_reason);
// The queue of what `reason` refuses for ever: all that joins it fails.
struct ph_queue *ph_queues_unroutable(struct ph_worker *worker, struct ph_str domain,
                                      const struct ph_reason *reason);
// ph_queues_route, or the queue of what is refused for ever.
struct ph_queue *ph_queues_route_or_refuse(struct ph_worker *worker, struct ph_str domain,
                                           uint64_t size);
// The queue itself, or where its mail of this size belongs now if it is obsolete.
struct ph_queue *ph_queues_current(struct ph_queue *queue, uint64_t size);
// A recipient (place UNROUTED) joins the ready of its queue, or waits there until it is due.
void ph_queues_add(struct ph_queue *queue, uint32_t recipient);
bool ph_queues_held(const struct ph_queue *queue); // suspended as a whole (engine/holds)
void ph_queues_defer(struct ph_queue *queue, uint32_t recipient, uint64_t due_ms);
// Taken out of whatever list it is in: place UNROUTED.
void ph_queues_remove(struct ph_worker *worker, uint32_t recipient);
// Those whose time has come are ready again. True: there may be more (so many are looked at).
bool ph_queues_wake_due(struct ph_worker *worker);
struct ph_queue *ph_queues_at(const struct ph_worker *worker, uint32_t index);

// Back to the head of its queue, as if it had not been taken.
void ph_queues_untake(struct ph_queue *queue, uint32_t recipient);
// Work is there: resolves, or activates the queue at its site.
void ph_queue_kick(struct ph_queue *queue);
// A policy refusal or DNS failure: waits by its series.
void ph_queue_backoff(struct ph_queue *queue, const struct ph_reason *reason);
void ph_queue_succeeded(struct ph_queue *queue);
// It waits because of a TLS policy: a state of its own.
bool ph_queue_tls_held(const struct ph_queue *queue);
void ph_queue_retry_now(struct ph_queue *queue);
// It was refused by these revocation lists (none: not by any): it is tried again once one of them
// is another.
void ph_queue_await_lists(struct ph_queue *queue, const struct ph_crls_asked *lists);
// What it waited for has come. It is tried again soon: `nth` of those released together, so that
// they don't all come at once.
void ph_queue_release(struct ph_queue *queue, unsigned nth);
// The worker's revocation lists have changed. How many queues are released by that.
unsigned ph_queues_release_by_lists(struct ph_worker *worker);
// Fails everything in it for ever (null MX, no such domain).
void ph_queue_fail_all(struct ph_queue *queue, const struct ph_reason *reason);

// What `domain` publishes may have changed: its queues are routed anew, and tried now.
void ph_queues_look_again(struct ph_worker *worker, struct ph_str domain);
// A new configuration: every waiting recipient is routed again.
void ph_queues_reroute(struct ph_worker *worker);
void ph_queues_sweep(struct ph_worker *worker, uint64_t idle_ms);
void ph_queues_destroy_all(struct ph_worker *worker);

// One message fewer is under way for it; an obsolete one ends with the last.
void ph_queue_dispatch_over(struct ph_queue *queue);

// engine/queue_route: asks DNS where the queue's mail goes; ph_queue_routed or ph_queue_backoff
// follow.
void ph_queue_resolve(struct ph_queue *queue);
// Whose MTA-STS policy counts, and whose exceptions: the next hop's name. Empty: nobody's, or that
// of several smart hosts, each for itself.
struct ph_str ph_queue_policy_domain(const struct ph_queue *queue);
// Does what `domain` publishes matter for its mail?
bool ph_queue_goes_by(const struct ph_queue *queue, struct ph_str domain);
void ph_queue_abandon_lookup(struct ph_queue *queue);
// The answer; takes the spec. Valid for so long.
void ph_queue_routed(struct ph_queue *queue, struct ph_site_spec *take_spec, uint64_t valid_ms);
