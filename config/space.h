// Address spaces: which domains a send connector is for, and which of two matches wins.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/snapshot.h"
#include "smtp/address.h"

struct ph_space_match {
    const struct ph_send_connector *connector; // NULL: none
    const struct ph_address_space *space;
};

// "SMTP:*.contoso.com;2", "contoso.com" or "*". `out->domain` points into `domain_room`. False: it
// is none (another type than SMTP, a wildcard inside, a cost outside 1..100).
PH_MUST_CHECK bool ph_space_read(struct ph_str text, char domain_room[PH_DOMAIN_BYTES_MAX + 1],
                                 struct ph_address_space *out);
// Exchange: exact > longer *.x > shorter *.x > *. 0: it doesn't match. `domain` in A-labels.
size_t ph_space_specificity(const struct ph_address_space *space, struct ph_str domain);
// More specific, then cheaper, then by name. `b` may be none.
bool ph_space_better(const struct ph_space_match *a, const struct ph_space_match *b,
                     struct ph_str domain);
// The connector's own best match; none where it isn't for `domain`.
struct ph_space_match ph_space_match(const struct ph_send_connector *connector,
                                     struct ph_str domain);
