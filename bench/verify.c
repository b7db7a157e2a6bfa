// bench-verify: one verification of a presented chain, by the engine in full and from its cache,
// and by bare BoringSSL (X509_verify_cert with the same anchor and the same CRLs).
//
//   bench-verify [certs=2] [crl=0] [rounds=200] [side=both|engine|bare]
//
// `certs`: presented ones, leaf and intermediates. `crl`: entries in the list of each issuer; 0: no
// lists. A line of JSON per way. For callgrind, what is measured happens in functions whose names
// begin with measured_.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/arguments.h"
#include "bench/lib/certs.h"
#include "bench/lib/timing.h"
#include "tls/chain.h"
#include "tls/trust.h"
#include "tls/verify.h"

#include "tls/boringssl.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define ROUNDS_MAX 100000
#define CERTS_MAX 8
#define NOW_S UINT64_C(1795508260) // 2026-11-24
#define HOST "mx.contoso.test"
#define NOINLINE __attribute__((noinline))

static uint64_t now_s(void *unused)
{
    (void)unused;
    return NOW_S;
}

static struct {
    struct ph_chain_pool *pool;
    struct ph_chain *chain;
    struct ph_trust *trust;
    struct ph_tls_context *plain;   // without a cache
    struct ph_tls_context *caching; // with one
    X509_STORE *store;
    struct ph_buf der[CERTS_MAX];
    unsigned certs;
    bool crls;
} bench;

static NOINLINE void measured_engine(void)
{
    const struct ph_chain_verdict *verdict =
        ph_verify_chain(bench.plain, bench.chain, bench.trust, NOW_S * 1000);

    PH_CHECK(verdict->kind == PH_REASON_NONE && !verdict->cached);
    PH_CHECK(verdict->revocation == (bench.crls ? PH_REVOCATION_GOOD : verdict->revocation));
}

static NOINLINE void measured_cached(void)
{
    const struct ph_chain_verdict *verdict =
        ph_verify_chain(bench.caching, bench.chain, bench.trust, NOW_S * 1000);

    PH_CHECK(verdict->kind == PH_REASON_NONE);
}

static NOINLINE void measured_bare(void)
{
    STACK_OF(X509) *untrusted = sk_X509_new_null();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    X509 *leaf = NULL;
    unsigned long flags = bench.crls ? X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL : 0;

    for (unsigned i = 0; i < bench.certs; i++) {
        const uint8_t *at = (const uint8_t *)bench.der[i].data;
        X509 *x509 = d2i_X509(NULL, &at, (long)bench.der[i].len);

        if (i == 0) {
            leaf = x509;
        } else {
            sk_X509_push(untrusted, x509);
        }
    }
    PH_CHECK(X509_STORE_CTX_init(context, bench.store, leaf, untrusted) == 1);
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(context), flags);
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(context), (time_t)NOW_S);
    X509_VERIFY_PARAM_set1_host(X509_STORE_CTX_get0_param(context), HOST, strlen(HOST));
    PH_CHECK(X509_verify_cert(context) == 1);
    X509_STORE_CTX_free(context);
    sk_X509_pop_free(untrusted, X509_free);
    X509_free(leaf);
}

static void append_crl(const struct ph_cert *issuer, uint64_t entries, struct ph_buf *out)
{
    uint64_t *serials = ph_alloc((entries + 1) * sizeof(*serials));

    // Serials of 16 digits, as long as 64 bits make them; never the chain's own.
    for (uint64_t i = 0; i < entries; i++) {
        serials[i] = UINT64_C(0x1000000000000000) + i * 0x9E3779B1;
    }
    ph_certs_append_crl(
        issuer, &(struct ph_certs_crl_options){.serials = serials, .serial_count = (size_t)entries},
        out);
    free(serials);
}

static void prepare_bare(struct ph_str root, struct ph_str crls)
{
    BIO *bio = BIO_new_mem_buf(root.data, (int)root.len);
    X509 *anchor = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    X509_CRL *crl;

    bench.store = X509_STORE_new();
    PH_CHECK(X509_STORE_add_cert(bench.store, anchor) == 1);
    X509_free(anchor);
    BIO_free(bio);
    bio = BIO_new_mem_buf(crls.data, (int)crls.len);
    while (crls.len > 0 && (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) != NULL) {
        PH_CHECK(X509_STORE_add_crl(bench.store, crl) == 1);
        X509_CRL_free(crl);
    }
    BIO_free(bio);
}

// Returns how long loading the trust store took, in ns: anchor and CRLs, once per reload.
static uint64_t prepare(uint64_t entries)
{
    struct ph_cert *issuers[CERTS_MAX] = {ph_certs_root("Bench root")};
    const struct ph_cert *path[CERTS_MAX];
    struct ph_cert *leaf;
    struct ph_buf root = {0};
    struct ph_buf crls = {0};
    struct ph_buf pem = {0};
    struct ph_buf error = {0};
    uint64_t began;
    uint64_t took;

    for (unsigned i = 1; i < bench.certs; i++) {
        char name[32];

        snprintf(name, sizeof(name), "Bench intermediate %u", i);
        issuers[i] = ph_certs_intermediate(issuers[i - 1], name);
    }
    leaf = ph_certs_leaf(issuers[bench.certs - 1], HOST);
    path[0] = leaf;
    for (unsigned i = 1; i < bench.certs; i++) {
        path[i] = issuers[bench.certs - i];
    }
    for (unsigned i = 0; i < bench.certs; i++) {
        ph_certs_append_der(path[i], &bench.der[i]);
        if (bench.crls) {
            append_crl(issuers[i], i + 1 == bench.certs ? entries : 0, &crls);
        }
    }
    ph_certs_append(issuers[0], &root);
    ph_certs_append_chain(leaf, &pem);
    bench.pool = ph_chain_pool_create();
    bench.chain =
        ph_chain_create_from_pem(bench.pool, ph_buf_str(&pem), PH_STR_NONE, PH_STR_NONE, &error);
    PH_CHECK(bench.chain != NULL);
    began = ph_timing_cpu_ns();
    bench.trust = ph_trust_create(&(struct ph_trust_options){.anchors_pem = ph_buf_str(&root),
                                                             .intermediates_pem = PH_STR_NONE,
                                                             .crls_pem = ph_buf_str(&crls),
                                                             .revocation_source = bench.crls},
                                  &error);
    took = ph_timing_cpu_ns() - began;
    PH_CHECK(bench.trust != NULL);
    bench.plain = ph_tls_context_create(&(struct ph_tls_context_options){.now_s = now_s});
    bench.caching = ph_tls_context_create(
        &(struct ph_tls_context_options){.now_s = now_s, .chain_cache_max = 16});
    prepare_bare(ph_buf_str(&root), ph_buf_str(&crls));
    return took;
}

static uint64_t measure(void (*way)(void), uint64_t rounds)
{
    static uint64_t used[ROUNDS_MAX];

    way(); // what is kept from the first time on, is
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t began = ph_timing_cpu_ns();

        way();
        used[i] = ph_timing_cpu_ns() - began;
    }
    return ph_timing_median(used, rounds);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*way)(void);
    } ways[] = {{"engine", measured_engine}, {"cached", measured_cached}, {"bare", measured_bare}};
    struct ph_arguments arguments = ph_arguments_of(argc, argv);
    const char *side = ph_argument(&arguments, "side", "both");
    uint64_t entries = ph_argument_number(&arguments, "crl", 0);
    uint64_t rounds = ph_argument_number(&arguments, "rounds", 200);
    uint64_t load_ns;

    bench.certs = (unsigned)ph_argument_number(&arguments, "certs", 2);
    bench.crls = entries > 0;
    ph_arguments_end(&arguments);
    PH_CHECK(bench.certs >= 1 && bench.certs <= CERTS_MAX && rounds >= 1 && rounds <= ROUNDS_MAX);
    load_ns = prepare(entries);
    for (size_t i = 0; i < PH_ARRAY_LEN(ways); i++) {
        if (strcmp(side, "both") == 0 || strcmp(side, ways[i].name) == 0) {
            printf("{\"way\":\"%s\",\"certs\":%u,\"crl_entries\":%llu,\"cpu_ns\":%llu,"
                   "\"load_ns\":%llu}\n",
                   ways[i].name, bench.certs, (unsigned long long)entries,
                   (unsigned long long)measure(ways[i].way, rounds), (unsigned long long)load_ns);
        }
    }
    return 0;
}
