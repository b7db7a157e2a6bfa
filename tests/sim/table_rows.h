// The rows of the truth table, read from tests/conformance/table.txt: there is no second copy.
#pragma once

#include "base/buf.h"
#include "base/str.h"

#define TABLE_ROWS_MAX 250 // each has a byte of its hosts' addresses
#define TABLE_HOSTS_MAX 2
#define TABLE_CONNECTORS_MAX 2
#define TABLE_OUTCOMES_MAX 2
#define TABLE_STEPS_MAX 12
#define TABLE_PAIRS_MAX 16
#define TABLE_NAMES_MAX 4

// Texts live as long as the process.
struct table_pairs {
    struct {
        const char *key;
        const char *value; // "" of a word alone
    } pairs[TABLE_PAIRS_MAX];
    unsigned count;
};

struct table_connector {
    const char *preset;
    struct table_pairs keys; // the preset's, with what the row changes
    const char *listed;      // in TLSSendDomainSecureList; NULL: nothing
};

struct table_host {
    struct table_pairs words;
    const char *name;
    const char *common_name; // NULL: none
    struct ph_str names[TABLE_NAMES_MAX];
    unsigned name_count;
};

enum table_kind {
    TABLE_TLS,
    TABLE_PLAIN,
    TABLE_DEFER,
    TABLE_NDR,
    TABLE_REJECT,
};

struct table_outcome {
    enum table_kind kind;
    const char *status; // DEFER and NDR
    const char *reason; // these and REJECT
    struct table_pairs also;
};

struct table_row {
    const char *name; // "4a"
    unsigned number;  // 4
    unsigned index;   // in the file, from 0
    struct table_connector connectors[TABLE_CONNECTORS_MAX];
    unsigned connector_count;
    struct table_host hosts[TABLE_HOSTS_MAX];
    unsigned host_count;
    const char *steps[TABLE_STEPS_MAX];
    unsigned step_count;
    const char *domains[TABLE_STEPS_MAX]; // of the recipients, as A-labels, each once
    unsigned domain_count;
    struct table_outcome outcomes[TABLE_OUTCOMES_MAX];
    unsigned outcome_count;
};

struct table {
    struct table_row rows[TABLE_ROWS_MAX];
    unsigned row_count;
};

// Ends the process where the file says something else than it should.
const struct table *table_read(const char *path);
const char *table_word(const struct table_pairs *pairs, const char *key); // NULL: it isn't there
bool table_word_is(const struct table_pairs *pairs, const char *key, const char *value);
bool table_has_step(const struct table_row *row, const char *step); // or one that begins so
bool table_is_smart(const struct table_row *row);                   // by a smart host
// Of the n-th recipient, counted over all steps.
const struct table_outcome *table_outcome_of(const struct table_row *row, unsigned n);
// The row's SendConnector blocks, as an administrator would write them; `@` and `%port` are still
// to be filled in. `changed` ("Key=value") comes on top in the first one; NULL: nothing.
void table_connectors(const struct table_row *row, const char *changed, struct ph_buf *out);
