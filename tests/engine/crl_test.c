// CRLs in sets that change under the workers' caches.
// Covers: tls/crl tls/crls tls/window
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/certs.h"
#include "tls/chain.h"
#include "tls/crls.h"
#include "tls/trust.h"
#include "tls/verify.h"

#define NOW_S INT64_C(1795508260) // 2026-11-24
#define DAY_S INT64_C(86400)

static uint64_t now_s(void *owner)
{
    (void)owner;
    return (uint64_t)NOW_S;
}

static struct ph_crl *make_crl(const struct ph_cert *issuer,
                               const struct ph_certs_crl_options *options)
{
    struct ph_buf pem = {0};
    struct ph_buf error = {0};
    struct ph_crl *crl;

    ph_certs_append_crl(issuer, options, &pem);
    crl = ph_crl_parse(ph_buf_str(&pem), &error);
    cr_assert_not_null(crl, "%s", ph_buf_cstr(&error));
    ph_buf_deinit(&pem);
    ph_buf_deinit(&error);
    return crl;
}

static X509 *x509_of(const struct ph_cert *cert)
{
    struct ph_buf der = {0};
    const uint8_t *at;
    X509 *x509;

    ph_certs_append_der(cert, &der);
    at = (const uint8_t *)der.data;
    x509 = d2i_X509(NULL, &at, (long)der.len);
    cr_assert_not_null(x509);
    ph_buf_deinit(&der);
    return x509;
}

Test(crl, lists_exactly_what_is_on_it)
{
    struct ph_cert *root = ph_certs_root("root");
    uint64_t serials[5000];
    struct ph_crl *crl;
    size_t listed = 0;

    for (size_t i = 0; i < PH_ARRAY_LEN(serials); i++) {
        serials[i] = i * 97 + 100; // some with the top bit of their first byte set
    }
    crl = make_crl(root, &(struct ph_certs_crl_options){.serials = serials,
                                                        .serial_count = PH_ARRAY_LEN(serials)});
    cr_expect_eq(crl->entry_count, PH_ARRAY_LEN(serials));
    cr_expect_null(crl->unusable);
    for (uint64_t serial = 100; serial < 500; serial++) {
        struct ph_cert *leaf = ph_certs_make(root, &(struct ph_certs_options){.serial = serial});
        X509 *x509 = x509_of(leaf);

        cr_expect_eq(ph_crl_lists(crl, x509), (serial - 100) % 97 == 0, "%llu",
                     (unsigned long long)serial);
        listed += ph_crl_lists(crl, x509);
        X509_free(x509);
        ph_certs_destroy(leaf);
    }
    cr_expect_eq(listed, 5);
    ph_crl_release(crl);
    ph_certs_destroy(root);
}

Test(crl, is_signed_by_its_issuer_alone)
{
    struct ph_cert *root = ph_certs_root("root");
    struct ph_cert *namesake = ph_certs_root("root");
    X509 *right = x509_of(root);
    X509 *wrong = x509_of(namesake);
    struct ph_crl *crl = make_crl(root, &(struct ph_certs_crl_options){0});

    for (int round = 0; round < 2; round++) { // the second time from memory
        cr_expect(ph_crl_is_signed_by(crl, right));
        cr_expect(!ph_crl_is_signed_by(crl, wrong));
    }
    ph_crl_release(crl);
    X509_free(right);
    X509_free(wrong);
    ph_certs_destroy(root);
    ph_certs_destroy(namesake);
}

Test(crl, what_is_torn_or_changed_is_not_taken)
{
    struct ph_cert *root = ph_certs_root("root");
    uint64_t serials[] = {1, 2, 3};
    struct ph_crl *crl =
        make_crl(root, &(struct ph_certs_crl_options){.serials = serials, .serial_count = 3});
    X509 *issuer = x509_of(root);
    char *copy = malloc(crl->der.len + 1);
    struct ph_buf error = {0};

    for (size_t len = 0; len < crl->der.len; len++) {
        cr_expect_null(ph_crl_parse(ph_str_first(crl->der, len), &error), "cut at %zu", len);
    }
    memcpy(copy, crl->der.data, crl->der.len);
    copy[crl->der.len] = 0;
    cr_expect_null(ph_crl_parse((struct ph_str){.data = copy, .len = crl->der.len + 1}, &error));
    for (size_t at = 0; at < crl->der.len; at++) {
        struct ph_crl *changed;

        copy[at] ^= 0x41;
        changed = ph_crl_parse((struct ph_str){.data = copy, .len = crl->der.len}, &error);
        copy[at] ^= 0x41;
        cr_expect(changed == NULL || changed->unusable != NULL ||
                      !ph_crl_is_signed_by(changed, issuer),
                  "changed at %zu", at);
        ph_crl_release(changed);
    }
    cr_expect_null(ph_crl_parse(PH_STR("-----BEGIN X509 CRL-----\nAAAA\n"), &error));
    cr_expect_null(ph_crl_parse(PH_STR("<html>not found</html>"), &error));
    cr_expect_null(ph_crl_parse(PH_STR_NONE, &error));
    cr_expect(error.len > 0);
    ph_buf_deinit(&error);
    free(copy);
    X509_free(issuer);
    ph_crl_release(crl);
    ph_certs_destroy(root);
}

// --- verdicts while the set changes ---

struct world {
    struct ph_cert *root;
    struct ph_cert *leaf;
    uint64_t serial;
    struct ph_trust *trust;
    struct ph_tls_context *context;
    struct ph_chain_pool *pool;
    struct ph_chain *chain;
};

static struct world make_world(bool fetches)
{
    struct world w = {.root = ph_certs_root("root"), .pool = ph_chain_pool_create()};
    struct ph_str names[] = {PH_STR("mx.contoso.test")};
    struct ph_buf anchors = {0};
    struct ph_buf leaf = {0};
    struct ph_buf error = {0};

    w.leaf = ph_certs_make(
        w.root, &(struct ph_certs_options){
                    .dns_names = names,
                    .dns_name_count = 1,
                    .extensions = {{"crlDistributionPoints", "URI:http://crl.test/a.crl"}}});
    w.serial = ph_certs_serial(w.leaf);
    ph_certs_append(w.root, &anchors);
    ph_certs_append(w.leaf, &leaf);
    w.trust = ph_trust_create(&(struct ph_trust_options){.anchors_pem = ph_buf_str(&anchors),
                                                         .intermediates_pem = PH_STR_NONE,
                                                         .crls_pem = PH_STR_NONE,
                                                         .revocation_fetch = fetches},
                              &error);
    w.chain = ph_chain_create_from_pem(w.pool, ph_buf_str(&leaf), PH_STR_NONE, PH_STR_NONE, &error);
    w.context = ph_tls_context_create(
        &(struct ph_tls_context_options){.now_s = now_s, .chain_cache_max = 8});
    cr_assert(w.trust != NULL && w.chain != NULL, "%s", ph_buf_cstr(&error));
    ph_buf_deinit(&anchors);
    ph_buf_deinit(&leaf);
    return w;
}

static void end_world(struct world *w)
{
    ph_tls_context_destroy(w->context);
    ph_chain_release(w->chain);
    ph_chain_pool_release(w->pool);
    ph_trust_release(w->trust);
    ph_certs_destroy(w->leaf);
    ph_certs_destroy(w->root);
}

static void set(struct world *w, struct ph_crl *const *list, size_t count)
{
    struct ph_crls *crls = ph_crls_create(list, count);

    ph_tls_context_set_crls(w->context, crls);
    ph_crls_release(crls);
}

static enum ph_revocation ask_at(struct world *w, int64_t at_s)
{
    const struct ph_chain_verdict *verdict =
        ph_verify_chain(w->context, w->chain, w->trust, (uint64_t)at_s * 1000);

    cr_expect_eq(verdict->kind == PH_REASON_CERT_REVOKED,
                 verdict->revocation == PH_REVOCATION_REVOKED);
    return verdict->revocation;
}

static enum ph_revocation ask(struct world *w)
{
    return ask_at(w, NOW_S);
}

Test(crls, a_new_list_ends_the_verdicts_it_concerns_and_no_others)
{
    struct world w = make_world(true);
    struct ph_cert *other = ph_certs_root("other");
    struct ph_crl *lists[] = {
        make_crl(w.root, &(struct ph_certs_crl_options){.this_update_s = NOW_S - 2 * DAY_S}),
        make_crl(other, &(struct ph_certs_crl_options){0}),
        make_crl(w.root, &(struct ph_certs_crl_options){.serials = &w.serial,
                                                        .serial_count = 1,
                                                        .this_update_s = NOW_S - DAY_S}),
    };
    uint64_t full;

    cr_expect_eq(ask(&w), PH_REVOCATION_UNKNOWN);
    cr_expect_eq(ask(&w), PH_REVOCATION_UNKNOWN);
    cr_expect_eq(ph_verify_stats(w.context).cached, 1);
    set(&w, lists, 1);
    cr_expect_eq(ask(&w), PH_REVOCATION_GOOD);
    full = ph_verify_stats(w.context).full;
    set(&w, lists, 2); // of another issuer: the verdict stays
    cr_expect_eq(ask(&w), PH_REVOCATION_GOOD);
    cr_expect_eq(ph_verify_stats(w.context).full, full);
    set(&w, lists, 3); // the newer one of the two lists it
    cr_expect_eq(ask(&w), PH_REVOCATION_REVOKED);
    cr_expect_eq(ph_verify_stats(w.context).full, full + 1);
    set(&w, lists, 2); // taken back
    cr_expect_eq(ask(&w), PH_REVOCATION_GOOD);
    set(&w, NULL, 0);
    cr_expect_eq(ask(&w), PH_REVOCATION_UNKNOWN);
    for (size_t i = 0; i < PH_ARRAY_LEN(lists); i++) {
        ph_crl_release(lists[i]);
    }
    ph_certs_destroy(other);
    end_world(&w);
}

Test(crls, the_newer_list_of_a_scope_counts)
{
    struct world w = make_world(true);
    const struct ph_certs_crl_options old = {.this_update_s = NOW_S - 2 * DAY_S};
    const struct ph_certs_crl_options new = {.this_update_s = NOW_S - DAY_S};
    const struct ph_certs_crl_options future = {.this_update_s = NOW_S + DAY_S};
    const struct {
        struct ph_certs_crl_options clear;
        struct ph_certs_crl_options listing;
        enum ph_revocation revocation;
    } rows[] = {
        {old, new, PH_REVOCATION_REVOKED},
        {new, old, PH_REVOCATION_GOOD},
        {old, old, PH_REVOCATION_REVOKED},
        {old, future, PH_REVOCATION_GOOD},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_certs_crl_options listing = rows[i].listing;
        struct ph_crl *lists[2];

        listing.serials = &w.serial;
        listing.serial_count = 1;
        lists[0] = make_crl(w.root, &rows[i].clear);
        lists[1] = make_crl(w.root, &listing);
        set(&w, lists, 2);
        cr_expect_eq(ask(&w), rows[i].revocation, "row %zu", i);
        ph_crl_release(lists[0]);
        ph_crl_release(lists[1]);
    }
    end_world(&w);
}

Test(crls, a_verdict_ends_with_the_list_it_came_from)
{
    struct world w = make_world(true);
    struct ph_crl *crl =
        make_crl(w.root, &(struct ph_certs_crl_options){.next_update_s = NOW_S + 100});

    set(&w, &crl, 1);
    cr_expect_eq(ask_at(&w, NOW_S), PH_REVOCATION_GOOD);
    cr_expect_eq(ask_at(&w, NOW_S + 99), PH_REVOCATION_GOOD);
    cr_expect_eq(ph_verify_stats(w.context).cached, 1);
    cr_expect_eq(ask_at(&w, NOW_S + 100), PH_REVOCATION_UNKNOWN);
    cr_expect_eq(ask_at(&w, NOW_S + 50), PH_REVOCATION_GOOD); // a clock that went back
    ph_crl_release(crl);
    end_world(&w);
}

Test(crls, a_store_without_a_source_asks_none)
{
    struct world w = make_world(false);
    struct ph_crl *crl =
        make_crl(w.root, &(struct ph_certs_crl_options){.serials = &w.serial, .serial_count = 1});

    set(&w, &crl, 1);
    cr_expect_eq(ask(&w), PH_REVOCATION_NOT_CHECKED);
    ph_crl_release(crl);
    end_world(&w);
}

// --- a file of several ---

Test(crls, a_text_gives_all_its_lists_or_none)
{
    struct ph_cert *root = ph_certs_root("root");
    struct ph_cert *issuing = ph_certs_intermediate(root, "issuing");
    struct ph_buf both = {0};
    struct ph_buf again = {0};
    struct ph_buf error = {0};
    struct ph_crls *crls;
    struct ph_crls *same;
    struct ph_crls *other;
    struct ph_crl *der;

    ph_certs_append(root, &both); // what is no list is passed over
    ph_certs_append_crl(root, &(struct ph_certs_crl_options){0}, &both);
    ph_certs_append_crl(issuing, &(struct ph_certs_crl_options){0}, &both);
    crls = ph_crls_parse(ph_buf_str(&both), &error);
    same = ph_crls_parse(ph_buf_str(&both), &error);
    cr_assert_not_null(crls, "%s", ph_buf_cstr(&error));
    cr_expect_eq(ph_crls_count(crls), 2);
    cr_expect(ph_crls_eq(crls, same));
    cr_expect_null(ph_crls_at(crls, 2));
    der = ph_crls_at(crls, 0);
    other = ph_crls_parse(der->der, &error); // DER
    cr_expect_eq(ph_crls_count(other), 1);
    cr_expect(!ph_crls_eq(crls, other));
    cr_expect(!ph_crls_eq(NULL, other));
    // A second one that is damaged, or half written, is no reason to go by the first alone.
    for (size_t cut = 2; cut < 200; cut += 40) {
        cr_expect_null(ph_crls_parse(ph_str_first(ph_buf_str(&both), both.len - cut), &error));
    }
    ph_certs_append(root, &again);
    cr_expect_null(ph_crls_parse(ph_buf_str(&again), &error), "a certificate is no list");
    cr_expect_null(ph_crls_parse(PH_STR("no list"), &error));
    cr_expect_null(ph_crls_parse(PH_STR_NONE, &error));
    ph_crls_release(crls);
    ph_crls_release(same);
    ph_crls_release(other);
    ph_buf_deinit(&both);
    ph_buf_deinit(&again);
    ph_buf_deinit(&error);
    ph_certs_destroy(issuing);
    ph_certs_destroy(root);
}

// --- what sessions and held mail wait for ---

Test(crls, a_verdict_says_whose_lists_it_asked_for)
{
    struct world w = make_world(true);
    struct ph_crl *crl = make_crl(w.root, &(struct ph_certs_crl_options){0});
    const struct ph_chain_verdict *verdict =
        ph_verify_chain(w.context, w.chain, w.trust, (uint64_t)NOW_S * 1000);

    cr_expect_eq(verdict->crl_issuers.count, 1);
    cr_expect_eq(verdict->crl_issuers.hashes[0], (uint32_t)X509_NAME_hash(crl->issuer));
    verdict = ph_verify_chain(w.context, w.chain, w.trust, (uint64_t)NOW_S * 1000);
    cr_expect(verdict->cached && verdict->crl_issuers.count == 1);
    ph_crl_release(crl);
    end_world(&w);
    w = make_world(false);
    verdict = ph_verify_chain(w.context, w.chain, w.trust, (uint64_t)NOW_S * 1000);
    cr_expect_eq(verdict->crl_issuers.count, 0);
    end_world(&w);
}

Test(crls, what_was_asked_changes_with_the_lists_of_its_issuers_alone)
{
    struct ph_cert *root = ph_certs_root("root");
    struct ph_cert *other = ph_certs_root("other");
    struct ph_crl *lists[] = {make_crl(root, &(struct ph_certs_crl_options){0}),
                              make_crl(other, &(struct ph_certs_crl_options){0}),
                              make_crl(root, &(struct ph_certs_crl_options){0})};
    struct ph_crls *one = ph_crls_create(lists, 1);
    struct ph_crls *with_other = ph_crls_create(lists, 2);
    struct ph_crls *newer = ph_crls_create(lists + 1, 2);
    struct ph_crls *only_other = ph_crls_create(lists + 1, 1);
    const struct ph_crl_issuers none = {.count = 0};
    const struct ph_crl_issuers its = {{(uint32_t)X509_NAME_hash(lists[0]->issuer)}, 1};
    const struct ph_crl_issuers others = {{(uint32_t)X509_NAME_hash(lists[1]->issuer)}, 1};
    struct ph_crls_asked asked = {.mark = 0};

    cr_expect(!ph_crls_changed_since(one, &asked));
    ph_crls_ask(&asked, one, &none);
    cr_expect(!ph_crls_changed_since(NULL, &asked), "nobody was asked");
    ph_crls_ask(&asked, one, &its);
    ph_crls_ask(&asked, one, &its);
    cr_expect_eq(asked.issuers.count, 1);
    cr_expect(!ph_crls_changed_since(one, &asked));
    cr_expect(!ph_crls_changed_since(with_other, &asked));
    cr_expect(ph_crls_changed_since(newer, &asked));
    cr_expect(ph_crls_changed_since(only_other, &asked));
    cr_expect(ph_crls_changed_since(NULL, &asked));
    // One more is asked after the first has changed: it stays changed, by whatever set.
    ph_crls_ask(&asked, newer, &others);
    cr_expect_eq(asked.issuers.count, 2);
    cr_expect(ph_crls_changed_since(newer, &asked));
    cr_expect(ph_crls_changed_since(with_other, &asked));
    // A list that wasn't there is one that comes.
    asked = (struct ph_crls_asked){.mark = 0};
    ph_crls_ask(&asked, NULL, &its);
    cr_expect(!ph_crls_changed_since(NULL, &asked));
    cr_expect(!ph_crls_changed_since(only_other, &asked));
    cr_expect(ph_crls_changed_since(one, &asked));
    ph_crls_release(one);
    ph_crls_release(with_other);
    ph_crls_release(newer);
    ph_crls_release(only_other);
    for (size_t i = 0; i < PH_ARRAY_LEN(lists); i++) {
        ph_crl_release(lists[i]);
    }
    ph_certs_destroy(root);
    ph_certs_destroy(other);
}

Test(crls, of_more_issuers_than_are_kept_any_list_may_be_one)
{
    struct ph_cert *root = ph_certs_root("root");
    struct ph_cert *other = ph_certs_root("other");
    struct ph_crl *lists[] = {make_crl(root, &(struct ph_certs_crl_options){0}),
                              make_crl(other, &(struct ph_certs_crl_options){0})};
    struct ph_crls *one = ph_crls_create(lists, 1);
    struct ph_crls *both = ph_crls_create(lists, 2);
    struct ph_crl_issuers issuers = {.count = 0};

    for (uint32_t extra = 0; extra < 2; extra++) { // at the limit, and one past it
        struct ph_crls_asked asked = {.mark = 0};

        while (issuers.count < PH_CRL_ISSUERS_MAX + extra) {
            ph_crl_issuers_add(&issuers, issuers.count + 1); // nobody's
        }
        ph_crls_ask(&asked, one, &issuers);
        cr_expect_eq(asked.issuers.count, PH_CRL_ISSUERS_MAX + extra);
        cr_expect(!ph_crls_changed_since(one, &asked));
        cr_expect_eq(ph_crls_changed_since(both, &asked), extra > 0);
    }
    ph_crls_release(one);
    ph_crls_release(both);
    ph_crl_release(lists[0]);
    ph_crl_release(lists[1]);
    ph_certs_destroy(root);
    ph_certs_destroy(other);
}

// Who shows a good chain may send anything beside it: only the path's own pointers count.
Test(crls, sources_are_those_of_the_good_path)
{
    static const struct ph_str name = {.data = "mx.contoso.test", .len = 15};
    struct ph_cert *root = ph_certs_root("root");
    struct ph_cert *issuing = ph_certs_make(
        root, &(struct ph_certs_options){
                  .common_name = "issuing",
                  .ca = true,
                  .extensions = {{"crlDistributionPoints", "URI:http://crl.test/root.crl"}}});
    struct ph_cert *leaf = ph_certs_make(
        issuing, &(struct ph_certs_options){
                     .dns_names = &name,
                     .dns_name_count = 1,
                     .extensions = {{"crlDistributionPoints", "URI:http://crl.test/issuing.crl,"
                                                              "URI:ldap://crl.test/x"}}});
    struct ph_cert *junk = ph_certs_make(
        NULL, &(struct ph_certs_options){
                  .common_name = "junk",
                  .extensions = {{"crlDistributionPoints", "URI:http://victim.test/"}}});
    struct ph_tls_context *context =
        ph_tls_context_create(&(struct ph_tls_context_options){.now_s = now_s});
    struct ph_chain_pool *pool = ph_chain_pool_create();
    struct ph_buf sent = {0};
    struct ph_buf anchors = {0};
    struct ph_buf local = {0}; // an intermediate that isn't sent: it has its pointer all the same
    struct ph_buf urls = {0};
    struct ph_buf issuers = {0};
    struct ph_buf error = {0};
    struct ph_crl *crl = make_crl(root, &(struct ph_certs_crl_options){0});
    struct ph_crl *other = make_crl(junk, &(struct ph_certs_crl_options){0});
    struct ph_trust *trust;
    struct ph_chain *chain;

    ph_certs_append(leaf, &sent);
    ph_certs_append(junk, &sent);
    ph_certs_append(issuing, &local);
    ph_certs_append(root, &anchors);
    trust = ph_trust_create(&(struct ph_trust_options){.anchors_pem = ph_buf_str(&anchors),
                                                       .intermediates_pem = ph_buf_str(&local),
                                                       .crls_pem = PH_STR_NONE,
                                                       .revocation_fetch = true},
                            &error);
    chain = ph_chain_create_from_pem(pool, ph_buf_str(&sent), PH_STR_NONE, PH_STR_NONE, &error);
    cr_assert(trust != NULL && chain != NULL, "%s", ph_buf_cstr(&error));
    ph_verify_revocation_sources(context, chain, trust, (uint64_t)NOW_S * 1000, &urls, &issuers);
    cr_expect_str_eq(ph_buf_cstr(&urls), "http://crl.test/issuing.crl\nhttp://crl.test/root.crl\n");
    cr_expect(ph_crl_is_signed_by_any(crl, ph_buf_str(&issuers)));
    cr_expect(!ph_crl_is_signed_by_any(other, ph_buf_str(&issuers)));
    cr_expect(!ph_crl_is_signed_by_any(crl, PH_STR_NONE));
    ph_crl_release(crl);
    ph_crl_release(other);
    ph_chain_release(chain);
    ph_trust_release(trust);
    ph_chain_pool_release(pool);
    ph_tls_context_destroy(context);
    ph_buf_deinit(&sent);
    ph_buf_deinit(&anchors);
    ph_buf_deinit(&local);
    ph_buf_deinit(&urls);
    ph_buf_deinit(&issuers);
    ph_certs_destroy(junk);
    ph_certs_destroy(leaf);
    ph_certs_destroy(issuing);
    ph_certs_destroy(root);
}
