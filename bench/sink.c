// bench-sink: a destination of many addresses, for tests and benchmarks.
//
//   bench-sink PKI-DIRECTORY [RECORD] < LINES
//
// A line: NAME ADDRESS:PORT
// none|refused|broken|good|self-signed|untrusted|expired|revoked|wrong-name|expiring
//         [host=NAME] [latency=MS] [max=MESSAGES] [close-every=N] [no-pipelining] [no-chunking]
// Writes into the file RECORD a line for each message taken, see ph_sink_record.
// Writes root.pem and crl.pem into the directory, prints "ready PORT…", and on SIGTERM its ledgers
// as JSON lines, with the ids that were delivered more than once.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "bench/lib/pki.h"
#include "bench/lib/sink.h"

#define LINES_MAX PH_SINK_ADDRESSES_MAX

static struct ph_sink_ledger *ledgers[LINES_MAX];
static char names[LINES_MAX][PH_SINK_NAME_MAX];
static size_t count;

static bool set_tls(struct ph_sink_behaviour *b, struct ph_str word, enum ph_pki_kind *kind,
                    bool *certificate)
{
    *certificate = ph_pki_kind_from(word, kind);
    b->tls = *certificate                         ? PH_SINK_TLS_GOOD
             : ph_str_eq(word, PH_STR("refused")) ? PH_SINK_TLS_REFUSED
             : ph_str_eq(word, PH_STR("broken"))  ? PH_SINK_TLS_BROKEN
                                                  : PH_SINK_TLS_NONE;
    return *certificate || b->tls != PH_SINK_TLS_NONE || ph_str_eq(word, PH_STR("none"));
}

static void set_option(struct ph_sink_behaviour *b, struct ph_str word, char host[256])
{
    struct ph_str key;
    uint64_t number = 0;

    if (!ph_str_cut(&word, '=', &key)) {
        return;
    }
    (void)!ph_str_to_u64(word, &number);
    if (ph_str_eq(key, PH_STR("host"))) {
        ph_str_copy(host, 256, word);
    } else if (ph_str_eq(key, PH_STR("latency"))) {
        b->latency_ms = (uint32_t)number;
    } else if (ph_str_eq(key, PH_STR("max"))) {
        b->messages_max = (uint32_t)number;
    } else if (ph_str_eq(key, PH_STR("close-every"))) {
        b->close_every = (uint32_t)number;
    } else if (ph_str_eq(key, PH_STR("no-pipelining"))) {
        b->no_pipelining = true;
    } else if (ph_str_eq(key, PH_STR("no-chunking"))) {
        b->no_chunking = true;
    }
}

static bool add_line(struct ph_sink *sink, struct ph_pki *pki, struct ph_str line)
{
    struct ph_sink_behaviour b = {0};
    struct ph_str name = PH_STR_NONE;
    struct ph_str at = PH_STR_NONE;
    struct ph_str tls = PH_STR_NONE;
    struct ph_str word;
    struct ph_buf pem = {0};
    char host[256];
    enum ph_pki_kind kind = PH_PKI_GOOD;
    bool certificate;
    uint16_t port;

    if (!ph_str_cut(&line, ' ', &name) || !ph_str_cut(&line, ' ', &at) ||
        !ph_str_cut(&line, ' ', &tls) || !ph_endpoint_parse(at, &b.at) ||
        !set_tls(&b, tls, &kind, &certificate) || count == LINES_MAX) {
        fprintf(stderr, "bench-sink: can't read this line\n");
        return false;
    }
    ph_str_copy(b.name, sizeof(b.name), name);
    ph_str_copy(host, sizeof(host), name);
    while (ph_str_cut(&line, ' ', &word)) {
        set_option(&b, word, host);
    }
    if (certificate) {
        ph_pki_append_leaf(pki, kind, host, &pem);
        b.chain_pem = ph_buf_str(&pem);
    }
    ph_str_copy(names[count], sizeof(names[count]), name);
    ledgers[count] = ph_sink_add(sink, &b, &port);
    ph_buf_deinit(&pem);
    return ledgers[count++] != NULL;
}

static void write_pem(const char *directory, const char *name, struct ph_buf *text)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    file = fopen(path, "w");
    if (file == NULL || fwrite(text->data, 1, text->len, file) != text->len || fclose(file) != 0) {
        fprintf(stderr, "bench-sink: %s can't be written\n", path);
        exit(1);
    }
    ph_buf_deinit(text);
}

static void print_ledgers(struct ph_sink *sink)
{
    for (size_t i = 0; i < count; i++) {
        struct ph_buf text = {0};
        struct ph_json json;

        ph_json_init(&json, &text);
        ph_json_open_object(&json, NULL);
        ph_json_text(&json, "name", names[i]);
        ph_json_u64(&json, "sessions", atomic_load(&ledgers[i]->sessions));
        ph_json_u64(&json, "full", atomic_load(&ledgers[i]->handshakes_full));
        ph_json_u64(&json, "resumed", atomic_load(&ledgers[i]->handshakes_resumed));
        ph_json_u64(&json, "failed", atomic_load(&ledgers[i]->handshakes_failed));
        ph_json_u64(&json, "clear", atomic_load(&ledgers[i]->mails_in_clear));
        ph_json_u64(&json, "tls", atomic_load(&ledgers[i]->mails_in_tls));
        ph_json_u64(&json, "messages", atomic_load(&ledgers[i]->messages));
        ph_json_u64(&json, "distinct", atomic_load(&ledgers[i]->distinct));
        ph_json_u64(&json, "duplicates", atomic_load(&ledgers[i]->duplicates));
        ph_json_close_object(&json);
        printf("%s\n", ph_buf_cstr(&text));
        ph_buf_deinit(&text);
    }
    printf("ids");
    for (uint64_t id = 0; id < PH_SINK_IDS_MAX; id++) {
        uint32_t times = ph_sink_deliveries_of(sink, id);

        if (times > 0) {
            printf(" %llu:%u", (unsigned long long)id, times);
        }
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    struct ph_sink *sink = ph_sink_create();
    struct ph_pki *pki = ph_pki_create();
    struct ph_buf root = {0};
    struct ph_buf crl = {0};
    FILE *record = argc == 3 ? fopen(argv[2], "w") : NULL;
    char line[1024];
    sigset_t signals;
    int number;

    if (argc < 2 || argc > 3 || (argc == 3 && record == NULL)) {
        fprintf(stderr, "usage: bench-sink PKI-DIRECTORY [RECORD] < LINES\n");
        return 64;
    }
    ph_sink_record(sink, record);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        if (!add_line(sink, pki, ph_str_trim(ph_str_from(line)))) {
            return 1;
        }
    }
    ph_pki_append_root(pki, &root);
    ph_pki_append_crl(pki, &crl);
    write_pem(argv[1], "root.pem", &root);
    write_pem(argv[1], "crl.pem", &crl);
    // A certificate for whoever the test runs as a server itself.
    {
        struct ph_buf own = {0};

        ph_pki_append_leaf(pki, PH_PKI_GOOD, "server.test", &own);
        write_pem(argv[1], "server.pem", &own);
    }
    ph_sink_start(sink);
    printf("ready\n");
    fflush(stdout);
    sigwait(&signals, &number);
    print_ledgers(sink);
    ph_sink_stop(sink);
    ph_pki_destroy(pki);
    return record == NULL || fclose(record) == 0 ? 0 : 1;
}
