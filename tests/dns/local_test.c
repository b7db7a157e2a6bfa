#include <criterion/criterion.h>

#include "dns/local.h"

static struct ph_dns_local *filled(void)
{
    static const char *const lines[] = {
        "contoso.test. MX 10 mx1.contoso.test.",
        "contoso.test. 60 IN MX 20 mx2.contoso.test",
        "mx1.contoso.test. A 192.0.2.1",
        "MX1.contoso.test. AAAA 2001:db8::1",
        "null.test. MX 0 .",
        "alias.contoso.test. CNAME mx1.contoso.test.",
        "loop.test. CNAME loop.test.",
        "a.b.deep.test. TXT \"v=spf1 -all\"",
        "_25._tcp.mx1.contoso.test. TLSA 3 1 1 00ff",
    };
    struct ph_dns_local *local = ph_dns_local_create();
    struct ph_buf error = {0};

    for (size_t i = 0; i < PH_ARRAY_LEN(lines); i++) {
        cr_assert(ph_dns_local_add(local, ph_str_from(lines[i]), &error), "%s: %s", lines[i],
                  ph_buf_cstr(&error));
    }
    return local;
}

Test(local, answers)
{
    static const struct {
        const char *name;
        enum ph_rrtype type;
        bool ours;
        enum ph_resolve_status status;
        size_t bytes;
    } rows[] = {
        {"contoso.test", PH_RRTYPE_MX, true, PH_RESOLVE_OK, 2 * (2 + 2 + 18)},
        {"CONTOSO.test", PH_RRTYPE_A, true, PH_RESOLVE_NODATA, 0},
        {"mx1.contoso.test", PH_RRTYPE_A, true, PH_RESOLVE_OK, 6},
        {"mx1.contoso.test", PH_RRTYPE_AAAA, true, PH_RESOLVE_OK, 18},
        {"mx9.contoso.test", PH_RRTYPE_A, true, PH_RESOLVE_NXDOMAIN, 0},
        {"alias.contoso.test", PH_RRTYPE_A, true, PH_RESOLVE_OK, 6},
        {"loop.test", PH_RRTYPE_A, true, PH_RESOLVE_NODATA, 0},
        {"null.test", PH_RRTYPE_MX, true, PH_RESOLVE_OK, 2 + 3},
        {"b.deep.test", PH_RRTYPE_A, true, PH_RESOLVE_NODATA, 0},
        {"_25._tcp.mx1.contoso.test", PH_RRTYPE_TLSA, true, PH_RESOLVE_OK, 2 + 5},
        {"example.org", PH_RRTYPE_MX, false, PH_RESOLVE_OK, 0},
        {"test", PH_RRTYPE_MX, false, PH_RESOLVE_OK, 0},
    };
    struct ph_dns_local *local = filled();

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_resolve_op op = {.rrtype = rows[i].type};

        ph_str_copy(op.name, sizeof(op.name), ph_str_from(rows[i].name));
        cr_expect_eq(ph_dns_local_answer(local, &op), rows[i].ours, "row %zu", i);
        if (rows[i].ours) {
            cr_expect_eq(op.status, rows[i].status, "row %zu: %d", i, op.status);
            cr_expect_eq(op.rdata.len, rows[i].bytes, "row %zu: %zu", i, op.rdata.len);
        }
        ph_buf_deinit(&op.rdata);
    }
    ph_dns_local_destroy(local);
}

Test(local, lines_that_cannot_be_read)
{
    static const char *const bad[] = {"",
                                      "contoso.test.",
                                      "contoso.test. PTR x.",
                                      "contoso.test. A 192.0.2",
                                      "contoso.test. MX mx1.contoso.test.",
                                      "contoso.test. MX 70000 mx1.contoso.test.",
                                      "contoso.test. AAAA 192.0.2.1",
                                      "contoso.test. TLSA 3 1 1 zz"};
    struct ph_dns_local *local = ph_dns_local_create();

    for (size_t i = 0; i < PH_ARRAY_LEN(bad); i++) {
        struct ph_buf error = {0};

        cr_expect(!ph_dns_local_add(local, ph_str_from(bad[i]), &error), "%s", bad[i]);
        cr_expect(error.len > 0, "%s", bad[i]);
        ph_buf_deinit(&error);
    }
    ph_dns_local_destroy(local);
}
