// `posthaste log verify` and `log report`: what the delivery log holds, and whether it is whole.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/log_lines.h"
#include "tls/digest.h"

#define CHAIN_MEMBER ",\"chain\":\""
#define CHAIN_MEMBER_LEN (sizeof(CHAIN_MEMBER) - 1)
#define CHAIN_TAIL_LEN (CHAIN_MEMBER_LEN + PH_DIGEST_TEXT_MAX - 1 + 2) // and "}
#define PLACE_MAX 64                                                   // "RUN.WORKER"
#define PROBLEMS_TOLD_MAX 100                                          // ours

// --- verify ---

struct chain {
    UT_hash_handle hh;
    char key[PLACE_MAX]; // "RUN.WORKER"
    uint64_t first;
    uint64_t last;
    char digest[PH_DIGEST_TEXT_MAX];
};

struct verification {
    struct chain *chains; // uthash
    uint64_t lines;
    uint64_t problems;
    struct ph_json *json; // of the problems; NULL: they are printed
};

static void tell(struct verification *v, const struct ph_log_line *line, const char *what)
{
    char text[512];

    v->problems++;
    snprintf(text, sizeof(text), "%s:%llu: %s", line->file, (unsigned long long)line->number, what);
    if (v->problems > PROBLEMS_TOLD_MAX) {
        return;
    }
    if (v->json != NULL) {
        ph_json_text(v->json, NULL, text);
    } else {
        printf("%s\n", text);
    }
}

// …,"seq":"RUN.WORKER.N","chain":"DIGEST"}
static bool read_place(struct ph_str text, struct ph_str *out_covered, char key[PLACE_MAX],
                       uint64_t *out_number, struct ph_str *out_digest)
{
    static const struct ph_str mark = PH_STR("\"seq\":\"");
    struct ph_str tail;
    struct ph_str place;
    size_t dot;

    if (text.len < CHAIN_TAIL_LEN) {
        return false;
    }
    *out_covered = ph_str_first(text, text.len - CHAIN_TAIL_LEN);
    tail = ph_str_after(text, out_covered->len);
    if (!ph_str_starts(tail, PH_STR(CHAIN_MEMBER)) || tail.data[tail.len - 2] != '"' ||
        tail.data[tail.len - 1] != '}') {
        return false;
    }
    *out_digest = ph_str_first(ph_str_after(tail, CHAIN_MEMBER_LEN), PH_DIGEST_TEXT_MAX - 1);
    place = *out_covered;
    for (size_t at = place.len; at > 0; at--) {
        if (ph_str_starts(ph_str_after(place, at - 1), mark)) {
            place = ph_str_after(place, at - 1 + mark.len);
            break;
        }
    }
    if (place.len < 2 || place.len == out_covered->len || place.data[place.len - 1] != '"') {
        return false;
    }
    place.len--;
    for (dot = place.len; dot > 0 && place.data[dot - 1] != '.'; dot--) {
    }
    if (dot < 2 || dot >= PLACE_MAX || !ph_str_to_u64(ph_str_after(place, dot), out_number)) {
        return false;
    }
    ph_str_copy(key, PLACE_MAX, ph_str_first(place, dot - 1));
    return *out_number > 0;
}

static struct chain *chain_of(struct verification *v, const char *key)
{
    struct chain *chain;

    HASH_FIND(hh, v->chains, key, strlen(key), chain);
    if (chain == NULL) {
        chain = ph_alloc(sizeof(*chain));
        ph_str_copy(chain->key, sizeof(chain->key), ph_str_from(key));
        HASH_ADD_KEYPTR(hh, v->chains, chain->key, strlen(chain->key), chain);
    }
    return chain;
}

static void follow(struct verification *v, const struct ph_log_line *line, struct chain *chain,
                   struct ph_str covered, uint64_t number, struct ph_str digest)
{
    bool begins = chain->last == 0;
    char computed[PH_DIGEST_TEXT_MAX];
    char what[256];

    if (begins) {
        chain->first = number;
    } else if (number != chain->last + 1) {
        snprintf(what, sizeof(what),
                 "%s: %llu follows %llu in chain %s; the lines between are missing",
                 number > chain->last ? "a gap" : "out of order", (unsigned long long)number,
                 (unsigned long long)chain->last, chain->key);
        tell(v, line, what);
    }
    // The first line that is here of a chain that began in another file can't be checked.
    if ((begins && number == 1) || number == chain->last + 1) {
        ph_digest_chain(chain->digest, covered, computed);
        if (!ph_str_eq(digest, ph_str_from(computed))) {
            tell(v, line,
                 "altered: the line, or the one before it in its chain, is not as it was "
                 "written");
        }
    }
    chain->last = number;
    ph_str_copy(chain->digest, sizeof(chain->digest), digest);
}

static bool verify_line(void *owner, const struct ph_log_line *line)
{
    struct verification *v = owner;
    struct ph_str covered;
    struct ph_str digest;
    char key[PLACE_MAX];
    uint64_t number;

    v->lines++;
    if (line->torn) {
        tell(v, line, "the file ends within this line");
    } else if (!read_place(line->text, &covered, key, &number, &digest)) {
        tell(v, line, "this is no line of a delivery log: it has no place in a chain");
    } else {
        follow(v, line, chain_of(v, key), covered, number, digest);
    }
    return true;
}

static void print_chains(struct verification *v, bool json)
{
    struct chain *chain;
    struct chain *next;

    HASH_ITER(hh, v->chains, chain, next)
    {
        if (!json && chain->first > 1) {
            printf("chain %s begins with its line %llu: those before are in another file\n",
                   chain->key, (unsigned long long)chain->first);
        }
        HASH_DEL(v->chains, chain);
        free(chain);
    }
}

static int verify(const struct ph_cli_options *options)
{
    struct ph_buf text = {0};
    struct ph_json json;
    struct verification v = {.json = options->json ? &json : NULL};
    bool read;
    unsigned chains;

    ph_json_init(&json, &text);
    ph_json_open_object(&json, NULL);
    ph_json_open_array(&json, "problems");
    read = ph_cli_log_lines(options->arguments + 1, options->argument_count - 1, verify_line, &v);
    ph_json_close_array(&json);
    chains = HASH_COUNT(v.chains);
    print_chains(&v, options->json);
    ph_json_u64(&json, "lines", v.lines);
    ph_json_u64(&json, "chains", chains);
    ph_json_u64(&json, "problem_count", v.problems);
    ph_json_close_object(&json);
    if (options->json) {
        printf("%.*s\n", PH_STR_ARG(ph_buf_str(&text)));
    } else {
        printf("%llu lines in %u chains, %llu problems\n", (unsigned long long)v.lines, chains,
               (unsigned long long)v.problems);
    }
    ph_buf_deinit(&text);
    return !read ? PH_EXIT_UNREADABLE : v.problems == 0 ? PH_EXIT_YES : PH_EXIT_NO;
}

// --- report: what Mode = report let pass ---

struct tally {
    UT_hash_handle hh;
    char *key; // a connector; within one: "reason at host"
    uint64_t of;
    uint64_t would;
    struct tally *below; // uthash
};

static struct tally *tally_of(struct tally **table, const char *key)
{
    struct tally *tally;

    HASH_FIND(hh, *table, key, strlen(key), tally);
    if (tally == NULL) {
        tally = ph_alloc(sizeof(*tally));
        tally->key = ph_strdup(key);
        HASH_ADD_KEYPTR(hh, *table, tally->key, strlen(tally->key), tally);
    }
    return tally;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

static bool report_line(void *owner, const struct ph_log_line *line)
{
    struct tally **connectors = owner;
    json_t *record = json_loadb(line->text.data, line->text.len, 0, NULL);
    const json_t *would = json_object_get(record, "would_defer");

    if (strcmp(text_of(json_object_get(record, "policy"), "mode"), "report") == 0 &&
        strcmp(text_of(record, "event"), "delivered") == 0) {
        struct tally *tally = tally_of(connectors, text_of(record, "connector"));

        tally->of++;
        if (would != NULL) {
            char key[512];

            tally->would++;
            snprintf(key, sizeof(key), "%s at %s", text_of(would, "reason"),
                     text_of(record, "host"));
            tally_of(&tally->below, key)->would++;
        }
    }
    json_decref(record);
    return true;
}

static void put_and_free(struct tally **table, struct ph_json *json, bool as_json)
{
    struct tally *tally;
    struct tally *next;

    HASH_ITER(hh, *table, tally, next)
    {
        if (as_json) {
            ph_json_open_object(json, NULL);
            ph_json_text(json, tally->of > 0 ? "connector" : "what", tally->key);
            ph_json_u64(json, "would_defer", tally->would);
            if (tally->of > 0) {
                ph_json_u64(json, "delivered", tally->of);
                ph_json_open_array(json, "why");
            }
        } else if (tally->of > 0) {
            printf("connector %s: the full setting would have deferred %llu of %llu deliveries\n",
                   tally->key, (unsigned long long)tally->would, (unsigned long long)tally->of);
        } else {
            printf("    %8llu  %s\n", (unsigned long long)tally->would, tally->key);
        }
        put_and_free(&tally->below, json, as_json);
        if (as_json && tally->of > 0) {
            ph_json_close_array(json);
        }
        if (as_json) {
            ph_json_close_object(json);
        }
        HASH_DEL(*table, tally);
        free(tally->key);
        free(tally);
    }
}

static int report(const struct ph_cli_options *options)
{
    struct ph_buf text = {0};
    struct ph_json json;
    struct tally *connectors = NULL;
    bool read = ph_cli_log_lines(options->arguments + 1, options->argument_count - 1, report_line,
                                 &connectors);

    ph_json_init(&json, &text);
    ph_json_open_array(&json, NULL);
    if (connectors == NULL && !options->json) {
        printf("nothing was delivered under Mode = report\n");
    }
    put_and_free(&connectors, &json, options->json);
    ph_json_close_array(&json);
    if (options->json) {
        printf("%.*s\n", PH_STR_ARG(ph_buf_str(&text)));
    }
    ph_buf_deinit(&text);
    return read ? PH_EXIT_YES : PH_EXIT_UNREADABLE;
}

int ph_cli_log(int argc, char **argv)
{
    struct ph_cli_options options;
    bool read = ph_cli_options_read(argc, argv, &options);
    bool good = read && options.argument_count >= 2;
    bool verifies = good && strcmp(options.arguments[0], "verify") == 0;

    if (!good || options.help || (!verifies && strcmp(options.arguments[0], "report") != 0)) {
        printf(
            "usage: posthaste log verify FILE…   is the delivery log whole and as it was written?\n"
            "       posthaste log report FILE…   what Mode = report let pass that the full setting "
            "would defer\n"
            "Files in the order they were written; - is standard input. Both take --json.\n");
        return read && options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    return verifies ? verify(&options) : report(&options);
}
