// Roots, extra intermediates, CRLs: loaded once, immutable, shared by all threads. Loading parses,
// and reading the system's bundle reads a file: at start-up and reload, never on a worker.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "tls/own.h" // the certificates that are ours are loaded where trust is

struct ph_trust; // reference-counted atomically

struct ph_trust_options {
    struct ph_str anchors_pem;       // PEM text of trusted certificates
    struct ph_str intermediates_pem; // PEM text of untrusted ones that may complete a chain
    struct ph_str crls_pem;          // PEM (or concatenated PEM) of CRLs
    bool revocation_source;          // a source is configured: unknown is then UNKNOWN
    bool clients;                    // for certificates of clients (clientAuth), not of servers
    bool revocation_fetch;           // CRLs are fetched by distribution point: a source too
};

// NULL, with a sentence in `error`, when a PEM block can't be parsed.
struct ph_trust *ph_trust_create(const struct ph_trust_options *options, struct ph_buf *error);
struct ph_trust *ph_trust_retain(struct ph_trust *trust);
void ph_trust_release(struct ph_trust *trust);
bool ph_trust_fetches(const struct ph_trust *trust);
uint64_t ph_trust_id(const struct ph_trust *trust); // never used twice in a process
// Reads the system's bundle (/etc/ssl/certs/ca-certificates.crt) into `out_pem`.
PH_MUST_CHECK bool ph_trust_read_system(struct ph_buf *out_pem, struct ph_buf *error);
