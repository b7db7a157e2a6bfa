// Does a chain match what the host publishes by DANE? (RFC 7671, 7672.) The gate judges by it.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "dns/tlsa.h"
#include "tls/facts.h"

enum ph_dane_match {
    PH_DANE_NO_MATCH,    // no record matches; or one does, and no valid chain leads to it
    PH_DANE_MATCH_STALE, // usage 2: an authority matches, but a certificate below it has expired
    PH_DANE_MATCH_TA,    // usage 2: chain and dates are good; names are to be compared
    PH_DANE_MATCH_EE,    // usage 3: names and dates don't count
};

// What was found on exactly this chain. Plain facts, like a chain verdict.
struct ph_dane_verdict {
    uint8_t chain_hash[PH_SHA256_BYTES];
    enum ph_dane_match match;
    char detail[PH_REASON_SENTENCE_MAX]; // why not
    int64_t valid_until_s;               // not to be used at or after
};

// Measures: any record that matches will do. `tlsa` is USABLE.
void ph_dane_verify(const struct ph_chain *chain, const struct ph_tlsa *tlsa, uint64_t wall_ms,
                    struct ph_dane_verdict *out);
