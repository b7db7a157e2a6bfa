// The smart hosts of a connector that has several: what each publishes under its own name (RFC 8461
// §3.4), and which mail hosts lie behind it. Immutable, counted (atomically).
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/io.h"
#include "base/str.h"
#include "tls/mta_sts.h"

struct ph_dispatch;

struct ph_hop {
    struct ph_str name; // the policy domain; the configuration's. Empty: an IP literal has none
    struct ph_sts_policy *sts; // referenced; NULL: none in force
    uint64_t waived_until_ms;  // wall clock: until then what it publishes is passed over
};

struct ph_hop_host {
    char name[PH_DNS_NAME_BYTES_MAX];
    uint64_t hops; // a bit for each hop it lies behind
};

struct ph_hops {
    _Atomic uint32_t references;
    size_t hop_count; // PH_SMART_HOSTS_MAX at most
    struct ph_hop *hops;
    size_t host_count;
    struct ph_hop_host *hosts;
};

// Empty, one reference, the caller's; both arrays are his to fill.
struct ph_hops *ph_hops_create(size_t hop_count, size_t host_count);
struct ph_hops *ph_hops_retain(struct ph_hops *hops); // NULL accepted
void ph_hops_release(struct ph_hops *hops);           // NULL accepted

// The hop whose word counts for mail to `host`; of several the one that demands most, then the
// first.
const struct ph_hop *ph_hops_of(const struct ph_hops *hops, const char *host, uint64_t wall_ms);
// The policy of `dispatch` becomes the one in force at `host`. Nothing changes for mail with one
// next hop alone.
void ph_hops_face(struct ph_dispatch *dispatch, const char *host, uint64_t wall_ms);
