#include "dns/tlsa.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

// One record: usage, selector, matching and `len` bytes of `fill`.
static void add(struct ph_resolve_op *answer, int usage, int selector, int matching, size_t len,
                int fill)
{
    unsigned char head[5] = {(unsigned char)((len + 3) >> 8), (unsigned char)(len + 3),
                             (unsigned char)usage, (unsigned char)selector,
                             (unsigned char)matching};

    ph_buf_append_bytes(&answer->rdata, head, sizeof(head));
    for (size_t i = 0; i < len; i++) {
        ph_buf_append_char(&answer->rdata, (char)fill);
    }
}

struct row {
    int fields[3];
    size_t len;
};

Test(tlsa, what_can_be_used)
{
    static const struct {
        struct row rows[4];
        size_t count;
        enum ph_tlsa_status status;
        size_t usable;
    } cases[] = {
        {{{{3, 1, 1}, 32}}, 1, PH_TLSA_USABLE, 1},
        {{{{2, 0, 1}, 32}, {{3, 1, 2}, 64}}, 2, PH_TLSA_USABLE, 2},
        {{{{3, 0, 0}, 700}}, 1, PH_TLSA_USABLE, 1},
        // Not for SMTP, or of kinds nobody knows, or of a wrong length.
        {{{{0, 1, 1}, 32}, {{1, 0, 2}, 64}}, 2, PH_TLSA_UNUSABLE, 0},
        {{{{3, 2, 1}, 32}, {{3, 1, 3}, 32}, {{4, 1, 1}, 32}, {{255, 1, 1}, 32}},
         4,
         PH_TLSA_UNUSABLE,
         0},
        {{{{3, 1, 1}, 31}, {{3, 1, 1}, 33}, {{3, 1, 2}, 32}, {{3, 1, 1}, 0}},
         4,
         PH_TLSA_UNUSABLE,
         0},
        {{{{3, 0, 0}, PH_TLSA_DATA_BYTES_MAX}}, 1, PH_TLSA_USABLE, 1},
        {{{{3, 0, 0}, PH_TLSA_DATA_BYTES_MAX + 1}}, 1, PH_TLSA_UNUSABLE, 0},
        {{{{0, 1, 1}, 32}, {{3, 1, 1}, 32}}, 2, PH_TLSA_USABLE, 1},
        // Digest agility: the stronger digest of the same usage and selector stands alone.
        {{{{3, 1, 1}, 32}, {{3, 1, 2}, 64}}, 2, PH_TLSA_USABLE, 1},
        {{{{3, 1, 2}, 64}, {{3, 1, 1}, 32}, {{3, 1, 1}, 32}}, 3, PH_TLSA_USABLE, 1},
        {{{{3, 1, 1}, 32}, {{3, 0, 2}, 64}, {{2, 1, 2}, 64}}, 3, PH_TLSA_USABLE, 3},
        {{{{3, 1, 1}, 32}, {{3, 1, 0}, 91}, {{3, 1, 2}, 64}, {{3, 1, 2}, 64}},
         4,
         PH_TLSA_USABLE,
         3},
        // A stronger one that is unusable silences nobody.
        {{{{3, 1, 1}, 32}, {{3, 1, 2}, 63}}, 2, PH_TLSA_USABLE, 1},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_resolve_op answer = {.status = PH_RESOLVE_OK, .secure = true, .ttl_s = 300};
        struct ph_tlsa tlsa = {0};
        struct ph_reason reason;

        for (size_t j = 0; j < cases[i].count; j++) {
            const struct row *r = &cases[i].rows[j];

            add(&answer, r->fields[0], r->fields[1], r->fields[2], r->len, (int)j);
        }
        ph_tlsa_read(&answer, "mx.test", &tlsa, &reason);
        cr_assert_eq(tlsa.status, cases[i].status, "case %zu: status %d", i, (int)tlsa.status);
        cr_assert_eq(tlsa.record_count, cases[i].usable, "case %zu: %zu usable", i,
                     tlsa.record_count);
        for (size_t j = 0; j < tlsa.record_count; j++) {
            struct ph_str data = ph_tlsa_data(&tlsa, &tlsa.records[j]);

            cr_assert(data.len > 0 && data.data[0] == data.data[data.len - 1], "case %zu", i);
        }
        cr_assert_str_eq(tlsa.base_domain, "mx.test");
        cr_assert_eq(tlsa.ttl_s, 300);
        ph_tlsa_deinit(&tlsa);
        ph_buf_deinit(&answer.rdata);
    }
}

Test(tlsa, answers_that_hold_none)
{
    static const struct {
        enum ph_resolve_status status;
        bool secure;
        enum ph_tlsa_status expected;
        enum ph_reason_kind reason;
    } cases[] = {
        {PH_RESOLVE_NODATA, true, PH_TLSA_NONE, PH_REASON_NONE},
        {PH_RESOLVE_NXDOMAIN, true, PH_TLSA_NONE, PH_REASON_NONE},
        {PH_RESOLVE_OK, false, PH_TLSA_NONE, PH_REASON_NONE}, // nobody vouches for them
        {PH_RESOLVE_SERVFAIL, false, PH_TLSA_FAILED, PH_REASON_DNS_FAILURE},
        {PH_RESOLVE_TIMEOUT, false, PH_TLSA_FAILED, PH_REASON_DNS_FAILURE},
        {PH_RESOLVE_BOGUS, false, PH_TLSA_FAILED, PH_REASON_DNSSEC_BOGUS},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_resolve_op answer = {.status = cases[i].status, .secure = cases[i].secure};
        struct ph_tlsa tlsa = {0};
        struct ph_reason reason = {0};

        add(&answer, 3, 1, 1, 32, 7);
        ph_tlsa_read(&answer, "mx.test", &tlsa, &reason);
        cr_assert_eq(tlsa.status, cases[i].expected, "case %zu", i);
        cr_assert_eq(tlsa.record_count, 0, "case %zu", i);
        cr_assert_eq(reason.kind, cases[i].reason, "case %zu", i);
        ph_tlsa_deinit(&tlsa);
        ph_buf_deinit(&answer.rdata);
    }
}

Test(tlsa, a_cut_answer_is_read_as_far_as_it_goes)
{
    struct ph_resolve_op whole = {.status = PH_RESOLVE_OK, .secure = true};

    add(&whole, 3, 1, 1, 32, 1);
    add(&whole, 3, 1, 1, 32, 2);
    for (size_t len = 0; len <= whole.rdata.len; len++) {
        struct ph_resolve_op answer = {.status = PH_RESOLVE_OK, .secure = true};
        struct ph_tlsa tlsa = {0};
        struct ph_reason reason;

        ph_buf_append_bytes(&answer.rdata, whole.rdata.data, len);
        ph_tlsa_read(&answer, "mx.test", &tlsa, &reason);
        cr_assert_eq(tlsa.record_count, len / 37, "cut at %zu", len);
        ph_tlsa_deinit(&tlsa);
        ph_buf_deinit(&answer.rdata);
    }
    ph_buf_deinit(&whole.rdata);
}

Test(tlsa, names_to_ask)
{
    static const struct {
        const char *a_canonical;
        bool a_secure;
        bool aaaa_secure;
        const char *bases[2];
        bool ask_cname;
    } cases[] = {
        {"", true, true, {"mx.test", NULL}, false},
        {"", true, false, {"mx.test", NULL}, false},
        {"", false, true, {"mx.test", NULL}, false},
        {"", false, false, {NULL, NULL}, false}, // its zone isn't signed: nothing to ask
        {"host.other.test.", true, true, {"host.other.test", "mx.test"}, false},
        {"MX.test.", true, true, {"MX.test", NULL}, false},
        {"host.other.test.", false, false, {NULL, NULL}, true},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_resolve_op a = {.secure = cases[i].a_secure};
        struct ph_resolve_op aaaa = {.secure = cases[i].aaaa_secure};
        struct ph_tlsa_plan plan;
        size_t count = 0;

        ph_str_copy(a.canonical_name, sizeof(a.canonical_name), ph_str_from(cases[i].a_canonical));
        ph_tlsa_plan("mx.test", &aaaa, &a, &plan);
        while (count < 2 && cases[i].bases[count] != NULL) {
            cr_assert_str_eq(plan.bases[count], cases[i].bases[count], "case %zu", i);
            count++;
        }
        cr_assert_eq(plan.base_count, count, "case %zu", i);
        cr_assert_eq(plan.ask_cname, cases[i].ask_cname, "case %zu", i);
    }
}

Test(tlsa, an_alias_into_an_unsigned_zone)
{
    static const struct {
        enum ph_resolve_status status;
        bool secure;
        size_t bases;
    } cases[] = {
        {PH_RESOLVE_OK, true, 1},        {PH_RESOLVE_OK, false, 0},
        {PH_RESOLVE_SERVFAIL, false, 1}, // the TLSA question decides
        {PH_RESOLVE_TIMEOUT, false, 1},  {PH_RESOLVE_BOGUS, false, 1},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_resolve_op none = {.canonical_name = "host.other.test"};
        struct ph_resolve_op cname = {.status = cases[i].status, .secure = cases[i].secure};
        struct ph_tlsa_plan plan;

        ph_tlsa_plan("mx.test", &none, &none, &plan);
        ph_tlsa_plan_cname(&cname, &plan);
        cr_assert_eq(plan.base_count, cases[i].bases, "case %zu", i);
        cr_assert_str_eq(plan.bases[0], "mx.test");
        cr_assert_not(plan.ask_cname);
    }
}

Test(tlsa, the_name_of_the_records)
{
    char name[PH_DNS_NAME_BYTES_MAX];
    char longest[PH_DNS_NAME_BYTES_MAX];

    cr_assert(ph_tlsa_name("mx1.example.org", 25, name));
    cr_assert_str_eq(name, "_25._tcp.mx1.example.org");
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    cr_assert_not(ph_tlsa_name(longest, 25, name));
    longest[sizeof(longest) - 1 - strlen("_25._tcp.")] = '\0';
    cr_assert(ph_tlsa_name(longest, 25, name));
}
