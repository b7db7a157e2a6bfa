// Address spaces.
#include "config/space.h"

#define COST_MAX 100 // Exchange's

bool ph_space_read(struct ph_str text, char domain_room[PH_DOMAIN_BYTES_MAX + 1],
                   struct ph_address_space *out)
{
    struct ph_address_space space = {.domain = PH_STR_NONE};
    struct ph_str domain;
    uint64_t cost = 1;

    if (ph_str_starts_nocase(text, PH_STR("SMTP:"))) {
        text = ph_str_after(text, 5);
    }
    if (!ph_str_cut(&text, ';', &domain) ||
        (text.len > 0 && (!ph_str_to_u64(text, &cost) || cost < 1 || cost > COST_MAX))) {
        return false;
    }
    space.cost = (uint32_t)cost;
    if (ph_str_eq(domain, PH_STR("*"))) {
        space.all = true;
        *out = space;
        return true;
    }
    if (ph_str_starts(domain, PH_STR("*."))) {
        space.subdomains = true;
        domain = ph_str_after(domain, 2);
    }
    // "--" is all accepted domains on an Edge server, which there are none of here.
    if (ph_str_find_char(domain, '*') >= 0 || ph_str_eq(domain, PH_STR("--")) ||
        !ph_domain_normalize(domain, domain_room)) {
        return false;
    }
    space.domain = ph_str_from(domain_room);
    *out = space;
    return true;
}

size_t ph_space_specificity(const struct ph_address_space *space, struct ph_str domain)
{
    struct ph_str own = space->domain;

    if (space->all) {
        return 1;
    }
    if (ph_str_eq(own, domain)) {
        return 2 + 2 * own.len + (space->subdomains ? 0 : 1);
    }
    if (space->subdomains && domain.len > own.len && ph_str_ends_nocase(domain, own) &&
        domain.data[domain.len - own.len - 1] == '.') {
        return 2 + 2 * own.len;
    }
    return 0;
}

bool ph_space_better(const struct ph_space_match *a, const struct ph_space_match *b,
                     struct ph_str domain)
{
    size_t left = ph_space_specificity(a->space, domain);
    size_t right = b->connector != NULL ? ph_space_specificity(b->space, domain) : 0;

    if (left != right) {
        return left > right;
    }
    if (a->space->cost != b->space->cost) {
        return a->space->cost < b->space->cost;
    }
    return ph_str_cmp(a->connector->name, b->connector->name) < 0;
}

struct ph_space_match ph_space_match(const struct ph_send_connector *connector,
                                     struct ph_str domain)
{
    struct ph_space_match best = {0};

    for (size_t i = 0; i < connector->address_space_count; i++) {
        struct ph_space_match match = {.connector = connector,
                                       .space = &connector->address_spaces[i]};

        if (ph_space_specificity(match.space, domain) > 0 &&
            (best.connector == NULL || ph_space_better(&match, &best, domain))) {
            best = match;
        }
    }
    return best;
}
