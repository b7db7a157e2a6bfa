// TLS of the bare relay's connections: verified, resumed, sealed into the buffer that is sent.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/str.h"

struct ph_relay_tls; // of one connection

struct ph_relay_tls_site { // zeroes: no ticket
    char host[256];        // what its certificate must be for
    struct ssl_session_st *ticket;
};

// Trusts DIRECTORY/root.pem alone. What goes wrong, here or later, ends the process.
void ph_relay_tls_init(const char *directory);

// The ClientHello is in the output, with the site's ticket if there is one. Both outlive it.
struct ph_relay_tls *ph_relay_tls_connect(struct ph_relay_tls_site *site, struct ph_buf *output);
void ph_relay_tls_destroy(struct ph_relay_tls *tls); // NULL accepted

// What was received; borrowed until all of it is read.
void ph_relay_tls_feed(struct ph_relay_tls *tls, struct ph_str bytes);
PH_MUST_CHECK bool ph_relay_tls_handshake(struct ph_relay_tls *tls); // true: complete
// Some of the plaintext that came; 0: that was all.
PH_MUST_CHECK size_t ph_relay_tls_read(struct ph_relay_tls *tls, char *out, size_t size);

// Joined to records of 16 KiB; the last one is sealed by the flush, which must come before another
// connection writes.
void ph_relay_tls_write(struct ph_relay_tls *tls, const void *data, size_t len);
void ph_relay_tls_flush(struct ph_relay_tls *tls);
