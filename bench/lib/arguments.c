// KEY=VALUE arguments.
#include "bench/lib/arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/str.h"

struct ph_arguments ph_arguments_of(int argc, char **argv)
{
    PH_CHECK(argc <= 64);
    return (struct ph_arguments){.count = argc, .values = argv};
}

const char *ph_argument(struct ph_arguments *arguments, const char *key, const char *otherwise)
{
    size_t len = strlen(key);
    const char *found = otherwise;

    for (int i = 1; i < arguments->count; i++) {
        if (strncmp(arguments->values[i], key, len) == 0 && arguments->values[i][len] == '=') {
            arguments->used |= UINT64_C(1) << i;
            found = arguments->values[i] + len + 1;
        }
    }
    return found;
}

uint64_t ph_argument_number(struct ph_arguments *arguments, const char *key, uint64_t otherwise)
{
    const char *text = ph_argument(arguments, key, NULL);
    uint64_t number = otherwise;

    if (text != NULL && !ph_str_to_u64(ph_str_from(text), &number)) {
        fprintf(stderr, "%s=%s: a number is wanted\n", key, text);
        exit(64);
    }
    return number;
}

void ph_arguments_end(const struct ph_arguments *arguments)
{
    for (int i = 1; i < arguments->count; i++) {
        if ((arguments->used >> i & 1) == 0) {
            fprintf(stderr, "%s: unknown argument %s\n", arguments->values[0],
                    arguments->values[i]);
            exit(64);
        }
    }
}
