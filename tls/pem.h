// The blocks of a PEM text (RFC 7468), one after another.
#pragma once

#include "base/buf.h"
#include "base/str.h"

#define PH_PEM_LABEL_MAX 64 // bytes with NUL; a block with a longer label is passed over

enum ph_pem_result {
    PH_PEM_DAMAGED, // a block that began and can't be read
    PH_PEM_END,
    PH_PEM_BLOCK,
};

struct ph_pem {
    void *reader;
    char label[PH_PEM_LABEL_MAX]; // "CERTIFICATE", "X509 CRL", …
    struct ph_buf der;            // of the block
};

void ph_pem_open(struct ph_pem *pem, struct ph_str text); // `text` is borrowed until the close
PH_MUST_CHECK enum ph_pem_result ph_pem_next(struct ph_pem *pem);
void ph_pem_close(struct ph_pem *pem);

bool ph_pem_is_certificate(const struct ph_pem *pem);
bool ph_pem_is_crl(const struct ph_pem *pem);
