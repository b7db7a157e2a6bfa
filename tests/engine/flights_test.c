// What is learned of hosts' handshakes: for how long, and of how many.
#include "engine/flights.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "engine/worker.h"

#define KEM 0x11ec
#define P256 0x0017
#define MS UINT64_C(1000000) // in ns

static struct ph_io io;
static struct ph_worker *worker;

static void set_up(void)
{
    io.now_ns = 5000 * MS;
    worker = ph_alloc(sizeof(*worker));
    worker->io = &io;
}

static void tear_down(void)
{
    ph_flights_destroy_all(worker);
    free(worker);
}

static struct ph_endpoint host(uint16_t number)
{
    return (struct ph_endpoint){.family = PH_FAMILY_IPV4,
                                .port = 25,
                                .bytes = {10, 0, (uint8_t)(number >> 8), (uint8_t)number}};
}

static void shake(uint16_t number, uint16_t group, bool retried)
{
    struct ph_endpoint at = host(number);

    ph_flights_succeeded(worker, &at,
                         &(struct ph_tls_facts){.group_id = group, .hello_retried = retried});
}

static struct ph_flight of(uint16_t number)
{
    struct ph_endpoint at = host(number);

    return ph_flights_of(worker, &at);
}

TestSuite(flights, .init = set_up, .fini = tear_down);

Test(flights, who_asks_for_a_group_is_offered_it)
{
    shake(1, P256, false); // nothing to remember
    cr_expect_eq(of(1).key_share, 0);
    shake(1, KEM, true);
    cr_expect_eq(of(1).key_share, KEM);
    cr_expect_eq(of(2).key_share, 0);
    shake(1, P256, true); // it has another mind now
    cr_expect_eq(of(1).key_share, P256);
    cr_expect_not(of(1).small);
}

Test(flights, the_port_belongs_to_it)
{
    struct ph_endpoint at = host(1);

    shake(1, KEM, true);
    at.port = 587;
    cr_expect_eq(ph_flights_of(worker, &at).key_share, 0);
}

Test(flights, what_is_used_stays_known_and_what_is_not_is_forgotten)
{
    shake(1, KEM, true);
    shake(2, KEM, true);
    io.now_ns += (PH_FLIGHT_KEPT_MS - 1) * MS;
    cr_expect_eq(of(2).key_share, KEM);
    shake(1, KEM, false);
    io.now_ns += MS;
    cr_expect_eq(of(1).key_share, KEM);
    cr_expect_eq(of(2).key_share, 0);
}

Test(flights, a_host_that_takes_no_long_hello_is_tried_again_after_a_day)
{
    struct ph_endpoint at = host(1);

    shake(1, KEM, true);
    ph_flights_failed(worker, &at);
    cr_expect(of(1).small);
    cr_expect_eq(of(1).key_share, 0);
    io.now_ns += (PH_FLIGHT_KEPT_MS - 1) * MS;
    shake(1, P256, true); // doesn't make it longer
    cr_expect(of(1).small);
    cr_expect_eq(of(1).key_share, P256);
    io.now_ns += MS;
    cr_expect_not(of(1).small);
}

Test(flights, the_oldest_makes_room)
{
    for (uint32_t i = 0; i <= PH_FLIGHTS_MAX; i++) {
        shake((uint16_t)i, KEM, true);
    }
    cr_expect_eq(of(0).key_share, 0);
    cr_expect_eq(of(1).key_share, KEM);
    cr_expect_eq(of(PH_FLIGHTS_MAX).key_share, KEM);
}
