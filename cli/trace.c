// `posthaste trace SITE`: what is said on its sessions, and how the last failure went.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/control.h"

#define POLL_NS 300000000 // between two questions; ours

static bool tell(struct ph_str answer, bool as_json)
{
    json_t *sites = json_loadb(answer.data, answer.len, 0, NULL);
    const json_t *site;
    bool any = json_array_size(sites) > 0;
    size_t i;

    json_array_foreach(sites, i, site)
    {
        const char *lines = json_string_value(json_object_get(site, "lines"));
        long long left_out = json_integer_value(json_object_get(site, "left_out_bytes"));

        if (as_json && lines != NULL && lines[0] != '\0') {
            char *text = json_dumps(site, JSON_COMPACT);

            printf("%s\n", text);
            free(text);
        } else if (lines != NULL) {
            fputs(lines, stdout);
        }
        if (left_out > 0 && !as_json) {
            printf("* %lld bytes more were said than there was room for\n", left_out);
        }
    }
    fflush(stdout);
    json_decref(sites);
    return any;
}

int ph_cli_trace(int argc, char **argv)
{
    struct ph_cli_options options;
    struct timespec pause = {.tv_nsec = POLL_NS};
    struct ph_config *config;
    bool read = ph_cli_options_read(argc, argv, &options);
    bool good = read && options.argument_count >= 1;
    bool once = good && options.argument_count == 2 && strcmp(options.arguments[1], "--once") == 0;
    bool known = false;

    if (!good || options.help || (options.argument_count == 2 && !once) ||
        options.argument_count > 2) {
        printf(
            "usage: posthaste trace HOST|'*' [--once] [-c FILE] [--json]\n"
            "Shows the last failure of the site that has this mail host, then what is said on its "
            "sessions until\ninterrupted (--once: not so). Bodies and credentials are left out.\n");
        return read && options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    config = ph_cli_config(options.config_path, false);
    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    do {
        struct ph_buf answer = {0};

        if (!ph_cli_ask(config, "trace", options.arguments[0], &answer)) {
            ph_buf_deinit(&answer);
            ph_config_release(config);
            return PH_EXIT_UNREACHABLE;
        }
        if (!tell(ph_buf_str(&answer), options.json) && !known) {
            fprintf(stderr, "posthaste: no mail goes to %s now%s\n", options.arguments[0],
                    once ? "" : "; waiting for some");
        } else {
            known = true;
        }
        ph_buf_deinit(&answer);
        if (!known && !once) {
            known = true; // said once
        }
    } while (!once && nanosleep(&pause, NULL) == 0);
    ph_config_release(config);
    return known ? PH_EXIT_YES : PH_EXIT_NO;
}
