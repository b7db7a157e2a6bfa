// Fetches over real sockets: from servers on loopback that LocalData names.
// Covers: engine/fetch engine/fetch_thread
#include <criterion/criterion.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/lib/certs.h"
#include "engine/fetch.h"
#include "io_worlds.h"
#include "engine/resolver.h"

struct bench {
    struct ph_offload *offload;
    struct ph_resolver *resolver;
    struct ph_fetch *fetch;
    struct ph_io *io;
    struct MHD_Daemon *http;
    struct MHD_Daemon *https;
    struct ph_cert *root;
    struct ph_cert *leaf;
    struct ph_buf chain;
    struct ph_buf key;
    char anchors_file[64];
    atomic_uint requests; // as the servers count them
    atomic_uint gate;     // "/slow" answers when it is open
    char posted[64];
};

static struct ph_cidr loopback;

// --- the servers ---

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *type,
                             const char *location, size_t len, const char *text)
{
    char *body = malloc(len + 1);
    struct MHD_Response *response;
    enum MHD_Result result;

    memset(body, 'x', len);
    memcpy(body, text, strlen(text) < len ? strlen(text) : len);
    response = MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, "Content-Type", type);
    if (location != NULL) {
        MHD_add_response_header(response, "Location", location);
    }
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result serve(void *owner, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *data,
                             size_t *data_len, void **state)
{
    struct bench *b = owner;

    (void)version;
    if (*state == NULL) { // headers only, as yet
        *state = b;
        return MHD_YES;
    }
    if (*data_len > 0) {
        ph_str_copy(b->posted, sizeof(b->posted), (struct ph_str){data, *data_len});
        *data_len = 0;
        return MHD_YES;
    }
    atomic_fetch_add(&b->requests, 1);
    if (strcmp(url, "/slow") == 0) {
        while (atomic_load(&b->gate) == 0) {
            usleep(1000);
        }
    }
    if (strcmp(url, "/missing") == 0) {
        return reply(connection, 404, "text/html", NULL, 4, "none");
    }
    if (strcmp(url, "/away") == 0) {
        return reply(connection, 302, "text/plain", "/policy", 0, "");
    }
    if (strcmp(url, "/inside") == 0) {
        return reply(connection, 302, "text/plain", "http://10.0.0.1/policy", 0, "");
    }
    if (strcmp(url, "/round") == 0) {
        return reply(connection, 302, "text/plain", "/round", 0, "");
    }
    if (strcmp(url, "/big") == 0) {
        return reply(connection, 200, "text/plain", NULL, 100001, "");
    }
    return reply(connection, 200, strcmp(method, "POST") == 0 ? "text/x-post" : "text/plain", NULL,
                 6, "policy");
}

static unsigned port_of(struct MHD_Daemon *daemon)
{
    return MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

static void start(struct bench *b)
{
    struct ph_str names[] = {PH_STR("files.fetch.test")};
    struct ph_str local[] = {
        PH_STR("files.fetch.test. A 127.0.0.1"), PH_STR("files.fetch.test. AAAA 2001:db8::1"),
        PH_STR("other.fetch.test. A 127.0.0.1"), PH_STR("private.fetch.test. A 192.168.0.1")};
    struct ph_buf error = {0};
    struct ph_buf root = {0};
    int fd;

    *b = (struct bench){0};
    cr_assert(ph_cidr_parse(PH_STR("127.0.0.0/8"), &loopback));
    b->root = ph_certs_root("fetch root");
    b->leaf =
        ph_certs_make(b->root, &(struct ph_certs_options){.dns_names = names, .dns_name_count = 1});
    ph_certs_append_chain(b->leaf, &b->chain);
    ph_certs_append_key(b->leaf, &b->key);
    ph_certs_append(b->root, &root);
    strcpy(b->anchors_file, "/tmp/posthaste-fetch-XXXXXX");
    fd = mkstemp(b->anchors_file);
    cr_assert(write(fd, root.data, root.len) == (ssize_t)root.len);
    close(fd);
    ph_buf_deinit(&root);
    b->http = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0,
                               NULL, NULL, serve, b, MHD_OPTION_END);
    b->https = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_TLS, 0, NULL,
        NULL, serve, b, MHD_OPTION_HTTPS_MEM_CERT, ph_buf_cstr(&b->chain), MHD_OPTION_HTTPS_MEM_KEY,
        ph_buf_cstr(&b->key), MHD_OPTION_END);
    cr_assert(b->http != NULL && b->https != NULL);
    b->resolver = ph_resolver_create(
        &(struct ph_resolver_options){.local_data = local, .local_data_count = 4}, &error);
    cr_assert_not_null(b->resolver, "%s", ph_buf_cstr(&error));
    b->offload = ph_offload_create(1);
    b->fetch = ph_fetch_create();
    b->io = io_world_named(&(struct ph_host_threads){
        .offload = b->offload, .resolver = b->resolver, .fetch = b->fetch});
}

static void finish(struct bench *b)
{
    b->io->vtable->destroy(b->io);
    ph_fetch_destroy(b->fetch);
    ph_resolver_destroy(b->resolver);
    ph_offload_destroy(b->offload);
    MHD_stop_daemon(b->http);
    MHD_stop_daemon(b->https);
    ph_certs_destroy(b->leaf);
    ph_certs_destroy(b->root);
    ph_buf_deinit(&b->chain);
    ph_buf_deinit(&b->key);
    unlink(b->anchors_file);
}

// --- asking ---

static void nothing(struct ph_op *op)
{
    (void)op;
}

static void turn_until(struct bench *b, const struct ph_fetch_op *op)
{
    while (op->op.state != PH_OP_IDLE) {
        ph_io_wait(b->io, b->io->now_ns + 1000 * PH_NS_PER_MS);
        ph_io_run_ready(b->io);
    }
}

static struct ph_fetch_op question(struct bench *b, const char *url)
{
    struct ph_fetch_op op = {.url = url,
                             .anchors_file = b->anchors_file,
                             .allowed = &loopback,
                             .allowed_count = 1,
                             .https_port = (uint16_t)port_of(b->https),
                             .bytes_max = 100000,
                             .timeout_ms = 20000};

    ph_op_init(&op.op, nothing, NULL);
    return op;
}

static void fetch(struct bench *b, struct ph_fetch_op *op)
{
    ph_io_fetch(b->io, op);
    turn_until(b, op);
}

Test(fetch, verdicts_by_url, .timeout = 60)
{
    struct bench b;
    char at_http[5][96];
    unsigned port;

    start(&b);
    port = port_of(b.http);
    snprintf(at_http[0], 96, "http://files.fetch.test:%u/policy", port);
    snprintf(at_http[1], 96, "http://127.0.0.1:%u/policy", port);
    snprintf(at_http[2], 96, "http://user:word-that-is-long@127.0.0.1:%u/policy", port);
    snprintf(at_http[3], 96, "http://files.fetch.test:%u/missing", port);
    snprintf(at_http[4], 96, "http://files.fetch.test:%u/big", port);
    struct {
        const char *url;
        enum ph_fetch_status status;
        unsigned http_status;
    } rows[] = {
        {at_http[0], PH_FETCH_ANSWERED, 200},
        {at_http[1], PH_FETCH_ANSWERED, 200},
        {at_http[2], PH_FETCH_REFUSED, 0},
        {at_http[3], PH_FETCH_ANSWERED, 404},
        {at_http[4], PH_FETCH_TOO_LARGE, 200},
        {"https://files.fetch.test/policy", PH_FETCH_ANSWERED, 200},
        {"HTTPS://FILES.fetch.test/policy", PH_FETCH_ANSWERED, 200},
        {"https://other.fetch.test/policy", PH_FETCH_TLS, 0}, // another name's certificate
        {"https://private.fetch.test/policy", PH_FETCH_REFUSED, 0},
        {"http://10.0.0.1/policy", PH_FETCH_REFUSED, 0},
        {"http://[::1]/policy", PH_FETCH_REFUSED, 0},
        {"http://[::ffff:10.0.0.1]/policy", PH_FETCH_REFUSED, 0},
        {"http://167772161/policy", PH_FETCH_REFUSED, 0}, // 10.0.0.1 in disguise
        {"http://0x0a.0.0.1/policy", PH_FETCH_REFUSED, 0},
        {"http://nowhere.fetch.test/policy", PH_FETCH_DNS, 0},
        {"http://127.0.0.1:1/policy", PH_FETCH_UNREACHABLE, 0},
        {"file:///etc/passwd", PH_FETCH_REFUSED, 0},
        {"ftp://127.0.0.1/policy", PH_FETCH_REFUSED, 0},
        {"gopher://127.0.0.1/policy", PH_FETCH_REFUSED, 0},
        {"policy", PH_FETCH_REFUSED, 0},
        {"", PH_FETCH_REFUSED, 0},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_fetch_op op = question(&b, rows[i].url);

        fetch(&b, &op);
        cr_expect_eq(op.op.result, 0, "%s", rows[i].url);
        cr_expect_eq(op.status, rows[i].status, "%s: %d %s", rows[i].url, (int)op.status,
                     op.detail);
        cr_expect_eq(op.http_status, rows[i].http_status, "%s: %u", rows[i].url, op.http_status);
        cr_expect_eq(op.status == PH_FETCH_ANSWERED, op.detail[0] == '\0', "%s: %s", rows[i].url,
                     op.detail);
        if (rows[i].http_status == 200 && op.status == PH_FETCH_ANSWERED) {
            cr_expect(ph_str_eq(ph_buf_str(&op.body), PH_STR("policy")));
            cr_expect_str_eq(op.content_type, "text/plain");
        } else if (op.status != PH_FETCH_ANSWERED) {
            cr_expect_eq(op.body.len, 0);
        }
        ph_buf_deinit(&op.body);
    }
    finish(&b);
}

Test(fetch, what_is_not_allowed_or_not_trusted_is_refused, .timeout = 60)
{
    struct bench b;
    struct ph_fetch_op op;
    unsigned before;

    start(&b);
    op = question(&b, "https://files.fetch.test/policy");
    op.allowed_count = 0; // loopback is special
    fetch(&b, &op);
    cr_expect_eq(op.status, PH_FETCH_REFUSED, "%s", op.detail);
    cr_expect_eq(atomic_load(&b.requests), 0);
    op = question(&b, "https://files.fetch.test/policy");
    op.anchors_file = NULL; // the system doesn't know our root
    fetch(&b, &op);
    cr_expect_eq(op.status, PH_FETCH_TLS, "%s", op.detail);
    op = question(&b, "http://files.fetch.test/policy");
    op.https_only = true;
    fetch(&b, &op);
    cr_expect_eq(op.status, PH_FETCH_REFUSED, "%s", op.detail);
    before = atomic_load(&b.requests);
    cr_expect_eq(before, 0, "no request may have been sent, but %u were", before);
    finish(&b);
}

Test(fetch, redirects_are_followed_where_asked_and_judged_again, .timeout = 60)
{
    struct bench b;
    struct ph_fetch_op op;

    start(&b);
    op = question(&b, "https://files.fetch.test/away");
    fetch(&b, &op);
    cr_expect_eq(op.status, PH_FETCH_ANSWERED);
    cr_expect_eq(op.http_status, 302);
    ph_buf_deinit(&op.body);
    op = question(&b, "https://files.fetch.test/away");
    op.redirects_max = 1;
    fetch(&b, &op);
    cr_expect_eq(op.http_status, 200);
    cr_expect(ph_str_eq(ph_buf_str(&op.body), PH_STR("policy")));
    ph_buf_deinit(&op.body);
    op = question(&b, "https://files.fetch.test/round");
    op.redirects_max = 3;
    atomic_store(&b.requests, 0);
    fetch(&b, &op);
    cr_expect_eq(op.http_status, 302);
    cr_expect_eq(atomic_load(&b.requests), 4);
    ph_buf_deinit(&op.body);
    op = question(&b, "https://files.fetch.test/inside"); // http, and private
    op.redirects_max = 3;
    fetch(&b, &op);
    cr_expect_eq(op.status, PH_FETCH_REFUSED, "%s", op.detail);
    ph_buf_deinit(&op.body);
    finish(&b);
}

Test(fetch, a_post_carries_its_body, .timeout = 60)
{
    struct bench b;
    struct ph_fetch_op op;

    start(&b);
    op = question(&b, "https://files.fetch.test/report");
    op.post = PH_STR("what was found");
    op.post_type = "application/tlsrpt+gzip";
    fetch(&b, &op);
    cr_expect_eq(op.http_status, 200, "%s", op.detail);
    cr_expect_str_eq(op.content_type, "text/x-post");
    cr_expect_str_eq(b.posted, "what was found");
    ph_buf_deinit(&op.body);
    finish(&b);
}

Test(fetch, equal_gets_share_one_exchange, .timeout = 60)
{
    struct bench b;
    struct ph_fetch_op ops[8];
    struct ph_fetch_op other;

    start(&b);
    for (size_t i = 0; i < PH_ARRAY_LEN(ops); i++) {
        ops[i] = question(&b, "https://files.fetch.test/slow");
        ph_io_fetch(b.io, &ops[i]);
    }
    // All have been looked up and handed over: LocalData answers at once.
    while (ops[0].op.state == PH_OP_PENDING && atomic_load(&b.requests) == 0) {
        ph_io_wait(b.io, b.io->now_ns + PH_NS_PER_MS);
        ph_io_run_ready(b.io);
    }
    other = question(&b, "https://files.fetch.test/policy"); // it isn't held up
    fetch(&b, &other);
    cr_expect_eq(other.http_status, 200);
    ph_buf_deinit(&other.body);
    ph_io_fetch_cancel(&ops[0]); // the others still get theirs
    turn_until(&b, &ops[0]);
    cr_expect_eq(ops[0].op.result, -ECANCELED);
    atomic_store(&b.gate, 1);
    for (size_t i = 1; i < PH_ARRAY_LEN(ops); i++) {
        turn_until(&b, &ops[i]);
        cr_expect_eq(ops[i].http_status, 200, "%s", ops[i].detail);
        ph_buf_deinit(&ops[i].body);
    }
    cr_expect_eq(atomic_load(&b.requests), 2);
    finish(&b);
}

Test(fetch, ends_in_time_and_when_cancelled, .timeout = 60)
{
    struct bench b;
    struct ph_fetch_op op;

    start(&b);
    op = question(&b, "https://files.fetch.test/slow");
    op.timeout_ms = 200;
    fetch(&b, &op);
    cr_expect_eq(op.status, PH_FETCH_TIMEOUT, "%s", op.detail);
    op = question(&b, "https://files.fetch.test/slow");
    ph_io_fetch(b.io, &op);
    while (atomic_load(&b.requests) < 2) {
        ph_io_wait(b.io, b.io->now_ns + PH_NS_PER_MS);
        ph_io_run_ready(b.io);
    }
    ph_io_fetch_cancel(&op);
    turn_until(&b, &op);
    cr_expect_eq(op.op.result, -ECANCELED);
    atomic_store(&b.gate, 1);
    finish(&b);
}
