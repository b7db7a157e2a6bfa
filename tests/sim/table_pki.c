// Certificates of the table's rows.
#include "tests/sim/table_pki.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/certs.h"
#include "tests/sim/peer.h"
#include "tests/sim/sim.h"

#include <openssl/mem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#define NOW_S (SIM_EPOCH_MS / 1000)
#define DAY_S INT64_C(86400)
#define FILES_MAX (2 * TABLE_ROWS_MAX)
#define REVOKED_MAX 64

static struct {
    struct ph_cert *root;         // A, trusted
    struct ph_cert *other_root;   // B, not trusted
    struct ph_cert *old_root;     // C, expired
    struct ph_cert *cross;        // A once more, below C: a second path, and a bad one
    struct ph_cert *a1;           // intermediate below A
    struct ph_cert *a2;           // expired
    struct ph_cert *a3;           // without a CRL
    struct ph_cert *a4;           // with one that is out of date
    struct ph_cert *no_authority; // a leaf that issues
    uint64_t revoked[REVOKED_MAX];
    size_t revoked_count;
    uint64_t newest_serial;
    struct table_identity identities[TABLE_ROWS_MAX][TABLE_HOSTS_MAX];
    SSL_CTX *home;
    struct table_file files[FILES_MAX];
    unsigned file_count;
} pki;

// --- authorities ---

static struct ph_cert *authority(struct ph_cert *issuer, const char *name, int64_t begin_days,
                                 int64_t end_days, const struct ph_cert *key_of)
{
    return ph_certs_make(issuer,
                         &(struct ph_certs_options){.common_name = name,
                                                    .ca = true,
                                                    .not_before_s = NOW_S + begin_days * DAY_S,
                                                    .not_after_s = NOW_S + end_days * DAY_S,
                                                    .key_of = key_of});
}

static void make_authorities(void)
{
    struct ph_str name = PH_STR("not-an-authority.test");

    pki.root = authority(NULL, "Root A", -30, 3000, NULL);
    pki.other_root = authority(NULL, "Root B", -30, 3000, NULL);
    pki.old_root = authority(NULL, "Root C", -3000, -5, NULL);
    pki.cross = authority(pki.old_root, "Root A", -3000, -5, pki.root);
    pki.a1 = authority(pki.root, "Intermediate A1", -30, 300, NULL);
    pki.a2 = authority(pki.root, "Intermediate A2", -60, -5, NULL);
    pki.a3 = authority(pki.root, "Intermediate A3", -30, 300, NULL);
    pki.a4 = authority(pki.root, "Intermediate A4", -30, 300, NULL);
    pki.no_authority = ph_certs_make(
        pki.a1, &(struct ph_certs_options){
                    .common_name = "not an authority", .dns_names = &name, .dns_name_count = 1});
}

// --- leaves ---

// What the table calls cert=KIND.
struct kind {
    const char *name;
    struct ph_cert **issuer; // NULL: self-signed
    struct ph_cert **also;   // shown behind the chain
    int64_t begin_days;      // 0: as always
    int64_t end_days;
    enum ph_certs_usage usage;
    const char *crl_url;
    bool alone; // no intermediate is sent
};

static const struct kind kinds[] = {
    {.name = "good", .issuer = &pki.a1},
    {.name = "self-signed"},
    // Its root is sent too: without it, it would look like a missing intermediate.
    {.name = "untrusted", .issuer = &pki.other_root, .also = &pki.other_root},
    {.name = "partial", .issuer = &pki.a1, .alone = true},
    {.name = "expired", .issuer = &pki.a1, .begin_days = -60, .end_days = -5},
    {.name = "expired-intermediate", .issuer = &pki.a2},
    {.name = "future", .issuer = &pki.a1, .begin_days = 5, .end_days = 60},
    {.name = "revoked", .issuer = &pki.a1},
    {.name = "no-crl", .issuer = &pki.a3},
    {.name = "stale-crl", .issuer = &pki.a4},
    {.name = "crl-pointer", .issuer = &pki.a3, .crl_url = "URI:http://crl.posthaste.test/a3.crl"},
    {.name = "client-only", .issuer = &pki.a1, .usage = PH_CERTS_USAGE_CLIENT},
    {.name = "by-leaf", .issuer = &pki.no_authority},
    {.name = "cross", .issuer = &pki.a1, .also = &pki.cross},
};

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < PH_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    fprintf(stderr, "the table asks for cert=%s, and nobody makes such\n", name);
    exit(2);
}

static struct ph_cert *make_leaf(const struct kind *kind, const struct table_host *host,
                                 struct ph_buf *out_chain)
{
    int64_t begin_days = kind->begin_days != 0 ? kind->begin_days : -30;
    int64_t end_days = kind->end_days != 0 ? kind->end_days : 300;
    const char *otherwise = kind->issuer == NULL ? "self" : NULL;
    struct ph_certs_options options = {
        .common_name = host->common_name != NULL ? host->common_name : otherwise,
        .dns_names = host->names,
        .dns_name_count = host->name_count,
        .not_before_s = NOW_S + begin_days * DAY_S,
        .not_after_s = NOW_S + end_days * DAY_S,
        .usage = kind->usage,
    };
    struct ph_cert *leaf;

    if (kind->crl_url != NULL) {
        options.extensions[0][0] = "crlDistributionPoints";
        options.extensions[0][1] = kind->crl_url;
    }
    leaf = ph_certs_make(kind->issuer != NULL ? *kind->issuer : NULL, &options);
    if (strcmp(kind->name, "revoked") == 0) {
        PH_CHECK(pki.revoked_count < REVOKED_MAX);
        pki.revoked[pki.revoked_count++] = ph_certs_serial(leaf);
    }
    if (kind->alone) {
        ph_certs_append(leaf, out_chain);
    } else {
        ph_certs_append_chain(leaf, out_chain);
    }
    if (kind->also != NULL) {
        ph_certs_append(*kind->also, out_chain);
    }
    return leaf;
}

// --- hosts ---

static bool offers_a_cipher(const SSL_CLIENT_HELLO *hello, uint16_t wanted)
{
    for (size_t i = 0; i + 1 < hello->cipher_suites_len; i += 2) {
        if (((unsigned)hello->cipher_suites[i] << 8 | hello->cipher_suites[i + 1]) == wanted) {
            return true;
        }
    }
    return false;
}

// tls=anonymous: a server that knows suites without a certificate alone (RFC 8422 §6, RFC 5246
// §A.5). Who doesn't offer one gets handshake_failure; who does fails the test, as there is no TLS.
static enum ssl_select_cert_result_t want_anonymous(const SSL_CLIENT_HELLO *hello)
{
    static const uint16_t anonymous[] = {0xc015, 0xc016, 0xc017, 0xc018, 0xc019, 0x0018, 0x001b,
                                         0x0034, 0x003a, 0x006c, 0x006d, 0x00a6, 0x00a7};

    for (size_t i = 0; i < PH_ARRAY_LEN(anonymous); i++) {
        PH_CHECK(!offers_a_cipher(hello, anonymous[i]));
    }
    return ssl_select_cert_error;
}

static int take_any(X509_STORE_CTX *store, void *owner)
{
    (void)store, (void)owner;
    return 1;
}

static SSL_CTX *make_context(const struct table_host *host, const struct ph_cert *leaf,
                             struct ph_str chain, bool vouched_for)
{
    struct ph_buf pem = {0};
    const char *client = table_word(&host->words, "client");
    const char *version = table_word(&host->words, "tls");
    SSL_CTX *context;

    ph_buf_append(&pem, chain);
    ph_certs_append_key(leaf, &pem);
    context = sim_certificates_make_context(ph_buf_str(&pem));
    ph_buf_deinit(&pem);
    if (client != NULL) {
        SSL_CTX_set_verify(
            context,
            SSL_VERIFY_PEER |
                (strcmp(client, "require") == 0 ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
            NULL);
        SSL_CTX_set_cert_verify_callback(context, take_any, NULL);
        PH_CHECK(SSL_CTX_set_session_id_context(context, (const uint8_t *)"table", 5) == 1);
    }
    if (version != NULL && strcmp(version, "1.0") == 0) {
        PH_CHECK(SSL_CTX_set_min_proto_version(context, TLS1_VERSION) == 1 &&
                 SSL_CTX_set_max_proto_version(context, TLS1_VERSION) == 1);
    } else if (version != NULL && strcmp(version, "1.2") == 0) {
        PH_CHECK(SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION) == 1);
    } else if (version != NULL) {
        PH_CHECK(strcmp(version, "anonymous") == 0);
        SSL_CTX_set_select_certificate_cb(context, want_anonymous);
    }
    if (vouched_for && table_word(&host->words, "staple") != NULL) {
        struct ph_buf staple = {0};

        PH_CHECK(table_word_is(&host->words, "staple", "revoked"));
        ph_certs_append_ocsp(leaf,
                             &(struct ph_certs_ocsp_options){.status = PH_CERTS_OCSP_REVOKED,
                                                             .this_update_s = NOW_S - DAY_S,
                                                             .next_update_s = NOW_S + 30 * DAY_S},
                             &staple);
        PH_CHECK(SSL_CTX_set_ocsp_response(context, (const uint8_t *)staple.data, staple.len) == 1);
        ph_buf_deinit(&staple);
    }
    return context;
}

// "3-1-1" of the leaf, with usage 2 of its issuer; "other" is of another key altogether.
static void make_tlsa(const char *words, const struct ph_cert *leaf, struct ph_buf *out)
{
    unsigned usage = 3;
    unsigned selector = 1;
    unsigned matching = 1;
    struct ph_buf der = {0};
    const uint8_t *bytes;
    const uint8_t *at;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    X509 *x509;
    uint8_t *key = NULL;
    int key_len;

    if (strcmp(words, "other") != 0) {
        PH_CHECK(sscanf(words, "%u-%u-%u", &usage, &selector, &matching) == 3 && matching == 1);
    }
    ph_certs_append_der(usage == 2 ? pki.a1 : leaf, &der);
    at = bytes = (const uint8_t *)der.data;
    x509 = d2i_X509(NULL, &at, (long)der.len);
    PH_CHECK(x509 != NULL);
    key_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &key);
    SHA256(selector == 0 ? bytes : key, selector == 0 ? der.len : (size_t)key_len, digest);
    ph_buf_printf(out, "%u %u %u ", usage, selector, matching);
    for (size_t i = 0; i < sizeof(digest); i++) {
        ph_buf_printf(out, "%02x", strcmp(words, "other") == 0 ? 0x5a : digest[i]);
    }
    OPENSSL_free(key);
    X509_free(x509);
    ph_buf_deinit(&der);
}

static struct ph_buf *new_file(const char *path)
{
    PH_CHECK(pki.file_count < FILES_MAX);
    pki.files[pki.file_count].path = strdup(path);
    return &pki.files[pki.file_count++].content;
}

static void make_host(const struct table_row *row, unsigned number)
{
    const struct table_host *host = &row->hosts[number];
    struct table_identity *identity = &pki.identities[row->index][number];
    const char *kind = table_word(&host->words, "cert");
    const char *tlsa = table_word(&host->words, "tlsa");
    struct ph_cert *leaf =
        make_leaf(find_kind(kind != NULL ? kind : "good"), host, &identity->chain);
    struct ph_buf chain = {0};
    char path[64];

    identity->own = make_context(host, leaf, ph_buf_str(&identity->chain), true);
    if (tlsa != NULL) {
        make_tlsa(tlsa, leaf, &identity->tlsa);
    }
    snprintf(path, sizeof(path), "/host-%s-%u.pem", row->name, number + 1);
    ph_buf_append(new_file(path), ph_buf_str(&identity->chain));
    ph_certs_destroy(leaf);
    if (table_has_step(row, "fix")) {
        leaf = make_leaf(find_kind("good"), host, &chain);
        identity->mended = make_context(host, leaf, ph_buf_str(&chain), true);
        ph_certs_destroy(leaf);
    }
    ph_buf_clear(&chain);
    leaf = make_leaf(find_kind("self-signed"), host, &chain);
    identity->impostor = make_context(host, leaf, ph_buf_str(&chain), false);
    ph_certs_destroy(leaf);
    ph_buf_deinit(&chain);
}

// --- files ---

static void append_crl(const struct ph_cert *issuer, int64_t begin_days, int64_t end_days,
                       struct ph_buf *out)
{
    bool revokes = issuer == pki.a1 && end_days > 0;

    ph_certs_append_crl(
        issuer,
        &(struct ph_certs_crl_options){.serials = pki.revoked,
                                       .serial_count = revokes ? pki.revoked_count : 0,
                                       .this_update_s = NOW_S + begin_days * DAY_S,
                                       .next_update_s = NOW_S + end_days * DAY_S},
        out);
}

// Own certificates that share issuer and subject; of those that are valid the newest counts.
static void make_own(void)
{
    static const struct {
        const char *name;
        unsigned version;
        int64_t begin_days;
        int64_t end_days;
    } own[] = {{"client", 0, -30, 300}, {"going", 0, -30, 300}, {"renewed", 0, -300, 30},
               {"renewed", 1, -5, 300}, {"renewed", 2, 5, 400}, {"renewed", 3, -30, 300},
               {"over", 0, -300, -5}};

    for (size_t i = 0; i < PH_ARRAY_LEN(own); i++) {
        char subject[64];
        char path[64];
        struct ph_certs_options options = {.common_name = subject,
                                           .usage = PH_CERTS_USAGE_CLIENT,
                                           .not_before_s = NOW_S + own[i].begin_days * DAY_S,
                                           .not_after_s = NOW_S + own[i].end_days * DAY_S};
        struct ph_cert *cert;
        struct ph_buf *out;

        snprintf(subject, sizeof(subject), "%s.posthaste.test", own[i].name);
        snprintf(path, sizeof(path), i == 0 ? "/%s.pem" : "/certs/%s-%u.pem", own[i].name,
                 own[i].version);
        cert = ph_certs_make(pki.root, &options);
        out = new_file(path);
        ph_certs_append_chain(cert, out);
        ph_certs_append_key(cert, out);
        if (strcmp(own[i].name, TABLE_NEWEST) == 0 && own[i].version == 1) {
            pki.newest_serial = ph_certs_serial(cert);
        }
        ph_certs_destroy(cert);
    }
}

static void make_files(void)
{
    struct ph_buf *out;

    ph_certs_append(pki.root, new_file("/root.pem"));
    ph_certs_append(pki.other_root, new_file("/other-root.pem"));
    ph_certs_append(pki.a1, new_file("/intermediate.pem"));
    ph_buf_append(new_file("/secret"), PH_STR("user\npassword\n"));
    out = new_file("/crl.pem");
    append_crl(pki.root, -5, 30, out);
    append_crl(pki.a1, -5, 30, out);
    append_crl(pki.a2, -5, 30, out);
    out = new_file("/stale-crl.pem");
    append_crl(pki.root, -60, -5, out);
    append_crl(pki.a4, -60, -5, out);
}

void table_pki_create(const struct table *table)
{
    struct ph_str home = PH_STR("mx.home.test");
    struct table_host host = {.names = {home}, .name_count = 1};
    struct ph_buf chain = {0};
    struct ph_cert *leaf;

    make_authorities();
    for (unsigned i = 0; i < table->row_count; i++) {
        for (unsigned h = 0; h < table->rows[i].host_count; h++) {
            make_host(&table->rows[i], h);
        }
    }
    leaf = make_leaf(find_kind("good"), &host, &chain);
    pki.home = make_context(&host, leaf, ph_buf_str(&chain), true);
    ph_certs_destroy(leaf);
    ph_buf_deinit(&chain);
    make_own();
    make_files();
}

const struct table_identity *table_pki_identity(const struct table_row *row, unsigned host)
{
    return &pki.identities[row->index][host];
}

SSL_CTX *table_pki_home(void)
{
    return pki.home;
}

const struct table_file *table_pki_file(struct ph_str path)
{
    for (unsigned i = 0; i < pki.file_count; i++) {
        if (ph_str_eq(ph_str_from(pki.files[i].path), path)) {
            return &pki.files[i];
        }
    }
    return NULL;
}

const struct table_file *table_pki_files(unsigned *out_count)
{
    *out_count = pki.file_count;
    return pki.files;
}

uint64_t table_pki_newest_serial(void)
{
    return pki.newest_serial;
}
