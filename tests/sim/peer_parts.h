// What the files of the peers share: peer.c (hosts, the conversation), peer_link.c (bytes, TLS,
// replies that take their time), certificates.c. Nobody else includes it.
#pragma once

#include <sys/queue.h>

#include "bench/lib/pki.h"
#include "tests/sim/network.h"
#include "tests/sim/peer.h"
#include "tests/sim/sim.h"
#include "tls/boringssl.h"

#include <openssl/ssl.h>

#define SIM_CERTIFICATE_KINDS (PH_PKI_WRONG_NAME + 1) // those behind go by the real clock
#define SIM_TRANSACTION_RECIPIENTS_MAX 128

struct sim_host {
    unsigned site;
    unsigned number; // of the site's
    char name[64];
    struct ph_endpoint at;
};

struct sim_peers {
    struct sim *sim;
    struct sim_host hosts[SIM_SITES + 1][SIM_HOSTS];
};

struct pending_reply {
    STAILQ_ENTRY(pending_reply) link;
    struct sim_event event;
    struct peer_session *session;
    bool closes; // the session ends behind it
    bool resets;
    struct ph_buf text;
};

struct peer_session {
    struct sim *sim;
    const struct sim_host *host;
    struct sim_conn *conn;
    bool over;
    bool ending; // the last word is on its way
    struct ph_buf in;
    STAILQ_HEAD(, pending_reply) replies;
    uint64_t last_reply_ns;
    uint64_t reply_ns; // each takes up to so long

    SSL *ssl;
    BIO *from_engine;
    BIO *to_engine;
    bool handshaking;
    enum ph_pki_kind certificate;
    bool encrypted; // the handshake is complete

    bool injected; // somebody's bytes came behind the 220

    bool offers_starttls;
    bool pipelining;
    bool chunking;
    unsigned hangs_up_after; // messages, then 421

    bool mail;
    bool null_sender;
    unsigned messages;
    struct ph_buf content;
    bool in_data;
    bool in_bdat;
    bool bdat_bad; // refused: its bytes are swallowed
    uint64_t bdat_left;
    bool bdat_last;
    struct {
        unsigned id;
        unsigned recipient; // SIM_RECIPIENTS_MAX: a notification for sender `id`
    } recipients[SIM_TRANSACTION_RECIPIENTS_MAX];
    unsigned recipient_count;
};

SSL_CTX *sim_certificates_context(unsigned site, unsigned host, enum ph_pki_kind kind);
void sim_host_name(unsigned site, unsigned host, char out[64]);

// peer_link.c
void peer_received(void *owner, struct ph_str bytes);
void peer_ended(void *owner, bool reset);
void peer_say(struct peer_session *s, const char *format, ...) PH_PRINTF(2, 3);
void peer_hang_up(struct peer_session *s);   // behind what is still to be said
void peer_break(struct peer_session *s);     // now
void peer_begin_tls(struct peer_session *s); // behind its 220
// peer.c: takes what it can of `in`.
void peer_converse(struct peer_session *s);
