// Small things that commands need of the machine.
#pragma once

#include <stdint.h>
#include <stdio.h>

// A TCP connection as a stream; NULL: none. The caller closes it.
FILE *ph_cli_open_tcp(const char *address, uint16_t port);
// A directory with all that is in it; what can't be removed stays.
void ph_cli_remove_tree(const char *path);
