// What peer.c (hosts, the conversation), peer_unseen.c and certificates.c share. Nobody else
// includes it.
#pragma once

#include "bench/lib/pki.h"
#include "tests/sim/network.h"
#include "tests/sim/peer.h"
#include "tests/sim/peer_link.h"
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

struct peer_session {
    struct peer_link link; // first
    const struct sim_host *host;
    enum ph_pki_kind certificate;
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

// A message of this transaction has come whole: the first of the ledger's wholes for it, one a
// recipient.
size_t peer_wholes(struct peer_session *s);
void peer_unseen(struct peer_link *link); // peer_unseen.c

SSL_CTX *sim_certificates_context(unsigned site, unsigned host, enum ph_pki_kind kind);
void sim_host_name(unsigned site, unsigned host, char out[64]);
