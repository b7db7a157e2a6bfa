// What must hold of each row: at any time, whatever befalls it; without faults to the letter; and
// in the end, when faults are over.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/table_parts.h"
#include "tests/sim/table_pki.h"

#define ROUTE_NS_MAX (10 * 60 * 1000 * PH_NS_PER_MS) // twice the zone's TTL

void table_fail(struct table_play *play, const char *format, ...)
{
    char text[SIM_FAILURE_BYTES_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    sim_fail(play->stage->sim, "row %s: %s", play->row->name, text);
}

// --- what the row demands ---

// Does `"contoso.com", "*.example.org"` name the domain?
static bool spaces_name(const char *spaces, const char *a_label)
{
    struct ph_str rest = ph_str_from(spaces);
    struct ph_str word;
    bool found = false;

    while (ph_str_cut(&rest, '"', &word)) {
        bool below = ph_str_starts(word, PH_STR("*."));
        struct ph_str domain = ph_str_after(word, below ? 2 : 0);
        struct ph_str wanted = ph_str_from(a_label);

        found |= ph_str_eq_nocase(domain, wanted) ||
                 (below && wanted.len > domain.len && ph_str_ends_nocase(wanted, domain) &&
                  wanted.data[wanted.len - domain.len - 1] == '.');
    }
    return found;
}

static const struct table_connector *connector_for(const struct table_row *row, const char *a_label)
{
    for (unsigned i = 0; i < row->connector_count; i++) {
        const char *spaces = table_word(&row->connectors[i].keys, "AddressSpaces");

        if (spaces == NULL || spaces_name(spaces, a_label)) {
            return &row->connectors[i];
        }
    }
    return NULL; // the one for everything else
}

static bool publishes_enforced(const struct table_row *row)
{
    const char *sts = table_word(&row->hosts[0].words, "sts");

    return sts != NULL && strncmp(sts, "enforce", 7) == 0;
}

struct table_demand table_demand_of(const struct table_row *row, const char *a_label)
{
    const struct table_connector *c = connector_for(row, a_label);
    struct table_demand demand = {.tls = publishes_enforced(row), .proof = publishes_enforced(row)};
    const char *level = c != NULL ? table_word(&c->keys, "TlsAuthLevel") : NULL;

    for (unsigned i = 0; i < row->host_count; i++) {
        const char *tlsa = table_word(&row->hosts[i].words, "tlsa");

        demand.tls |= tlsa != NULL;
        demand.proof |= tlsa != NULL && tlsa[0] != '0' && tlsa[0] != '1';
    }
    if (c != NULL && !table_word_is(&c->keys, "Mode", "report")) {
        bool secure = table_word_is(&c->keys, "DomainSecureEnabled", "true") && c->listed != NULL &&
                      strcmp(c->listed, a_label) == 0;
        bool credentials = table_word_is(&c->keys, "SmartHostAuthMechanism", "BasicAuthRequireTLS");
        bool judged = level != NULL && strcmp(level, "EncryptionOnly") != 0;

        demand.tls |= table_word_is(&c->keys, "RequireTLS", "true") || secure || credentials;
        demand.proof |= judged || secure || credentials;
    }
    return demand;
}

struct table_demand table_demand_of_row(const struct table_row *row)
{
    struct table_demand all = {.tls = true, .proof = true};

    for (unsigned i = 0; i < row->domain_count; i++) {
        struct table_demand one = table_demand_of(row, row->domains[i]);

        all.tls &= one.tls;
        all.proof &= one.proof;
    }
    return all;
}

// --- at any time ---

// Is what the row forbids come about by a fault, as the row's own rules have it?
static bool excused(const struct table_session *s)
{
    const struct sim *sim = s->stage->sim;
    const struct table_row *row = s->play->row;
    bool injects = table_word_is(&row->hosts[s->host].words, "starttls", "inject");

    // A policy that was never found out doesn't bind (RFC 8461 §5), nor before a route that was
    // made without it is made anew.
    if (table_word(&row->hosts[0].words, "sts") != NULL) {
        bool known =
            s->play->policy_life == sim->life && s->began_ns > s->play->policy_ns + ROUTE_NS_MAX;

        return sim->options.on[SIM_dns_trouble] && !known;
    }
    // Injected bytes that come late, or never, are a handshake that broke, and row 6 tells what
    // follows: but for a connector that demands TLS.
    return injects && !s->injected && !s->stage->plain && !table_demand_of_row(row).tls;
}

// Nothing of a message reaches the peers of such a row.
static bool is_silent(const struct table_row *row)
{
    bool silent = true;

    for (unsigned i = 0; i < row->outcome_count; i++) {
        const struct table_outcome *o = &row->outcomes[i];

        silent &= o->kind == TABLE_DEFER ||
                  (o->kind == TABLE_NDR && strcmp(o->reason, "rcpt-rejected") != 0);
    }
    return silent;
}

static const char *short_of(const struct table_session *s, struct table_demand demand)
{
    if (s->injected) {
        return "behind bytes injected after STARTTLS";
    }
    if (demand.tls && !s->link.encrypted) {
        return "in the clear";
    }
    return demand.proof && s->attack == TABLE_IMPOSTOR ? "to an impostor" : NULL;
}

void table_judge_recipient(struct table_session *s, struct table_recipient *r)
{
    const struct table_outcome *outcome = table_outcome_of(s->play->row, r->nth);
    const char *what = short_of(s, table_demand_of(s->play->row, r->a_label));
    bool mended = s->play->mended && s->link.encrypted;

    r->rcpts_clear += !s->link.encrypted;
    r->rcpts_tls += s->link.encrypted;
    r->hosts |= 1U << s->host;
    if (outcome->kind == TABLE_DEFER && !mended && what == NULL) {
        what = s->link.encrypted ? "in TLS, and should wait" : "in the clear, and should wait";
    }
    if (what != NULL && excused(s)) {
        r->excused = true;
    } else if (what != NULL) {
        table_fail(s->play, "uncleared: RCPT for recipient %u came %s, connection %u", r->nth, what,
                   sim_conn_number(s->link.conn));
    }
}

static bool is_of_a_message(struct ph_str line)
{
    static const char *const verbs[] = {"MAIL", "RCPT", "DATA", "BDAT", "AUTH"};
    bool found = false;

    for (size_t i = 0; i < PH_ARRAY_LEN(verbs); i++) {
        found |= ph_str_starts_nocase(line, ph_str_from(verbs[i]));
    }
    return found;
}

static void note_command(struct table_session *s, struct ph_str line)
{
    static const char *const harmless[] = {"EHLO", "HELO", "STARTTLS", "QUIT"};
    bool known = false;

    for (size_t i = 0; i < PH_ARRAY_LEN(harmless); i++) {
        known |= ph_str_starts_nocase(line, ph_str_from(harmless[i]));
    }
    if (!known && s->beyond[0] == '\0') {
        ph_str_copy(s->beyond, sizeof(s->beyond), line);
    }
    if (ph_str_starts_nocase(line, PH_STR("AUTH"))) {
        s->said_auth = true;
        s->auth_in_clear |= !s->link.encrypted;
    }
}

void table_judge_command(struct table_session *s, struct ph_str line)
{
    const struct table_row *row = s->play->row;
    struct table_demand demand = table_demand_of_row(row);
    bool auth = ph_str_starts_nocase(line, PH_STR("AUTH"));
    const char *broken = NULL;

    note_command(s, line);
    if (!is_of_a_message(line)) {
        return;
    }
    if (is_silent(row) && !s->play->mended) {
        broken = s->link.encrypted ? "in TLS, on a session it forbids" : "in the clear";
    } else if (auth && table_word(&row->outcomes[0].also, "auth") == NULL) {
        broken = "and nobody asked for it";
    } else if (auth && !s->link.encrypted && row->outcomes[0].kind != TABLE_PLAIN) {
        broken = "in the clear";
    } else {
        broken = short_of(s, demand);
    }
    if (broken == NULL && demand.tls && s->offered && !s->said_starttls) {
        broken = "on a connection without STARTTLS";
    }
    if (broken != NULL && !excused(s)) {
        table_fail(s->play, "uncleared: %.*s came %s, host %u, connection %u%s",
                   (int)(line.len < 40 ? line.len : 40), line.data, broken, s->host + 1,
                   sim_conn_number(s->link.conn),
                   s->attack != TABLE_NO_ATTACK ? ", under attack" : "");
    }
}

// --- without faults ---

static unsigned count_sessions(const struct table_play *play, int host)
{
    const struct table_session *s;
    unsigned count = 0;

    STAILQ_FOREACH(s, &play->sessions, entry)
    {
        count += host < 0 || s->host == (unsigned)host;
    }
    return count;
}

static void judge_delivered(struct table_play *play, const struct table_recipient *r,
                            const struct table_outcome *wanted)
{
    const char *via = table_word(&wanted->also, "via");
    unsigned host = via != NULL ? (unsigned)strtoul(via, NULL, 10) : 1;
    bool tls = wanted->kind == TABLE_TLS;

    if (strcmp(r->event, "delivered") != 0) {
        table_fail(play, "recipient %u: %s %s %s: %s", r->nth, r->event, r->status, r->reason,
                   r->text);
    } else if (r->accepts != 1 || (tls ? r->rcpts_tls : r->rcpts_clear) == 0 ||
               (tls ? r->rcpts_clear : r->rcpts_tls) > 0) {
        table_fail(play, "recipient %u: taken %u times, RCPT %u times in TLS, %u in the clear",
                   r->nth, r->accepts, r->rcpts_tls, r->rcpts_clear);
    } else if (r->hosts != 1U << (host - 1)) {
        table_fail(play, "recipient %u went to hosts %x", r->nth, r->hosts);
    }
}

static void judge_refused(struct table_play *play, const struct table_recipient *r,
                          const struct table_outcome *wanted)
{
    const char *event = wanted->kind == TABLE_DEFER ? "deferred" : "failed";
    const char *text = table_word(&wanted->also, "text");

    if (strcmp(r->event, event) != 0 || strcmp(r->status, wanted->status) != 0 ||
        strcmp(r->reason, wanted->reason) != 0) {
        table_fail(play, "recipient %u: %s %s %s: %s", r->nth, r->event, r->status, r->reason,
                   r->text);
    } else if (text != NULL && strstr(r->text, text) == NULL) {
        table_fail(play, "the sentence lacks \"%s\": %s", text, r->text);
    }
}

static void judge_words(struct table_play *play, const struct table_recipient *r,
                        const struct table_outcome *wanted)
{
    const struct {
        const char *key;
        const char *found;
    } words[] = {{"verified", r->verified}, {"revocation", r->revocation}, {"would", r->would}};
    const char *attempts = table_word(&wanted->also, "attempts");

    for (size_t i = 0; i < PH_ARRAY_LEN(words); i++) {
        const char *expected = table_word(&wanted->also, words[i].key);

        if (expected != NULL && strcmp(expected, words[i].found) != 0) {
            table_fail(play, "%s is %s", words[i].key, words[i].found);
        }
    }
    if (attempts != NULL && r->attempts != strtoul(attempts, NULL, 10)) {
        table_fail(play, "%u attempts are logged", r->attempts);
    }
}

// `also` of any of the row's outcomes.
static const char *row_word(const struct table_row *row, const char *key)
{
    const char *found = NULL;

    for (unsigned i = 0; found == NULL && i < row->outcome_count; i++) {
        found = table_word(&row->outcomes[i].also, key);
    }
    return found;
}

static void judge_connections(struct table_play *play)
{
    const struct table_row *row = play->row;
    const char *wanted = row_word(row, "connections");

    if (wanted != NULL && count_sessions(play, -1) != strtoul(wanted, NULL, 10)) {
        table_fail(play, "%u connections", count_sessions(play, -1));
    }
    // One attempt: each address once.
    for (unsigned h = 0; wanted == NULL && h < row->host_count; h++) {
        if (row->outcomes[0].kind == TABLE_DEFER && play->recipient_count == 1 &&
            count_sessions(play, (int)h) > 1) {
            table_fail(play, "%u connections to host %u", count_sessions(play, (int)h), h + 1);
        }
    }
}

static void judge_session(struct table_play *play, const struct table_session *s)
{
    const struct table_row *row = play->row;
    const char *client = row_word(row, "client");

    if (is_silent(row) && !play->mended && s->beyond[0] != '\0') {
        table_fail(play, "said to host %u: %s", s->host + 1, s->beyond);
    } else if (is_silent(row) && s->offered && !s->said_starttls) {
        table_fail(play, "a connection without STARTTLS to host %u", s->host + 1);
    } else if (row_word(row, "sequential") != NULL && (s->ahead || s->said_size)) {
        table_fail(play, "extensions of the EHLO before TLS were used");
    } else if (client != NULL && s->messages > 0 && strcmp(client, s->peer_name) != 0) {
        table_fail(play, "the client's certificate is %s", s->peer_name);
    } else if (row_word(row, "certificate") != NULL && s->messages > 0 &&
               s->peer_serial != table_pki_newest_serial()) {
        table_fail(play, "another client certificate was sent");
    }
}

void table_judge_plain(struct table_play *play)
{
    const struct table_session *s;
    bool auth = false;

    for (unsigned i = 0; i < play->recipient_count; i++) {
        const struct table_recipient *r = &play->recipients[i];
        const struct table_outcome *wanted = table_outcome_of(play->row, r->nth);

        if (wanted->kind == TABLE_TLS || wanted->kind == TABLE_PLAIN) {
            judge_delivered(play, r, wanted);
        } else {
            judge_refused(play, r, wanted);
        }
        judge_words(play, r, wanted);
    }
    STAILQ_FOREACH(s, &play->sessions, entry)
    {
        auth |= s->said_auth;
        judge_session(play, s);
    }
    judge_connections(play);
    if (auth != (row_word(play->row, "auth") != NULL)) {
        table_fail(play, auth ? "AUTH was said" : "no AUTH");
    }
}

// --- in the end ---

static void check_recipient(struct table_play *play, const struct table_recipient *r)
{
    const struct table_outcome *outcome = table_outcome_of(play->row, r->nth);
    bool delivers = outcome->kind == TABLE_TLS || outcome->kind == TABLE_PLAIN;

    if (r->message->state == TABLE_REFUSED && r->accepts > 0) {
        table_fail(play, "recipient %u was refused to its client, and delivered", r->nth);
    }
    if (r->message->state != TABLE_ACKED) {
        return;
    }
    if (delivers && r->accepts == 0) {
        table_fail(play, "lost: recipient %u was acknowledged and came nowhere", r->nth);
    } else if (outcome->kind == TABLE_NDR && !r->told_failed &&
               !table_has_step(play->row, "life")) {
        table_fail(play, "recipient %u failed and its sender was never told", r->nth);
    }
}

void table_judge_end(struct sim_stage *stage)
{
    for (unsigned i = 0; i < stage->table->row_count; i++) {
        struct table_play *play = stage->plays[i];

        for (unsigned r = 0; play != NULL && r < play->recipient_count; r++) {
            check_recipient(play, &play->recipients[r]);
        }
    }
}
