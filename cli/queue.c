// `posthaste queue`: asks the running daemon over its control socket.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/control.h"
#include "cli/queue_steer.h"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

static long long number_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

// Of mail that a TLS policy holds: which rule, by its whole path.
static void print_demand(const json_t *queue, const char *indent)
{
    const json_t *names = json_object_get(queue, "names");
    const json_t *name;
    size_t i;

    if (text_of(queue, "rule")[0] == '\0') {
        return;
    }
    printf("%s    demanded by %s: %s", indent, text_of(queue, "rule"), text_of(queue, "level"));
    json_array_foreach(names, i, name)
    {
        printf("%s%s", i == 0 ? ", TlsDomain " : ", ", json_string_value(name));
    }
    printf("\n");
}

static void print_queue(const json_t *queue, const char *indent)
{
    printf("%s%-32s %-14s %-11s %8lld %8lld %8lld\n", indent, text_of(queue, "domain"),
           text_of(queue, "connector"), text_of(queue, "state"), number_of(queue, "ready"),
           number_of(queue, "deferred"), number_of(queue, "in_flight"));
    if (text_of(queue, "reason")[0] != '\0') {
        printf("%s    %s (%s): %s\n", indent, text_of(queue, "reason"), text_of(queue, "status"),
               text_of(queue, "text"));
        print_demand(queue, indent);
        if (text_of(queue, "next_retry")[0] != '\0') {
            printf("%s    next retry %s\n", indent, text_of(queue, "next_retry"));
        }
    }
}

static void print_list(const json_t *array)
{
    const json_t *queue;
    size_t i;

    printf("%-32s %-14s %-11s %8s %8s %8s\n", "DOMAIN", "CONNECTOR", "STATE", "READY", "DEFERRED",
           "IN FLIGHT");
    json_array_foreach(array, i, queue)
    {
        print_queue(queue, "");
    }
}

static void print_held(const json_t *held)
{
    if (held != NULL) {
        long long recipients = number_of(held, "recipients");
        long long queues = number_of(held, "queues");

        printf("    a TLS policy holds back %lld recipient%s of %lld queue%s; next retry %s\n",
               recipients, recipients == 1 ? "" : "s", queues, queues == 1 ? "" : "s",
               text_of(held, "next_retry"));
    }
}

static void print_sites(const json_t *array)
{
    const json_t *site;
    size_t i;

    printf("%-36s %6s %-7s %8s %9s %9s %10s\n", "SITE", "WORKER", "STATE", "SESSIONS", "LIMIT",
           "PREPARED", "DELIVERED");
    json_array_foreach(array, i, site)
    {
        printf("%-36s %6lld %-7s %8lld %9lld %9lld %10lld\n", text_of(site, "site"),
               number_of(site, "worker"), text_of(site, "state"), number_of(site, "sessions"),
               number_of(site, "max_connections"), number_of(site, "prepared"),
               number_of(site, "delivered"));
        print_held(json_object_get(site, "tls_held"));
        if (text_of(site, "cert_not_after")[0] != '\0') {
            printf("    its certificate ends %s\n", text_of(site, "cert_not_after"));
        }
        if (text_of(site, "reason")[0] != '\0') {
            printf("    %s: %s\n", text_of(site, "reason"), text_of(site, "text"));
        }
        if (text_of(site, "next_retry")[0] != '\0') {
            printf("    next retry %s\n", text_of(site, "next_retry"));
        }
    }
}

static void print_messages(const json_t *array)
{
    const json_t *message;
    size_t i;

    json_array_foreach(array, i, message)
    {
        const json_t *recipient;
        size_t j;

        printf("%s, %lld bytes, arrived %s, expires %s\n", text_of(message, "id"),
               number_of(message, "size"), text_of(message, "arrival"), text_of(message, "expiry"));
        json_array_foreach(json_object_get(message, "recipients"), j, recipient)
        {
            const json_t *queue = json_array_get(json_object_get(recipient, "queue"), 0);

            printf("  recipient %lld: %s, %lld attempts%s%s%s\n", number_of(recipient, "index"),
                   text_of(recipient, "state"), number_of(recipient, "attempts"),
                   json_is_true(json_object_get(recipient, "in_doubt")) ? ", in doubt" : "",
                   text_of(recipient, "due")[0] != '\0' ? ", due " : "", text_of(recipient, "due"));
            if (queue != NULL) {
                print_queue(queue, "    ");
            }
        }
    }
}

static int show(const char *what, struct ph_str text)
{
    json_error_t error;
    json_t *array = json_loadb(text.data, text.len, 0, &error);
    bool empty = json_array_size(array) == 0;

    if (strcmp(what, "list") == 0) {
        print_list(array);
    } else if (strcmp(what, "sites") == 0) {
        print_sites(array);
    } else if (strcmp(what, "show") == 0) {
        print_messages(array);
    } else {
        printf("%zu queues are tried now\n", json_array_size(array));
    }
    json_decref(array);
    if (empty && strcmp(what, "show") == 0) {
        fprintf(stderr, "posthaste: no such message is queued\n");
        return PH_EXIT_NO;
    }
    return PH_EXIT_YES;
}

int ph_cli_queue(int argc, char **argv)
{
    struct ph_cli_options options;
    struct ph_config *config;
    struct ph_buf answer = {0};
    const char *what;
    const char *argument;
    int result = PH_EXIT_UNREACHABLE;

    if (!ph_cli_options_read(argc, argv, &options) || options.help || options.argument_count < 1 ||
        (options.argument_count > 2 && !ph_cli_queue_steers(options.arguments[0]))) {
        printf("usage: posthaste queue list | sites | show ID | retry DOMAIN|'*'  [-c FILE] "
               "[--json]\n"
               "       posthaste queue suspend | resume | bounce | delete QUERY\n"
               "       posthaste queue export ID | QUERY to=DIRECTORY\n"
               "QUERY: an id, a domain, '*', connector=, sender=, reason=TOKEN,\n"
               "       state=ready|deferred|suspended, older=2h; all terms must hold\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    what = options.arguments[0];
    if (ph_cli_queue_steers(what)) {
        config = ph_cli_config(options.config_path, false);
        if (config == NULL) {
            return PH_EXIT_CONFIG;
        }
        result = ph_cli_queue_steer(&options, config);
        ph_config_release(config);
        return result;
    }
    argument = options.argument_count == 2 ? options.arguments[1] : "";
    if (strcmp(what, "list") != 0 && strcmp(what, "sites") != 0 &&
        ((strcmp(what, "show") != 0 && strcmp(what, "retry") != 0) || argument[0] == '\0')) {
        fprintf(stderr,
                "posthaste: queue list, sites, show ID, retry DOMAIN, suspend, resume, bounce, "
                "delete or export QUERY\n");
        return PH_EXIT_USAGE;
    }
    config = ph_cli_config(options.config_path, false);
    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    if (ph_cli_ask(config, what, argument, &answer)) {
        if (options.json) {
            printf("%.*s\n", PH_STR_ARG(ph_buf_str(&answer)));
            result = PH_EXIT_YES;
        } else {
            result = show(what, ph_buf_str(&answer));
        }
    }
    ph_buf_deinit(&answer);
    ph_config_release(config);
    return result;
}
