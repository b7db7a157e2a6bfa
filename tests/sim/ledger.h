// What clients and peers wrote down, each for itself: nothing in it is the engine's word.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

#define SIM_SITES 5           // destinations; one more is where the senders live
#define SIM_ORIGIN SIM_SITES  // its number
#define SIM_RECIPIENTS_MAX 3  // of a message
#define SIM_MESSAGES_MAX 4096 // of a history
#define SIM_SPOOL_IDS_MAX 8

enum sim_message_state {
    SIM_MESSAGE_BEGUN,   // nobody knows: no final reply was read
    SIM_MESSAGE_REFUSED, // a final reply other than 2xx was read
    SIM_MESSAGE_ACKED,   // 250 was read: it is owed
};

struct sim_recipient {
    unsigned site;
    bool rejected;      // its address asks peers to refuse it for ever
    bool refused;       // a peer has said 5xx to it
    unsigned accepts;   // by peers, at the final dot
    unsigned delivered; // log lines
    unsigned failed;    // log lines
    bool failed_marked; // one of them with ambiguous_resend: it was tried again
    unsigned notified;  // notifications of failure that arrived at the sender's
};

struct sim_message {
    unsigned id;
    uint32_t bytes; // of its content, as the client sends it
    enum sim_message_state state;
    unsigned recipient_count;
    struct sim_recipient recipients[SIM_RECIPIENTS_MAX];
    bool damaged;  // some of its bytes, or of its notification's, were changed on the disk
    bool reported; // the log says so
    char spool_ids[SIM_SPOOL_IDS_MAX][24]; // in the log: its own, and its notifications'
    unsigned spool_id_count;
    bool in_doubt;                 // since an end of the process
    bool logged_accepted;          // the log says it is ours
    unsigned marked_notifications; // log lines of its notifications with ambiguous_resend
};

// A peer took a message: one record a recipient, numbered from 1.
struct sim_accept {
    unsigned message;
    unsigned recipient; // SIM_RECIPIENTS_MAX: a notification
    bool first;         // of this message to this recipient
    bool logged;
};

// The engine gave a peer the whole of a message: until it has read the answer nobody can know what
// became of it, and never if it doesn't.
struct sim_whole {
    unsigned message;
    unsigned recipient;
    const struct sim_conn *conn;
    uint64_t answered_at; // bytes that the engine must have read of `conn`; UINT64_MAX: no answer
};

struct sim_ledger {
    struct sim_message *messages; // [SIM_MESSAGES_MAX + 1], from 1
    unsigned message_count;
    unsigned acked;
    struct sim_accept *accepts; // from 1
    unsigned accept_count;
    unsigned accept_capacity;
    struct sim_whole *wholes;
    size_t whole_count;
    size_t whole_capacity;
    uint64_t log_lines;
    uint64_t ambiguous_lines;
};

struct sim;
struct sim_conn;

void sim_ledger_init(struct sim_ledger *ledger);
struct sim_message *sim_ledger_begin(struct sim *sim);
struct sim_message *sim_ledger_message(struct sim *sim, unsigned id); // NULL: there is none
// Taken by a peer: the accept's number, which it says in its reply.
unsigned sim_ledger_accept(struct sim *sim, unsigned id, unsigned recipient);
// Given whole: its place in `wholes`, for the answer.
size_t sim_ledger_whole(struct sim *sim, unsigned id, unsigned recipient,
                        const struct sim_conn *conn);
// Its process ended, or what it had written down was damaged: it can't know what it did with any.
void sim_ledger_doubt_all(struct sim *sim);
// May it be that it was delivered, for all that the engine can know?
bool sim_ledger_doubtful(const struct sim *sim, unsigned id, unsigned recipient);
// "m12.1@site3.example" → 12, 1. False: it isn't one of ours.
PH_MUST_CHECK bool sim_address_parse(struct ph_str address, unsigned *out_id,
                                     unsigned *out_recipient);
void sim_address_format(const struct sim_message *message, unsigned recipient, struct ph_buf *out);
// "s12@origin.example" → 12.
PH_MUST_CHECK bool sim_sender_parse(struct ph_str address, unsigned *out_id);
// The content: a header that names the id, and a body that only this id has.
void sim_message_text(const struct sim_message *message, struct ph_buf *out);
