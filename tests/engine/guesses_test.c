#include "engine/guesses.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define SECOND_NS UINT64_C(1000000000)

static struct ph_endpoint at(const char *address)
{
    struct ph_endpoint endpoint;

    cr_assert(ph_endpoint_parse_address(ph_str_from(address), &endpoint));
    return endpoint;
}

Test(guesses, an_address_has_so_many_and_then_one_at_a_time)
{
    struct ph_guesses *guesses = ph_guesses_create(7);
    struct ph_endpoint one = at("192.0.2.1");
    struct ph_endpoint other = at("192.0.2.2");
    uint64_t now_ns = 1000 * SECOND_NS;

    for (unsigned i = 0; i < PH_GUESSES_SOURCE_BURST; i++) {
        cr_expect(ph_guesses_allow(guesses, now_ns, &one, PH_STR("ann")), "%u", i);
        ph_guesses_wrong(guesses, now_ns, &one, PH_STR("ann"));
    }
    cr_expect(!ph_guesses_allow(guesses, now_ns, &one, PH_STR("ann")));
    cr_expect(!ph_guesses_allow(guesses, now_ns, &one, PH_STR("bob")));
    cr_expect(ph_guesses_allow(guesses, now_ns, &other, PH_STR("ann")));
    now_ns += PH_GUESSES_SOURCE_SPACING_S * SECOND_NS;
    cr_expect(ph_guesses_allow(guesses, now_ns, &one, PH_STR("ann")));
    ph_guesses_wrong(guesses, now_ns, &one, PH_STR("ann"));
    cr_expect(!ph_guesses_allow(guesses, now_ns, &one, PH_STR("ann")));
    now_ns += PH_GUESSES_SOURCE_BURST * PH_GUESSES_SOURCE_SPACING_S * SECOND_NS;
    for (unsigned i = 0; i < PH_GUESSES_SOURCE_BURST; i++) {
        cr_expect(ph_guesses_allow(guesses, now_ns, &one, PH_STR("ann")), "%u", i);
        ph_guesses_wrong(guesses, now_ns, &one, PH_STR("ann"));
    }
    cr_expect(!ph_guesses_allow(guesses, now_ns, &one, PH_STR("ann")));
    ph_guesses_destroy(guesses);
}

Test(guesses, a_user_is_guarded_against_many_addresses)
{
    struct ph_guesses *guesses = ph_guesses_create(7);
    unsigned wrong = 0;

    for (unsigned i = 0; i < 1000; i++) {
        char text[32];
        struct ph_endpoint source;

        snprintf(text, sizeof(text), "198.51.%u.%u", i / 250, i % 250);
        source = at(text);
        if (ph_guesses_allow(guesses, 1000 * SECOND_NS, &source, PH_STR("Ann"))) {
            ph_guesses_wrong(guesses, 1000 * SECOND_NS, &source, PH_STR("ann"));
            wrong++;
        }
    }
    cr_expect_eq(wrong, PH_GUESSES_USER_BURST);
    ph_guesses_destroy(guesses);
}

Test(guesses, ipv6_counts_by_network)
{
    struct ph_guesses *guesses = ph_guesses_create(7);
    unsigned wrong = 0;

    for (unsigned i = 0; i < 100; i++) {
        char text[64];
        char user[16];
        struct ph_endpoint source;

        snprintf(text, sizeof(text), "2001:db8:1:2::%x", i);
        snprintf(user, sizeof(user), "u%u", i);
        source = at(text);
        if (ph_guesses_allow(guesses, 1000 * SECOND_NS, &source, ph_str_from(user))) {
            ph_guesses_wrong(guesses, 1000 * SECOND_NS, &source, ph_str_from(user));
            wrong++;
        }
    }
    cr_expect_eq(wrong, PH_GUESSES_SOURCE_BURST);
    ph_guesses_destroy(guesses);
}

// Names without end fill the table, and no more than it.
Test(guesses, memory_is_bounded)
{
    struct ph_guesses *guesses = ph_guesses_create(7);
    struct ph_endpoint one = at("192.0.2.1");

    for (unsigned i = 0; i < 5 * PH_GUESSES_SLOTS; i++) {
        char user[16];

        snprintf(user, sizeof(user), "u%u", i);
        ph_guesses_wrong(guesses, 1000 * SECOND_NS, &one, ph_str_from(user));
    }
    // Whose time is farthest off was kept.
    cr_expect(!ph_guesses_allow(guesses, 1000 * SECOND_NS, &one, PH_STR("x")));
    ph_guesses_destroy(guesses);
}
