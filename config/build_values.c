// The values of a block: each key's text, its default, its bounds, and keys that don't belong
// there.
#include <stdio.h>
#include <string.h>

#include "config/build_parts.h"
#include "config/value.h"

static bool read_choice(const char *choices, struct ph_str text, uint64_t *out)
{
    bool on;
    struct ph_str rest = ph_str_from(choices);
    struct ph_str choice;

    for (uint64_t number = 0; ph_str_cut(&rest, '|', &choice); number++) {
        if (ph_str_eq_nocase(choice, text)) {
            *out = number;
            return true;
        }
    }
    if (strcmp(choices, "on|off") == 0 && ph_value_bool(text, &on)) {
        *out = on ? 0 : 1;
        return true;
    }
    return false;
}

// "did you mean CertificateValidation?", where a choice is nearly that.
static const char *nearest_choice(struct ph_builder *b, const struct ph_key *key,
                                  struct ph_str text)
{
    struct ph_str rest = ph_str_from(key->choices);
    struct ph_str choice;
    struct ph_str nearest = PH_STR_NONE;
    unsigned best = 4;

    while (ph_str_cut(&rest, '|', &choice)) {
        unsigned distance = ph_value_distance(text, choice);

        if (distance < best && distance < choice.len) {
            best = distance;
            nearest = choice;
        }
    }
    return nearest.len > 0 ? ph_build_str(b, nearest).data : NULL;
}

static const char *expected(const struct ph_key *key)
{
    switch (key->type) {
    case PH_KEY_BOOL:
        return "true or false";
    case PH_KEY_TIME:
        return "a time like 15m, 2d or 00:15:00";
    case PH_KEY_TIMES:
        return "a list of times like {5m, 10m}";
    case PH_KEY_SIZE:
        return "a size like 35MB, or unlimited";
    case PH_KEY_NUMBER:
        return "a number";
    case PH_KEY_SHARE:
        return "a share like 10%, or a size";
    case PH_KEY_RATE:
        return "a rate like 200/s, 50/m or off";
    case PH_KEY_CHOICE:
    case PH_KEY_BITS:
        return key->choices;
    case PH_KEY_TEXT:
    case PH_KEY_LIST:
        break;
    }
    return "a text in quotes";
}

static bool read_times(struct ph_builder *b, struct ph_value *value)
{
    uint64_t *times = ph_build_alloc(b, value->word_count * sizeof(*times));

    value->times = times;
    for (size_t i = 0; i < value->word_count; i++) {
        if (!ph_value_time_ms(value->words[i], &times[i])) {
            return false;
        }
    }
    return true;
}

static bool read_bits(const struct ph_key *key, struct ph_value *value)
{
    value->number = 0;
    for (size_t i = 0; i < value->word_count; i++) {
        uint64_t bit;

        if (!read_choice(key->choices, value->words[i], &bit)) {
            return false;
        }
        value->number |= UINT64_C(1) << bit;
    }
    return true;
}

static bool read_text(struct ph_builder *b, const struct ph_key *key, struct ph_value *value)
{
    bool good = true;

    switch (key->type) {
    case PH_KEY_TEXT:
    case PH_KEY_LIST:
        break;
    case PH_KEY_BOOL:
        good = ph_value_bool(value->text, &value->boolean);
        break;
    case PH_KEY_TIME:
        good = ph_value_time_ms(value->text, &value->number);
        break;
    case PH_KEY_SIZE:
        good = ph_value_size(value->text, &value->number);
        break;
    case PH_KEY_NUMBER:
        good = ph_value_number(value->text, &value->number);
        break;
    case PH_KEY_SHARE:
        value->percent = ph_value_percent(value->text, &value->number);
        good = value->percent || ph_value_size(value->text, &value->number);
        break;
    case PH_KEY_RATE:
        good = ph_value_rate(value->text, &value->number, &value->interval);
        break;
    case PH_KEY_TIMES:
        good = read_times(b, value);
        break;
    case PH_KEY_CHOICE: // blank is how Exchange writes None
        good = read_choice(key->choices, value->text.len > 0 ? value->text : PH_STR("None"),
                           &value->number);
        break;
    case PH_KEY_BITS:
        good = read_bits(key, value);
        break;
    }
    return good;
}

static bool within(const struct ph_key *key, uint64_t number)
{
    return number >= key->min && (key->max == 0 || number <= key->max);
}

static bool in_range(const struct ph_key *key, const struct ph_value *value)
{
    bool bounded =
        key->type == PH_KEY_TIME || key->type == PH_KEY_SIZE || key->type == PH_KEY_NUMBER;
    bool good = !bounded || within(key, value->number);

    for (size_t i = 0; key->type == PH_KEY_TIMES && i < value->word_count; i++) {
        good &= within(key, value->times[i]);
    }
    return good;
}

static void refuse_range(struct ph_builder *b, const struct ph_key *key,
                         const struct ph_value *value)
{
    bool times = key->type == PH_KEY_TIME || key->type == PH_KEY_TIMES;
    char from[PH_TIME_TEXT_MAX];
    char to[PH_TIME_TEXT_MAX];

    if (times) {
        ph_value_time_format(key->min, from);
        ph_value_time_format(key->max, to);
    } else {
        snprintf(from, sizeof(from), "%llu", (unsigned long long)key->min);
        snprintf(to, sizeof(to), "%llu", (unsigned long long)key->max);
    }
    if (key->max == 0) {
        ph_build_error(b, value->at, "C17", key->name, "%.*s is out of range; write %s or more",
                       PH_STR_ARG(value->text), from);
    } else {
        ph_build_error(b, value->at, "C17", key->name,
                       "%.*s is out of range; write something from %s to %s",
                       PH_STR_ARG(value->text), from, to);
    }
}

static void set_words(struct ph_builder *b, struct ph_value *value,
                      const struct ph_config_word *words, size_t count)
{
    struct ph_str *copies = ph_build_alloc(b, count * sizeof(*copies));

    for (size_t i = 0; i < count; i++) {
        copies[i] = ph_build_str(b, words[i].text);
    }
    value->words = copies;
    value->word_count = count;
    value->text = count > 0 ? copies[0] : PH_STR_NONE;
}

static bool is_list(const struct ph_key *key)
{
    return key->type == PH_KEY_LIST || key->type == PH_KEY_BITS || key->type == PH_KEY_TIMES;
}

static void set_default(struct ph_builder *b, const struct ph_key *key, struct ph_value *value)
{
    struct ph_config_word word = {.text = ph_str_from(key->fallback)};

    set_words(b, value, &word, word.text.len > 0 || !is_list(key) ? 1 : 0);
    PH_CHECK(read_text(b, key, value));
}

static const struct ph_config_word *bare_word(const struct ph_config_pair *pair)
{
    for (size_t i = 0; i < pair->word_count; i++) {
        if (!pair->words[i].quoted) {
            return &pair->words[i];
        }
    }
    return NULL;
}

static void refuse_text(struct ph_builder *b, const struct ph_key *key,
                        const struct ph_value *value)
{
    const char *nearest = key->type == PH_KEY_CHOICE ? nearest_choice(b, key, value->text) : NULL;

    if (nearest != NULL) {
        ph_build_error(b, value->at, "C17", key->name,
                       "\"%.*s\" isn't possible; did you mean %s? (%s)", PH_STR_ARG(value->text),
                       nearest, expected(key));
    } else {
        ph_build_error(b, value->at, "C17", key->name, "\"%.*s\" isn't possible; write %s",
                       PH_STR_ARG(value->text), expected(key));
    }
}

static void set_given(struct ph_builder *b, const struct ph_key *key,
                      const struct ph_config_pair *pair, struct ph_value *value)
{
    const struct ph_config_word *bare;

    value->given = true;
    value->at = pair->at;
    if (pair->list && !is_list(key)) {
        ph_build_error(b, pair->at, "C17", key->name, "takes one value, not a list; write %s",
                       expected(key));
        set_default(b, key, value);
        return;
    }
    set_words(b, value, pair->words, pair->word_count);
    bare = (key->type == PH_KEY_TEXT || key->type == PH_KEY_LIST) ? bare_word(pair) : NULL;
    if (bare != NULL) {
        ph_build_error(b, pair->at, "C27", key->name, "a text is quoted; write \"%.*s\"",
                       PH_STR_ARG(bare->text));
    } else if (!read_text(b, key, value)) {
        refuse_text(b, key, value);
        set_default(b, key, value);
    } else if (!in_range(key, value)) {
        refuse_range(b, key, value);
        set_default(b, key, value);
    }
    if (key->state == PH_KEY_NO_EFFECT) {
        ph_build_warning(b, pair->at, "W1", key->name, "no effect here");
    }
}

static struct ph_config_pair *find_pair(struct ph_config_block *block, const char *name)
{
    for (size_t i = 0; block != NULL && i < block->pair_count; i++) {
        if (ph_str_eq_nocase(block->pairs[i].key, ph_str_from(name))) {
            return &block->pairs[i];
        }
    }
    return NULL;
}

// The kind of block a key belongs to, where it stands in the wrong one.
static const char *home_of(struct ph_str key)
{
    for (int kind = PH_BLOCK_GLOBAL; kind < PH_BLOCK_KINDS; kind++) {
        size_t count;
        const struct ph_key *keys = ph_keys_of((enum ph_block_kind)kind, &count);

        for (size_t i = 0; i < count; i++) {
            if (ph_str_eq_nocase(key, ph_str_from(keys[i].name))) {
                return kind == PH_BLOCK_GLOBAL ? "outside of all blocks"
                                               : ph_block_name((enum ph_block_kind)kind);
            }
        }
    }
    return NULL;
}

static void refuse_unknown(struct ph_builder *b, const struct ph_key *keys, size_t count,
                           const struct ph_config_block *block)
{
    for (size_t i = 0; block != NULL && i < block->pair_count; i++) {
        const struct ph_config_pair *pair = &block->pairs[i];
        const char *nearest = NULL;
        unsigned best = 9;
        char key[64];

        if (pair->used) {
            continue;
        }
        for (size_t k = 0; k < count; k++) {
            unsigned distance = ph_value_distance(pair->key, ph_str_from(keys[k].name));

            if (distance < best) {
                best = distance;
                nearest = keys[k].name;
            }
        }
        ph_str_copy(key, sizeof(key), pair->key);
        if (home_of(pair->key) != NULL) {
            ph_build_error(b, pair->at, "C21", key, "unknown here; it belongs to %s",
                           home_of(pair->key));
        } else if (nearest != NULL && best <= 4) {
            ph_build_error(b, pair->at, "C21", key, "unknown; did you mean %s?", nearest);
        } else {
            ph_build_error(b, pair->at, "C21", key, "unknown here; remove it");
        }
    }
}

static void note_effective(struct ph_builder *b, enum ph_block_kind kind,
                           const struct ph_config_block *block, const struct ph_key *key,
                           const struct ph_value *value)
{
    struct ph_buf *out = &b->config->effective;

    if (kind != PH_BLOCK_GLOBAL) {
        ph_buf_printf(out, "%s%s%.*s%s.", ph_block_name(kind),
                      block != NULL && block->label.len > 0 ? " \"" : "",
                      block != NULL ? (int)block->label.len : 0,
                      block != NULL ? block->label.data : "",
                      block != NULL && block->label.len > 0 ? "\"" : "");
    }
    ph_buf_printf(out, "%s\t", key->name);
    for (size_t i = 0; i < value->word_count; i++) {
        ph_buf_printf(out, "%s%.*s", i > 0 ? ", " : "", PH_STR_ARG(value->words[i]));
    }
    if (value->given) {
        ph_buf_printf(out, "\t%s:%u\n", value->at.file, value->at.line);
    } else {
        ph_buf_append(out, PH_STR("\tdefault\n"));
    }
}

void ph_build_values(struct ph_builder *b, enum ph_block_kind kind, struct ph_config_block *block,
                     struct ph_value *out)
{
    size_t count;
    const struct ph_key *keys = ph_keys_of(kind, &count);

    for (size_t i = 0; i < count; i++) {
        struct ph_config_pair *pair = find_pair(block, keys[i].name);

        out[i] = (struct ph_value){0};
        if (pair != NULL) {
            pair->used = true;
            set_given(b, &keys[i], pair, &out[i]);
        } else {
            set_default(b, &keys[i], &out[i]);
            if (block != NULL) {
                out[i].at = block->at;
            }
        }
        note_effective(b, kind, block, &keys[i], &out[i]);
    }
    refuse_unknown(b, keys, count, block);
}
