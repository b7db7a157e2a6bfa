// One destination's account.
#include "queue/site.h"

#include <stdlib.h>

void ph_site_account_init(struct ph_site_account *account,
                          const struct ph_site_account_options *options)
{
    uint32_t max = options->connections_max;

    PH_CHECK(options->worker_count > 0 && options->home < options->worker_count && max > 0);
    *account = (struct ph_site_account){
        .home = options->home,
        .worker_count = options->worker_count,
        .connections_max = max,
        .ramp = options->ramp,
        .at_home = options->at_home,
        .window = options->ramp && max > PH_SITE_WINDOW_FIRST ? PH_SITE_WINDOW_FIRST : max,
        .threshold = max,
        .waiters = ph_alloc(options->worker_count * sizeof(struct ph_site_waiter)),
    };
    ph_rate_meter_init(&account->connect_rate, options->connect_count,
                       options->connect_interval_ms);
}

void ph_site_account_deinit(struct ph_site_account *account)
{
    free(account->waiters);
    *account = (struct ph_site_account){0};
}

static bool rate_allows(const struct ph_site_account *account, uint64_t now_ms)
{
    return ph_rate_meter_allows(&account->connect_rate, now_ms * PH_NS_PER_MS);
}

bool ph_site_account_waited_for(const struct ph_site_account *account, uint16_t except)
{
    bool any = false;

    for (uint16_t i = 0; i < account->worker_count; i++) {
        any |= i != except && account->waiters[i].backlog > 0;
    }
    return any;
}

static struct ph_site_answer grant(struct ph_site_account *account, uint16_t worker,
                                   uint64_t now_ms)
{
    struct ph_site_answer answer = {.kind = PH_SITE_GRANT,
                                    .count = 1,
                                    .epoch = account->epoch,
                                    .others_wait = ph_site_account_waited_for(account, worker)};

    account->open++;
    account->waiters[worker].open++;
    ph_rate_meter_take(&account->connect_rate, now_ms * PH_NS_PER_MS);
    if (worker == account->home) {
        account->open_at_home++;
    }
    account->waiters[worker].backlog = 0;
    account->waiters[worker].makes_room = answer.others_wait;
    return answer;
}

// A cold site, or one with fewer connections than workers, is served by its home alone.
static bool belongs_home(const struct ph_site_account *account, uint16_t worker, uint32_t backlog)
{
    return worker != account->home &&
           (account->at_home || account->connections_max < account->worker_count ||
            (backlog <= PH_SITE_PULL_BACKLOG &&
             (account->open_at_home > 0 || account->open < account->window)));
}

struct ph_site_answer ph_site_account_ask(struct ph_site_account *account, uint16_t worker,
                                          uint32_t backlog, uint64_t now_ms)
{
    struct ph_site_answer answer = {.kind = PH_SITE_WAIT, .epoch = account->epoch};

    PH_CHECK(worker < account->worker_count && backlog > 0);
    if (now_ms < ph_site_account_rests_until_ms(account)) {
        answer = ph_site_account_rest(account);
    } else if (belongs_home(account, worker, backlog)) {
        answer.kind = PH_SITE_PULL;
        answer.count = backlog;
    } else if (account->open < account->window && rate_allows(account, now_ms)) {
        answer = grant(account, worker, now_ms);
    } else {
        account->waiters[worker].backlog = backlog;
    }
    return answer;
}

void ph_site_account_withdraw(struct ph_site_account *account, uint16_t worker)
{
    account->waiters[worker].backlog = 0;
}

// There were too many. The number that will do is come to slowly.
static void halve(struct ph_site_account *account)
{
    account->window = account->window > 1 ? account->window / 2 : 1;
    account->threshold = account->window;
}

void ph_site_account_release(struct ph_site_account *account, uint16_t worker,
                             enum ph_site_release how, const struct ph_reason *reason,
                             const struct ph_retry_intervals *intervals, uint64_t now_ms,
                             uint64_t random)
{
    PH_CHECK(account->open > 0 && account->waiters[worker].open > 0);
    account->open--;
    account->waiters[worker].open--;
    if (worker == account->home) {
        PH_CHECK(account->open_at_home > 0);
        account->open_at_home--;
    }
    switch (how) {
    case PH_SITE_RELEASE_UNUSED:
    case PH_SITE_RELEASE_GOOD:
        break;
    case PH_SITE_RELEASE_LIMITED:
        account->last_failure = *reason;
        if (account->ramp) {
            halve(account);
        }
        break;
    case PH_SITE_RELEASE_DOWN:
        account->last_failure = *reason;
        // Others that were already under way when the site failed are the same failure.
        if (now_ms >= account->backoff_until_ms) {
            account->failure_count++;
            account->epoch++;
            account->backoff_until_ms = now_ms + ph_retry_delay_ms(intervals, PH_RETRY_CONNECTION,
                                                                   account->failure_count, random);
        }
        if (account->ramp) {
            halve(account);
        }
        break;
    }
}

void ph_site_account_connected(struct ph_site_account *account)
{
    account->failure_count = 0;
    account->backoff_until_ms = 0;
    // Those that were granted together double it, as in RFC 5681's slow start.
    account->window += account->window < account->threshold ? 2 : 1;
    if (account->window > account->connections_max) {
        account->window = account->connections_max;
    }
}

bool ph_site_account_next_grant(struct ph_site_account *account, uint64_t now_ms,
                                uint16_t *out_worker, struct ph_site_answer *out_grant)
{
    struct ph_site_waiter *waiters = account->waiters;
    uint16_t next = account->worker_count;

    if (now_ms < ph_site_account_rests_until_ms(account) || account->open >= account->window ||
        !rate_allows(account, now_ms)) {
        return false;
    }
    // Who has the fewest; of those with as many the next in turn.
    for (uint16_t i = 0; i < account->worker_count; i++) {
        uint16_t worker = (uint16_t)((account->waiter_next + i) % account->worker_count);

        if (waiters[worker].backlog > 0 &&
            (next == account->worker_count || waiters[worker].open < waiters[next].open)) {
            next = worker;
        }
    }
    if (next == account->worker_count) {
        return false;
    }
    account->waiter_next = (uint16_t)((next + 1) % account->worker_count);
    *out_grant = grant(account, next, now_ms);
    *out_worker = next;
    return true;
}

bool ph_site_account_next_to_make_room(struct ph_site_account *account, uint16_t *out_worker)
{
    if (account->open < account->window) {
        return false;
    }
    for (uint16_t i = 0; i < account->worker_count; i++) {
        struct ph_site_waiter *holder = &account->waiters[i];

        if (holder->open > 0 && !holder->makes_room && ph_site_account_waited_for(account, i)) {
            holder->makes_room = true;
            *out_worker = i;
            return true;
        }
    }
    return false;
}

uint64_t ph_site_account_rests_until_ms(const struct ph_site_account *account)
{
    return account->backoff_until_ms > account->slow_until_ms ? account->backoff_until_ms
                                                              : account->slow_until_ms;
}

struct ph_site_answer ph_site_account_rest(const struct ph_site_account *account)
{
    return (struct ph_site_answer){
        .kind = PH_SITE_BACKOFF,
        .until_ms = ph_site_account_rests_until_ms(account),
        .firm = account->slow_until_ms >= account->backoff_until_ms,
        .epoch = account->epoch,
    };
}

uint64_t ph_site_account_rate_at_ms(const struct ph_site_account *account, uint64_t now_ms)
{
    uint64_t at_ns = ph_rate_meter_next_ns(&account->connect_rate, now_ms * PH_NS_PER_MS);

    return ph_site_account_waited_for(account, PH_SITE_NOBODY) && at_ns > 0 &&
                   account->open < account->window
               ? (at_ns + PH_NS_PER_MS - 1) / PH_NS_PER_MS
               : PH_NEVER;
}

static uint64_t slow_ms(uint32_t count)
{
    uint64_t rest_ms = PH_SITE_SLOW_FIRST_MS;

    for (uint32_t i = 1; i < count && rest_ms < PH_SITE_SLOW_MAX_MS; i++) {
        rest_ms *= 2;
    }
    return rest_ms < PH_SITE_SLOW_MAX_MS ? rest_ms : PH_SITE_SLOW_MAX_MS;
}

bool ph_site_account_slow(struct ph_site_account *account, const struct ph_reason *reason,
                          uint64_t now_ms, uint64_t random)
{
    uint64_t rest_ms;

    if (now_ms < account->slow_until_ms) {
        return false; // sessions that were under way tell the same once more
    }
    if (now_ms >= account->slow_until_ms + slow_ms(account->slow_count)) {
        account->slow_count = 0; // it was quiet for long enough
    }
    account->slow_count++;
    rest_ms = slow_ms(account->slow_count);
    account->slow_until_ms = now_ms + rest_ms + random % (rest_ms / 10 + 1);
    account->last_failure = *reason;
    account->epoch++;
    halve(account); // it comes back with few connections, whatever Ramp says
    return true;
}

void ph_site_account_retry(struct ph_site_account *account)
{
    account->backoff_until_ms = 0;
    account->slow_until_ms = 0;
}
