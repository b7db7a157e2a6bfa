// Those who send: each writes an id into its ledger only after it has read the 250.
#pragma once

#include <stdbool.h>

struct sim;
struct sim_clients;

struct sim_clients *sim_clients_create(struct sim *sim);
// All have stopped: enough was acknowledged, and none has a message under way.
bool sim_clients_done(const struct sim_clients *clients);
