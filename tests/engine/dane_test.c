// Certificates against TLSA records.
// Covers: tls/dane
#include "tls/dane.h"

#include <criterion/criterion.h>
#include <string.h>

#include "bench/lib/certs.h"
#include "tls/chain.h"

#include <openssl/mem.h>
#include <openssl/sha.h>

#define NOW_MS (UINT64_C(1795508260) * 1000) // 2026-11-24

struct world {
    struct ph_cert *root;
    struct ph_cert *intermediate;
    struct ph_cert *good;
    struct ph_cert *expired;
    struct ph_cert *early; // valid from 2040
    struct ph_cert *self_signed;
    struct ph_cert *stranger;
    struct ph_chain_pool *pool;
};

static void make_world(struct world *w)
{
    static const struct ph_str name = {"mx.test", 7};

    w->root = ph_certs_root("root");
    w->intermediate = ph_certs_intermediate(w->root, "intermediate");
    w->good = ph_certs_leaf(w->intermediate, "mx.test");
    w->expired = ph_certs_make(
        w->intermediate, &(struct ph_certs_options){.dns_names = &name,
                                                    .dns_name_count = 1,
                                                    .not_after_s = PH_CERTS_NOT_BEFORE_S + 86400});
    w->early = ph_certs_make(w->intermediate,
                             &(struct ph_certs_options){.dns_names = &name,
                                                        .dns_name_count = 1,
                                                        .not_before_s = INT64_C(2208988800)});
    w->self_signed =
        ph_certs_make(NULL, &(struct ph_certs_options){.dns_names = &name, .dns_name_count = 1});
    w->stranger = ph_certs_root("stranger");
    w->pool = ph_chain_pool_create();
}

static void free_world(struct world *w)
{
    ph_chain_pool_release(w->pool);
    ph_certs_destroy(w->good);
    ph_certs_destroy(w->expired);
    ph_certs_destroy(w->early);
    ph_certs_destroy(w->self_signed);
    ph_certs_destroy(w->intermediate);
    ph_certs_destroy(w->root);
    ph_certs_destroy(w->stranger);
}

static struct ph_chain *present(const struct world *w, const struct ph_cert *leaf,
                                bool with_issuers)
{
    struct ph_buf pem = {0};
    struct ph_buf more = {0};
    struct ph_buf error = {0};
    struct ph_chain *chain;

    ph_certs_append(leaf, &pem);
    if (with_issuers) {
        ph_certs_append(w->intermediate, &more);
        ph_certs_append(w->root, &more);
    }
    chain =
        ph_chain_create_from_pem(w->pool, ph_buf_str(&pem), ph_buf_str(&more), PH_STR_NONE, &error);
    cr_assert_not_null(chain, "%s", ph_buf_cstr(&error));
    ph_buf_deinit(&pem);
    ph_buf_deinit(&more);
    return chain;
}

// The record that a zone's keeper would publish for `cert`; `flip`: one bit is wrong.
static void publish(struct ph_tlsa *tlsa, const struct ph_cert *cert, int usage, int selector,
                    int matching, bool flip)
{
    struct ph_buf der = {0};
    struct ph_tlsa_record record = {.usage = (enum ph_tlsa_usage)usage,
                                    .selector = (enum ph_tlsa_selector)selector,
                                    .matching = (enum ph_tlsa_matching)matching,
                                    .data_at = tlsa->data.len};
    const uint8_t *at;
    X509 *x509;

    ph_certs_append_der(cert, &der);
    at = (const uint8_t *)der.data;
    x509 = d2i_X509(NULL, &at, (long)der.len);
    cr_assert_not_null(x509);
    if (selector == PH_TLSA_SPKI) {
        uint8_t *spki = NULL;
        int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &spki);

        ph_buf_clear(&der);
        ph_buf_append_bytes(&der, spki, (size_t)len);
        OPENSSL_free(spki);
    }
    X509_free(x509);
    if (matching == PH_TLSA_FULL) {
        ph_buf_append(&tlsa->data, ph_buf_str(&der));
    } else {
        uint8_t digest[SHA512_DIGEST_LENGTH];

        if (matching == PH_TLSA_SHA256) {
            SHA256((const uint8_t *)der.data, der.len, digest);
        } else {
            SHA512((const uint8_t *)der.data, der.len, digest);
        }
        ph_buf_append_bytes(&tlsa->data, digest, matching == PH_TLSA_SHA256 ? 32 : 64);
    }
    record.data_len = tlsa->data.len - record.data_at;
    if (flip) {
        tlsa->data.data[record.data_at + record.data_len - 1] ^= 1;
    }
    tlsa->status = PH_TLSA_USABLE;
    tlsa->records = realloc(tlsa->records, (tlsa->record_count + 1) * sizeof(*tlsa->records));
    cr_assert_not_null(tlsa->records);
    tlsa->records[tlsa->record_count++] = record;
    ph_buf_deinit(&der);
}

static enum ph_dane_match verify(const struct ph_chain *chain, const struct ph_tlsa *tlsa,
                                 struct ph_dane_verdict *out)
{
    ph_dane_verify(chain, tlsa, NOW_MS, out);
    cr_assert_eq(memcmp(out->chain_hash, chain->hash, PH_SHA256_BYTES), 0);
    cr_assert_eq(out->match >= PH_DANE_MATCH_TA, out->detail[0] == '\0');
    return out->match;
}

Test(dane, each_kind_of_record_matches_its_own_and_nothing_else)
{
    struct world w;

    make_world(&w);
    for (int selector = 0; selector <= 1; selector++) {
        for (int matching = 0; matching <= 2; matching++) {
            for (int wrong = 0; wrong <= 1; wrong++) {
                struct ph_chain *chain = present(&w, w.good, true);
                struct ph_tlsa ee = {0};
                struct ph_tlsa ta = {0};
                struct ph_dane_verdict verdict;

                publish(&ee, w.good, 3, selector, matching, wrong);
                cr_assert_eq(verify(chain, &ee, &verdict),
                             wrong ? PH_DANE_NO_MATCH : PH_DANE_MATCH_EE, "3 %d %d", selector,
                             matching);
                // A whole certificate in a record is the anchor itself, and its key is what counts:
                // a wrong bit in its own signature changes nothing.
                publish(&ta, w.intermediate, 2, selector, matching, wrong);
                cr_assert_eq(verify(chain, &ta, &verdict),
                             wrong && selector + matching > 0 ? PH_DANE_NO_MATCH : PH_DANE_MATCH_TA,
                             "2 %d %d", selector, matching);
                ph_tlsa_deinit(&ee);
                ph_tlsa_deinit(&ta);
                ph_chain_release(chain);
            }
        }
    }
    free_world(&w);
}

struct shown {
    const struct ph_cert *leaf;
    bool with_issuers;
};

struct published {
    const struct ph_cert *cert;
    int usage;
    int selector;
    int matching;
};

static void expect(const struct world *w, int line, struct shown shown, struct published published,
                   enum ph_dane_match expected)
{
    struct ph_chain *chain = present(w, shown.leaf, shown.with_issuers);
    struct ph_tlsa tlsa = {0};
    struct ph_dane_verdict verdict;
    enum ph_dane_match match;

    publish(&tlsa, published.cert, published.usage, published.selector, published.matching, false);
    match = verify(chain, &tlsa, &verdict);
    cr_assert_eq(match, expected, "line %d: %d (%s)", line, (int)match, verdict.detail);
    ph_tlsa_deinit(&tlsa);
    ph_chain_release(chain);
}

#define EXPECT(leaf, issuers, cert, usage, selector, matching, expected)                           \
    expect(&w, __LINE__, (struct shown){leaf, issuers},                                            \
           (struct published){cert, usage, selector, matching}, expected)

Test(dane, usages)
{
    struct world w;

    make_world(&w);
    // Usage 3: dates don't count, and no chain is needed.
    EXPECT(w.expired, true, w.expired, 3, 1, 1, PH_DANE_MATCH_EE);
    EXPECT(w.early, false, w.early, 3, 0, 1, PH_DANE_MATCH_EE);
    EXPECT(w.self_signed, false, w.self_signed, 3, 1, 1, PH_DANE_MATCH_EE);
    EXPECT(w.good, true, w.intermediate, 3, 1, 1, PH_DANE_NO_MATCH); // not the leaf
    // Usage 2: root or intermediate, sent; dates count.
    EXPECT(w.good, true, w.root, 2, 0, 1, PH_DANE_MATCH_TA);
    EXPECT(w.good, true, w.intermediate, 2, 1, 2, PH_DANE_MATCH_TA);
    EXPECT(w.good, false, w.intermediate, 2, 1, 1, PH_DANE_NO_MATCH);
    EXPECT(w.good, false, w.intermediate, 2, 0, 0, PH_DANE_MATCH_TA); // it stands in the record
    EXPECT(w.expired, true, w.intermediate, 2, 0, 1, PH_DANE_MATCH_STALE);
    EXPECT(w.early, true, w.intermediate, 2, 0, 1, PH_DANE_NO_MATCH);
    EXPECT(w.self_signed, false, w.self_signed, 2, 0, 1, PH_DANE_MATCH_TA);
    EXPECT(w.good, true, w.good, 2, 0, 1, PH_DANE_NO_MATCH); // a leaf is no authority
    // An authority that is sent along, but didn't issue anything here.
    EXPECT(w.stranger, true, w.root, 2, 0, 1, PH_DANE_NO_MATCH);
    EXPECT(w.good, true, w.stranger, 2, 0, 0, PH_DANE_NO_MATCH);
    free_world(&w);
}

Test(dane, one_match_among_many_will_do)
{
    struct world w;
    struct ph_tlsa tlsa = {0};
    struct ph_dane_verdict verdict;
    struct ph_chain *chain;

    make_world(&w);
    chain = present(&w, w.good, true);
    publish(&tlsa, w.stranger, 3, 1, 1, false);
    publish(&tlsa, w.stranger, 2, 1, 1, false);
    publish(&tlsa, w.stranger, 2, 0, 0, true); // no certificate at all, perhaps
    cr_assert_eq(verify(chain, &tlsa, &verdict), PH_DANE_NO_MATCH);
    cr_assert_eq(verdict.valid_until_s > (int64_t)(NOW_MS / 1000), true);
    publish(&tlsa, w.good, 3, 1, 2, false);
    cr_assert_eq(verify(chain, &tlsa, &verdict), PH_DANE_MATCH_EE);
    ph_tlsa_deinit(&tlsa);
    ph_chain_release(chain);
    free_world(&w);
}
