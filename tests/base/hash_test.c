#include "base/hash.h"

#include <criterion/criterion.h>

Test(hash, case_is_folded_and_the_seed_counts)
{
    char long_name[1000];

    memset(long_name, 'A', sizeof(long_name));
    cr_assert_eq(ph_hash_str_nocase(PH_STR("MX.Example.NET"), 1),
                 ph_hash_str_nocase(PH_STR("mx.example.net"), 1));
    cr_assert_neq(ph_hash_str(PH_STR("a"), 1), ph_hash_str(PH_STR("a"), 2));
    cr_assert_neq(ph_hash_str_nocase(PH_STR("a"), 1), ph_hash_str_nocase(PH_STR("a"), 2));
    cr_assert_neq(ph_hash_str_nocase((struct ph_str){long_name, 1000}, 1),
                  ph_hash_str_nocase((struct ph_str){long_name, 999}, 1));
    cr_assert_eq(ph_hash_bytes("ab", 2, 5), ph_hash_str(PH_STR("ab"), 5));
}
