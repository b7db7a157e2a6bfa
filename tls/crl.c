// One certificate revocation list.
#include "tls/crl.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/asn1t.h>
#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/obj.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "base/check.h"
#include "base/hash.h"
#include "tls/algorithm.h"
#include "tls/asn1.h"
#include "tls/pem.h"

#define PH_CRL_SIGNERS_MAX 4 // keys whose verdict is kept; ours

struct signer {
    uint8_t spki_sha256[SHA256_DIGEST_LENGTH];
    bool valid;
};

struct ph_crl_private {
    _Atomic uint32_t references;
    atomic_bool used;
    uint8_t *der; // owned
    CBS tbs;      // what is signed, whole
    X509_ALGOR *algorithm;
    ASN1_BIT_STRING *signature;
    // Open addressing: where in `der` a serial number's INTEGER begins; 0: free.
    uint32_t *slots;
    size_t slot_mask;
    uint64_t hash_seed;
    pthread_mutex_t lock; // of the signers
    struct signer signers[PH_CRL_SIGNERS_MAX];
    unsigned signer_count;
};

static bool parse(struct ph_crl *crl, CBS der);

struct ph_crl *ph_crl_parse(struct ph_str text, struct ph_buf *error)
{
    static _Atomic uint64_t last_id;
    struct ph_crl *crl = ph_alloc(sizeof(*crl));
    struct ph_crl_private *p = ph_alloc(sizeof(*p));
    struct ph_pem pem = {0};
    CBS der;

    crl->private = p;
    crl->id = atomic_fetch_add(&last_id, 1) + 1;
    atomic_init(&p->references, 1);
    pthread_mutex_init(&p->lock, NULL);
    RAND_bytes((uint8_t *)&p->hash_seed, sizeof(p->hash_seed));
    if (ph_str_starts(text, PH_STR("-----BEGIN"))) {
        enum ph_pem_result result;

        ph_pem_open(&pem, text);
        do {
            result = ph_pem_next(&pem);
        } while (result == PH_PEM_BLOCK && !ph_pem_is_crl(&pem));
        text = result == PH_PEM_BLOCK ? ph_buf_str(&pem.der) : PH_STR_NONE;
    }
    if (text.len > 0 && text.len <= PH_CRL_BYTES_MAX) {
        p->der = malloc(text.len);
    }
    if (p->der != NULL) {
        memcpy(p->der, text.data, text.len);
        crl->der = (struct ph_str){.data = (const char *)p->der, .len = text.len};
    }
    CBS_init(&der, p->der, p->der != NULL ? text.len : 0);
    if (pem.reader != NULL) {
        ph_pem_close(&pem);
    }
    if (!parse(crl, der)) {
        ph_buf_printf(error, "no certificate revocation list that can be read");
        ph_crl_release(crl);
        crl = NULL;
    }
    ERR_clear_error();
    return crl;
}

struct ph_crl *ph_crl_retain(struct ph_crl *crl)
{
    atomic_fetch_add(&crl->private->references, 1);
    return crl;
}

void ph_crl_release(struct ph_crl *crl)
{
    if (crl == NULL || atomic_fetch_sub(&crl->private->references, 1) != 1) {
        return;
    }
    X509_NAME_free(crl->issuer);
    ISSUING_DIST_POINT_free(crl->distribution_point);
    X509_ALGOR_free(crl->private->algorithm);
    ASN1_BIT_STRING_free(crl->private->signature);
    pthread_mutex_destroy(&crl->private->lock);
    free(crl->private->slots);
    free(crl->private->der);
    free(crl->private);
    free(crl);
}

bool ph_crl_take_use(const struct ph_crl *crl)
{
    return atomic_exchange(&crl->private->used, false);
}

void ph_crl_note_use(const struct ph_crl *crl)
{
    // Read first: a line that many threads write is one they wait for.
    if (!atomic_load_explicit(&crl->private->used, memory_order_relaxed)) {
        atomic_store_explicit(&crl->private->used, true, memory_order_relaxed);
    }
}

// --- serial numbers ---

// Without what DER forbids and some write nevertheless: leading bytes that only repeat the sign.
static struct ph_str canonical(struct ph_str integer)
{
    while (integer.len > 1 &&
           ((integer.data[0] == 0 && ((unsigned char)integer.data[1] & 0x80) == 0) ||
            ((unsigned char)integer.data[0] == 0xff &&
             ((unsigned char)integer.data[1] & 0x80) != 0))) {
        integer = ph_str_after(integer, 1);
    }
    return integer;
}

static struct ph_str serial_at(const struct ph_crl *crl, uint32_t offset)
{
    CBS rest;
    CBS serial;

    CBS_init(&rest, crl->private->der + offset, crl->der.len - offset);
    PH_CHECK(CBS_get_asn1(&rest, &serial, CBS_ASN1_INTEGER) == 1);
    return canonical(
        (struct ph_str){.data = (const char *)CBS_data(&serial), .len = CBS_len(&serial)});
}

static void put_serial(struct ph_crl *crl, CBS serial, uint32_t offset)
{
    struct ph_crl_private *p = crl->private;
    struct ph_str number = canonical(
        (struct ph_str){.data = (const char *)CBS_data(&serial), .len = CBS_len(&serial)});
    size_t at = (size_t)ph_hash_str(number, p->hash_seed) & p->slot_mask;

    while (p->slots[at] != 0) {
        at = (at + 1) & p->slot_mask;
    }
    p->slots[at] = offset;
}

bool ph_crl_lists(const struct ph_crl *crl, const X509 *x509)
{
    const struct ph_crl_private *p = crl->private;
    uint8_t *der = NULL;
    int len = i2d_ASN1_INTEGER(X509_get0_serialNumber(x509), &der);
    struct ph_str wanted = PH_STR_NONE;
    bool lists = false;
    CBS whole;
    CBS serial;

    if (p->slots == NULL || len <= 0) {
        OPENSSL_free(der);
        return false;
    }
    CBS_init(&whole, der, (size_t)len);
    if (CBS_get_asn1(&whole, &serial, CBS_ASN1_INTEGER) == 1) {
        wanted = canonical(
            (struct ph_str){.data = (const char *)CBS_data(&serial), .len = CBS_len(&serial)});
    }
    for (size_t at = (size_t)ph_hash_str(wanted, p->hash_seed) & p->slot_mask;
         !lists && p->slots[at] != 0; at = (at + 1) & p->slot_mask) {
        lists = ph_str_eq(serial_at(crl, p->slots[at]), wanted);
    }
    OPENSSL_free(der);
    return lists;
}

// --- the entries ---

// reasonCode is all we know; certificateIssuer, which is critical, changes whom an entry is about.
static bool entry_extensions_known(CBS extensions)
{
    CBS list;
    bool known = CBS_get_asn1(&extensions, &list, CBS_ASN1_SEQUENCE) == 1;

    while (known && CBS_len(&list) > 0) {
        CBS extension;
        CBS oid;
        int critical = 0;

        known = CBS_get_asn1(&list, &extension, CBS_ASN1_SEQUENCE) &&
                CBS_get_asn1(&extension, &oid, CBS_ASN1_OBJECT) &&
                CBS_get_optional_asn1_bool(&extension, &critical, CBS_ASN1_BOOLEAN, 0) &&
                (critical == 0 || OBJ_cbs2nid(&oid) == NID_crl_reason);
    }
    return known;
}

static bool skip_time(CBS *from)
{
    CBS ignored;
    unsigned tag = 0;

    return CBS_get_any_asn1(from, &ignored, &tag) &&
           (tag == CBS_ASN1_UTCTIME || tag == CBS_ASN1_GENERALIZEDTIME);
}

// revokedCertificates ::= SEQUENCE OF SEQUENCE { serial, date, extensions OPTIONAL }
static bool parse_entries(struct ph_crl *crl, CBS entries)
{
    struct ph_crl_private *p = crl->private;
    size_t slot_count = 16;
    CBS rest = entries;

    for (; CBS_len(&rest) > 0; crl->entry_count++) {
        CBS entry;

        if (!CBS_get_asn1(&rest, &entry, CBS_ASN1_SEQUENCE)) {
            return false;
        }
    }
    while (slot_count < crl->entry_count * 2) {
        slot_count *= 2;
    }
    p->slots = calloc(slot_count, sizeof(*p->slots));
    p->slot_mask = slot_count - 1;
    if (p->slots == NULL) {
        return false;
    }
    while (CBS_len(&entries) > 0) {
        CBS entry;
        CBS serial;
        uint32_t offset;

        if (!CBS_get_asn1(&entries, &entry, CBS_ASN1_SEQUENCE)) {
            return false;
        }
        offset = (uint32_t)(CBS_data(&entry) - p->der);
        if (!CBS_get_asn1(&entry, &serial, CBS_ASN1_INTEGER) || CBS_len(&serial) == 0 ||
            !skip_time(&entry)) {
            return false;
        }
        put_serial(crl, serial, offset);
        if (CBS_len(&entry) > 0 && !entry_extensions_known(entry)) {
            crl->unusable = "has an entry with an unknown critical extension";
        }
    }
    return true;
}

// --- its head and its extensions ---

static bool has_unknown_critical(const STACK_OF(X509_EXTENSION) * extensions)
{
    bool unknown = false;

    for (int i = 0; !unknown && i < X509v3_get_ext_count(extensions); i++) {
        X509_EXTENSION *extension = X509v3_get_ext(extensions, i);

        unknown =
            X509_EXTENSION_get_critical(extension) &&
            OBJ_obj2nid(X509_EXTENSION_get_object(extension)) != NID_issuing_distribution_point;
    }
    return unknown;
}

// RFC 5280 §5.2, §6.3.3: what we can't read in full says nothing for certain.
static const char *why_unusable(const struct ph_crl *crl,
                                const STACK_OF(X509_EXTENSION) * extensions)
{
    const ISSUING_DIST_POINT *point = crl->distribution_point;
    const char *why = NULL;

    if (crl->this_update_s == INT64_MAX || crl->next_update_s == INT64_MIN) {
        why = "has no usable dates";
    } else if (X509v3_get_ext_by_NID(extensions, NID_delta_crl, -1) >= 0) {
        why = "is a delta CRL";
    } else if (has_unknown_critical(extensions)) {
        why = "has an unknown critical extension";
    } else if (crl->scope.len > 0 && point == NULL) {
        why = "has an unreadable issuing distribution point";
    } else if (point != NULL && point->indirectCRL > 0) {
        why = "is an indirect CRL";
    } else if (point != NULL && (point->onlysomereasons != NULL || point->onlyattr > 0)) {
        why = "covers some reasons or attributes only";
    } else if (ph_algorithm_weakness(crl->private->algorithm) != NULL) {
        why = "has a weak signature";
    } else {
        why = crl->unusable; // what its entries said
    }
    return why;
}

static bool parse_extensions(struct ph_crl *crl, CBS bytes)
{
    const uint8_t *at = CBS_data(&bytes);
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    int where;

    if (CBS_len(&bytes) > 0) {
        extensions = d2i_X509_EXTENSIONS(NULL, &at, (long)CBS_len(&bytes));
        if (extensions == NULL || at != CBS_data(&bytes) + CBS_len(&bytes)) {
            sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
            return false;
        }
    }
    where = X509v3_get_ext_by_NID(extensions, NID_issuing_distribution_point, -1);
    if (where >= 0) {
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509v3_get_ext(extensions, where));

        // Its bytes within our own copy: the extension's go with the list.
        for (size_t i = 0; i + (size_t)ASN1_STRING_length(value) <= CBS_len(&bytes); i++) {
            if (memcmp(CBS_data(&bytes) + i, ASN1_STRING_get0_data(value),
                       (size_t)ASN1_STRING_length(value)) == 0) {
                crl->scope = (struct ph_str){.data = (const char *)CBS_data(&bytes) + i,
                                             .len = (size_t)ASN1_STRING_length(value)};
                break;
            }
        }
        crl->distribution_point =
            X509V3_get_d2i(extensions, NID_issuing_distribution_point, NULL, NULL);
    }
    crl->unusable = why_unusable(crl, extensions);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return true;
}

static bool parse_time(CBS *from, int64_t *out_s)
{
    int64_t seconds;
    CBS bytes;
    unsigned tag = 0;

    if (!CBS_get_any_asn1(from, &bytes, &tag) ||
        (tag != CBS_ASN1_UTCTIME && tag != CBS_ASN1_GENERALIZEDTIME)) {
        return false;
    }
    if (ph_asn1_time_parse(
            (struct ph_str){.data = (const char *)CBS_data(&bytes), .len = CBS_len(&bytes)},
            &seconds)) {
        *out_s = seconds; // else it stays: a list without dates is unusable, not unreadable
    }
    return true;
}

static bool is_time(const CBS *at)
{
    return CBS_peek_asn1_tag(at, CBS_ASN1_UTCTIME) ||
           CBS_peek_asn1_tag(at, CBS_ASN1_GENERALIZEDTIME);
}

// TBSCertList: version OPTIONAL, signature, issuer, thisUpdate, nextUpdate OPTIONAL,
// revokedCertificates OPTIONAL, [0] crlExtensions OPTIONAL. `algorithm` must be said twice alike.
static bool parse_tbs(struct ph_crl *crl, CBS tbs, CBS algorithm)
{
    CBS list;
    CBS version;
    CBS name;
    CBS inner_algorithm;
    CBS entries;
    CBS extensions;
    int present = 0;
    const uint8_t *at;

    crl->this_update_s = INT64_MAX;
    crl->next_update_s = INT64_MIN; // RFC 5280 §5.1.2.5 demands one
    if (!CBS_get_asn1(&tbs, &list, CBS_ASN1_SEQUENCE) ||
        !CBS_get_optional_asn1(&list, &version, &present, CBS_ASN1_INTEGER) ||
        !CBS_get_asn1_element(&list, &inner_algorithm, CBS_ASN1_SEQUENCE) ||
        !CBS_mem_equal(&inner_algorithm, CBS_data(&algorithm), CBS_len(&algorithm)) ||
        !CBS_get_asn1_element(&list, &name, CBS_ASN1_SEQUENCE) ||
        !parse_time(&list, &crl->this_update_s) ||
        (is_time(&list) && !parse_time(&list, &crl->next_update_s)) ||
        !CBS_get_optional_asn1(&list, &entries, &present, CBS_ASN1_SEQUENCE) ||
        (present && !parse_entries(crl, entries)) ||
        !CBS_get_optional_asn1(&list, &extensions, &present,
                               CBS_ASN1_CONSTRUCTED | CBS_ASN1_CONTEXT_SPECIFIC | 0) ||
        CBS_len(&list) != 0) {
        return false;
    }
    if (!present) {
        CBS_init(&extensions, NULL, 0);
    }
    at = CBS_data(&name);
    crl->issuer = d2i_X509_NAME(NULL, &at, (long)CBS_len(&name));
    return crl->issuer != NULL && parse_extensions(crl, extensions);
}

static bool parse(struct ph_crl *crl, CBS der)
{
    struct ph_crl_private *p = crl->private;
    CBS outer;
    CBS algorithm;
    CBS signature;
    const uint8_t *at;

    if (!CBS_get_asn1(&der, &outer, CBS_ASN1_SEQUENCE) || CBS_len(&der) != 0 ||
        !CBS_get_asn1_element(&outer, &p->tbs, CBS_ASN1_SEQUENCE) ||
        !CBS_get_asn1_element(&outer, &algorithm, CBS_ASN1_SEQUENCE) ||
        !CBS_get_asn1_element(&outer, &signature, CBS_ASN1_BITSTRING) || CBS_len(&outer) != 0) {
        return false;
    }
    at = CBS_data(&algorithm);
    p->algorithm = d2i_X509_ALGOR(NULL, &at, (long)CBS_len(&algorithm));
    at = CBS_data(&signature);
    p->signature = d2i_ASN1_BIT_STRING(NULL, &at, (long)CBS_len(&signature));
    return p->algorithm != NULL && p->signature != NULL && parse_tbs(crl, p->tbs, algorithm);
}

// --- who signed it ---

static bool verify(const struct ph_crl *crl, X509 *issuer)
{
    const struct ph_crl_private *p = crl->private;
    EVP_PKEY *key = X509_get_pubkey(issuer);
    const uint8_t *at = CBS_data(&p->tbs);
    // A value that is encoded again to the very bytes it was read from.
    ASN1_TYPE *tbs = d2i_ASN1_TYPE(NULL, &at, (long)CBS_len(&p->tbs));
    bool valid =
        key != NULL && tbs != NULL && ph_algorithm_key_weakness(issuer) == NULL &&
        ASN1_item_verify(ASN1_ITEM_rptr(ASN1_ANY), p->algorithm, p->signature, tbs, key) == 1;

    ASN1_TYPE_free(tbs);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return valid;
}

bool ph_crl_is_signed_by(const struct ph_crl *crl, X509 *issuer)
{
    struct ph_crl_private *p = crl->private;
    uint8_t *spki = NULL;
    int spki_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(issuer), &spki);
    struct signer signer;
    bool known = false;

    if (spki_len <= 0) {
        return false;
    }
    SHA256(spki, (size_t)spki_len, signer.spki_sha256);
    OPENSSL_free(spki);
    // Held while verifying too: of many that ask at once one works, and the others know.
    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; !known && i < p->signer_count; i++) {
        known = memcmp(p->signers[i].spki_sha256, signer.spki_sha256, SHA256_DIGEST_LENGTH) == 0;
        signer.valid = p->signers[i].valid;
    }
    if (!known) {
        signer.valid = verify(crl, issuer);
        // Keys beyond those kept are verified each time: no issuer has so many.
        if (p->signer_count < PH_CRL_SIGNERS_MAX) {
            p->signers[p->signer_count++] = signer;
        }
    }
    pthread_mutex_unlock(&p->lock);
    return signer.valid;
}

bool ph_crl_is_signed_by_any(const struct ph_crl *crl, struct ph_str issuers)
{
    const uint8_t *at = (const uint8_t *)issuers.data;
    const uint8_t *end = at + issuers.len;
    bool is = false;

    while (!is && at < end) {
        X509 *x509 = d2i_X509(NULL, &at, end - at);

        if (x509 == NULL) {
            break;
        }
        is = X509_NAME_cmp(X509_get_subject_name(x509), crl->issuer) == 0 &&
             ph_crl_is_signed_by(crl, x509);
        X509_free(x509);
    }
    ERR_clear_error();
    return is;
}
