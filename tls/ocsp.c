// Reads a stapled OCSP response.
#include "tls/ocsp.h"

#include <string.h>

#include <openssl/bytestring.h>
#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/obj.h>
#include <openssl/pool.h>
#include <openssl/x509v3.h>

#include "tls/algorithm.h"
#include "tls/asn1.h"

#define PH_OCSP_RESPONSES_MAX 64 // single responses looked at; ours
#define PH_OCSP_RESPONDERS_MAX 4 // certificates sent along that are tried; ours

#define TAG(number) (CBS_ASN1_CONSTRUCTED | CBS_ASN1_CONTEXT_SPECIFIC | (number))
#define TAG_PRIMITIVE(number) (CBS_ASN1_CONTEXT_SPECIFIC | (number))

// 1.3.6.1.5.5.7.48.1.1, id-pkix-ocsp-basic
static const uint8_t basic_response[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01};

struct response {
    CBS signed_bytes; // tbsResponseData, whole
    CBS singles;
    CBS signature_algorithm;
    CBS signature;
    CBS responders; // certificates; empty where none were sent
};

// The answer about our certificate.
struct single {
    enum ph_ocsp_status status; // UNUSABLE: "unknown"
    int64_t this_update_s;
    int64_t next_update_s; // INT64_MIN: none
};

static bool parse_response(CBS *der, struct response *out);
static bool find_single(CBS singles, X509 *x509, X509 *issuer, struct single *out);
static bool signature_holds(const struct response *response, X509 *issuer,
                            struct ph_window *window);

enum ph_ocsp_status ph_ocsp_check(struct ph_str der, X509 *x509, X509 *issuer,
                                  struct ph_window *window, const char **out_problem)
{
    struct response response;
    struct single single = {0};
    enum ph_ocsp_status status = PH_OCSP_UNUSABLE;
    CBS bytes;

    CBS_init(&bytes, (const uint8_t *)der.data, der.len);
    if (!parse_response(&bytes, &response)) {
        *out_problem = "can't be read";
    } else if (!find_single(response.singles, x509, issuer, &single)) {
        *out_problem = "is about other certificates";
    } else if (!signature_holds(&response, issuer, window)) {
        *out_problem = "is not signed by the issuer or its responder";
    } else {
        ph_window_note(window, single.this_update_s);
        ph_window_note(window, single.next_update_s);
        if (window->now_s < single.this_update_s) {
            *out_problem = "is not yet valid";
        } else if (single.status == PH_OCSP_REVOKED) {
            status = PH_OCSP_REVOKED; // however old: what was revoked once stays so
        } else if (window->now_s >= single.next_update_s) {
            *out_problem = "is out of date";
        } else if (single.status == PH_OCSP_GOOD) {
            status = PH_OCSP_GOOD;
        } else {
            *out_problem = "says the certificate is unknown";
        }
    }
    ERR_clear_error();
    return status;
}

// Extensions ::= SEQUENCE OF SEQUENCE { OID, critical BOOLEAN DEFAULT FALSE, OCTET STRING }. We
// know none: a critical one makes the rest unreadable.
static bool extensions_harmless(CBS *explicit_tag)
{
    CBS list;
    bool harmless = CBS_get_asn1(explicit_tag, &list, CBS_ASN1_SEQUENCE) == 1;

    while (harmless && CBS_len(&list) > 0) {
        CBS extension;
        CBS oid;
        int critical = 0;

        harmless = CBS_get_asn1(&list, &extension, CBS_ASN1_SEQUENCE) &&
                   CBS_get_asn1(&extension, &oid, CBS_ASN1_OBJECT) &&
                   CBS_get_optional_asn1_bool(&extension, &critical, CBS_ASN1_BOOLEAN, 0) &&
                   critical == 0;
    }
    return harmless;
}

static bool parse_tbs(CBS tbs, CBS *out_singles)
{
    CBS data;
    CBS ignored;
    CBS extensions;
    int present = 0;

    // ResponseData: [0] version, responderID ([1] or [2]), producedAt, responses, [1] extensions.
    return CBS_get_asn1(&tbs, &data, CBS_ASN1_SEQUENCE) &&
           CBS_get_optional_asn1(&data, &ignored, &present, TAG(0)) &&
           (CBS_peek_asn1_tag(&data, TAG(1)) || CBS_peek_asn1_tag(&data, TAG(2))) &&
           CBS_get_any_asn1_element(&data, &ignored, NULL, NULL) &&
           CBS_get_asn1(&data, &ignored, CBS_ASN1_GENERALIZEDTIME) &&
           CBS_get_asn1(&data, out_singles, CBS_ASN1_SEQUENCE) &&
           CBS_get_optional_asn1(&data, &extensions, &present, TAG(1)) &&
           (!present || extensions_harmless(&extensions)) && CBS_len(&data) == 0;
}

static bool parse_response(CBS *der, struct response *out)
{
    CBS outer;
    CBS status;
    CBS bytes;
    CBS type;
    CBS octets;
    CBS basic;
    CBS explicit_tag;
    int has_responders = 0;

    // OCSPResponse: responseStatus (0: successful), [0] { responseType, response }.
    if (!CBS_get_asn1(der, &outer, CBS_ASN1_SEQUENCE) || CBS_len(der) != 0 ||
        !CBS_get_asn1(&outer, &status, CBS_ASN1_ENUMERATED) || CBS_len(&status) != 1 ||
        CBS_data(&status)[0] != 0 || !CBS_get_asn1(&outer, &explicit_tag, TAG(0)) ||
        !CBS_get_asn1(&explicit_tag, &bytes, CBS_ASN1_SEQUENCE) ||
        !CBS_get_asn1(&bytes, &type, CBS_ASN1_OBJECT) ||
        !CBS_mem_equal(&type, basic_response, sizeof(basic_response)) ||
        !CBS_get_asn1(&bytes, &octets, CBS_ASN1_OCTETSTRING)) {
        return false;
    }
    // BasicOCSPResponse: tbsResponseData, signatureAlgorithm, signature, [0] certs.
    CBS_init(&out->responders, NULL, 0);
    if (!CBS_get_asn1(&octets, &basic, CBS_ASN1_SEQUENCE) || CBS_len(&octets) != 0 ||
        !CBS_get_asn1_element(&basic, &out->signed_bytes, CBS_ASN1_SEQUENCE) ||
        !CBS_get_asn1(&basic, &out->signature_algorithm, CBS_ASN1_SEQUENCE) ||
        !CBS_get_asn1(&basic, &out->signature, CBS_ASN1_BITSTRING) ||
        CBS_len(&out->signature) < 1 || CBS_data(&out->signature)[0] != 0 ||
        !CBS_skip(&out->signature, 1) ||
        !CBS_get_optional_asn1(&basic, &explicit_tag, &has_responders, TAG(0)) ||
        (has_responders && !CBS_get_asn1(&explicit_tag, &out->responders, CBS_ASN1_SEQUENCE))) {
        return false;
    }
    return parse_tbs(out->signed_bytes, &out->singles);
}

// --- The answer about one certificate
// -------------------------------------------------------------------

static bool digest_is(const EVP_MD *md, const uint8_t *data, size_t len, const CBS *expected)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;

    return EVP_Digest(data, len, digest, &digest_len, md, NULL) == 1 &&
           CBS_mem_equal(expected, digest, digest_len);
}

// CertID: hashAlgorithm, hash of the issuer's name, hash of its key, serial number.
static bool is_about(CBS *id, X509 *x509, X509 *issuer)
{
    CBS algorithm;
    CBS oid;
    CBS name_hash;
    CBS key_hash;
    CBS serial;
    const uint8_t *name = NULL;
    size_t name_len = 0;
    const ASN1_BIT_STRING *key = X509_get0_pubkey_bitstr(issuer);
    ASN1_INTEGER *number;
    const uint8_t *serial_der;
    const EVP_MD *md = NULL;
    bool about;
    int nid;

    if (!CBS_get_asn1(id, &algorithm, CBS_ASN1_SEQUENCE) ||
        !CBS_get_asn1(&algorithm, &oid, CBS_ASN1_OBJECT) ||
        !CBS_get_asn1(id, &name_hash, CBS_ASN1_OCTETSTRING) ||
        !CBS_get_asn1(id, &key_hash, CBS_ASN1_OCTETSTRING) ||
        !CBS_get_asn1_element(id, &serial, CBS_ASN1_INTEGER) ||
        X509_NAME_get0_der(X509_get_subject_name(issuer), &name, &name_len) != 1) {
        return false;
    }
    nid = OBJ_cbs2nid(&oid);
    if (nid == NID_sha1) {
        md = EVP_sha1(); // as RFC 5019 demands: it only says which certificate is meant
    } else if (nid == NID_sha256) {
        md = EVP_sha256();
    }
    serial_der = CBS_data(&serial);
    number = d2i_ASN1_INTEGER(NULL, &serial_der, (long)CBS_len(&serial));
    about = md != NULL && key != NULL && number != NULL &&
            ASN1_INTEGER_cmp(number, X509_get0_serialNumber(x509)) == 0 &&
            digest_is(md, name, name_len, &name_hash) &&
            digest_is(md, ASN1_STRING_get0_data(key), (size_t)ASN1_STRING_length(key), &key_hash);
    ASN1_INTEGER_free(number);
    return about;
}

static bool get_time(CBS *from, int64_t *out_s)
{
    CBS bytes;

    return CBS_get_asn1(from, &bytes, CBS_ASN1_GENERALIZEDTIME) &&
           ph_asn1_time_parse(
               (struct ph_str){.data = (const char *)CBS_data(&bytes), .len = CBS_len(&bytes)},
               out_s);
}

// certStatus ([0] good, [1] revoked, [2] unknown), thisUpdate, [0] nextUpdate, [1] extensions.
static bool parse_single(CBS *rest, struct single *out)
{
    struct single single = {.status = PH_OCSP_UNUSABLE, .next_update_s = INT64_MIN};
    CBS ignored;
    CBS explicit_tag;
    int present = 0;

    if (CBS_peek_asn1_tag(rest, TAG_PRIMITIVE(0))) {
        single.status = PH_OCSP_GOOD;
    } else if (CBS_peek_asn1_tag(rest, TAG(1))) {
        single.status = PH_OCSP_REVOKED;
    } else if (!CBS_peek_asn1_tag(rest, TAG_PRIMITIVE(2))) {
        return false;
    }
    if (!CBS_get_any_asn1_element(rest, &ignored, NULL, NULL) ||
        !get_time(rest, &single.this_update_s) ||
        !CBS_get_optional_asn1(rest, &explicit_tag, &present, TAG(0)) ||
        (present && !get_time(&explicit_tag, &single.next_update_s)) ||
        !CBS_get_optional_asn1(rest, &explicit_tag, &present, TAG(1)) ||
        (present && !extensions_harmless(&explicit_tag)) || CBS_len(rest) != 0) {
        return false;
    }
    *out = single;
    return true;
}

static bool find_single(CBS singles, X509 *x509, X509 *issuer, struct single *out)
{
    bool found = false;

    for (size_t i = 0; !found && i < PH_OCSP_RESPONSES_MAX && CBS_len(&singles) > 0; i++) {
        CBS single;
        CBS id;

        if (!CBS_get_asn1(&singles, &single, CBS_ASN1_SEQUENCE) ||
            !CBS_get_asn1(&single, &id, CBS_ASN1_SEQUENCE)) {
            break;
        }
        found = is_about(&id, x509, issuer) && parse_single(&single, out);
    }
    return found;
}

// --- Who signed it
// --------------------------------------------------------------------------------------

static const EVP_MD *digest_of(const CBS *algorithm, int *out_key_kind)
{
    static const struct {
        int nid;
        int key_kind;
        const EVP_MD *(*md)(void);
    } known[] = {
        {NID_sha256WithRSAEncryption, EVP_PKEY_RSA, EVP_sha256},
        {NID_sha384WithRSAEncryption, EVP_PKEY_RSA, EVP_sha384},
        {NID_sha512WithRSAEncryption, EVP_PKEY_RSA, EVP_sha512},
        {NID_ecdsa_with_SHA256, EVP_PKEY_EC, EVP_sha256},
        {NID_ecdsa_with_SHA384, EVP_PKEY_EC, EVP_sha384},
        {NID_ecdsa_with_SHA512, EVP_PKEY_EC, EVP_sha512},
    };
    CBS fields = *algorithm;
    CBS oid;
    const EVP_MD *md = NULL;

    if (CBS_get_asn1(&fields, &oid, CBS_ASN1_OBJECT)) {
        int nid = OBJ_cbs2nid(&oid);

        for (size_t i = 0; md == NULL && i < PH_ARRAY_LEN(known); i++) {
            if (known[i].nid == nid) {
                md = known[i].md();
                *out_key_kind = known[i].key_kind;
            }
        }
    }
    return md;
}

static bool signed_by(const struct response *response, X509 *signer)
{
    EVP_PKEY *key = X509_get_pubkey(signer);
    EVP_MD_CTX context;
    int key_kind = 0;
    const EVP_MD *md = digest_of(&response->signature_algorithm, &key_kind);
    bool valid = false;

    EVP_MD_CTX_init(&context);
    if (key != NULL && md != NULL && EVP_PKEY_id(key) == key_kind &&
        ph_algorithm_key_weakness(signer) == NULL) {
        valid = EVP_DigestVerifyInit(&context, NULL, md, NULL, key) == 1 &&
                EVP_DigestVerify(&context, CBS_data(&response->signature),
                                 CBS_len(&response->signature), CBS_data(&response->signed_bytes),
                                 CBS_len(&response->signed_bytes)) == 1;
    }
    EVP_MD_CTX_cleanup(&context);
    EVP_PKEY_free(key);
    return valid;
}

// RFC 6960 §4.2.2.2: certified by the issuer itself, for this purpose; and valid now.
static bool is_responder_of(X509 *responder, X509 *issuer, struct ph_window *window)
{
    EVP_PKEY *key = X509_get_pubkey(issuer);
    uint32_t usage = X509_get_extended_key_usage(responder);
    int64_t from;
    int64_t until;
    bool valid = key != NULL && usage != UINT32_MAX && (usage & XKU_OCSP_SIGN) != 0 &&
                 X509_check_issued(issuer, responder) == X509_V_OK &&
                 ph_algorithm_signature_weakness(responder) == NULL &&
                 X509_verify(responder, key) == 1 &&
                 ph_asn1_time_to_s(X509_get0_notBefore(responder), &from) &&
                 ph_asn1_time_to_s(X509_get0_notAfter(responder), &until);

    if (valid) {
        ph_window_note(window, from);
        ph_window_note(window, until);
        valid = from <= window->now_s && window->now_s < until;
    }
    EVP_PKEY_free(key);
    return valid;
}

static bool signature_holds(const struct response *response, X509 *issuer, struct ph_window *window)
{
    CBS responders = response->responders;
    bool holds = signed_by(response, issuer);

    for (size_t i = 0; !holds && i < PH_OCSP_RESPONDERS_MAX && CBS_len(&responders) > 0; i++) {
        CBS element;
        const uint8_t *at;
        X509 *responder;

        if (!CBS_get_asn1_element(&responders, &element, CBS_ASN1_SEQUENCE)) {
            break;
        }
        at = CBS_data(&element);
        responder = d2i_X509(NULL, &at, (long)CBS_len(&element));
        holds = responder != NULL && is_responder_of(responder, issuer, window) &&
                signed_by(response, responder);
        X509_free(responder);
    }
    return holds;
}
