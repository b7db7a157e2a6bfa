// The table's histories: which there are, and what each of them comes to.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/snapshot.h"
#include "tests/sim/scene.h"
#include "tests/sim/table.h"
#include "tests/sim/table_parts.h"
#include "tests/sim/table_pki.h"

#define LIFE_HOURS_MAX 60

static struct {
    const struct table *table;
    const char *chosen;
} now;

const struct table *table_now(void)
{
    return now.table;
}

// "59,105": by number, or by number and letter.
bool table_chosen(const struct table_row *row)
{
    struct ph_str rest = ph_str_from(now.chosen);
    struct ph_str part;
    bool more = now.chosen != NULL;
    bool found = now.chosen == NULL;

    while (more) {
        uint64_t number;

        more = ph_str_cut(&rest, ',', &part);
        part = more ? part : rest;
        found |= ph_str_eq(part, ph_str_from(row->name)) ||
                 (ph_str_to_u64(part, &number) && number == row->number);
    }
    return found;
}

void sim_table_create(const char *rows)
{
    now.table = table_read(PH_TESTS_DIR "/conformance/table.txt");
    now.chosen = rows;
    table_pki_create(now.table);
}

// --- by the configuration alone ---

// Is there a line with this id?
static bool says(const struct ph_buf *lines, const char *id)
{
    char word[16];

    snprintf(word, sizeof(word), ": %s ", id);
    return ph_str_find(ph_buf_str(lines), ph_str_from(word)) >= 0;
}

// The row's configuration by itself: refused where the row says so, with the warnings that it
// names.
static bool check_row(struct sim_stage *stage, const struct table_row *row)
{
    struct ph_buf text = {0};
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config;
    const char *warning = table_word(&row->outcomes[0].also, "warn");
    bool good;

    table_config_text(stage, row, true, &text);
    config = table_config(stage, ph_buf_str(&text), SIM_EPOCH_MS / 1000, &errors, &warnings);
    if (row->outcomes[0].kind == TABLE_REJECT) {
        good = config == NULL && says(&errors, row->outcomes[0].reason);
    } else {
        good = config != NULL && (warning == NULL || says(&warnings, warning));
    }
    if (!good) {
        printf("row %s: its configuration: %s\n%.*s%.*s", row->name,
               config != NULL ? "accepted" : "refused", PH_STR_ARG(ph_buf_str(&errors)),
               PH_STR_ARG(ph_buf_str(&warnings)));
    }
    ph_config_release(config);
    ph_buf_deinit(&text);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
    return good;
}

static unsigned check_rows(void)
{
    struct sim_stage stage = {.table = now.table};
    unsigned failed = 0;

    stage.plays = ph_alloc(now.table->row_count * sizeof(struct table_play *));
    for (unsigned i = 0; i < now.table->row_count; i++) {
        failed += table_chosen(&now.table->rows[i]) && !check_row(&stage, &now.table->rows[i]);
    }
    free(stage.plays);
    return failed;
}

// --- histories ---

static void run_plain(const struct sim_options *plan, uint64_t seed, enum sim_table_part part,
                      struct sim_sum *sum)
{
    struct sim_pool *pool = sim_pool_create(1);
    struct sim_options options = *plan;
    struct sim_history history;

    memset(options.dropped, true, sizeof(options.dropped));
    sim_options_choose(&options, seed);
    options.table = part;
    options.hours_max = part == SIM_TABLE_LIVES ? LIFE_HOURS_MAX : 0;
    sim_pool_begin(pool, &options);
    sim_pool_finish(pool, &history);
    sim_history_print(&history, false, true);
    sim_sum_add(sum, &history.report);
    sim_pool_destroy(pool);
}

struct faulty {
    uint64_t failed;
    uint64_t connections;
    uint64_t attacked;
    uint64_t recipients;
};

static void run_faulty(const struct sim_options *plan, uint64_t from, uint64_t count, unsigned jobs,
                       bool quiet, struct sim_sum *sum, struct faulty *out)
{
    struct sim_pool *pool = sim_pool_create(jobs);
    struct sim_history history;
    uint64_t begun = 0;

    for (uint64_t ended = 0; ended < count; ended++) {
        while (begun < count && !sim_pool_full(pool)) {
            struct sim_options options = *plan;

            sim_options_choose(&options, from + begun++);
            sim_pool_begin(pool, &options);
        }
        sim_pool_finish(pool, &history);
        sim_history_print(&history, count == 1, quiet);
        sim_sum_add(sum, &history.report);
        out->failed += history.report.result == SIM_BROKEN;
        out->connections += history.report.connections;
        out->attacked += history.report.attacked;
        out->recipients += history.report.recipients;
    }
    sim_pool_destroy(pool);
}

static void print_rows(bool passed)
{
    unsigned rows = 0;
    unsigned cases = 0;
    unsigned refused = 0;
    unsigned lives = 0;
    unsigned last = 0;

    for (unsigned i = 0; i < now.table->row_count; i++) {
        const struct table_row *row = &now.table->rows[i];

        if (table_chosen(row)) {
            rows += row->number != last;
            cases++;
            refused += row->outcomes[0].kind == TABLE_REJECT;
            lives += table_is_long(row);
            last = row->number;
        }
    }
    printf("table: %u rows in %u cases run: %u by their configuration, %u twice (caches on, caches "
           "off), %u through their days: %s, 0 skipped\n",
           rows, cases, refused, cases - refused - lives, lives, passed ? "all passed" : "FAILED");
}

void sim_table_run(const struct sim_options *options, uint64_t from, uint64_t count, unsigned jobs,
                   bool quiet, struct sim_sum *sum)
{
    static const enum sim_table_part parts[] = {SIM_TABLE_PLAIN, SIM_TABLE_UNCACHED,
                                                SIM_TABLE_LIVES};
    struct faulty faulty = {0};

    sum->failed += check_rows();
    for (size_t i = 0; i < PH_ARRAY_LEN(parts); i++) {
        run_plain(options, from, parts[i], sum);
    }
    print_rows(sum->failed == 0);
    if (count > 0) {
        run_faulty(options, from, count, jobs, quiet, sum, &faulty);
        printf("table: all rows under faults from %llu seeds, %llu failed; %llu recipients, %llu "
               "connections, %llu of them meddled with\n",
               (unsigned long long)count, (unsigned long long)faulty.failed,
               (unsigned long long)faulty.recipients, (unsigned long long)faulty.connections,
               (unsigned long long)faulty.attacked);
    }
}
