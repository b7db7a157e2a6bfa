#include "tls/digest.h"

#include <criterion/criterion.h>
#include <string.h>

Test(digest, chains)
{
    char digest[PH_DIGEST_TEXT_MAX] = "";
    char other[PH_DIGEST_TEXT_MAX];

    // SHA-256("abc"), FIPS 180-2 appendix B.1, its first half.
    ph_digest_chain("", PH_STR("abc"), digest);
    cr_expect_str_eq(digest, "ba7816bf8f01cfea414140de5dae2223");
    ph_digest_chain("a", PH_STR("bc"), other);
    cr_expect_str_eq(other, digest);
    ph_digest_chain(digest, PH_STR("abc"), digest);
    cr_expect_str_neq(other, digest);
    ph_digest_chain(other, PH_STR("abd"), other);
    cr_expect_str_neq(other, digest);
}
