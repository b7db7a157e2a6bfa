// What a session gives to its worker's SSL_CTX: for tls/context.
#pragma once

#include "tls/boringssl.h"

#include <openssl/ssl.h>
#include <sys/time.h>

// BoringSSL asks for the time without saying for which session: so it is said here, on this thread,
// before each call into it. NULL: the machine's clock.
void ph_session_clock(uint64_t (*now_s)(void *owner), void *owner);
void ph_session_tell_time(const SSL *ssl, struct timeval *out); // for SSL_CTX_set_current_time_cb

// The callbacks that a client session needs: our certificate, tickets, alerts.
void ph_session_configure(SSL_CTX *context);
