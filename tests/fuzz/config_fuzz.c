// Configuration text: no crash, and either a snapshot or errors that name a line. Most lengths go
// through the grammar alone: what is built loads the system's trust anchors, a hundred times
// slower.
#include <string.h>

#include "config/load.h"
#include "config/parse.h"
#include "config/snapshot.h"
#include "tests/fuzz/input.h"

#define BUILT_ONE_IN 8

static void parse(struct ph_str text)
{
    struct ph_config_tree tree;
    struct ph_buf errors = {0};

    ph_config_tree_init(&tree);
    PH_CHECK(ph_config_parse(&tree, "f.conf", text, NULL, 0, &errors) == (errors.len == 0));
    ph_config_tree_deinit(&tree);
    ph_buf_deinit(&errors);
}

static void build(struct ph_str text)
{
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config = ph_config_parse_text("f.conf", text, NULL, &errors, &warnings);

    PH_CHECK((config != NULL) == (errors.len == 0));
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ph_str text = {.data = (const char *)data, .len = size};

    if (size % BUILT_ONE_IN == 0) {
        build(text);
    } else {
        parse(text);
    }
    return 0;
}
