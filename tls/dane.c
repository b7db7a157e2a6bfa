// Certificates against TLSA records.
#include "tls/dane.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "tls/chain.h"
#include "tls/path.h"
#include "tls/trust_parts.h"

#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/sha.h>

// What a record of this selector speaks of: the certificate or its key, as DER. The caller frees.
static struct ph_str select_der(X509 *x509, enum ph_tlsa_selector selector)
{
    uint8_t *der = NULL;
    int len = selector == PH_TLSA_SPKI ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &der)
                                       : i2d_X509(x509, &der);

    return (struct ph_str){.data = (const char *)der, .len = len > 0 ? (size_t)len : 0};
}

static bool record_matches(const struct ph_tlsa *tlsa, const struct ph_tlsa_record *record,
                           X509 *x509)
{
    struct ph_str wanted = ph_tlsa_data(tlsa, record);
    struct ph_str der = select_der(x509, record->selector);
    uint8_t digest[SHA512_DIGEST_LENGTH];
    struct ph_str shown = der;
    bool matches;

    if (record->matching == PH_TLSA_SHA256) {
        SHA256((const uint8_t *)der.data, der.len, digest);
        shown = (struct ph_str){.data = (const char *)digest, .len = SHA256_DIGEST_LENGTH};
    } else if (record->matching == PH_TLSA_SHA512) {
        SHA512((const uint8_t *)der.data, der.len, digest);
        shown = (struct ph_str){.data = (const char *)digest, .len = SHA512_DIGEST_LENGTH};
    }
    matches = der.len > 0 && ph_str_eq(wanted, shown);
    OPENSSL_free((void *)(uintptr_t)der.data);
    return matches;
}

static bool leaf_matches(const struct ph_tlsa *tlsa, X509 *leaf)
{
    bool matches = false;

    for (size_t i = 0; !matches && i < tlsa->record_count; i++) {
        matches = tlsa->records[i].usage == PH_TLSA_DANE_EE &&
                  record_matches(tlsa, &tlsa->records[i], leaf);
    }
    return matches;
}

static bool authority_matches(const struct ph_tlsa *tlsa, X509 *x509)
{
    bool matches = false;

    for (size_t i = 0; !matches && i < tlsa->record_count; i++) {
        matches = tlsa->records[i].usage == PH_TLSA_DANE_TA &&
                  record_matches(tlsa, &tlsa->records[i], x509);
    }
    return matches;
}

static bool is_self_issued(X509 *x509)
{
    return X509_NAME_cmp(X509_get_subject_name(x509), X509_get_issuer_name(x509)) == 0;
}

// The authorities of the presented chain that a record names, and those that stand whole in a
// record ("2 0 0"): they need not be sent.
static struct ph_trust *collect_authorities(const struct ph_tlsa *tlsa, X509 *const *presented,
                                            size_t count)
{
    struct ph_trust *trust = ph_trust_create_empty();

    for (size_t i = 0; i < count; i++) {
        if ((i > 0 || is_self_issued(presented[0])) && authority_matches(tlsa, presented[i])) {
            struct ph_str der = select_der(presented[i], PH_TLSA_CERTIFICATE);

            PH_CHECK(ph_trust_add_anchor(trust, der));
            OPENSSL_free((void *)(uintptr_t)der.data);
        }
    }
    for (size_t i = 0; i < tlsa->record_count; i++) {
        const struct ph_tlsa_record *record = &tlsa->records[i];

        if (record->usage == PH_TLSA_DANE_TA && record->selector == PH_TLSA_CERTIFICATE &&
            record->matching == PH_TLSA_FULL) {
            (void)!ph_trust_add_anchor(trust, ph_tlsa_data(tlsa, record)); // or it is none
        }
    }
    return trust;
}

static void verify_authority(const struct ph_tlsa *tlsa, X509 *const *presented, size_t count,
                             struct ph_window *window, struct ph_dane_verdict *out)
{
    struct ph_trust *trust = collect_authorities(tlsa, presented, count);
    struct ph_path_request request = {
        .presented = presented,
        .presented_count = count,
        .trust = trust,
        .intermediates_max = PH_PATH_INTERMEDIATES_MAX,
        .staple = PH_STR_NONE,
        .window = window,
    };
    struct ph_path_result result;

    if (trust->anchor_count > 0) {
        ph_path_search(&request, &result);
        if (result.kind == PH_REASON_NONE) {
            out->match = PH_DANE_MATCH_TA;
        } else {
            // A date in the future is no expiry: 4.7.323 covers it.
            out->match =
                result.kind == PH_REASON_CERT_EXPIRED ? PH_DANE_MATCH_STALE : PH_DANE_NO_MATCH;
            snprintf(out->detail, sizeof(out->detail), "%s", result.detail);
        }
    }
    ph_trust_release(trust);
}

void ph_dane_verify(const struct ph_chain *chain, const struct ph_tlsa *tlsa, uint64_t wall_ms,
                    struct ph_dane_verdict *out)
{
    X509 *presented[PH_CHAIN_CERTIFICATES_MAX];
    size_t count = ph_chain_parse(chain, NULL, presented);
    struct ph_window window = ph_window_make((int64_t)(wall_ms / 1000));

    PH_CHECK(tlsa->status == PH_TLSA_USABLE);
    *out = (struct ph_dane_verdict){.match = PH_DANE_NO_MATCH};
    memcpy(out->chain_hash, chain->hash, PH_SHA256_BYTES);
    snprintf(out->detail, sizeof(out->detail), "none of its %zu TLSA record%s matches",
             tlsa->record_count, tlsa->record_count == 1 ? "" : "s");
    if (count > 0 && leaf_matches(tlsa, presented[0])) {
        out->match = PH_DANE_MATCH_EE;
    } else if (count > 0 && ph_tlsa_has_usage(tlsa, PH_TLSA_DANE_TA)) {
        verify_authority(tlsa, presented, count, &window, out);
    }
    if (out->match >= PH_DANE_MATCH_TA) {
        out->detail[0] = '\0';
    }
    out->valid_until_s = window.until_s;
    for (size_t i = 0; i < count; i++) {
        X509_free(presented[i]);
    }
    ERR_clear_error();
}
