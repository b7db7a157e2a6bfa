// Name constraints and wildcards.
#include "tls/constraint.h"

#include <openssl/x509v3.h>

#include "base/str.h"

static struct ph_str dns_text(const GENERAL_NAME *name)
{
    struct ph_str text = PH_STR_NONE;

    if (name->type == GEN_DNS) {
        text = (struct ph_str){.data = (const char *)ASN1_STRING_get0_data(name->d.dNSName),
                               .len = (size_t)ASN1_STRING_length(name->d.dNSName)};
    }
    return text;
}

// "*.example.org" stands for names of one more label: among them, or above them, is the excluded
// "bar.example.org". What is excluded at or above "example.org" X509_verify_cert has found.
static bool covers(struct ph_str wildcard, struct ph_str excluded)
{
    ptrdiff_t dot = ph_str_find_char(excluded, '.');

    return ph_str_starts(wildcard, PH_STR("*.")) && dot > 0 &&
           ph_str_eq_nocase(ph_str_after(wildcard, 2), ph_str_after(excluded, (size_t)dot + 1));
}

bool ph_constraint_forbids_wildcard(X509 *authority, X509 *leaf)
{
    NAME_CONSTRAINTS *constraints = X509_get_ext_d2i(authority, NID_name_constraints, NULL, NULL);
    GENERAL_NAMES *names = NULL;
    size_t subtree_count = 0;
    bool forbids = false;

    if (constraints != NULL && constraints->excludedSubtrees != NULL) {
        subtree_count = sk_GENERAL_SUBTREE_num(constraints->excludedSubtrees);
        names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    }
    for (size_t i = 0; names != NULL && !forbids && i < sk_GENERAL_NAME_num(names); i++) {
        struct ph_str presented = dns_text(sk_GENERAL_NAME_value(names, i));

        for (size_t j = 0; !forbids && presented.len > 0 && j < subtree_count; j++) {
            forbids =
                covers(presented,
                       dns_text(sk_GENERAL_SUBTREE_value(constraints->excludedSubtrees, j)->base));
        }
    }
    GENERAL_NAMES_free(names);
    NAME_CONSTRAINTS_free(constraints);
    return forbids;
}
