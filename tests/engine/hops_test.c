// Several smart hosts: whose policy counts at which host.
#include "engine/hops.h"

#include <criterion/criterion.h>
#include <signal.h>

#include "base/check.h"
#include "engine/dispatch.h"

#define NOW_MS UINT64_C(1790000000000)

static struct ph_sts_policy *publish(const char *mode)
{
    struct ph_buf text = {0};
    struct ph_buf error = {0};
    struct ph_sts_policy *policy;

    ph_buf_printf(&text, "version: STSv1\nmode: %s\nmx: *.relay.test\nmax_age: 86400\n", mode);
    policy = ph_sts_policy_parse(PH_STR("relay.test"), PH_STR("1"), 1, ph_buf_str(&text), &error);
    cr_assert_not_null(policy);
    ph_buf_deinit(&text);
    return policy;
}

// Four smart hosts: one without a policy, then enforce with an exception, testing, enforce.
static struct ph_hops *make(void)
{
    struct ph_hops *hops = ph_hops_create(4, 4);

    hops->hops[0].name = PH_STR("a.relay.test");
    hops->hops[1] = (struct ph_hop){PH_STR("b.relay.test"), publish("enforce"), NOW_MS + 1};
    hops->hops[2] = (struct ph_hop){PH_STR("c.relay.test"), publish("testing"), 0};
    hops->hops[3] = (struct ph_hop){PH_STR("d.relay.test"), publish("enforce"), 0};
    for (size_t i = 0; i < 4; i++) {
        static const uint64_t behind[] = {1, 2, 1 | 2 | 4, 1 | 2 | 4 | 8};

        hops->hosts[i].name[0] = (char)('0' + i);
        hops->hosts[i].hops = behind[i];
    }
    return hops;
}

Test(hops, the_one_that_demands_most_counts)
{
    static const char *const names[] = {"a.relay.test", "b.relay.test", "c.relay.test",
                                        "d.relay.test"};
    struct ph_hops *hops = make();

    for (size_t i = 0; i < PH_ARRAY_LEN(names); i++) {
        cr_expect(
            ph_str_eq(ph_hops_of(hops, hops->hosts[i].name, NOW_MS)->name, ph_str_from(names[i])),
            "host %zu", i);
    }
    // Its exception is over: it demands as much as the other, and comes first.
    cr_expect(ph_str_eq(ph_hops_of(hops, "3", NOW_MS + 1)->name, PH_STR("b.relay.test")));
    ph_hops_release(hops);
}

Test(hops, a_dispatch_has_the_policy_of_where_it_goes)
{
    struct ph_dispatch dispatch = {.dane_mode = PH_DANE_OPPORTUNISTIC, .hops = make()};
    struct ph_tls_policy *policy = &dispatch.own_policy;

    ph_hops_face(&dispatch, "1", NOW_MS); // an exception
    cr_expect(policy->sts == NULL && policy->destination_waived);
    cr_expect_eq(policy->dane_mode, PH_DANE_NONE);
    ph_hops_face(&dispatch, "3", NOW_MS); // what was passed over elsewhere counts here
    cr_expect_eq(policy->sts, dispatch.hops->hops[3].sts);
    cr_expect_eq(policy->dane_mode, PH_DANE_OPPORTUNISTIC);
    cr_expect(!policy->destination_waived);
    ph_hops_face(&dispatch, "0", NOW_MS);
    cr_expect(policy->sts == NULL && dispatch.sts == NULL && !policy->destination_waived);
    dispatch.waived_by_sender = true;
    dispatch.dane_mode = PH_DANE_MANDATORY;
    ph_hops_face(&dispatch, "3", NOW_MS);
    cr_expect(policy->sts == NULL && policy->destination_waived);
    cr_expect_eq(policy->dane_mode, PH_DANE_MANDATORY, "the administrator's word stands");
    ph_hops_release(dispatch.hops);
}

Test(hops, a_host_behind_none_of_them_is_a_mistake_of_ours, .signal = SIGABRT)
{
    struct ph_hops *hops = make();

    (void)ph_hops_of(hops, "9", NOW_MS);
}
