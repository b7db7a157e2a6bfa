// What most commands have on their command line.
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

bool ph_cli_options_read(int argc, char **argv, struct ph_cli_options *out)
{
    int kept = 0;

    *out = (struct ph_cli_options){.config_path = PH_CONFIG_PATH, .arguments = argv + 1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-c") == 0) {
            if (i + 1 == argc) {
                fprintf(stderr, "posthaste: -c needs a file\n");
                return false;
            }
            out->config_path = argv[++i];
        } else if (strcmp(argv[i], "--json") == 0) {
            out->json = true;
        } else if (strcmp(argv[i], "--help") == 0) {
            out->help = true;
        } else {
            out->arguments[kept++] = argv[i];
        }
    }
    out->argument_count = kept;
    return true;
}

struct ph_config *ph_cli_config(const char *path, bool warn)
{
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config = ph_config_load(path, &errors, &warnings);

    if (warn) {
        fprintf(stderr, "%.*s", PH_STR_ARG(ph_buf_str(&warnings)));
    }
    fprintf(stderr, "%.*s", PH_STR_ARG(ph_buf_str(&errors)));
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
    return config;
}
