// A peer's end of a connection: bytes in the clear and in TLS, replies that take their time. What
// is said is its owner's business.
#pragma once

#include <sys/queue.h>

#include "base/buf.h"
#include "tests/sim/network.h"
#include "tests/sim/sim.h"
#include "tls/boringssl.h"

#include <openssl/ssl.h>

struct peer_reply {
    STAILQ_ENTRY(peer_reply) entry;
    struct sim_event event;
    struct peer_link *link;
    bool closes; // the session ends behind it
    bool resets;
    size_t whole_at; // it answers these of the ledger's wholes
    size_t whole_count;
    struct ph_buf text;
};

struct peer_link {
    struct sim *sim;
    struct sim_conn *conn;
    bool over;
    bool ending; // the last word is on its way
    bool gentle; // closes, never resets
    struct ph_buf in;
    void (*converse)(struct peer_link *link); // takes what it can of `in`
    // `in` has what the engine sent and nobody answers any more; NULL: nobody cares.
    void (*unseen)(struct peer_link *link);
    STAILQ_HEAD(, peer_reply) replies;
    struct peer_reply *last_reply; // what was said last; dangling once it is out
    uint64_t last_reply_ns;
    uint64_t reply_ns; // each takes up to so long

    SSL *ssl;
    BIO *from_engine;
    BIO *to_engine;
    bool handshaking;
    bool encrypted; // the handshake is complete
};

// The connection is accepted.
void peer_link_init(struct peer_link *link, struct sim *sim, struct sim_conn *conn,
                    void (*converse)(struct peer_link *link));
void peer_say(struct peer_link *link, const char *format, ...) PH_PRINTF(2, 3);
// What was said last answers these of the ledger's wholes.
void peer_answers(struct peer_link *link, size_t whole_at, size_t whole_count);
void peer_say_bytes(struct peer_link *link, struct ph_str bytes);
void peer_hang_up(struct peer_link *link);                     // behind what is still to be said
void peer_break(struct peer_link *link);                       // now
void peer_begin_tls(struct peer_link *link, SSL_CTX *context); // behind its 220
