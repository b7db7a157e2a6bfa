// Hosts that suit a message come first.
#include "engine/prospects.h"

#include <stdlib.h>
#include <string.h>

#include "engine/worker.h"
#include "tls/verify.h"

void ph_prospects_note(struct ph_site *site, size_t host, const struct ph_tls_facts *facts)
{
    struct ph_prospect *prospect;

    if (site->spec->host_count < 2) {
        return; // there is nothing to choose from
    }
    if (site->prospects == NULL) {
        site->prospects = ph_alloc(site->spec->host_count * sizeof(*site->prospects));
    }
    prospect = &site->prospects[host];
    if (facts->chain != NULL) {
        ph_chain_retain(facts->chain);
    }
    ph_chain_release(prospect->facts.chain);
    prospect->facts = *facts;
    prospect->seen_ms = ph_worker_now_ms(site->worker);
}

void ph_prospects_deinit(struct ph_site *site)
{
    for (size_t i = 0; site->prospects != NULL && i < site->spec->host_count; i++) {
        ph_chain_release(site->prospects[i].facts.chain);
    }
    free(site->prospects);
    site->prospects = NULL;
}

// Would what this host showed last be refused? What isn't known, is not.
static bool unpromising(const struct ph_site *site, struct ph_dispatch *dispatch, size_t host)
{
    static const struct ph_tlsa unasked = {.status = PH_TLSA_NONE}; // TLSA is looked up later
    const struct ph_prospect *prospect = &site->prospects[host];
    struct ph_worker *worker = site->worker;
    struct ph_reason reason;
    struct ph_gate_subject subject = {
        .facts = &prospect->facts,
        .tlsa = &unasked,
        .connector = dispatch->connector,
        .recipient_domain = dispatch->domain,
        .host = site->spec->hosts[host].is_literal ? PH_STR_NONE
                                                   : ph_str_from(site->spec->hosts[host].name),
        .wall_ms = ph_worker_wall_ms(worker),
    };
    const struct ph_tls_policy *policy = dispatch->policy;

    if (prospect->seen_ms == 0 ||
        ph_worker_now_ms(worker) - prospect->seen_ms >= PH_PROSPECT_KEPT_MS) {
        return false;
    }
    ph_hops_face(dispatch, site->spec->hosts[host].name, subject.wall_ms);
    if (prospect->facts.chain != NULL && policy->trust != NULL &&
        ph_tls_policy_wants_verdict(policy)) {
        subject.verdict =
            ph_verify_chain(worker->tls, prospect->facts.chain, policy->trust, subject.wall_ms);
    }
    return ph_gate_judge_session(policy, &subject, &reason) == PH_GATE_REFUSED;
}

void ph_prospects_order(struct ph_site *site, struct ph_dispatch *dispatch, uint16_t *order,
                        size_t count)
{
    const struct ph_site_host *hosts = site->spec->hosts;

    for (size_t i = 0; site->prospects != NULL && i < count;) {
        size_t end = i + 1;
        size_t left = i;

        while (end < count && hosts[order[end]].preference == hosts[order[i]].preference) {
            end++;
        }
        for (size_t looked = i; looked < end && end - i > 1; looked++) {
            uint16_t host = order[left];

            if (unpromising(site, dispatch, host)) {
                memmove(&order[left], &order[left + 1], (end - left - 1) * sizeof(*order));
                order[end - 1] = host;
            } else {
                left++;
            }
        }
        i = end;
    }
}
