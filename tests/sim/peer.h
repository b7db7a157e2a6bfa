// Those who receive: SMTP servers as state machines, each with its moods and its ledger.
#pragma once

#include "base/endpoint.h"
#include "tests/sim/ledger.h"
#include "tls/boringssl.h"

#include <openssl/ssl.h>

#define SIM_HOSTS 2 // of a site

struct sim;
struct sim_conn;
struct sim_peers;

// Certificates and contexts, once a process.
void sim_certificates_create(void);
struct ph_str sim_certificates_root(void); // PEM
struct ph_str sim_certificates_crl(void);
// Of a server with this chain and key.
SSL_CTX *sim_certificates_make_context(struct ph_str pem);

struct sim_peers *sim_peers_create(struct sim *sim);
bool sim_peers_listen(struct sim_peers *peers, const struct ph_endpoint *at);
void sim_peers_accept(struct sim_peers *peers, struct sim_conn *conn, const struct ph_endpoint *at);
// Zone-file lines of their names, one a line.
void sim_peers_zone(struct ph_buf *out);
// SendConnector blocks with the policies that peers hold the engine to.
void sim_peers_connectors(struct ph_buf *out);
