#include "tls/partner.h"

#include <criterion/criterion.h>

#define NOW_MS UINT64_C(1790000000000)

static const char *own[] = {"mail.partner.test", "partner.test"};
static const char *mail_only[] = {"mail.partner.test"};
static const char *wild[] = {"*.partner.test"};

struct row {
    bool encrypted;
    bool shown;
    const char **names;
    size_t name_count;
    const char *common_name;
    enum ph_reason_kind chain;
    enum ph_revocation revocation;
    int64_t ends_in_s;
    enum ph_reason_kind reason; // NONE: it is the partner
};

Test(partner, is_who_the_mail_says)
{
    static const struct row rows[] = {
        {true, true, own, 2, "", PH_REASON_NONE, PH_REVOCATION_GOOD, 60, PH_REASON_NONE},
        {true, true, own, 2, "", PH_REASON_NONE, PH_REVOCATION_NOT_CHECKED, 60, PH_REASON_NONE},
        {false, false, NULL, 0, "", PH_REASON_NONE, PH_REVOCATION_GOOD, 60,
         PH_REASON_MUTUAL_NOT_REQUESTED},
        {true, false, NULL, 0, "", PH_REASON_NONE, PH_REVOCATION_GOOD, 60,
         PH_REASON_MUTUAL_NOT_REQUESTED},
        {true, true, mail_only, 1, "", PH_REASON_NONE, PH_REVOCATION_GOOD, 60,
         PH_REASON_CERT_NAME_MISMATCH},
        {true, true, wild, 1, "", PH_REASON_NONE, PH_REVOCATION_GOOD, 60,
         PH_REASON_CERT_NAME_MISMATCH},
        {true, true, mail_only, 1, "partner.test", PH_REASON_NONE, PH_REVOCATION_GOOD, 60,
         PH_REASON_CERT_NAME_MISMATCH},
        {true, true, NULL, 0, "partner.test", PH_REASON_NONE, PH_REVOCATION_GOOD, 60,
         PH_REASON_NONE},
        {true, true, own, 2, "", PH_REASON_CERT_UNTRUSTED_ROOT, PH_REVOCATION_GOOD, 60,
         PH_REASON_CERT_UNTRUSTED_ROOT},
        {true, true, own, 2, "", PH_REASON_CERT_USAGE, PH_REVOCATION_GOOD, 60,
         PH_REASON_CERT_USAGE},
        {true, true, own, 2, "", PH_REASON_NONE, PH_REVOCATION_REVOKED, 60, PH_REASON_CERT_REVOKED},
        {true, true, own, 2, "", PH_REASON_NONE, PH_REVOCATION_UNKNOWN, 60,
         PH_REASON_REVOCATION_UNKNOWN},
        {true, true, own, 2, "", PH_REASON_NONE, PH_REVOCATION_GOOD, 0, PH_REASON_CERT_EXPIRED},
        // The chain's trouble is told before the name's.
        {true, true, mail_only, 1, "", PH_REASON_CERT_EXPIRED, PH_REVOCATION_GOOD, 60,
         PH_REASON_CERT_EXPIRED},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        struct ph_chain chain = {.references = 1,
                                 .hash = {1, 2},
                                 .dns_names = row->names,
                                 .dns_name_count = row->name_count,
                                 .has_dns_names = row->name_count > 0};
        struct ph_chain_verdict verdict = {.chain_hash = {1, 2},
                                           .kind = row->chain,
                                           .revocation = row->revocation,
                                           .valid_until_s =
                                               (int64_t)(NOW_MS / 1000) + row->ends_in_s};
        struct ph_tls_facts facts = {
            .session_id = 1, .encrypted = row->encrypted, .chain = row->shown ? &chain : NULL};
        struct ph_reason reason = {0};
        bool is;

        ph_str_copy(chain.common_name, sizeof(chain.common_name), ph_str_from(row->common_name));
        is = ph_partner_judge(&(struct ph_partner_subject){.facts = &facts,
                                                           .verdict = row->shown ? &verdict : NULL,
                                                           .domain = PH_STR("partner.test"),
                                                           .wall_ms = NOW_MS},
                              &reason);
        cr_assert_eq(is, row->reason == PH_REASON_NONE, "row %zu: %s", i, reason.sentence);
        cr_assert_eq(reason.kind, row->reason, "row %zu: %s", i, reason.sentence);
        // What refuses is for the partner to mend: it waits meanwhile.
        cr_assert(is || reason.code / 100 == 4, "row %zu", i);
    }
}
