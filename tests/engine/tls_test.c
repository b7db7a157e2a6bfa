// Two ends talk over memory; what the gate makes of what was measured.
// Covers: tls/algorithm tls/asn1 tls/chain tls/chain_cache tls/context tls/groups tls/ocsp tls/own
// Covers: tls/issuers tls/path tls/pem tls/revocation tls/session tls/tickets tls/trust tls/verify
#include <criterion/criterion.h>
#include <string.h>

#include "bench/lib/pki.h"
#include "bench/lib/certs.h"
#include "tls/gate.h"
#include "tls/issuers.h"
#include "tls/session.h"
#include "tls/trust.h"
#include "tls/verify.h"

#define NOW_S UINT64_C(1795508260) // 2026-11-24

static uint64_t now_s(void *owner)
{
    (void)owner;
    return NOW_S;
}

struct ends {
    struct ph_pki *pki;
    struct ph_trust *trust;
    struct ph_tls_context *context;
};

static struct ends make_ends(struct ph_pki *pki, size_t tickets, size_t cache)
{
    struct ends ends = {.pki = pki};
    struct ph_buf root = {0};
    struct ph_buf crl = {0};
    struct ph_buf error = {0};

    ph_pki_append_root(pki, &root);
    ph_pki_append_crl(pki, &crl);
    ends.trust = ph_trust_create(&(struct ph_trust_options){.anchors_pem = ph_buf_str(&root),
                                                            .intermediates_pem = PH_STR_NONE,
                                                            .crls_pem = ph_buf_str(&crl),
                                                            .revocation_source = true},
                                 &error);
    cr_assert_not_null(ends.trust, "%s", ph_buf_cstr(&error));
    ends.context = ph_tls_context_create(&(struct ph_tls_context_options){
        .now_s = now_s, .chain_cache_max = cache, .ticket_max = tickets});
    ph_buf_deinit(&root);
    ph_buf_deinit(&crl);
    return ends;
}

static void free_ends(struct ends *ends)
{
    ph_tls_context_destroy(ends->context);
    ph_trust_release(ends->trust);
    ph_pki_destroy(ends->pki);
}

// Moves what one end has to say to the other, `step` bytes at a time.
static void carry(struct ph_tls_session *from, struct ph_tls_session *to, size_t step)
{
    struct ph_buf *output = ph_tls_session_output(from);

    while (output->len > 0) {
        struct ph_str part = ph_str_first(ph_buf_str(output), step);

        ph_tls_session_feed(to, part);
        ph_buf_consume(output, part.len);
    }
}

static bool shake(struct ph_tls_session *client, struct ph_tls_session *server, size_t step)
{
    enum ph_tls_result c = PH_TLS_MORE;
    enum ph_tls_result s = PH_TLS_MORE;

    for (int turn = 0; turn < 20 && (c != PH_TLS_OK || s != PH_TLS_OK); turn++) {
        c = ph_tls_session_handshake(client);
        carry(client, server, step);
        s = ph_tls_session_handshake(server);
        carry(server, client, step);
        if (c == PH_TLS_FAILED || s == PH_TLS_FAILED) {
            return false;
        }
    }
    return c == PH_TLS_OK && s == PH_TLS_OK;
}

static struct ph_tls_server *server_for(struct ph_pki *pki, enum ph_pki_kind kind)
{
    struct ph_buf pem = {0};
    struct ph_buf error = {0};
    struct ph_tls_server *server;

    ph_pki_append_leaf(pki, kind, "mx.contoso.test", &pem);
    server = ph_tls_server_create(ph_buf_str(&pem), PH_STR_NONE, &error);
    cr_assert_not_null(server, "%s", ph_buf_cstr(&error));
    ph_buf_deinit(&pem);
    return server;
}

static enum ph_reason_kind judge(struct ends *ends, enum ph_tls_level level,
                                 const struct ph_tls_facts *facts)
{
    static const struct ph_str name = {.data = "mx.contoso.test", .len = 15};
    struct ph_tls_policy policy = {.level = level,
                                   .dane_mode = PH_DANE_NONE,
                                   .fallback = PH_TLS_FALLBACK_PLAINTEXT,
                                   .tls_domains = &name,
                                   .tls_domain_count = 1,
                                   .version_min = 0x0303,
                                   .trust = ends->trust,
                                   .trust_id = ph_trust_id(ends->trust)};
    struct ph_gate_subject subject = {.facts = facts,
                                      .connector = PH_STR("c"),
                                      .recipient_domain = PH_STR("contoso.test"),
                                      .host = PH_STR("mx.contoso.test"),
                                      .address = PH_STR("192.0.2.1"),
                                      .wall_ms = NOW_S * 1000};
    struct ph_clearance *clearance = NULL;
    struct ph_reason reason = {0};

    if (ph_tls_policy_needs_chain(&policy)) {
        subject.verdict =
            ph_verify_chain(ends->context, facts->chain, ends->trust, subject.wall_ms);
    }
    if (ph_gate_judge(&policy, &subject, PH_CLEARANCE_ENVELOPE, &clearance, &reason) ==
        PH_GATE_CLEARED) {
        ph_clearance_destroy(clearance);
        return PH_REASON_NONE;
    }
    return reason.kind;
}

// The truth table's certificates against the levels, with the cache and without.
Test(tls, certificates_and_levels)
{
    static const enum ph_reason_kind wanted[PH_PKI_KINDS][2] = {
        // CertificateValidation, DomainValidation
        [PH_PKI_GOOD] = {PH_REASON_NONE, PH_REASON_NONE},
        [PH_PKI_SELF_SIGNED] = {PH_REASON_CERT_SELF_SIGNED, PH_REASON_CERT_SELF_SIGNED},
        [PH_PKI_UNTRUSTED] = {PH_REASON_CERT_UNTRUSTED_ROOT, PH_REASON_CERT_UNTRUSTED_ROOT},
        [PH_PKI_EXPIRED] = {PH_REASON_CERT_EXPIRED, PH_REASON_CERT_EXPIRED},
        [PH_PKI_REVOKED] = {PH_REASON_CERT_REVOKED, PH_REASON_CERT_REVOKED},
        [PH_PKI_WRONG_NAME] = {PH_REASON_NONE, PH_REASON_CERT_NAME_MISMATCH},
    };

    for (size_t cache = 0; cache <= 16; cache += 16) {
        struct ph_pki *pki = ph_pki_create();
        struct ph_tls_server *servers[PH_PKI_KINDS];
        struct ends ends;

        for (int kind = 0; kind < PH_PKI_KINDS; kind++) {
            servers[kind] = server_for(pki, (enum ph_pki_kind)kind);
        }
        ends = make_ends(pki, 0, cache);
        for (int round = 0; round < 2; round++) {
            for (int kind = 0; kind < PH_PKI_KINDS; kind++) {
                struct ph_tls_session *client = ph_tls_session_connect(
                    ends.context, &(struct ph_tls_client_options){
                                      .session_id = 1, .sni = PH_STR("mx.contoso.test")});
                struct ph_tls_session *server = ph_tls_session_accept(servers[kind], 2);
                const struct ph_tls_facts *facts;

                cr_assert(shake(client, server, kind % 2 == 0 ? 1 : 4096), "kind %d", kind);
                facts = ph_tls_session_facts(client);
                cr_expect(facts->encrypted && facts->version == 0x0304 && facts->chain != NULL);
                cr_expect_eq(judge(&ends, PH_TLS_OPPORTUNISTIC, facts), PH_REASON_NONE);
                cr_expect_eq(judge(&ends, PH_TLS_ENCRYPTION_ONLY, facts), PH_REASON_NONE);
                cr_expect_eq(judge(&ends, PH_TLS_CERTIFICATE_VALIDATION, facts), wanted[kind][0],
                             "kind %d cache %zu: %s", kind, cache,
                             ph_reason_token(judge(&ends, PH_TLS_CERTIFICATE_VALIDATION, facts)));
                cr_expect_eq(judge(&ends, PH_TLS_DOMAIN_VALIDATION, facts), wanted[kind][1],
                             "kind %d cache %zu", kind, cache);
                ph_tls_session_destroy(client);
                ph_tls_session_destroy(server);
            }
        }
        if (cache > 0) {
            cr_expect(ph_verify_stats(ends.context).cached > 0);
        } else {
            cr_expect_eq(ph_verify_stats(ends.context).cached, 0);
        }
        for (int kind = 0; kind < PH_PKI_KINDS; kind++) {
            ph_tls_server_destroy(servers[kind]);
        }
        free_ends(&ends);
    }
}

Test(tls, a_resumed_session_has_the_facts_of_the_first)
{
    struct ph_pki *pki = ph_pki_create();
    struct ph_tls_server *own = server_for(pki, PH_PKI_GOOD);
    struct ends ends = make_ends(pki, 16, 16);
    struct ph_str key = PH_STR("k");

    for (int round = 0; round < 3; round++) {
        struct ph_tls_session *client = ph_tls_session_connect(
            ends.context,
            &(struct ph_tls_client_options){.session_id = (uint64_t)round + 1,
                                            .sni = PH_STR("mx.contoso.test"),
                                            .resumption_key = round < 2 ? key : PH_STR("other")});
        struct ph_tls_session *server = ph_tls_session_accept(own, 9);
        const struct ph_tls_facts *facts;
        struct ph_buf plain = {0};

        cr_assert(shake(client, server, 4096));
        facts = ph_tls_session_facts(client);
        cr_expect_eq(facts->handshake, round == 1 ? PH_HANDSHAKE_RESUMED : PH_HANDSHAKE_FULL,
                     "round %d", round);
        cr_expect_eq(facts->session_id, (uint64_t)round + 1);
        cr_expect_eq(judge(&ends, PH_TLS_DOMAIN_VALIDATION, facts), PH_REASON_NONE);
        // Tickets come with the first bytes of the server.
        cr_assert_eq(ph_tls_session_write(server, PH_STR("220 hi\r\n")), PH_TLS_OK);
        carry(server, client, 7);
        cr_assert_eq(ph_tls_session_read(client, &plain, 100), PH_TLS_OK);
        cr_expect_str_eq(ph_buf_cstr(&plain), "220 hi\r\n");
        ph_tls_session_close(server);
        carry(server, client, 4096);
        cr_expect_eq(ph_tls_session_read(client, &plain, 100), PH_TLS_CLOSED);
        ph_buf_deinit(&plain);
        ph_tls_session_destroy(client);
        ph_tls_session_destroy(server);
    }
    ph_tls_server_destroy(own);
    free_ends(&ends);
}

Test(tls, what_cannot_be_loaded_is_said)
{
    struct ph_buf error = {0};

    cr_expect_null(ph_tls_server_create(PH_STR("nonsense"), PH_STR_NONE, &error));
    cr_expect(error.len > 0);
    ph_buf_clear(&error);
    cr_expect_null(ph_trust_create(
        &(struct ph_trust_options){.anchors_pem = PH_STR("-----BEGIN CERTIFICATE-----\nAAAA\n"
                                                         "-----END CERTIFICATE-----\n"),
                                   .intermediates_pem = PH_STR_NONE,
                                   .crls_pem = PH_STR_NONE},
        &error));
    cr_expect(error.len > 0);
    ph_buf_clear(&error);
    cr_expect(!ph_tls_groups_valid(PH_STR("no-such-group"), &error));
    cr_expect(!ph_tls_groups_requirable(PH_STR("no-such-group"), &error));
    cr_expect(!ph_tls_groups_requirable(PH_STR("?X25519"), &error));
    cr_expect(!ph_tls_groups_requirable(PH_STR_NONE, &error));
    cr_expect(ph_tls_groups_requirable(PH_STR("X25519:P-256"), &error));
    // What the library lacks is passed over where it is optional, and said where it isn't.
    if (!ph_tls_groups_valid(PH_STR("X25519MLKEM768"), &error)) {
        ph_buf_clear(&error);
        cr_expect(!ph_tls_groups_requirable(PH_STR("X25519MLKEM768:X25519"), &error));
        cr_expect(ph_str_find(ph_buf_str(&error), PH_STR("has no X25519MLKEM768")) >= 0, "%s",
                  ph_buf_cstr(&error));
    }
    cr_expect(ph_tls_groups_valid(PH_STR("?X25519MLKEM768:X25519:P-256"), &error), "%s",
              ph_buf_cstr(&error));
    ph_buf_deinit(&error);
}

Test(tls, an_authority_is_parsed_once)
{
    struct ph_issuers *issuers = ph_issuers_create();
    struct ph_cert *root = ph_certs_root("Root");
    struct ph_chain_pool *pool = ph_chain_pool_create();
    CRYPTO_BUFFER *garbage = CRYPTO_BUFFER_new((const uint8_t *)"\x30\x01", 2, pool->buffers);

    cr_assert_null(ph_issuers_parse(issuers, pool, garbage));
    // More than there are slots, each seen twice in a row, then all again.
    for (int i = 0; i < 2 * PH_ISSUERS_MAX; i++) {
        struct ph_cert *cert = ph_certs_intermediate(root, i % 2 == 0 ? "One" : "Another");
        struct ph_buf der = {0};
        CRYPTO_BUFFER *buffer;
        X509 *first;
        X509 *second;
        X509 *anew;

        ph_certs_append_der(cert, &der);
        buffer = CRYPTO_BUFFER_new((const uint8_t *)der.data, der.len, pool->buffers);
        first = ph_issuers_parse(issuers, pool, buffer);
        second = ph_issuers_parse(issuers, pool, buffer);
        anew = ph_issuers_parse(NULL, pool, buffer);
        cr_assert_not_null(first);
        cr_assert_eq(first, second);
        cr_assert_neq(first, anew);
        cr_assert_eq(X509_cmp(first, anew), 0);
        X509_free(first);
        X509_free(second);
        X509_free(anew);
        CRYPTO_BUFFER_free(buffer);
        ph_buf_deinit(&der);
        ph_certs_destroy(cert);
    }
    CRYPTO_BUFFER_free(garbage);
    ph_chain_pool_release(pool); // what is kept holds it
    ph_issuers_destroy(issuers);
    ph_issuers_destroy(NULL);
    ph_certs_destroy(root);
}
