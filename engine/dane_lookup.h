// Asks what a mail host publishes by DANE: an operation of its own, made of one to three questions.
#pragma once

#include "base/io.h"
#include "base/reason.h"
#include "dns/tlsa.h"

struct ph_dane_lookup {
    struct ph_op op;         // the owner's: stepped when `tlsa` is there
    struct ph_tlsa tlsa;     // the answer; its owner may take it over and zero it here
    struct ph_reason reason; // of FAILED
    // Its own.
    struct ph_io *io;
    uint16_t port;
    struct ph_tlsa_plan plan;
    size_t base_next;
    struct ph_resolve_op ask;
};

// `op` is initialized by the owner. `aaaa` and `a`: the answers about the addresses of `host`.
void ph_dane_lookup_start(struct ph_dane_lookup *lookup, struct ph_io *io, const char *host,
                          uint16_t port, const struct ph_resolve_op *aaaa,
                          const struct ph_resolve_op *a);
void ph_dane_lookup_deinit(struct ph_dane_lookup *lookup); // not under way
