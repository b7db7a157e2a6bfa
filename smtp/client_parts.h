// What the files of the client share: smtp/client (begin and end), smtp/client_commands,
// smtp/client_replies and smtp/client_output (bytes on their way out). Nobody else includes it.
#pragma once

#include "smtp/client.h"

// Bytes on their way out: command text of our own, slices of bodies, a body that is dot-stuffed.
enum ph_client_part_kind {
    PH_CLIENT_PART_BYTES,
    PH_CLIENT_PART_STUFFED,
};

struct ph_client_part {
    enum ph_client_part_kind kind;
    const char *data;                                // BYTES
    uint64_t len;                                    // what is left of it
    const struct ph_client_transaction *transaction; // STUFFED
};

#define PH_CLIENT_BLOCK_BYTES 8064 // of command text; with its head just under 8 KiB

// Command text stays where it is until it was sent: the network borrows it.
struct ph_client_block {
    TAILQ_ENTRY(ph_client_block) link;
    uint64_t last_offset; // of output, behind its last text
    size_t used;
    char text[PH_CLIENT_BLOCK_BYTES];
};

struct ph_client_output {
    struct ph_client_part *parts; // ring
    uint32_t part_cap;            // power of two, or 0
    uint32_t part_first;
    uint32_t part_count;
    TAILQ_HEAD(ph_client_block_list, ph_client_block)
    blocks;                 // oldest first; the last one is written to
    uint64_t end_offset;    // of all that was ever put in
    uint64_t sent_offset;   // of all that was ever sent
    uint64_t handed_offset; // of what the network has, whether or not it has said so yet
    // The stuffed body at the front: where it is read, and what was made of it.
    int slice;
    size_t slice_at;
    bool line_start;
    struct ph_buf stuffed;
    size_t stuffed_at;
    // Who watches what is said: bodies are not shown, nor is what is secret.
    void (*watch)(void *owner, struct ph_str text);
    void *watch_owner;
    bool secret;
};

void ph_client_output_init(struct ph_client_output *output);
void ph_client_output_deinit(struct ph_client_output *output);
void ph_client_output_text(struct ph_client_output *output, struct ph_str text);
void ph_client_output_printf(struct ph_client_output *output, const char *format, ...)
    PH_PRINTF(2, 3);
// The body as it is, for BDAT.
void ph_client_output_body(struct ph_client_output *output,
                           const struct ph_client_transaction *transaction);
// The body for DATA, dots at the start of a line doubled, with the dot that ends it.
void ph_client_output_stuffed(struct ph_client_output *output,
                              const struct ph_client_transaction *transaction);
int ph_client_output_slices(struct ph_client_output *output, struct iovec *out, int max);
void ph_client_output_sent(struct ph_client_output *output, uint64_t len);
// Everything was sent: gives its memory back.
void ph_client_output_shed(struct ph_client_output *output);
// Nothing of it will be sent any more: borrowed bytes are given back.
void ph_client_output_drop(struct ph_client_output *output);

// A reply that is awaited. They come in the order in which their commands went.
enum ph_client_expected_kind {
    PH_CLIENT_EXPECT_GREETING,
    PH_CLIENT_EXPECT_EHLO,
    PH_CLIENT_EXPECT_HELO,
    PH_CLIENT_EXPECT_STARTTLS,
    PH_CLIENT_EXPECT_AUTH_PLAIN,
    PH_CLIENT_EXPECT_AUTH_USER,
    PH_CLIENT_EXPECT_AUTH_PASSWORD,
    PH_CLIENT_EXPECT_AUTH_RESULT,
    PH_CLIENT_EXPECT_MAIL,
    PH_CLIENT_EXPECT_RCPT,
    PH_CLIENT_EXPECT_DATA,
    PH_CLIENT_EXPECT_BODY, // the reply to the dot
    PH_CLIENT_EXPECT_BDAT,
    PH_CLIENT_EXPECT_RSET,
    PH_CLIENT_EXPECT_QUIT,
};

struct ph_client_expected {
    enum ph_client_expected_kind kind;
    uint32_t recipient;                        // of RCPT
    struct ph_client_transaction *transaction; // NULL: of none
    uint64_t end_offset;                       // of output: a reply before this went is a lie
};

enum ph_client_phase {
    PH_CLIENT_PHASE_QUEUED,     // its first command waits for another transaction
    PH_CLIENT_PHASE_COMMANDS,   // MAIL, RCPT, DATA; or all of it with BDAT
    PH_CLIENT_PHASE_LAST_REPLY, // the body is in the output
};

enum ph_client_failure {
    PH_CLIENT_FAILURE_NONE,
    PH_CLIENT_FAILURE_MAIL,         // MAIL was refused: what follows of it is refused too
    PH_CLIENT_FAILURE_NOT_ATTEMPTED // the peer had not got over an earlier failure
};

struct ph_client {
    uint64_t session_id;
    struct ph_str hostname;
    bool force_helo;
    bool helo_allowed; // never inside TLS
    enum ph_client_state state;
    struct ph_ehlo ehlo;
    struct ph_reply reply;
    uint64_t reply_count;         // whole ones, so far
    bool reply_whole;             // it was read to its end, and taken
    struct ph_reason *end_reason; // owned; NULL before the end
    struct ph_client_output output;
    struct ph_client_expected *expected; // ring
    uint32_t expected_cap;               // power of two, or 0
    uint32_t expected_first;
    uint32_t expected_count;
    struct ph_client_transaction_list transactions; // outstanding, in order
    struct ph_client_transaction_list done;
    uint32_t outstanding;
    bool bdat_done;   // the peer has completed one in this session
    bool bdat_unsafe; // it mistreated one
    bool need_reset;  // RSET goes before the next MAIL
    bool shallow;     // a failure behind which MAIL was refused: one at a time from now on
    struct ph_buf credentials;
};

// smtp/client
struct ph_client_expected *ph_client_expected_at(struct ph_client *client, uint32_t index);
// A reply to what was put out last is awaited.
void ph_client_expect(struct ph_client *client, enum ph_client_expected_kind kind,
                      struct ph_client_transaction *transaction, uint32_t recipient);
void ph_client_say_ehlo(struct ph_client *client, bool helo);
void ph_client_wipe_credentials(struct ph_client *client);
// The session is over: each transaction that is outstanding gets its outcome.
enum ph_client_event ph_client_end(struct ph_client *client, const struct ph_reason *reason);

// smtp/client_commands
// The next transaction that waits begins when the one before it is far enough.
void ph_client_begin_queued(struct ph_client *client);
void ph_client_say_mail(struct ph_client *client, struct ph_client_transaction *t);
void ph_client_say_rcpt(struct ph_client *client, struct ph_client_transaction *t, uint32_t which);
void ph_client_say_bdat(struct ph_client *client, struct ph_client_transaction *t);
void ph_client_say_data(struct ph_client *client, struct ph_client_transaction *t);

// smtp/client_replies
// The transaction is done: it waits to be fetched.
void ph_client_finish(struct ph_client *client, struct ph_client_transaction *t);
