// `posthaste queue suspend`, `resume`, `bounce`, `delete` and `export`: what is done with the mail
// that a query finds (engine/queue_query).
#pragma once

#include "cli/cli.h"
#include "config/snapshot.h"

bool ph_cli_queue_steers(const char *what); // one of those
int ph_cli_queue_steer(const struct ph_cli_options *options, const struct ph_config *config);
