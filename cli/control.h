// Asks the running daemon over its control socket.
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "config/snapshot.h"

// The answer (JSON) is appended to `out`. False: a sentence was printed.
// `out_refused`: the daemon answered, and not with what was asked for.
bool ph_cli_ask_for(const struct ph_config *config, const char *what, const char *argument,
                    struct ph_buf *out, bool *out_refused);
bool ph_cli_ask(const struct ph_config *config, const char *what, const char *argument,
                struct ph_buf *out);
