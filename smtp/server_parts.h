// What the files of the server share: smtp/server (the conversation) and smtp/server_envelope (MAIL
// and RCPT). Nobody else includes it.
#pragma once

#include <sys/queue.h>

#include "smtp/address.h"
#include "smtp/body.h"
#include "smtp/server.h"

#define PH_SERVER_BLOCK_BYTES 4072 // of envelope strings; with its head just under 4 KiB

struct ph_server_block {
    SLIST_ENTRY(ph_server_block) link;
    size_t used;
    char text[PH_SERVER_BLOCK_BYTES];
};

enum ph_server_state {
    PH_SERVER_COMMANDS,
    PH_SERVER_DATA,
    PH_SERVER_BDAT,
    PH_SERVER_SWALLOW, // a BDAT chunk that nobody wants
    PH_SERVER_AUTH_PLAIN,
    PH_SERVER_AUTH_USER,
    PH_SERVER_AUTH_PASSWORD,
    PH_SERVER_WAIT_AUTH, // for the owner
    PH_SERVER_WAIT_CHUNK,
    PH_SERVER_WAIT_STORED,
    PH_SERVER_WAIT_TLS,
    PH_SERVER_ENDED,
};

// Why a message in transit won't be accepted. The first one found counts.
struct ph_server_fault {
    unsigned code; // 0: none
    const char *status;
    const char *text;
};

struct ph_server {
    struct ph_server_options options;
    enum ph_server_state state;
    bool tls;
    bool esmtp;
    bool greeted;
    bool in_transaction;
    bool bdat_begun;
    bool bdat_last;
    bool skipping_line; // one that is too long
    bool chunks_taken;
    bool discard_owed;
    bool tarpit_owed;
    bool auth_refused; // what was meant as its credentials may come all the same
    uint32_t errors;
    uint32_t auth_failures;
    char client_name[PH_DOMAIN_BYTES_MAX + 1];
    struct ph_buf output;
    struct ph_buf user; // authenticated
    struct ph_buf login_user;
    struct ph_buf login_password;
    uint64_t chunk_left;
    struct ph_body body;
    struct ph_buf content;
    struct ph_server_fault fault;
    // The envelope: strings in blocks, which stay where they are.
    SLIST_HEAD(, ph_server_block) blocks;
    struct ph_envelope envelope;
    struct ph_envelope_recipient *recipients;
    uint32_t recipient_count;
    uint32_t recipient_cap;
};

void ph_server_reply(struct ph_server *server, unsigned code, const char *status, const char *text);
// As reply, and counted as a mistake of the client's.
void ph_server_reply_error(struct ph_server *server, unsigned code, const char *status,
                           const char *text);
void ph_server_reset_envelope(struct ph_server *server);
// `rest`: what stands behind "MAIL FROM:" and "RCPT TO:".
void ph_server_mail(struct ph_server *server, struct ph_str rest);
void ph_server_rcpt(struct ph_server *server, struct ph_str rest);
