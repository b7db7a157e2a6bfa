// Certificates of the table's rows, all made before any history begins, by the virtual date.
#pragma once

#include "tests/sim/table_rows.h"
#include "tls/boringssl.h"

#include <openssl/ssl.h>

#define TABLE_NEWEST "renewed" // of the certificates in CertificateDir the one with versions

struct table_identity { // of one host
    SSL_CTX *own;
    SSL_CTX *mended;   // as `own`, with a good certificate
    SSL_CTX *impostor; // the same names, and nobody vouches for it
    struct ph_buf chain;
    struct ph_buf tlsa; // "3 1 1 …"; empty: none is published
};

struct table_file {
    const char *path;
    struct ph_buf content;
};

void table_pki_create(const struct table *table);
const struct table_identity *table_pki_identity(const struct table_row *row, unsigned host);
SSL_CTX *table_pki_home(void); // of a host without a row
// Files as the rows name them, from the root directory: "/root.pem", "/certs/going-0.pem", ….
const struct table_file *table_pki_file(struct ph_str path); // NULL: there is none
const struct table_file *table_pki_files(unsigned *out_count);
uint64_t table_pki_newest_serial(void);
