// The blocks of a PEM text.
#include "tls/pem.h"

#include <limits.h>
#include <string.h>

#include "base/check.h"
#include "tls/boringssl.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>

_Static_assert(PH_BUF_BYTES_MAX < INT_MAX, "a text fits BIO_new_mem_buf");

void ph_pem_open(struct ph_pem *pem, struct ph_str text)
{
    *pem = (struct ph_pem){.reader = BIO_new_mem_buf(text.data, (int)text.len)};
    PH_CHECK(pem->reader != NULL);
}

enum ph_pem_result ph_pem_next(struct ph_pem *pem)
{
    enum ph_pem_result result = PH_PEM_BLOCK;
    char *name = NULL;
    char *header = NULL;
    uint8_t *der = NULL;
    long len = 0;

    ph_buf_clear(&pem->der);
    pem->label[0] = '\0';
    if (PEM_read_bio(pem->reader, &name, &header, &der, &len) == 1) {
        if (strlen(name) < sizeof(pem->label)) {
            ph_str_copy(pem->label, sizeof(pem->label), ph_str_from(name));
        }
        ph_buf_append_bytes(&pem->der, der, (size_t)len);
    } else {
        uint32_t last = ERR_peek_last_error();
        bool ended =
            ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;

        result = ended ? PH_PEM_END : PH_PEM_DAMAGED;
        ERR_clear_error();
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    return result;
}

void ph_pem_close(struct ph_pem *pem)
{
    BIO_free(pem->reader);
    ph_buf_deinit(&pem->der);
}

bool ph_pem_is_certificate(const struct ph_pem *pem)
{
    return strcmp(pem->label, PEM_STRING_X509) == 0 || strcmp(pem->label, PEM_STRING_X509_OLD) == 0;
}

bool ph_pem_is_crl(const struct ph_pem *pem)
{
    return strcmp(pem->label, PEM_STRING_X509_CRL) == 0;
}
