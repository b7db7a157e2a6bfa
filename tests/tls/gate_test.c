// The gate against rows of Exchange's truth table. (gate_oracle_test.c: random policies and facts.)
#include "tls/gate.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "tls/facts.h"

#define TRUST_ID 7
#define NOW_MS UINT64_C(1790000000000)

static const char *good_names[] = {"mx1.contoso.com", "contoso.com"};
static const char *mx_only[] = {"mx1.contoso.com"};
static const char *wild_only[] = {"*.contoso.com"};
static const char *relay_names[] = {"relay.example.net"};

struct session {
    bool encrypted;
    bool offered;
    const char **names;
    size_t name_count;
    enum ph_reason_kind chain; // verdict
    enum ph_revocation revocation;
    bool requested; // our certificate, and it was sent
};

struct fixture {
    struct ph_chain chain;
    struct ph_chain_verdict verdict;
    struct ph_tls_facts facts;
    struct ph_gate_subject subject;
};

static void fixture_make(struct fixture *f, const struct session *session)
{
    *f = (struct fixture){
        .chain = {.references = 1,
                  .hash = {1, 2, 3},
                  .dns_names = session->names,
                  .dns_name_count = session->name_count,
                  .has_dns_names = session->name_count > 0},
        .verdict = {.chain_hash = {1, 2, 3},
                    .trust_id = TRUST_ID,
                    .kind = session->chain,
                    .revocation = session->revocation,
                    .valid_until_s = INT64_MAX},
        .facts = {.session_id = 42,
                  .encrypted = session->encrypted,
                  .starttls_offered = session->offered,
                  .version = session->encrypted ? 0x0304 : 0,
                  .client_certificate_requested = session->requested,
                  .client_certificate_sent = session->requested},
    };
    f->facts.chain = session->encrypted ? &f->chain : NULL;
    f->subject = (struct ph_gate_subject){
        .facts = &f->facts,
        .verdict = session->encrypted ? &f->verdict : NULL,
        .connector = PH_STR("contoso"),
        .recipient_domain = PH_STR("contoso.com"),
        .host = PH_STR("mx1.contoso.com"),
        .address = PH_STR("192.0.2.7"),
        .wall_ms = NOW_MS,
    };
}

// NONE: cleared. A clearance that came is spent.
static enum ph_reason_kind judge(const struct ph_tls_policy *policy, const struct fixture *f,
                                 enum ph_clearance_kind kind, struct ph_reason *out_reason)
{
    struct ph_clearance *clearance = NULL;
    struct ph_reason reason = {0};

    if (ph_gate_judge(policy, &f->subject, kind, &clearance, &reason) == PH_GATE_CLEARED) {
        cr_assert(ph_clearance_spend(clearance, kind, 42));
        return PH_REASON_NONE;
    }
    cr_assert_null(clearance);
    cr_assert_neq(reason.kind, PH_REASON_NONE);
    if (out_reason != NULL) {
        *out_reason = reason;
    }
    return reason.kind;
}

#define PLAIN                                                                                      \
    {                                                                                              \
        .encrypted = false                                                                         \
    }
#define OFFERED                                                                                    \
    {                                                                                              \
        .encrypted = false, .offered = true                                                        \
    }
#define TLS(list, verdict_kind)                                                                    \
    {                                                                                              \
        .encrypted = true, .offered = true, .names = list, .name_count = PH_ARRAY_LEN(list),       \
        .chain = verdict_kind                                                                      \
    }

#define POLICY(...)                                                                                \
    {                                                                                              \
        .trust_id = TRUST_ID, .version_min = 0x0303, .fallback = PH_TLS_FALLBACK_PLAINTEXT,        \
        .dane_mode = PH_DANE_NONE, __VA_ARGS__                                                     \
    }
#define OPP POLICY(.level = PH_TLS_OPPORTUNISTIC)
#define ENC POLICY(.level = PH_TLS_ENCRYPTION_ONLY)
#define CRT POLICY(.level = PH_TLS_CERTIFICATE_VALIDATION)
#define DOM POLICY(.level = PH_TLS_DOMAIN_VALIDATION)
#define SEC POLICY(.level = PH_TLS_OPPORTUNISTIC, .domain_secure = true)

Test(gate, rows_of_the_truth_table)
{
    static const struct {
        int row; // of Exchange's truth table
        struct ph_tls_policy policy;
        struct session session;
        enum ph_reason_kind reason;
    } rows[] = {
        {1, OPP, PLAIN, PH_REASON_NONE},
        {2, OPP, TLS(good_names, PH_REASON_NONE), PH_REASON_NONE},
        {3, OPP, TLS(good_names, PH_REASON_CERT_SELF_SIGNED), PH_REASON_NONE},
        {4, OPP, TLS(relay_names, PH_REASON_CERT_EXPIRED), PH_REASON_NONE},
        {9, POLICY(.level = PH_TLS_NEVER), PLAIN, PH_REASON_NONE},
        {21, ENC, PLAIN, PH_REASON_TLS_NOT_OFFERED},
        {23, ENC, OFFERED, PH_REASON_STARTTLS_REFUSED},
        {29, ENC, TLS(good_names, PH_REASON_CERT_SELF_SIGNED), PH_REASON_NONE},
        {33, ENC, TLS(relay_names, PH_REASON_CERT_EXPIRED), PH_REASON_NONE},
        {36, CRT, TLS(good_names, PH_REASON_NONE), PH_REASON_NONE},
        {37, CRT, TLS(good_names, PH_REASON_CERT_SELF_SIGNED), PH_REASON_CERT_SELF_SIGNED},
        {38, CRT, TLS(good_names, PH_REASON_CERT_UNTRUSTED_ROOT), PH_REASON_CERT_UNTRUSTED_ROOT},
        {39, CRT, TLS(good_names, PH_REASON_CERT_PARTIAL_CHAIN), PH_REASON_CERT_PARTIAL_CHAIN},
        {41, CRT, TLS(good_names, PH_REASON_CERT_EXPIRED), PH_REASON_CERT_EXPIRED},
        {43, CRT, TLS(good_names, PH_REASON_CERT_NOT_YET_VALID), PH_REASON_CERT_NOT_YET_VALID},
        {44, CRT, {.encrypted = true, .revocation = PH_REVOCATION_REVOKED}, PH_REASON_CERT_REVOKED},
        {45, CRT, {.encrypted = true, .revocation = PH_REVOCATION_NOT_CHECKED}, PH_REASON_NONE},
        {46,
         CRT,
         {.encrypted = true, .revocation = PH_REVOCATION_UNKNOWN},
         PH_REASON_REVOCATION_UNKNOWN},
        {46,
         POLICY(.level = PH_TLS_CERTIFICATE_VALIDATION, .revocation_unknown_accept = true),
         {.encrypted = true, .revocation = PH_REVOCATION_UNKNOWN},
         PH_REASON_NONE},
        {47, CRT, TLS(relay_names, PH_REASON_NONE), PH_REASON_NONE},
        {48, CRT, TLS(good_names, PH_REASON_CERT_USAGE), PH_REASON_CERT_USAGE},
        {52, DOM, TLS(good_names, PH_REASON_NONE), PH_REASON_NONE},
        {53, DOM, TLS(mx_only, PH_REASON_NONE), PH_REASON_CERT_NAME_MISMATCH},
        {54, DOM, TLS(relay_names, PH_REASON_NONE), PH_REASON_CERT_NAME_MISMATCH},
        {55, DOM, TLS(wild_only, PH_REASON_NONE), PH_REASON_CERT_NAME_MISMATCH},
        {70, DOM, TLS(mx_only, PH_REASON_CERT_EXPIRED), PH_REASON_CERT_EXPIRED},
        {71, DOM, PLAIN, PH_REASON_TLS_NOT_OFFERED},
        {77, POLICY(.level = PH_TLS_OPPORTUNISTIC, .credentials_exact_host = true), PLAIN,
         PH_REASON_AUTH_NEEDS_TLS},
        {78, POLICY(.level = PH_TLS_OPPORTUNISTIC, .credentials_exact_host = true),
         TLS(relay_names, PH_REASON_NONE), PH_REASON_CERT_NAME_MISMATCH},
        {79, POLICY(.level = PH_TLS_OPPORTUNISTIC, .credentials_exact_host = true),
         TLS(mx_only, PH_REASON_NONE), PH_REASON_NONE},
        {128, POLICY(.level = PH_TLS_OPPORTUNISTIC, .credentials_exact_host = true),
         TLS(mx_only, PH_REASON_CERT_UNTRUSTED_ROOT), PH_REASON_CERT_UNTRUSTED_ROOT},
        {87,
         SEC,
         {.encrypted = true, .names = good_names, .name_count = 2, .requested = true},
         PH_REASON_NONE},
        {88, SEC, TLS(good_names, PH_REASON_NONE), PH_REASON_MUTUAL_NOT_REQUESTED},
        {89,
         SEC,
         {.encrypted = true, .names = mx_only, .name_count = 1, .requested = true},
         PH_REASON_CERT_NAME_MISMATCH},
        {89,
         SEC,
         {.encrypted = true, .names = wild_only, .name_count = 1, .requested = true},
         PH_REASON_CERT_NAME_MISMATCH},
        {90, SEC, PLAIN, PH_REASON_TLS_NOT_OFFERED},
        {92, POLICY(.level = PH_TLS_OPPORTUNISTIC, .domain_secure_misrouted = true),
         TLS(good_names, PH_REASON_NONE), PH_REASON_DOMAIN_SECURE_MISROUTED},
        {116,
         POLICY(.level = PH_TLS_CERTIFICATE_VALIDATION, .report = true,
                .report_floor = PH_TLS_OPPORTUNISTIC),
         TLS(good_names, PH_REASON_CERT_SELF_SIGNED), PH_REASON_NONE},
        {123, POLICY(.level = PH_TLS_ENCRYPTION_ONLY, .domain_secure = true),
         TLS(good_names, PH_REASON_CERT_SELF_SIGNED), PH_REASON_CERT_SELF_SIGNED},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct fixture f;
        enum ph_reason_kind kind;

        fixture_make(&f, &rows[i].session);
        kind = judge(&rows[i].policy, &f, PH_CLEARANCE_ENVELOPE, NULL);
        cr_assert_eq(kind, rows[i].reason, "row %d: %s, expected %s", rows[i].row,
                     ph_reason_token(kind), ph_reason_token(rows[i].reason));
    }
}

Test(gate, tls_domain_lists)
{
    static const struct ph_str list[] = {{"mx9.contoso.com", 15}, {"*.contoso.com", 13}};
    struct ph_tls_policy policy = DOM;
    struct session session = TLS(mx_only, PH_REASON_NONE);
    struct fixture f;

    fixture_make(&f, &session);
    policy.tls_domains = list;
    policy.tls_domain_count = 1;
    cr_assert_eq(judge(&policy, &f, PH_CLEARANCE_ENVELOPE, NULL), PH_REASON_CERT_NAME_MISMATCH);
    policy.tls_domain_count = 2;
    cr_assert_eq(judge(&policy, &f, PH_CLEARANCE_ENVELOPE, NULL), PH_REASON_NONE);
}

Test(gate, the_sentence_names_demand_finding_and_remedy)
{
    struct ph_tls_policy policy = DOM;
    struct session session = TLS(relay_names, PH_REASON_NONE);
    struct fixture f;
    struct ph_reason reason;

    fixture_make(&f, &session);
    judge(&policy, &f, PH_CLEARANCE_ENVELOPE, &reason);
    cr_assert_str_eq(reason.sentence,
                     "connector contoso demands RequireTLS with DomainValidation and a certificate "
                     "for contoso.com (the recipient's domain); mx1.contoso.com (192.0.2.7) showed "
                     "a valid one for relay.example.net; its operator must get one with that name, "
                     "or, if this is the right host, list a name it has in TlsDomain");
}

// What would help depends on whose word the name is; and where the rule stands is said, without the
// way to it.
Test(gate, the_sentence_on_a_name_says_whose_word_it_is)
{
    const struct ph_str list[] = {PH_STR("mx.contoso.com"), PH_STR("*.contoso.net")};
    struct ph_tls_policy by_list = DOM;
    struct ph_tls_policy by_host = DOM;
    struct ph_tls_policy partner = DOM;
    struct ph_tls_policy credentials = ENC;
    struct ph_tls_policy requiretls = ENC;
    const struct {
        const struct ph_tls_policy *policy;
        const char *parts[3];
    } rows[] = {
        {&by_list,
         {"connector contoso (partners.conf:7) demands RequireTLS with DomainValidation",
          "mx.contoso.com, *.contoso.net (TlsDomain)", "list a name it has in TlsDomain"}},
        {&by_host, {"connector contoso demands", "TlsNameSource)", "TlsNameSource go"}},
        {&partner,
         {"Domain Security (mutual TLS)", "contoso.com (the recipient's domain)",
          "TlsDomain does not count"}},
        {&credentials, {"RequireTLS", "mx1.contoso.com (the host's own name)", "credentials go"}},
        {&requiretls, {"REQUIRETLS", "mx1.contoso.com (the host's own name)", "REQUIRETLS takes"}},
    };
    struct session session = TLS(relay_names, PH_REASON_NONE);
    struct fixture f;

    by_list.tls_domains = list;
    by_list.tls_domain_count = 2;
    by_list.source = PH_STR("/etc/posthaste/conf.d/partners.conf:7 SendConnector contoso");
    by_host.name_source = PH_TLS_NAME_HOST;
    partner.domain_secure = true;
    credentials.credentials_exact_host = true;
    requiretls.requiretls = true;
    requiretls.mx_secure = true;
    fixture_make(&f, &session);
    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_reason reason = {0};

        cr_expect_eq(judge(rows[i].policy, &f, PH_CLEARANCE_ENVELOPE, &reason),
                     PH_REASON_CERT_NAME_MISMATCH, "row %zu", i);
        for (size_t part = 0; part < 3; part++) {
            cr_expect(strstr(reason.sentence, rows[i].parts[part]) != NULL, "row %zu: %s", i,
                      reason.sentence);
        }
    }
}

Test(gate, a_clearance_is_for_one_session_and_one_use)
{
    struct ph_tls_policy policy = ENC;
    struct session session = TLS(mx_only, PH_REASON_NONE);
    struct ph_clearance *clearance;
    struct ph_reason reason;
    struct fixture f;

    fixture_make(&f, &session);
    cr_assert_eq(ph_gate_judge(&policy, &f.subject, PH_CLEARANCE_ENVELOPE, &clearance, &reason),
                 PH_GATE_CLEARED);
    cr_assert_not(ph_clearance_spend(clearance, PH_CLEARANCE_ENVELOPE, 43));
    cr_assert_eq(ph_gate_judge(&policy, &f.subject, PH_CLEARANCE_ENVELOPE, &clearance, &reason),
                 PH_GATE_CLEARED);
    cr_assert_not(ph_clearance_spend(clearance, PH_CLEARANCE_CREDENTIALS, 42));
    ph_clearance_destroy(NULL);
}

Test(gate, a_verdict_on_another_chain_stops_the_process, .signal = SIGABRT)
{
    struct ph_tls_policy policy = CRT;
    struct session session = TLS(mx_only, PH_REASON_NONE);
    struct fixture f;

    fixture_make(&f, &session);
    f.verdict.chain_hash[0] ^= 1;
    judge(&policy, &f, PH_CLEARANCE_ENVELOPE, NULL);
}

Test(gate, a_verdict_past_its_dates_clears_nothing)
{
    struct ph_tls_policy policy = CRT;
    struct session session = TLS(mx_only, PH_REASON_NONE);
    struct fixture f;

    fixture_make(&f, &session);
    f.verdict.valid_until_s = NOW_MS / 1000;
    cr_assert_eq(judge(&policy, &f, PH_CLEARANCE_ENVELOPE, NULL), PH_REASON_CERT_EXPIRED);
    f.verdict.valid_until_s++;
    cr_assert_eq(judge(&policy, &f, PH_CLEARANCE_ENVELOPE, NULL), PH_REASON_NONE);
}

Test(gate, the_key_exchange_is_one_of_those_demanded)
{
    static const struct {
        const char *group; // negotiated
        const char *demanded;
        enum ph_tls_level level;
        enum ph_reason_kind reason;
    } rows[] = {
        {"X25519", "", PH_TLS_ENCRYPTION_ONLY, PH_REASON_NONE},
        {"X25519", "X25519MLKEM768:X25519", PH_TLS_ENCRYPTION_ONLY, PH_REASON_NONE},
        {"X25519", "x25519", PH_TLS_ENCRYPTION_ONLY, PH_REASON_NONE},
        {"X25519", "X25519MLKEM768", PH_TLS_ENCRYPTION_ONLY, PH_REASON_TLS_HANDSHAKE_FAILED},
        {"", "X25519MLKEM768", PH_TLS_ENCRYPTION_ONLY, PH_REASON_TLS_HANDSHAKE_FAILED},
        {"", "X25519::", PH_TLS_ENCRYPTION_ONLY, PH_REASON_TLS_HANDSHAKE_FAILED},
        {"X25519", "X25519MLKEM768", PH_TLS_OPPORTUNISTIC, PH_REASON_NONE},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        const struct session session = TLS(good_names, PH_REASON_NONE);
        struct ph_tls_policy policy = ENC;
        struct fixture f;

        policy.level = rows[i].level;
        policy.require_groups = ph_str_from(rows[i].demanded);
        fixture_make(&f, &session);
        f.facts.group = rows[i].group;
        cr_expect_eq(judge(&policy, &f, PH_CLEARANCE_ENVELOPE, NULL), rows[i].reason, "row %zu", i);
    }
}
