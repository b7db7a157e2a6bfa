// Verdicts on chains: paths with a wrong turn, weak algorithms, purposes, CRLs, stapled responses.
// Covers: tls/constraint
#include <criterion/criterion.h>
#include <string.h>

#include "bench/lib/certs.h"
#include "tls/chain.h"
#include "tls/trust.h"
#include "tls/verify.h"

#define NOW_S INT64_C(1795508260) // 2026-11-24
#define DAY_S INT64_C(86400)

static uint64_t now_s(void *owner)
{
    (void)owner;
    return (uint64_t)NOW_S;
}

// One question: what was sent, what is trusted.
struct scene {
    struct ph_buf leaf;
    struct ph_buf sent; // besides the leaf
    struct ph_buf anchors;
    struct ph_buf crls;
    struct ph_buf staple;
    bool source; // a source of revocation is configured
};

static struct ph_chain_verdict verdict_at(struct scene *scene, int64_t at_s)
{
    struct ph_chain_pool *pool = ph_chain_pool_create();
    struct ph_tls_context *context = ph_tls_context_create(
        &(struct ph_tls_context_options){.now_s = now_s, .chain_cache_max = 4});
    struct ph_buf error = {0};
    struct ph_trust *trust =
        ph_trust_create(&(struct ph_trust_options){.anchors_pem = ph_buf_str(&scene->anchors),
                                                   .intermediates_pem = PH_STR_NONE,
                                                   .crls_pem = ph_buf_str(&scene->crls),
                                                   .revocation_source = scene->source},
                        &error);
    struct ph_chain *chain =
        ph_chain_create_from_pem(pool, ph_buf_str(&scene->leaf), ph_buf_str(&scene->sent),
                                 ph_buf_str(&scene->staple), &error);
    struct ph_chain_verdict verdict;

    cr_assert(trust != NULL && chain != NULL, "%s", ph_buf_cstr(&error));
    verdict = *ph_verify_chain(context, chain, trust, (uint64_t)at_s * 1000);
    // A second time it may come from the cache, and must be the same.
    cr_assert_eq(ph_verify_chain(context, chain, trust, (uint64_t)at_s * 1000)->kind, verdict.kind);
    ph_chain_release(chain);
    ph_trust_release(trust);
    ph_tls_context_destroy(context);
    ph_chain_pool_release(pool);
    ph_buf_deinit(&error);
    return verdict;
}

static void end_scene(struct scene *scene)
{
    ph_buf_deinit(&scene->leaf);
    ph_buf_deinit(&scene->sent);
    ph_buf_deinit(&scene->anchors);
    ph_buf_deinit(&scene->crls);
    ph_buf_deinit(&scene->staple);
}

static void expect_kind(const char *what, struct scene *scene, enum ph_reason_kind wanted)
{
    struct ph_chain_verdict verdict = verdict_at(scene, NOW_S);

    cr_expect_eq(verdict.kind, wanted, "%s: %s %s", what, ph_reason_token(verdict.kind),
                 verdict.detail);
    cr_expect_eq(verdict.kind == PH_REASON_NONE, verdict.detail[0] == '\0', "%s: %s", what,
                 verdict.detail);
}

// --- paths ---

// Two roots, and two certificates of one issuing authority: same name and key. One of them leads
// nowhere; whichever is sent first, the other is found.
Test(verify, goes_back_and_tries_the_other_issuer)
{
    struct ph_cert *good = ph_certs_root("root A");
    struct ph_cert *unknown = ph_certs_root("root B");
    struct ph_cert *issuing = ph_certs_intermediate(good, "issuing");
    struct ph_cert *twins[] = {
        // cross-signed by one nobody trusts
        ph_certs_make(
            unknown,
            &(struct ph_certs_options){.common_name = "issuing", .ca = true, .key_of = issuing}),
        // the old certificate, expired
        ph_certs_make(good, &(struct ph_certs_options){.common_name = "issuing",
                                                       .ca = true,
                                                       .key_of = issuing,
                                                       .not_after_s = NOW_S - DAY_S}),
        // the same name, another key: without key identifiers nothing tells them apart
        ph_certs_make(
            good,
            &(struct ph_certs_options){.common_name = "issuing", .ca = true, .no_key_ids = true}),
        // not signed by the root at all
        ph_certs_make(good, &(struct ph_certs_options){.common_name = "issuing",
                                                       .ca = true,
                                                       .key_of = issuing,
                                                       .bad_signature = true}),
    };
    struct ph_cert *leaf = ph_certs_leaf(issuing, "mx.contoso.test");

    for (size_t i = 0; i < PH_ARRAY_LEN(twins); i++) {
        for (int twin_first = 0; twin_first < 2; twin_first++) {
            struct scene scene = {0};
            char what[64];

            snprintf(what, sizeof(what), "twin %zu, sent %s", i, twin_first ? "first" : "last");
            ph_certs_append(leaf, &scene.leaf);
            ph_certs_append(twin_first ? twins[i] : issuing, &scene.sent);
            ph_certs_append(twin_first ? issuing : twins[i], &scene.sent);
            ph_certs_append(good, &scene.anchors);
            expect_kind(what, &scene, PH_REASON_NONE);
            end_scene(&scene);
        }
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(twins); i++) {
        ph_certs_destroy(twins[i]);
    }
    ph_certs_destroy(leaf);
    ph_certs_destroy(issuing);
    ph_certs_destroy(unknown);
    ph_certs_destroy(good);
}

// Many issuers of one name, of which none or the last is right: the search ends.
Test(verify, a_maze_costs_little)
{
    struct ph_cert *root = ph_certs_root("root");
    struct ph_cert *elsewhere = ph_certs_root("elsewhere");
    struct ph_cert *issuing = ph_certs_intermediate(root, "issuing");
    struct ph_cert *leaf = ph_certs_leaf(issuing, "mx.contoso.test");
    struct ph_cert *wrong[30];
    struct scene scene = {0};

    ph_certs_append(leaf, &scene.leaf);
    ph_certs_append(root, &scene.anchors);
    for (size_t i = 0; i < PH_ARRAY_LEN(wrong); i++) {
        wrong[i] = ph_certs_make(
            elsewhere,
            &(struct ph_certs_options){.common_name = "issuing", .ca = true, .key_of = issuing});
        ph_certs_append(wrong[i], &scene.sent);
    }
    expect_kind("nothing but wrong turns", &scene, PH_REASON_CERT_UNTRUSTED_ROOT);
    ph_certs_append(issuing, &scene.sent); // no. 32 of what was presented: the last looked at
    expect_kind("the last is right", &scene, PH_REASON_NONE);
    end_scene(&scene);
    for (size_t i = 0; i < PH_ARRAY_LEN(wrong); i++) {
        ph_certs_destroy(wrong[i]);
    }
    ph_certs_destroy(leaf);
    ph_certs_destroy(issuing);
    ph_certs_destroy(elsewhere);
    ph_certs_destroy(root);
}

Test(verify, why_there_is_no_path)
{
    struct ph_cert *root = ph_certs_root("root");
    struct ph_cert *other = ph_certs_root("other");
    struct ph_cert *issuing = ph_certs_intermediate(root, "issuing");
    struct ph_cert *leaf = ph_certs_leaf(issuing, "mx.contoso.test");
    struct ph_cert *named =
        ph_certs_make(issuing, &(struct ph_certs_options){.common_name = "no authority"});
    struct ph_cert *beneath = ph_certs_leaf(named, "mx.contoso.test");
    struct scene scene = {0};

    ph_certs_append(leaf, &scene.leaf);
    ph_certs_append(root, &scene.anchors);
    expect_kind("intermediate not sent", &scene, PH_REASON_CERT_PARTIAL_CHAIN);
    ph_certs_append(issuing, &scene.sent);
    expect_kind("whole", &scene, PH_REASON_NONE);
    ph_certs_append(root, &scene.sent);
    expect_kind("with the root", &scene, PH_REASON_NONE);
    end_scene(&scene);

    scene = (struct scene){0};
    ph_certs_append(leaf, &scene.leaf);
    ph_certs_append(issuing, &scene.sent);
    ph_certs_append(other, &scene.anchors);
    expect_kind("another root", &scene, PH_REASON_CERT_UNTRUSTED_ROOT);
    end_scene(&scene);

    scene = (struct scene){0};
    ph_certs_append(other, &scene.leaf);
    ph_certs_append(root, &scene.anchors);
    expect_kind("self-signed", &scene, PH_REASON_CERT_SELF_SIGNED);
    end_scene(&scene);

    scene = (struct scene){0};
    ph_certs_append(leaf, &scene.leaf);
    ph_certs_append(issuing, &scene.anchors);
    expect_kind("an intermediate as anchor", &scene, PH_REASON_NONE);
    end_scene(&scene);

    scene = (struct scene){0};
    ph_certs_append(leaf, &scene.leaf);
    ph_certs_append(leaf, &scene.anchors);
    expect_kind("the leaf as anchor", &scene, PH_REASON_NONE);
    end_scene(&scene);

    scene = (struct scene){0};
    ph_certs_append(beneath, &scene.leaf);
    ph_certs_append_chain(named, &scene.sent);
    ph_certs_append(root, &scene.anchors);
    expect_kind("issued by a leaf", &scene, PH_REASON_CERT_UNTRUSTED_ROOT);
    end_scene(&scene);
    ph_certs_destroy(beneath);
    ph_certs_destroy(named);
    ph_certs_destroy(leaf);
    ph_certs_destroy(issuing);
    ph_certs_destroy(other);
    ph_certs_destroy(root);
}

// --- what a certificate may be ---

static struct ph_str mx[] = {PH_STR("mx.contoso.test")};

#define LEAF(...)                                                                                  \
    {                                                                                              \
        .dns_names = mx, .dns_name_count = 1, __VA_ARGS__                                          \
    }

Test(verify, algorithms_purposes_and_dates_of_the_leaf)
{
    const struct {
        const char *what;
        struct ph_certs_options leaf;
        enum ph_reason_kind kind;
    } rows[] = {
        {"good", LEAF(.key = PH_CERTS_P256), PH_REASON_NONE},
        {"RSA 2048", LEAF(.key = PH_CERTS_RSA_2048), PH_REASON_NONE},
        {"RSA 1024", LEAF(.key = PH_CERTS_RSA_1024), PH_REASON_CERT_WEAK},
        {"P-224", LEAF(.key = PH_CERTS_P224), PH_REASON_CERT_WEAK},
        {"SHA-1", LEAF(.sha1 = true), PH_REASON_CERT_WEAK},
        {"for clients", LEAF(.usage = PH_CERTS_USAGE_CLIENT), PH_REASON_CERT_USAGE},
        {"for both", LEAF(.usage = PH_CERTS_USAGE_BOTH), PH_REASON_NONE},
        {"for anything", LEAF(.usage = PH_CERTS_USAGE_ANY), PH_REASON_NONE},
        {"no usage said", LEAF(.usage = PH_CERTS_USAGE_NONE), PH_REASON_NONE},
        {"for OCSP", LEAF(.usage = PH_CERTS_USAGE_OCSP), PH_REASON_CERT_USAGE},
        {"expired", LEAF(.not_after_s = NOW_S - 1), PH_REASON_CERT_EXPIRED},
        {"ends this second", LEAF(.not_after_s = NOW_S), PH_REASON_CERT_EXPIRED},
        {"ends the next", LEAF(.not_after_s = NOW_S + 1), PH_REASON_NONE},
        {"begins this second", LEAF(.not_before_s = NOW_S), PH_REASON_NONE},
        {"begins the next", LEAF(.not_before_s = NOW_S + 1), PH_REASON_CERT_NOT_YET_VALID},
        {"not signed by it", LEAF(.bad_signature = true), PH_REASON_CERT_UNTRUSTED_ROOT},
        {"unknown critical extension",
         LEAF(.extensions = {{"authorityInfoAccess", "critical,OCSP;URI:http://o.test/"}}),
         PH_REASON_CERT_UNTRUSTED_ROOT},
    };
    struct ph_cert *root = ph_certs_root("root");
    struct ph_cert *issuing = ph_certs_intermediate(root, "issuing");

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_cert *leaf = ph_certs_make(issuing, &rows[i].leaf);
        struct scene scene = {0};

        ph_certs_append(leaf, &scene.leaf);
        ph_certs_append(issuing, &scene.sent);
        ph_certs_append(root, &scene.anchors);
        expect_kind(rows[i].what, &scene, rows[i].kind);
        end_scene(&scene);
        ph_certs_destroy(leaf);
    }
    ph_certs_destroy(issuing);
    ph_certs_destroy(root);
}

Test(verify, what_an_authority_may_be)
{
    const struct {
        const char *what;
        struct ph_certs_options authority;
        enum ph_reason_kind kind;
    } rows[] = {
        {"good", {.ca = true}, PH_REASON_NONE},
        {"no authority", {.ca = false}, PH_REASON_CERT_UNTRUSTED_ROOT},
        {"may not sign", {.ca = true, .no_cert_sign = true}, PH_REASON_CERT_UNTRUSTED_ROOT},
        {"no more below it", {.ca = true, .path_len = "0"}, PH_REASON_CERT_UNTRUSTED_ROOT},
        {"one more below it", {.ca = true, .path_len = "1"}, PH_REASON_NONE},
        {"RSA 1024", {.ca = true, .key = PH_CERTS_RSA_1024}, PH_REASON_CERT_WEAK},
        {"SHA-1", {.ca = true, .sha1 = true}, PH_REASON_CERT_WEAK},
        {"expired", {.ca = true, .not_after_s = NOW_S - DAY_S}, PH_REASON_CERT_EXPIRED},
        {"for clients only",
         {.ca = true, .extensions = {{"extendedKeyUsage", "clientAuth"}}},
         PH_REASON_CERT_USAGE},
        {"for servers",
         {.ca = true, .extensions = {{"extendedKeyUsage", "serverAuth"}}},
         PH_REASON_NONE},
        {"may certify the name",
         {.ca = true, .extensions = {{"nameConstraints", "critical,permitted;DNS:contoso.test"}}},
         PH_REASON_NONE},
        {"may certify other names",
         {.ca = true, .extensions = {{"nameConstraints", "critical,permitted;DNS:other.test"}}},
         PH_REASON_CERT_UNTRUSTED_ROOT},
        {"may not certify the name",
         {.ca = true, .extensions = {{"nameConstraints", "critical,excluded;DNS:contoso.test"}}},
         PH_REASON_CERT_UNTRUSTED_ROOT},
    };
    struct ph_cert *root = ph_certs_root("root");

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_certs_options options = rows[i].authority;
        struct ph_cert *upper;
        struct ph_cert *issuing;
        struct ph_cert *leaf;
        struct scene scene = {0};

        options.common_name = "upper";
        upper = ph_certs_make(root, &options);
        issuing = ph_certs_intermediate(upper, "issuing");
        leaf = ph_certs_leaf(issuing, "mx.contoso.test");
        ph_certs_append(leaf, &scene.leaf);
        ph_certs_append(issuing, &scene.sent);
        ph_certs_append(upper, &scene.sent);
        ph_certs_append(root, &scene.anchors);
        expect_kind(rows[i].what, &scene, rows[i].kind);
        end_scene(&scene);
        ph_certs_destroy(leaf);
        ph_certs_destroy(issuing);
        ph_certs_destroy(upper);
    }
    ph_certs_destroy(root);
}

Test(verify, a_wildcard_does_not_stand_for_an_excluded_name)
{
    const struct {
        const char *name;
        const char *excluded;
        enum ph_reason_kind kind;
    } rows[] = {
        {"*.contoso.test", "critical,excluded;DNS:mx.contoso.test", PH_REASON_CERT_UNTRUSTED_ROOT},
        {"*.contoso.test", "critical,excluded;DNS:MX.Contoso.test", PH_REASON_CERT_UNTRUSTED_ROOT},
        {"*.contoso.test", "critical,excluded;DNS:contoso.test", PH_REASON_CERT_UNTRUSTED_ROOT},
        {"*.contoso.test", "critical,excluded;DNS:a.mx.contoso.test", PH_REASON_NONE},
        {"*.contoso.test", "critical,excluded;DNS:mx.other.test", PH_REASON_NONE},
        {"mail.contoso.test", "critical,excluded;DNS:mx.contoso.test", PH_REASON_NONE},
    };
    struct ph_cert *root = ph_certs_root("root");

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_str name = ph_str_from(rows[i].name);
        struct ph_cert *issuing = ph_certs_make(
            root,
            &(struct ph_certs_options){.common_name = "issuing",
                                       .ca = true,
                                       .extensions = {{"nameConstraints", rows[i].excluded}}});
        struct ph_cert *leaf = ph_certs_make(
            issuing, &(struct ph_certs_options){.dns_names = &name, .dns_name_count = 1});
        struct scene scene = {0};

        ph_certs_append(leaf, &scene.leaf);
        ph_certs_append(issuing, &scene.sent);
        ph_certs_append(root, &scene.anchors);
        expect_kind(rows[i].excluded, &scene, rows[i].kind);
        end_scene(&scene);
        ph_certs_destroy(leaf);
        ph_certs_destroy(issuing);
    }
    ph_certs_destroy(root);
}

// --- CRLs ---

#define URL "URI:http://crl.test/a.crl"

struct crl_row {
    const char *what;
    struct ph_certs_crl_options crls[2]; // a zero `serials` with count 1: the leaf's is revoked
    size_t crl_count;
    bool no_source;
    bool pointer; // the certificate names URL
    enum ph_revocation revocation;
    enum ph_reason_kind kind;
};

#define REVOKED .serial_count = 1
#define POINT(text) .extensions = {{"issuingDistributionPoint", text}}

static struct ph_cert *stranger; // of the issuer's name, with another key

static const struct crl_row crl_rows[] = {
    {"none, none configured", .no_source = true, .revocation = PH_REVOCATION_NOT_CHECKED},
    {"none, and no pointer", .revocation = PH_REVOCATION_NOT_CHECKABLE},
    {"none, but a pointer", .pointer = true, .revocation = PH_REVOCATION_UNKNOWN},
    {"good", {{0}}, 1, .revocation = PH_REVOCATION_GOOD},
    {"revoked",
     {{REVOKED}},
     1,
     .revocation = PH_REVOCATION_REVOKED,
     .kind = PH_REASON_CERT_REVOKED},
    {"stale", {{.next_update_s = NOW_S}}, 1, .revocation = PH_REVOCATION_UNKNOWN},
    {"fresh for a second more",
     {{.next_update_s = NOW_S + 1}},
     1,
     .revocation = PH_REVOCATION_GOOD},
    {"not yet valid", {{.this_update_s = NOW_S + 1}}, 1, .revocation = PH_REVOCATION_UNKNOWN},
    {"stale and revoked",
     {{REVOKED, .next_update_s = NOW_S - DAY_S}},
     1,
     .revocation = PH_REVOCATION_REVOKED,
     .kind = PH_REASON_CERT_REVOKED},
    {"future and revoked",
     {{REVOKED, .this_update_s = NOW_S + DAY_S}},
     1,
     .revocation = PH_REVOCATION_UNKNOWN},
    {"stale, then fresh",
     {{.next_update_s = NOW_S - DAY_S}, {0}},
     2,
     .revocation = PH_REVOCATION_GOOD},
    {"fresh, then stale",
     {{0}, {.next_update_s = NOW_S - DAY_S}},
     2,
     .revocation = PH_REVOCATION_GOOD},
    {"stale says revoked, fresh took it back",
     {{REVOKED, .next_update_s = NOW_S - DAY_S}, {0}},
     2,
     .revocation = PH_REVOCATION_GOOD},
    {"one of two fresh ones says revoked",
     {{0}, {REVOKED}},
     2,
     .revocation = PH_REVOCATION_REVOKED,
     .kind = PH_REASON_CERT_REVOKED},
    {"for users only", {{POINT("critical,onlyuser:TRUE")}}, 1, .revocation = PH_REVOCATION_GOOD},
    {"for authorities only",
     {{POINT("critical,onlyCA:TRUE")}},
     1,
     .revocation = PH_REVOCATION_UNKNOWN},
    {"for attributes only",
     {{POINT("critical,onlyAA:TRUE")}},
     1,
     .revocation = PH_REVOCATION_UNKNOWN},
    {"some reasons only",
     {{POINT("critical,onlysomereasons:keyCompromise")}},
     1,
     .revocation = PH_REVOCATION_UNKNOWN},
    {"indirect", {{POINT("critical,indirectCRL:TRUE")}}, 1, .revocation = PH_REVOCATION_UNKNOWN},
    {"of the certificate's point",
     {{POINT("critical,fullname:" URL)}},
     1,
     .pointer = true,
     .revocation = PH_REVOCATION_GOOD},
    {"of another point",
     {{POINT("critical,fullname:URI:http://crl.test/b.crl")}},
     1,
     .pointer = true,
     .revocation = PH_REVOCATION_UNKNOWN},
    {"of a point, the certificate names none",
     {{POINT("critical,fullname:" URL)}},
     1,
     .revocation = PH_REVOCATION_UNKNOWN},
    {"delta",
     {{.extensions = {{"deltaCRL", "critical,1"}}}},
     1,
     .revocation = PH_REVOCATION_UNKNOWN},
    {"delta says revoked",
     {{REVOKED, .extensions = {{"deltaCRL", "critical,1"}}}},
     1,
     .revocation = PH_REVOCATION_UNKNOWN},
    {"unknown critical extension",
     {{.extensions = {{"authorityInfoAccess", "critical,OCSP;URI:http://o.test/"}}}},
     1,
     .revocation = PH_REVOCATION_UNKNOWN},
    {"another extension",
     {{.extensions = {{"authorityInfoAccess", "OCSP;URI:http://o.test/"}}}},
     1,
     .revocation = PH_REVOCATION_GOOD},
};

static void check_crl_row(const struct crl_row *row, struct ph_cert *root)
{
    struct ph_certs_options options = LEAF(.key = PH_CERTS_P256);
    struct ph_cert *leaf;
    struct scene scene = {.source = !row->no_source};
    struct ph_chain_verdict verdict;
    uint64_t serial;

    if (row->pointer) {
        options.extensions[0][0] = "crlDistributionPoints";
        options.extensions[0][1] = URL;
    }
    leaf = ph_certs_make(root, &options);
    serial = ph_certs_serial(leaf);
    for (size_t i = 0; i < row->crl_count; i++) {
        struct ph_certs_crl_options crl = row->crls[i];

        crl.serials = &serial;
        ph_certs_append_crl(root, &crl, &scene.crls);
    }
    ph_certs_append(leaf, &scene.leaf);
    ph_certs_append(root, &scene.anchors);
    verdict = verdict_at(&scene, NOW_S);
    cr_expect_eq(verdict.revocation, row->revocation, "%s: %s (%s)", row->what,
                 ph_revocation_name(verdict.revocation), verdict.revocation_detail);
    cr_expect_eq(verdict.revocation_leaf, row->revocation, "%s", row->what);
    cr_expect_eq(verdict.kind, row->kind, "%s: %s", row->what, verdict.detail);
    cr_expect_neq(verdict.revocation_detail[0], '\0', "%s", row->what);
    end_scene(&scene);
    ph_certs_destroy(leaf);
}

Test(verify, crls)
{
    struct ph_cert *root = ph_certs_root("root");
    struct scene scene = {.source = true};
    struct ph_cert *leaf = ph_certs_leaf(root, "mx.contoso.test");
    uint64_t serial = ph_certs_serial(leaf);

    for (size_t i = 0; i < PH_ARRAY_LEN(crl_rows); i++) {
        check_crl_row(&crl_rows[i], root);
    }
    // Signed by another key: neither its "good" nor its "revoked" counts.
    stranger = ph_certs_root("root");
    for (size_t count = 0; count < 2; count++) {
        ph_buf_clear(&scene.crls);
        ph_certs_append_crl(root,
                            &(struct ph_certs_crl_options){
                                .serials = &serial, .serial_count = count, .signed_by = stranger},
                            &scene.crls);
        ph_buf_clear(&scene.leaf);
        ph_buf_clear(&scene.anchors);
        ph_certs_append(leaf, &scene.leaf);
        ph_certs_append(root, &scene.anchors);
        cr_expect_eq(verdict_at(&scene, NOW_S).revocation, PH_REVOCATION_UNKNOWN);
    }
    end_scene(&scene);
    ph_certs_destroy(leaf);
    ph_certs_destroy(stranger);
    ph_certs_destroy(root);
}

// Each certificate below the root has an issuer that must have said something.
Test(verify, crls_of_intermediates)
{
    struct ph_cert *root = ph_certs_root("root");
    struct ph_cert *issuing = ph_certs_make(
        root, &(struct ph_certs_options){.common_name = "issuing",
                                         .ca = true,
                                         .extensions = {{"crlDistributionPoints", URL}}});
    struct ph_cert *leaf = ph_certs_leaf(issuing, "mx.contoso.test");
    uint64_t serial = ph_certs_serial(issuing);
    struct scene scene = {.source = true};
    struct ph_chain_verdict verdict;

    ph_certs_append(leaf, &scene.leaf);
    ph_certs_append(issuing, &scene.sent);
    ph_certs_append(root, &scene.anchors);
    ph_certs_append_crl(issuing, &(struct ph_certs_crl_options){0}, &scene.crls);
    verdict = verdict_at(&scene, NOW_S);
    cr_expect_eq(verdict.revocation_leaf, PH_REVOCATION_GOOD);
    cr_expect_eq(verdict.revocation, PH_REVOCATION_UNKNOWN, "%s", verdict.revocation_detail);
    ph_certs_append_crl(root, &(struct ph_certs_crl_options){0}, &scene.crls);
    cr_expect_eq(verdict_at(&scene, NOW_S).revocation, PH_REVOCATION_GOOD);
    ph_certs_append_crl(root, &(struct ph_certs_crl_options){.serials = &serial, .serial_count = 1},
                        &scene.crls);
    expect_kind("the issuer is revoked", &scene, PH_REASON_CERT_REVOKED);
    end_scene(&scene);
    ph_certs_destroy(leaf);
    ph_certs_destroy(issuing);
    ph_certs_destroy(root);
}

// --- stapled OCSP responses ---

enum responder {
    BY_ISSUER,
    BY_DELEGATE,
    BY_DELEGATE_WITHOUT_PURPOSE,
    BY_DELEGATE_OF_ANOTHER,
    BY_DELEGATE_EXPIRED,
    BY_LEAF_ITSELF,
};

Test(verify, staples)
{
    const struct {
        const char *what;
        struct ph_certs_ocsp_options staple;
        enum responder by;
        int crl; // 1: the issuer's CRL is at hand, and doesn't list it; 2: and does
        enum ph_revocation revocation;
    } rows[] = {
        {"good", {0}, BY_ISSUER, 0, PH_REVOCATION_GOOD},
        {"good, but the CRL lists it", {0}, BY_ISSUER, 2, PH_REVOCATION_REVOKED},
        {"revoked", {.status = PH_CERTS_OCSP_REVOKED}, BY_ISSUER, 0, PH_REVOCATION_REVOKED},
        {"revoked, the CRL doesn't know yet",
         {.status = PH_CERTS_OCSP_REVOKED},
         BY_ISSUER,
         1,
         PH_REVOCATION_REVOKED},
        {"unknown", {.status = PH_CERTS_OCSP_UNKNOWN}, BY_ISSUER, 0, PH_REVOCATION_UNKNOWN},
        {"unknown, the CRL says good",
         {.status = PH_CERTS_OCSP_UNKNOWN},
         BY_ISSUER,
         1,
         PH_REVOCATION_GOOD},
        {"stale", {.next_update_s = NOW_S}, BY_ISSUER, 0, PH_REVOCATION_UNKNOWN},
        {"fresh for a second", {.next_update_s = NOW_S + 1}, BY_ISSUER, 0, PH_REVOCATION_GOOD},
        {"future", {.this_update_s = NOW_S + 1}, BY_ISSUER, 0, PH_REVOCATION_UNKNOWN},
        {"stale and revoked",
         {.status = PH_CERTS_OCSP_REVOKED, .next_update_s = NOW_S - DAY_S},
         BY_ISSUER,
         0,
         PH_REVOCATION_REVOKED},
        {"wrong serial", {.serial = 77777}, BY_ISSUER, 0, PH_REVOCATION_UNKNOWN},
        {"bad signature", {.bad_signature = true}, BY_ISSUER, 0, PH_REVOCATION_UNKNOWN},
        {"bad signature on revoked",
         {.status = PH_CERTS_OCSP_REVOKED, .bad_signature = true},
         BY_ISSUER,
         1,
         PH_REVOCATION_GOOD},
        {"delegate", {0}, BY_DELEGATE, 0, PH_REVOCATION_GOOD},
        {"delegate says revoked",
         {.status = PH_CERTS_OCSP_REVOKED},
         BY_DELEGATE,
         0,
         PH_REVOCATION_REVOKED},
        {"delegate without OCSPSigning",
         {0},
         BY_DELEGATE_WITHOUT_PURPOSE,
         0,
         PH_REVOCATION_UNKNOWN},
        {"another authority's delegate", {0}, BY_DELEGATE_OF_ANOTHER, 0, PH_REVOCATION_UNKNOWN},
        {"expired delegate", {0}, BY_DELEGATE_EXPIRED, 0, PH_REVOCATION_UNKNOWN},
        {"the leaf vouches for itself", {0}, BY_LEAF_ITSELF, 0, PH_REVOCATION_UNKNOWN},
    };
    struct ph_cert *root = ph_certs_root("root");
    struct ph_cert *other = ph_certs_root("other");
    struct ph_cert *leaf = ph_certs_leaf(root, "mx.contoso.test");
    uint64_t serial = ph_certs_serial(leaf);
    struct ph_cert *responders[] = {
        [BY_ISSUER] = NULL,
        [BY_DELEGATE] = ph_certs_make(
            root, &(struct ph_certs_options){.common_name = "ocsp", .usage = PH_CERTS_USAGE_OCSP}),
        [BY_DELEGATE_WITHOUT_PURPOSE] = ph_certs_make(
            root, &(struct ph_certs_options){.common_name = "ocsp", .usage = PH_CERTS_USAGE_NONE}),
        [BY_DELEGATE_OF_ANOTHER] = ph_certs_make(
            other, &(struct ph_certs_options){.common_name = "ocsp", .usage = PH_CERTS_USAGE_OCSP}),
        [BY_DELEGATE_EXPIRED] =
            ph_certs_make(root, &(struct ph_certs_options){.common_name = "ocsp",
                                                           .usage = PH_CERTS_USAGE_OCSP,
                                                           .not_after_s = NOW_S - DAY_S}),
        [BY_LEAF_ITSELF] = leaf,
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_certs_ocsp_options options = rows[i].staple;
        struct scene scene = {.source = true};
        struct ph_chain_verdict verdict;

        options.responder = responders[rows[i].by];
        ph_certs_append(leaf, &scene.leaf);
        ph_certs_append(root, &scene.anchors);
        ph_certs_append_ocsp(leaf, &options, &scene.staple);
        if (rows[i].crl > 0) {
            ph_certs_append_crl(root,
                                &(struct ph_certs_crl_options){
                                    .serials = &serial, .serial_count = (size_t)rows[i].crl - 1},
                                &scene.crls);
        }
        verdict = verdict_at(&scene, NOW_S);
        cr_expect_eq(verdict.revocation, rows[i].revocation, "%s: %s (%s)", rows[i].what,
                     ph_revocation_name(verdict.revocation), verdict.revocation_detail);
        cr_expect_eq(verdict.kind == PH_REASON_CERT_REVOKED,
                     rows[i].revocation == PH_REVOCATION_REVOKED, "%s", rows[i].what);
        // Whatever is wrong with its bytes, it isn't good and nothing breaks.
        for (size_t cut = 0; rows[i].by == BY_ISSUER && cut < scene.staple.len; cut += 7) {
            struct scene torn = scene;
            struct ph_buf part = {0};

            ph_buf_append(&part, ph_str_first(ph_buf_str(&scene.staple), cut));
            torn.staple = part;
            torn.crls = (struct ph_buf){0};
            verdict = verdict_at(&torn, NOW_S);
            cr_expect_neq(verdict.revocation, PH_REVOCATION_GOOD, "%s cut at %zu", rows[i].what,
                          cut);
            ph_buf_deinit(&part);
        }
        ph_buf_append(&scene.staple, PH_STR("x")); // something behind it
        ph_buf_clear(&scene.crls);
        cr_expect_neq(verdict_at(&scene, NOW_S).revocation, PH_REVOCATION_GOOD, "%s", rows[i].what);
        end_scene(&scene);
    }
    for (int i = BY_DELEGATE; i < BY_LEAF_ITSELF; i++) {
        ph_certs_destroy(responders[i]);
    }
    ph_certs_destroy(leaf);
    ph_certs_destroy(other);
    ph_certs_destroy(root);
}
