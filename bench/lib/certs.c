// Certificates made on the spot.
#include "bench/lib/certs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/certs_parts.h"

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/bytestring.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/obj.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static EVP_PKEY *make_key(enum ph_certs_key kind);
static void set_names(X509 *x509, const struct ph_cert *issuer, const char *common_name);
static void set_times(X509 *x509, const struct ph_certs_options *options);
static void add_extensions(X509 *x509, const struct ph_cert *issuer,
                           const struct ph_certs_options *options);
static void sign(X509 *x509, EVP_PKEY *key, const struct ph_certs_options *options);

struct ph_cert *ph_certs_make(struct ph_cert *issuer, const struct ph_certs_options *options)
{
    struct ph_cert *cert = ph_alloc(sizeof(*cert));
    ASN1_INTEGER *serial = ASN1_INTEGER_new();

    cert->issuer = issuer;
    cert->next_serial = 1;
    if (options->key_of != NULL) {
        cert->key = options->key_of->key;
        EVP_PKEY_up_ref(cert->key);
    } else {
        cert->key = make_key(options->key);
    }
    cert->x509 = X509_new();
    PH_CHECK(cert->x509 != NULL && serial != NULL);
    PH_CHECK(X509_set_version(cert->x509, X509_VERSION_3) == 1);
    if (options->serial != 0) {
        cert->serial = options->serial;
    } else {
        cert->serial = issuer != NULL ? issuer->next_serial++ : 1;
    }
    PH_CHECK(ASN1_INTEGER_set_uint64(serial, cert->serial) == 1);
    PH_CHECK(X509_set_serialNumber(cert->x509, serial) == 1);
    ASN1_INTEGER_free(serial);
    PH_CHECK(X509_set_pubkey(cert->x509, cert->key) == 1);
    set_names(cert->x509, issuer, options->common_name);
    set_times(cert->x509, options);
    add_extensions(cert->x509, issuer, options);
    sign(cert->x509, issuer != NULL ? issuer->key : cert->key, options);
    return cert;
}

void ph_certs_destroy(struct ph_cert *cert)
{
    if (cert != NULL) {
        X509_free(cert->x509);
        EVP_PKEY_free(cert->key);
        free(cert);
    }
}

struct ph_cert *ph_certs_root(const char *common_name)
{
    return ph_certs_make(NULL, &(struct ph_certs_options){.common_name = common_name, .ca = true});
}

struct ph_cert *ph_certs_intermediate(struct ph_cert *issuer, const char *common_name)
{
    return ph_certs_make(issuer,
                         &(struct ph_certs_options){.common_name = common_name, .ca = true});
}

struct ph_cert *ph_certs_leaf(struct ph_cert *issuer, const char *dns_name)
{
    struct ph_str name = ph_str_from(dns_name);

    return ph_certs_make(issuer, &(struct ph_certs_options){.common_name = dns_name,
                                                            .dns_names = &name,
                                                            .dns_name_count = 1});
}

uint64_t ph_certs_serial(const struct ph_cert *cert)
{
    return cert->serial;
}

static EVP_PKEY *make_key(enum ph_certs_key kind)
{
    EVP_PKEY *key = EVP_PKEY_new();

    PH_CHECK(key != NULL);
    if (kind == PH_CERTS_RSA_2048 || kind == PH_CERTS_RSA_1024) {
        RSA *rsa = RSA_new();
        BIGNUM *exponent = BN_new();

        PH_CHECK(rsa != NULL && exponent != NULL && BN_set_word(exponent, RSA_F4) == 1);
        PH_CHECK(
            RSA_generate_key_ex(rsa, kind == PH_CERTS_RSA_2048 ? 2048 : 1024, exponent, NULL) == 1);
        PH_CHECK(EVP_PKEY_assign_RSA(key, rsa) == 1);
        BN_free(exponent);
    } else {
        EC_KEY *ec =
            EC_KEY_new_by_curve_name(kind == PH_CERTS_P224 ? NID_secp224r1 : NID_X9_62_prime256v1);

        PH_CHECK(ec != NULL && EC_KEY_generate_key(ec) == 1);
        PH_CHECK(EVP_PKEY_assign_EC_KEY(key, ec) == 1);
    }
    return key;
}

static void set_names(X509 *x509, const struct ph_cert *issuer, const char *common_name)
{
    X509_NAME *name = X509_NAME_new();

    PH_CHECK(name != NULL);
    if (common_name != NULL) {
        PH_CHECK(X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                            (const uint8_t *)common_name, (int)strlen(common_name),
                                            -1, 0) == 1);
    }
    PH_CHECK(X509_set_subject_name(x509, name) == 1);
    PH_CHECK(X509_set_issuer_name(x509, issuer != NULL ? X509_get_subject_name(issuer->x509)
                                                       : name) == 1);
    X509_NAME_free(name);
}

static ASN1_TIME *time_of(int64_t seconds, int64_t otherwise)
{
    ASN1_TIME *asn1_time = ASN1_TIME_set(NULL, seconds != 0 ? seconds : otherwise);

    PH_CHECK(asn1_time != NULL);
    return asn1_time;
}

static void set_times(X509 *x509, const struct ph_certs_options *options)
{
    ASN1_TIME *from = time_of(options->not_before_s, PH_CERTS_NOT_BEFORE_S);
    ASN1_TIME *until = time_of(options->not_after_s, PH_CERTS_NOT_AFTER_S);

    PH_CHECK(X509_set1_notBefore(x509, from) == 1 && X509_set1_notAfter(x509, until) == 1);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
}

static void add_extension(X509 *x509, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    extension = X509V3_EXT_nconf_nid(NULL, &context, nid, value);
    PH_CHECK(extension != NULL && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

// By hand, since names may have any byte in them.
static void add_dns_names(X509 *x509, const struct ph_certs_options *options)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();

    PH_CHECK(names != NULL);
    for (size_t i = 0; i < options->dns_name_count; i++) {
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();

        PH_CHECK(name != NULL && text != NULL);
        PH_CHECK(
            ASN1_STRING_set(text, options->dns_names[i].data, (int)options->dns_names[i].len) == 1);
        GENERAL_NAME_set0_value(name, GEN_DNS, text);
        PH_CHECK(sk_GENERAL_NAME_push(names, name) > 0);
    }
    PH_CHECK(X509_add1_ext_i2d(x509, NID_subject_alt_name, names,
                               options->common_name == NULL ? 1 : 0, 0) == 1);
    GENERAL_NAMES_free(names);
}

static void add_extensions(X509 *x509, const struct ph_cert *issuer,
                           const struct ph_certs_options *options)
{
    static const char *const usages[] = {
        [PH_CERTS_USAGE_SERVER] = "serverAuth",
        [PH_CERTS_USAGE_CLIENT] = "clientAuth",
        [PH_CERTS_USAGE_BOTH] = "serverAuth,clientAuth",
        [PH_CERTS_USAGE_ANY] = "anyExtendedKeyUsage",
        [PH_CERTS_USAGE_NONE] = NULL,
        [PH_CERTS_USAGE_OCSP] = "OCSPSigning",
    };
    X509 *signer = issuer != NULL ? issuer->x509 : x509;
    char constraints[64];

    if (options->ca) {
        snprintf(constraints, sizeof(constraints), "critical,CA:TRUE%s%s",
                 options->path_len != NULL ? ",pathlen:" : "",
                 options->path_len != NULL ? options->path_len : "");
        add_extension(x509, signer, NID_basic_constraints, constraints);
        add_extension(x509, signer, NID_key_usage,
                      options->no_cert_sign ? "critical,cRLSign" : "critical,keyCertSign,cRLSign");
    } else {
        add_extension(x509, signer, NID_basic_constraints, "critical,CA:FALSE");
        add_extension(x509, signer, NID_key_usage, "critical,digitalSignature");
        if (usages[options->usage] != NULL) {
            add_extension(x509, signer, NID_ext_key_usage, usages[options->usage]);
        }
    }
    if (!options->no_key_ids) {
        add_extension(x509, signer, NID_subject_key_identifier, "hash");
        add_extension(x509, signer, NID_authority_key_identifier, "keyid");
    }
    if (options->dns_name_count > 0) {
        add_dns_names(x509, options);
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(options->extensions); i++) {
        if (options->extensions[i][0] != NULL) {
            int nid = OBJ_sn2nid(options->extensions[i][0]);

            PH_CHECK(nid != NID_undef);
            add_extension(x509, signer, nid, options->extensions[i][1]);
        }
    }
}

static void sign(X509 *x509, EVP_PKEY *key, const struct ph_certs_options *options)
{
    PH_CHECK(X509_sign(x509, key, options->sha1 ? EVP_sha1() : EVP_sha256()) > 0);
    if (options->bad_signature) {
        const ASN1_BIT_STRING *signature = NULL;
        uint8_t wrong[1024];
        size_t len;

        X509_get0_signature(&signature, NULL, x509);
        len = (size_t)ASN1_STRING_length(signature);
        PH_CHECK(len <= sizeof(wrong));
        memcpy(wrong, ASN1_STRING_get0_data(signature), len);
        wrong[len - 1] ^= 1;
        PH_CHECK(X509_set1_signature_value(x509, wrong, len) == 1);
    }
}

// --- Texts
// ----------------------------------------------------------------------------------------------

static void append_bio(BIO *bio, struct ph_buf *out)
{
    const uint8_t *data;
    size_t len;

    PH_CHECK(BIO_mem_contents(bio, &data, &len) == 1);
    ph_buf_append_bytes(out, data, len);
    BIO_free(bio);
}

void ph_certs_append(const struct ph_cert *cert, struct ph_buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());

    PH_CHECK(bio != NULL && PEM_write_bio_X509(bio, cert->x509) == 1);
    append_bio(bio, out);
}

void ph_certs_append_chain(const struct ph_cert *cert, struct ph_buf *out)
{
    ph_certs_append(cert, out);
    for (cert = cert->issuer; cert != NULL && cert->issuer != NULL; cert = cert->issuer) {
        ph_certs_append(cert, out);
    }
}

void ph_certs_append_key(const struct ph_cert *cert, struct ph_buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());

    PH_CHECK(bio != NULL &&
             PEM_write_bio_PrivateKey(bio, cert->key, NULL, NULL, 0, NULL, NULL) == 1);
    append_bio(bio, out);
}

void ph_certs_append_der(const struct ph_cert *cert, struct ph_buf *out)
{
    uint8_t *der = NULL;
    int len = i2d_X509(cert->x509, &der);

    PH_CHECK(len > 0);
    ph_buf_append_bytes(out, der, (size_t)len);
    OPENSSL_free(der);
}

static void add_crl_extension(X509_CRL *crl, const struct ph_cert *issuer, int nid,
                              const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    if (nid == NID_delta_crl) { // X509V3 can't read one from text
        ASN1_INTEGER *base = ASN1_INTEGER_new();

        PH_CHECK(base != NULL && ASN1_INTEGER_set_uint64(base, 1) == 1 &&
                 X509_CRL_add1_ext_i2d(crl, nid, base, 1, 0) == 1);
        ASN1_INTEGER_free(base);
        return;
    }
    X509V3_set_ctx(&context, issuer->x509, NULL, NULL, crl, 0);
    extension = X509V3_EXT_nconf_nid(NULL, &context, nid, value);
    PH_CHECK(extension != NULL && X509_CRL_add_ext(crl, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static void add_revoked(X509_CRL *crl, uint64_t serial, const ASN1_TIME *when)
{
    X509_REVOKED *revoked = X509_REVOKED_new();
    ASN1_INTEGER *number = ASN1_INTEGER_new();

    PH_CHECK(revoked != NULL && number != NULL && ASN1_INTEGER_set_uint64(number, serial) == 1);
    PH_CHECK(X509_REVOKED_set_serialNumber(revoked, number) == 1);
    PH_CHECK(X509_REVOKED_set_revocationDate(revoked, (ASN1_TIME *)when) == 1);
    PH_CHECK(X509_CRL_add0_revoked(crl, revoked) == 1);
    ASN1_INTEGER_free(number);
}

void ph_certs_append_crl(const struct ph_cert *issuer, const struct ph_certs_crl_options *options,
                         struct ph_buf *out)
{
    const struct ph_cert *signer = options->signed_by != NULL ? options->signed_by : issuer;
    ASN1_TIME *from = time_of(options->this_update_s, PH_CERTS_NOT_BEFORE_S);
    ASN1_TIME *until = time_of(options->next_update_s, PH_CERTS_NOT_AFTER_S);
    X509_CRL *crl = X509_CRL_new();
    BIO *bio = BIO_new(BIO_s_mem());
    ASN1_INTEGER *number = ASN1_INTEGER_new();

    PH_CHECK(crl != NULL && bio != NULL && number != NULL);
    PH_CHECK(X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1);
    PH_CHECK(X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x509)) == 1);
    PH_CHECK(X509_CRL_set1_lastUpdate(crl, from) == 1 && X509_CRL_set1_nextUpdate(crl, until) == 1);
    for (size_t i = 0; i < options->serial_count; i++) {
        add_revoked(crl, options->serials[i], from);
    }
    PH_CHECK(ASN1_INTEGER_set_uint64(number, 1) == 1);
    PH_CHECK(X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0) == 1);
    add_crl_extension(crl, issuer, NID_authority_key_identifier, "keyid");
    for (size_t i = 0; i < PH_ARRAY_LEN(options->extensions); i++) {
        if (options->extensions[i][0] != NULL) {
            add_crl_extension(crl, issuer, OBJ_sn2nid(options->extensions[i][0]),
                              options->extensions[i][1]);
        }
    }
    PH_CHECK(X509_CRL_sort(crl) == 1 && X509_CRL_sign(crl, signer->key, EVP_sha256()) > 0);
    PH_CHECK(PEM_write_bio_X509_CRL(bio, crl) == 1);
    append_bio(bio, out);
    ASN1_INTEGER_free(number);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    X509_CRL_free(crl);
}
