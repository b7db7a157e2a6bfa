// The promises, held by those outside: nothing acknowledged is lost, nothing refused comes, each
// outcome is there once or marked, sums are conserved, nothing is without a next event.
#pragma once

#include "base/str.h"

struct sim;

// Lines of the delivery log, as they come.
void sim_check_log(struct sim *sim, struct ph_str lines);
// Between two turns: counters that must agree at any time.
void sim_check_counters(struct sim *sim);
// Between two turns of one worker: does everything that waits have a next event?
void sim_check_schedule(struct sim *sim, unsigned worker);
// When all has drained.
void sim_check_end(struct sim *sim);
