// The certificates that are ours: shown to servers that ask (identity), and to our clients
// (server).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

struct ph_tls_identity; // our client certificate and key; immutable, shared
struct ph_tls_server;   // one certificate for the receive side; immutable once in use, shared

// PEM text with the certificate chain and the key (or the key in `key_pem`). NULL, with a sentence
// in `error`, when something is missing, can't be parsed or doesn't belong together.
struct ph_tls_identity *ph_tls_identity_create(struct ph_str chain_pem, struct ph_str key_pem,
                                               struct ph_buf *error);
void ph_tls_identity_destroy(struct ph_tls_identity *identity); // NULL accepted
int64_t ph_tls_identity_not_before_s(const struct ph_tls_identity *identity);
int64_t ph_tls_identity_not_after_s(const struct ph_tls_identity *identity);
// RFC 2253 text; SHA-256 of the certificate, and of its SubjectPublicKeyInfo.
const char *ph_tls_identity_issuer(const struct ph_tls_identity *identity);
const char *ph_tls_identity_subject(const struct ph_tls_identity *identity);
const uint8_t *ph_tls_identity_sha256(const struct ph_tls_identity *identity);
const uint8_t *ph_tls_identity_spki_sha256(const struct ph_tls_identity *identity);
bool ph_tls_identity_allows_client_auth(const struct ph_tls_identity *identity); // W12

struct ph_tls_server *ph_tls_server_create(struct ph_str chain_pem, struct ph_str key_pem,
                                           struct ph_buf *error);
void ph_tls_server_destroy(struct ph_tls_server *server); // NULL accepted
int64_t ph_tls_server_not_after_s(const struct ph_tls_server *server);

// Each of these before the first session is accepted.
// The clock of the tickets it issues; without it, the machine's.
void ph_tls_server_set_clock(struct ph_tls_server *server, uint64_t (*now_s)(void *owner),
                             void *owner);
// Asks clients for a certificate and takes any (for sinks that play a Domain Security partner);
// `required`: fails the handshake without one.
void ph_tls_server_request_certificate(struct ph_tls_server *server, bool required);
// Nothing newer than `version` (0x0303, or older for laboratories); 0: no limit.
void ph_tls_server_set_version_max(struct ph_tls_server *server, uint16_t version);
// A DER OCSP response to staple.
void ph_tls_server_set_staple(struct ph_tls_server *server, struct ph_str response);
