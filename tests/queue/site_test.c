#include "queue/site.h"

#include <criterion/criterion.h>

static const struct ph_retry_intervals intervals = {
    .glitch_count = 4,
    .glitch_ms = 60000,
    .transient_count = 6,
    .transient_ms = 300000,
    .later_ms = 600000,
    .message_ms = 900000,
};

static struct ph_reason down(void)
{
    return ph_reason_make(PH_REASON_CONNECT_REFUSED, "mx1.example.net refused the connection");
}

Test(site, grants_never_exceed_the_limit)
{
    struct ph_site_account account;
    struct ph_site_answer answer;
    uint16_t worker;
    int granted = 0;

    ph_site_account_init(&account,
                         &(struct ph_site_account_options){
                             .home = 0, .worker_count = 4, .connections_max = 10, .ramp = false});
    for (int i = 0; i < 100; i++) {
        granted += ph_site_account_ask(&account, (uint16_t)(i % 4), 1000, 0).kind == PH_SITE_GRANT;
    }
    cr_assert_eq(granted, 10);
    cr_assert_eq(account.open, 10);
    cr_assert_not(ph_site_account_next_grant(&account, 0, &worker, &answer));
    ph_site_account_deinit(&account);
}

Test(site, a_released_connection_goes_to_the_waiting_in_turn)
{
    struct ph_site_account account;
    struct ph_site_answer answer;
    struct ph_reason reason = down();
    uint16_t first;
    uint16_t second;

    ph_site_account_init(&account,
                         &(struct ph_site_account_options){
                             .home = 0, .worker_count = 3, .connections_max = 3, .ramp = false});
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(ph_site_account_ask(&account, 0, 100, 0).kind, PH_SITE_GRANT);
    }
    cr_assert_eq(ph_site_account_ask(&account, 1, 100, 0).kind, PH_SITE_WAIT);
    cr_assert_eq(ph_site_account_ask(&account, 2, 100, 0).kind, PH_SITE_WAIT);
    ph_site_account_release(&account, 0, PH_SITE_RELEASE_GOOD, &reason, &intervals, 0, 0);
    ph_site_account_release(&account, 0, PH_SITE_RELEASE_GOOD, &reason, &intervals, 0, 0);
    cr_assert(ph_site_account_next_grant(&account, 0, &first, &answer));
    cr_assert(ph_site_account_next_grant(&account, 0, &second, &answer));
    cr_assert_neq(first, second);
    cr_assert_not(ph_site_account_next_grant(&account, 0, &first, &answer));
    ph_site_account_deinit(&account);
}

// Once a worker has none left to send, its sessions are to end where others wait for theirs.
Test(site, who_holds_all_is_told_that_others_wait)
{
    struct ph_site_account account;
    struct ph_reason reason = down();
    struct ph_site_answer answer;
    uint16_t worker = 9;

    ph_site_account_init(&account,
                         &(struct ph_site_account_options){
                             .home = 0, .worker_count = 3, .connections_max = 4, .ramp = false});
    for (int i = 0; i < 4; i++) {
        answer = ph_site_account_ask(&account, 0, 100, 0);
        cr_assert(answer.kind == PH_SITE_GRANT && !answer.others_wait);
    }
    cr_expect_not(ph_site_account_next_to_make_room(&account, &worker), "nobody waits");
    cr_assert_eq(ph_site_account_ask(&account, 1, 100, 0).kind, PH_SITE_WAIT);
    cr_assert(ph_site_account_next_to_make_room(&account, &worker));
    cr_expect_eq(worker, 0);
    cr_expect_not(ph_site_account_next_to_make_room(&account, &worker), "it knows");
    // The next grants say how it is now, each to who has the fewest.
    cr_assert_eq(ph_site_account_ask(&account, 0, 100, 0).kind, PH_SITE_WAIT);
    ph_site_account_release(&account, 0, PH_SITE_RELEASE_GOOD, &reason, &intervals, 0, 0);
    ph_site_account_release(&account, 0, PH_SITE_RELEASE_GOOD, &reason, &intervals, 0, 0);
    cr_assert(ph_site_account_next_grant(&account, 0, &worker, &answer));
    cr_expect(worker == 1 && answer.others_wait);
    cr_assert(ph_site_account_next_grant(&account, 0, &worker, &answer));
    cr_expect(worker == 0 && !answer.others_wait);
    cr_expect_not(ph_site_account_next_to_make_room(&account, &worker), "nobody waits any more");
    cr_assert_eq(ph_site_account_ask(&account, 2, 100, 0).kind, PH_SITE_WAIT);
    cr_assert(ph_site_account_next_to_make_room(&account, &worker) && worker == 0);
    cr_expect_not(ph_site_account_next_to_make_room(&account, &worker),
                  "1 was told with its grant");
    ph_site_account_deinit(&account);
}

Test(site, a_cold_site_and_a_narrow_one_are_served_at_home)
{
    struct ph_site_account wide;
    struct ph_site_account narrow;

    ph_site_account_init(&wide,
                         &(struct ph_site_account_options){
                             .home = 0, .worker_count = 2, .connections_max = 20, .ramp = false});
    ph_site_account_init(&narrow,
                         &(struct ph_site_account_options){
                             .home = 0, .worker_count = 2, .connections_max = 1, .ramp = false});
    cr_assert_eq(ph_site_account_ask(&wide, 1, 1, 0).kind, PH_SITE_PULL);
    cr_assert_eq(ph_site_account_ask(&wide, 1, 1000, 0).kind, PH_SITE_GRANT);
    cr_assert_eq(ph_site_account_ask(&narrow, 1, 1000, 0).kind, PH_SITE_PULL);
    cr_assert_eq(ph_site_account_ask(&narrow, 0, 1000, 0).kind, PH_SITE_GRANT);
    ph_site_account_deinit(&wide);
    ph_site_account_deinit(&narrow);
}

Test(site, failures_under_way_together_are_one_failure)
{
    struct ph_site_account account;
    struct ph_reason reason = down();
    struct ph_site_answer answer;

    ph_site_account_init(&account,
                         &(struct ph_site_account_options){
                             .home = 0, .worker_count = 1, .connections_max = 5, .ramp = false});
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(ph_site_account_ask(&account, 0, 9, 1000).kind, PH_SITE_GRANT);
    }
    for (int i = 0; i < 5; i++) {
        ph_site_account_release(&account, 0, PH_SITE_RELEASE_DOWN, &reason, &intervals, 1000, 0);
    }
    cr_assert_eq(account.failure_count, 1);
    cr_assert_eq(account.epoch, 1);
    answer = ph_site_account_ask(&account, 0, 9, 60999);
    cr_assert_eq(answer.kind, PH_SITE_BACKOFF);
    cr_assert_eq(answer.until_ms, 61000);
    cr_assert_eq(ph_site_account_ask(&account, 0, 9, 61000).kind, PH_SITE_GRANT);
    ph_site_account_deinit(&account);
}

Test(site, the_window_opens_with_success_and_halves_with_421)
{
    struct ph_site_account account;
    struct ph_reason reason = down();

    ph_site_account_init(&account,
                         &(struct ph_site_account_options){
                             .home = 0, .worker_count = 1, .connections_max = 20, .ramp = true});
    cr_assert_eq(account.window, PH_SITE_WINDOW_FIRST);
    for (int i = 0; i < 50; i++) {
        ph_site_account_connected(&account);
    }
    cr_assert_eq(account.window, 20);
    cr_assert_eq(ph_site_account_ask(&account, 0, 9, 0).kind, PH_SITE_GRANT);
    ph_site_account_release(&account, 0, PH_SITE_RELEASE_LIMITED, &reason, &intervals, 0, 0);
    cr_assert_eq(account.window, 10);
    ph_site_account_deinit(&account);
}

// As many as may; they succeed.
static uint32_t round_of(struct ph_site_account *account)
{
    uint32_t granted = 0;

    while (ph_site_account_ask(account, 0, 1000, 0).kind == PH_SITE_GRANT) {
        granted++;
    }
    for (uint32_t i = 0; i < granted; i++) {
        ph_site_account_connected(account);
    }
    return granted;
}

Test(site, slow_start)
{
    struct ph_site_account account;
    struct ph_reason reason = down();

    ph_site_account_init(&account,
                         &(struct ph_site_account_options){
                             .home = 0, .worker_count = 1, .connections_max = 100, .ramp = true});
    cr_expect_eq(round_of(&account), 4);
    cr_expect_eq(round_of(&account), 8);
    cr_expect_eq(round_of(&account), 16);
    cr_expect_eq(round_of(&account), 32);
    cr_expect_eq(round_of(&account), 40, "all");
    // One too many: half of them, and from there one more for each that succeeds.
    ph_site_account_release(&account, 0, PH_SITE_RELEASE_LIMITED, &reason, &intervals, 0, 0);
    cr_assert_eq(account.window, 50);
    ph_site_account_connected(&account);
    cr_expect_eq(account.window, 51);
    ph_site_account_deinit(&account);
}

// ConnectRate: what may not connect yet waits, and is granted when its time has come.
Test(site, connections_come_at_the_rate)
{
    struct ph_site_account account;
    struct ph_site_answer answer;
    uint16_t worker;

    ph_site_account_init(&account, &(struct ph_site_account_options){.worker_count = 2,
                                                                     .connections_max = 50,
                                                                     .connect_count = 2,
                                                                     .connect_interval_ms = 1000});
    cr_expect_eq(ph_site_account_ask(&account, 0, 100, 5000).kind, PH_SITE_GRANT);
    cr_expect_eq(ph_site_account_ask(&account, 0, 100, 5000).kind, PH_SITE_WAIT);
    cr_expect_eq(ph_site_account_ask(&account, 1, 100, 5000).kind, PH_SITE_WAIT);
    cr_assert_not(ph_site_account_next_grant(&account, 5200, &worker, &answer));
    cr_expect(ph_site_account_rate_at_ms(&account, 5200) > 5400 &&
              ph_site_account_rate_at_ms(&account, 5200) <= 5520);
    cr_assert(ph_site_account_next_grant(&account, 5520, &worker, &answer));
    cr_assert_not(ph_site_account_next_grant(&account, 5520, &worker, &answer));
    cr_assert(ph_site_account_next_grant(&account, 6100, &worker, &answer));
    cr_expect_eq(ph_site_account_rate_at_ms(&account, 6100), PH_NEVER, "nobody waits");
    cr_expect(account.waiters[0].open == 2 && account.waiters[1].open == 1);
    ph_site_account_deinit(&account);
}

// BackoffOn: it rests, longer each time, until it was quiet for as long; a new connection doesn't
// end that, an administrator does.
Test(site, a_reply_slows_it_for_a_time)
{
    struct ph_site_account account;
    struct ph_reason reason = down();
    uint64_t now = 1000000;
    uint64_t last = 0;

    ph_site_account_init(&account, &(struct ph_site_account_options){
                                       .worker_count = 1, .connections_max = 20, .ramp = false});
    cr_assert_eq(ph_site_account_ask(&account, 0, 100, now).kind, PH_SITE_GRANT);
    for (int i = 0; i < 8; i++) {
        uint64_t rest;

        cr_assert(ph_site_account_slow(&account, &reason, now, 0));
        cr_expect_not(ph_site_account_slow(&account, &reason, now + 1, 0));
        ph_site_account_connected(&account);
        rest = ph_site_account_rests_until_ms(&account) - now;
        cr_expect(rest >= last && rest <= PH_SITE_SLOW_MAX_MS);
        cr_expect_eq(ph_site_account_ask(&account, 0, 100, now + rest - 1).kind, PH_SITE_BACKOFF);
        last = rest;
        now += rest;
    }
    cr_expect_eq(last, PH_SITE_SLOW_MAX_MS);
    cr_expect(account.window <= 5, "%u", account.window);
    now += 2 * PH_SITE_SLOW_MAX_MS;
    cr_assert(ph_site_account_slow(&account, &reason, now, 0));
    cr_expect_eq(ph_site_account_rests_until_ms(&account), now + PH_SITE_SLOW_FIRST_MS);
    ph_site_account_retry(&account);
    cr_expect_eq(ph_site_account_rests_until_ms(&account), 0);
    ph_site_account_deinit(&account);
}

// A message rate is counted at home: nobody else gets a connection.
Test(site, a_site_at_home)
{
    struct ph_site_account account;

    ph_site_account_init(&account,
                         &(struct ph_site_account_options){
                             .worker_count = 2, .home = 1, .connections_max = 20, .at_home = true});
    cr_expect_eq(ph_site_account_ask(&account, 0, 100, 0).kind, PH_SITE_PULL);
    cr_expect_eq(ph_site_account_ask(&account, 1, 100, 0).kind, PH_SITE_GRANT);
    ph_site_account_deinit(&account);
}
