// Several smart hosts, each with a policy of its own.
#include "engine/hops.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "config/snapshot.h"
#include "engine/dispatch.h"

_Static_assert(PH_SMART_HOSTS_MAX <= 64, "a host has a bit for each");

struct ph_hops *ph_hops_create(size_t hop_count, size_t host_count)
{
    struct ph_hops *hops = ph_alloc(sizeof(*hops) + hop_count * sizeof(struct ph_hop) +
                                    host_count * sizeof(struct ph_hop_host));

    PH_CHECK(hop_count <= PH_SMART_HOSTS_MAX);
    atomic_init(&hops->references, 1);
    hops->hop_count = hop_count;
    hops->hops = (struct ph_hop *)(hops + 1);
    hops->host_count = host_count;
    hops->hosts = (struct ph_hop_host *)(hops->hops + hop_count);
    return hops;
}

struct ph_hops *ph_hops_retain(struct ph_hops *hops)
{
    if (hops != NULL) {
        atomic_fetch_add_explicit(&hops->references, 1, memory_order_relaxed);
    }
    return hops;
}

void ph_hops_release(struct ph_hops *hops)
{
    if (hops != NULL &&
        atomic_fetch_sub_explicit(&hops->references, 1, memory_order_acq_rel) == 1) {
        for (size_t i = 0; i < hops->hop_count; i++) {
            ph_sts_policy_release(hops->hops[i].sts);
        }
        free(hops);
    }
}

// 0 demands most.
static unsigned mildness(const struct ph_hop *hop, uint64_t wall_ms)
{
    if (hop->waived_until_ms > wall_ms) {
        return PH_STS_NONE + 1;
    }
    return hop->sts != NULL ? (unsigned)hop->sts->mode : PH_STS_NONE;
}

const struct ph_hop *ph_hops_of(const struct ph_hops *hops, const char *host, uint64_t wall_ms)
{
    const struct ph_hop *found = NULL;
    uint64_t behind = 0;

    for (size_t i = 0; i < hops->host_count && behind == 0; i++) {
        behind = strcmp(hops->hosts[i].name, host) == 0 ? hops->hosts[i].hops : 0;
    }
    PH_CHECK(behind != 0); // a site's hosts are those that the hops led to
    for (size_t i = 0; i < hops->hop_count; i++) {
        const struct ph_hop *hop = &hops->hops[i];

        if ((behind >> i & 1) != 0 &&
            (found == NULL || mildness(hop, wall_ms) < mildness(found, wall_ms))) {
            found = hop;
        }
    }
    return found;
}

void ph_hops_face(struct ph_dispatch *dispatch, const char *host, uint64_t wall_ms)
{
    struct ph_tls_policy *policy = &dispatch->own_policy;
    const struct ph_hop *hop;

    if (dispatch->hops == NULL) {
        return;
    }
    hop = ph_hops_of(dispatch->hops, host, wall_ms);
    dispatch->policy_domain = hop->name;
    dispatch->sts = hop->sts; // `hops` holds it
    policy->sts = hop->sts != NULL && hop->sts->mode != PH_STS_NONE ? hop->sts : NULL;
    policy->dane_mode = dispatch->dane_mode;
    policy->destination_waived = false;
    if (dispatch->waived_by_sender || hop->waived_until_ms > wall_ms) {
        ph_tls_policy_waive_destination(policy);
    }
}
