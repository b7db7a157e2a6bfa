// The bare relay's destinations: mail waits by site for a connection with room. One ring, no limits
// but those of the options, no second try: a destination that does otherwise ends the process.
#pragma once

#include <stdint.h>
#include <sys/queue.h>

#include "base/endpoint.h"
#include "base/str.h"

#define PH_RELAY_ADDRESS_BYTES 256

struct ph_relay_site;
struct ph_relay_out; // a connection

struct ph_relay_mail { // a message for one recipient; lives until it is delivered
    STAILQ_ENTRY(ph_relay_mail) link;
    struct ph_relay_site *site;
    const char *body;
    size_t size;
    size_t envelope_len;
    char recipient[PH_RELAY_ADDRESS_BYTES];
    char envelope[2 * PH_RELAY_ADDRESS_BYTES + 64]; // MAIL, RCPT and BDAT
};
STAILQ_HEAD(ph_relay_mail_list, ph_relay_mail);

struct ph_relay_sites_options {
    struct ph_endpoint
        to; // site 0; site i is i / 250 further in the third byte, i % 250 in the fourth
    uint64_t count;
    uint64_t connections;    // a site
    uint64_t depth;          // messages under way on a connection
    uint64_t per_connection; // messages, then it ends; 0: no limit
    const char *pki;         // a directory with root.pem: STARTTLS, verified; NULL: plaintext
    const char *site;        // the sites' names, with '#' for the number
    void (*delivered)(struct ph_relay_mail *mail);
};

void ph_relay_sites_init(const struct ph_relay_sites_options *options);
// By the number behind "@d" in its recipient, modulo the number of sites.
void ph_relay_sites_add(struct ph_relay_mail *mail);
// At the end of a turn: what was added is sent, as far as there is room for it.
void ph_relay_sites_feed(void);

// Completions.
void ph_relay_sites_connected(struct ph_relay_out *out, int result);
void ph_relay_sites_received(struct ph_relay_out *out, int result);
void ph_relay_sites_sent(struct ph_relay_out *out, int result);
