// A set of CRLs by issuer.
#include "tls/crls.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "tls/pem.h"

struct entry {
    uint32_t issuer_hash; // X509_NAME_hash: of the canonical form, so equal names have equal ones
    struct ph_crl *crl;
};

struct ph_crls {
    _Atomic uint32_t references;
    size_t count;
    struct entry entries[]; // sorted by issuer_hash, then by id
};

static int compare(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;

    if (x->issuer_hash != y->issuer_hash) {
        return x->issuer_hash < y->issuer_hash ? -1 : 1;
    }
    return x->crl->id < y->crl->id ? -1 : x->crl->id > y->crl->id;
}

struct ph_crls *ph_crls_create(struct ph_crl *const *list, size_t count)
{
    struct ph_crls *crls = ph_alloc(sizeof(*crls) + count * sizeof(crls->entries[0]));

    atomic_init(&crls->references, 1);
    crls->count = count;
    for (size_t i = 0; i < count; i++) {
        crls->entries[i] = (struct entry){.issuer_hash = (uint32_t)X509_NAME_hash(list[i]->issuer),
                                          .crl = ph_crl_retain(list[i])};
    }
    qsort(crls->entries, count, sizeof(crls->entries[0]), compare);
    return crls;
}

static bool take(struct ph_crl ***list, size_t *count, struct ph_str text, struct ph_buf *error)
{
    struct ph_crl *crl = ph_crl_parse(text, error);

    if (crl != NULL) {
        *list = reallocarray(*list, *count + 1, sizeof(struct ph_crl *));
        PH_CHECK(*list != NULL);
        (*list)[(*count)++] = crl;
    }
    return crl != NULL;
}

static bool take_blocks(struct ph_crl ***list, size_t *count, struct ph_str text,
                        struct ph_buf *error)
{
    enum ph_pem_result result = PH_PEM_BLOCK;
    struct ph_pem pem;
    bool good = true;

    ph_pem_open(&pem, text);
    while (good && (result = ph_pem_next(&pem)) == PH_PEM_BLOCK) {
        good = !ph_pem_is_crl(&pem) || take(list, count, ph_buf_str(&pem.der), error);
    }
    ph_pem_close(&pem);
    if (good && (result == PH_PEM_DAMAGED || *count == 0)) {
        ph_buf_printf(error, result == PH_PEM_DAMAGED ? "a damaged PEM block in it"
                                                      : "no certificate revocation list in it");
        good = false;
    }
    return good;
}

struct ph_crls *ph_crls_parse(struct ph_str text, struct ph_buf *error)
{
    struct ph_crl **list = NULL;
    struct ph_crls *crls = NULL;
    size_t count = 0;
    bool good = ph_str_find(text, PH_STR("-----BEGIN")) >= 0
                    ? take_blocks(&list, &count, text, error)
                    : take(&list, &count, text, error);

    if (good) {
        crls = ph_crls_create(list, count);
    }
    while (count > 0) {
        ph_crl_release(list[--count]);
    }
    free(list);
    return crls;
}

struct ph_crls *ph_crls_retain(struct ph_crls *crls)
{
    atomic_fetch_add(&crls->references, 1);
    return crls;
}

void ph_crls_release(struct ph_crls *crls)
{
    if (crls == NULL || atomic_fetch_sub(&crls->references, 1) != 1) {
        return;
    }
    for (size_t i = 0; i < crls->count; i++) {
        ph_crl_release(crls->entries[i].crl);
    }
    free(crls);
}

size_t ph_crls_count(const struct ph_crls *crls)
{
    return crls != NULL ? crls->count : 0;
}

struct ph_crl *ph_crls_at(const struct ph_crls *crls, size_t index)
{
    return index < ph_crls_count(crls) ? crls->entries[index].crl : NULL;
}

bool ph_crls_eq(const struct ph_crls *a, const struct ph_crls *b)
{
    bool same = ph_crls_count(a) == ph_crls_count(b);

    for (size_t i = 0; same && i < ph_crls_count(a); i++) {
        same = ph_str_eq(a->entries[i].crl->der, b->entries[i].crl->der);
    }
    return same;
}

// The first with this hash, or the end.
static size_t first_of(const struct ph_crls *crls, uint32_t issuer_hash)
{
    size_t low = 0;
    size_t high = crls->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (crls->entries[middle].issuer_hash < issuer_hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct ph_crl *ph_crls_next(const struct ph_crls *crls, const X509_NAME *issuer, size_t *at)
{
    uint32_t hash;

    if (crls == NULL || crls->count == 0) {
        return NULL;
    }
    hash = (uint32_t)X509_NAME_hash((X509_NAME *)issuer);
    // `*at` is one past the last that was given.
    for (size_t i = *at > 0 ? *at : first_of(crls, hash);
         i < crls->count && crls->entries[i].issuer_hash == hash; i++) {
        if (X509_NAME_cmp(crls->entries[i].crl->issuer, issuer) == 0) {
            *at = i + 1;
            return crls->entries[i].crl;
        }
    }
    return NULL;
}

uint64_t ph_crls_mark(const struct ph_crls *crls, uint32_t issuer_hash)
{
    uint64_t mark = 0;

    for (size_t i = crls != NULL ? first_of(crls, issuer_hash) : 0;
         crls != NULL && i < crls->count && crls->entries[i].issuer_hash == issuer_hash; i++) {
        mark = ph_hash_bytes(&crls->entries[i].crl->id, sizeof(uint64_t), mark + 1);
    }
    return mark;
}

void ph_crl_issuers_add(struct ph_crl_issuers *issuers, uint32_t issuer_hash)
{
    for (uint32_t i = 0; i < issuers->count && i < PH_CRL_ISSUERS_MAX; i++) {
        if (issuers->hashes[i] == issuer_hash) {
            return;
        }
    }
    if (issuers->count < PH_CRL_ISSUERS_MAX) {
        issuers->hashes[issuers->count] = issuer_hash;
    }
    issuers->count++;
}

// Where not all issuers are known, any list may be one of theirs.
static uint64_t mark_of(const struct ph_crls *crls, const struct ph_crl_issuers *issuers)
{
    bool all = issuers->count > PH_CRL_ISSUERS_MAX;
    size_t count = all ? ph_crls_count(crls) : issuers->count;
    uint64_t mark = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t part = all ? crls->entries[i].crl->id : ph_crls_mark(crls, issuers->hashes[i]);

        mark = ph_hash_bytes(&part, sizeof(part), mark + 1);
    }
    return mark;
}

bool ph_crls_changed_since(const struct ph_crls *crls, const struct ph_crls_asked *asked)
{
    return asked->issuers.count > 0 && mark_of(crls, &asked->issuers) != asked->mark;
}

void ph_crls_ask(struct ph_crls_asked *asked, const struct ph_crls *crls,
                 const struct ph_crl_issuers *issuers)
{
    bool changed = ph_crls_changed_since(crls, asked);

    for (uint32_t i = 0; i < issuers->count && i < PH_CRL_ISSUERS_MAX; i++) {
        ph_crl_issuers_add(&asked->issuers, issuers->hashes[i]);
    }
    if (issuers->count > PH_CRL_ISSUERS_MAX) {
        asked->issuers.count = issuers->count;
    }
    // No mark comes out as the complement of the present one.
    asked->mark = mark_of(crls, &asked->issuers);
    if (changed) {
        asked->mark = ~asked->mark;
    }
}
