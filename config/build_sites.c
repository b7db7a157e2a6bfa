// Site blocks: limits for hosts whose names match, whatever the domain.
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/build_parts.h"
#include "config/snapshot_parts.h"
#include "smtp/address.h"

static struct ph_rate rate_of(const struct ph_value *value)
{
    return (struct ph_rate){.count = value->number, .interval_ms = value->interval};
}

// "/…/": an expression over "CODE text".
static const regex_t *build_expression(struct ph_builder *b, const struct ph_value *value,
                                       struct ph_str word)
{
    struct ph_expression *expression = ph_alloc(sizeof(*expression));
    struct ph_buf text = {0};
    char why[128] = "";
    int result;

    ph_buf_append(&text, (struct ph_str){.data = word.data + 1, .len = word.len - 2});
    result =
        regcomp(&expression->compiled, ph_buf_cstr(&text), REG_EXTENDED | REG_ICASE | REG_NOSUB);
    ph_buf_deinit(&text);
    if (result != 0) {
        regerror(result, &expression->compiled, why, sizeof(why));
        ph_build_error(b, value->at, "C17", "BackoffOn",
                       "\"%.*s\" is no expression: %s; write \"/rate limit/\"", PH_STR_ARG(word),
                       why);
        free(expression);
        return NULL;
    }
    ph_build_keep_expression(b, expression);
    return &expression->compiled;
}

static void build_patterns(struct ph_builder *b, const struct ph_value *value,
                           struct ph_limits *limits)
{
    struct ph_reply_pattern *patterns = ph_build_alloc(b, value->word_count * sizeof(*patterns));

    for (size_t i = 0; i < value->word_count; i++) {
        struct ph_str word = value->words[i];
        uint64_t code = 0;

        if (word.len > 2 && word.data[0] == '/' && word.data[word.len - 1] == '/') {
            patterns[i].expression = build_expression(b, value, word);
        } else if (ph_str_to_u64(ph_str_first(word, 3), &code) && code >= 400 && code <= 599 &&
                   (word.len == 3 || word.data[3] == ' ')) {
            patterns[i].code = (uint16_t)code;
            patterns[i].prefix = ph_build_str(b, ph_str_trim(ph_str_after(word, 3)));
        } else {
            ph_build_error(b, value->at, "C17", "BackoffOn",
                           "\"%.*s\" is neither a reply's beginning nor an expression; write "
                           "\"421 4.7.28\" or \"/rate limit/\"",
                           PH_STR_ARG(word));
        }
    }
    limits->backoff_on = patterns;
    limits->backoff_on_count = value->word_count;
}

// "mx1.google.com", "*.google.com" (all below it) or "*", as hosts are written: A-labels, lower
// case.
static struct ph_str build_pattern(struct ph_builder *b, const struct ph_config_block *block)
{
    struct ph_str name = block->label;
    bool below = ph_str_starts(name, PH_STR("*."));
    char host[PH_DOMAIN_BYTES_MAX + 1];
    char pattern[PH_DOMAIN_BYTES_MAX + 3];

    if (ph_str_eq(name, PH_STR("*"))) {
        return PH_STR("*");
    }
    if (!ph_domain_normalize(below ? ph_str_after(name, 2) : name, host)) {
        ph_build_error(b, block->at, "C17", "Site",
                       "\"%.*s\" is no host's name; write Site \"*.example.net\" {",
                       PH_STR_ARG(name));
        return PH_STR_NONE;
    }
    snprintf(pattern, sizeof(pattern), "%s%s", below ? "*." : "", host);
    return ph_build_str(b, ph_str_from(pattern));
}

static void refuse_second(struct ph_builder *b, const struct ph_config_block *block,
                          const struct ph_site_block *sites, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (sites[i].pattern.len > 0 && ph_str_eq(sites[i].pattern, sites[count].pattern)) {
            ph_build_error(b, block->at, "C24", "Site",
                           "\"%.*s\" stands at %.*s already; put all its keys there",
                           PH_STR_ARG(block->label), PH_STR_ARG(sites[i].source));
        }
    }
}

void ph_build_sites(struct ph_builder *b)
{
    struct ph_site_block *sites = ph_build_alloc(b, b->tree.block_count * sizeof(*sites));

    for (size_t i = 1; i < b->tree.block_count; i++) {
        struct ph_config_block *block = &b->tree.blocks[i];
        struct ph_value v[PH_SITE_KEY_COUNT];
        struct ph_site_block *site = &sites[b->config->site_count];

        if (!ph_str_eq_nocase(block->type, PH_STR("Site"))) {
            continue;
        }
        ph_build_check_label(b, block, "*.example.net");
        ph_build_values(b, PH_BLOCK_SITE, block, v);
        if (block->label.len > 0) {
            site->pattern = build_pattern(b, block);
        }
        site->source = ph_build_source(b, block);
        refuse_second(b, block, sites, b->config->site_count);
        site->limits.max_connections = ph_build_bounded(v[PH_SITE_KEY_MAX_CONNECTIONS].number);
        site->limits.max_messages_per_connection =
            ph_build_bounded(v[PH_SITE_KEY_MESSAGES_PER_CONNECTION].number);
        site->limits.max_recipients_per_transaction =
            (uint32_t)v[PH_SITE_KEY_RECIPIENTS_PER_TRANSACTION].number;
        site->limits.pipeline_depth = (uint32_t)v[PH_SITE_KEY_PIPELINE_DEPTH].number;
        site->limits.connect_rate = rate_of(&v[PH_SITE_KEY_CONNECT_RATE]);
        site->limits.message_rate = rate_of(&v[PH_SITE_KEY_MESSAGE_RATE]);
        build_patterns(b, &v[PH_SITE_KEY_BACKOFF_ON], &site->limits);
        site->given =
            (v[PH_SITE_KEY_MAX_CONNECTIONS].given ? PH_SITE_GIVES_MAX_CONNECTIONS : 0u) |
            (v[PH_SITE_KEY_MESSAGES_PER_CONNECTION].given ? PH_SITE_GIVES_MESSAGES_PER_CONNECTION
                                                          : 0u) |
            (v[PH_SITE_KEY_RECIPIENTS_PER_TRANSACTION].given ? PH_SITE_GIVES_RECIPIENTS : 0u) |
            (v[PH_SITE_KEY_PIPELINE_DEPTH].given ? PH_SITE_GIVES_PIPELINE_DEPTH : 0u) |
            (v[PH_SITE_KEY_CONNECT_RATE].given ? PH_SITE_GIVES_CONNECT_RATE : 0u) |
            (v[PH_SITE_KEY_MESSAGE_RATE].given ? PH_SITE_GIVES_MESSAGE_RATE : 0u);
        b->config->site_count++;
    }
    b->config->sites = sites;
}
