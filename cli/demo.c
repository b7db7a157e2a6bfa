// `posthaste demo`: the whole engine on an embedded default, in one terminal, with nothing left
// behind: partners good and bad behind static DNS, and what became of each one's mail, by the
// destinations' own ledgers.
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/lib/injector.h"
#include "bench/lib/pki.h"
#include "bench/lib/sink.h"
#include "cli/cli.h"
#include "cli/tools.h"

#define MESSAGES_EACH 1000
#define MESSAGE_BYTES 4096
#define CONNECTIONS 20
#define TIMEOUT_MS 60000
#define PATH_BYTES 512
#define BAR_CELLS 24
#define TEXT_COLUMNS 104 // of the table too

struct partner {
    const char *domain;
    const char *what; // its host
    enum ph_sink_tls tls;
    enum ph_pki_kind certificate;
    const char *policy;   // for people
    const char *settings; // of its connector; NULL: the default one
    bool delivers;
    const char *reason; // expected where it doesn't deliver
    struct ph_sink_ledger *ledger;
    uint64_t complete_ms;
    char found_reason[64];
    char sentence[512];
};

static struct partner partners[] = {
    {"good.demo", "a good certificate", PH_SINK_TLS_GOOD, PH_PKI_GOOD, "DomainValidation",
     "RequireTLS = true  TlsAuthLevel = DomainValidation  TlsDomain = {\"mx.good.demo\"}", true,
     NULL, NULL, 0, "", ""},
    {"selfsigned.demo", "a self-signed certificate", PH_SINK_TLS_GOOD, PH_PKI_SELF_SIGNED,
     "CertificateValidation", "RequireTLS = true  TlsAuthLevel = CertificateValidation", false,
     "cert-self-signed", NULL, 0, "", ""},
    {"wrongname.demo", "another's certificate", PH_SINK_TLS_GOOD, PH_PKI_WRONG_NAME,
     "DomainValidation",
     "RequireTLS = true  TlsAuthLevel = DomainValidation  TlsDomain = {\"mx.wrongname.demo\"}",
     false, "cert-name-mismatch", NULL, 0, "", ""},
    {"revoked.demo", "a revoked certificate", PH_SINK_TLS_GOOD, PH_PKI_REVOKED,
     "CertificateValidation", "RequireTLS = true  TlsAuthLevel = CertificateValidation", false,
     "cert-revoked", NULL, 0, "", ""},
    {"plain.demo", "no STARTTLS", PH_SINK_TLS_NONE, PH_PKI_GOOD, "RequireTLS", "RequireTLS = true",
     false, "tls-not-offered", NULL, 0, "", ""},
    {"anytls.demo", "a self-signed certificate", PH_SINK_TLS_GOOD, PH_PKI_SELF_SIGNED,
     "opportunistic", NULL, true, NULL, NULL, 0, "", ""},
    {"notls.demo", "no STARTTLS", PH_SINK_TLS_NONE, PH_PKI_GOOD, "opportunistic", NULL, true, NULL,
     NULL, 0, "", ""},
};

struct demo {
    char directory[64];
    struct ph_pki *pki;
    struct ph_sink *sink;
    uint16_t port;
    pid_t daemon;
    FILE *daemon_out;
    struct ph_endpoint inject_at;
    struct ph_injector *injector;
    bool colour;
    uint64_t began_ms;
    double elapsed_s;
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void nap(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

static const char *in_directory(const struct demo *d, const char *name, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%s/%s", d->directory, name);
    return out;
}

static bool write_file(const struct demo *d, const char *name, struct ph_str text)
{
    char path[PATH_BYTES];
    FILE *file = fopen(in_directory(d, name, path), "w");
    bool good = file != NULL && fwrite(text.data, 1, text.len, file) == text.len;

    if (file != NULL) {
        good &= fclose(file) == 0;
    }
    if (!good) {
        fprintf(stderr, "posthaste demo: %s: %s\n", path, strerror(errno));
    }
    return good;
}

// --- the partners ---

static bool open_partner(struct demo *d, size_t index)
{
    struct partner *p = &partners[index];
    struct ph_sink_behaviour behaviour = {
        .at = {.family = PH_FAMILY_IPV4,
               .port = d->port,
               .bytes = {127, 1, 1, (uint8_t)(index + 1)}},
        .tls = p->tls,
    };
    struct ph_buf pem = {0};

    snprintf(behaviour.name, sizeof(behaviour.name), "mx.%s", p->domain);
    if (p->tls == PH_SINK_TLS_GOOD) {
        ph_pki_append_leaf(d->pki, p->certificate, behaviour.name, &pem);
        behaviour.chain_pem = ph_buf_str(&pem);
    }
    p->ledger = ph_sink_add(d->sink, &behaviour, &d->port);
    ph_buf_deinit(&pem);
    return p->ledger != NULL;
}

static bool write_configuration(const struct demo *d)
{
    struct ph_buf text = {0};
    struct ph_buf root = {0};
    struct ph_buf crl = {0};
    bool good;

    ph_buf_printf(&text,
                  "Hostname = \"demo.example.net\"\nSpoolDir = \"%s/spool\"\nMinFreeSpace = 1%%\n"
                  "ReceiveConnector \"applications\" {\n    Bindings = {\"127.1.0.1:0\"}\n"
                  "    RemoteIPRanges = {\"127.0.0.0/8\"}\n}\n"
                  "SendConnector \"internet\" { AddressSpaces = {\"*\"} }\n",
                  d->directory);
    for (size_t i = 0; i < PH_ARRAY_LEN(partners); i++) {
        if (partners[i].settings != NULL) {
            ph_buf_printf(&text,
                          "SendConnector \"%s\" {\n    AddressSpaces = {\"%s\"}\n    %s\n"
                          "    TlsTrustAnchors = {\"%s/root.pem\"}\n"
                          "    RevocationCrls = {\"%s/crl.pem\"}\n}\n",
                          partners[i].domain, partners[i].domain, partners[i].settings,
                          d->directory, d->directory);
        }
    }
    ph_buf_printf(&text,
                  "Resolver {\n    Port = %u\n    AllowedDestinations = {\"127.0.0.0/8\"}\n"
                  "    LocalData = {",
                  d->port);
    for (size_t i = 0; i < PH_ARRAY_LEN(partners); i++) {
        ph_buf_printf(&text, "%s\"%s. MX 10 mx.%s.\", \"mx.%s. A 127.1.1.%zu\"", i > 0 ? ", " : "",
                      partners[i].domain, partners[i].domain, partners[i].domain, i + 1);
    }
    ph_buf_printf(&text,
                  "}\n}\nAdmin { ControlSocket = \"%s/control\"  Http = \"127.1.0.2:%u\" }\n"
                  "Log { Delivery = \"%s/delivery.jsonl\"  Level = warn }\n",
                  d->directory, d->port, d->directory);
    ph_pki_append_root(d->pki, &root);
    ph_pki_append_crl(d->pki, &crl);
    good = write_file(d, "posthaste.conf", ph_buf_str(&text)) &&
           write_file(d, "root.pem", ph_buf_str(&root)) &&
           write_file(d, "crl.pem", ph_buf_str(&crl));
    ph_buf_deinit(&text);
    ph_buf_deinit(&root);
    ph_buf_deinit(&crl);
    return good;
}

// --- the daemon ---

static void become_daemon(const struct demo *d, int out)
{
    char config[PATH_BYTES];
    char errors[PATH_BYTES];
    char *arguments[] = {"posthaste", "run", "-c", config, NULL};
    int fd = open(in_directory(d, "errors", errors), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    in_directory(d, "posthaste.conf", config);
    dup2(out, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execv("/proc/self/exe", arguments);
    _exit(PH_EXIT_INTERNAL);
}

static bool start_daemon(struct demo *d)
{
    int ends[2];
    char line[256];
    bool ready = false;

    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    d->daemon = fork();
    if (d->daemon == 0) {
        become_daemon(d, ends[1]);
    }
    close(ends[1]);
    d->daemon_out = fdopen(ends[0], "r");
    while (!ready && fgets(line, sizeof(line), d->daemon_out) != NULL) {
        char *address = strrchr(line, ' ');

        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "listening ", 10) == 0 && address != NULL) {
            (void)!ph_endpoint_parse(ph_str_from(address + 1), &d->inject_at);
        }
        ready = strcmp(line, "ready") == 0;
    }
    if (!ready) {
        char command[PATH_BYTES];
        FILE *errors = fopen(in_directory(d, "errors", command), "r");

        fprintf(stderr, "posthaste demo: the daemon did not start:\n");
        while (errors != NULL && fgets(line, sizeof(line), errors) != NULL) {
            fputs(line, stderr);
        }
        if (errors != NULL) {
            fclose(errors);
        }
    }
    return ready;
}

static bool stop_daemon(struct demo *d)
{
    int status = 0;

    if (d->daemon <= 0) {
        return false;
    }
    kill(d->daemon, SIGTERM);
    waitpid(d->daemon, &status, 0);
    d->daemon = 0;
    if (d->daemon_out != NULL) {
        fclose(d->daemon_out);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// --- what the delivery log says ---

static void take_log_line(const json_t *line)
{
    const char *event = json_string_value(json_object_get(line, "event"));
    const char *recipient = json_string_value(json_object_get(line, "recipient"));
    const char *reason = json_string_value(json_object_get(line, "reason"));
    const char *text = json_string_value(json_object_get(line, "text"));
    const char *at = recipient != NULL ? strchr(recipient, '@') : NULL;

    if (event == NULL || at == NULL || reason == NULL || strcmp(event, "deferred") != 0) {
        return;
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(partners); i++) {
        if (strcmp(at + 1, partners[i].domain) == 0) {
            snprintf(partners[i].found_reason, sizeof(partners[i].found_reason), "%s", reason);
            snprintf(partners[i].sentence, sizeof(partners[i].sentence), "%s",
                     text != NULL ? text : "");
        }
    }
}

static void read_log(const struct demo *d)
{
    char path[PATH_BYTES];
    char line[8192];
    FILE *file = fopen(in_directory(d, "delivery.jsonl", path), "r");

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        json_t *parsed = json_loads(line, 0, NULL);

        if (parsed != NULL) {
            take_log_line(parsed);
            json_decref(parsed);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

// --- progress ---

static bool complete(struct demo *d)
{
    bool all = ph_injector_done(d->injector);

    for (size_t i = 0; i < PH_ARRAY_LEN(partners); i++) {
        struct partner *p = &partners[i];

        if (p->delivers && p->complete_ms == 0 &&
            atomic_load(&p->ledger->messages) >= MESSAGES_EACH) {
            p->complete_ms = now_ms();
        }
        all &= !p->delivers || p->complete_ms != 0;
        all &= p->delivers || p->found_reason[0] != '\0';
    }
    return all;
}

static void show_progress(const struct demo *d, uint64_t total)
{
    uint64_t arrived = 0;

    for (size_t i = 0; i < PH_ARRAY_LEN(partners); i++) {
        arrived += atomic_load(&partners[i].ledger->messages);
    }
    if (d->colour) {
        static const char full[] = "========================";
        static const char empty[] = "                        ";
        uint64_t accepted = ph_injector_acknowledged(d->injector);
        int cells = (int)(accepted * BAR_CELLS / total);

        _Static_assert(sizeof(full) == BAR_CELLS + 1 && sizeof(empty) == sizeof(full), "a bar");
        printf("\r  [\033[32m%.*s\033[0m%.*s]  accepted %llu of %llu, delivered %llu, %.1f s ",
               cells, full, BAR_CELLS - cells, empty, (unsigned long long)accepted,
               (unsigned long long)total, (unsigned long long)arrived,
               (double)(now_ms() - d->began_ms) / 1000);
        fflush(stdout);
    }
}

static bool inject(struct demo *d)
{
    static char addresses[PH_ARRAY_LEN(partners)][64];
    const char *recipients[PH_ARRAY_LEN(partners)];
    uint64_t total = MESSAGES_EACH * PH_ARRAY_LEN(partners);
    bool finished = false;

    for (size_t i = 0; i < PH_ARRAY_LEN(partners); i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "customer@%s", partners[i].domain);
        recipients[i] = addresses[i];
    }
    d->began_ms = now_ms();
    d->injector = ph_injector_start(&(struct ph_injector_options){
        .to = d->inject_at,
        .connections = CONNECTIONS,
        .messages = total,
        .messages_per_connection = 100,
        .size = MESSAGE_BYTES,
        .recipients = recipients,
        .recipient_count = PH_ARRAY_LEN(partners),
        .sender = "news@demo.example.net",
    });
    while (!finished && now_ms() - d->began_ms < TIMEOUT_MS) {
        show_progress(d, total);
        nap(20);
        if (ph_injector_done(d->injector)) {
            read_log(d);
        }
        finished = complete(d);
    }
    d->elapsed_s = (double)(now_ms() - d->began_ms) / 1000;
    show_progress(d, total);
    if (d->colour) {
        printf("\n");
    }
    if (ph_injector_done(d->injector)) {
        ph_injector_stop(d->injector);
    }
    return finished;
}

// --- the end ---

static double metric(const struct demo *d, const char *name)
{
    char request[] = "GET /metrics HTTP/1.0\r\n\r\n";
    char text[65536];
    size_t len = 0;
    const char *found;
    FILE *stream;
    char path[64];

    stream = ph_cli_open_tcp("127.1.0.2", d->port);
    if (stream == NULL) {
        return 0;
    }
    fputs(request, stream);
    fflush(stream);
    len = fread(text, 1, sizeof(text) - 1, stream);
    text[len] = '\0';
    fclose(stream);
    snprintf(path, sizeof(path), "\nposthaste_%s ", name);
    found = strstr(text, path);
    return found != NULL ? strtod(found + strlen(path), NULL) : 0;
}

static const char *paint(const struct demo *d, bool good)
{
    return !d->colour ? "" : good ? "\033[32m" : "\033[33m";
}

// Lines of TEXT_COLUMNS at most, indented; words stay whole.
static void show_text(const char *text)
{
    size_t column = 0;

    while (*text != '\0') {
        size_t len = strcspn(text, " ");

        if (column == 0 || column + 1 + len > TEXT_COLUMNS) {
            printf("%s%6s", column > 0 ? "\n" : "", "");
            column = 6;
        } else {
            printf(" ");
            column++;
        }
        printf("%.*s", (int)len, text);
        column += len;
        text += len + (text[len] == ' ');
    }
    printf("\n");
}

// By what its host saw.
static const char *outcome(uint64_t in_tls, uint64_t in_clear)
{
    return in_tls > 0 && in_clear == 0   ? "delivered by TLS"
           : in_clear > 0 && in_tls == 0 ? "delivered in clear"
           : in_clear > 0                ? "delivered by both"
                                         : "held";
}

static bool show_partner(const struct demo *d, const struct partner *p)
{
    uint64_t in_tls = atomic_load(&p->ledger->mails_in_tls);
    uint64_t messages = atomic_load(&p->ledger->messages);
    uint64_t clear = atomic_load(&p->ledger->mails_in_clear);
    bool as_promised =
        p->delivers
            ? messages == MESSAGES_EACH && atomic_load(&p->ledger->duplicates) == 0
            : messages == 0 && clear == 0 && strcmp(p->found_reason, p->reason) == 0 && in_tls == 0;
    double seconds = p->complete_ms > 0 ? (double)(p->complete_ms - d->began_ms) / 1000 : 0;

    printf("  %-15s %-25s %-21s %s%-18s%s %4llu %7.0f %4llu %7llu\n", p->domain, p->what, p->policy,
           paint(d, messages > 0), outcome(in_tls, clear), d->colour ? "\033[0m" : "",
           (unsigned long long)messages, seconds > 0 ? (double)messages / seconds : 0,
           (unsigned long long)atomic_load(&p->ledger->handshakes_full),
           (unsigned long long)atomic_load(&p->ledger->handshakes_resumed));
    if (!p->delivers) {
        char text[sizeof(p->found_reason) + sizeof(p->sentence) + 2];

        snprintf(text, sizeof(text), "%s: %s", p->found_reason, p->sentence);
        show_text(text);
    }
    if (!as_promised) {
        printf("      NOT AS PROMISED: the destination saw %llu messages, %llu MAIL in the clear\n",
               (unsigned long long)messages, (unsigned long long)clear);
    }
    return as_promised;
}

static bool show_table(const struct demo *d)
{
    bool good = true;
    double messages = metric(d, "accepted_messages_total");
    double accepted = metric(d, "accepted_total");
    double delivered = metric(d, "delivered_total");
    double queued = metric(d, "queued");
    double in_full = metric(d, "chains_verified_total");
    double cached = metric(d, "chains_cached_total");

    printf("\n  %-15s %-25s %-21s %-18s %4s %7s %4s %7s\n", "DOMAIN", "ITS HOST SHOWS", "POLICY",
           "OUTCOME", "MAIL", "PER SEC", "FULL", "RESUMED");
    for (size_t i = 0; i < PH_ARRAY_LEN(partners); i++) {
        good &= show_partner(d, &partners[i]);
    }
    printf(
        "\n  accepted %.0f = delivered %.0f + held in the queue %.0f: nothing is lost, and nothing "
        "left "
        "below\n  its policy. %.1f s, each message durable before its 250, %.2f syncs a message.\n",
        accepted, delivered, queued, d->elapsed_s,
        messages > 0 ? metric(d, "durable_writes_total") / messages : 0);
    printf("  Certificate chains were judged %.0f times: %.0f times in full, else by the cache.\n",
           in_full + cached, in_full);
    printf(
        "  OUTCOME, MAIL and handshakes (FULL, RESUMED) are from the destinations' own ledgers.\n");
    return good && (uint64_t)messages == MESSAGES_EACH * PH_ARRAY_LEN(partners) &&
           accepted == delivered + queued;
}

int ph_cli_demo(int argc, char **argv)
{
    struct ph_cli_options options;
    struct demo d = {.colour = isatty(STDOUT_FILENO)};
    bool good = true;

    if (!ph_cli_options_read(argc, argv, &options) || options.argument_count > 0 || options.help) {
        printf("usage: posthaste demo\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    signal(SIGPIPE, SIG_IGN);
    snprintf(d.directory, sizeof(d.directory), "/tmp/posthaste-demo-XXXXXX");
    if (mkdtemp(d.directory) == NULL) {
        fprintf(stderr, "posthaste demo: no temporary directory: %s\n", strerror(errno));
        return PH_EXIT_INTERNAL;
    }
    printf("posthaste demo: %zu partners, %d messages to each, real sockets, TLS and disk\n\n",
           PH_ARRAY_LEN(partners), MESSAGES_EACH);
    d.pki = ph_pki_create();
    d.sink = ph_sink_create();
    for (size_t i = 0; good && i < PH_ARRAY_LEN(partners); i++) {
        good = open_partner(&d, i);
    }
    good = good && write_configuration(&d);
    if (good) {
        ph_sink_start(d.sink);
        good = start_daemon(&d);
    }
    if (good) {
        bool finished = inject(&d);

        good = show_table(&d) && finished;
        if (!finished) {
            printf("  not everything came to an end within %d s\n", TIMEOUT_MS / 1000);
        }
    }
    good &= stop_daemon(&d);
    ph_sink_stop(d.sink);
    ph_pki_destroy(d.pki);
    ph_cli_remove_tree(d.directory);
    printf("\n  %s%s%s\n", d.colour ? (good ? "\033[1;32m" : "\033[1;31m") : "",
           good ? "as promised" : "NOT AS PROMISED", d.colour ? "\033[0m" : "");
    if (good) {
        printf("  Next: \"A first real configuration\" in README.md; posthaste check, explain and "
               "test tell "
               "what\n  a configuration does before any mail goes.\n");
    }
    return good ? PH_EXIT_YES : PH_EXIT_NO;
}
