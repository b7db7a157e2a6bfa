#include "tls/mta_sts.h"

#include <criterion/criterion.h>
#include <string.h>

// Each text is one record, of character-strings of at most `part` bytes.
static void add_text(struct ph_resolve_op *answer, const char *text, size_t part)
{
    struct ph_str rest = ph_str_from(text);
    struct ph_buf rdata = {0};
    char head[2];

    while (rest.len > 0) {
        struct ph_str string = ph_str_first(rest, part);

        ph_buf_append_char(&rdata, (char)string.len);
        ph_buf_append(&rdata, string);
        rest = ph_str_after(rest, string.len);
    }
    head[0] = (char)(rdata.len >> 8);
    head[1] = (char)rdata.len;
    ph_buf_append_bytes(&answer->rdata, head, 2);
    ph_buf_append(&answer->rdata, ph_buf_str(&rdata));
    ph_buf_deinit(&rdata);
}

Test(mta_sts, the_record)
{
    static const struct {
        const char *texts[3];
        const char *id; // NULL: none
    } cases[] = {
        {{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
        {{"v=STSv1;id=a1"}, "a1"},
        {{"v=STSv1 ; new=1; id=7 ;"}, "7"},
        {{"v=spf1 -all", "v=STSv1; id=1;"}, "1"},
        {{"v=STSv1; id=abcdefghijklmnopqrstuvwxyz012345"}, "abcdefghijklmnopqrstuvwxyz012345"},
        {{"v=STSv1; id=1;", "v=STSv1; id=2;"}, NULL}, // two: as if there were none
        {{"v=STSv1; id=abcdefghijklmnopqrstuvwxyz0123456"}, NULL},
        {{"v=STSv1; id="}, NULL},
        {{"v=STSv1; id=a-b"}, NULL},
        {{"v=STSv1;"}, NULL},
        {{"v=STSv2; id=1"}, NULL},
        {{"V=stsv1; id=1"}, NULL},
        {{"id=1; v=STSv1"}, NULL},
        {{"v=STSv1x; id=1"}, NULL},
        {{""}, NULL},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        for (size_t part = 1; part < 256; part += 25) {
            struct ph_resolve_op answer = {.status = PH_RESOLVE_OK};
            char id[PH_STS_ID_BYTES_MAX + 1] = "";
            enum ph_sts_record found;

            for (size_t j = 0; j < 3 && cases[i].texts[j] != NULL; j++) {
                add_text(&answer, cases[i].texts[j], part);
            }
            found = ph_sts_record_read(&answer, id);
            cr_assert_eq(found, cases[i].id != NULL ? PH_STS_RECORD_FOUND : PH_STS_RECORD_NONE,
                         "case %zu", i);
            cr_assert_str_eq(id, cases[i].id != NULL ? cases[i].id : "", "case %zu", i);
            ph_buf_deinit(&answer.rdata);
        }
    }
}

Test(mta_sts, answers_without_a_record)
{
    static const struct {
        enum ph_resolve_status status;
        enum ph_sts_record found;
    } cases[] = {
        {PH_RESOLVE_NXDOMAIN, PH_STS_RECORD_NONE},   {PH_RESOLVE_NODATA, PH_STS_RECORD_NONE},
        {PH_RESOLVE_SERVFAIL, PH_STS_RECORD_FAILED}, {PH_RESOLVE_TIMEOUT, PH_STS_RECORD_FAILED},
        {PH_RESOLVE_BOGUS, PH_STS_RECORD_FAILED},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_resolve_op answer = {.status = cases[i].status};
        char id[PH_STS_ID_BYTES_MAX + 1];

        cr_assert_eq(ph_sts_record_read(&answer, id), cases[i].found, "case %zu", i);
    }
}

static struct ph_sts_policy *parse(const char *text, struct ph_buf *error)
{
    return ph_sts_policy_parse(PH_STR("example.org"), PH_STR("1"), 1000, ph_str_from(text), error);
}

Test(mta_sts, policies)
{
    static const struct {
        const char *text;
        enum ph_sts_mode mode;
        uint32_t max_age_s;
        size_t mx_count;
    } cases[] = {
        {"version: STSv1\r\nmode: enforce\r\nmx: mx1.example.org\r\nmx: *.example.net\r\n"
         "max_age: 604800\r\n",
         PH_STS_ENFORCE, 604800, 2},
        {"version: STSv1\nmode: testing\nmx: mx1.example.org\nmax_age: 86400", PH_STS_TESTING,
         86400, 1},
        {"version:STSv1\nmax_age:0\nmode:none\n", PH_STS_NONE, 0, 0},
        // Of what stands twice the first counts; what is unknown is passed over.
        {"version: STSv1\nmode: enforce\nmode: none\nmax_age: 7\nmax_age: x\nmx: a.example\n"
         "future: 1:2\n\n",
         PH_STS_ENFORCE, 7, 1},
        {"version: STSv1\nmode: enforce\nmax_age: 9999999999\nmx: a.example", PH_STS_ENFORCE,
         PH_STS_MAX_AGE_S, 1},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_buf error = {0};
        struct ph_sts_policy *policy = parse(cases[i].text, &error);

        cr_assert_not_null(policy, "case %zu: %s", i, ph_buf_cstr(&error));
        cr_assert_eq(policy->mode, cases[i].mode, "case %zu", i);
        cr_assert_eq(policy->max_age_s, cases[i].max_age_s, "case %zu", i);
        cr_assert_eq(policy->mx_count, cases[i].mx_count, "case %zu", i);
        cr_assert_eq(ph_sts_policy_expires_ms(policy), 1000 + policy->max_age_s * UINT64_C(1000));
        cr_assert(ph_str_eq(ph_buf_str(&policy->text), ph_str_from(cases[i].text)));
        ph_sts_policy_release(policy);
    }
}

Test(mta_sts, what_is_no_policy)
{
    static const char *const texts[] = {
        "",
        "<html>404</html>",
        "version: STSv1\nmode: enforce\nmx: a.example\n",
        "version: STSv1\nmx: a.example\nmax_age: 1\n",
        "mode: enforce\nmx: a.example\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmax_age: 1\n",
        "version: STSv2\nmode: enforce\nmx: a.example\nmax_age: 1\n",
        "version: STSv1\nmode: Enforce\nmx: a.example\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: -1\n",
        "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 12345678901\n",
        "version: STSv1\nmode: enforce\nmx: *\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmx: a.*.example\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmx: *a.example\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmx: .example\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmx: a..example\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmx: \nmax_age: 1\n",
        "version: STSv1\nmode enforce\nmx: a.example\nmax_age: 1\n",
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(texts); i++) {
        struct ph_buf error = {0};

        cr_assert_null(parse(texts[i], &error), "text %zu", i);
        cr_assert(error.len > 0, "text %zu", i);
        ph_buf_deinit(&error);
    }
}

Test(mta_sts, no_more_than_can_be_held)
{
    struct ph_buf text = {0};
    struct ph_buf error = {0};
    struct ph_sts_policy *policy;

    ph_buf_append(&text, PH_STR("version: STSv1\nmode: enforce\nmax_age: 1\n"));
    for (int i = 0; i < PH_STS_MX_MAX; i++) {
        ph_buf_printf(&text, "mx: mx%d.example\n", i);
    }
    policy = parse(ph_buf_cstr(&text), &error);
    cr_assert_not_null(policy);
    cr_assert(ph_sts_mx_matches(policy, PH_STR("mx255.example")));
    ph_sts_policy_release(policy);
    ph_buf_append(&text, PH_STR("mx: one.more.example\n"));
    cr_assert_null(parse(ph_buf_cstr(&text), &error));
    ph_buf_clear(&text);
    ph_buf_append(&text, PH_STR("version: STSv1\nmode: none\nmax_age: 1\nx: "));
    while (text.len < PH_STS_POLICY_BYTES_MAX) {
        ph_buf_append_char(&text, 'x');
    }
    policy = parse(ph_buf_cstr(&text), &error);
    cr_assert_not_null(policy);
    ph_sts_policy_release(policy);
    ph_buf_append_char(&text, 'x');
    cr_assert_null(parse(ph_buf_cstr(&text), &error));
    ph_buf_deinit(&text);
    ph_buf_deinit(&error);
}

Test(mta_sts, hosts)
{
    static const struct {
        const char *pattern;
        const char *host;
        bool matches;
    } cases[] = {
        {"mx1.example.org", "mx1.example.org", true},
        {"mx1.example.org", "MX1.Example.ORG", true},
        {"mx1.example.org", "mx2.example.org", false},
        {"*.example.org", "mx1.example.org", true},
        {"*.example.org", "example.org", false},
        {"*.example.org", "a.mx1.example.org", false},
        {"*.example.org", "notexample.org", false},
        {"example.org", "mx.example.org", false},
        {"*.example.org", "", false},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_buf text = {0};
        struct ph_buf error = {0};
        struct ph_sts_policy *policy;

        ph_buf_printf(&text, "version: STSv1\nmode: enforce\nmax_age: 1\nmx: %s\n",
                      cases[i].pattern);
        policy = parse(ph_buf_cstr(&text), &error);
        cr_assert_not_null(policy);
        cr_assert_eq(ph_sts_mx_matches(policy, ph_str_from(cases[i].host)), cases[i].matches,
                     "case %zu", i);
        ph_sts_policy_release(ph_sts_policy_retain(policy));
        ph_sts_policy_release(policy);
        ph_buf_deinit(&text);
    }
    ph_sts_policy_release(ph_sts_policy_retain(NULL));
}
