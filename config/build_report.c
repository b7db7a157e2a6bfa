// What is said about a configuration: a line each, in the order of the file.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/build_parts.h"

static void report(struct ph_buf *out, struct ph_config_position at, const char *id,
                   const char *key, const char *format, va_list arguments)
{
    char text[1024];

    vsnprintf(text, sizeof(text), format, arguments);
    ph_buf_printf(out, "%s:%u: %s %s: %s\n", at.file != NULL ? at.file : "posthaste.conf", at.line,
                  id, key, text);
}

void ph_build_error(struct ph_builder *b, struct ph_config_position at, const char *id,
                    const char *key, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    report(b->errors, at, id, key, format, arguments);
    va_end(arguments);
    b->error_count++;
}

void ph_build_warning(struct ph_builder *b, struct ph_config_position at, const char *id,
                      const char *key, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    report(b->warnings, at, id, key, format, arguments);
    va_end(arguments);
}

// --- their order ---

struct said {
    struct ph_str line; // with its end
    size_t file;        // in the order they are first spoken of
    uint64_t number;
    size_t place; // as it was said
};

// "FILE:LINE: …"
static struct ph_str cut_place(struct ph_str line, uint64_t *out_number)
{
    ptrdiff_t end = ph_str_find(line, PH_STR(": "));
    ptrdiff_t colon = end - 1;

    while (colon > 0 && line.data[colon] != ':') {
        colon--;
    }
    if (colon <= 0 || !ph_str_to_u64(ph_str_first(ph_str_after(line, (size_t)colon + 1),
                                                  (size_t)(end - colon) - 1),
                                     out_number)) {
        *out_number = 0;
        return PH_STR_NONE;
    }
    return ph_str_first(line, (size_t)colon);
}

static int compare(const void *left, const void *right)
{
    const struct said *a = left;
    const struct said *b = right;

    if (a->file != b->file) {
        return a->file < b->file ? -1 : 1;
    }
    if (a->number != b->number) {
        return a->number < b->number ? -1 : 1;
    }
    return a->place < b->place ? -1 : a->place > b->place;
}

static size_t number_of_file(const struct said *all, size_t count, struct ph_str file)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t unused;

        if (ph_str_eq(cut_place(all[i].line, &unused), file)) {
            return all[i].file;
        }
    }
    return count + 1;
}

void ph_build_sort_lines(struct ph_buf *lines, struct ph_str first_file)
{
    struct ph_buf sorted = {0};
    struct ph_str rest = ph_buf_str(lines);
    struct said *all = NULL;
    size_t count = 0;

    while (rest.len > 0) {
        ptrdiff_t end = ph_str_find_char(rest, '\n');
        size_t len = end >= 0 ? (size_t)end + 1 : rest.len;
        struct said *said;
        struct ph_str file;

        all = reallocarray(all, count + 1, sizeof(*all));
        PH_CHECK(all != NULL);
        said = &all[count];
        *said = (struct said){.line = ph_str_first(rest, len), .place = count};
        file = cut_place(said->line, &said->number);
        said->file = ph_str_eq(file, first_file) ? 0 : number_of_file(all, count, file);
        count++;
        rest = ph_str_after(rest, len);
    }
    if (count > 1) {
        qsort(all, count, sizeof(*all), compare);
    }
    for (size_t i = 0; i < count; i++) {
        ph_buf_append(&sorted, all[i].line);
    }
    ph_buf_deinit(lines);
    *lines = sorted;
    free(all);
}
