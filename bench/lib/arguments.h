// KEY=VALUE arguments of the benchmarks' programs: read by name, each known or an error.
#pragma once

#include <stdint.h>

struct ph_arguments {
    int count;
    char **values;
    uint64_t used; // bit i: argument i was asked for
};

struct ph_arguments ph_arguments_of(int argc, char **argv); // at most 64
const char *ph_argument(struct ph_arguments *arguments, const char *key, const char *otherwise);
uint64_t ph_argument_number(struct ph_arguments *arguments, const char *key, uint64_t otherwise);
// Ends the process with a message when an argument was given that nobody asked for.
void ph_arguments_end(const struct ph_arguments *arguments);
