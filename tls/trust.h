// Roots, extra intermediates, CRLs: loaded once, immutable, shared by all threads; and the
// certificates that are ours. Loading reads files: at start-up and reload, never on a worker.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "tls/facts.h"
#include "tls/session.h"

struct ph_trust; // reference-counted atomically

struct ph_trust_options {
    struct ph_str anchors_pem;       // PEM text of trusted certificates
    struct ph_str intermediates_pem; // PEM text of untrusted ones that may complete a chain
    struct ph_str crls_pem;          // PEM (or concatenated PEM) of CRLs
    bool revocation_source;          // a source is configured: unknown is then UNKNOWN
};

// NULL, with a sentence in `error`, when a PEM block can't be parsed.
struct ph_trust *ph_trust_create(const struct ph_trust_options *options, struct ph_buf *error);
struct ph_trust *ph_trust_retain(struct ph_trust *trust);
void ph_trust_release(struct ph_trust *trust);
uint64_t ph_trust_id(const struct ph_trust *trust); // never used twice in a process
// Reads the system's bundle (/etc/ssl/certs/ca-certificates.crt) into `out_pem`.
PH_MUST_CHECK bool ph_trust_read_system(struct ph_buf *out_pem, struct ph_buf *error);

// PEM text with the certificate chain and the key (or the key in `key_pem`).
struct ph_tls_identity *ph_tls_identity_create(struct ph_str chain_pem, struct ph_str key_pem,
                                               struct ph_buf *error);
void ph_tls_identity_destroy(struct ph_tls_identity *identity);
int64_t ph_tls_identity_not_after_s(const struct ph_tls_identity *identity);
bool ph_tls_identity_allows_client_auth(const struct ph_tls_identity *identity); // W12
struct ph_tls_server *ph_tls_server_create(struct ph_str chain_pem, struct ph_str key_pem,
                                           struct ph_buf *error);
void ph_tls_server_destroy(struct ph_tls_server *server);
int64_t ph_tls_server_not_after_s(const struct ph_tls_server *server);
