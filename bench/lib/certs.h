// Makes certificates for demos, benchmarks and tests: authorities, leaves, CRLs, good and bad ones.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

#define PH_CERTS_NOT_BEFORE_S INT64_C(1577836800) // 2020-01-01
#define PH_CERTS_NOT_AFTER_S INT64_C(2524608000)  // 2050-01-01

struct ph_cert; // a certificate with its key; knows its issuer

enum ph_certs_key {
    PH_CERTS_P256,
    PH_CERTS_RSA_2048,
    PH_CERTS_RSA_1024,
    PH_CERTS_P224,
};

enum ph_certs_usage {
    PH_CERTS_USAGE_SERVER, // of leaves; authorities get no extended key usage
    PH_CERTS_USAGE_CLIENT,
    PH_CERTS_USAGE_BOTH,
    PH_CERTS_USAGE_ANY,
    PH_CERTS_USAGE_NONE, // no extension
    PH_CERTS_USAGE_OCSP,
};

// Zero is a good leaf: P-256, SHA-256, valid 2020 to 2050, for TLS servers.
struct ph_certs_options {
    const char *common_name;        // NULL: an empty subject
    const struct ph_str *dns_names; // dNSName SANs, bytes as they are (NUL included)
    size_t dns_name_count;
    const char *extensions[4][2]; // {"nameConstraints", "critical,permitted;DNS:example.org"}, …:
                                  // X509V3's short names and syntax
    int64_t not_before_s;         // 0: PH_CERTS_NOT_BEFORE_S
    int64_t not_after_s;
    uint64_t serial; // 0: the issuer's next
    enum ph_certs_key key;
    const struct ph_cert *key_of; // the same key as this one's (cross-signing, renewal)
    enum ph_certs_usage usage;
    bool ca;
    const char *path_len; // "0", of an authority; NULL: none
    bool no_key_ids;      // neither subject nor authority key identifier
    bool no_cert_sign;    // an authority whose key usage lacks keyCertSign
    bool sha1;            // signed with SHA-1
    bool bad_signature;
};

// Never NULL. `issuer` NULL: self-signed. The issuer must outlive what it issued.
struct ph_cert *ph_certs_make(struct ph_cert *issuer, const struct ph_certs_options *options);
void ph_certs_destroy(struct ph_cert *cert); // NULL accepted

// In short: a root; an authority below `issuer`; a leaf for one DNS name.
struct ph_cert *ph_certs_root(const char *common_name);
struct ph_cert *ph_certs_intermediate(struct ph_cert *issuer, const char *common_name);
struct ph_cert *ph_certs_leaf(struct ph_cert *issuer, const char *dns_name);

// Each appends PEM text to `out`.
void ph_certs_append(const struct ph_cert *cert, struct ph_buf *out);
// The certificate and its issuers, as a server sends them: without the self-signed root.
void ph_certs_append_chain(const struct ph_cert *cert, struct ph_buf *out);
void ph_certs_append_key(const struct ph_cert *cert, struct ph_buf *out);

struct ph_certs_crl_options {
    const uint64_t *serials; // revoked
    size_t serial_count;
    int64_t this_update_s;           // 0: PH_CERTS_NOT_BEFORE_S
    int64_t next_update_s;           // 0: PH_CERTS_NOT_AFTER_S
    const struct ph_cert *signed_by; // NULL: the issuer, as it should be
    const char *extensions[2][2];    // {"issuingDistributionPoint", "critical,onlyCA:TRUE"}, …
};
void ph_certs_append_crl(const struct ph_cert *issuer, const struct ph_certs_crl_options *options,
                         struct ph_buf *out);

uint64_t ph_certs_serial(const struct ph_cert *cert);
// DER of the certificate; `out` is appended to.
void ph_certs_append_der(const struct ph_cert *cert, struct ph_buf *out);

enum ph_certs_ocsp_status {
    PH_CERTS_OCSP_GOOD,
    PH_CERTS_OCSP_REVOKED,
    PH_CERTS_OCSP_UNKNOWN,
};

struct ph_certs_ocsp_options {
    enum ph_certs_ocsp_status status;
    int64_t this_update_s;     // 0: PH_CERTS_NOT_BEFORE_S
    int64_t next_update_s;     // 0: PH_CERTS_NOT_AFTER_S
    struct ph_cert *responder; // NULL: the issuer itself; else it is sent along
    bool bad_signature;
    uint64_t serial; // 0: that of `cert`
};
// A DER OCSP response (RFC 6960) about `cert`, which must have an issuer.
void ph_certs_append_ocsp(const struct ph_cert *cert, const struct ph_certs_ocsp_options *options,
                          struct ph_buf *out);
