// What the commands share: exit codes, the configuration file, options.
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "config/load.h"

enum ph_exit {
    PH_EXIT_YES = 0,
    PH_EXIT_NO = 1,        // rejected, errors found
    PH_EXIT_UNDECIDED = 2, // delivery would defer
    PH_EXIT_USAGE = 64,
    PH_EXIT_UNREADABLE = 66, // input
    PH_EXIT_INTERNAL = 70,
    PH_EXIT_UNREACHABLE = 75, // the daemon
    PH_EXIT_CONFIG = 78,
};

#define PH_CONFIG_PATH "/etc/posthaste/posthaste.conf"

// What stands on the command line of most commands. `arguments` begin behind the options.
struct ph_cli_options {
    const char *config_path;
    bool json;
    bool help;
    char **arguments;
    int argument_count;
};

// False: a usage error was printed.
bool ph_cli_options_read(int argc, char **argv, struct ph_cli_options *out);
// The configuration, its warnings on standard error where `warn`; NULL: its errors are there.
struct ph_config *ph_cli_config(const char *path, bool warn);

int ph_cli_run(int argc, char **argv);
int ph_cli_check(int argc, char **argv);
int ph_cli_config_show(int argc, char **argv);
int ph_cli_explain(int argc, char **argv);
int ph_cli_test(int argc, char **argv);
int ph_cli_verify(int argc, char **argv);
int ph_cli_queue(int argc, char **argv);
int ph_cli_policy(int argc, char **argv);
int ph_cli_spool(int argc, char **argv);
int ph_cli_import(int argc, char **argv);
int ph_cli_log(int argc, char **argv);
int ph_cli_rehearse(int argc, char **argv);
int ph_cli_top(int argc, char **argv);
int ph_cli_trace(int argc, char **argv);
int ph_cli_demo(int argc, char **argv);
