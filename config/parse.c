// Text → blocks and pairs.
#include "config/parse.h"

#include <stdlib.h>
#include <string.h>

enum token_kind {
    TOKEN_WORD,
    TOKEN_STRING,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_EQUALS,
    TOKEN_COMMA,
    TOKEN_NEWLINE,
    TOKEN_END,
    TOKEN_BAD,
};

struct token {
    enum token_kind kind;
    struct ph_str text;
    uint32_t line;
};

struct parser {
    struct ph_config_tree *tree;
    const char *file;
    struct ph_str rest;
    uint32_t line;
    struct token next;
    struct ph_buf *errors;
    const struct ph_config_includes *includes;
    unsigned depth;
    bool failed;
    size_t block;        // pairs go here
    uint32_t value_line; // where the last pair's single value stands
};

static void *own(struct ph_config_tree *tree, void *memory)
{
    tree->owned = reallocarray(tree->owned, tree->owned_count + 1, sizeof(*tree->owned));
    PH_CHECK(tree->owned != NULL);
    tree->owned[tree->owned_count++] = memory;
    return memory;
}

static struct ph_str own_str(struct ph_config_tree *tree, struct ph_str text)
{
    char *copy = own(tree, ph_alloc(text.len + 1));

    memcpy(copy, text.data, text.len);
    return (struct ph_str){.data = copy, .len = text.len};
}

void ph_config_tree_init(struct ph_config_tree *tree)
{
    *tree = (struct ph_config_tree){0};
    tree->blocks = ph_alloc(sizeof(*tree->blocks));
    tree->block_count = 1;
    tree->blocks[0].type = PH_STR_NONE;
    tree->blocks[0].label = PH_STR_NONE;
}

void ph_config_tree_deinit(struct ph_config_tree *tree)
{
    for (size_t i = 0; i < tree->block_count; i++) {
        free(tree->blocks[i].pairs);
    }
    for (size_t i = 0; i < tree->owned_count; i++) {
        free(tree->owned[i]);
    }
    free(tree->owned);
    free(tree->blocks);
    *tree = (struct ph_config_tree){0};
}

static void fail(struct parser *p, uint32_t line, const char *what)
{
    p->failed = true;
    ph_buf_printf(p->errors, "%s:%u: C27 syntax: %s\n", p->file, line, what);
}

// --- tokens ---

static bool is_word_byte(char c)
{
    return (unsigned char)c > 0x20 && c != 0x7f && strchr("{}=,\"#", c) == NULL;
}

static void read_string(struct parser *p, struct token *token)
{
    struct ph_buf text = {0};
    size_t at = 1;

    token->kind = TOKEN_STRING;
    while (at < p->rest.len && p->rest.data[at] != '"' && p->rest.data[at] != '\n') {
        at += p->rest.data[at] == '\\' && at + 1 < p->rest.len;
        ph_buf_append_char(&text, p->rest.data[at]);
        at++;
    }
    if (at >= p->rest.len || p->rest.data[at] != '"') {
        fail(p, p->line, "a string isn't closed on its line; end it with \"");
        token->kind = TOKEN_BAD;
    } else {
        at++;
    }
    token->text = own_str(p->tree, ph_buf_str(&text));
    ph_buf_deinit(&text);
    p->rest = ph_str_after(p->rest, at);
}

static void advance(struct parser *p)
{
    struct token *token = &p->next;
    char c;

    while (p->rest.len > 0 &&
           (p->rest.data[0] == ' ' || p->rest.data[0] == '\t' || p->rest.data[0] == '\r')) {
        p->rest = ph_str_after(p->rest, 1);
    }
    if (p->rest.len > 0 && p->rest.data[0] == '#') {
        ptrdiff_t end = ph_str_find_char(p->rest, '\n');

        p->rest = ph_str_after(p->rest, end >= 0 ? (size_t)end : p->rest.len);
    }
    *token = (struct token){.kind = TOKEN_END, .line = p->line};
    if (p->rest.len == 0) {
        return;
    }
    c = p->rest.data[0];
    if (c == '"') {
        read_string(p, token);
        return;
    }
    if (is_word_byte(c)) {
        size_t len = 0;

        while (len < p->rest.len && is_word_byte(p->rest.data[len])) {
            len++;
        }
        token->kind = TOKEN_WORD;
        token->text = own_str(p->tree, ph_str_first(p->rest, len));
        p->rest = ph_str_after(p->rest, len);
        return;
    }
    token->kind = c == '{'    ? TOKEN_OPEN
                  : c == '}'  ? TOKEN_CLOSE
                  : c == '='  ? TOKEN_EQUALS
                  : c == ','  ? TOKEN_COMMA
                  : c == '\n' ? TOKEN_NEWLINE
                              : TOKEN_BAD;
    if (token->kind == TOKEN_BAD) {
        fail(p, p->line, "a control character stands here; remove it");
    }
    p->line += c == '\n';
    p->rest = ph_str_after(p->rest, 1);
}

static void skip_line(struct parser *p)
{
    while (p->next.kind != TOKEN_NEWLINE && p->next.kind != TOKEN_END &&
           p->next.kind != TOKEN_CLOSE) {
        advance(p);
    }
}

// --- pairs and blocks ---

static void add_word(struct ph_config_pair *pair, const struct token *token)
{
    pair->words = reallocarray(pair->words, pair->word_count + 1, sizeof(*pair->words));
    PH_CHECK(pair->words != NULL);
    pair->words[pair->word_count++] =
        (struct ph_config_word){.text = token->text, .quoted = token->kind == TOKEN_STRING};
}

static bool is_value(const struct token *token)
{
    return token->kind == TOKEN_WORD || token->kind == TOKEN_STRING;
}

static void read_list(struct parser *p, struct ph_config_pair *pair)
{
    bool expect_value = true;

    pair->list = true;
    advance(p);
    while (p->next.kind != TOKEN_CLOSE && p->next.kind != TOKEN_END) {
        if (p->next.kind == TOKEN_NEWLINE) {
            advance(p);
        } else if (expect_value && is_value(&p->next)) {
            add_word(pair, &p->next);
            expect_value = false;
            advance(p);
        } else if (!expect_value && p->next.kind == TOKEN_COMMA) {
            expect_value = true;
            advance(p);
        } else {
            fail(p, p->next.line, "a list has a comma between two values; write {\"a\", \"b\"}");
            skip_line(p);
            expect_value = true;
        }
    }
    if (p->next.kind == TOKEN_END) {
        fail(p, pair->at.line, "a list isn't closed; end it with }");
    } else {
        advance(p);
    }
}

static void store_pair(struct parser *p, struct ph_config_pair *pair)
{
    struct ph_config_block *block = &p->tree->blocks[p->block];

    if (pair->words != NULL) {
        own(p->tree, pair->words);
    }
    for (size_t i = 0; i < block->pair_count; i++) {
        if (ph_str_eq_nocase(block->pairs[i].key, pair->key)) {
            p->failed = true;
            ph_buf_printf(p->errors,
                          "%s:%u: C27 %.*s: given twice; the first is at %s:%u, remove one\n",
                          p->file, pair->at.line, PH_STR_ARG(pair->key), block->pairs[i].at.file,
                          block->pairs[i].at.line);
            return;
        }
    }
    block->pairs = reallocarray(block->pairs, block->pair_count + 1, sizeof(*pair));
    PH_CHECK(block->pairs != NULL);
    block->pairs[block->pair_count++] = *pair;
}

static void read_pair(struct parser *p, const struct token *key)
{
    struct ph_config_pair pair = {.key = key->text, .at = {.file = p->file, .line = key->line}};

    advance(p); // the '='
    if (is_value(&p->next)) {
        add_word(&pair, &p->next);
        p->value_line = p->next.line;
        advance(p);
    } else if (p->next.kind == TOKEN_OPEN) {
        read_list(p, &pair);
    } else {
        if (p->next.kind != TOKEN_BAD) { // which has been told of
            fail(p, key->line, "a value is missing behind =; write Key = value");
        }
        skip_line(p);
        return;
    }
    store_pair(p, &pair);
}

static void open_block(struct parser *p, const struct token *type, struct ph_str label)
{
    struct ph_config_tree *tree = p->tree;

    tree->blocks = reallocarray(tree->blocks, tree->block_count + 1, sizeof(*tree->blocks));
    PH_CHECK(tree->blocks != NULL);
    tree->blocks[tree->block_count] = (struct ph_config_block){
        .type = type->text,
        .label = label,
        .at = {.file = p->file, .line = type->line},
    };
    p->block = tree->block_count++;
}

static void include(struct parser *p, struct ph_str glob, uint32_t line)
{
    if (p->includes == NULL || p->depth >= PH_CONFIG_INCLUDE_DEPTH_MAX) {
        fail(p, line, "too many files include each other here; does one include itself?");
    } else if (!p->includes->expand(p->includes->owner,
                                    (struct ph_config_position){.file = p->file, .line = line},
                                    glob, p->tree, p->errors, p->depth + 1)) {
        p->failed = true;
    }
}

static void refuse_word(struct parser *p, const struct token *word)
{
    p->failed = true;
    ph_buf_printf(p->errors, "%s:%u: C27 syntax: \"%.*s\" %s\n", p->file, word->line,
                  word->text.len < 64 ? (int)word->text.len : 64, word->text.data,
                  p->value_line == word->line
                      ? "stands behind a whole value; a number and its unit are one word (35MB, "
                        "15m), several values stand in braces {…}"
                      : "is neither a pair nor a block; write Key = value, or Block \"name\" {");
}

// What begins with a word: a pair, a block or an include.
static void read_item(struct parser *p)
{
    struct token word = p->next;
    struct ph_str label = PH_STR_NONE;

    advance(p);
    if (p->next.kind == TOKEN_EQUALS) {
        read_pair(p, &word);
        return;
    }
    if (is_value(&p->next)) {
        label = p->next.text;
        advance(p);
    }
    if (label.len > 0 && ph_str_eq_nocase(word.text, PH_STR("include"))) {
        include(p, label, word.line);
    } else if (p->next.kind == TOKEN_OPEN && p->block == 0) {
        open_block(p, &word, label);
        advance(p);
    } else if (p->next.kind == TOKEN_OPEN) {
        fail(p, word.line, "a block stands within another; close the one before with }");
        skip_line(p);
        advance(p);
    } else {
        refuse_word(p, &word);
        skip_line(p);
    }
}

bool ph_config_parse(struct ph_config_tree *tree, const char *file, struct ph_str text,
                     const struct ph_config_includes *includes, unsigned depth,
                     struct ph_buf *errors)
{
    struct parser p = {
        .tree = tree,
        .file = own(tree, ph_strdup(file)),
        .rest = text,
        .line = 1,
        .errors = errors,
        .includes = includes,
        .depth = depth,
    };

    if (text.len > PH_CONFIG_BYTES_MAX) {
        fail(&p, 1, "the file is longer than 4 MiB; cut it in two and use include");
        return false;
    }
    advance(&p);
    while (p.next.kind != TOKEN_END) {
        if (p.next.kind == TOKEN_NEWLINE) {
            advance(&p);
        } else if (p.next.kind == TOKEN_WORD) {
            read_item(&p);
        } else if (p.next.kind == TOKEN_CLOSE && p.block != 0) {
            p.block = 0;
            advance(&p);
        } else {
            fail(&p, p.next.line, "this belongs to nothing; a line reads Key = value");
            advance(&p);
            skip_line(&p);
            if (p.next.kind == TOKEN_CLOSE && p.block == 0) {
                advance(&p);
            }
        }
    }
    if (p.block != 0) {
        fail(&p, tree->blocks[p.block].at.line, "the block isn't closed; end it with }");
    }
    return !p.failed;
}
