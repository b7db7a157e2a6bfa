// Which names match which certificates.
#include "tls/identity.h"

#define PH_IDENTITY_NAME_BYTES_MAX 253 // RFC 1035 §2.3.4, without the root
#define PH_IDENTITY_LABEL_BYTES_MAX 63

static struct ph_str without_trailing_dot(struct ph_str name)
{
    if (name.len > 0 && name.data[name.len - 1] == '.') {
        name.len--;
    }
    return name;
}

static bool is_wildcard(struct ph_str name)
{
    return ph_str_starts(name, PH_STR("*."));
}

static bool is_label_byte(char byte)
{
    byte = ph_ascii_lower(byte);
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' ||
           byte == '_';
}

bool ph_identity_is_presentable(struct ph_str name)
{
    struct ph_str labels = is_wildcard(name) ? ph_str_after(name, 2) : name;
    size_t label_len = 0;
    size_t dots = 0;
    bool valid = labels.len > 0 && name.len <= PH_IDENTITY_NAME_BYTES_MAX;

    for (size_t i = 0; valid && i < labels.len; i++) {
        if (labels.data[i] == '.') {
            valid = label_len > 0;
            label_len = 0;
            dots++;
        } else {
            valid = is_label_byte(labels.data[i]) && ++label_len <= PH_IDENTITY_LABEL_BYTES_MAX;
        }
    }
    return valid && label_len > 0 && (!is_wildcard(name) || dots > 0);
}

// Is `name` below `domain`, at a label's border?
static bool is_below(struct ph_str name, struct ph_str domain)
{
    return name.len > domain.len + 1 && ph_str_ends_nocase(name, domain) &&
           name.data[name.len - domain.len - 1] == '.';
}

bool ph_identity_name_matches(struct ph_str reference, struct ph_str presented)
{
    bool matches;

    reference = without_trailing_dot(reference);
    if (!ph_identity_is_presentable(presented) || !ph_identity_is_presentable(reference)) {
        matches = false;
    } else if (is_wildcard(reference)) {
        struct ph_str domain = ph_str_after(reference, 2);
        struct ph_str name = is_wildcard(presented) ? ph_str_after(presented, 2) : presented;

        matches = ph_str_eq_nocase(name, domain) || is_below(name, domain);
    } else if (is_wildcard(presented)) {
        ptrdiff_t dot = ph_str_find_char(reference, '.');

        matches = dot > 0 && ph_str_eq_nocase(ph_str_after(reference, (size_t)dot + 1),
                                              ph_str_after(presented, 2));
    } else {
        matches = ph_str_eq_nocase(reference, presented);
    }
    return matches;
}

static bool any_matches(const struct ph_str *references, size_t count, struct ph_str presented)
{
    bool matches = false;

    for (size_t i = 0; !matches && i < count; i++) {
        matches = ph_identity_name_matches(references[i], presented);
    }
    return matches;
}

struct ph_identity_result ph_identity_match(const struct ph_chain *chain,
                                            const struct ph_str *references, size_t reference_count,
                                            enum ph_tls_common_name mode)
{
    struct ph_identity_result result = {.matched = PH_STR_NONE};
    struct ph_str common_name = ph_str_from(chain->common_name);
    bool common_name_counts = mode == PH_TLS_COMMON_NAME_ALWAYS ||
                              (mode == PH_TLS_COMMON_NAME_FALLBACK && !chain->has_dns_names);

    for (size_t i = 0; !result.matches && i < chain->dns_name_count; i++) {
        struct ph_str presented = ph_str_from(chain->dns_names[i]);

        result.matches = any_matches(references, reference_count, presented);
        result.matched = result.matches ? presented : PH_STR_NONE;
    }
    if (!result.matches && any_matches(references, reference_count, common_name)) {
        result.matches = common_name_counts;
        result.common_name_would = !common_name_counts;
        result.matched = result.matches ? common_name : PH_STR_NONE;
    }
    return result;
}
