// An IP address with a port: where a socket is bound, or connects to.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define PH_ENDPOINT_TEXT_MAX 64 // "[ipv6]:port" with NUL

enum ph_family {
    PH_FAMILY_NONE,
    PH_FAMILY_IPV4,
    PH_FAMILY_IPV6,
};

struct ph_endpoint {
    enum ph_family family;
    uint16_t port;     // host byte order
    uint8_t bytes[16]; // network byte order; the first four for IPv4
};

// "192.0.2.1", "2001:db8::1" or "[2001:db8::1]"; the port is left 0.
PH_MUST_CHECK bool ph_endpoint_parse_address(struct ph_str text, struct ph_endpoint *out);
// "192.0.2.1:25" or "[2001:db8::1]:25".
PH_MUST_CHECK bool ph_endpoint_parse(struct ph_str text, struct ph_endpoint *out);
bool ph_endpoint_is_any(const struct ph_endpoint *endpoint);                   // 0.0.0.0 or ::
bool ph_endpoint_eq(const struct ph_endpoint *a, const struct ph_endpoint *b); // with port
// Both return `out`, NUL-terminated.
char *ph_endpoint_format_address(const struct ph_endpoint *endpoint,
                                 char out[PH_ENDPOINT_TEXT_MAX]); // without port or brackets
char *ph_endpoint_format(const struct ph_endpoint *endpoint, char out[PH_ENDPOINT_TEXT_MAX]);

// A CIDR range: "192.0.2.0/24", "::1" (then the whole length).
struct ph_cidr {
    struct ph_endpoint base; // port unused
    uint8_t prefix_len;      // bits
};
PH_MUST_CHECK bool ph_cidr_parse(struct ph_str text, struct ph_cidr *out);
bool ph_cidr_contains(const struct ph_cidr *range, const struct ph_endpoint *endpoint);

// Loopback, private, link-local, multicast and other special-purpose ranges (IANA registries),
// IPv4 inside IPv6 included: no destination that DNS or a peer may choose.
bool ph_endpoint_is_special(const struct ph_endpoint *endpoint);
