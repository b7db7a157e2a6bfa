// IP addresses, ports and ranges.
#include "base/endpoint.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

bool ph_endpoint_parse_address(struct ph_str text, struct ph_endpoint *out)
{
    char copy[INET6_ADDRSTRLEN];
    struct ph_endpoint parsed = {0};
    bool bracketed = text.len >= 2 && text.data[0] == '[' && text.data[text.len - 1] == ']';

    if (bracketed) {
        text = ph_str_first(ph_str_after(text, 1), text.len - 2);
    }
    if (text.len == 0 || text.len >= sizeof(copy) || ph_str_find_char(text, '\0') >= 0) {
        return false;
    }
    ph_str_copy(copy, sizeof(copy), text);
    if (!bracketed && inet_pton(AF_INET, copy, parsed.bytes) == 1) {
        parsed.family = PH_FAMILY_IPV4;
    } else if (inet_pton(AF_INET6, copy, parsed.bytes) == 1) {
        parsed.family = PH_FAMILY_IPV6;
    } else {
        return false;
    }
    *out = parsed;
    return true;
}

bool ph_endpoint_parse(struct ph_str text, struct ph_endpoint *out)
{
    ptrdiff_t colon = ph_str_rfind_char(text, ':');
    struct ph_endpoint parsed;
    uint64_t port;

    if (colon <= 0 || !ph_str_to_u64(ph_str_after(text, (size_t)colon + 1), &port) ||
        port > UINT16_MAX ||
        !ph_endpoint_parse_address(ph_str_first(text, (size_t)colon), &parsed)) {
        return false;
    }
    // "::1:25" is an address, not an address with a port: IPv6 needs its brackets here.
    if (parsed.family == PH_FAMILY_IPV6 && text.data[0] != '[') {
        return false;
    }
    parsed.port = (uint16_t)port;
    *out = parsed;
    return true;
}

static size_t address_bytes(const struct ph_endpoint *endpoint)
{
    return endpoint->family == PH_FAMILY_IPV4 ? 4 : 16;
}

bool ph_endpoint_is_any(const struct ph_endpoint *endpoint)
{
    static const uint8_t zero[sizeof(endpoint->bytes)];
    size_t len = endpoint->family == PH_FAMILY_IPV6 ? 16 : 4;

    return endpoint->family != PH_FAMILY_NONE && memcmp(endpoint->bytes, zero, len) == 0;
}

bool ph_endpoint_eq(const struct ph_endpoint *a, const struct ph_endpoint *b)
{
    return a->family == b->family && a->port == b->port &&
           memcmp(a->bytes, b->bytes, address_bytes(a)) == 0;
}

char *ph_endpoint_format_address(const struct ph_endpoint *endpoint, char out[PH_ENDPOINT_TEXT_MAX])
{
    int family = endpoint->family == PH_FAMILY_IPV4 ? AF_INET : AF_INET6;

    if (endpoint->family == PH_FAMILY_NONE ||
        inet_ntop(family, endpoint->bytes, out, PH_ENDPOINT_TEXT_MAX) == NULL) {
        out[0] = '\0';
    }
    return out;
}

char *ph_endpoint_format(const struct ph_endpoint *endpoint, char out[PH_ENDPOINT_TEXT_MAX])
{
    char address[PH_ENDPOINT_TEXT_MAX];

    ph_endpoint_format_address(endpoint, address);
    snprintf(out, PH_ENDPOINT_TEXT_MAX,
             endpoint->family == PH_FAMILY_IPV6 ? "[%.46s]:%u" : "%.46s:%u", address,
             endpoint->port);
    return out;
}

bool ph_cidr_parse(struct ph_str text, struct ph_cidr *out)
{
    ptrdiff_t slash = ph_str_find_char(text, '/');
    struct ph_str address = slash < 0 ? text : ph_str_first(text, (size_t)slash);
    struct ph_cidr parsed = {0};
    uint64_t prefix_len;

    if (!ph_endpoint_parse_address(address, &parsed.base)) {
        return false;
    }
    prefix_len = address_bytes(&parsed.base) * 8;
    if (slash >= 0 && (!ph_str_to_u64(ph_str_after(text, (size_t)slash + 1), &prefix_len) ||
                       prefix_len > address_bytes(&parsed.base) * 8)) {
        return false;
    }
    parsed.prefix_len = (uint8_t)prefix_len;
    *out = parsed;
    return true;
}

bool ph_cidr_contains(const struct ph_cidr *range, const struct ph_endpoint *endpoint)
{
    size_t whole = range->prefix_len / 8;
    uint8_t mask = (uint8_t)(0xff00u >> (range->prefix_len % 8));

    return range->base.family == endpoint->family &&
           memcmp(range->base.bytes, endpoint->bytes, whole) == 0 &&
           (range->prefix_len % 8 == 0 ||
            (range->base.bytes[whole] & mask) == (endpoint->bytes[whole] & mask));
}

// Special-purpose address registries (RFC 6890 and its updates).
static const char *const special_ranges[] = {
    "0.0.0.0/8",       "10.0.0.0/8",     "100.64.0.0/10",  "127.0.0.0/8",    "169.254.0.0/16",
    "172.16.0.0/12",   "192.0.0.0/24",   "192.0.2.0/24",   "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",    "240.0.0.0/4",    "::/128",
    "::1/128",         "64:ff9b::/96",   "64:ff9b:1::/48", "100::/64",       "2001:db8::/32",
    "fc00::/7",        "fe80::/10",      "ff00::/8",
};

// IPv4 carried inside IPv6 is judged as the IPv4 address: mapped, compatible and 6to4.
static bool embedded_ipv4(const struct ph_endpoint *endpoint, struct ph_endpoint *out_ipv4)
{
    static const uint8_t zeroes[10] = {0};
    const uint8_t *bytes = endpoint->bytes;
    const uint8_t *inner = NULL;

    if (memcmp(bytes, zeroes, 10) == 0 &&
        ((bytes[10] == 0xff && bytes[11] == 0xff) || (bytes[10] == 0 && bytes[11] == 0))) {
        inner = bytes + 12;
    } else if (bytes[0] == 0x20 && bytes[1] == 0x02) {
        inner = bytes + 2;
    }
    if (inner != NULL) {
        *out_ipv4 = (struct ph_endpoint){.family = PH_FAMILY_IPV4, .port = endpoint->port};
        memcpy(out_ipv4->bytes, inner, 4);
    }
    return inner != NULL;
}

bool ph_endpoint_is_special(const struct ph_endpoint *endpoint)
{
    struct ph_endpoint ipv4;
    bool special = endpoint->family == PH_FAMILY_NONE;

    for (size_t i = 0; !special && i < PH_ARRAY_LEN(special_ranges); i++) {
        struct ph_cidr range;
        bool parsed = ph_cidr_parse(ph_str_from(special_ranges[i]), &range);

        PH_CHECK(parsed);
        special = ph_cidr_contains(&range, endpoint);
    }
    if (!special && endpoint->family == PH_FAMILY_IPV6 && embedded_ipv4(endpoint, &ipv4)) {
        special = ph_endpoint_is_special(&ipv4);
    }
    return special;
}
