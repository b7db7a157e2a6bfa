// OCSP responses (RFC 6960) about certificates made on the spot.
#include <string.h>
#include <time.h>

#include "bench/lib/certs.h"
#include "bench/lib/certs_parts.h"

#include <openssl/asn1.h>
#include <openssl/bytestring.h>
#include <openssl/digest.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/obj.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

#define TAG(number) (CBS_ASN1_CONSTRUCTED | CBS_ASN1_CONTEXT_SPECIFIC | (number))
#define TAG_PRIMITIVE(number) (CBS_ASN1_CONTEXT_SPECIFIC | (number))

static void add_octets(CBB *to, const uint8_t *data, size_t len)
{
    CBB octets;

    PH_CHECK(CBB_add_asn1(to, &octets, CBS_ASN1_OCTETSTRING) && CBB_add_bytes(&octets, data, len) &&
             CBB_flush(to));
}

static void add_time(CBB *to, int64_t seconds)
{
    time_t moment = (time_t)seconds;
    struct tm parts;
    char text[32];
    CBB bytes;

    gmtime_r(&moment, &parts);
    PH_CHECK(strftime(text, sizeof(text), "%Y%m%d%H%M%SZ", &parts) == 15);
    PH_CHECK(CBB_add_asn1(to, &bytes, CBS_ASN1_GENERALIZEDTIME) &&
             CBB_add_bytes(&bytes, (const uint8_t *)text, 15) && CBB_flush(to));
}

static void add_algorithm(CBB *to, int nid)
{
    CBB sequence;

    PH_CHECK(CBB_add_asn1(to, &sequence, CBS_ASN1_SEQUENCE) && OBJ_nid2cbb(&sequence, nid) &&
             CBB_flush(to));
}

static void add_key_hash(CBB *to, const struct ph_cert *cert)
{
    const ASN1_BIT_STRING *key = X509_get0_pubkey_bitstr(cert->x509);
    uint8_t hash[SHA_DIGEST_LENGTH];

    SHA1(ASN1_STRING_get0_data(key), (size_t)ASN1_STRING_length(key), hash);
    add_octets(to, hash, sizeof(hash));
}

// CertID: hashAlgorithm, hash of the issuer's name, hash of its key, serial number.
static void add_id(CBB *to, const struct ph_cert *cert, uint64_t serial)
{
    const uint8_t *name;
    size_t name_len;
    uint8_t hash[SHA_DIGEST_LENGTH];
    CBB id;

    PH_CHECK(X509_NAME_get0_der(X509_get_subject_name(cert->issuer->x509), &name, &name_len) == 1);
    SHA1(name, name_len, hash);
    PH_CHECK(CBB_add_asn1(to, &id, CBS_ASN1_SEQUENCE));
    add_algorithm(&id, NID_sha1);
    add_octets(&id, hash, sizeof(hash));
    add_key_hash(&id, cert->issuer);
    PH_CHECK(CBB_add_asn1_uint64(&id, serial) && CBB_flush(to));
}

static void add_single(CBB *to, const struct ph_cert *cert,
                       const struct ph_certs_ocsp_options *options)
{
    int64_t from = options->this_update_s != 0 ? options->this_update_s : PH_CERTS_NOT_BEFORE_S;
    int64_t until = options->next_update_s != 0 ? options->next_update_s : PH_CERTS_NOT_AFTER_S;
    CBB single;
    CBB status;
    CBB next;

    PH_CHECK(CBB_add_asn1(to, &single, CBS_ASN1_SEQUENCE));
    add_id(&single, cert, options->serial != 0 ? options->serial : cert->serial);
    switch (options->status) {
    case PH_CERTS_OCSP_GOOD:
        PH_CHECK(CBB_add_asn1(&single, &status, TAG_PRIMITIVE(0)));
        break;
    case PH_CERTS_OCSP_REVOKED:
        PH_CHECK(CBB_add_asn1(&single, &status, TAG(1)));
        add_time(&status, from);
        break;
    case PH_CERTS_OCSP_UNKNOWN:
        PH_CHECK(CBB_add_asn1(&single, &status, TAG_PRIMITIVE(2)));
        break;
    }
    PH_CHECK(CBB_flush(&single));
    add_time(&single, from);
    PH_CHECK(CBB_add_asn1(&single, &next, TAG(0)));
    add_time(&next, until);
    PH_CHECK(CBB_flush(to));
}

// ResponseData: responderID by key, producedAt, responses. DER for the caller to free.
static void make_data(const struct ph_cert *cert, const struct ph_cert *signer,
                      const struct ph_certs_ocsp_options *options, uint8_t **out, size_t *out_len)
{
    CBB whole;
    CBB data;
    CBB responder;
    CBB singles;

    PH_CHECK(CBB_init(&whole, 512) && CBB_add_asn1(&whole, &data, CBS_ASN1_SEQUENCE) &&
             CBB_add_asn1(&data, &responder, TAG(2)));
    add_key_hash(&responder, signer);
    PH_CHECK(CBB_flush(&data));
    add_time(&data, options->this_update_s != 0 ? options->this_update_s : PH_CERTS_NOT_BEFORE_S);
    PH_CHECK(CBB_add_asn1(&data, &singles, CBS_ASN1_SEQUENCE));
    add_single(&singles, cert, options);
    PH_CHECK(CBB_finish(&whole, out, out_len));
}

static void add_signature(CBB *to, const uint8_t *data, size_t len, const struct ph_cert *signer,
                          bool bad)
{
    uint8_t signature[1024];
    size_t signature_len = sizeof(signature);
    EVP_MD_CTX context;
    CBB bits;

    EVP_MD_CTX_init(&context);
    PH_CHECK(EVP_DigestSignInit(&context, NULL, EVP_sha256(), NULL, signer->key) == 1 &&
             EVP_DigestSign(&context, signature, &signature_len, data, len) == 1);
    EVP_MD_CTX_cleanup(&context);
    signature[signature_len - 1] ^= bad ? 1 : 0;
    PH_CHECK(CBB_add_asn1(to, &bits, CBS_ASN1_BITSTRING) && CBB_add_u8(&bits, 0) &&
             CBB_add_bytes(&bits, signature, signature_len) && CBB_flush(to));
}

static void add_certificate(CBB *to, const struct ph_cert *cert)
{
    struct ph_buf der = {0};
    CBB tag;
    CBB list;

    ph_certs_append_der(cert, &der);
    PH_CHECK(CBB_add_asn1(to, &tag, TAG(0)) && CBB_add_asn1(&tag, &list, CBS_ASN1_SEQUENCE) &&
             CBB_add_bytes(&list, (const uint8_t *)der.data, der.len) && CBB_flush(to));
    ph_buf_deinit(&der);
}

void ph_certs_append_ocsp(const struct ph_cert *cert, const struct ph_certs_ocsp_options *options,
                          struct ph_buf *out)
{
    static const uint8_t basic[] = {0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1}; // id-pkix-ocsp-basic
    const struct ph_cert *signer = options->responder != NULL ? options->responder : cert->issuer;
    bool rsa = EVP_PKEY_id(signer->key) == EVP_PKEY_RSA;
    uint8_t *data;
    size_t data_len;
    uint8_t *der;
    size_t der_len;
    CBB whole;
    CBB response;
    CBB part;
    CBB bytes;
    CBB octets;
    CBB inner;

    PH_CHECK(cert->issuer != NULL);
    make_data(cert, signer, options, &data, &data_len);
    PH_CHECK(CBB_init(&whole, 1024) && CBB_add_asn1(&whole, &response, CBS_ASN1_SEQUENCE));
    PH_CHECK(
        CBB_add_asn1(&response, &part, CBS_ASN1_ENUMERATED) && CBB_add_u8(&part, 0) &&
        CBB_add_asn1(&response, &part, TAG(0)) && CBB_add_asn1(&part, &bytes, CBS_ASN1_SEQUENCE) &&
        CBB_add_asn1(&bytes, &octets, CBS_ASN1_OBJECT) &&
        CBB_add_bytes(&octets, basic, sizeof(basic)) &&
        CBB_add_asn1(&bytes, &octets, CBS_ASN1_OCTETSTRING) &&
        CBB_add_asn1(&octets, &inner, CBS_ASN1_SEQUENCE) && CBB_add_bytes(&inner, data, data_len));
    add_algorithm(&inner, rsa ? NID_sha256WithRSAEncryption : NID_ecdsa_with_SHA256);
    add_signature(&inner, data, data_len, signer, options->bad_signature);
    if (options->responder != NULL) {
        add_certificate(&inner, options->responder);
    }
    PH_CHECK(CBB_finish(&whole, &der, &der_len) == 1);
    ph_buf_append_bytes(out, der, der_len);
    OPENSSL_free(data);
    OPENSSL_free(der);
}
