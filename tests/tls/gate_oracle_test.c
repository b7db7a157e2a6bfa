// The gate over random pairs of a policy and what was found, against an oracle that doesn't share a
// line with it; and, without any oracle: what demands more never clears more.
#include <criterion/criterion.h>

#include "tls/facts.h"
#include "tls/gate.h"
#include "tls/mta_sts.h"

#define TRUST_ID 7
#define NOW_S INT64_C(1790000000)
#define PAIRS 400000

// What a certificate is for, and, written down by hand, whom that satisfies.
static const struct certificate {
    const char *names[2];
    size_t count;
    bool domain; // contoso.com
    bool host;   // mx1.contoso.com
    bool below;  // TlsDomain = *.contoso.com
    bool base;   // canonical.example, where the TLSA records were found
} certificates[] = {
    {{"contoso.com", "mx1.contoso.com"}, 2, true, true, true, false},
    {{"mx1.contoso.com"}, 1, false, true, true, false},
    {{"*.contoso.com"}, 1, false, true, true, false},
    {{"contoso.com"}, 1, true, false, true, false},
    {{"canonical.example"}, 1, false, false, false, true},
    {{"notcontoso.com", "relay.example.net"}, 2, false, false, false, false},
};

static struct ph_str below_domain[] = {{.data = "*.contoso.com", .len = 13}};
static const struct ph_tls_pin pins[] = {{.spki_sha256 = {9}}};

struct pair {
    struct ph_chain chain;
    struct ph_chain_verdict verdict;
    struct ph_dane_verdict dane;
    struct ph_tls_facts facts;
    struct ph_tlsa tlsa;
    struct ph_tls_policy policy;
    struct ph_gate_subject subject;
    const struct certificate *certificate;
    enum ph_clearance_kind kind;
};

static struct ph_sts_policy *published[4]; // enforced or tested, naming the host or another
static uint64_t seed;

static unsigned draw(unsigned bound)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(seed >> 33) % bound;
}

static bool one_in(unsigned n)
{
    return draw(n) == 0;
}

static void publish(void)
{
    static const char *const texts[] = {
        "mode: enforce\nmx: mx1.contoso.com\n", "mode: enforce\nmx: mx9.contoso.com\n",
        "mode: testing\nmx: *.contoso.com\n", "mode: testing\nmx: mx9.contoso.com\n"};

    for (size_t i = 0; i < PH_ARRAY_LEN(texts); i++) {
        struct ph_buf text = {0};
        struct ph_buf error = {0};

        ph_buf_printf(&text, "version: STSv1\n%smax_age: 86400\n", texts[i]);
        published[i] =
            ph_sts_policy_parse(PH_STR("contoso.com"), PH_STR("1"), 1, ph_buf_str(&text), &error);
        cr_assert_not_null(published[i]);
        ph_buf_deinit(&text);
    }
}

static void withdraw(void)
{
    for (size_t i = 0; i < PH_ARRAY_LEN(published); i++) {
        ph_sts_policy_release(published[i]);
    }
}

static void draw_facts(struct pair *p)
{
    static const enum ph_reason_kind chains[] = {
        PH_REASON_NONE,         PH_REASON_NONE,         PH_REASON_NONE,
        PH_REASON_CERT_EXPIRED, PH_REASON_CERT_REVOKED, PH_REASON_CERT_SELF_SIGNED};
    static const char *const groups[] = {"X25519", "X25519MLKEM768", "P-256", ""};
    bool encrypted = !one_in(5);

    p->certificate = &certificates[draw(PH_ARRAY_LEN(certificates))];
    p->chain = (struct ph_chain){.references = 1,
                                 .hash = {1},
                                 .spki_sha256 = {one_in(2) ? 9 : 8},
                                 .dns_names = (const char **)p->certificate->names,
                                 .dns_name_count = p->certificate->count,
                                 .has_dns_names = true};
    p->verdict = (struct ph_chain_verdict){.chain_hash = {1},
                                           .trust_id = TRUST_ID,
                                           .kind = chains[draw(PH_ARRAY_LEN(chains))],
                                           .revocation = (enum ph_revocation)draw(5),
                                           .valid_until_s = one_in(8) ? NOW_S : NOW_S + 1};
    p->dane = (struct ph_dane_verdict){.chain_hash = {1},
                                       .match = (enum ph_dane_match)draw(4),
                                       .valid_until_s = one_in(8) ? NOW_S : NOW_S + 1};
    p->facts = (struct ph_tls_facts){.session_id = 42,
                                     .encrypted = encrypted,
                                     .starttls_offered = encrypted || one_in(2),
                                     .version = !encrypted  ? 0
                                                : one_in(3) ? 0x0303
                                                            : 0x0304,
                                     .group = groups[draw(PH_ARRAY_LEN(groups))],
                                     .chain = encrypted && !one_in(12) ? &p->chain : NULL};
    p->facts.client_certificate_requested = encrypted && one_in(2);
    p->facts.client_certificate_sent = p->facts.client_certificate_requested && !one_in(4);
    p->tlsa = (struct ph_tlsa){.status = (enum ph_tlsa_status)draw(5),
                               .base_domain = "canonical.example"};
}

static void draw_policy(struct pair *p)
{
    unsigned sts = draw(8);

    p->policy = (struct ph_tls_policy){
        .level = (enum ph_tls_level)draw(5),
        .domain_secure = one_in(6),
        .domain_secure_misrouted = one_in(24),
        .requiretls = one_in(6),
        .credentials_exact_host = one_in(6),
        .credentials_in_clear = one_in(2),
        .name_source = (enum ph_tls_name_source)draw(3),
        .tls_domains = one_in(2) ? below_domain : NULL,
        .pins = one_in(8) ? pins : NULL,
        .revocation_unknown_accept = one_in(2),
        .version_min = one_in(4) ? 0x0304 : 0x0303,
        .require_groups = one_in(4) ? PH_STR("X25519MLKEM768:X25519") : PH_STR_NONE,
        .report = one_in(4),
        .report_floor = (enum ph_tls_level)draw(4),
        .trust_id = TRUST_ID,
        .dane_mode = one_in(2) ? PH_DANE_NONE : (enum ph_dane_mode)draw(3),
        .accept_dane = one_in(2),
        .mx_secure = one_in(2),
        .sts = sts < PH_ARRAY_LEN(published) ? published[sts] : NULL,
    };
    p->policy.tls_domain_count = p->policy.tls_domains != NULL;
    p->policy.pin_count = p->policy.pins != NULL;
}

static void draw_pair(struct pair *p, uint64_t from)
{
    seed = from * UINT64_C(0x9e3779b97f4a7c15) + 1;
    draw_facts(p);
    draw_policy(p);
    p->kind = one_in(5) ? PH_CLEARANCE_CREDENTIALS : PH_CLEARANCE_ENVELOPE;
    p->subject = (struct ph_gate_subject){
        .facts = &p->facts,
        .verdict = p->facts.chain != NULL ? &p->verdict : NULL,
        .tlsa = &p->tlsa,
        .dane = p->facts.chain != NULL ? &p->dane : NULL,
        .connector = PH_STR("contoso"),
        .recipient_domain = PH_STR("contoso.com"),
        .host = PH_STR("mx1.contoso.com"),
        .address = PH_STR("192.0.2.7"),
        .peer_offers_requiretls = one_in(2),
        .wall_ms = (uint64_t)NOW_S * 1000,
    };
}

static bool cleared(const struct pair *p)
{
    struct ph_clearance *clearance = NULL;
    struct ph_reason reason = {0};
    bool yes =
        ph_gate_judge(&p->policy, &p->subject, p->kind, &clearance, &reason) == PH_GATE_CLEARED;

    cr_assert_eq(yes, clearance != NULL);
    cr_assert_eq(yes, reason.kind == PH_REASON_NONE);
    if (yes) {
        cr_assert(ph_clearance_spend(clearance, p->kind, 42));
    }
    return yes;
}

// --- the oracle: demands, each with what meets it ---

static bool chain_is_good(const struct pair *p)
{
    return p->facts.chain != NULL && p->verdict.kind == PH_REASON_NONE &&
           NOW_S < p->verdict.valid_until_s && p->verdict.revocation != PH_REVOCATION_REVOKED;
}

static bool names_host(const struct pair *p)
{
    return p->facts.chain != NULL && p->certificate->host;
}

static bool level_name_matches(const struct pair *p)
{
    if (p->facts.chain == NULL) {
        return false;
    }
    switch (p->policy.name_source) {
    case PH_TLS_NAME_HOST:
        return p->certificate->host;
    case PH_TLS_NAME_TLSDOMAIN:
        return p->policy.tls_domain_count > 0 ? p->certificate->below : p->certificate->domain;
    case PH_TLS_NAME_RECIPIENT:
        return p->certificate->domain;
    }
    return false;
}

// RFC 7672: usage 3 asks for neither names nor dates, usage 2 for both.
static bool dane_authenticates(const struct pair *p)
{
    bool named = p->certificate->base || p->certificate->domain || p->certificate->host;

    return p->policy.dane_mode != PH_DANE_NONE && p->tlsa.status == PH_TLSA_USABLE &&
           p->facts.chain != NULL && NOW_S < p->dane.valid_until_s &&
           (p->dane.match == PH_DANE_MATCH_EE || (p->dane.match == PH_DANE_MATCH_TA && named));
}

static bool destination_is_content(const struct pair *p)
{
    const struct ph_tls_policy *q = &p->policy;
    bool known = p->tlsa.status != PH_TLSA_UNKNOWN && p->tlsa.status != PH_TLSA_FAILED;
    bool usable = p->tlsa.status == PH_TLSA_USABLE;
    bool dane = q->dane_mode != PH_DANE_NONE && (usable || p->tlsa.status == PH_TLSA_UNUSABLE);
    bool enforced = q->sts == published[0] || q->sts == published[1];

    if (q->dane_mode != PH_DANE_NONE && !known) {
        return false;
    }
    if (q->dane_mode == PH_DANE_MANDATORY && !(usable && q->mx_secure)) {
        return false;
    }
    if (dane) {
        return p->facts.encrypted && (!usable || dane_authenticates(p));
    }
    return !enforced ||
           (p->facts.encrypted && q->sts == published[0] && chain_is_good(p) && names_host(p));
}

static bool requiretls_is_content(const struct pair *p)
{
    const struct ph_tls_policy *q = &p->policy;
    bool vouched = q->mx_secure || q->sts == published[0] || q->sts == published[2];
    bool verified = dane_authenticates(p) || (chain_is_good(p) && names_host(p));

    return p->facts.encrypted && vouched && verified &&
           (p->kind == PH_CLEARANCE_CREDENTIALS || p->subject.peer_offers_requiretls);
}

static bool connector_is_content(const struct pair *p, unsigned level)
{
    const struct ph_tls_policy *q = &p->policy;
    bool by_dane = q->accept_dane && dane_authenticates(p);
    bool forced = level <= 2 || q->domain_secure || q->requiretls;
    bool group_good = q->require_groups.len == 0 || p->facts.group[0] == 'X';
    bool pin_good = q->pin_count == 0 || (p->facts.chain != NULL && p->chain.spki_sha256[0] == 9);
    // Revocation belongs to each chain that the connector, the list or the message asks for.
    bool revocation_good =
        p->verdict.revocation != PH_REVOCATION_UNKNOWN || q->revocation_unknown_accept;
    bool chain_good = chain_is_good(p) && revocation_good;

    if (forced &&
        !(p->facts.encrypted && p->facts.version >= q->version_min && group_good && pin_good)) {
        return false;
    }
    if (level <= 1 && !by_dane && !chain_good) {
        return false;
    }
    if (level == 0 && !q->domain_secure && !level_name_matches(p)) {
        return false;
    }
    if (q->domain_secure &&
        !(chain_good && p->certificate->domain && p->facts.client_certificate_requested &&
          p->facts.client_certificate_sent)) {
        return false;
    }
    if (q->credentials_exact_host &&
        !(p->facts.encrypted && names_host(p) && (by_dane || chain_good))) {
        return false;
    }
    if (q->requiretls && !dane_authenticates(p) && !chain_good) {
        return false;
    }
    return p->kind == PH_CLEARANCE_ENVELOPE || p->facts.encrypted || q->credentials_in_clear;
}

static bool oracle(const struct pair *p)
{
    unsigned level = (unsigned)p->policy.level;

    if (p->policy.report && (unsigned)p->policy.report_floor > level) {
        level = (unsigned)p->policy.report_floor;
    }
    return !p->policy.domain_secure_misrouted && connector_is_content(p, level) &&
           destination_is_content(p) && (!p->policy.requiretls || requiretls_is_content(p));
}

Test(gate_oracle, agrees_over_random_policies_and_facts, .init = publish, .fini = withdraw)
{
    uint64_t yes = 0;

    for (uint64_t i = 0; i < PAIRS; i++) {
        struct pair p;
        bool expected;

        draw_pair(&p, i);
        expected = oracle(&p);
        cr_assert_eq(cleared(&p), expected, "pair %llu: level %s, the oracle says %s",
                     (unsigned long long)i, ph_tls_level_name(p.policy.level),
                     expected ? "yes" : "no");
        yes += expected;
    }
    // Both answers must be common, or the test proves nothing.
    cr_assert(yes > PAIRS / 20 && yes < PAIRS - PAIRS / 20, "%llu", (unsigned long long)yes);
}

// Each makes one demand more; what it lets pass must have passed before.
static void demand_more(struct ph_tls_policy *policy, unsigned which)
{
    switch (which) {
    case 0:
        policy->level = policy->level > 0 ? policy->level - 1 : policy->level;
        break;
    case 1:
        policy->report = false;
        break;
    case 2:
        // Instead of the level's name Domain Security asks for the domain's (EXCHANGE 3.2).
        policy->domain_secure |= policy->level != PH_TLS_DOMAIN_VALIDATION;
        break;
    case 3:
        policy->requiretls = true;
        break;
    case 4:
        policy->credentials_exact_host = true;
        break;
    case 5:
        policy->revocation_unknown_accept = false;
        break;
    case 6:
        policy->version_min = 0x0304;
        break;
    case 7:
        policy->require_groups = PH_STR("X25519MLKEM768");
        break;
    case 8:
        policy->pins = pins;
        policy->pin_count = 1;
        break;
    case 9:
        policy->accept_dane = false;
        break;
    case 10:
        policy->mx_secure = false;
        break;
    case 11:
        policy->domain_secure_misrouted = true;
        break;
    case 12:
        policy->credentials_in_clear = false;
        break;
    case 13:
        // A policy that vouches for a name may let REQUIRETLS pass: that one demands less.
        policy->sts = policy->sts == NULL && !policy->requiretls ? published[0] : policy->sts;
        break;
    default:
        policy->dane_mode =
            policy->dane_mode == PH_DANE_OPPORTUNISTIC ? PH_DANE_MANDATORY : policy->dane_mode;
        break;
    }
}

Test(gate_oracle, what_demands_more_never_clears_more, .init = publish, .fini = withdraw)
{
    uint64_t turned[15] = {0};

    for (uint64_t i = 0; i < PAIRS; i++) {
        unsigned which = (unsigned)(i % PH_ARRAY_LEN(turned));
        struct pair p;
        bool before;
        bool after;

        draw_pair(&p, i);
        before = cleared(&p);
        demand_more(&p.policy, which);
        after = cleared(&p);
        cr_assert(before || !after, "pair %llu: demand %u lets it pass", (unsigned long long)i,
                  which);
        turned[which] += before && !after;
    }
    // Each demand must have refused something, or it demanded nothing.
    for (size_t i = 0; i < PH_ARRAY_LEN(turned); i++) {
        cr_expect(turned[i] > 0, "demand %zu never mattered", i);
    }
}
