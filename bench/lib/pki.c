// A small public key infrastructure.
#include "bench/lib/pki.h"

#include <stdlib.h>
#include <time.h>

#include "bench/lib/certs.h"

#define PKI_CERTS_MAX 4096

struct ph_pki {
    struct ph_cert *root;
    struct ph_cert *intermediate;
    struct ph_cert *stranger; // a root nobody knows
    struct ph_cert *leaves[PKI_CERTS_MAX];
    size_t leaf_count;
    uint64_t revoked[PKI_CERTS_MAX];
    size_t revoked_count;
};

struct ph_pki *ph_pki_create(void)
{
    struct ph_pki *pki = ph_alloc(sizeof(*pki));

    pki->root = ph_certs_root("Posthaste test root");
    pki->intermediate = ph_certs_intermediate(pki->root, "Posthaste test intermediate");
    pki->stranger = ph_certs_root("Somebody else's root");
    return pki;
}

void ph_pki_destroy(struct ph_pki *pki)
{
    for (size_t i = 0; i < pki->leaf_count; i++) {
        ph_certs_destroy(pki->leaves[i]);
    }
    ph_certs_destroy(pki->intermediate);
    ph_certs_destroy(pki->root);
    ph_certs_destroy(pki->stranger);
    free(pki);
}

bool ph_pki_kind_from(struct ph_str name, enum ph_pki_kind *out)
{
    static const char *const names[] = {
        [PH_PKI_GOOD] = "good",           [PH_PKI_SELF_SIGNED] = "self-signed",
        [PH_PKI_UNTRUSTED] = "untrusted", [PH_PKI_EXPIRED] = "expired",
        [PH_PKI_REVOKED] = "revoked",     [PH_PKI_WRONG_NAME] = "wrong-name",
        [PH_PKI_EXPIRING] = "expiring",
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(names); i++) {
        if (ph_str_eq(name, ph_str_from(names[i]))) {
            *out = (enum ph_pki_kind)i;
            return true;
        }
    }
    return false;
}

void ph_pki_append_leaf(struct ph_pki *pki, enum ph_pki_kind kind, const char *host,
                        struct ph_buf *out)
{
    struct ph_str name = ph_str_from(kind == PH_PKI_WRONG_NAME ? "mx.somebody-else.example" : host);
    struct ph_certs_options options = {
        .common_name = name.data, .dns_names = &name, .dns_name_count = 1};
    struct ph_cert *issuer = pki->intermediate;
    struct ph_cert *leaf;

    PH_CHECK(pki->leaf_count < PKI_CERTS_MAX);
    if (kind == PH_PKI_SELF_SIGNED) {
        issuer = NULL;
    } else if (kind == PH_PKI_UNTRUSTED) {
        issuer = pki->stranger;
    } else if (kind == PH_PKI_EXPIRED) {
        options.not_after_s = PH_CERTS_NOT_BEFORE_S + 86400;
    } else if (kind == PH_PKI_EXPIRING) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        options.not_after_s = now.tv_sec + 10 * 86400 + 3600;
    }
    leaf = ph_certs_make(issuer, &options);
    if (kind == PH_PKI_REVOKED) {
        pki->revoked[pki->revoked_count++] = ph_certs_serial(leaf);
    }
    pki->leaves[pki->leaf_count++] = leaf;
    ph_certs_append_chain(leaf, out);
    if (kind == PH_PKI_UNTRUSTED) {
        ph_certs_append(pki->stranger, out); // shown, or it would be a chain with a piece missing
    }
    ph_certs_append_key(leaf, out);
}

void ph_pki_append_root(struct ph_pki *pki, struct ph_buf *out)
{
    ph_certs_append(pki->root, out);
}

void ph_pki_append_crl(struct ph_pki *pki, struct ph_buf *out)
{
    ph_certs_append_crl(
        pki->intermediate,
        &(struct ph_certs_crl_options){.serials = pki->revoked, .serial_count = pki->revoked_count},
        out);
    ph_certs_append_crl(pki->root, &(struct ph_certs_crl_options){0}, out);
}
