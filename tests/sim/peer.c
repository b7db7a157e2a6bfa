// The receivers' side of SMTP, in good and bad moods. It holds the engine to the policy of its
// site: what comes without the proof that the site demands is a promise broken, whatever the engine
// says.
#include "tests/sim/peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/peer_parts.h"

#define CONTENT_BYTES_MAX ((size_t)4 << 20)

// What each site demands (its SendConnector), and what its own sessions must have shown before
// MAIL.
enum demand {
    DEMAND_NOTHING,
    DEMAND_TLS,   // RequireTLS
    DEMAND_CHAIN, // CertificateValidation
    DEMAND_NAME,  // DomainValidation
};
static const enum demand demands[SIM_SITES + 1] = {DEMAND_NAME,  DEMAND_NOTHING, DEMAND_TLS,
                                                   DEMAND_CHAIN, DEMAND_NOTHING, DEMAND_NOTHING};

// Two domains at one provider: sessions opened for the one may carry mail for the other, as far as
// they prove enough for it.
static unsigned provider_of(unsigned site)
{
    return site == 1 ? 0 : site;
}

static void converse(struct peer_link *link);

static bool chance(struct peer_session *s, enum sim_option option, unsigned permille)
{
    return sim_fault(s->link.sim, option, permille);
}

struct sim_peers *sim_peers_create(struct sim *sim)
{
    struct sim_peers *peers = ph_alloc(sizeof(*peers));

    peers->sim = sim;
    for (unsigned site = 0; site <= SIM_SITES; site++) {
        for (unsigned number = 0; number < SIM_HOSTS; number++) {
            struct sim_host *host = &peers->hosts[site][number];

            host->site = site;
            host->number = number;
            host->at = (struct ph_endpoint){
                .family = PH_FAMILY_IPV4,
                .port = SIM_SMTP_PORT,
                .bytes = {198, 51, 100, (uint8_t)(site * SIM_HOSTS + number + 1)}};
            sim_host_name(site, number, host->name);
        }
    }
    return peers;
}

static const struct sim_host *find(const struct sim_peers *peers, const struct ph_endpoint *at)
{
    unsigned index = at->bytes[3] - 1u;

    return at->family == PH_FAMILY_IPV4 && at->port == SIM_SMTP_PORT && at->bytes[0] == 198 &&
                   index < (SIM_SITES + 1) * SIM_HOSTS
               ? &peers->hosts[index / SIM_HOSTS][index % SIM_HOSTS]
               : NULL;
}

bool sim_peers_listen(struct sim_peers *peers, const struct ph_endpoint *at)
{
    return find(peers, at) != NULL;
}

void sim_peers_zone(struct ph_buf *out)
{
    for (unsigned site = 0; site <= SIM_SITES; site++) {
        for (unsigned number = 0; number < SIM_HOSTS; number++) {
            char own[64];
            char name[64];

            sim_host_name(site, number, own);
            sim_host_name(provider_of(site), number, name);
            // Equal preferences at some sites, an order at others.
            ph_buf_printf(out, "%s. MX %u %s.\n%s. A 198.51.100.%u\n", strchr(own, '.') + 1,
                          10 + number * (provider_of(site) % 2), name, own,
                          site * SIM_HOSTS + number + 1);
        }
    }
}

void sim_peers_connectors(struct ph_buf *out)
{
    static const char *const levels[] = {
        [DEMAND_TLS] = "",
        [DEMAND_CHAIN] = "TlsAuthLevel = CertificateValidation",
        [DEMAND_NAME] = "TlsAuthLevel = DomainValidation  TlsDomain = {\"*.site0.example\"}",
    };

    ph_buf_append(out, PH_STR("SendConnector \"any\" { AddressSpaces = {\"*\"}\n"
                              "TlsTrustAnchors = {\"/root.pem\"} }\n"));
    for (unsigned site = 0; site < SIM_SITES; site++) {
        if (demands[site] != DEMAND_NOTHING) {
            ph_buf_printf(out,
                          "SendConnector \"site%u\" { AddressSpaces = {\"site%u.example\"}\n"
                          "RequireTLS = true\nTlsTrustAnchors = {\"/root.pem\"}\n%s\n%s}\n",
                          site, site, levels[demands[site]],
                          demands[site] == DEMAND_TLS ? "" : "RevocationCrls = {\"/crl.pem\"}\n");
        }
    }
}

static void choose_mood(struct peer_session *s)
{
    struct sim *sim = s->link.sim;
    bool good_only = sim->calm;

    s->certificate = PH_PKI_GOOD;
    s->offers_starttls = s->host->site != SIM_SITES - 1;
    s->pipelining = true;
    s->chunking = true;
    s->link.reply_ns = chance(s, SIM_slow_peers, 300) ? 20 * 1000 * PH_NS_PER_MS : 5 * PH_NS_PER_MS;
    if (chance(s, SIM_lean_peers, 400)) {
        s->pipelining = sim_chance(&sim->random, 500);
        s->chunking = sim_chance(&sim->random, 500);
    }
    if (!good_only && chance(s, SIM_tls_trouble, 300)) {
        uint64_t what = sim_below(&sim->random, SIM_CERTIFICATE_KINDS + 1);

        if (what == SIM_CERTIFICATE_KINDS) {
            s->offers_starttls = false;
        } else {
            s->certificate = (enum ph_pki_kind)what;
        }
    }
    s->hangs_up_after =
        chance(s, SIM_shutting_down, 200) ? (unsigned)sim_between(&sim->random, 1, 5) : 1000000;
}

void sim_peers_accept(struct sim_peers *peers, struct sim_conn *conn, const struct ph_endpoint *at)
{
    struct peer_session *s = ph_alloc(sizeof(*s));

    peer_link_init(&s->link, peers->sim, conn, converse);
    s->link.unseen = peer_unseen;
    s->host = find(peers, at);
    ph_buf_init(&s->content, CONTENT_BYTES_MAX);
    choose_mood(s);
    if (chance(s, SIM_temporary, 40)) {
        peer_say(&s->link, "%s\r\n",
                 sim_chance(&s->link.sim->random, 500) ? "421 4.3.2 not now" : "451 no");
        peer_hang_up(&s->link);
    } else {
        peer_say(&s->link, "220 %s ESMTP\r\n", s->host->name);
    }
}

// --- what the site holds the engine to ---

static void hold_to_policy(struct peer_session *s, enum demand demand, const char *what)
{
    const char *broken = NULL;

    if (s->injected) {
        broken = "behind bytes injected after STARTTLS";
    } else if (demand >= DEMAND_TLS && !s->link.encrypted) {
        broken = "in the clear";
    } else if (demand >= DEMAND_CHAIN && s->certificate != PH_PKI_GOOD &&
               s->certificate != PH_PKI_WRONG_NAME) {
        broken = "to a certificate that proves nothing";
    } else if (demand == DEMAND_NAME && s->certificate != PH_PKI_GOOD) {
        broken = "to a certificate of another name";
    }
    if (broken != NULL) {
        sim_fail(s->link.sim, "uncleared: %s came %s (kind %u%s) at %s, connection %u", what,
                 broken, s->certificate,
                 s->link.ssl != NULL && SSL_session_reused(s->link.ssl) ? ", resumed" : "",
                 s->host->name, sim_conn_number(s->link.conn));
    }
}

// By the recipient's domain.
static enum demand demand_for(struct peer_session *s, unsigned id, unsigned recipient)
{
    return recipient < SIM_RECIPIENTS_MAX
               ? demands[sim_ledger_message(s->link.sim, id)->recipients[recipient].site]
               : demands[SIM_ORIGIN];
}

// --- messages ---

static void reset_transaction(struct peer_session *s)
{
    s->mail = false;
    s->recipient_count = 0;
    ph_buf_clear(&s->content);
}

// A notification: which recipients does it say have failed?
static void take_notification(struct peer_session *s, unsigned id)
{
    struct sim_message *message = sim_ledger_message(s->link.sim, id);
    struct ph_str rest = ph_buf_str(&s->content);
    struct ph_str line;
    unsigned of;
    unsigned recipient;
    bool failed = ph_str_find(rest, PH_STR("Action: failed")) >= 0;

    while (message != NULL && failed && ph_str_cut_line(&rest, &line)) {
        if (ph_str_starts_nocase(line, PH_STR("Final-Recipient: rfc822;"))) {
            struct ph_str address = ph_str_trim(ph_str_after(line, 24));

            if (sim_address_parse(address, &of, &recipient) && of == id &&
                recipient < message->recipient_count) {
                message->recipients[recipient].notified++;
            }
        }
    }
}

// The whole content is here: byte for byte what the client sent, behind our own trace field?
static bool content_is(struct peer_session *s, unsigned id)
{
    struct sim_message *message = sim_ledger_message(s->link.sim, id);
    struct ph_str content = ph_buf_str(&s->content);
    struct ph_buf expected = {0};
    bool same = message != NULL;

    if (same) {
        sim_message_text(message, &expected);
        same = content.len > expected.len && ph_str_starts(content, PH_STR("Received: ")) &&
               ph_str_eq(ph_str_after(content, content.len - expected.len), ph_buf_str(&expected));
    }
    ph_buf_deinit(&expected);
    return same;
}

// The numbers of the accepts, for the reply.
static unsigned accept_all(struct peer_session *s)
{
    unsigned first = 0;
    unsigned rounds = s->link.sim->options.plant == SIM_PLANT_peer_twice ? 2 : 1;

    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < s->recipient_count; i++) {
            unsigned id = s->recipients[i].id;
            unsigned recipient = s->recipients[i].recipient;
            unsigned number = sim_ledger_accept(s->link.sim, id, recipient);

            if (recipient == SIM_RECIPIENTS_MAX) {
                take_notification(s, id);
            } else if (!content_is(s, id)) {
                sim_fail(s->link.sim, "message %u came to %s with other bytes than were sent", id,
                         s->host->name);
            }
            first = first == 0 ? number : first;
        }
    }
    return first;
}

static void refuse_all(struct peer_session *s)
{
    for (unsigned i = 0; i < s->recipient_count; i++) {
        if (s->recipients[i].recipient < SIM_RECIPIENTS_MAX) {
            sim_ledger_message(s->link.sim, s->recipients[i].id)
                ->recipients[s->recipients[i].recipient]
                .refused = true;
        }
    }
}

size_t peer_wholes(struct peer_session *s)
{
    size_t first = s->link.sim->ledger.whole_count;

    for (unsigned i = 0; i < s->recipient_count; i++) {
        (void)sim_ledger_whole(s->link.sim, s->recipients[i].id, s->recipients[i].recipient,
                               s->link.conn);
    }
    return first;
}

static void message_over(struct peer_session *s)
{
    struct sim_random *random = &s->link.sim->random;
    bool to_origin = s->host->site == SIM_ORIGIN;
    size_t whole = peer_wholes(s);

    for (unsigned i = 0; i < s->recipient_count; i++) {
        hold_to_policy(s, demand_for(s, s->recipients[i].id, s->recipients[i].recipient),
                       "a message");
    }
    s->messages++;
    if (chance(s, SIM_lost_replies, 60)) {
        bool taken = sim_chance(random, 600);

        if (taken) {
            (void)accept_all(s);
        }
        peer_break(&s->link);
    } else if (chance(s, SIM_temporary, 60)) {
        peer_say(&s->link, "451 4.3.0 later\r\n");
        peer_answers(&s->link, whole, s->recipient_count);
    } else if (!to_origin && chance(s, SIM_permanent, 25)) {
        refuse_all(s);
        peer_say(&s->link, "554 5.6.0 never\r\n");
        peer_answers(&s->link, whole, s->recipient_count);
    } else if (chance(s, SIM_shutting_down, 25)) {
        peer_say(&s->link, "421 4.3.2 going down\r\n");
        peer_answers(&s->link, whole, s->recipient_count);
        peer_hang_up(&s->link);
    } else {
        unsigned first = accept_all(s);

        peer_say(&s->link, "250 2.0.0 taken=%u+%u\r\n", first, s->recipient_count);
        peer_answers(&s->link, whole, s->recipient_count);
    }
    reset_transaction(s);
}

static void take_mail(struct peer_session *s, struct ph_str line)
{
    hold_to_policy(s, s->host->site == 0 ? DEMAND_NOTHING : demands[s->host->site], "MAIL");
    reset_transaction(s); // RFC 5321 §4.1.1.2: whatever is answered
    if (s->messages >= s->hangs_up_after || chance(s, SIM_shutting_down, 15)) {
        peer_say(&s->link, "421 4.7.0 that is enough\r\n");
        peer_hang_up(&s->link);
    } else if (chance(s, SIM_temporary, 30)) {
        peer_say(&s->link, "450 4.2.0 not now\r\n");
    } else {
        s->mail = true;
        s->null_sender = ph_str_find(line, PH_STR("<>")) >= 0;
        peer_say(&s->link, "250 2.1.0 ok\r\n");
    }
}

// The whole message may follow, and the engine may never read that this recipient isn't taken.
static void answers_recipient(struct peer_session *s, unsigned id, unsigned recipient)
{
    peer_answers(&s->link, sim_ledger_whole(s->link.sim, id, recipient, s->link.conn), 1);
}

static void take_rcpt(struct peer_session *s, struct ph_str line)
{
    ptrdiff_t at = ph_str_find(line, PH_STR("<"));
    struct ph_str address = ph_str_after(line, at >= 0 ? (size_t)at + 1 : line.len);
    unsigned id = 0;
    unsigned recipient = SIM_RECIPIENTS_MAX;
    bool known = s->host->site == SIM_ORIGIN ? sim_sender_parse(address, &id)
                                             : sim_address_parse(address, &id, &recipient) &&
                                                   recipient < SIM_RECIPIENTS_MAX;

    if (!known || sim_ledger_message(s->link.sim, id) == NULL) {
        sim_fail(s->link.sim, "a recipient that nobody wrote to: %.*s", PH_STR_ARG(line));
        return;
    }
    if (!s->mail) {
        peer_say(&s->link, "503 5.5.1 MAIL first\r\n");
        answers_recipient(s, id, recipient);
        return;
    }
    hold_to_policy(s, demand_for(s, id, recipient), "RCPT");
    if (recipient < SIM_RECIPIENTS_MAX &&
        (address.data[0] == 'r' || chance(s, SIM_permanent, 15))) {
        sim_ledger_message(s->link.sim, id)->recipients[recipient].refused = true;
        peer_say(&s->link, "550 5.1.1 nobody of that name\r\n");
        answers_recipient(s, id, recipient);
    } else if (chance(s, SIM_temporary, 40)) {
        peer_say(&s->link, "450 4.2.1 busy\r\n");
        answers_recipient(s, id, recipient);
    } else {
        PH_CHECK(s->recipient_count < SIM_TRANSACTION_RECIPIENTS_MAX);
        s->recipients[s->recipient_count].id = id;
        s->recipients[s->recipient_count++].recipient = recipient;
        peer_say(&s->link, "250 2.1.5 ok\r\n");
    }
}

static void take_bdat(struct peer_session *s, struct ph_str line)
{
    s->bdat_left = strtoull(line.data + 5, NULL, 10);
    s->bdat_last = ph_str_find(line, PH_STR("LAST")) >= 0;
    s->bdat_bad = !s->mail || s->recipient_count == 0;
    s->in_bdat = true;
    if (!s->chunking) {
        sim_fail(s->link.sim, "BDAT to a peer without CHUNKING");
    }
}

static void take_ehlo(struct peer_session *s)
{
    reset_transaction(s);
    if (chance(s, SIM_temporary, 20)) {
        peer_say(&s->link, "421 4.3.2 not now\r\n");
        peer_hang_up(&s->link);
        return;
    }
    peer_say(&s->link, "250-%s\r\n%s%s%s250-8BITMIME\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n",
             s->host->name, s->pipelining ? "250-PIPELINING\r\n" : "",
             s->chunking ? "250-CHUNKING\r\n" : "",
             s->offers_starttls && s->link.ssl == NULL ? "250-STARTTLS\r\n" : "");
}

static void take_starttls(struct peer_session *s)
{
    if (s->link.ssl != NULL || !s->offers_starttls) {
        peer_say(&s->link, "502 5.5.1 no\r\n");
    } else if (chance(s, SIM_tls_trouble, 60)) {
        peer_say(&s->link, "454 4.7.0 not now\r\n");
    } else if (chance(s, SIM_tls_trouble, 60)) {
        peer_say(&s->link, "220 2.0.0 go on\r\n");
        peer_hang_up(&s->link);
    } else {
        // Somebody between the two puts a reply behind it, in the clear.
        s->injected = chance(s, SIM_injection, 100);
        peer_say(&s->link, "220 2.0.0 go on\r\n%s", s->injected ? "250 2.0.0 injected\r\n" : "");
        peer_begin_tls(&s->link,
                       sim_certificates_context(s->host->site, s->host->number, s->certificate));
        s->mail = false;
    }
}

static void take_command(struct peer_session *s, struct ph_str line)
{
    if (ph_str_starts_nocase(line, PH_STR("EHLO "))) {
        take_ehlo(s);
    } else if (ph_str_starts_nocase(line, PH_STR("HELO ")) ||
               ph_str_starts_nocase(line, PH_STR("RSET"))) {
        reset_transaction(s);
        peer_say(&s->link, "250 2.0.0 ok\r\n");
    } else if (ph_str_starts_nocase(line, PH_STR("STARTTLS"))) {
        take_starttls(s);
    } else if (ph_str_starts_nocase(line, PH_STR("MAIL FROM:"))) {
        take_mail(s, line);
    } else if (ph_str_starts_nocase(line, PH_STR("RCPT TO:"))) {
        take_rcpt(s, line);
    } else if (ph_str_starts_nocase(line, PH_STR("DATA"))) {
        s->in_data = s->mail && s->recipient_count > 0 && !chance(s, SIM_temporary, 20);
        peer_say(&s->link, s->in_data               ? "354 go on\r\n"
                           : s->recipient_count > 0 ? "451 4.3.0 not now\r\n"
                                                    : "503 5.5.1 no valid recipients\r\n");
    } else if (ph_str_starts_nocase(line, PH_STR("BDAT "))) {
        take_bdat(s, line);
    } else if (ph_str_starts_nocase(line, PH_STR("QUIT"))) {
        peer_say(&s->link, "221 2.0.0 goodbye\r\n");
        peer_hang_up(&s->link);
    } else {
        sim_fail(s->link.sim, "not a command: %.*s", (int)(line.len < 80 ? line.len : 80),
                 line.data);
    }
}

// The lines of DATA that have come. False: the end isn't among them.
static bool take_data(struct peer_session *s)
{
    struct ph_str rest = ph_buf_str(&s->link.in);
    struct ph_str line;
    size_t before = rest.len;
    bool over = false;

    while (!over && ph_str_cut_line(&rest, &line)) {
        over = line.len == 1 && line.data[0] == '.';
        if (!over) {
            ph_buf_append(&s->content, ph_str_after(line, line.len > 0 && line.data[0] == '.'));
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

static bool take_chunk(struct peer_session *s)
{
    struct ph_str part = ph_str_first(ph_buf_str(&s->link.in), (size_t)s->bdat_left);

    if (part.len == 0 && s->bdat_left > 0) {
        return false;
    }
    if (!s->bdat_bad) {
        ph_buf_append(&s->content, part);
    }
    s->bdat_left -= part.len;
    ph_buf_consume(&s->link.in, part.len);
    if (s->bdat_left > 0) {
        return false;
    }
    s->in_bdat = false;
    if (s->bdat_bad) {
        peer_say(&s->link, "503 5.5.1 no valid recipients\r\n");
    } else if (s->bdat_last) {
        message_over(s);
    } else {
        peer_say(&s->link, "250 2.0.0 more\r\n");
    }
    return true;
}

static bool take_line(struct peer_session *s)
{
    struct ph_str rest = ph_buf_str(&s->link.in);
    struct ph_str line;
    size_t before = rest.len;
    char copy[1024];

    if (!ph_str_cut_line(&rest, &line)) {
        return false;
    }
    line.len = ph_str_copy(copy, sizeof(copy), line);
    line.data = copy;
    ph_buf_consume(&s->link.in, before - rest.len);
    take_command(s, line);
    return true;
}

static void converse(struct peer_link *link)
{
    struct peer_session *s = PH_CONTAINER_OF(link, struct peer_session, link);
    bool more = true;

    while (more && !s->link.over && !s->link.ending && !s->link.handshaking) {
        if (s->in_data) {
            more = take_data(s);
        } else if (s->in_bdat) {
            more = take_chunk(s);
        } else {
            more = take_line(s);
        }
    }
}
