// Hosts that wouldn't suit a message come behind those of the same preference.
#include "engine/prospects.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/worker.h"

#define HOSTS 5
#define MS UINT64_C(1000000) // in ns

static struct ph_io io;
static struct ph_worker *worker;
static struct ph_site *site;
static struct ph_dispatch *dispatch;

// Four alike, and one behind them.
static void set_up(void)
{
    static const uint16_t preferences[HOSTS] = {0, 0, 0, 0, 1};

    io.now_ns = 5000 * MS;
    worker = ph_alloc(sizeof(*worker));
    worker->io = &io;
    site = ph_alloc(sizeof(*site));
    site->worker = worker;
    site->spec = ph_alloc(sizeof(*site->spec) + HOSTS * sizeof(site->spec->hosts[0]));
    site->spec->host_count = HOSTS;
    for (size_t i = 0; i < HOSTS; i++) {
        site->spec->hosts[i].preference = preferences[i];
        snprintf(site->spec->hosts[i].name, sizeof(site->spec->hosts[i].name), "mx%zu.test", i);
    }
    dispatch = ph_alloc(sizeof(*dispatch));
    dispatch->policy = &dispatch->own_policy;
    dispatch->own_policy.dane_mode = PH_DANE_OPPORTUNISTIC;
    dispatch->own_policy.version_min = 0x0303;
}

static void tear_down(void)
{
    ph_prospects_deinit(site);
    free(site->spec);
    free(site);
    free(dispatch);
    free(worker);
}

static void saw(size_t host, bool encrypted)
{
    struct ph_tls_facts facts = ph_tls_facts_plaintext(1, false);

    facts.encrypted = encrypted;
    facts.version = encrypted ? 0x0304 : 0;
    ph_prospects_note(site, host, &facts);
}

static void expect(enum ph_tls_level level, const char *wanted)
{
    uint16_t order[HOSTS] = {3, 1, 0, 2, 4}; // as chance had it
    char found[HOSTS + 1] = "";

    dispatch->own_policy.level = level;
    ph_prospects_order(site, dispatch, order, HOSTS);
    for (size_t i = 0; i < HOSTS; i++) {
        found[i] = (char)('0' + order[i]);
    }
    cr_expect_str_eq(found, wanted, "%s", found);
}

TestSuite(prospects, .init = set_up, .fini = tear_down);

Test(prospects, without_knowledge_chance_decides)
{
    expect(PH_TLS_ENCRYPTION_ONLY, "31024");
}

Test(prospects, who_would_be_refused_comes_last_of_his_preference)
{
    saw(3, false);
    saw(0, false);
    saw(1, true);
    saw(4, true);
    expect(PH_TLS_ENCRYPTION_ONLY, "12304");
    expect(PH_TLS_OPPORTUNISTIC, "31024"); // it takes them all
    saw(1, false);
    saw(2, false);
    expect(PH_TLS_ENCRYPTION_ONLY, "31024"); // all alike again, and the one behind stays there
}

Test(prospects, a_host_that_was_mended_is_believed)
{
    saw(3, false);
    expect(PH_TLS_ENCRYPTION_ONLY, "10234");
    saw(3, true);
    expect(PH_TLS_ENCRYPTION_ONLY, "31024");
}

Test(prospects, what_is_old_is_forgotten)
{
    saw(3, false);
    io.now_ns += (PH_PROSPECT_KEPT_MS - 1) * MS;
    expect(PH_TLS_ENCRYPTION_ONLY, "10234");
    io.now_ns += MS;
    expect(PH_TLS_ENCRYPTION_ONLY, "31024");
}

Test(prospects, of_one_host_nothing_is_kept)
{
    site->spec->host_count = 1;
    saw(0, false);
    cr_expect_null(site->prospects);
}
