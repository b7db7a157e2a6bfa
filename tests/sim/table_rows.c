// Reads the truth table.
#include "tests/sim/table_rows.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "smtp/address.h"

#define PRESETS_MAX 16
#define LINE_COLUMNS 5

struct kept {
    SLIST_ENTRY(kept) link;
    char text[];
};

static struct {
    const char *path;
    unsigned line;
    SLIST_HEAD(, kept) kept;
    struct {
        const char *name;
        struct table_pairs keys;
    } presets[PRESETS_MAX];
    unsigned preset_count;
} reading;

PH_PRINTF(1, 2) static void refuse(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "%s:%u: ", reading.path, reading.line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static char *keep_room(size_t len)
{
    struct kept *kept = ph_alloc(sizeof(*kept) + len);

    SLIST_INSERT_HEAD(&reading.kept, kept, link);
    return kept->text;
}

static const char *keep(struct ph_str text)
{
    char *copy = keep_room(text.len + 1);

    ph_str_copy(copy, text.len + 1, text);
    return copy;
}

// --- pairs ---

const char *table_word(const struct table_pairs *pairs, const char *key)
{
    for (unsigned i = 0; i < pairs->count; i++) {
        if (strcmp(pairs->pairs[i].key, key) == 0) {
            return pairs->pairs[i].value;
        }
    }
    return NULL;
}

bool table_word_is(const struct table_pairs *pairs, const char *key, const char *value)
{
    const char *found = table_word(pairs, key);

    return found != NULL && strcmp(found, value) == 0;
}

// NULL: the key goes.
static void set(struct table_pairs *pairs, const char *key, const char *value)
{
    unsigned at = 0;

    while (at < pairs->count && strcmp(pairs->pairs[at].key, key) != 0) {
        at++;
    }
    if (value == NULL) {
        if (at < pairs->count) {
            pairs->count--;
            memmove(&pairs->pairs[at], &pairs->pairs[at + 1],
                    (pairs->count - at) * sizeof(pairs->pairs[0]));
        }
        return;
    }
    if (at == TABLE_PAIRS_MAX) {
        refuse("more than %u words", TABLE_PAIRS_MAX);
    }
    pairs->count += at == pairs->count;
    pairs->pairs[at].key = key;
    pairs->pairs[at].value = value;
}

// `key=value` or `key`.
static void cut_pair(struct ph_str text, struct ph_str *out_key, struct ph_str *out_value)
{
    *out_value = text;
    if (ph_str_cut(out_value, '=', out_key)) {
        *out_key = ph_str_trim(*out_key);
        *out_value = ph_str_trim(*out_value);
    } else {
        *out_key = ph_str_trim(text);
        *out_value = PH_STR_NONE;
    }
}

// The next word; one in quotation marks (text="two words") may have spaces.
static bool cut_word(struct ph_str *rest, struct ph_str *out)
{
    bool quoted = false;
    size_t len = 0;

    *rest = ph_str_trim(*rest);
    while (len < rest->len && (quoted || rest->data[len] != ' ')) {
        quoted ^= rest->data[len] == '"';
        len++;
    }
    *out = ph_str_first(*rest, len);
    *rest = ph_str_after(*rest, len);
    return out->len > 0;
}

static void read_words(struct ph_str text, struct table_pairs *out)
{
    struct ph_str word;
    struct ph_str key;
    struct ph_str value;

    while (cut_word(&text, &word)) {
        cut_pair(word, &key, &value);
        if (value.len > 1 && value.data[0] == '"') {
            value = ph_str_first(ph_str_after(value, 1), value.len - 2);
        }
        set(out, keep(key), keep(value));
    }
}

// The next of what `mark` parts: the last one too, empty or not.
static bool cut_part(struct ph_str *rest, struct ph_str mark, bool *done, struct ph_str *out)
{
    ptrdiff_t at = ph_str_find(*rest, mark);

    if (*done) {
        return false;
    }
    *done = at < 0;
    *out = ph_str_trim(at < 0 ? *rest : ph_str_first(*rest, (size_t)at));
    *rest = at < 0 ? PH_STR_NONE : ph_str_after(*rest, (size_t)at + mark.len);
    return true;
}

// `Key = value; Key = value` over what is there. `list` isn't the connector's.
static void read_settings(struct ph_str text, struct table_pairs *out)
{
    bool done = false;
    struct ph_str part;
    struct ph_str key;
    struct ph_str value;

    while (cut_part(&text, PH_STR(";"), &done, &part)) {
        if (part.len > 0) {
            cut_pair(part, &key, &value);
            set(out, keep(key), value.len > 0 ? keep(value) : NULL);
        }
    }
}

// --- names of the row's own ---

static bool in_word(struct ph_str text, size_t at)
{
    return at < text.len && (isalnum((unsigned char)text.data[at]) || text.data[at] == '_');
}

// How many bytes of a name to be made distinct stand at `at`?
static size_t name_at(struct ph_str text, size_t at)
{
    static const char *const anywhere[] = {"contoso", "provider"};
    struct ph_str here = ph_str_after(text, at);
    bool first = at == 0 || !in_word(text, at - 1);

    for (size_t i = 0; i < PH_ARRAY_LEN(anywhere); i++) {
        if (ph_str_starts_nocase(here, ph_str_from(anywhere[i]))) {
            return strlen(anywhere[i]);
        }
    }
    if (first && ph_str_starts_nocase(here, PH_STR("example")) && !in_word(text, at + 7)) {
        return 7;
    }
    return first && ph_str_starts_nocase(here, PH_STR("other.org")) ? 5 : 0;
}

// Each row has domains of its own: `text` with the row's name behind contoso, example, ….
static const char *distinct(const struct table_row *row, struct ph_str text)
{
    struct ph_buf out = {0};
    const char *kept;

    for (size_t at = 0; at < text.len;) {
        size_t len = name_at(text, at);

        ph_buf_append(&out, ph_str_first(ph_str_after(text, at), len > 0 ? len : 1));
        if (len > 0) {
            ph_buf_append(&out, ph_str_from(row->name));
        }
        at += len > 0 ? len : 1;
    }
    kept = keep(ph_buf_str(&out));
    ph_buf_deinit(&out);
    return kept;
}

// --- columns ---

static const struct table_pairs *preset(struct ph_str name)
{
    for (unsigned i = 0; i < reading.preset_count; i++) {
        if (ph_str_eq(ph_str_from(reading.presets[i].name), name)) {
            return &reading.presets[i].keys;
        }
    }
    refuse("no preset %.*s", PH_STR_ARG(name));
    return NULL;
}

static void read_preset(struct ph_str name, struct ph_str settings)
{
    PH_CHECK(reading.preset_count < PRESETS_MAX);
    reading.presets[reading.preset_count].name = keep(name);
    read_settings(settings, &reading.presets[reading.preset_count++].keys);
}

static void read_connector(struct table_row *row, struct ph_str text)
{
    struct table_connector *connector = &row->connectors[row->connector_count++];
    struct ph_str name;
    ptrdiff_t slash;
    const char *listed;

    (void)cut_word(&text, &name);
    slash = ph_str_find_char(name, '/');
    connector->preset = keep(slash < 0 ? name : ph_str_first(name, (size_t)slash));
    connector->keys = *preset(ph_str_from(connector->preset));
    if (slash >= 0) {
        const struct table_pairs *more = preset(ph_str_after(name, (size_t)slash));

        for (unsigned i = 0; i < more->count; i++) {
            set(&connector->keys, more->pairs[i].key, more->pairs[i].value);
        }
    }
    read_settings(text, &connector->keys);
    for (unsigned i = 0; i < connector->keys.count; i++) {
        connector->keys.pairs[i].value = distinct(row, ph_str_from(connector->keys.pairs[i].value));
    }
    listed = table_word(&connector->keys, "list");
    if (listed == NULL &&
        (strcmp(connector->preset, "SEC") == 0 || strcmp(connector->preset, "LST") == 0)) {
        listed = distinct(row, PH_STR("contoso.com"));
    }
    connector->listed = listed;
    set(&connector->keys, "list", NULL);
}

static void read_names(struct table_row *row, struct table_host *host, const char *names)
{
    struct ph_str rest = ph_str_from(distinct(row, ph_str_from(names)));
    bool done = false;
    struct ph_str name;

    while (cut_part(&rest, PH_STR(","), &done, &name)) {
        ptrdiff_t nul = ph_str_find(name, PH_STR("%00"));
        char *text = keep_room(name.len + 1);

        PH_CHECK(host->name_count < TABLE_NAMES_MAX);
        memcpy(text, name.data, name.len);
        if (nul >= 0) {
            text[nul] = '\0';
            memmove(text + nul + 1, text + nul + 3, name.len - (size_t)nul - 3);
            name.len -= 2;
        }
        if (name.len != 1 || text[0] != '-') {
            host->names[host->name_count++] = (struct ph_str){.data = text, .len = name.len};
        }
    }
}

static void read_host(struct table_row *row, struct ph_str text)
{
    struct table_host *host = &row->hosts[row->host_count];
    bool smart = table_is_smart(row);
    char usual[64];
    char names[96];
    const char *word;

    snprintf(usual, sizeof(usual), smart ? "relay.example.net" : "mx%u.contoso.com",
             row->host_count + 1);
    snprintf(names, sizeof(names), "%s%s", usual, smart ? "" : ",contoso.com");
    row->host_count++;
    read_words(text, &host->words);
    word = table_word(&host->words, "name");
    host->name = distinct(row, ph_str_from(word != NULL ? word : usual));
    word = table_word(&host->words, "san");
    read_names(row, host, word != NULL ? word : names);
    word = table_word(&host->words, "cn");
    host->common_name = word != NULL ? distinct(row, ph_str_from(word)) : NULL;
    word = table_word(&host->words, "sts");
    if (word != NULL) {
        set(&host->words, "sts", distinct(row, ph_str_from(word)));
    }
}

static void add_domain(struct table_row *row, const char *address)
{
    char domain[PH_DOMAIN_BYTES_MAX + 1];

    if (!ph_domain_normalize(ph_str_from(strchr(address, '@') + 1), domain)) {
        refuse("no recipient: %s", address);
    }
    for (unsigned i = 0; i < row->domain_count; i++) {
        if (strcmp(row->domains[i], domain) == 0) {
            return;
        }
    }
    row->domains[row->domain_count++] = keep(ph_str_from(domain));
}

static void read_steps(struct table_row *row, struct ph_str text)
{
    struct ph_str word;

    while (cut_word(&text, &word)) {
        const char *step = ph_str_find_char(word, '@') >= 0 ? distinct(row, word) : keep(word);

        if (row->step_count == TABLE_STEPS_MAX) {
            refuse("more than %u steps", TABLE_STEPS_MAX);
        }
        row->steps[row->step_count++] = step;
        if (strchr(step, '@') != NULL) {
            add_domain(row, step);
        }
    }
    // What befalls a message needs one.
    if (row->domain_count == 0) {
        row->steps[row->step_count] = distinct(row, PH_STR("u@contoso.com"));
        add_domain(row, row->steps[row->step_count++]);
    }
}

static void read_outcome(struct table_row *row, struct ph_str text)
{
    static const char *const kinds[] = {[TABLE_TLS] = "TLS",
                                        [TABLE_PLAIN] = "PLAIN",
                                        [TABLE_DEFER] = "DEFER",
                                        [TABLE_NDR] = "NDR",
                                        [TABLE_REJECT] = "REJECT"};
    struct table_outcome *outcome = &row->outcomes[row->outcome_count++];
    struct ph_str word;
    unsigned kind = 0;

    (void)cut_word(&text, &word);
    while (kind < PH_ARRAY_LEN(kinds) && !ph_str_eq(word, ph_str_from(kinds[kind]))) {
        kind++;
    }
    if (kind == PH_ARRAY_LEN(kinds)) {
        refuse("no outcome: %.*s", PH_STR_ARG(word));
    }
    outcome->kind = (enum table_kind)kind;
    if ((outcome->kind == TABLE_DEFER || outcome->kind == TABLE_NDR) && cut_word(&text, &word)) {
        outcome->status = keep(word);
    }
    if (outcome->kind >= TABLE_DEFER && cut_word(&text, &word)) {
        outcome->reason = keep(word);
    }
    read_words(text, &outcome->also);
}

static void read_each(struct table_row *row, struct ph_str text, const char *mark, unsigned most,
                      void (*read_one)(struct table_row *row, struct ph_str text))
{
    bool done = false;
    struct ph_str part;

    while (cut_part(&text, ph_str_from(mark), &done, &part)) {
        if (most-- == 0) {
            refuse("too many parts by %s", mark);
        }
        read_one(row, part);
    }
}

static void read_row(struct table *table, const struct ph_str *columns)
{
    struct table_row *row = &table->rows[table->row_count];
    char number[8];

    if (table->row_count == TABLE_ROWS_MAX) {
        refuse("more than %u rows", TABLE_ROWS_MAX);
    }
    row->index = table->row_count++;
    row->name = keep(columns[0]);
    ph_str_copy(number, sizeof(number), columns[0]);
    row->number = (unsigned)strtoul(number, NULL, 10);
    read_each(row, columns[1], "++", TABLE_CONNECTORS_MAX, read_connector);
    read_each(row, columns[2], "/", TABLE_HOSTS_MAX, read_host);
    read_steps(row, columns[3]);
    read_each(row, columns[4], " ; ", TABLE_OUTCOMES_MAX, read_outcome);
}

static void read_line(struct table *table, struct ph_str line)
{
    struct ph_str columns[LINE_COLUMNS];
    unsigned count = 0;
    bool done = false;

    while (count < LINE_COLUMNS && cut_part(&line, PH_STR("|"), &done, &columns[count])) {
        count++;
    }
    if (columns[0].len > 0 && columns[0].data[0] == '@' && count == 2) {
        read_preset(ph_str_after(columns[0], 1), columns[1]);
    } else if (count == LINE_COLUMNS && done) {
        read_row(table, columns);
    } else {
        refuse("%u columns, a row has %u", count, LINE_COLUMNS);
    }
}

const struct table *table_read(const char *path)
{
    static struct table table;
    FILE *file = fopen(path, "r");
    char line[1024];

    reading.path = path;
    if (file == NULL) {
        refuse("it can't be read");
        return NULL;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        struct ph_str text = ph_str_trim(ph_str_from(line));

        reading.line++;
        if (text.len > 0 && text.data[0] != '#') {
            read_line(&table, text);
        }
    }
    fclose(file);
    return &table;
}

// --- what a row says ---

bool table_has_step(const struct table_row *row, const char *step)
{
    for (unsigned i = 0; i < row->step_count; i++) {
        if (strncmp(row->steps[i], step, strlen(step)) == 0) {
            return true;
        }
    }
    return false;
}

bool table_is_smart(const struct table_row *row)
{
    return table_word_is(&row->connectors[0].keys, "DNSRoutingEnabled", "false") &&
           table_word(&row->connectors[0].keys, "SmartHosts") != NULL;
}

const struct table_outcome *table_outcome_of(const struct table_row *row, unsigned n)
{
    return &row->outcomes[n < row->outcome_count ? n : row->outcome_count - 1];
}

void table_connectors(const struct table_row *row, const char *changed, struct ph_buf *out)
{
    for (unsigned i = 0; i < row->connector_count; i++) {
        const struct table_pairs *keys = &row->connectors[i].keys;

        ph_buf_printf(out, "SendConnector \"row-%s%s\" {\n", row->name, i == 0 ? "" : "-b");
        for (unsigned k = 0; k < keys->count; k++) {
            ph_buf_printf(out, "    %s = %s\n", keys->pairs[k].key, keys->pairs[k].value);
        }
        if (changed != NULL && i == 0) {
            ph_buf_printf(out, "    %s\n", changed);
        }
        if (table_word(keys, "AddressSpaces") == NULL) {
            ph_buf_append(out, PH_STR("    AddressSpaces = {"));
            for (unsigned d = 0; d < row->domain_count; d++) {
                ph_buf_printf(out, "%s\"%s\"", d == 0 ? "" : ", ", row->domains[d]);
            }
            ph_buf_append(out, PH_STR("}\n"));
        }
        ph_buf_append(out, PH_STR("}\n"));
    }
}
