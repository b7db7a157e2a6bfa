#include "dns/mx.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const struct ph_str own[] = {{"out1.example.net", 16}};

// "10 mx1.contoso.test" → one record; "" is the root.
static void add_record(struct ph_resolve_op *answer, uint16_t preference, const char *name)
{
    char wire[300] = {0};
    size_t len = 2;
    struct ph_str rest = ph_str_from(name);
    struct ph_str label;
    char head[2];

    wire[0] = (char)(preference >> 8);
    wire[1] = (char)(preference & 0xff);
    while (ph_str_cut(&rest, '.', &label)) {
        wire[len++] = (char)label.len;
        memcpy(wire + len, label.data, label.len);
        len += label.len;
    }
    wire[len++] = 0;
    head[0] = (char)(len >> 8);
    head[1] = (char)(len & 0xff);
    ph_buf_append_bytes(&answer->rdata, head, 2);
    ph_buf_append_bytes(&answer->rdata, wire, len);
}

struct record {
    uint16_t preference;
    const char *name;
};

Test(mx, answers_and_what_follows)
{
    static const struct {
        enum ph_resolve_status status;
        struct record records[4];
        size_t count;
        enum ph_reason_kind reason; // NONE: found
        const char *hosts;
    } rows[] = {
        {PH_RESOLVE_OK,
         {{20, "b.test"}, {10, "MX1.Contoso.test"}, {10, "a.test"}},
         3,
         PH_REASON_NONE,
         "a.test mx1.contoso.test b.test "},
        {PH_RESOLVE_OK, {{20, "a.test"}, {10, "A.test"}}, 2, PH_REASON_NONE, "a.test "},
        {PH_RESOLVE_NODATA, {{0, NULL}}, 0, PH_REASON_NONE, "contoso.test "},
        {PH_RESOLVE_NXDOMAIN, {{0, NULL}}, 0, PH_REASON_DNS_NO_DOMAIN, ""},
        {PH_RESOLVE_SERVFAIL, {{0, NULL}}, 0, PH_REASON_DNS_FAILURE, ""},
        {PH_RESOLVE_TIMEOUT, {{0, NULL}}, 0, PH_REASON_DNS_FAILURE, ""},
        {PH_RESOLVE_BOGUS, {{0, NULL}}, 0, PH_REASON_DNSSEC_BOGUS, ""},
        {PH_RESOLVE_OK, {{0, ""}}, 1, PH_REASON_DNS_NULL_MX, ""},
        {PH_RESOLVE_OK, {{0, ""}, {10, "a.test"}}, 2, PH_REASON_DNS_FAILURE, ""},
        {PH_RESOLVE_OK, {{10, "bad name.test"}, {20, "a.test"}}, 2, PH_REASON_NONE, "a.test "},
        {PH_RESOLVE_OK, {{10, "x\r\n.test"}}, 1, PH_REASON_DNS_FAILURE, ""},
        {PH_RESOLVE_OK, {{10, "127.0.0.1"}}, 1, PH_REASON_DNS_FAILURE, ""},
        {PH_RESOLVE_OK, {{10, "127.0.0.1"}, {20, "a.1.test"}}, 2, PH_REASON_NONE, "a.1.test "},
        {PH_RESOLVE_OK,
         {{5, "a.test"}, {10, "OUT1.example.net"}, {10, "b.test"}, {20, "c.test"}},
         4,
         PH_REASON_NONE,
         "a.test "},
        {PH_RESOLVE_OK, {{10, "out1.example.net"}, {20, "c.test"}}, 2, PH_REASON_DNS_MX_LOOP, ""},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_resolve_op answer = {.name = "contoso.test", .status = rows[i].status};
        struct ph_reason reason = {0};
        static struct ph_mx_hosts hosts;
        char joined[500] = "";
        enum ph_mx_result result;

        for (size_t r = 0; r < rows[i].count; r++) {
            add_record(&answer, rows[i].records[r].preference, rows[i].records[r].name);
        }
        result = ph_mx_read(&answer, own, 1, &hosts, &reason);
        cr_assert_eq(result == PH_MX_FOUND, rows[i].reason == PH_REASON_NONE, "row %zu", i);
        cr_assert_eq(reason.kind, rows[i].reason, "row %zu: %s", i, ph_reason_token(reason.kind));
        for (size_t h = 0; result == PH_MX_FOUND && h < hosts.count; h++) {
            size_t used = strlen(joined);

            snprintf(joined + used, sizeof(joined) - used, "%s ", hosts.hosts[h].name);
        }
        cr_assert_str_eq(joined, rows[i].hosts, "row %zu", i);
        ph_buf_deinit(&answer.rdata);
    }
}

Test(mx, of_too_many_hosts_the_best_are_kept)
{
    struct ph_resolve_op answer = {.name = "contoso.test", .status = PH_RESOLVE_OK};
    struct ph_reason reason;
    static struct ph_mx_hosts hosts;

    for (uint16_t i = 0; i < 200; i++) {
        char name[32];

        snprintf(name, sizeof(name), "mx%u.test", i);
        add_record(&answer, (uint16_t)(1000 - i), name);
    }
    cr_assert_eq(ph_mx_read(&answer, own, 1, &hosts, &reason), PH_MX_FOUND);
    cr_assert_eq(hosts.count, PH_MX_HOSTS_MAX);
    cr_assert_str_eq(hosts.hosts[0].name, "mx199.test");
    cr_assert_eq(hosts.hosts[PH_MX_HOSTS_MAX - 1].preference, 1000 - 199 + 63);
    ph_buf_deinit(&answer.rdata);
}

// Whatever bytes a resolver hands over: no crash, no name with an odd byte.
Test(mx, any_bytes)
{
    uint64_t seed = 99;

    for (int round = 0; round < 50000; round++) {
        struct ph_resolve_op answer = {.name = "contoso.test", .status = PH_RESOLVE_OK};
        struct ph_reason reason;
        static struct ph_mx_hosts hosts;
        char bytes[64];

        for (size_t i = 0; i < sizeof(bytes); i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            bytes[i] = (char)((seed >> 40) % ((round & 1) ? 256 : 24));
        }
        ph_buf_append_bytes(&answer.rdata, bytes, (size_t)round % sizeof(bytes));
        if (ph_mx_read(&answer, own, 1, &hosts, &reason) == PH_MX_FOUND) {
            for (size_t h = 0; h < hosts.count; h++) {
                const char *allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_.";

                cr_assert_eq(strspn(hosts.hosts[h].name, allowed), strlen(hosts.hosts[h].name));
            }
        }
        ph_buf_deinit(&answer.rdata);
    }
}
