// The home's side of a site.
#include "engine/home_site.h"

#include <stdlib.h>
#include <string.h>

#include "engine/worker.h"

#define PH_HOME_CROWDED_MS 1000 // MaxOutboundConnections is reached: asked again after this; ours

static void on_rate(struct ph_timer *timer);

// MaxConnections is for each source address.
static uint32_t connections_max(const struct ph_site_spec *spec)
{
    uint64_t most =
        (uint64_t)spec->limits.max_connections * ph_send_connector_source_factor(spec->connector);

    return most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
}

static struct ph_home_site *find_or_create(struct ph_worker *worker, struct ph_site_spec *spec)
{
    struct ph_home_site *home;

    PH_CHECK(spec->home == worker->index);
    HASH_FIND(hh, worker->home_sites, spec->key, PH_SITE_KEY_BYTES, home);
    if (home == NULL) {
        home = ph_alloc(sizeof(*home));
        memcpy(home->key, spec->key, PH_SITE_KEY_BYTES);
        home->spec = spec;
        ph_site_spec_retain(spec);
        home->worker = worker;
        ph_timer_init(&home->rate_timer, on_rate, home);
        ph_site_account_init(&home->account,
                             &(struct ph_site_account_options){
                                 .home = worker->index,
                                 .worker_count = ph_engine_worker_count(worker->engine),
                                 .connections_max = connections_max(spec),
                                 .ramp = spec->connector->ramp,
                                 .at_home = spec->limits.message_rate.count > 0,
                                 .connect_count = spec->limits.connect_rate.count,
                                 .connect_interval_ms = spec->limits.connect_rate.interval_ms,
                             });
        HASH_ADD(hh, worker->home_sites, key, PH_SITE_KEY_BYTES, home);
    }
    home->used_ms = ph_worker_now_ms(worker);
    return home;
}

static void post(struct ph_worker *worker, uint16_t to, const struct ph_mail_site *letter,
                 struct ph_site_spec *spec)
{
    struct ph_mail_site *mail = ph_alloc(sizeof(*mail));

    *mail = *letter;
    mail->mail.kind = PH_MAIL_SITE;
    mail->mail.from = worker->index;
    mail->spec = spec;
    ph_site_spec_retain(spec);
    ph_mailbox_post(&ph_worker_at(worker, to)->mailbox, &mail->mail);
}

// The answer goes to the site at `to`.
static void answer(struct ph_worker *worker, struct ph_home_site *home, uint16_t to,
                   const struct ph_site_answer *given)
{
    const struct ph_reason *reason = &home->account.last_failure;

    if (to == worker->index) {
        struct ph_site *site;

        HASH_FIND(hh, worker->sites, home->key, PH_SITE_KEY_BYTES, site);
        PH_CHECK(site != NULL); // one that asked or has connections stays
        ph_site_answered(site, given, reason);
    } else if (given->kind != PH_SITE_WAIT) {
        struct ph_mail_site letter = {.kind = PH_MAIL_SITE_ANSWER, .answer = *given};

        if (given->kind == PH_SITE_BACKOFF) {
            letter.reason = *reason;
        }
        post(worker, to, &letter, home->spec);
    }
}

static void wait_for_rate(struct ph_home_site *home);

// Sessions that have no work would keep those of other workers out until their time is over.
static void ask_for_room(struct ph_worker *worker, struct ph_home_site *home)
{
    static const struct ph_site_answer make_room = {.kind = PH_SITE_MAKE_ROOM};
    uint16_t holder;

    while (ph_site_account_next_to_make_room(&home->account, &holder)) {
        answer(worker, home, holder, &make_room);
    }
}

static void asked(struct ph_worker *worker, struct ph_site_spec *spec, uint16_t from,
                  uint32_t backlog)
{
    struct ph_home_site *home = find_or_create(worker, spec);
    uint64_t now_ms = ph_worker_now_ms(worker);
    struct ph_site_answer given;

    if (ph_worker_connections_spent(worker)) {
        given = (struct ph_site_answer){.kind = PH_SITE_BACKOFF,
                                        .until_ms = now_ms + PH_HOME_CROWDED_MS};
    } else {
        given = ph_site_account_ask(&home->account, from, backlog, now_ms);
    }
    answer(worker, home, from, &given);
    if (given.kind == PH_SITE_WAIT) {
        wait_for_rate(home);
        ask_for_room(worker, home);
    }
}

// Who waits is granted what is free, or told of the back-off.
static void serve_waiters(struct ph_worker *worker, struct ph_home_site *home)
{
    uint64_t now_ms = ph_worker_now_ms(worker);
    struct ph_site_account *account = &home->account;
    struct ph_site_answer grant;
    uint16_t to;

    if (now_ms < ph_site_account_rests_until_ms(account)) {
        struct ph_site_answer rest = ph_site_account_rest(account);

        for (uint16_t i = 0; i < account->worker_count; i++) {
            if (account->waiters[i].backlog > 0) {
                ph_site_account_withdraw(account, i);
                answer(worker, home, i, &rest);
            }
        }
    }
    while (ph_site_account_next_grant(account, now_ms, &to, &grant)) {
        answer(worker, home, to, &grant);
    }
    wait_for_rate(home);
}

// Those who wait for nothing but ConnectRate are served when its time has come.
static void wait_for_rate(struct ph_home_site *home)
{
    struct ph_worker *worker = home->worker;
    uint64_t now_ms = ph_worker_now_ms(worker);
    uint64_t at_ms = ph_site_account_rate_at_ms(&home->account, now_ms);

    if (at_ms != PH_NEVER) {
        ph_wheel_set(&worker->wheel, &home->rate_timer,
                     worker->io->now_ns + (at_ms > now_ms ? at_ms - now_ms : 0) * PH_NS_PER_MS);
    }
}

static void on_rate(struct ph_timer *timer)
{
    struct ph_home_site *home = timer->owner;

    serve_waiters(home->worker, home);
}

static void released(struct ph_worker *worker, struct ph_site_spec *spec, uint16_t from,
                     enum ph_site_release how, const struct ph_reason *reason)
{
    struct ph_home_site *home = find_or_create(worker, spec);
    struct ph_site_account *account = &home->account;
    const struct ph_retry_series *series = &spec->config->retry;
    struct ph_retry_intervals intervals = ph_worker_retry_intervals(series);

    ph_site_account_release(&home->account, from, how, reason, &intervals, ph_worker_now_ms(worker),
                            ph_worker_random(worker));
    // Those at other workers learn of it when they ask; the one who failed is told at once, and so
    // doesn't ask with the messages it holds.
    if (how == PH_SITE_RELEASE_DOWN) {
        struct ph_site_answer rest = ph_site_account_rest(account);

        ph_site_account_withdraw(&home->account, from);
        answer(worker, home, from, &rest);
    }
    serve_waiters(worker, home);
}

static void connected(struct ph_worker *worker, struct ph_site_spec *spec)
{
    struct ph_home_site *home = find_or_create(worker, spec);

    ph_site_account_connected(&home->account);
    serve_waiters(worker, home);
}

// All that have sessions open, so that they send no more over them.
static void slowed(struct ph_worker *worker, struct ph_site_spec *spec,
                   const struct ph_reason *reason)
{
    struct ph_home_site *home = find_or_create(worker, spec);
    struct ph_site_account *account = &home->account;

    if (ph_site_account_slow(account, reason, ph_worker_now_ms(worker), ph_worker_random(worker))) {
        struct ph_site_answer rest = ph_site_account_rest(account);

        for (uint16_t i = 0; i < account->worker_count; i++) {
            if (account->waiters[i].open > 0 || account->waiters[i].backlog > 0) {
                ph_site_account_withdraw(account, i);
                answer(worker, home, i, &rest);
            }
        }
    }
}

static void retried(struct ph_worker *worker, struct ph_site_spec *spec)
{
    struct ph_home_site *home = find_or_create(worker, spec);

    ph_site_account_retry(&home->account);
    serve_waiters(worker, home);
}

void ph_home_site_ask(struct ph_site *site, uint32_t backlog)
{
    struct ph_worker *worker = site->worker;

    if (site->spec->home == worker->index) {
        asked(worker, site->spec, worker->index, backlog);
    } else {
        struct ph_mail_site letter = {.kind = PH_MAIL_SITE_ASK, .count = backlog};

        post(worker, site->spec->home, &letter, site->spec);
    }
}

void ph_home_site_release(struct ph_site *site, enum ph_site_release how,
                          const struct ph_reason *reason)
{
    struct ph_worker *worker = site->worker;
    struct ph_reason none = {0};

    if (site->spec->home == worker->index) {
        released(worker, site->spec, worker->index, how, reason != NULL ? reason : &none);
    } else {
        struct ph_mail_site letter = {
            .kind = PH_MAIL_SITE_RELEASE, .how = how, .reason = reason != NULL ? *reason : none};

        post(worker, site->spec->home, &letter, site->spec);
    }
}

void ph_home_site_connected(struct ph_site *site)
{
    struct ph_worker *worker = site->worker;

    if (site->spec->home == worker->index) {
        connected(worker, site->spec);
    } else {
        struct ph_mail_site letter = {.kind = PH_MAIL_SITE_CONNECTED};

        post(worker, site->spec->home, &letter, site->spec);
    }
}

void ph_home_site_retry(struct ph_site *site)
{
    struct ph_worker *worker = site->worker;

    if (site->spec->home == worker->index) {
        retried(worker, site->spec);
    } else {
        struct ph_mail_site letter = {.kind = PH_MAIL_SITE_RETRY};

        post(worker, site->spec->home, &letter, site->spec);
    }
}

void ph_home_site_slow(struct ph_site *site, const struct ph_reason *reason)
{
    struct ph_worker *worker = site->worker;

    if (site->spec->home == worker->index) {
        slowed(worker, site->spec, reason);
    } else {
        struct ph_mail_site letter = {.kind = PH_MAIL_SITE_SLOW, .reason = *reason};

        post(worker, site->spec->home, &letter, site->spec);
    }
}

void ph_home_site_receive(struct ph_worker *worker, struct ph_mail_site *mail)
{
    struct ph_site *site;

    switch (mail->kind) {
    case PH_MAIL_SITE_ASK:
        asked(worker, mail->spec, mail->mail.from, mail->count);
        break;
    case PH_MAIL_SITE_RELEASE:
        released(worker, mail->spec, mail->mail.from, mail->how, &mail->reason);
        break;
    case PH_MAIL_SITE_CONNECTED:
        connected(worker, mail->spec);
        break;
    case PH_MAIL_SITE_RETRY:
        retried(worker, mail->spec);
        break;
    case PH_MAIL_SITE_SLOW:
        slowed(worker, mail->spec, &mail->reason);
        break;
    case PH_MAIL_SITE_ANSWER:
        site = ph_site_find_or_create(worker, mail->spec);
        PH_CHECK(site != NULL);
        ph_site_answered(site, &mail->answer, &mail->reason);
        break;
    }
    ph_home_site_discard(mail);
}

void ph_home_site_discard(struct ph_mail_site *take_mail)
{
    ph_site_spec_release(take_mail->spec);
    free(take_mail);
}

const struct ph_site_account *ph_home_site_account(const struct ph_worker *worker,
                                                   const uint8_t key[PH_SITE_KEY_BYTES])
{
    struct ph_home_site *home;

    HASH_FIND(hh, worker->home_sites, key, PH_SITE_KEY_BYTES, home);
    return home != NULL ? &home->account : NULL;
}

static void destroy(struct ph_worker *worker, struct ph_home_site *home)
{
    HASH_DEL(worker->home_sites, home);
    ph_wheel_cancel(&worker->wheel, &home->rate_timer);
    ph_site_account_deinit(&home->account);
    ph_site_spec_release(home->spec);
    free(home);
}

static bool in_use(const struct ph_home_site *home)
{
    return home->account.open > 0 || ph_site_account_waited_for(&home->account, PH_SITE_NOBODY);
}

void ph_home_sites_sweep(struct ph_worker *worker, uint64_t idle_ms)
{
    uint64_t now_ms = ph_worker_now_ms(worker);
    struct ph_home_site *home;
    struct ph_home_site *next;

    HASH_ITER(hh, worker->home_sites, home, next)
    {
        if (!in_use(home) && now_ms >= ph_site_account_rests_until_ms(&home->account) &&
            ph_rate_meter_allows(&home->account.connect_rate, now_ms * PH_NS_PER_MS) &&
            now_ms - home->used_ms >= idle_ms) {
            destroy(worker, home);
        }
    }
}

void ph_home_sites_destroy_all(struct ph_worker *worker)
{
    struct ph_home_site *home;
    struct ph_home_site *next;

    HASH_ITER(hh, worker->home_sites, home, next)
    {
        destroy(worker, home);
    }
}
