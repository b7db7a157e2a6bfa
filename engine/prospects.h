// Which of a site's hosts are likely to suit a message, by what each showed last: an order to try
// them in, no more. The gate judges what they show this time, and every host is tried before mail
// waits.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tls/facts.h"

struct ph_dispatch;
struct ph_site;

#define PH_PROSPECT_KEPT_MS UINT64_C(900000) // a quarter of an hour; ours

struct ph_prospect {
    uint64_t seen_ms; // 0: never
    struct ph_tls_facts facts;
};

// A session with the site's host of this number came to be what `facts` tell.
void ph_prospects_note(struct ph_site *site, size_t host, const struct ph_tls_facts *facts);
// `order` holds hosts' numbers by preference: of those that are alike, the ones that wouldn't suit
// `dispatch` come last.
void ph_prospects_order(struct ph_site *site, struct ph_dispatch *dispatch, uint16_t *order,
                        size_t count);
void ph_prospects_deinit(struct ph_site *site);
