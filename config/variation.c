// Settings of the command line in the place of the file's.
#include "config/variation.h"

#include <stdlib.h>
#include <string.h>

#include "config/keys.h"

static const struct ph_key *find_key(struct ph_str name)
{
    size_t count;
    const struct ph_key *keys = ph_keys_of(PH_BLOCK_SEND, &count);

    for (size_t i = 0; i < count; i++) {
        if (ph_str_eq_nocase(name, ph_str_from(keys[i].name))) {
            return &keys[i];
        }
    }
    return NULL; // the builder says so
}

static void put_setting(const struct ph_config_setting *setting, struct ph_buf *out)
{
    const struct ph_key *key = find_key(setting->key);
    bool text = key != NULL && (key->type == PH_KEY_TEXT || key->type == PH_KEY_LIST);
    bool bare =
        setting->value.len == 0 || (setting->value.data[0] != '"' && setting->value.data[0] != '{');
    const char *quote = text && bare ? "\"" : "";

    ph_buf_printf(out, "%.*s = %s%.*s%s\n", PH_STR_ARG(setting->key), quote,
                  PH_STR_ARG(setting->value), quote);
}

static struct ph_config_block *find_block(struct ph_config_tree *tree, struct ph_str label)
{
    for (size_t i = 1; i < tree->block_count; i++) {
        if (ph_str_eq_nocase(tree->blocks[i].type, PH_STR("SendConnector")) &&
            ph_str_eq_nocase(tree->blocks[i].label, label)) {
            return &tree->blocks[i];
        }
    }
    return NULL;
}

static void put_pair(struct ph_config_block *block, const struct ph_config_pair *pair)
{
    for (size_t i = 0; i < block->pair_count; i++) {
        if (ph_str_eq_nocase(block->pairs[i].key, pair->key)) {
            block->pairs[i] = *pair;
            return;
        }
    }
    block->pairs = reallocarray(block->pairs, block->pair_count + 1, sizeof(*pair));
    PH_CHECK(block->pairs != NULL);
    block->pairs[block->pair_count++] = *pair;
}

bool ph_config_vary(struct ph_config_tree *tree, const struct ph_config_variation *variation,
                    struct ph_buf *errors)
{
    struct ph_buf text = {0};
    struct ph_config_block *block;
    struct ph_config_block *given;
    bool good;

    ph_buf_append(&text, PH_STR("SendConnector \"given\" {\n"));
    for (size_t i = 0; i < variation->setting_count; i++) {
        put_setting(&variation->settings[i], &text);
    }
    ph_buf_append(&text, PH_STR("}\n"));
    good = ph_config_parse(tree, "--set", ph_buf_str(&text), NULL, 0, errors);
    block = find_block(tree, variation->connector);
    if (good && block != NULL) {
        given = &tree->blocks[--tree->block_count];
        for (size_t i = 0; i < given->pair_count; i++) {
            put_pair(block, &given->pairs[i]);
        }
        free(given->pairs);
    }
    ph_buf_deinit(&text);
    return good;
}
