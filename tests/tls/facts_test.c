#include "tls/facts.h"

#include <criterion/criterion.h>

static int destroyed;

static void count_destroy(struct ph_chain *chain)
{
    (void)chain;
    destroyed++;
}

Test(facts, a_chain_lives_as_long_as_its_references)
{
    struct ph_chain chain = {.references = 1, .destroy = count_destroy};

    ph_chain_retain(&chain);
    ph_chain_release(&chain);
    cr_assert_eq(destroyed, 0);
    ph_chain_release(&chain);
    cr_assert_eq(destroyed, 1);
    ph_chain_release(NULL);
}

Test(facts, plaintext_has_facts_too)
{
    struct ph_tls_facts facts = ph_tls_facts_plaintext(5, true);

    cr_assert_eq(facts.session_id, 5);
    cr_assert(facts.starttls_offered && !facts.encrypted && facts.chain == NULL);
    cr_assert_str_eq(ph_tls_version_name(0x0304), "TLS1.3");
    cr_assert_str_eq(ph_tls_version_name(0), "");
    cr_assert_str_eq(ph_revocation_name(PH_REVOCATION_NOT_CHECKABLE), "not-checkable");
}
