// `posthaste import exchange FILE…` and `posthaste import postfix main.cf`.
#include "cli/import.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/cli.h"
#include "config/load.h"

void ph_import_note(struct ph_import *import, const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    for (char *at = text; *at != '\0'; at++) {
        *at = (unsigned char)*at < 0x20 ? ' ' : *at; // it stands in a comment: one line
    }
    ph_buf_printf(&import->notes, "%s\n", text);
}

void ph_import_put_quoted(struct ph_buf *out, struct ph_str text)
{
    ph_buf_append_char(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];

        if (c == '"' || c == '\\') {
            ph_buf_append_char(out, '\\');
        }
        ph_buf_append_char(out, (unsigned char)c < 0x20 ? ' ' : c);
    }
    ph_buf_append_char(out, '"');
}

bool ph_import_readable(const char *path)
{
    return access(path, R_OK) == 0;
}

// What was made must be what `check` accepts: anything else is our mistake, and is told.
static bool accepted(const struct ph_import *import, const char *path, struct ph_buf *errors)
{
    struct ph_buf warnings = {0};
    struct ph_config *config =
        ph_config_load_text(path, ph_buf_str(&import->config), errors, &warnings);
    bool good = config != NULL;

    ph_config_release(config);
    ph_buf_deinit(&warnings);
    return good;
}

static void print_lines(FILE *out, const char *before, struct ph_str lines)
{
    struct ph_str line;

    while (ph_str_cut(&lines, '\n', &line)) {
        fprintf(out, "%s%.*s\n", before, PH_STR_ARG(line));
    }
}

static void print_json(const struct ph_import *import)
{
    struct ph_str lines = ph_buf_str(&import->notes);
    struct ph_buf text = {0};
    struct ph_json json;
    struct ph_str line;

    ph_json_init(&json, &text);
    ph_json_open_object(&json, NULL);
    ph_json_string(&json, "config", ph_buf_str(&import->config), 0);
    ph_json_open_array(&json, "notes");
    while (ph_str_cut(&lines, '\n', &line)) {
        ph_json_string(&json, NULL, line, 0);
    }
    ph_json_close_array(&json);
    ph_json_close_object(&json);
    printf("%.*s\n", PH_STR_ARG(ph_buf_str(&text)));
    ph_buf_deinit(&text);
}

int ph_cli_import(int argc, char **argv)
{
    struct ph_cli_options options;
    struct ph_import import = {0};
    struct ph_buf errors = {0};
    bool good = ph_cli_options_read(argc, argv, &options) && options.argument_count >= 2;
    bool exchange = good && strcmp(options.arguments[0], "exchange") == 0;
    bool postfix =
        good && options.argument_count == 2 && strcmp(options.arguments[0], "postfix") == 0;
    int result;

    if (options.help || (!exchange && !postfix)) {
        printf(
            "usage: posthaste import exchange FILE…   of Get-SendConnector, Get-ReceiveConnector, "
            "Get-TransportConfig | ConvertTo-Json\n"
            "       posthaste import postfix main.cf\n"
            "Prints a configuration; what has no meaning here, or is left to do, is listed at its "
            "head and on standard error.\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    for (int i = 1; good && i < options.argument_count; i++) {
        good = exchange ? ph_import_exchange(&import, options.arguments[i])
                        : ph_import_postfix(&import, options.arguments[i]);
    }
    if (import.transport.len > 0) {
        ph_buf_printf(&import.config, "TransportConfig {\n%.*s}\n",
                      PH_STR_ARG(ph_buf_str(&import.transport)));
    }
    result = good ? PH_EXIT_YES : PH_EXIT_UNREADABLE;
    if (good && !accepted(&import, "imported", &errors)) {
        fprintf(stderr, "posthaste: what was made of it is not accepted yet:\n");
        print_lines(stderr, "", ph_buf_str(&errors));
        result = PH_EXIT_NO;
    }
    if (import.incomplete) {
        result = PH_EXIT_NO;
    }
    if (good && options.json) {
        print_json(&import);
    } else if (good) {
        printf("# made by posthaste import %s\n", options.arguments[0]);
        print_lines(stdout, "# note: ", ph_buf_str(&import.notes));
        print_lines(stderr, "note: ", ph_buf_str(&import.notes));
        printf("\n%.*s", PH_STR_ARG(ph_buf_str(&import.config)));
    }
    ph_buf_deinit(&import.config);
    ph_buf_deinit(&import.transport);
    ph_buf_deinit(&import.notes);
    ph_buf_deinit(&errors);
    return result;
}
