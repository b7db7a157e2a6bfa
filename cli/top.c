// `posthaste top`: a live view of the running daemon.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/control.h"

#define SITES_SHOWN_MAX 20 // ours

struct figures {
    double accepted;
    double delivered;
    double deferred;
    double failed;
    double queued;
    double in_doubt;
    double tls_held;
    double unscheduled;
    double connections_in;
    double connections_out;
    double handshakes;
    double groups;
    double group_messages;
    uint64_t at_ms;
};

// A sample of Prometheus' text; labels are part of the name.
static double metric(struct ph_str text, const char *name)
{
    struct ph_str line;
    size_t len = strlen(name);

    while (ph_str_cut(&text, '\n', &line)) {
        if (ph_str_starts(line, PH_STR("posthaste_")) &&
            ph_str_starts(ph_str_after(line, 10), ph_str_from(name)) && line.len > 10 + len &&
            line.data[10 + len] == ' ') {
            char number[64];

            ph_str_copy(number, sizeof(number), ph_str_after(line, 10 + len + 1));
            return strtod(number, NULL);
        }
    }
    return 0;
}

static struct figures read_figures(struct ph_str text)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (struct figures){
        .accepted = metric(text, "accepted_total"),
        .delivered = metric(text, "delivered_total"),
        .deferred = metric(text, "deferred_total"),
        .failed = metric(text, "failed_total") + metric(text, "expired_total"),
        .queued = metric(text, "queued"),
        .in_doubt = metric(text, "queued_in_doubt"),
        .tls_held = metric(text, "tls_held"),
        .unscheduled = metric(text, "messages_unscheduled"),
        .connections_in = metric(text, "connections_in"),
        .connections_out = metric(text, "connections_out"),
        .handshakes =
            metric(text, "handshakes_full_total") + metric(text, "handshakes_resumed_total"),
        .groups = metric(text, "spool_groups_total"),
        .group_messages = metric(text, "spool_group_messages_total"),
        .at_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000,
    };
}

static double rate(double now, double before, const struct figures *a, const struct figures *b)
{
    double seconds = (double)(a->at_ms - b->at_ms) / 1000;

    return seconds > 0 ? (now - before) / seconds : 0;
}

static void print_figures(const struct figures *f, const struct figures *before)
{
    double groups = f->groups - before->groups;

    printf("accepted %10.0f  %9.1f/s    queued    %10.0f    sessions in  %8.0f\n", f->accepted,
           rate(f->accepted, before->accepted, f, before), f->queued, f->connections_in);
    printf("delivered%10.0f  %9.1f/s    in doubt  %10.0f    sessions out %8.0f\n", f->delivered,
           rate(f->delivered, before->delivered, f, before), f->in_doubt, f->connections_out);
    printf("deferred %10.0f  %9.1f/s    TLS-held  %10.0f    handshakes %10.1f/s\n", f->deferred,
           rate(f->deferred, before->deferred, f, before), f->tls_held,
           rate(f->handshakes, before->handshakes, f, before));
    printf("failed   %10.0f  %9.1f/s    %s%10.0f    messages/group %6.1f\n\n", f->failed,
           rate(f->failed, before->failed, f, before),
           f->unscheduled > 0 ? "UNSCHED.  " : "unsched.  ", f->unscheduled,
           groups > 0 ? (f->group_messages - before->group_messages) / groups : 0);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

static long long number_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

// What most needs a look: trouble first, then the busiest.
static int compare_sites(const void *a, const void *b)
{
    const json_t *left = *(json_t *const *)a;
    const json_t *right = *(json_t *const *)b;
    bool left_bad = text_of(left, "reason")[0] != '\0';
    bool right_bad = text_of(right, "reason")[0] != '\0';
    long long more = number_of(right, "sessions") - number_of(left, "sessions");

    if (left_bad != right_bad) {
        return left_bad ? -1 : 1;
    }
    return more > 0 ? 1 : more < 0 ? -1 : strcmp(text_of(left, "site"), text_of(right, "site"));
}

static void print_sites(struct ph_str answer)
{
    json_t *sites = json_loadb(answer.data, answer.len, 0, NULL);
    size_t count = json_array_size(sites);
    json_t **order = ph_alloc((count + 1) * sizeof(*order));

    for (size_t i = 0; i < count; i++) {
        order[i] = json_array_get(sites, i);
    }
    qsort(order, count, sizeof(*order), compare_sites);
    printf("%-36s %-7s %8s %8s %9s %10s  %s\n", "SITE", "STATE", "SESSIONS", "LIMIT", "PREPARED",
           "DELIVERED", "LAST ERROR");
    for (size_t i = 0; i < count && i < SITES_SHOWN_MAX; i++) {
        printf("%-36.36s %-7s %8lld %8lld %9lld %10lld  %s\n", text_of(order[i], "site"),
               text_of(order[i], "state"), number_of(order[i], "sessions"),
               number_of(order[i], "max_connections"), number_of(order[i], "prepared"),
               number_of(order[i], "delivered"), text_of(order[i], "reason"));
    }
    if (count > SITES_SHOWN_MAX) {
        printf("and %zu more: posthaste queue sites\n", count - SITES_SHOWN_MAX);
    }
    free(order);
    json_decref(sites);
}

static bool show(const struct ph_config *config, struct figures *before, bool first, bool clear)
{
    struct ph_buf metrics = {0};
    struct ph_buf sites = {0};
    bool good =
        ph_cli_ask(config, "metrics", "", &metrics) && ph_cli_ask(config, "sites", "", &sites);

    if (good) {
        struct figures now = read_figures(ph_buf_str(&metrics));

        printf("%s", clear ? "\033[H\033[2J" : "");
        print_figures(&now, first ? &now : before);
        print_sites(ph_buf_str(&sites));
        fflush(stdout);
        *before = now;
    }
    ph_buf_deinit(&metrics);
    ph_buf_deinit(&sites);
    return good;
}

int ph_cli_top(int argc, char **argv)
{
    struct ph_cli_options options;
    struct timespec pause = {.tv_sec = 1};
    struct figures before = {0};
    struct ph_config *config;
    bool good = ph_cli_options_read(argc, argv, &options) && options.argument_count <= 1;
    bool once = good && options.argument_count == 1 && strcmp(options.arguments[0], "--once") == 0;
    bool live = isatty(STDOUT_FILENO) != 0 && !once;
    bool first = true;

    if (!good || options.help || (options.argument_count == 1 && !once)) {
        printf("usage: posthaste top [--once] [-c FILE]\n"
               "Rates and sites, each second until interrupted; once where the output is no "
               "terminal.\n");
        return good && options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    config = ph_cli_config(options.config_path, false);
    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    do {
        good = show(config, &before, first, live);
        first = false;
    } while (good && live && nanosleep(&pause, NULL) == 0);
    ph_config_release(config);
    return good ? PH_EXIT_YES : PH_EXIT_UNREACHABLE;
}
