// bench-handshake: the client's CPU from ClientHello to facts and verdict, in the engine and in
// bare BoringSSL, both over memory against the same server.
//
//   bench-handshake [key=ecdsa|rsa] [certs=1|2|3] [mode=full|cached|resumed] [rounds=300]
//                   [crl=0] [side=all|engine|bare|listed]
//
// A line of JSON per side. `crl`: bytes of a list of the leaf's issuer; then there is a third side,
// the engine with that list (and short ones of the other issuers) at hand, which must find the
// chain not revoked; the other two know no lists. All take turns. For callgrind, whatever is
// measured happens in functions whose names begin with measured_ (--toggle-collect).
//
// Bare BoringSSL does what a client can't leave out: `full` verifies chain and name by its X509
// layer, `cached` takes the chain for known without a look, `resumed` offers the session's ticket.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/arguments.h"
#include "bench/lib/certs.h"
#include "bench/lib/timing.h"
#include "tls/crls.h"
#include "tls/gate.h"
#include "tls/own.h"
#include "tls/session.h"
#include "tls/trust.h"
#include "tls/verify.h"

#include "tls/boringssl.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#define ROUNDS_MAX 100000
#define CRL_ENTRY_BYTES 27 // a serial number of 8 bytes and a date
#define HOST "mx.contoso.test"
#define NOINLINE __attribute__((noinline))

enum mode {
    MODE_FULL,
    MODE_CACHED,
    MODE_RESUMED,
};

static uint64_t now_s(void *unused)
{
    (void)unused;
    return 1795508260; // 2026-11-24
}

static void now_timeval(const SSL *ssl, struct timeval *out)
{
    (void)ssl;
    *out = (struct timeval){.tv_sec = (time_t)now_s(NULL)};
}

struct engine {
    struct ph_tls_context *context;
    struct ph_trust *trust;
    enum ph_revocation revocation; // what it must find
};

static struct {
    enum mode mode;
    struct ph_tls_server *server;
    struct ph_tls_session *accepted;
    uint64_t round;
    // engine
    struct engine plain;
    struct engine listed;
    struct engine *engine;
    struct ph_tls_session *session;
    size_t crl_bytes;
    // bare
    SSL_CTX *bare;
    SSL_SESSION *ticket;
    SSL *ssl;
    BIO *to_ssl;
    BIO *from_ssl;
    // flights of the last handshake: what would be calls on a socket
    unsigned sent;
    unsigned received;
} bench;

struct side {
    const char *name;
    void (*begin)(void);                     // the ClientHello is there to be sent
    bool (*step)(struct ph_str from_server); // true: done
    void (*judge)(void);
    void (*take_output)(struct ph_buf *out);
    void (*settle)(struct ph_str greeting); // not measured: takes the tickets
    void (*finish)(void);
};

// --- the engine ---

static void engine_begin(struct engine *engine)
{
    bench.engine = engine;
    bench.session = ph_tls_session_connect(
        engine->context,
        &(struct ph_tls_client_options){
            .session_id = ++bench.round,
            .sni = PH_STR(HOST),
            .version_min = 0x0303,
            .resumption_key = bench.mode == MODE_RESUMED ? PH_STR("key") : PH_STR_NONE});
    PH_CHECK(ph_tls_session_handshake(bench.session) == PH_TLS_MORE);
}

static NOINLINE void measured_engine_begin(void)
{
    engine_begin(&bench.plain);
}

static NOINLINE void measured_listed_begin(void)
{
    engine_begin(&bench.listed);
}

static NOINLINE bool measured_engine_step(struct ph_str bytes)
{
    enum ph_tls_result result;

    ph_tls_session_feed(bench.session, bytes);
    result = ph_tls_session_handshake(bench.session);
    PH_CHECK(result == PH_TLS_MORE || result == PH_TLS_OK);
    return result == PH_TLS_OK;
}

static NOINLINE void measured_engine_judge(void)
{
    static const struct ph_str name = {.data = HOST, .len = sizeof(HOST) - 1};
    const struct ph_tls_facts *facts = ph_tls_session_facts(bench.session);
    struct ph_tls_policy policy = {.level = PH_TLS_DOMAIN_VALIDATION,
                                   .dane_mode = PH_DANE_NONE,
                                   .tls_domains = &name,
                                   .tls_domain_count = 1,
                                   .version_min = 0x0303,
                                   .trust = bench.engine->trust,
                                   .trust_id = ph_trust_id(bench.engine->trust)};
    struct ph_gate_subject subject = {.facts = facts,
                                      .connector = PH_STR("bench"),
                                      .recipient_domain = PH_STR("contoso.test"),
                                      .host = name,
                                      .address = PH_STR("192.0.2.1"),
                                      .wall_ms = now_s(NULL) * 1000};
    struct ph_clearance *clearance = NULL;
    struct ph_reason reason = {0};

    subject.verdict =
        ph_verify_chain(bench.engine->context, facts->chain, bench.engine->trust, subject.wall_ms);
    PH_CHECK(subject.verdict->revocation == bench.engine->revocation);
    if (ph_gate_judge(&policy, &subject, PH_CLEARANCE_ENVELOPE, &clearance, &reason) !=
        PH_GATE_CLEARED) {
        fprintf(stderr, "bench-handshake: refused: %s\n", reason.sentence);
        exit(1);
    }
    ph_clearance_destroy(clearance);
}

static void engine_output(struct ph_buf *out)
{
    struct ph_buf *from = ph_tls_session_output(bench.session);

    ph_buf_append(out, ph_buf_str(from));
    ph_buf_clear(from);
}

static void engine_settle(struct ph_str greeting)
{
    struct ph_buf plain = {0};

    PH_CHECK(bench.mode != MODE_RESUMED || bench.round == 1 ||
             ph_tls_session_facts(bench.session)->handshake == PH_HANDSHAKE_RESUMED);
    ph_tls_session_feed(bench.session, greeting);
    PH_CHECK(ph_tls_session_read(bench.session, &plain, 4096) == PH_TLS_OK);
    ph_buf_deinit(&plain);
}

static void engine_finish(void)
{
    ph_tls_session_destroy(bench.session);
}

static void engine_prepare(struct engine *engine, struct ph_str root, bool listed)
{
    struct ph_buf error = {0};

    engine->revocation = listed ? PH_REVOCATION_GOOD : PH_REVOCATION_NOT_CHECKED;
    engine->trust = ph_trust_create(&(struct ph_trust_options){.anchors_pem = root,
                                                               .intermediates_pem = PH_STR_NONE,
                                                               .crls_pem = PH_STR_NONE,
                                                               .revocation_source = listed},
                                    &error);
    PH_CHECK(engine->trust != NULL);
    engine->context = ph_tls_context_create(
        &(struct ph_tls_context_options){.now_s = now_s,
                                         .chain_cache_max = bench.mode == MODE_FULL ? 0 : 64,
                                         .ticket_max = bench.mode == MODE_RESUMED ? 64 : 0});
}

// The lists come as the daemon's do: one set, beside the trust store. Returns the long one's bytes.
static size_t give_lists(struct engine *engine, struct ph_cert *const *issuers, unsigned count,
                         size_t bytes)
{
    size_t entries = bytes / CRL_ENTRY_BYTES;
    uint64_t *serials = ph_alloc((entries + 1) * sizeof(*serials));
    struct ph_crl *lists[3];
    struct ph_crls *crls;

    for (size_t i = 0; i < entries; i++) {
        serials[i] = UINT64_C(0x1000000000000000) + i * 0x9E3779B1; // never the chain's own
    }
    for (unsigned i = 0; i < count; i++) {
        struct ph_buf pem = {0};
        struct ph_buf error = {0};

        ph_buf_init(&pem, PH_BUF_BYTES_MAX);
        ph_certs_append_crl(issuers[i],
                            &(struct ph_certs_crl_options){
                                .serials = serials, .serial_count = i + 1 == count ? entries : 0},
                            &pem);
        lists[i] = ph_crl_parse(ph_buf_str(&pem), &error);
        PH_CHECK(lists[i] != NULL);
        ph_buf_deinit(&pem);
    }
    crls = ph_crls_create(lists, count);
    ph_tls_context_set_crls(engine->context, crls);
    ph_crls_release(crls);
    free(serials);
    return lists[count - 1]->der.len;
}

// --- bare BoringSSL ---

static enum ssl_verify_result_t accept_known(SSL *ssl, uint8_t *out_alert)
{
    (void)ssl;
    (void)out_alert;
    return ssl_verify_ok;
}

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(bench.ticket);
    bench.ticket = session;
    return 1;
}

static NOINLINE void measured_bare_begin(void)
{
    bench.round++;
    bench.ssl = SSL_new(bench.bare);
    bench.to_ssl = BIO_new(BIO_s_mem());
    bench.from_ssl = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(bench.to_ssl, -1);
    SSL_set_bio(bench.ssl, bench.to_ssl, bench.from_ssl);
    SSL_set_connect_state(bench.ssl);
    SSL_set_tlsext_host_name(bench.ssl, HOST);
    if (bench.mode == MODE_FULL) {
        X509_VERIFY_PARAM_set1_host(SSL_get0_param(bench.ssl), HOST, strlen(HOST));
    }
    if (bench.mode == MODE_RESUMED && bench.ticket != NULL) {
        PH_CHECK(SSL_set_session(bench.ssl, bench.ticket) == 1);
    }
    PH_CHECK(SSL_do_handshake(bench.ssl) == -1);
}

static NOINLINE bool measured_bare_step(struct ph_str bytes)
{
    int result;

    BIO_write(bench.to_ssl, bytes.data, (int)bytes.len);
    result = SSL_do_handshake(bench.ssl);
    PH_CHECK(result == 1 || SSL_get_error(bench.ssl, result) == SSL_ERROR_WANT_READ);
    return result == 1;
}

static NOINLINE void measured_bare_judge(void)
{
    PH_CHECK(bench.mode != MODE_FULL || SSL_get_verify_result(bench.ssl) == X509_V_OK);
}

static void bare_output(struct ph_buf *out)
{
    const uint8_t *bytes;
    size_t len;

    PH_CHECK(BIO_mem_contents(bench.from_ssl, &bytes, &len) == 1);
    ph_buf_append_bytes(out, bytes, len);
    (void)BIO_reset(bench.from_ssl);
}

static void bare_settle(struct ph_str greeting)
{
    char plain[4096];

    PH_CHECK(bench.mode != MODE_RESUMED || bench.round == 1 || SSL_session_reused(bench.ssl));
    BIO_write(bench.to_ssl, greeting.data, (int)greeting.len);
    PH_CHECK(SSL_read(bench.ssl, plain, sizeof(plain)) > 0);
}

static void bare_finish(void)
{
    SSL_free(bench.ssl);
}

static void bare_prepare(struct ph_str root)
{
    bool full = bench.mode == MODE_FULL;

    bench.bare = SSL_CTX_new(full ? TLS_method() : TLS_with_buffers_method());
    PH_CHECK(bench.bare != NULL);
    SSL_CTX_set_current_time_cb(bench.bare, now_timeval);
    SSL_CTX_set1_curves_list(bench.bare, "X25519:P-256");
    if (full) {
        BIO *bio = BIO_new_mem_buf(root.data, (int)root.len);
        X509 *anchor = PEM_read_bio_X509(bio, NULL, NULL, NULL);

        SSL_CTX_set_verify(bench.bare, SSL_VERIFY_PEER, NULL);
        PH_CHECK(X509_STORE_add_cert(SSL_CTX_get_cert_store(bench.bare), anchor) == 1);
        X509_free(anchor);
        BIO_free(bio);
    } else {
        SSL_CTX_set_custom_verify(bench.bare, SSL_VERIFY_PEER, accept_known);
    }
    SSL_CTX_set_session_cache_mode(bench.bare, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(bench.bare, keep_ticket);
}

#define SIDE_LISTED 2
#define SIDES 3
static const struct side sides[SIDES] = {
    {"engine", measured_engine_begin, measured_engine_step, measured_engine_judge, engine_output,
     engine_settle, engine_finish},
    {"bare", measured_bare_begin, measured_bare_step, measured_bare_judge, bare_output, bare_settle,
     bare_finish},
    {"listed", measured_listed_begin, measured_engine_step, measured_engine_judge, engine_output,
     engine_settle, engine_finish},
};

// --- one handshake ---

// The client's CPU in ns.
static uint64_t shake(const struct side *side)
{
    struct ph_tls_session *server = ph_tls_session_accept(bench.server, 1);
    struct ph_buf flight = {0};
    uint64_t used = 0;
    uint64_t began = ph_timing_cpu_ns();
    bool done = false;

    side->begin();
    used += ph_timing_cpu_ns() - began;
    side->take_output(&flight);
    bench.sent = 1;
    bench.received = 0;
    while (!done) {
        struct ph_buf *answer;

        ph_tls_session_feed(server, ph_buf_str(&flight));
        PH_CHECK(ph_tls_session_handshake(server) != PH_TLS_FAILED);
        ph_buf_clear(&flight);
        answer = ph_tls_session_output(server);
        PH_CHECK(answer->len > 0);
        bench.received++;
        began = ph_timing_cpu_ns();
        done = side->step(ph_buf_str(answer));
        if (done) {
            side->judge();
        }
        used += ph_timing_cpu_ns() - began;
        ph_buf_clear(answer);
        side->take_output(&flight);
        bench.sent += flight.len > 0;
    }
    ph_tls_session_feed(server, ph_buf_str(&flight));
    PH_CHECK(ph_tls_session_handshake(server) == PH_TLS_OK);
    PH_CHECK(ph_tls_session_write(server, PH_STR("220 hello\r\n")) == PH_TLS_OK);
    side->settle(ph_buf_str(ph_tls_session_output(server)));
    side->finish();
    ph_tls_session_destroy(server);
    ph_buf_deinit(&flight);
    return used;
}

static void prepare(bool rsa, unsigned certs)
{
    enum ph_certs_key key = rsa ? PH_CERTS_RSA_2048 : PH_CERTS_P256;
    struct ph_str host = PH_STR(HOST);
    struct ph_certs_options authority = {.common_name = "Bench authority", .ca = true, .key = key};
    struct ph_cert *issuers[3] = {ph_certs_make(NULL, &authority)};
    struct ph_cert *leaf;
    struct ph_buf text = {0};
    struct ph_buf error = {0};
    struct ph_buf root = {0};

    for (unsigned i = 1; i < certs; i++) {
        authority.common_name = i == 1 ? "Bench intermediate 1" : "Bench intermediate 2";
        issuers[i] = ph_certs_make(issuers[i - 1], &authority);
    }
    leaf = ph_certs_make(issuers[certs - 1], &(struct ph_certs_options){.common_name = HOST,
                                                                        .dns_names = &host,
                                                                        .dns_name_count = 1,
                                                                        .key = key});
    ph_certs_append_chain(leaf, &text);
    ph_certs_append_key(leaf, &text);
    bench.server = ph_tls_server_create(ph_buf_str(&text), PH_STR_NONE, &error);
    PH_CHECK(bench.server != NULL);
    ph_tls_server_set_clock(bench.server, now_s, NULL);
    ph_certs_append(issuers[0], &root);
    engine_prepare(&bench.plain, ph_buf_str(&root), false);
    if (bench.crl_bytes > 0) {
        engine_prepare(&bench.listed, ph_buf_str(&root), true);
        bench.crl_bytes = give_lists(&bench.listed, issuers, certs, bench.crl_bytes);
    }
    bare_prepare(ph_buf_str(&root));
    ph_certs_destroy(leaf);
    for (unsigned i = certs; i > 0; i--) {
        ph_certs_destroy(issuers[i - 1]);
    }
    ph_buf_deinit(&root);
    ph_buf_deinit(&text);
}

static bool is_measured(int s, const char *side)
{
    bool there = s < SIDE_LISTED || bench.crl_bytes > 0;

    return there && (strcmp(side, "all") == 0 || strcmp(side, sides[s].name) == 0);
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"full", "cached", "resumed"};
    static uint64_t used[SIDES][ROUNDS_MAX];
    static unsigned flights[SIDES][2];
    struct ph_arguments arguments = ph_arguments_of(argc, argv);
    const char *key = ph_argument(&arguments, "key", "ecdsa");
    unsigned certs = (unsigned)ph_argument_number(&arguments, "certs", 2);
    const char *mode = ph_argument(&arguments, "mode", "full");
    const char *side = ph_argument(&arguments, "side", "all");
    uint64_t rounds = ph_argument_number(&arguments, "rounds", 300);

    bench.crl_bytes = (size_t)ph_argument_number(&arguments, "crl", 0);
    ph_arguments_end(&arguments);
    PH_CHECK(certs >= 1 && certs <= 3 && rounds >= 1 && rounds <= ROUNDS_MAX);
    PH_CHECK(bench.crl_bytes <= PH_CRL_BYTES_MAX);
    while (bench.mode < MODE_RESUMED && strcmp(mode, modes[bench.mode]) != 0) {
        bench.mode++;
    }
    prepare(strcmp(key, "rsa") == 0, certs);
    for (int s = 0; s < SIDES; s++) {
        if (is_measured(s, side)) {
            bench.round = 0;
            (void)shake(&sides[s]); // fills caches and keeps a ticket
        }
    }
    for (uint64_t round = 0; round < rounds; round++) {
        for (int s = 0; s < SIDES; s++) {
            if (is_measured(s, side)) {
                used[s][round] = shake(&sides[s]);
                flights[s][0] = bench.sent;
                flights[s][1] = bench.received;
            }
        }
    }
    for (int s = 0; s < SIDES; s++) {
        if (is_measured(s, side)) {
            printf("{\"key\":\"%s\",\"certs\":%u,\"mode\":\"%s\",\"side\":\"%s\",\"cpu_ns\":%llu,"
                   "\"sends\":%u,\"receives\":%u,\"crl_bytes\":%zu}\n",
                   key, certs, modes[bench.mode], sides[s].name,
                   (unsigned long long)ph_timing_median(used[s], rounds), flights[s][0],
                   flights[s][1], s == SIDE_LISTED ? bench.crl_bytes : 0);
        }
    }
    return 0;
}
