#include "config/parse.h"

#include <criterion/criterion.h>

static const struct {
    const char *text;
    const char *error; // NULL: none
} cases[] = {
    {"", NULL},
    {"A = 1\n", NULL},
    {"A = 1 B = {}  C = {a, \"b\"} # end", NULL},
    {"A = {\n 1,\n 2\n}\n", NULL},
    {"B \"x\" { A = 1 }\nB { A = 2 }", NULL},
    {"B \"x\"\n{ A = 1 }\n", "t:1: C27 syntax"},
    {"A = \"a\\\"b\"\r\n", NULL},
    {"A = \"open\nB = 1\n", "t:1: C27 syntax: a string isn't closed"},
    {"A =\n", "t:1: C27 syntax: a value is missing"},
    {"\nA\n", "t:2: C27 syntax"},
    {"A = {1 2}\n", "t:1: C27 syntax: a list"},
    {"A = {1, 2\n", "t:1: C27 syntax: a list isn't closed"},
    {"B { A = 1\n", "t:1: C27 syntax: the block isn't closed"},
    {"B { C { A = 1 } }\n", "t:1: C27 syntax: a block stands within another"},
    {"}\n", "t:1: C27 syntax"},
    {"A = 35 MB\n", "t:1: C27 syntax: \"MB\" stands behind a whole value"},
    {"A = 1\nMB\n", "t:2: C27 syntax: \"MB\" is neither"},
    {"= 1\n", "t:1: C27 syntax"},
    {"A = 1\na = 2\n", "t:2: C27 a: given twice; the first is at t:1"},
    {"A = \x01\n", "t:1: C27 syntax"},
    {"include \"x\"\n", "t:1: C27 syntax"},
};

Test(parse, good_and_bad_texts)
{
    for (size_t i = 0; i < PH_ARRAY_LEN(cases); i++) {
        struct ph_config_tree tree;
        struct ph_buf errors = {0};
        bool good;

        ph_config_tree_init(&tree);
        good = ph_config_parse(&tree, "t", ph_str_from(cases[i].text), NULL, 0, &errors);
        cr_expect_eq(good, cases[i].error == NULL, "%s\n%s", cases[i].text, ph_buf_cstr(&errors));
        cr_expect(cases[i].error == NULL ||
                      ph_str_starts(ph_buf_str(&errors), ph_str_from(cases[i].error)),
                  "wanted \"%s\", got %s", cases[i].error, ph_buf_cstr(&errors));
        ph_buf_deinit(&errors);
        ph_config_tree_deinit(&tree);
    }
}

// Wherever a file is cut, reading it ends, and says so or not.
Test(parse, cut_anywhere)
{
    struct ph_str whole = PH_STR("A = \"q\\\"\" B = {1, \"2\"}\nC \"l\" { D = 1 # x\n E = {} }\n");

    for (size_t len = 0; len <= whole.len; len++) {
        struct ph_config_tree tree;
        struct ph_buf errors = {0};

        ph_config_tree_init(&tree);
        if (ph_config_parse(&tree, "t", ph_str_first(whole, len), NULL, 0, &errors)) {
            cr_expect_eq(errors.len, 0);
        } else {
            cr_expect(errors.len > 0);
        }
        ph_buf_deinit(&errors);
        ph_config_tree_deinit(&tree);
    }
}

Test(parse, what_stands_where)
{
    struct ph_config_tree tree;
    struct ph_buf errors = {0};

    ph_config_tree_init(&tree);
    cr_assert(ph_config_parse(&tree, "t", PH_STR("A = b\n\nC \"d e\" {\n F = {\"g\", h}\n}\n"),
                              NULL, 0, &errors));
    cr_assert_eq(tree.block_count, 2);
    cr_expect(ph_str_eq(tree.blocks[0].pairs[0].words[0].text, PH_STR("b")));
    cr_expect(!tree.blocks[0].pairs[0].words[0].quoted);
    cr_expect(ph_str_eq(tree.blocks[1].type, PH_STR("C")));
    cr_expect(ph_str_eq(tree.blocks[1].label, PH_STR("d e")));
    cr_expect_eq(tree.blocks[1].at.line, 3);
    cr_expect_eq(tree.blocks[1].pairs[0].at.line, 4);
    cr_expect(tree.blocks[1].pairs[0].list);
    cr_expect_eq(tree.blocks[1].pairs[0].word_count, 2);
    cr_expect(tree.blocks[1].pairs[0].words[0].quoted && !tree.blocks[1].pairs[0].words[1].quoted);
    ph_buf_deinit(&errors);
    ph_config_tree_deinit(&tree);
}
