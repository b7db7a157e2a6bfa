// The rows' servers: scripts by the words of the table, and what may befall them beside.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/table_parts.h"
#include "tests/sim/table_pki.h"

#include <openssl/asn1.h>
#include <openssl/nid.h>
#include <openssl/x509.h>

#define CONTENT_BYTES_MAX ((size_t)32 << 20)
#define REPLY_NS (5 * PH_NS_PER_MS)
#define SLOW_REPLY_NS (20 * 1000 * PH_NS_PER_MS)

static void converse(struct peer_link *link);

static bool chance(const struct table_session *s, enum sim_option option, unsigned permille)
{
    return sim_fault(s->link.sim, option, permille);
}

static const struct table_host *host_of(const struct table_session *s)
{
    return s->play != NULL ? &s->play->row->hosts[s->host] : NULL;
}

// What the script says of `key`; NULL: nothing.
static const char *script(const struct table_session *s, const char *key)
{
    return s->play != NULL ? table_word(&host_of(s)->words, key) : NULL;
}

static bool script_is(const struct table_session *s, const char *key, const char *value)
{
    const char *word = script(s, key);

    return word != NULL && strcmp(word, value) == 0;
}

// --- who listens ---

// 198.18.ROW.HOST; behind the last row the senders' home.
static bool find(struct sim_stage *stage, const struct ph_endpoint *at, struct table_play **out,
                 unsigned *out_host)
{
    unsigned row = at->bytes[2];
    unsigned host = at->bytes[3];
    bool ours = at->family == PH_FAMILY_IPV4 && at->port == SIM_SMTP_PORT && at->bytes[0] == 198 &&
                at->bytes[1] == 18 && host > 0;

    *out = NULL;
    *out_host = host - 1;
    if (!ours || row == 255) {
        return ours;
    }
    *out = row < stage->table->row_count ? stage->plays[row] : NULL;
    return *out != NULL && host <= (*out)->row->host_count &&
           table_word(&(*out)->row->hosts[host - 1].words, "refuse") == NULL;
}

bool table_peer_listens(struct sim_stage *stage, const struct ph_endpoint *at)
{
    struct table_play *play;
    unsigned host;

    return find(stage, at, &play, &host);
}

static void choose_attack(struct table_session *s)
{
    if (s->play != NULL && chance(s, SIM_tls_trouble, 200)) {
        bool demands = table_demand_of_row(s->play->row).tls;

        // Where nothing is demanded, what is taken away is rightly done without.
        s->attack = (enum table_attack)sim_between(
            &s->link.sim->random, demands ? TABLE_STRIPS : TABLE_DENIES, TABLE_CUTS);
    }
}

void table_peer_accept(struct sim_stage *stage, struct sim_conn *conn, const struct ph_endpoint *at)
{
    struct table_session *s = ph_alloc(sizeof(*s));

    (void)find(stage, at, &s->play, &s->host);
    s->stage = stage;
    s->began_ns = stage->sim->clock.now_ns;
    peer_link_init(&s->link, stage->sim, conn, converse);
    s->link.gentle = stage->plain || stage->sim->calm;
    s->link.reply_ns = chance(s, SIM_slow_peers, 300) ? SLOW_REPLY_NS : REPLY_NS;
    snprintf(s->peer_name, sizeof(s->peer_name), "none");
    ph_buf_init(&s->content, CONTENT_BYTES_MAX);
    choose_attack(s);
    if (s->play != NULL) {
        STAILQ_INSERT_TAIL(&s->play->sessions, s, entry);
        stage->sim->report.connections++;
        stage->sim->report.attacked += s->attack != TABLE_NO_ATTACK;
    }
    if (chance(s, SIM_temporary, 40)) {
        peer_say(&s->link, "%s\r\n",
                 sim_chance(&stage->sim->random, 500) ? "421 4.3.2 not now" : "451 no");
        peer_hang_up(&s->link);
    } else {
        peer_say(&s->link, "220 host ESMTP\r\n");
    }
}

// --- EHLO ---

static bool refuses_ehlo(struct table_session *s)
{
    const char *answer = script(s, "ehlo");

    if (answer == NULL || answer[0] < '0' || answer[0] > '9') {
        return false;
    }
    peer_say(&s->link, "%s %s\r\n", answer,
             answer[0] == '5' ? "5.5.1 not implemented" : "4.3.2 later");
    if (strcmp(answer, "421") == 0) {
        peer_hang_up(&s->link);
    }
    return true;
}

static void take_ehlo(struct table_session *s)
{
    bool bare = s->link.encrypted && script_is(s, "ehlo", "bare-second");
    bool offers =
        !s->link.encrypted && !script_is(s, "starttls", "none") && s->attack != TABLE_STRIPS;
    bool in_front = offers && script_is(s, "starttls", "first-line");
    struct ph_buf out = {0};

    if (refuses_ehlo(s)) {
        return;
    }
    s->offered |= offers && !in_front;
    ph_buf_printf(&out, "250-%s\r\n250-8BITMIME\r\n", in_front ? "STARTTLS" : "host");
    if (!bare) {
        ph_buf_append(&out, PH_STR("250-SMTPUTF8\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n"));
        if (script(s, "auth") != NULL) {
            ph_buf_append(&out, PH_STR("250-AUTH PLAIN\r\n"));
        }
        if (offers && !in_front) {
            ph_buf_printf(&out, "250-%s\r\n",
                          script_is(s, "starttls", "lower-case") ? "starttls" : "STARTTLS");
        }
    }
    ph_buf_append(&out, PH_STR("250 X-LAST\r\n"));
    peer_say_bytes(&s->link, ph_buf_str(&out));
    ph_buf_deinit(&out);
}

// --- STARTTLS ---

static SSL_CTX *context_of(const struct table_session *s)
{
    const struct table_identity *identity;

    if (s->play == NULL) {
        return table_pki_home();
    }
    identity = table_pki_identity(s->play->row, s->host);
    return s->attack == TABLE_IMPOSTOR ? identity->impostor
           : s->play->mended           ? identity->mended
                                       : identity->own;
}

static void take_starttls(struct table_session *s)
{
    const char *how = script(s, "starttls");

    s->said_starttls = true;
    how = how != NULL ? how : "good";
    if (s->link.encrypted || s->attack == TABLE_STRIPS || strcmp(how, "none") == 0) {
        peer_say(&s->link, "502 5.5.1 no\r\n");
    } else if (s->attack == TABLE_DENIES) {
        peer_say(&s->link, "454 4.7.0 not now\r\n");
    } else if (how[0] >= '0' && how[0] <= '9') {
        peer_say(&s->link, "%s %c.7.0 no TLS now\r\n", how, how[0]);
    } else if (strcmp(how, "inject") == 0) {
        s->injected = true;
        s->deaf = true;
        peer_say(&s->link, "220 2.0.0 go\r\n250 2.0.0 injected\r\n");
    } else {
        peer_say(&s->link, strcmp(how, "lower-case") == 0 ? "220-2.0.0 go\r\n220 2.0.0 ahead\r\n"
                                                          : "220 2.0.0 go\r\n");
        if (strcmp(how, "close") == 0 || s->attack == TABLE_CUTS) {
            peer_hang_up(&s->link);
        } else if (strcmp(how, "stall") == 0) {
            s->deaf = true;
        } else if (strcmp(how, "alert") == 0) {
            s->waits_for_hello = true;
        } else {
            peer_begin_tls(&s->link, context_of(s));
        }
    }
}

// handshake_failure to whatever came.
static void answer_hello(struct table_session *s)
{
    static const char alert[] = {0x15, 3, 1, 0, 2, 2, 40};

    if (s->link.in.len > 0) {
        s->waits_for_hello = false;
        s->deaf = true;
        peer_say_bytes(&s->link, (struct ph_str){.data = alert, .len = sizeof(alert)});
    }
}

static void note_client_certificate(struct table_session *s)
{
    X509 *peer = s->link.encrypted ? SSL_get_peer_certificate(s->link.ssl) : NULL;

    if (peer != NULL) {
        X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, s->peer_name,
                                  sizeof(s->peer_name));
        PH_CHECK(ASN1_INTEGER_get_uint64(&s->peer_serial, X509_get0_serialNumber(peer)) == 1);
        X509_free(peer);
    }
}

// --- messages ---

static void reset_transaction(struct table_session *s)
{
    s->recipient_count = 0;
    ph_buf_clear(&s->content);
}

static void take_mail(struct table_session *s, struct ph_str line)
{
    reset_transaction(s);
    s->said_size |= ph_str_find(line, PH_STR("SIZE=")) >= 0;
    if (chance(s, SIM_shutting_down, 15)) {
        peer_say(&s->link, "421 4.7.0 that is enough\r\n");
        peer_hang_up(&s->link);
    } else if (chance(s, SIM_temporary, 30)) {
        peer_say(&s->link, "450 4.2.0 not now\r\n");
    } else {
        peer_say(&s->link, "250 2.1.0 ok\r\n");
    }
}

static void take_rcpt(struct table_session *s, struct ph_str line)
{
    ptrdiff_t from = ph_str_find_char(line, '<');
    ptrdiff_t to = ph_str_rfind_char(line, '>');
    struct ph_str address =
        from >= 0 && to > from
            ? ph_str_first(ph_str_after(line, (size_t)from + 1), (size_t)(to - from) - 1)
            : PH_STR_NONE;
    struct table_recipient *recipient =
        s->play != NULL ? table_recipient_of(s->stage, address) : NULL;

    if (s->play != NULL && (recipient == NULL || recipient->message->play != s->play)) {
        table_fail(s->play, "a recipient that nobody wrote to: %.*s", PH_STR_ARG(line));
        return;
    }
    if (recipient != NULL) {
        table_judge_recipient(s, recipient);
    }
    if (script(s, "rcpt") != NULL) {
        peer_say(&s->link, "%s 5.1.1 no such user\r\n", script(s, "rcpt"));
    } else if (chance(s, SIM_temporary, 40)) {
        peer_say(&s->link, "450 4.2.1 busy\r\n");
    } else {
        if (recipient != NULL) {
            PH_CHECK(s->recipient_count < TABLE_MESSAGE_RECIPIENTS_MAX);
            s->recipients[s->recipient_count++] = recipient;
        }
        peer_say(&s->link, "250 2.1.5 ok\r\n");
    }
}

static void take_data(struct table_session *s)
{
    s->in_data = s->play == NULL || s->recipient_count > 0;
    peer_say(&s->link, s->in_data ? "354 go\r\n" : "554 5.5.1 no valid recipients\r\n");
}

// A notification: of whom does it tell, and what?
static void read_notification(struct table_session *s)
{
    struct ph_str rest = ph_buf_str(&s->content);
    bool failed = ph_str_find(rest, PH_STR("Action: failed")) >= 0;
    struct ph_str line;

    while (ph_str_cut_line(&rest, &line)) {
        ptrdiff_t at = ph_str_find(line, PH_STR(";"));
        struct table_recipient *r;

        if (!ph_str_starts_nocase(line, PH_STR("Final-Recipient:")) || at < 0) {
            continue;
        }
        r = table_recipient_of(s->stage, ph_str_trim(ph_str_after(line, (size_t)at + 1)));
        if (r != NULL && failed) {
            r->told_failed = true;
            r->failed_ns = s->stage->sim->clock.now_ns;
        } else if (r != NULL) {
            r->told_delayed = true;
            r->delayed_ns = s->stage->sim->clock.now_ns;
        }
    }
}

static void accept_message(struct table_session *s)
{
    s->messages++;
    for (unsigned i = 0; i < s->recipient_count; i++) {
        s->recipients[i]->accepts++;
    }
    if (s->play == NULL) {
        read_notification(s);
    }
}

static void message_over(struct table_session *s)
{
    if (chance(s, SIM_lost_replies, 60)) {
        if (sim_chance(&s->link.sim->random, 600)) {
            accept_message(s);
        }
        peer_break(&s->link);
    } else if (chance(s, SIM_temporary, 60)) {
        peer_say(&s->link, "451 4.3.0 later\r\n");
    } else if (chance(s, SIM_shutting_down, 25)) {
        peer_say(&s->link, "421 4.3.2 going down\r\n");
        peer_hang_up(&s->link);
    } else {
        accept_message(s);
        peer_say(&s->link, "250 2.0.0 taken\r\n");
    }
    reset_transaction(s);
}

// False: the end hasn't come yet.
static bool take_content(struct table_session *s)
{
    struct ph_str rest = ph_buf_str(&s->link.in);
    size_t before = rest.len;
    struct ph_str line;
    bool over = false;

    while (!over && ph_str_cut_line(&rest, &line)) {
        over = ph_str_eq(line, PH_STR("."));
        if (!over && s->play == NULL) {
            ph_buf_append(&s->content, line);
            ph_buf_append(&s->content, PH_STR("\r\n"));
        }
    }
    ph_buf_consume(&s->link.in, before - rest.len);
    if (over) {
        s->in_data = false;
        message_over(s);
    }
    return over;
}

// --- the conversation ---

static void take_command(struct table_session *s, struct ph_str line)
{
    if (ph_str_starts_nocase(line, PH_STR("QUIT")) ||
        (s->messages > 0 && script(s, "single") != NULL)) {
        peer_say(&s->link, "221 2.0.0 bye\r\n");
        peer_hang_up(&s->link);
    } else if (ph_str_starts_nocase(line, PH_STR("EHLO"))) {
        take_ehlo(s);
    } else if (ph_str_starts_nocase(line, PH_STR("HELO"))) {
        peer_say(&s->link, "250 host\r\n");
    } else if (ph_str_starts_nocase(line, PH_STR("STARTTLS"))) {
        take_starttls(s);
    } else if (ph_str_starts_nocase(line, PH_STR("AUTH"))) {
        s->in_auth = true;
        peer_say(&s->link, "334 \r\n");
    } else if (ph_str_starts_nocase(line, PH_STR("MAIL"))) {
        take_mail(s, line);
    } else if (ph_str_starts_nocase(line, PH_STR("RCPT"))) {
        take_rcpt(s, line);
    } else if (ph_str_starts_nocase(line, PH_STR("DATA"))) {
        take_data(s);
    } else {
        peer_say(&s->link, "250 2.0.0 ok\r\n");
    }
}

static bool take_line(struct table_session *s)
{
    struct ph_str rest = ph_buf_str(&s->link.in);
    size_t before = rest.len;
    struct ph_str line;
    char copy[1024];

    if (!ph_str_cut_line(&rest, &line)) {
        return false;
    }
    line.len = ph_str_copy(copy, sizeof(copy), line);
    line.data = copy;
    ph_buf_consume(&s->link.in, before - rest.len);
    s->ahead |= s->link.in.len > 0;
    if (s->in_auth) {
        s->in_auth = false;
        peer_say(&s->link, "235 2.7.0 ok\r\n");
        return true;
    }
    if (s->play != NULL) {
        table_judge_command(s, line);
    }
    take_command(s, line);
    return true;
}

static void converse(struct peer_link *link)
{
    struct table_session *s = PH_CONTAINER_OF(link, struct table_session, link);
    bool more = true;

    note_client_certificate(s);
    while (more && !link->over && !link->ending && !link->handshaking) {
        if (s->waits_for_hello) {
            answer_hello(s);
        }
        if (s->deaf) {
            ph_buf_clear(&link->in);
            more = false;
        } else if (s->waits_for_hello) {
            more = false;
        } else {
            more = s->in_data ? take_content(s) : take_line(s);
        }
    }
}
