// Wrong passwords of late, by client address and by user, over all workers: who guesses on has to
// wait.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/endpoint.h"
#include "base/str.h"

#define PH_GUESSES_SOURCE_BURST 10     // wrong passwords of one address at once; ours
#define PH_GUESSES_SOURCE_SPACING_S 10 // and one more each; ours
#define PH_GUESSES_USER_BURST 100      // of one user, from wherever; ours
#define PH_GUESSES_USER_SPACING_S 1    // ours
#define PH_GUESSES_SLOTS 8192          // addresses and users remembered; ours

struct ph_guesses;

struct ph_guesses *ph_guesses_create(uint64_t seed); // of the hash: clients choose the names
void ph_guesses_destroy(struct ph_guesses *guesses); // NULL accepted
// May a password of that client for that user be looked at? IPv6 counts by its /64.
PH_MUST_CHECK bool ph_guesses_allow(struct ph_guesses *guesses, uint64_t now_ns,
                                    const struct ph_endpoint *source, struct ph_str user);
void ph_guesses_wrong(struct ph_guesses *guesses, uint64_t now_ns, const struct ph_endpoint *source,
                      struct ph_str user);
