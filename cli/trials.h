// What `test` found of each address: a verdict by each TLS level, and what would make it pass.
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/json.h"
#include "engine/trial.h"

struct ph_cli_trials {
    bool as_json;
    struct ph_buf text;  // for people
    struct ph_buf array; // of JSON
    struct ph_json json;
    unsigned tried;
    unsigned passed;         // of the attempts: one is enough for delivery
    unsigned passed_clear;   // of them without TLS
    struct ph_reason reason; // of the last address that won't do; a TLS reason is kept
};

void ph_cli_trials_init(struct ph_cli_trials *trials, bool as_json);
void ph_cli_trials_deinit(struct ph_cli_trials *trials);
void ph_cli_trials_add(struct ph_cli_trials *trials, const struct ph_trial *trial);
