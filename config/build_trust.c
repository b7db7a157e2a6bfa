// Trust stores: roots, intermediates and CRLs as connectors name them. Those that name the same
// share one: a bundle is parsed once.
#include <string.h>

#include "config/build_parts.h"

#define SYSTEM_ANCHORS PH_STR("system")

struct ph_trust_cache {
    struct ph_trust_wish wish;
    struct ph_trust *trust;
};

// `block`: what each file holds at least one of.
static bool append_files(struct ph_builder *b, const struct ph_trust_wish *wish,
                         const struct ph_value *value, const char *key, const char *block,
                         struct ph_buf *out)
{
    bool good = true;

    for (size_t i = 0; good && value != NULL && i < value->word_count; i++) {
        struct ph_str text;

        if (ph_str_eq_nocase(value->words[i], SYSTEM_ANCHORS)) {
            struct ph_buf error = {0};

            good = ph_trust_read_system(out, &error);
            if (!good && !wish->needed) {
                // Nothing of the configuration asks for it: what messages and destinations may
                // ask for (REQUIRETLS, MTA-STS) then fails, rather than the start.
                good = true;
            } else if (!good) {
                ph_build_error(b, value->at, "C20", key,
                               "the system's bundle can't be read (%.*s); install ca-certificates "
                               "or name a file",
                               PH_STR_ARG(ph_buf_str(&error)));
            }
            ph_buf_deinit(&error);
        } else {
            good = ph_build_file(b, value, value->words[i], "C20", key, &text, NULL);
            if (good && ph_str_find(text, ph_str_from(block)) < 0) {
                ph_build_error(b, value->at, "C20", key,
                               "%.*s holds nothing to go by; name a PEM file with -----%s-----",
                               PH_STR_ARG(value->words[i]), block);
                good = false;
            }
            if (good) {
                ph_buf_append(out, text);
                ph_buf_append_char(out, '\n');
            }
        }
    }
    return good;
}

static bool same_words(const struct ph_value *a, const struct ph_value *b)
{
    size_t count = a != NULL ? a->word_count : 0;
    bool same = count == (b != NULL ? b->word_count : 0);

    for (size_t i = 0; same && i < count; i++) {
        same = ph_str_eq(a->words[i], b->words[i]);
    }
    return same;
}

static struct ph_trust *find(const struct ph_builder *b, const struct ph_trust_wish *wish)
{
    for (size_t i = 0; i < b->trust_count; i++) {
        const struct ph_trust_wish *other = &b->trusts[i].wish;

        if (same_words(other->anchors, wish->anchors) &&
            same_words(other->intermediates, wish->intermediates) &&
            same_words(other->crls, wish->crls) && other->fetch == wish->fetch &&
            other->clients == wish->clients) {
            return b->trusts[i].trust;
        }
    }
    return NULL;
}

static const struct ph_value *keep_value(struct ph_builder *b, const struct ph_value *value)
{
    struct ph_value *kept = ph_build_alloc(b, sizeof(*kept));

    if (value != NULL) {
        *kept = *value;
    }
    return kept;
}

static void keep(struct ph_builder *b, const struct ph_trust_wish *wish, struct ph_trust *trust)
{
    struct ph_trust_cache *trusts = ph_build_alloc(b, (b->trust_count + 1) * sizeof(*trusts));

    if (b->trust_count > 0) {
        memcpy(trusts, b->trusts, b->trust_count * sizeof(*trusts));
    }
    trusts[b->trust_count] = (struct ph_trust_cache){.wish = *wish, .trust = trust};
    trusts[b->trust_count].wish.anchors = keep_value(b, wish->anchors);
    trusts[b->trust_count].wish.intermediates = keep_value(b, wish->intermediates);
    trusts[b->trust_count].wish.crls = keep_value(b, wish->crls);
    b->trusts = trusts;
    b->trust_count++;
}

// Files that are to be read again when they change; each once.
static void keep_crl_files(struct ph_builder *b, const struct ph_value *value)
{
    struct ph_config *config = b->config;
    struct ph_str *files =
        ph_build_alloc(b, (config->revocation_file_count + value->word_count) * sizeof(*files));
    size_t count = config->revocation_file_count;

    if (count > 0) {
        memcpy(files, config->revocation_files, count * sizeof(*files));
    }
    for (size_t i = 0; i < value->word_count; i++) {
        bool known = false;

        for (size_t j = 0; !known && j < count; j++) {
            known = ph_str_eq(files[j], value->words[i]);
        }
        if (!known) {
            files[count++] = value->words[i];
        }
    }
    config->revocation_files = files;
    config->revocation_file_count = count;
}

struct ph_trust *ph_build_trust(struct ph_builder *b, const struct ph_trust_wish *wish)
{
    struct ph_buf anchors = {0};
    struct ph_buf intermediates = {0};
    struct ph_buf crls = {0};
    struct ph_buf error = {0};
    struct ph_trust *trust = find(b, wish);

    if (trust == NULL &&
        append_files(b, wish, wish->anchors, "TlsTrustAnchors", "BEGIN CERTIFICATE", &anchors) &&
        append_files(b, wish, wish->intermediates, "TlsIntermediates", "BEGIN CERTIFICATE",
                     &intermediates) &&
        append_files(b, wish, wish->crls, "RevocationCrls", "BEGIN X509 CRL", &crls)) {
        trust = ph_trust_create(
            &(struct ph_trust_options){.anchors_pem = ph_buf_str(&anchors),
                                       .intermediates_pem = ph_buf_str(&intermediates),
                                       .crls_pem = ph_buf_str(&crls),
                                       .revocation_source = crls.len > 0,
                                       .revocation_fetch = wish->fetch,
                                       .clients = wish->clients},
            &error);
        if (trust == NULL) {
            ph_build_error(b, wish->anchors->at, "C20", "TlsTrustAnchors", "%.*s; name PEM files",
                           PH_STR_ARG(ph_buf_str(&error)));
        } else {
            ph_build_keep_trust(b, trust);
            keep_crl_files(b, wish->crls);
            keep(b, wish, trust);
        }
    }
    ph_buf_deinit(&anchors);
    ph_buf_deinit(&intermediates);
    ph_buf_deinit(&crls);
    ph_buf_deinit(&error);
    return trust;
}
