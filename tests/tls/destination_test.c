// The gate on what destinations publish: DANE, MTA-STS, and REQUIRETLS's need of a trusted name.
#include <criterion/criterion.h>
#include <string.h>

#include "tls/facts.h"
#include "tls/gate.h"
#include "tls/mta_sts.h"

#define TRUST_ID 7
#define NOW_MS UINT64_C(1790000000000)
#define NOW_S ((int64_t)(NOW_MS / 1000))

static const char *host_name[] = {"mx1.contoso.com"};
static const char *domain_name[] = {"contoso.com"};
static const char *base_name[] = {"canonical.example"};
static const char *other_name[] = {"relay.example.net"};

enum tls {
    PLAIN, // STARTTLS isn't offered
    OFFERED,
    TLS,
};

struct row {
    int line;
    enum ph_tls_level level;
    enum ph_dane_mode mode;
    enum ph_tlsa_status published;
    enum tls tls;
    enum ph_dane_match match;
    const char **names;
    enum ph_reason_kind chain;
    bool accept_dane;
    bool mx_insecure;
    bool requiretls;
    const char *sts; // text of the policy, or NULL
    enum ph_reason_kind reason;
};

#define OPP PH_TLS_OPPORTUNISTIC
#define CRT PH_TLS_CERTIFICATE_VALIDATION
#define DOM PH_TLS_DOMAIN_VALIDATION
#define MAND PH_DANE_MANDATORY
#define TRY PH_DANE_OPPORTUNISTIC
#define OFF PH_DANE_NONE
#define USABLE PH_TLSA_USABLE
#define UNUSABLE PH_TLSA_UNUSABLE
#define NOBODY PH_TLSA_NONE
#define SELF PH_REASON_CERT_SELF_SIGNED
#define GOOD PH_REASON_NONE
#define STS(mode, mx) "version: STSv1\nmode: " mode "\nmx: " mx "\nmax_age: 86400\n"

struct fixture {
    struct ph_chain chain;
    struct ph_chain_verdict verdict;
    struct ph_dane_verdict dane;
    struct ph_tls_facts facts;
    struct ph_tlsa tlsa;
    struct ph_sts_policy *sts;
    struct ph_tls_policy policy;
    struct ph_gate_subject subject;
};

static void make(struct fixture *f, const struct row *r)
{
    struct ph_buf error = {0};

    *f = (struct fixture){
        .chain = {.references = 1,
                  .hash = {1},
                  .dns_names = r->names,
                  .dns_name_count = 1,
                  .has_dns_names = true},
        .verdict = {.chain_hash = {1},
                    .trust_id = TRUST_ID,
                    .kind = r->chain,
                    .valid_until_s = INT64_MAX},
        .dane = {.chain_hash = {1}, .match = r->match, .valid_until_s = NOW_S + 1},
        .facts = {.session_id = 42,
                  .encrypted = r->tls == TLS,
                  .starttls_offered = r->tls != PLAIN,
                  .version = r->tls == TLS ? 0x0304 : 0},
        .tlsa = {.status = r->published, .base_domain = "canonical.example"},
        .policy = {.level = r->level,
                   .trust_id = TRUST_ID,
                   .version_min = 0x0303,
                   .fallback = PH_TLS_FALLBACK_PLAINTEXT,
                   .dane_mode = r->mode,
                   .accept_dane = r->accept_dane,
                   .mx_secure = !r->mx_insecure,
                   .requiretls = r->requiretls},
    };
    if (r->sts != NULL) {
        f->sts = ph_sts_policy_parse(PH_STR("contoso.com"), PH_STR("1"), NOW_MS,
                                     ph_str_from(r->sts), &error);
        cr_assert_not_null(f->sts, "line %d: %s", r->line, ph_buf_cstr(&error));
        f->policy.sts = f->sts;
    }
    f->facts.chain = r->tls == TLS ? &f->chain : NULL;
    f->subject = (struct ph_gate_subject){
        .facts = &f->facts,
        .verdict = r->tls == TLS ? &f->verdict : NULL,
        .tlsa = &f->tlsa,
        .dane = r->tls == TLS ? &f->dane : NULL,
        .connector = PH_STR("contoso"),
        .recipient_domain = PH_STR("contoso.com"),
        .host = PH_STR("mx1.contoso.com"),
        .address = PH_STR("192.0.2.7"),
        .peer_offers_requiretls = true,
        .wall_ms = NOW_MS,
    };
}

static enum ph_reason_kind judge(struct fixture *f, struct ph_reason *out_reason)
{
    struct ph_clearance *clearance = NULL;

    *out_reason = (struct ph_reason){0};
    if (ph_gate_judge(&f->policy, &f->subject, PH_CLEARANCE_ENVELOPE, &clearance, out_reason) ==
        PH_GATE_CLEARED) {
        cr_assert(ph_clearance_spend(clearance, PH_CLEARANCE_ENVELOPE, 42));
        return PH_REASON_NONE;
    }
    cr_assert_null(clearance);
    return out_reason->kind;
}

static void check(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct fixture f;
        struct ph_reason reason;
        enum ph_reason_kind kind;

        make(&f, &rows[i]);
        kind = judge(&f, &reason);
        cr_assert_eq(kind, rows[i].reason, "line %d: %s, expected %s (%s)", rows[i].line,
                     ph_reason_token(kind), ph_reason_token(rows[i].reason), reason.sentence);
        ph_sts_policy_release(f.sts);
    }
}

#define L .line = __LINE__

Test(destination, dane)
{
    static const struct row rows[] = {
        // Row 99, 118: the very key; chain, names and dates don't count.
        {L, OPP, TRY, USABLE, TLS, PH_DANE_MATCH_EE, other_name, SELF, .reason = PH_REASON_NONE},
        // Row 100: a good certificate that isn't the published one.
        {L, OPP, TRY, USABLE, TLS, PH_DANE_NO_MATCH, host_name, GOOD,
         .reason = PH_REASON_DANE_MISMATCH},
        // Row 101: DANE doesn't lower the connector's floor, unless AcceptDane says so.
        {L, CRT, TRY, USABLE, TLS, PH_DANE_MATCH_EE, host_name, SELF, .reason = SELF},
        {L, CRT, TRY, USABLE, TLS, PH_DANE_MATCH_EE, host_name, SELF, .accept_dane = true,
         .reason = PH_REASON_NONE},
        {L, CRT, TRY, USABLE, TLS, PH_DANE_NO_MATCH, host_name, SELF, .accept_dane = true,
         .reason = SELF},
        {L, CRT, OFF, USABLE, TLS, PH_DANE_MATCH_EE, host_name, SELF, .accept_dane = true,
         .reason = SELF},
        {L, DOM, TRY, USABLE, TLS, PH_DANE_MATCH_EE, other_name, SELF, .accept_dane = true,
         .reason = PH_REASON_CERT_NAME_MISMATCH},
        // Row 102.
        {L, OPP, TRY, USABLE, PLAIN, 0, host_name, GOOD, .reason = PH_REASON_DANE_NO_TLS},
        {L, OPP, TRY, USABLE, OFFERED, 0, host_name, GOOD, .reason = PH_REASON_DANE_NO_TLS},
        // Row 103: nothing that SMTP can use: TLS, unauthenticated.
        {L, OPP, TRY, UNUSABLE, TLS, 0, other_name, SELF, .reason = PH_REASON_NONE},
        {L, OPP, TRY, UNUSABLE, PLAIN, 0, other_name, SELF, .reason = PH_REASON_DANE_NO_TLS},
        // Row 119.
        {L, OPP, TRY, USABLE, TLS, PH_DANE_MATCH_STALE, host_name, GOOD,
         .reason = PH_REASON_DANE_EXPIRED},
        {L, OPP, TRY, USABLE, TLS, PH_DANE_MATCH_TA, other_name, GOOD,
         .reason = PH_REASON_DANE_HOST_MISMATCH},
        {L, OPP, TRY, USABLE, TLS, PH_DANE_MATCH_TA, host_name, SELF, .reason = PH_REASON_NONE},
        {L, OPP, TRY, USABLE, TLS, PH_DANE_MATCH_TA, domain_name, SELF, .reason = PH_REASON_NONE},
        {L, OPP, TRY, USABLE, TLS, PH_DANE_MATCH_TA, base_name, SELF, .reason = PH_REASON_NONE},
        // Row 120, and what else isn't enough where DANE is a must.
        {L, OPP, MAND, NOBODY, TLS, 0, host_name, GOOD, .reason = PH_REASON_DANE_REQUIRED},
        {L, OPP, MAND, UNUSABLE, TLS, 0, host_name, GOOD, .reason = PH_REASON_DANE_REQUIRED},
        {L, OPP, MAND, USABLE, TLS, PH_DANE_MATCH_EE, host_name, GOOD, .mx_insecure = true,
         .reason = PH_REASON_DANE_REQUIRED},
        {L, OPP, MAND, USABLE, TLS, PH_DANE_MATCH_EE, host_name, GOOD, .reason = PH_REASON_NONE},
        // Not known: nothing goes out.
        {L, OPP, TRY, PH_TLSA_UNKNOWN, TLS, 0, host_name, GOOD, .reason = PH_REASON_DNS_FAILURE},
        {L, OPP, TRY, PH_TLSA_FAILED, TLS, 0, host_name, GOOD, .reason = PH_REASON_DNS_FAILURE},
        {L, OPP, OFF, PH_TLSA_UNKNOWN, PLAIN, 0, host_name, GOOD, .reason = PH_REASON_NONE},
        {L, OPP, TRY, NOBODY, PLAIN, 0, host_name, GOOD, .reason = PH_REASON_NONE},
        // Records below an unsigned MX still bind the host.
        {L, OPP, TRY, USABLE, TLS, PH_DANE_NO_MATCH, host_name, GOOD, .mx_insecure = true,
         .reason = PH_REASON_DANE_MISMATCH},
    };

    check(rows, PH_ARRAY_LEN(rows));
}

Test(destination, mta_sts)
{
    static const struct row rows[] = {
        // Row 97.
        {L, OPP, TRY, NOBODY, TLS, 0, host_name, SELF, .sts = STS("enforce", "mx1.contoso.com"),
         .reason = PH_REASON_STS_CERT},
        {L, OPP, TRY, NOBODY, TLS, 0, host_name, GOOD, .sts = STS("enforce", "mx2.contoso.com"),
         .reason = PH_REASON_STS_MX_MISMATCH},
        {L, OPP, TRY, NOBODY, TLS, 0, host_name, GOOD, .sts = STS("enforce", "*.contoso.com"),
         .reason = PH_REASON_NONE},
        // The reference is the MX host, not the domain.
        {L, OPP, TRY, NOBODY, TLS, 0, domain_name, GOOD, .sts = STS("enforce", "*.contoso.com"),
         .reason = PH_REASON_STS_CERT},
        {L, OPP, TRY, NOBODY, PLAIN, 0, host_name, GOOD, .sts = STS("enforce", "*.contoso.com"),
         .reason = PH_REASON_TLS_NOT_OFFERED},
        {L, OPP, TRY, NOBODY, OFFERED, 0, host_name, GOOD, .sts = STS("enforce", "*.contoso.com"),
         .reason = PH_REASON_STARTTLS_REFUSED},
        // Row 98.
        {L, OPP, TRY, NOBODY, TLS, 0, host_name, SELF, .sts = STS("testing", "mx1.contoso.com"),
         .reason = PH_REASON_NONE},
        {L, OPP, TRY, NOBODY, PLAIN, 0, host_name, SELF, .sts = STS("testing", "other.example"),
         .reason = PH_REASON_NONE},
        {L, OPP, TRY, NOBODY, PLAIN, 0, host_name, SELF, .sts = STS("none", "other.example"),
         .reason = PH_REASON_NONE},
        // Both floors.
        {L, CRT, TRY, NOBODY, TLS, 0, host_name, SELF, .sts = STS("enforce", "mx1.contoso.com"),
         .reason = SELF},
        {L, CRT, TRY, NOBODY, TLS, 0, other_name, GOOD, .sts = STS("enforce", "mx1.contoso.com"),
         .reason = PH_REASON_STS_CERT},
        // DANE stands above it, both ways.
        {L, OPP, TRY, USABLE, TLS, PH_DANE_MATCH_EE, other_name, SELF,
         .sts = STS("enforce", "mx2.contoso.com"), .reason = PH_REASON_NONE},
        {L, OPP, TRY, USABLE, TLS, PH_DANE_NO_MATCH, host_name, GOOD,
         .sts = STS("enforce", "mx1.contoso.com"), .reason = PH_REASON_DANE_MISMATCH},
        {L, OPP, OFF, USABLE, TLS, PH_DANE_MATCH_EE, host_name, SELF,
         .sts = STS("enforce", "mx1.contoso.com"), .reason = PH_REASON_STS_CERT},
    };

    check(rows, PH_ARRAY_LEN(rows));
}

Test(destination, requiretls_wants_a_name_that_somebody_vouches_for)
{
    static const struct row rows[] = {
        {L, OPP, TRY, NOBODY, TLS, 0, host_name, GOOD, .requiretls = true,
         .reason = PH_REASON_NONE},
        {L, OPP, TRY, NOBODY, TLS, 0, host_name, GOOD, .requiretls = true, .mx_insecure = true,
         .reason = PH_REASON_MX_INSECURE},
        {L, OPP, TRY, NOBODY, TLS, 0, host_name, GOOD, .requiretls = true, .mx_insecure = true,
         .sts = STS("testing", "mx1.contoso.com"), .reason = PH_REASON_NONE},
        {L, OPP, TRY, NOBODY, TLS, 0, host_name, GOOD, .requiretls = true, .mx_insecure = true,
         .sts = STS("testing", "mx2.contoso.com"), .reason = PH_REASON_MX_INSECURE},
        {L, OPP, TRY, NOBODY, TLS, 0, host_name, GOOD, .requiretls = true, .mx_insecure = true,
         .sts = STS("none", "mx1.contoso.com"), .reason = PH_REASON_MX_INSECURE},
        {L, OPP, TRY, NOBODY, TLS, 0, host_name, SELF, .requiretls = true, .reason = SELF},
        {L, OPP, TRY, NOBODY, TLS, 0, other_name, GOOD, .requiretls = true,
         .reason = PH_REASON_CERT_NAME_MISMATCH},
        {L, OPP, TRY, NOBODY, PLAIN, 0, host_name, GOOD, .requiretls = true,
         .reason = PH_REASON_TLS_NOT_OFFERED},
        // DANE verifies as well as a chain does.
        {L, OPP, TRY, USABLE, TLS, PH_DANE_MATCH_EE, other_name, SELF, .requiretls = true,
         .reason = PH_REASON_NONE},
    };

    check(rows, PH_ARRAY_LEN(rows));
}

Test(destination, a_host_is_judged_before_it_is_connected_to)
{
    static const struct row rows[] = {
        {L, OPP, TRY, NOBODY, PLAIN, 0, host_name, GOOD, .sts = STS("enforce", "mx2.contoso.com"),
         .reason = PH_REASON_STS_MX_MISMATCH},
        {L, OPP, MAND, NOBODY, PLAIN, 0, host_name, GOOD, .reason = PH_REASON_DANE_REQUIRED},
        {L, CRT, TRY, NOBODY, PLAIN, 0, host_name, GOOD, .reason = PH_REASON_NONE},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_reason reason = {0};
        struct fixture f;

        make(&f, &rows[i]);
        f.subject.facts = NULL;
        (void)!ph_gate_judge_host(&f.policy, &f.subject, &reason);
        cr_assert_eq(reason.kind, rows[i].reason, "line %d: %s", rows[i].line,
                     ph_reason_token(reason.kind));
        ph_sts_policy_release(f.sts);
    }
}

Test(destination, dates_of_a_dane_verdict_count)
{
    static const struct row row = {L, OPP, TRY, USABLE, TLS, PH_DANE_MATCH_TA, host_name, GOOD};
    struct ph_reason reason;
    struct fixture f;

    make(&f, &row);
    cr_assert_eq(judge(&f, &reason), PH_REASON_NONE);
    f.dane.valid_until_s = NOW_S;
    cr_assert_eq(judge(&f, &reason), PH_REASON_DANE_EXPIRED);
}

Test(destination, what_verified_a_session)
{
    static const struct {
        struct row row;
        const char *by;
    } cases[] = {
        {{L, OPP, TRY, USABLE, TLS, PH_DANE_MATCH_EE, host_name, SELF}, "dane"},
        {{L, OPP, TRY, UNUSABLE, TLS, 0, host_name, SELF}, "none"},
        {{L, OPP, TRY, NOBODY, TLS, 0, host_name, GOOD, .sts = STS("enforce", "mx1.contoso.com")},
         "chain+name"},
        {{L, OPP, TRY, NOBODY, TLS, 0, host_name, GOOD, .sts = STS("testing", "mx1.contoso.com")},
         "none"},
        {{L, CRT, TRY, NOBODY, TLS, 0, host_name, GOOD}, "chain"},
        {{L, OPP, TRY, NOBODY, PLAIN, 0, host_name, GOOD}, "none"},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct fixture f;

        make(&f, &cases[i].row);
        cr_assert_str_eq(ph_gate_verified_by(&f.policy, &f.subject), cases[i].by, "case %zu", i);
        ph_sts_policy_release(f.sts);
    }
}

static uint64_t seed = 20261125;

static unsigned draw(unsigned bound)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(seed >> 33) % bound;
}

// What a destination publishes, and what a message asks for, may only ever raise the demand: a
// session that is refused without it is refused with it (AcceptDane being an administrator's word).
Test(destination, demands_are_only_ever_raised)
{
    static const char **const names[] = {host_name, domain_name, base_name, other_name};
    static const char *const texts[] = {NULL, STS("enforce", "*.contoso.com"),
                                        STS("enforce", "mx2.contoso.com"),
                                        STS("testing", "mx1.contoso.com")};
    static const enum ph_reason_kind chains[] = {PH_REASON_NONE, PH_REASON_CERT_EXPIRED};
    int raised = 0;

    for (int i = 0; i < 100000; i++) {
        struct row row = {
            .level = (enum ph_tls_level)draw(5),
            .mode = (enum ph_dane_mode)draw(3),
            .published = (enum ph_tlsa_status)draw(5),
            .tls = (enum tls)draw(3),
            .match = (enum ph_dane_match)draw(4),
            .names = names[draw(4)],
            .chain = chains[draw(2)],
            .mx_insecure = draw(2) == 0,
            .requiretls = draw(2) == 0,
            .sts = texts[draw(4)],
        };
        struct row bare = row;
        struct ph_reason reason;
        struct fixture f;
        bool with;
        bool without;

        make(&f, &row);
        with = judge(&f, &reason) == PH_REASON_NONE;
        ph_sts_policy_release(f.sts);
        bare.mode = PH_DANE_NONE;
        bare.sts = NULL;
        bare.requiretls = false;
        make(&f, &bare);
        without = judge(&f, &reason) == PH_REASON_NONE;
        cr_assert(!with || without, "pair %d", i);
        raised += without && !with;
    }
    cr_assert(raised > 1000, "%d raised", raised);
}
