// Which keys and signatures are strong enough.
#include "tls/algorithm.h"

#include <stdbool.h>
#include <stdint.h>

#include <openssl/asn1.h>
#include <openssl/bytestring.h>
#include <openssl/digest.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/obj.h>

static const char *rsa_weakness(unsigned bits)
{
    const char *weakness = NULL;

    if (bits < PH_ALGORITHM_RSA_BITS_MIN) {
        weakness = "an RSA key of less than 2048 bits";
    } else if (bits > PH_ALGORITHM_RSA_BITS_MAX) {
        weakness = "an RSA key of more than 16384 bits";
    } else if (bits % 8 != 0) {
        weakness = "an RSA key whose length is no whole number of bytes";
    }
    return weakness;
}

const char *ph_algorithm_key_weakness(X509 *x509)
{
    EVP_PKEY *key = X509_get_pubkey(x509);
    const char *weakness = "a key of an unknown or weak kind";

    if (key != NULL) {
        int kind = EVP_PKEY_id(key);

        if (kind == EVP_PKEY_RSA) {
            weakness = rsa_weakness((unsigned)EVP_PKEY_bits(key));
        } else if (kind == EVP_PKEY_EC) {
            int curve = EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key)));
            bool strong =
                curve == NID_X9_62_prime256v1 || curve == NID_secp384r1 || curve == NID_secp521r1;

            weakness = strong ? NULL : "an elliptic curve other than P-256, P-384 and P-521";
        } else if (kind == EVP_PKEY_ED25519) {
            weakness = NULL;
        }
        EVP_PKEY_free(key);
    }
    return weakness;
}

// RSASSA-PSS-params (RFC 4055 §3.1): SEQUENCE { [0] hash …}; without the field it is SHA-1.
static bool pss_is_strong(const X509_ALGOR *algorithm)
{
    const ASN1_OBJECT *object;
    const void *value = NULL;
    int type = V_ASN1_UNDEF;
    CBS parameters;
    CBS fields;
    CBS hash;
    CBS sequence;
    CBS oid;
    int nid = NID_undef;

    X509_ALGOR_get0(&object, &type, &value, algorithm);
    if (type != V_ASN1_SEQUENCE) {
        return false;
    }
    CBS_init(&parameters, ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
    if (CBS_get_asn1(&parameters, &fields, CBS_ASN1_SEQUENCE) &&
        CBS_get_asn1(&fields, &hash, CBS_ASN1_CONSTRUCTED | CBS_ASN1_CONTEXT_SPECIFIC | 0) &&
        CBS_get_asn1(&hash, &sequence, CBS_ASN1_SEQUENCE) &&
        CBS_get_asn1(&sequence, &oid, CBS_ASN1_OBJECT)) {
        nid = OBJ_cbs2nid(&oid);
    }
    return nid == NID_sha256 || nid == NID_sha384 || nid == NID_sha512;
}

const char *ph_algorithm_weakness(const X509_ALGOR *algorithm)
{
    const ASN1_OBJECT *object;
    const char *weakness = NULL;

    X509_ALGOR_get0(&object, NULL, NULL, algorithm);
    switch (OBJ_obj2nid(object)) {
    case NID_sha256WithRSAEncryption:
    case NID_sha384WithRSAEncryption:
    case NID_sha512WithRSAEncryption:
    case NID_ecdsa_with_SHA256:
    case NID_ecdsa_with_SHA384:
    case NID_ecdsa_with_SHA512:
    case NID_ED25519:
        break;
    case NID_rsassaPss:
        weakness = pss_is_strong(algorithm) ? NULL : "a signature with a weak hash";
        break;
    case NID_sha1WithRSAEncryption:
    case NID_ecdsa_with_SHA1:
        weakness = "a signature with SHA-1";
        break;
    case NID_md5WithRSAEncryption:
        weakness = "a signature with MD5";
        break;
    default:
        weakness = "a signature of an unknown or weak kind";
        break;
    }
    return weakness;
}

const char *ph_algorithm_signature_weakness(const X509 *x509)
{
    const X509_ALGOR *algorithm = NULL;

    X509_get0_signature(NULL, &algorithm, x509);
    return ph_algorithm_weakness(algorithm);
}
