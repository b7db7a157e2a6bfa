// Domain Security's receiving side.
#include "tls/partner.h"

#include <string.h>

#include "tls/identity.h"

static bool check_chain(const struct ph_partner_subject *subject, struct ph_reason *out_reason)
{
    const struct ph_chain_verdict *verdict = subject->verdict;

    PH_CHECK(verdict != NULL &&
             memcmp(verdict->chain_hash, subject->facts->chain->hash, PH_SHA256_BYTES) == 0);
    if (verdict->kind != PH_REASON_NONE) {
        *out_reason =
            ph_reason_make(verdict->kind, "domain security: your certificate: %s", verdict->detail);
    } else if ((int64_t)(subject->wall_ms / 1000) >= verdict->valid_until_s) {
        *out_reason = ph_reason_make(PH_REASON_CERT_EXPIRED,
                                     "domain security: your certificate has expired; renew it");
    } else if (verdict->revocation == PH_REVOCATION_REVOKED) {
        *out_reason = ph_reason_make(PH_REASON_CERT_REVOKED,
                                     "domain security: your certificate is revoked: %s",
                                     verdict->revocation_detail);
    } else if (verdict->revocation == PH_REVOCATION_UNKNOWN) {
        *out_reason =
            ph_reason_make(PH_REASON_REVOCATION_UNKNOWN,
                           "domain security: whether your certificate is revoked can't be "
                           "ascertained now: %s",
                           verdict->revocation_detail);
    } else {
        return true;
    }
    return false;
}

bool ph_partner_judge(const struct ph_partner_subject *subject, struct ph_reason *out_reason)
{
    const struct ph_tls_facts *facts = subject->facts;

    if (!facts->encrypted || facts->chain == NULL) {
        *out_reason = ph_reason_make(
            PH_REASON_MUTUAL_NOT_REQUESTED,
            "domain security: mail from %.*s is taken over mutual TLS only; %s",
            PH_STR_ARG(subject->domain),
            facts->encrypted ? "show a certificate of yours when it is asked for" : "use STARTTLS");
        return false;
    }
    if (!check_chain(subject, out_reason)) {
        return false;
    }
    // Exchange looks in Subject or SAN: here in the Subject only where there are no DNS names.
    if (!ph_identity_match(facts->chain, &subject->domain, 1, PH_TLS_COMMON_NAME_FALLBACK)
             .matches) {
        *out_reason = ph_reason_make(PH_REASON_CERT_NAME_MISMATCH,
                                     "domain security: your certificate is not for %.*s; show one "
                                     "that has it among its DNS names",
                                     PH_STR_ARG(subject->domain));
        return false;
    }
    return true;
}
