// Names of facts, and counted references to a chain.
#include "tls/facts.h"

#include "base/check.h"

const char *ph_tls_version_name(uint16_t version)
{
    switch (version) {
    case 0x0301:
        return "TLS1.0";
    case 0x0302:
        return "TLS1.1";
    case 0x0303:
        return "TLS1.2";
    case 0x0304:
        return "TLS1.3";
    default:
        return "";
    }
}

const char *ph_revocation_name(enum ph_revocation revocation)
{
    static const char *const names[] = {
        [PH_REVOCATION_NOT_CHECKED] = "not-checked",
        [PH_REVOCATION_NOT_CHECKABLE] = "not-checkable",
        [PH_REVOCATION_UNKNOWN] = "unknown",
        [PH_REVOCATION_GOOD] = "good",
        [PH_REVOCATION_REVOKED] = "revoked",
    };

    return names[revocation];
}

struct ph_tls_facts ph_tls_facts_plaintext(uint64_t session_id, bool starttls_offered)
{
    return (struct ph_tls_facts){
        .session_id = session_id,
        .starttls_offered = starttls_offered,
        .cipher = "",
        .group = "",
    };
}

void ph_chain_retain(struct ph_chain *chain)
{
    PH_CHECK(chain->references > 0);
    chain->references++;
}

void ph_chain_release(struct ph_chain *chain)
{
    if (chain != NULL) {
        PH_CHECK(chain->references > 0);
        chain->references--;
        if (chain->references == 0) {
            chain->destroy(chain);
        }
    }
}
