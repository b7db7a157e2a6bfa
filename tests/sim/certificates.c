// Certificates of all hosts, good and bad, made once before any history begins.
#include <stdio.h>

#include "tests/sim/peer_parts.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

static struct {
    struct ph_buf root;
    struct ph_buf crl;
    SSL_CTX *contexts[SIM_SITES + 1][SIM_HOSTS][SIM_CERTIFICATE_KINDS];
} certificates;

void sim_host_name(unsigned site, unsigned host, char out[64])
{
    if (site == SIM_ORIGIN) {
        snprintf(out, 64, "mx%c.origin.example", 'a' + (int)host);
    } else {
        snprintf(out, 64, "mx%c.site%u.example", 'a' + (int)host, site);
    }
}

SSL_CTX *sim_certificates_make_context(struct ph_str pem)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    X509 *certificate;
    bool leaf = true;

    BIO_free(bio);
    bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (leaf) {
            SSL_CTX_use_certificate(context, certificate);
        } else {
            SSL_CTX_add1_chain_cert(context, certificate);
        }
        leaf = false;
        X509_free(certificate);
    }
    BIO_free(bio);
    PH_CHECK(key != NULL && SSL_CTX_use_PrivateKey(context, key) == 1);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return context;
}

void sim_certificates_create(void)
{
    struct ph_pki *pki = ph_pki_create();

    for (unsigned site = 0; site <= SIM_SITES; site++) {
        for (unsigned host = 0; host < SIM_HOSTS; host++) {
            char name[64];

            sim_host_name(site, host, name);
            for (unsigned kind = 0; kind < SIM_CERTIFICATE_KINDS; kind++) {
                struct ph_buf pem = {0};

                ph_pki_append_leaf(pki, (enum ph_pki_kind)kind, name, &pem);
                certificates.contexts[site][host][kind] =
                    sim_certificates_make_context(ph_buf_str(&pem));
                ph_buf_deinit(&pem);
            }
        }
    }
    ph_pki_append_root(pki, &certificates.root);
    ph_pki_append_crl(pki, &certificates.crl);
    ph_pki_destroy(pki);
}

struct ph_str sim_certificates_root(void)
{
    return ph_buf_str(&certificates.root);
}

struct ph_str sim_certificates_crl(void)
{
    return ph_buf_str(&certificates.crl);
}

SSL_CTX *sim_certificates_context(unsigned site, unsigned host, enum ph_pki_kind kind)
{
    return certificates.contexts[site][host][kind];
}
