// Reads the delivery log.
#include "cli/log_lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_file(const char *path, bool (*take)(void *owner, const struct ph_log_line *line),
                      void *owner)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    struct ph_log_line line = {.file = path};
    char *text = NULL;
    size_t room = 0;
    ssize_t len;
    bool good = file != NULL;

    while (good && (len = getline(&text, &room, file)) > 0) {
        line.number++;
        line.torn = text[len - 1] != '\n';
        line.text = (struct ph_str){.data = text, .len = (size_t)len - !line.torn};
        good = take(owner, &line);
    }
    if (file == NULL || ferror(file)) {
        fprintf(stderr, "posthaste: %s can't be read: %s\n", path, strerror(errno));
        good = false;
    }
    if (file != NULL && file != stdin) {
        fclose(file);
    }
    free(text);
    return good;
}

bool ph_cli_log_lines(char **files, int file_count,
                      bool (*take)(void *owner, const struct ph_log_line *line), void *owner)
{
    bool good = true;

    for (int i = 0; good && i < file_count; i++) {
        good = read_file(files[i], take, owner);
    }
    return good;
}
