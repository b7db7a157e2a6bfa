#include "tls/report_record.h"

#include <criterion/criterion.h>
#include <string.h>

static void add_text(struct ph_resolve_op *answer, const char *text)
{
    struct ph_str rest = ph_str_from(text);
    struct ph_buf rdata = {0};
    char head[2];

    while (rest.len > 0) {
        struct ph_str string = ph_str_first(rest, 100);

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

Test(report_record, who_wants_reports)
{
    static const struct {
        const char *texts[3];
        const char *targets; // "m:" mail, "h:" https; NULL: nobody
    } cases[] = {
        {{"v=TLSRPTv1; rua=mailto:reports@example.com"}, "m:reports@example.com "},
        {{"v=TLSRPTv1;rua=https://reporting.example.com/v1/tlsrpt;"},
         "h:https://reporting.example.com/v1/tlsrpt "},
        {{"v=TLSRPTv1; rua=mailto:a@b.example , https://c.example/"},
         "m:a@b.example h:https://c.example/ "},
        {{"v=TLSRPTv1; future=1; rua=MAILTO:a@b.example?subject=x"}, "m:a@b.example "},
        {{"v=TLSRPTv1; rua=mailto:a%2Cb@c.example"}, "m:a,b@c.example "},
        {{"v=spf1 -all", "v=TLSRPTv1; rua=mailto:a@b.example"}, "m:a@b.example "},
        // What can't be used is passed over.
        {{"v=TLSRPTv1; rua=http://a.example/,mailto:a@b.example"}, "m:a@b.example "},
        {{"v=TLSRPTv1; rua=mailto:a@b.example", "v=TLSRPTv1; rua=mailto:c@d.example"}, NULL},
        {{"v=TLSRPTv1; rua=http://a.example/"}, NULL},
        {{"v=TLSRPTv1; rua=mailto:a%0D%0ABcc:x@b.example"}, NULL},
        {{"v=TLSRPTv1; rua=mailto:a%3Cx@b.example"}, NULL},
        {{"v=TLSRPTv1; rua=mailto:a%@b.example"}, NULL},
        {{"v=TLSRPTv1; rua=mailto:nobody"}, NULL},
        {{"v=TLSRPTv1; rua=mailto:@b.example"}, NULL},
        {{"v=TLSRPTv1; rua="}, NULL},
        {{"v=TLSRPTv1;"}, NULL},
        {{"v=TLSRPTv2; rua=mailto:a@b.example"}, NULL},
        {{""}, NULL},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_resolve_op answer = {.status = PH_RESOLVE_OK};
        struct ph_report_targets targets;
        struct ph_buf found = {0};
        bool wanted;

        for (size_t j = 0; j < 3 && cases[i].texts[j] != NULL; j++) {
            add_text(&answer, cases[i].texts[j]);
        }
        wanted = ph_report_record_read(&answer, &targets);
        for (size_t j = 0; j < targets.count; j++) {
            ph_buf_printf(&found, "%c:%s ", targets.target[j].mail ? 'm' : 'h',
                          targets.target[j].to);
        }
        cr_assert_eq(wanted, cases[i].targets != NULL, "case %zu", i);
        if (wanted) {
            cr_assert_str_eq(ph_buf_cstr(&found), cases[i].targets, "case %zu", i);
        }
        ph_buf_deinit(&found);
        ph_buf_deinit(&answer.rdata);
    }
}

Test(report_record, no_more_than_can_be_held)
{
    struct ph_resolve_op answer = {.status = PH_RESOLVE_OK};
    struct ph_report_targets targets;
    struct ph_buf text = {0};

    ph_buf_append(&text, PH_STR("v=TLSRPTv1; rua=mailto:a0@b.example"));
    for (int i = 1; i <= PH_REPORT_TARGETS_MAX; i++) {
        ph_buf_printf(&text, ",mailto:a%d@b.example", i);
    }
    add_text(&answer, ph_buf_cstr(&text));
    cr_assert(ph_report_record_read(&answer, &targets));
    cr_assert_eq(targets.count, PH_REPORT_TARGETS_MAX);
    ph_buf_deinit(&answer.rdata);
    ph_buf_clear(&text);
    ph_buf_append(&text, PH_STR("v=TLSRPTv1; rua=https://a.example/"));
    while (text.len < 16 + PH_REPORT_TARGET_BYTES_MAX) {
        ph_buf_append_char(&text, 'x');
    }
    add_text(&answer, ph_buf_cstr(&text));
    cr_assert_not(ph_report_record_read(&answer, &targets));
    answer.status = PH_RESOLVE_SERVFAIL;
    cr_assert_not(ph_report_record_read(&answer, &targets));
    ph_buf_deinit(&text);
    ph_buf_deinit(&answer.rdata);
}
