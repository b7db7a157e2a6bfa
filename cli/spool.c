// `posthaste spool check` and `spool dump`.
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "engine/poll.h"
#include "queue/spool.h"

int ph_cli_spool(int argc, char **argv)
{
    struct ph_cli_options options;
    struct ph_config *config;
    struct ph_offload *offload;
    struct ph_buf report = {0};
    struct ph_buf path = {0};
    struct ph_io *io;
    bool check;
    bool content;
    int result;

    if (!ph_cli_options_read(argc, argv, &options) || options.help || options.argument_count < 1 ||
        options.argument_count > 2) {
        printf("usage: posthaste spool check|dump [--content] [-c FILE] [--json]\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    check = strcmp(options.arguments[0], "check") == 0;
    content = options.argument_count == 2 && strcmp(options.arguments[1], "--content") == 0;
    if (!check && strcmp(options.arguments[0], "dump") != 0) {
        fprintf(stderr, "posthaste: spool check, or spool dump\n");
        return PH_EXIT_USAGE;
    }
    config = ph_cli_config(options.config_path, false);
    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    offload = ph_offload_create(1);
    ph_buf_append(&path, config->spool_dir);
    result = ph_poll_create(&(struct ph_poll_options){.offload = offload}, &io);
    if (result == 0) {
        result = check ? ph_spool_check(io, ph_buf_cstr(&path), options.json, &report)
                       : ph_spool_dump(io, ph_buf_cstr(&path), options.json, content, &report);
        io->vtable->destroy(io);
    }
    fwrite(report.data, 1, report.len, result < 0 ? stderr : stdout);
    ph_buf_deinit(&report);
    ph_buf_deinit(&path);
    ph_offload_destroy(offload);
    ph_config_release(config);
    return result < 0 ? PH_EXIT_UNREADABLE : result == 0 ? PH_EXIT_YES : PH_EXIT_NO;
}
