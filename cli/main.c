// Picks a subcommand.
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *does;
} commands[] = {
    {"run", ph_cli_run, "the daemon, in the foreground"},
    {"check", ph_cli_check, "reads the configuration: all its errors and warnings"},
    {"config", ph_cli_config_show, "the effective configuration, each value with its origin"},
    {"explain", ph_cli_explain, "what would happen to mail for a recipient, without connecting"},
    {"test", ph_cli_test, "what delivery would meet at every address, up to MAIL"},
    {"verify", ph_cli_verify, "the certificate verifier alone, offline"},
    {"queue", ph_cli_queue, "looks at and steers the running daemon's queue"},
    {"policy", ph_cli_policy,
     "what destinations publish: shown, fetched again, passed over for a time"},
    {"top", ph_cli_top, "a live view of the running daemon"},
    {"trace", ph_cli_trace, "what is said on one site's sessions, live"},
    {"spool", ph_cli_spool, "examines a spool that no daemon uses"},
    {"log", ph_cli_log, "is the delivery log whole? what did Mode = report let pass?"},
    {"rehearse", ph_cli_rehearse, "recorded sessions, judged by another configuration"},
    {"import", ph_cli_import, "the configuration of Exchange or Postfix, in ours"},
    {"demo", ph_cli_demo, "the whole engine on an embedded default, with partners good and bad"},
};

static void print_help(FILE *out)
{
    fprintf(out, "posthaste: a bulk outbound SMTP smart host\n\n"
                 "usage: posthaste COMMAND [-c FILE] [--json] [--help] …\n\n");
    for (size_t i = 0; i < PH_ARRAY_LEN(commands); i++) {
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].does);
    }
    fprintf(out, "\nThe configuration is " PH_CONFIG_PATH " unless -c names another.\n");
}

// jemalloc's settings: a thread of its own gives back what a burst has left behind, after seconds.
extern const char *malloc_conf;
const char *malloc_conf = "background_thread:true,dirty_decay_ms:5000,muzzy_decay_ms:0";

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return PH_EXIT_USAGE;
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return PH_EXIT_YES;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("posthaste 0.1\n");
        return PH_EXIT_YES;
    }
    fprintf(stderr, "posthaste: no command \"%s\"; posthaste --help lists them\n", argv[1]);
    return PH_EXIT_USAGE;
}
