// A small public key infrastructure for tests and the demo: one root that is trusted, and leaves
// that are good or bad in each way a partner's may be.
#pragma once

#include "base/buf.h"
#include "base/str.h"

enum ph_pki_kind {
    PH_PKI_GOOD,
    PH_PKI_SELF_SIGNED,
    PH_PKI_UNTRUSTED, // issued by a root nobody knows
    PH_PKI_EXPIRED,
    PH_PKI_REVOKED, // by the CRL
    PH_PKI_WRONG_NAME,
    PH_PKI_EXPIRING, // good, for ten days more
    PH_PKI_KINDS,
};

struct ph_pki;

struct ph_pki *ph_pki_create(void);
void ph_pki_destroy(struct ph_pki *pki);
// "good", "self-signed", …
PH_MUST_CHECK bool ph_pki_kind_from(struct ph_str name, enum ph_pki_kind *out);
// The chain with its key, for a server of that name. Before ph_pki_append_crl, for REVOKED.
void ph_pki_append_leaf(struct ph_pki *pki, enum ph_pki_kind kind, const char *host,
                        struct ph_buf *out);
void ph_pki_append_root(struct ph_pki *pki, struct ph_buf *out);
void ph_pki_append_crl(struct ph_pki *pki, struct ph_buf *out); // of root and intermediate
