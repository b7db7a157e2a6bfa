// Resumption: tickets that all contexts share, what ends them, and how they survive a restart.
// Covers: tls/tickets_seal engine/ticket_file
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/lib/pki.h"
#include "engine/poll.h"
#include "engine/ticket_file.h"
#include "tls/own.h"
#include "tls/session.h"

static uint64_t clock_s = 1795508260; // 2026-11-24

static uint64_t now_s(void *owner)
{
    (void)owner;
    return clock_s;
}

static const uint8_t key[PH_TICKETS_KEY_BYTES] = {1, 2, 3, 5, 8, 13, 21, 34};

struct site {
    struct ph_pki *pki;
    struct ph_tls_server *server;
};

static struct site make_site(void)
{
    struct site site = {.pki = ph_pki_create()};
    struct ph_buf pem = {0};
    struct ph_buf error = {0};

    ph_pki_append_leaf(site.pki, PH_PKI_GOOD, "mx.contoso.test", &pem);
    site.server = ph_tls_server_create(ph_buf_str(&pem), PH_STR_NONE, &error);
    cr_assert_not_null(site.server, "%s", ph_buf_cstr(&error));
    ph_tls_server_set_clock(site.server, now_s, NULL);
    ph_buf_deinit(&pem);
    return site;
}

static void end_site(struct site *site)
{
    ph_tls_server_destroy(site->server);
    ph_pki_destroy(site->pki);
}

static struct ph_tls_context *context_with(struct ph_tickets *tickets)
{
    return ph_tls_context_create(
        &(struct ph_tls_context_options){.now_s = now_s, .chain_cache_max = 8, .tickets = tickets});
}

static void carry(struct ph_tls_session *from, struct ph_tls_session *to)
{
    struct ph_buf *output = ph_tls_session_output(from);

    ph_tls_session_feed(to, ph_buf_str(output));
    ph_buf_clear(output);
}

struct want {
    bool acceptable;
    unsigned asked;
    uint8_t chain[PH_SHA256_BYTES]; // of the ticket that was judged
};

static bool judge(void *owner, const struct ph_tls_facts *facts)
{
    struct want *want = owner;

    want->asked++;
    cr_assert(facts->handshake == PH_HANDSHAKE_RESUMED && facts->chain != NULL);
    cr_assert_str_eq(facts->group, "X25519");
    memcpy(want->chain, facts->chain->hash, PH_SHA256_BYTES);
    return want->acceptable;
}

// One session, far enough that its tickets have come; how did it begin?
static enum ph_handshake_kind connect_once(struct ph_tls_context *context, struct site *site,
                                           const char *name, struct want *want)
{
    struct ph_tls_session *client = ph_tls_session_connect(
        context, &(struct ph_tls_client_options){.session_id = 1,
                                                 .groups = PH_STR("X25519:P-256"),
                                                 .sni = PH_STR("mx.contoso.test"),
                                                 .resumption_key = ph_str_from(name),
                                                 .ticket_acceptable = want != NULL ? judge : NULL,
                                                 .owner = want});
    struct ph_tls_session *server = ph_tls_session_accept(site->server, 2);
    enum ph_tls_result c = PH_TLS_MORE;
    enum ph_tls_result s = PH_TLS_MORE;
    struct ph_buf plain = {0};
    enum ph_handshake_kind kind;

    for (int turn = 0; turn < 10 && (c != PH_TLS_OK || s != PH_TLS_OK); turn++) {
        c = ph_tls_session_handshake(client);
        carry(client, server);
        s = ph_tls_session_handshake(server);
        carry(server, client);
    }
    cr_assert(c == PH_TLS_OK && s == PH_TLS_OK);
    cr_assert_eq(ph_tls_session_write(server, PH_STR("220 hi\r\n")), PH_TLS_OK);
    carry(server, client);
    cr_assert_eq(ph_tls_session_read(client, &plain, 100), PH_TLS_OK);
    kind = ph_tls_session_facts(client)->handshake;
    cr_assert_not_null(ph_tls_session_facts(client)->chain);
    ph_buf_deinit(&plain);
    ph_tls_session_destroy(client);
    ph_tls_session_destroy(server);
    return kind;
}

Test(tickets, are_shared_by_contexts)
{
    struct site site = make_site();
    struct ph_tickets *tickets = ph_tickets_create(100);
    struct ph_tls_context *one = context_with(tickets);
    struct ph_tls_context *other = context_with(tickets);

    cr_expect_eq(connect_once(one, &site, "a", NULL), PH_HANDSHAKE_FULL);
    cr_expect(ph_tickets_count(tickets) > 0);
    cr_expect_eq(connect_once(other, &site, "b", NULL), PH_HANDSHAKE_FULL); // another key
    ph_tls_context_destroy(one);                                            // its tickets live on
    cr_expect_eq(connect_once(other, &site, "a", NULL), PH_HANDSHAKE_RESUMED);
    cr_expect_eq(connect_once(other, &site, "a", NULL), PH_HANDSHAKE_RESUMED);
    ph_tls_context_destroy(other);
    ph_tickets_release(tickets);
    end_site(&site);
}

Test(tickets, are_judged_before_they_are_offered)
{
    struct site site = make_site();
    struct ph_tickets *tickets = ph_tickets_create(100);
    struct ph_tls_context *context = context_with(tickets);
    struct want want = {.acceptable = true};

    connect_once(context, &site, "a", NULL);
    cr_expect_eq(connect_once(context, &site, "a", &want), PH_HANDSHAKE_RESUMED);
    cr_expect_eq(want.asked, 1);
    want.acceptable = false; // say, a new CRL lists the certificate behind it
    cr_expect_eq(connect_once(context, &site, "a", &want), PH_HANDSHAKE_FULL);
    cr_expect_eq(want.asked, 2);
    ph_tls_context_forget(context, PH_STR("a"));
    cr_expect_eq(ph_tickets_count(tickets), 0);
    cr_expect_eq(connect_once(context, &site, "a", &want), PH_HANDSHAKE_FULL);
    cr_expect_eq(want.asked, 2); // nothing was left to ask about
    ph_tls_context_destroy(context);
    ph_tickets_release(tickets);
    end_site(&site);
}

Test(tickets, are_bounded_and_expire)
{
    struct site site = make_site();
    struct ph_tickets *tickets = ph_tickets_create(10);
    struct ph_tickets *none = ph_tickets_create(0);
    struct ph_tls_context *context = context_with(tickets);
    struct ph_tls_context *without = context_with(none);
    uint64_t began_s = clock_s;

    for (int i = 0; i < 12; i++) {
        connect_once(without, &site, "a", NULL);
        connect_once(context, &site, "a", NULL);
        cr_expect(ph_tickets_count(tickets) <= PH_TICKETS_PER_KEY_MAX);
    }
    cr_expect_eq(ph_tickets_count(none), 0);
    for (int i = 0; i < 12; i++) {
        char name[8];

        snprintf(name, sizeof(name), "k%d", i);
        connect_once(context, &site, name, NULL);
        cr_expect(ph_tickets_count(tickets) <= 10);
    }
    cr_expect_eq(connect_once(context, &site, "k11", NULL), PH_HANDSHAKE_RESUMED);
    clock_s += 8 * 86400; // longer than any ticket may live, RFC 8446 §4.6.1
    cr_expect_eq(connect_once(context, &site, "k11", NULL), PH_HANDSHAKE_FULL);
    clock_s = began_s - 86400; // a clock that went back
    cr_expect_eq(connect_once(context, &site, "k11", NULL), PH_HANDSHAKE_FULL);
    clock_s = began_s;
    ph_tls_context_destroy(context);
    ph_tls_context_destroy(without);
    ph_tickets_release(tickets);
    ph_tickets_release(none);
    end_site(&site);
}

Test(tickets, survive_sealed)
{
    struct site site = make_site();
    struct ph_tickets *before = ph_tickets_create(100);
    struct ph_tickets *after = ph_tickets_create(100);
    struct ph_tls_context *context = context_with(before);
    struct want want = {.acceptable = true};
    struct want again = {.acceptable = true};
    uint8_t other_key[PH_TICKETS_KEY_BYTES] = {1};
    struct ph_buf sealed = {0};

    connect_once(context, &site, "a", NULL);
    connect_once(context, &site, "a", &want);
    ph_tickets_seal(before, key, clock_s, &sealed);
    ph_tls_context_destroy(context);
    cr_expect(ph_str_find(ph_buf_str(&sealed), PH_STR("contoso")) < 0, "in clear");
    cr_expect(!ph_tickets_unseal(after, other_key, ph_buf_str(&sealed)));
    for (size_t at = 0; at < sealed.len; at += 13) {
        sealed.data[at] ^= 1;
        cr_expect(!ph_tickets_unseal(after, key, ph_buf_str(&sealed)), "changed at %zu", at);
        sealed.data[at] ^= 1;
        cr_expect(!ph_tickets_unseal(after, key, ph_str_first(ph_buf_str(&sealed), at)));
    }
    cr_expect_eq(ph_tickets_count(after), 0);
    cr_assert(ph_tickets_unseal(after, key, ph_buf_str(&sealed)));
    cr_expect_eq(ph_tickets_count(after), ph_tickets_count(before));
    context = context_with(after);
    // The facts of the certificates that issued it: the same chain is judged.
    cr_expect_eq(connect_once(context, &site, "a", &again), PH_HANDSHAKE_RESUMED);
    cr_expect_arr_eq(again.chain, want.chain, PH_SHA256_BYTES);
    ph_buf_clear(&sealed);
    ph_tickets_seal(after, key, clock_s + 8 * 86400, &sealed); // all expired
    ph_tickets_release(before);
    before = ph_tickets_create(100);
    cr_assert(ph_tickets_unseal(before, key, ph_buf_str(&sealed)));
    cr_expect_eq(ph_tickets_count(before), 0);
    ph_buf_deinit(&sealed);
    ph_tls_context_destroy(context);
    ph_tickets_release(before);
    ph_tickets_release(after);
    end_site(&site);
}

Test(tickets, survive_in_a_file_once)
{
    struct site site = make_site();
    struct ph_offload *offload = ph_offload_create(1);
    struct ph_io *io;
    struct ph_tickets *tickets = ph_tickets_create(100);
    struct ph_tickets *after = ph_tickets_create(100);
    struct ph_tls_context *context = context_with(tickets);
    struct ph_buf problem = {0};
    char directory[] = "/tmp/posthaste-tickets-XXXXXX";
    char key_file[64];
    char ticket_file[64];
    struct stat status;
    int fd;

    cr_assert_not_null(mkdtemp(directory));
    snprintf(key_file, sizeof(key_file), "%s/key", directory);
    snprintf(ticket_file, sizeof(ticket_file), "%s/tickets", directory);
    cr_assert_eq(ph_poll_create(&(struct ph_poll_options){.offload = offload}, &io), 0);
    clock_s = io->wall_ms / 1000;
    connect_once(context, &site, "a", NULL);

    ph_ticket_file_load(io, PH_STR_NONE, directory, tickets, &problem); // not asked for
    ph_ticket_file_save(io, PH_STR_NONE, directory, tickets);
    cr_expect_neq(access(ticket_file, F_OK), 0);
    ph_ticket_file_load(io, ph_str_from(key_file), directory, tickets, &problem);
    cr_expect_eq(problem.len, 0, "%s", ph_buf_cstr(&problem));
    ph_ticket_file_save(io, ph_str_from(key_file), directory, tickets);
    cr_assert(stat(key_file, &status) == 0 && status.st_size == PH_TICKETS_KEY_BYTES);
    cr_expect_eq(status.st_mode & 077, 0);
    cr_assert(stat(ticket_file, &status) == 0);
    cr_expect_eq(status.st_mode & 077, 0);
    ph_ticket_file_load(io, ph_str_from(key_file), directory, after, &problem);
    cr_expect_eq(ph_tickets_count(after), ph_tickets_count(tickets));
    cr_expect_neq(access(ticket_file, F_OK), 0, "it could be offered by two runs");

    // Another key: said, and nothing is taken.
    ph_ticket_file_save(io, ph_str_from(key_file), directory, tickets);
    fd = open(key_file, O_WRONLY);
    cr_assert(fd >= 0 && write(fd, key, sizeof(key)) == sizeof(key));
    close(fd);
    ph_tickets_release(after);
    after = ph_tickets_create(100);
    ph_ticket_file_load(io, ph_str_from(key_file), directory, after, &problem);
    cr_expect(problem.len > 0);
    cr_expect_eq(ph_tickets_count(after), 0);
    unlink(key_file);
    rmdir(directory);
    ph_buf_deinit(&problem);
    io->vtable->destroy(io);
    ph_offload_destroy(offload);
    ph_tls_context_destroy(context);
    ph_tickets_release(tickets);
    ph_tickets_release(after);
    end_site(&site);
}
