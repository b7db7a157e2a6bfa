// Handshake and stream of one TLS connection over memory buffers.
#include "tls/session.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls/context.h"
#include "tls/groups.h"
#include "tls/own_parts.h"
#include "tls/session_parts.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/check.h"

#define PH_SESSION_SNI_BYTES_MAX 256         // with NUL; RFC 1035 §2.3.4
#define PH_SESSION_FAILURE_MAX 256           // bytes with NUL
#define PH_SESSION_READ_BYTES_MAX 16384      // a record; RFC 8446 §5.1
#define PH_SESSION_WRITE_BYTES_MAX (1 << 20) // given to BoringSSL at a time; ours

struct ph_tls_session {
    SSL *ssl;
    struct ph_tls_context *context;     // NULL on the receive side
    const struct ph_tls_server *server; // NULL on the sending side
    const struct ph_tls_identity *identity;
    struct ph_buf input;
    size_t input_at; // bytes of it that were read
    struct ph_buf output;
    struct ph_buf resumption_key;
    struct ph_tls_facts facts;
    char *failure; // owned; NULL while nothing has failed
    bool complete;
    bool confirmed; // plaintext was read
    bool certificate_requested;
    bool certificate_sent;
    size_t hello_bytes; // of our ClientHello, until it is answered
    uint8_t alert;      // the peer's fatal alert
    bool alerted;
};

static SSL *make_ssl(struct ph_tls_session *session, SSL_CTX *context);
static void offer_ticket(struct ph_tls_session *session,
                         const struct ph_tls_client_options *options);
static void on_message(int is_write, int version, int content_type, const void *data, size_t len,
                       SSL *ssl, void *owner);
static void publish(struct ph_tls_session *session);
static enum ph_tls_result result_of(struct ph_tls_session *session, int returned);

static _Thread_local struct {
    uint64_t (*now_s)(void *owner);
    void *owner;
} thread_clock;

void ph_session_clock(uint64_t (*now_s)(void *owner), void *owner)
{
    thread_clock.now_s = now_s;
    thread_clock.owner = owner;
}

void ph_session_tell_time(const SSL *ssl, struct timeval *out)
{
    (void)ssl; // NULL, in versions that ask for a whole context
    if (thread_clock.now_s != NULL) {
        *out = (struct timeval){.tv_sec = (time_t)thread_clock.now_s(thread_clock.owner)};
    } else {
        gettimeofday(out, NULL);
    }
}

// In front of every call into BoringSSL that may ask for the time.
static void set_clock(const struct ph_tls_session *session)
{
    if (session->context != NULL) {
        ph_session_clock(session->context->options.now_s, session->context->options.owner);
    } else {
        ph_session_clock(session->server->now_s, session->server->owner);
    }
}

static struct ph_tls_session *create(SSL_CTX *context, uint64_t session_id)
{
    struct ph_tls_session *session = ph_alloc(sizeof(*session));

    PH_CHECK(session_id != 0);
    session->facts.session_id = session_id;
    session->ssl = make_ssl(session, context);
    return session;
}

struct ph_tls_session *ph_tls_session_connect(struct ph_tls_context *context,
                                              const struct ph_tls_client_options *options)
{
    struct ph_tls_session *session = create(context->client, options->session_id);
    uint16_t version_min = options->version_min != 0 ? options->version_min : TLS1_2_VERSION;
    char sni[PH_SESSION_SNI_BYTES_MAX];

    session->context = context;
    session->identity = options->identity;
    SSL_set_connect_state(session->ssl);
    PH_CHECK(SSL_set_min_proto_version(session->ssl, version_min) == 1);
    ph_groups_apply(session->ssl, options->groups, options->key_share, options->small_hello);
    SSL_set_msg_callback(session->ssl, on_message);
    if (options->sni.len > 0 && options->sni.len < sizeof(sni)) {
        ph_str_copy(sni, sizeof(sni), options->sni);
        // Refused where the name is none: then without, like an address.
        if (SSL_set_tlsext_host_name(session->ssl, sni) != 1) {
            ERR_clear_error();
        }
    }
    if (options->resumption_key.len > 0 && ph_tickets_enabled(context->tickets)) {
        ph_buf_append(&session->resumption_key, options->resumption_key);
        ph_buf_trim(&session->resumption_key);
        offer_ticket(session, options);
    }
    return session;
}

struct ph_tls_session *ph_tls_session_accept(const struct ph_tls_server *server,
                                             uint64_t session_id)
{
    struct ph_tls_session *session = create(server->context, session_id);

    session->server = server;
    SSL_set_accept_state(session->ssl);
    return session;
}

void ph_tls_session_keep_chain(struct ph_tls_session *session, struct ph_tls_context *context)
{
    session->context = context;
}

void ph_tls_session_destroy(struct ph_tls_session *session)
{
    if (session != NULL) {
        SSL_free(session->ssl);
        ph_chain_release(session->facts.chain);
        ph_buf_deinit(&session->input);
        ph_buf_deinit(&session->output);
        ph_buf_deinit(&session->resumption_key);
        free(session->failure);
        free(session);
    }
}

void ph_tls_session_feed(struct ph_tls_session *session, struct ph_str bytes)
{
    ph_buf_append(&session->input, bytes);
}

enum ph_tls_result ph_tls_session_handshake(struct ph_tls_session *session)
{
    enum ph_tls_result result;

    if (session->failure != NULL) {
        return PH_TLS_FAILED;
    }
    ERR_clear_error();
    set_clock(session);
    result = result_of(session, SSL_do_handshake(session->ssl));
    if (result == PH_TLS_OK && !session->complete) {
        session->complete = true;
        publish(session);
    } else if (result == PH_TLS_CLOSED) {
        result = PH_TLS_FAILED; // an end is no handshake
    }
    return result;
}

// How much more `out` may hold.
static size_t room_of(const struct ph_buf *out)
{
    size_t max = out->max > 0 ? out->max : PH_BUF_BYTES_MAX;

    return out->len < max ? max - out->len : 0;
}

enum ph_tls_result ph_tls_session_read(struct ph_tls_session *session, struct ph_buf *out,
                                       size_t max)
{
    enum ph_tls_result result = PH_TLS_OK;
    size_t taken = 0;
    char plain[PH_SESSION_READ_BYTES_MAX];

    PH_CHECK(session->complete);
    if (session->failure != NULL) {
        return PH_TLS_FAILED;
    }
    max = max < room_of(out) ? max : room_of(out);
    while (result == PH_TLS_OK && taken < max) {
        size_t wanted = max - taken < sizeof(plain) ? max - taken : sizeof(plain);
        int got;

        ERR_clear_error();
        set_clock(session);
        got = SSL_read(session->ssl, plain, (int)wanted);
        result = result_of(session, got);
        if (result == PH_TLS_OK) {
            PH_CHECK(ph_buf_append_bytes(out, plain, (size_t)got));
            taken += (size_t)got;
            session->confirmed = true;
        }
    }
    // What came before an end or a failure counts; the next call tells of it.
    return taken > 0 ? PH_TLS_OK : result;
}

enum ph_tls_result ph_tls_session_write(struct ph_tls_session *session, struct ph_str plain)
{
    enum ph_tls_result result = PH_TLS_OK;

    PH_CHECK(session->complete);
    if (session->failure != NULL) {
        return PH_TLS_FAILED;
    }
    while (result == PH_TLS_OK && plain.len > 0) {
        size_t len =
            plain.len < PH_SESSION_WRITE_BYTES_MAX ? plain.len : PH_SESSION_WRITE_BYTES_MAX;

        ERR_clear_error();
        set_clock(session);
        result = result_of(session, SSL_write(session->ssl, plain.data, (int)len));
        plain = ph_str_after(plain, len);
    }
    return result;
}

void ph_tls_session_close(struct ph_tls_session *session)
{
    if (session->complete && session->failure == NULL) {
        SSL_shutdown(session->ssl);
        ERR_clear_error();
    }
}

void ph_tls_session_shed(struct ph_tls_session *session)
{
    if (session->output.len == 0) {
        ph_buf_deinit(&session->output);
    }
}

struct ph_buf *ph_tls_session_output(struct ph_tls_session *session)
{
    return &session->output;
}

bool ph_tls_session_complete(const struct ph_tls_session *session)
{
    return session->complete;
}

struct ph_tls_facts *ph_tls_session_facts(struct ph_tls_session *session)
{
    PH_CHECK(session->complete);
    return &session->facts;
}

const char *ph_tls_session_failure(const struct ph_tls_session *session)
{
    return session->failure != NULL ? session->failure : "";
}

size_t ph_tls_session_unanswered_hello(const struct ph_tls_session *session)
{
    return session->hello_bytes;
}

bool ph_tls_session_wants_certificate(const struct ph_tls_session *session)
{
    bool generic = session->alert == SSL_AD_HANDSHAKE_FAILURE ||
                   session->alert == SSL_AD_NO_CERTIFICATE ||
                   session->alert == SSL_AD_BAD_CERTIFICATE;

    return session->alerted &&
           (session->alert == SSL_AD_CERTIFICATE_REQUIRED ||
            (generic && session->certificate_requested && !session->certificate_sent));
}

bool ph_tls_session_unconfirmed(const struct ph_tls_session *session)
{
    return !session->confirmed;
}

// --- Bytes: BoringSSL reads from the input, writes to the output
// ----------------------------------------

static int bio_read(BIO *bio, char *out, int len)
{
    struct ph_tls_session *session = BIO_get_data(bio);
    size_t left = session->input.len - session->input_at;
    size_t count = left < (size_t)len ? left : (size_t)len;

    BIO_clear_retry_flags(bio);
    if (count == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(out, session->input.data + session->input_at, count);
    session->input_at += count;
    if (session->input_at == session->input.len) {
        ph_buf_deinit(&session->input); // an idle session holds no memory for it
        session->input_at = 0;
    }
    return (int)count;
}

static int bio_write(BIO *bio, const char *data, int len)
{
    struct ph_tls_session *session = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    return ph_buf_append_bytes(&session->output, data, (size_t)len) ? len : -1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *bio_method; // immutable once made
static pthread_once_t bio_method_made = PTHREAD_ONCE_INIT;

static void make_bio_method(void)
{
    bio_method = BIO_meth_new(0, "ph_tls_session");
    PH_CHECK(bio_method != NULL && BIO_meth_set_read(bio_method, bio_read) == 1 &&
             BIO_meth_set_write(bio_method, bio_write) == 1 &&
             BIO_meth_set_ctrl(bio_method, bio_control) == 1);
}

static SSL *make_ssl(struct ph_tls_session *session, SSL_CTX *context)
{
    SSL *ssl = SSL_new(context);
    BIO *bio;

    pthread_once(&bio_method_made, make_bio_method);
    bio = BIO_new(bio_method);
    PH_CHECK(ssl != NULL && bio != NULL);
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, session);
    SSL_set_shed_handshake_config(ssl, 1);
    return ssl;
}

// --- What the peer asks for and says
// --------------------------------------------------------------------

// Called exactly when the server asks for our certificate: never where the session is resumed.
static int on_certificate_request(SSL *ssl, void *owner)
{
    struct ph_tls_session *session = SSL_get_app_data(ssl);
    const struct ph_tls_identity *identity = session->identity;

    (void)owner;
    session->certificate_requested = true;
    if (identity != NULL) {
        session->certificate_sent =
            SSL_set_chain_and_key(ssl, identity->chain, identity->chain_count, identity->key,
                                  NULL) == 1;
        ERR_clear_error();
    }
    return 1; // without one of ours: an empty certificate message, and the server decides
}

// In TLS 1.3 after the handshake, when the peer's first bytes are read; the ticket is ours then.
static int on_ticket(SSL *ssl, SSL_SESSION *ticket)
{
    struct ph_tls_session *session = SSL_get_app_data(ssl);

    if (session->resumption_key.len == 0) {
        return 0;
    }
    ph_tickets_take(session->context->tickets, ph_buf_str(&session->resumption_key),
                    (struct ph_ticket){
                        .session = ticket,
                        .client_certificate_requested = session->certificate_requested,
                        .client_certificate_sent = session->certificate_sent,
                        .group = SSL_get_curve_id(ssl),
                    });
    return 1;
}

// During the handshake alone. A HelloRetryRequest is a ServerHello here (RFC 8446 §4.1.3), and our
// answer to it a ClientHello.
static void on_message(int is_write, int version, int content_type, const void *data, size_t len,
                       SSL *ssl, void *owner)
{
    struct ph_tls_session *session = SSL_get_app_data(ssl);
    uint8_t type = len > 0 ? *(const uint8_t *)data : 0;

    (void)version, (void)owner;
    if (content_type == SSL3_RT_HANDSHAKE && is_write && type == SSL3_MT_CLIENT_HELLO) {
        session->hello_bytes = len + SSL3_RT_HEADER_LENGTH;
    } else if (content_type == SSL3_RT_HANDSHAKE && !is_write && type == SSL3_MT_SERVER_HELLO) {
        session->hello_bytes = 0;
    }
}

static void on_info(const SSL *ssl, int type, int value)
{
    struct ph_tls_session *session = SSL_get_app_data(ssl);

    if (type == SSL_CB_READ_ALERT && (value & 0xff) != SSL_AD_CLOSE_NOTIFY) {
        session->alert = (uint8_t)(value & 0xff);
        session->alerted = true;
    }
}

void ph_session_configure(SSL_CTX *context)
{
    SSL_CTX_set_cert_cb(context, on_certificate_request, NULL);
    SSL_CTX_sess_set_new_cb(context, on_ticket);
    SSL_CTX_set_info_callback(context, on_info);
}

// --- Resumption
// -----------------------------------------------------------------------------------------

static struct ph_str staple_of(const SSL_SESSION *ticket)
{
    const uint8_t *data = NULL;
    size_t len = 0;

    SSL_SESSION_get0_ocsp_response(ticket, &data, &len);
    return (struct ph_str){.data = len > 0 ? (const char *)data : "", .len = len};
}

static bool acceptable(struct ph_tls_session *session, const struct ph_ticket *ticket,
                       const struct ph_tls_client_options *options)
{
    const STACK_OF(CRYPTO_BUFFER) *presented = SSL_SESSION_get0_peer_certificates(ticket->session);
    struct ph_tls_facts facts = {
        .session_id = session->facts.session_id,
        .encrypted = true,
        .handshake = PH_HANDSHAKE_RESUMED,
        .version = SSL_SESSION_get_protocol_version(ticket->session),
        .cipher = "",
        .group = ph_groups_name(ticket->group),
        .client_certificate_requested = ticket->client_certificate_requested,
        .client_certificate_sent = ticket->client_certificate_sent,
    };
    bool accepted;

    if (options->ticket_acceptable == NULL) {
        return true;
    }
    if (presented != NULL && sk_CRYPTO_BUFFER_num(presented) > 0) {
        facts.chain = ph_tls_context_chain(session->context, presented, staple_of(ticket->session));
    }
    accepted = options->ticket_acceptable(options->owner, &facts);
    ph_chain_release(facts.chain);
    return accepted;
}

static void offer_ticket(struct ph_tls_session *session,
                         const struct ph_tls_client_options *options)
{
    struct ph_tls_context *context = session->context;
    struct ph_ticket ticket;

    if (!ph_tickets_offer(context->tickets, options->resumption_key,
                          context->options.now_s(context->options.owner), &ticket)) {
        return;
    }
    if (acceptable(session, &ticket, options)) {
        PH_CHECK(SSL_set_session(session->ssl, ticket.session) == 1);
        // Where the session is resumed the server asks for nothing: what it asked for then counts.
        session->certificate_requested = ticket.client_certificate_requested;
        session->certificate_sent = ticket.client_certificate_sent;
    } else {
        ph_tickets_forget(context->tickets, options->resumption_key);
    }
    SSL_SESSION_free(ticket.session);
}

// --- Facts
// ----------------------------------------------------------------------------------------------

static void publish(struct ph_tls_session *session)
{
    const STACK_OF(CRYPTO_BUFFER) *presented = SSL_get0_peer_certificates(session->ssl);
    struct ph_tls_facts *facts = &session->facts;
    const char *cipher = SSL_CIPHER_standard_name(SSL_get_current_cipher(session->ssl));

    facts->encrypted = true;
    facts->handshake = SSL_session_reused(session->ssl) ? PH_HANDSHAKE_RESUMED : PH_HANDSHAKE_FULL;
    facts->version = (uint16_t)SSL_version(session->ssl);
    facts->cipher = cipher != NULL ? cipher : "";
    facts->group_id = SSL_get_curve_id(session->ssl);
    facts->group = ph_groups_name(facts->group_id);
    facts->hello_retried = SSL_used_hello_retry_request(session->ssl) == 1;
    SSL_set_msg_callback(session->ssl, NULL);
    facts->client_certificate_requested = session->certificate_requested;
    facts->client_certificate_sent = session->certificate_sent;
    if (session->context != NULL && presented != NULL && sk_CRYPTO_BUFFER_num(presented) > 0) {
        facts->chain = ph_tls_context_chain(session->context, presented,
                                            staple_of(SSL_get_session(session->ssl)));
    }
}

// --- Failures
// -------------------------------------------------------------------------------------------

static void describe_failure(struct ph_tls_session *session)
{
    uint32_t error = ERR_peek_error();
    const char *reason = ERR_reason_error_string(error);
    char text[PH_SESSION_FAILURE_MAX];
    size_t used;

    used = (size_t)snprintf(text, sizeof(text), "%s",
                            error != 0 && reason != NULL ? reason : "the stream broke off");
    if (session->alerted && used < sizeof(text)) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "; the host sent alert %u (%s)",
                                 session->alert, SSL_alert_desc_string_long(session->alert));
    }
    if (session->context != NULL && !session->complete && used < sizeof(text)) {
        snprintf(text + used, sizeof(text) - used, "; we offered %s to %s",
                 ph_tls_version_name(SSL_get_min_proto_version(session->ssl)),
                 ph_tls_version_name(SSL_get_max_proto_version(session->ssl)));
    }
    if (ph_tls_session_wants_certificate(session)) {
        used = strlen(text);
        snprintf(text + used, sizeof(text) - used, "; client certificate required");
    }
    session->failure = ph_strdup(text);
}

static enum ph_tls_result result_of(struct ph_tls_session *session, int returned)
{
    enum ph_tls_result result = PH_TLS_OK;
    int error = SSL_get_error(session->ssl, returned);

    if (error == SSL_ERROR_WANT_READ) {
        result = PH_TLS_MORE;
    } else if (error == SSL_ERROR_ZERO_RETURN) {
        result = PH_TLS_CLOSED;
    } else if (error != SSL_ERROR_NONE) {
        describe_failure(session);
        ERR_clear_error();
        result = PH_TLS_FAILED;
    }
    return result;
}
