// `posthaste check` and `posthaste config`.
#include <stdio.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/cli.h"

static void put_lines(struct ph_json *out, const char *key, struct ph_str lines)
{
    struct ph_str line;

    ph_json_open_array(out, key);
    while (ph_str_cut(&lines, '\n', &line)) {
        ph_json_string(out, NULL, line, 0);
    }
    ph_json_close_array(out);
}

static size_t count_lines(struct ph_str text)
{
    size_t count = 0;

    for (size_t i = 0; i < text.len; i++) {
        count += text.data[i] == '\n';
    }
    return count;
}

static void put_count(const char *path, size_t errors, size_t warnings)
{
    printf("%s: %zu error%s, %zu warning%s\n", path, errors, errors == 1 ? "" : "s", warnings,
           warnings == 1 ? "" : "s");
}

int ph_cli_check(int argc, char **argv)
{
    struct ph_cli_options options;
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_buf text = {0};
    struct ph_config *config;
    bool good;

    if (!ph_cli_options_read(argc, argv, &options) || options.argument_count > 0 || options.help) {
        printf("usage: posthaste check [-c FILE] [--json]\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    config = ph_config_load(options.config_path, &errors, &warnings);
    good = config != NULL;
    if (options.json) {
        struct ph_json out;

        ph_json_init(&out, &text);
        ph_json_open_object(&out, NULL);
        put_lines(&out, "errors", ph_buf_str(&errors));
        put_lines(&out, "warnings", ph_buf_str(&warnings));
        ph_json_close_object(&out);
        printf("%.*s\n", PH_STR_ARG(ph_buf_str(&text)));
    } else {
        fprintf(stderr, "%.*s%.*s", PH_STR_ARG(ph_buf_str(&errors)),
                PH_STR_ARG(ph_buf_str(&warnings)));
        put_count(options.config_path, count_lines(ph_buf_str(&errors)),
                  count_lines(ph_buf_str(&warnings)));
    }
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
    ph_buf_deinit(&text);
    return good                                     ? PH_EXIT_YES
           : access(options.config_path, R_OK) == 0 ? PH_EXIT_NO
                                                    : PH_EXIT_UNREADABLE;
}

int ph_cli_config_show(int argc, char **argv)
{
    struct ph_cli_options options;
    struct ph_config *config;
    struct ph_buf text = {0};
    struct ph_json out;
    struct ph_str lines;
    struct ph_str line;

    if (!ph_cli_options_read(argc, argv, &options) || options.argument_count > 0 || options.help) {
        printf("usage: posthaste config [-c FILE] [--json]\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    config = ph_cli_config(options.config_path, false);
    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    lines = ph_buf_str(&config->effective);
    ph_json_init(&out, &text);
    ph_json_open_array(&out, NULL);
    while (ph_str_cut(&lines, '\n', &line)) {
        struct ph_str key = PH_STR_NONE;
        struct ph_str value = PH_STR_NONE;

        (void)!ph_str_cut(&line, '\t', &key);
        (void)!ph_str_cut(&line, '\t', &value);
        if (options.json) {
            ph_json_open_object(&out, NULL);
            ph_json_string(&out, "key", key, 0);
            ph_json_string(&out, "value", value, 0);
            ph_json_string(&out, "origin", line, 0);
            ph_json_close_object(&out);
        } else {
            printf("%-60.*s = %-30.*s # %.*s\n", PH_STR_ARG(key), PH_STR_ARG(value),
                   PH_STR_ARG(line));
        }
    }
    ph_json_close_array(&out);
    if (options.json) {
        printf("%.*s\n", PH_STR_ARG(ph_buf_str(&text)));
    }
    ph_buf_deinit(&text);
    ph_config_release(config);
    return PH_EXIT_YES;
}
