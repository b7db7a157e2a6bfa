// What the files of the table's scene share: table.c (configuration, names, the scene itself),
// table_play.c (a row's mail, step by step), table_sender.c (its clients), table_peer.c (its
// servers), table_judge.c (what must hold), table_log.c (what the engine says). Nobody else
// includes it.
#pragma once

#include <sys/queue.h>

#include "tests/sim/peer_link.h"
#include "tests/sim/sim.h"
#include "tests/sim/table_rows.h"

#define TABLE_RECIPIENTS_MAX 64 // of a row, over a whole history
#define TABLE_MESSAGE_RECIPIENTS_MAX 2
#define TABLE_HOME "home.test" // where the senders live
#define TABLE_WORD_MAX 48

struct table_play;

enum table_state {
    TABLE_BEGUN, // nobody knows: no final reply was read
    TABLE_REFUSED,
    TABLE_ACKED,
};

struct table_message {
    struct table_play *play;
    enum table_state state;
    bool over;     // its client has gone
    bool replaced; // and another one took its place
    unsigned step; // of the row, whose recipients it has
    uint64_t bytes;
    unsigned first; // of the play's recipients
    unsigned count;
};

// One recipient of one message: what the peers and the log say of it.
struct table_recipient {
    struct table_message *message;
    const char *domain; // as the row writes it
    char a_label[256];
    unsigned nth; // of the row's outcomes
    // Peers.
    unsigned rcpts_clear;
    unsigned rcpts_tls;
    unsigned hosts; // bit by bit
    unsigned accepts;
    bool excused; // came where the row says it waits, and a fault is why
    bool told_failed;
    bool told_delayed;
    uint64_t delayed_ns;
    uint64_t failed_ns;
    // The log.
    unsigned delivered;
    unsigned failed;
    unsigned expired;
    unsigned deferred;
    unsigned attempts;
    uint64_t said_ns; // the last outcome
    char event[TABLE_WORD_MAX];
    char status[TABLE_WORD_MAX];
    char reason[TABLE_WORD_MAX];
    char verified[TABLE_WORD_MAX];
    char revocation[TABLE_WORD_MAX];
    char would[TABLE_WORD_MAX];
    char text[512];
};

enum table_attack {
    TABLE_NO_ATTACK,
    TABLE_STRIPS,   // somebody between the two takes STARTTLS out
    TABLE_IMPOSTOR, // somebody else answers, by the host's names
    TABLE_DENIES,   // 454
    TABLE_CUTS,     // the connection ends behind the 220
};

// A connection, as the server sees it.
struct table_session {
    struct peer_link link; // first
    STAILQ_ENTRY(table_session) entry;
    struct sim_stage *stage;
    struct table_play *play; // NULL: the senders' home
    unsigned host;
    uint64_t began_ns;
    enum table_attack attack;
    bool offered; // STARTTLS was offered
    bool injected;
    bool said_starttls;
    bool said_auth;
    bool auth_in_clear;
    bool ahead; // commands came before the reply to the one before them
    bool said_size;
    char beyond[80]; // the first command other than EHLO, HELO, STARTTLS and QUIT
    unsigned messages;
    char peer_name[TABLE_WORD_MAX]; // of the client's certificate; "none"
    uint64_t peer_serial;
    bool waits_for_hello;
    bool deaf; // reads, and says nothing
    bool in_auth;
    bool in_data;
    struct ph_buf content;
    struct table_recipient *recipients[TABLE_MESSAGE_RECIPIENTS_MAX];
    unsigned recipient_count;
};

// One row in one history.
struct table_play {
    struct sim_stage *stage;
    const struct table_row *row;
    struct table_recipient recipients[TABLE_RECIPIENTS_MAX];
    unsigned recipient_count;
    struct table_message *messages[TABLE_RECIPIENTS_MAX];
    unsigned message_count;
    unsigned step;
    unsigned nth; // of the round's recipients
    unsigned rounds;
    unsigned refusals; // of its clients
    uint64_t at_ns;    // nothing before
    bool waiting;      // for what was sent
    bool done;
    bool mended;          // its hosts have a good certificate now
    const char *reloaded; // "Key=value"; NULL: nothing
    // When its destination's policy was first fetched in this life of the process.
    uint64_t policy_ns;
    unsigned policy_life;
    STAILQ_HEAD(, table_session) sessions;
};

struct sim_stage {
    struct sim *sim;
    const struct table *table;
    struct table_play **plays; // by the row's index; NULL: not in this history
    struct sim_event tick;
    bool plain; // no faults at all: every word of the rows counts
    bool gone;  // our own certificate was taken out of CertificateDir
    uint64_t calm_ns;
};

// What a recipient's domain asks of a session before anything is said on it.
struct table_demand {
    bool tls;
    bool proof; // that the host is who it should be
};

// table_run.c
const struct table *table_now(void);
bool table_chosen(const struct table_row *row);
// table.c
// `only` NULL: of all the stage's rows.
void table_config_text(struct sim_stage *stage, const struct table_row *only, bool caches,
                       struct ph_buf *out);
struct ph_config *table_config(struct sim_stage *stage, struct ph_str text, int64_t now_s,
                               struct ph_buf *errors, struct ph_buf *warnings);
// table_play.c
void table_play_on(struct table_play *play);   // as far as it goes now
void table_play_look(struct table_play *play); // what the log doesn't tell
bool table_play_settled(const struct table_play *play, char *out_why, size_t capacity);
// Hours or days: for a history of its own.
bool table_is_long(const struct table_row *row);
// table_sender.c
void table_send(struct table_message *message);
// table_peer.c
bool table_peer_listens(struct sim_stage *stage, const struct ph_endpoint *at);
void table_peer_accept(struct sim_stage *stage, struct sim_conn *conn,
                       const struct ph_endpoint *at);
// table_log.c
void table_log_line(struct sim_stage *stage, struct ph_str line);
struct table_recipient *table_recipient_of(struct sim_stage *stage, struct ph_str address);
// table_judge.c
struct table_demand table_demand_of(const struct table_row *row, const char *a_label);
struct table_demand
table_demand_of_row(const struct table_row *row); // what all its domains ask for
void table_judge_command(struct table_session *session, struct ph_str line);
void table_judge_recipient(struct table_session *session, struct table_recipient *recipient);
void table_judge_plain(struct table_play *play); // the row's every word
void table_judge_end(struct sim_stage *stage);
void table_judge_lives(struct sim_stage *stage); // rows 108 and 125
// "row 59: …", as a broken promise.
void table_fail(struct table_play *play, const char *format, ...) PH_PRINTF(2, 3);
