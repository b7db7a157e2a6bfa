// One destination's account.
#include "queue/site.h"

#include <stdlib.h>

void ph_site_account_init(struct ph_site_account *account, uint16_t home, uint16_t worker_count,
                          uint32_t connections_max, bool ramp)
{
    PH_CHECK(worker_count > 0 && home < worker_count && connections_max > 0);
    *account = (struct ph_site_account){
        .home = home,
        .worker_count = worker_count,
        .connections_max = connections_max,
        .ramp = ramp,
        .window =
            ramp && connections_max > PH_SITE_WINDOW_FIRST ? PH_SITE_WINDOW_FIRST : connections_max,
        .waiters = ph_alloc(worker_count * sizeof(struct ph_site_waiter)),
    };
}

void ph_site_account_deinit(struct ph_site_account *account)
{
    free(account->waiters);
    *account = (struct ph_site_account){0};
}

static void grant(struct ph_site_account *account, uint16_t worker)
{
    account->open++;
    if (worker == account->home) {
        account->open_at_home++;
    }
    account->waiters[worker].backlog = 0;
}

// A cold site, or one with fewer connections than workers, is served by its home alone.
static bool belongs_home(const struct ph_site_account *account, uint16_t worker, uint32_t backlog)
{
    return worker != account->home &&
           (account->connections_max < account->worker_count ||
            (backlog <= PH_SITE_PULL_BACKLOG &&
             (account->open_at_home > 0 || account->open < account->window)));
}

struct ph_site_answer ph_site_account_ask(struct ph_site_account *account, uint16_t worker,
                                          uint32_t backlog, uint64_t now_ms)
{
    struct ph_site_answer answer = {.kind = PH_SITE_WAIT, .epoch = account->epoch};

    PH_CHECK(worker < account->worker_count && backlog > 0);
    if (now_ms < account->backoff_until_ms) {
        answer.kind = PH_SITE_BACKOFF;
        answer.until_ms = account->backoff_until_ms;
    } else if (belongs_home(account, worker, backlog)) {
        answer.kind = PH_SITE_PULL;
        answer.count = backlog;
    } else if (account->open < account->window) {
        answer.kind = PH_SITE_GRANT;
        answer.count = 1;
        grant(account, worker);
    } else {
        account->waiters[worker].backlog = backlog;
    }
    return answer;
}

void ph_site_account_withdraw(struct ph_site_account *account, uint16_t worker)
{
    account->waiters[worker].backlog = 0;
}

void ph_site_account_release(struct ph_site_account *account, uint16_t worker,
                             enum ph_site_release how, const struct ph_reason *reason,
                             const struct ph_retry_intervals *intervals, uint64_t now_ms,
                             uint64_t random)
{
    PH_CHECK(account->open > 0);
    account->open--;
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
        if (account->ramp && account->window > 1) {
            account->window /= 2;
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
        if (account->ramp && account->window > 1) {
            account->window /= 2;
        }
        break;
    }
}

void ph_site_account_connected(struct ph_site_account *account)
{
    account->failure_count = 0;
    account->backoff_until_ms = 0;
    if (account->window < account->connections_max) {
        account->window++;
    }
}

bool ph_site_account_next_grant(struct ph_site_account *account, uint64_t now_ms,
                                uint16_t *out_worker)
{
    if (now_ms < account->backoff_until_ms || account->open >= account->window) {
        return false;
    }
    for (uint16_t i = 0; i < account->worker_count; i++) {
        uint16_t worker = (uint16_t)((account->waiter_next + i) % account->worker_count);

        if (account->waiters[worker].backlog > 0) {
            account->waiter_next = (uint16_t)((worker + 1) % account->worker_count);
            grant(account, worker);
            *out_worker = worker;
            return true;
        }
    }
    return false;
}

void ph_site_account_retry(struct ph_site_account *account)
{
    account->backoff_until_ms = 0;
}
