// One destination's account, kept by its home worker: who may connect, how many, and when not.
// Pure: times come in, decisions go out. Grants end when their socket is closed, never by time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "base/reason.h"
#include "queue/rate.h"
#include "queue/retry.h"

#define PH_WORKERS_MAX 256        // ours
#define PH_SITE_NOBODY UINT16_MAX // no worker
#define PH_SITE_PULL_BACKLOG 4    // so few messages are pulled home rather than given a connection
#define PH_SITE_WINDOW_FIRST 4    // connections before the first has succeeded (Ramp)

// A reply of BackoffOn: the site rests so long, twice as long each time until it was quiet for as
// long again. Ours.
#define PH_SITE_SLOW_FIRST_MS (UINT64_C(60) * 1000)
#define PH_SITE_SLOW_MAX_MS (UINT64_C(30) * 60 * 1000)

struct ph_site_waiter {
    uint32_t backlog; // messages it said it has; 0: it doesn't wait
    uint32_t open;    // connections granted to it and not yet released
    bool makes_room;  // it was told that others wait
};

struct ph_site_account {
    uint16_t home;
    uint16_t worker_count;
    uint32_t connections_max; // MaxConnections in force
    bool ramp;
    uint32_t window;    // connections allowed now; ≤ connections_max
    uint32_t threshold; // below it the window doubles, from there on it grows by one at a time
    uint32_t open;      // granted and not yet released, all workers
    uint32_t open_at_home;
    uint32_t failure_count;    // consecutive connection failures
    uint64_t backoff_until_ms; // 0: none
    uint32_t slow_count;       // times in a row that a reply said so
    uint64_t slow_until_ms;    // 0: never
    struct ph_rate_meter connect_rate;
    bool at_home;   // carried by its home alone: a message rate is counted there
    uint32_t epoch; // rises with each back-off
    struct ph_reason last_failure;
    struct ph_site_waiter *waiters; // [worker_count]
    uint16_t waiter_next;           // whose turn it is
};

enum ph_site_answer_kind {
    PH_SITE_GRANT,     // one connection
    PH_SITE_PULL,      // send up to `count` messages to the home
    PH_SITE_WAIT,      // an answer comes when a connection is released
    PH_SITE_BACKOFF,   // not before `until_ms`
    PH_SITE_MAKE_ROOM, // nobody asked: others wait for a connection, those without work are to go
};

struct ph_site_answer {
    enum ph_site_answer_kind kind;
    uint32_t count;
    uint64_t until_ms;
    bool firm;        // BACKOFF: also where a connection succeeds meanwhile
    bool others_wait; // GRANT: as in MAKE_ROOM
    uint32_t epoch;
};

struct ph_site_account_options {
    uint16_t home;
    uint16_t worker_count;
    uint32_t connections_max;
    bool ramp;
    bool at_home;
    uint64_t connect_count; // ConnectRate; 0: off
    uint64_t connect_interval_ms;
};
void ph_site_account_init(struct ph_site_account *account,
                          const struct ph_site_account_options *options);
void ph_site_account_deinit(struct ph_site_account *account);

// `worker` has `backlog` messages and would like to connect.
struct ph_site_answer ph_site_account_ask(struct ph_site_account *account, uint16_t worker,
                                          uint32_t backlog, uint64_t now_ms);
// `worker` doesn't want one any more.
void ph_site_account_withdraw(struct ph_site_account *account, uint16_t worker);

enum ph_site_release {
    PH_SITE_RELEASE_UNUSED,  // never connected, for no fault of the site
    PH_SITE_RELEASE_GOOD,    // it carried something, or could have
    PH_SITE_RELEASE_LIMITED, // 421 and the like: fewer connections
    PH_SITE_RELEASE_DOWN,    // no host could be reached: back off
};
// A connection granted to `worker` is closed. `random` is for the jitter.
void ph_site_account_release(struct ph_site_account *account, uint16_t worker,
                             enum ph_site_release how, const struct ph_reason *reason,
                             const struct ph_retry_intervals *intervals, uint64_t now_ms,
                             uint64_t random);
// A reply said to slow down: the site rests. False: it is resting for that already.
bool ph_site_account_slow(struct ph_site_account *account, const struct ph_reason *reason,
                          uint64_t now_ms, uint64_t random);
// The answer of one that rests.
struct ph_site_answer ph_site_account_rest(const struct ph_site_account *account);
uint64_t ph_site_account_rests_until_ms(const struct ph_site_account *account); // 0: it doesn't
// When one that waits for ConnectRate alone may be granted a connection; PH_NEVER: none does.
uint64_t ph_site_account_rate_at_ms(const struct ph_site_account *account, uint64_t now_ms);
// A connection has become usable: the window opens, failures are forgotten.
void ph_site_account_connected(struct ph_site_account *account);
// A worker other than `except` waits for a connection.
bool ph_site_account_waited_for(const struct ph_site_account *account, uint16_t except);
// The next waiting worker that may have a connection now, with its grant counted; false: none.
PH_MUST_CHECK bool ph_site_account_next_grant(struct ph_site_account *account, uint64_t now_ms,
                                              uint16_t *out_worker,
                                              struct ph_site_answer *out_grant);
// A worker that holds connections while others wait for one, and hasn't been told so; false: none.
PH_MUST_CHECK bool ph_site_account_next_to_make_room(struct ph_site_account *account,
                                                     uint16_t *out_worker);
// An administrator's word: try now.
void ph_site_account_retry(struct ph_site_account *account);
