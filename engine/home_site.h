// The home's side of a site: its account (queue/site), asked by the sites of all workers. A
// question within the home is a call; from elsewhere it is mail, and so is the answer.
#pragma once

#include "engine/site.h"

enum ph_mail_site_kind {
    PH_MAIL_SITE_ASK,       // to the home: `count` messages wait here
    PH_MAIL_SITE_RELEASE,   // to the home: a granted connection is closed, or wasn't used
    PH_MAIL_SITE_CONNECTED, // to the home: a connection became usable
    PH_MAIL_SITE_RETRY,     // to the home: an administrator's word
    PH_MAIL_SITE_SLOW,      // to the home: a reply said to slow down
    PH_MAIL_SITE_ANSWER,    // from the home
};

struct ph_mail_site {
    struct ph_mail mail;
    enum ph_mail_site_kind kind;
    struct ph_site_spec *spec; // referenced
    uint32_t count;
    enum ph_site_release how;
    struct ph_site_answer answer;
    struct ph_reason reason; // of a release or of a back-off
};

struct ph_home_site {
    uint8_t key[PH_SITE_KEY_BYTES];
    UT_hash_handle hh;
    struct ph_site_spec *spec;
    struct ph_site_account account;
    struct ph_worker *worker;
    struct ph_timer rate_timer; // for those who wait for ConnectRate
    uint64_t used_ms;
};

// `site` has `backlog` messages (at least one) and would like to connect: ph_site_answered follows,
// at once where the site is at home.
void ph_home_site_ask(struct ph_site *site, uint32_t backlog);
// A connection granted to `site` is over. `reason` may be NULL.
void ph_home_site_release(struct ph_site *site, enum ph_site_release how,
                          const struct ph_reason *reason);
void ph_home_site_connected(struct ph_site *site);
void ph_home_site_retry(struct ph_site *site);
// A reply of BackoffOn: all that have sessions there are told to rest.
void ph_home_site_slow(struct ph_site *site, const struct ph_reason *reason);

// Takes mail of either direction.
void ph_home_site_receive(struct ph_worker *worker, struct ph_mail_site *take_mail);
// Read by nobody: all workers are at rest.
void ph_home_site_discard(struct ph_mail_site *take_mail);
// The account of a site whose home is this worker, for those who look; NULL: none.
const struct ph_site_account *ph_home_site_account(const struct ph_worker *worker,
                                                   const uint8_t key[PH_SITE_KEY_BYTES]);
// Forgets accounts that nobody has used for so long.
void ph_home_sites_sweep(struct ph_worker *worker, uint64_t idle_ms);
void ph_home_sites_destroy_all(struct ph_worker *worker);
