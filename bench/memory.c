// bench-memory: user memory of the engine's TLS sessions, by the allocator's own count.
//
//   bench-memory [sessions=1000] [resumption=0]
//
// Clients of one context shake hands with a server over memory; then the server's ends go. A line
// of JSON: bytes a session while its handshake is under way (the ClientHello is sent), idle after
// it, and with a message of 4 KiB encrypted and not yet sent.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/arguments.h"
#include "bench/lib/certs.h"
#include "tls/own.h"
#include "tls/session.h"

#define HOST "mx.contoso.test"

int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len); // jemalloc's

static uint64_t now_s(void *unused)
{
    (void)unused;
    return 1795508260; // 2026-11-24
}

// Live bytes of this thread.
static int64_t live_bytes(void)
{
    uint64_t allocated = 0;
    uint64_t freed = 0;
    size_t len = sizeof(allocated);

    PH_CHECK(mallctl("thread.allocated", &allocated, &len, NULL, 0) == 0);
    PH_CHECK(mallctl("thread.deallocated", &freed, &len, NULL, 0) == 0);
    return (int64_t)(allocated - freed);
}

static void carry(struct ph_tls_session *from, struct ph_tls_session *to)
{
    struct ph_buf *output = ph_tls_session_output(from);

    ph_tls_session_feed(to, ph_buf_str(output));
    // As the engine does: what was sent is freed.
    ph_buf_deinit(output);
}

static struct ph_tls_server *make_server(void)
{
    struct ph_cert *root = ph_certs_root("Bench root");
    struct ph_cert *intermediate = ph_certs_intermediate(root, "Bench intermediate");
    struct ph_cert *leaf = ph_certs_leaf(intermediate, HOST);
    struct ph_buf text = {0};
    struct ph_buf error = {0};
    struct ph_tls_server *server;

    ph_certs_append_chain(leaf, &text);
    ph_certs_append_key(leaf, &text);
    server = ph_tls_server_create(ph_buf_str(&text), PH_STR_NONE, &error);
    PH_CHECK(server != NULL);
    ph_tls_server_set_clock(server, now_s, NULL);
    ph_buf_deinit(&text);
    ph_certs_destroy(leaf);
    ph_certs_destroy(intermediate);
    ph_certs_destroy(root);
    return server;
}

// The rest of the handshake, the server's greeting (its tickets come with it), and the server's
// end.
static void finish(struct ph_tls_session *client, struct ph_tls_session *server)
{
    struct ph_buf plain = {0};

    PH_CHECK(ph_tls_session_handshake(server) == PH_TLS_MORE);
    carry(server, client);
    PH_CHECK(ph_tls_session_handshake(client) == PH_TLS_OK);
    carry(client, server);
    PH_CHECK(ph_tls_session_handshake(server) == PH_TLS_OK);
    PH_CHECK(ph_tls_session_write(server, PH_STR("250 hello\r\n")) == PH_TLS_OK);
    carry(server, client);
    PH_CHECK(ph_tls_session_read(client, &plain, 4096) == PH_TLS_OK);
    ph_buf_deinit(&plain);
    ph_tls_session_destroy(server);
}

int main(int argc, char **argv)
{
    static char message[4096];
    struct ph_arguments arguments = ph_arguments_of(argc, argv);
    uint64_t count = ph_argument_number(&arguments, "sessions", 1000);
    uint64_t resumption = ph_argument_number(&arguments, "resumption", 0);
    struct ph_tls_server *server = make_server();
    struct ph_tls_context *context = ph_tls_context_create(&(struct ph_tls_context_options){
        .now_s = now_s, .chain_cache_max = 64, .ticket_max = resumption != 0 ? count : 0});
    struct ph_tls_session **clients = ph_alloc(count * sizeof(struct ph_tls_session *));
    struct ph_tls_session **servers = ph_alloc(count * sizeof(struct ph_tls_session *));
    int64_t bytes[4];

    ph_arguments_end(&arguments);
    bytes[0] = live_bytes();
    for (uint64_t i = 0; i < count; i++) {
        clients[i] = ph_tls_session_connect(
            context, &(struct ph_tls_client_options){.session_id = i + 1,
                                                     .sni = PH_STR(HOST),
                                                     .version_min = 0x0303,
                                                     .resumption_key = PH_STR_NONE});
        PH_CHECK(ph_tls_session_handshake(clients[i]) == PH_TLS_MORE);
    }
    bytes[1] = live_bytes();
    for (uint64_t i = 0; i < count; i++) {
        servers[i] = ph_tls_session_accept(server, i + 1);
        carry(clients[i], servers[i]);
        finish(clients[i], servers[i]);
    }
    bytes[2] = live_bytes();
    for (uint64_t i = 0; i < count; i++) {
        PH_CHECK(ph_tls_session_write(clients[i],
                                      (struct ph_str){.data = message, .len = sizeof(message)}) ==
                 PH_TLS_OK);
    }
    bytes[3] = live_bytes();
    printf("{\"sessions\":%llu,\"shaking\":%.0f,\"idle\":%.0f,\"sending\":%.0f}\n",
           (unsigned long long)count, (double)(bytes[1] - bytes[0]) / (double)count,
           (double)(bytes[2] - bytes[0]) / (double)count,
           (double)(bytes[3] - bytes[0]) / (double)count);
    for (uint64_t i = 0; i < count; i++) {
        ph_tls_session_destroy(clients[i]);
    }
    free(clients);
    free(servers);
    ph_tls_context_destroy(context);
    ph_tls_server_destroy(server);
    return 0;
}
