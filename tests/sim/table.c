// The scene of the truth table: configuration, names, files, and who is told of what.
#include "tests/sim/table.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/load.h"
#include "tests/sim/disk.h"
#include "tests/sim/scene.h"
#include "tests/sim/table_parts.h"
#include "tests/sim/table_pki.h"

#define TICK_NS (250 * PH_NS_PER_MS)
#define FAULTY_TICK_NS (2000 * PH_NS_PER_MS)
#define BEGIN_NS_MAX (60 * 1000 * PH_NS_PER_MS) // with faults rows begin within so long
#define ROUNDS 3                                // of a row's mail, with faults
#define FAULTY_NS_MIN (20 * 60 * 1000 * PH_NS_PER_MS)

// --- configuration ---

static void fill(const struct table_row *row, struct ph_str text, struct ph_buf *out)
{
    while (text.len > 0) {
        size_t len = 1;

        if (ph_str_starts(text, PH_STR("@host"))) {
            ph_buf_printf(out, "/host-%s-%c.pem", row->name, text.data[5]);
            len = strlen("@host1.pem");
        } else if (ph_str_starts(text, PH_STR("@address"))) {
            ph_buf_printf(out, "198.18.%u.%c", row->index, text.data[8]);
            len = strlen("@address1");
        } else if (ph_str_starts(text, PH_STR("%port"))) {
            ph_buf_printf(out, "%u", SIM_SMTP_PORT);
            len = strlen("%port");
        } else {
            ph_buf_append_char(out, text.data[0] == '@' ? '/' : text.data[0]);
        }
        text = ph_str_after(text, len);
    }
}

static void append_row(const struct table_row *row, const char *changed, struct ph_buf *out)
{
    struct ph_buf text = {0};

    table_connectors(row, changed, &text);
    fill(row, ph_buf_str(&text), out);
    ph_buf_deinit(&text);
}

void table_config_text(struct sim_stage *stage, const struct table_row *only, bool caches,
                       struct ph_buf *out)
{
    const char *comma = "";

    ph_buf_printf(out,
                  "Hostname = \"out.posthaste.test\"\nSpoolDir = \"/var/spool\"\n"
                  "TlsCaches = %s\nCertificateDir = \"/certs\"\n"
                  "ReceiveConnector \"in\" { Bindings = {\"127.0.0.1:%u\"}\n"
                  "RemoteIPRanges = {\"127.0.0.0/8\"} MaxMessageSize = 100MB }\n"
                  "SendConnector \"internet\" { AddressSpaces = {\"*\"} }\n"
                  "Resolver { AllowedDestinations = {\"198.18.0.0/15\"}\n"
                  "HttpsTrustAnchors = \"/root.pem\" }\n",
                  caches ? "on" : "off", SIM_INGEST_PORT);
    for (unsigned i = 0; i < stage->table->row_count; i++) {
        const struct table_row *row = &stage->table->rows[i];

        if (only != NULL ? row == only : stage->plays[i] != NULL) {
            append_row(row, stage->plays[i] != NULL ? stage->plays[i]->reloaded : NULL, out);
        }
    }
    ph_buf_append(out, PH_STR("TransportConfig { TLSSendDomainSecureList = {"));
    for (unsigned i = 0; i < stage->table->row_count; i++) {
        const struct table_row *row = &stage->table->rows[i];

        if (row->connectors[0].listed != NULL &&
            (only != NULL ? row == only : stage->plays[i] != NULL)) {
            ph_buf_printf(out, "%s\"%s\"", comma, row->connectors[0].listed);
            comma = ", ";
        }
    }
    ph_buf_append(out, PH_STR("} }\n"));
}

static bool is_there(const struct sim_stage *stage, const char *path)
{
    return !stage->gone || strncmp(path, "/certs/going", 12) != 0;
}

static bool read_file(void *owner, const char *path, struct ph_buf *out, unsigned *out_mode,
                      struct ph_buf *error)
{
    const struct table_file *file = table_pki_file(ph_str_from(path));

    *out_mode = 0600;
    if (file == NULL || !is_there(owner, path)) {
        ph_buf_printf(error, "no such file");
        return false;
    }
    return ph_buf_append(out, ph_buf_str(&file->content));
}

static bool expand(void *owner, const char *pattern, struct ph_buf *out_names)
{
    unsigned count;
    const struct table_file *files = table_pki_files(&count);

    for (unsigned i = 0; i < count; i++) {
        if (fnmatch(pattern, files[i].path, FNM_PATHNAME) == 0 && is_there(owner, files[i].path)) {
            ph_buf_append_bytes(out_names, files[i].path, strlen(files[i].path) + 1);
        }
    }
    return true;
}

struct ph_config *table_config(struct sim_stage *stage, struct ph_str text, int64_t now_s,
                               struct ph_buf *errors, struct ph_buf *warnings)
{
    // Without the certificate that is gone a start would be refused: the configuration is the one
    // that runs already.
    struct ph_config_files files = {.read = read_file,
                                    .expand = expand,
                                    .owner = stage,
                                    .running = stage->gone,
                                    .now_s = now_s};

    return ph_config_parse_text("table.conf", text, &files, errors, warnings);
}

static struct ph_config *configure(struct sim *sim)
{
    struct ph_buf text = {0};
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    int64_t wall_ms = (int64_t)(sim->clock.now_ns / PH_NS_PER_MS) + sim->wall_offset_ms;
    struct ph_config *config;

    table_config_text(sim->stage, NULL, sim->options.table != SIM_TABLE_UNCACHED, &text);
    config = table_config(sim->stage, ph_buf_str(&text), wall_ms / 1000, &errors, &warnings);
    if (config == NULL) {
        fprintf(stderr, "the table's configuration: %.*s\n", PH_STR_ARG(ph_buf_str(&errors)));
    }
    PH_CHECK(config != NULL);
    ph_buf_deinit(&text);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
    return config;
}

// --- names ---

// Whose MTA-STS policy counts: the smart host's, or the recipient's domain's.
static const char *policy_domain(const struct table_row *row)
{
    return table_is_smart(row) ? row->hosts[0].name : row->domains[0];
}

static void name_hosts(const struct table_row *row, struct ph_buf *out)
{
    for (unsigned h = 0; h < row->host_count; h++) {
        const struct table_identity *identity = table_pki_identity(row, h);
        const char *name = row->hosts[h].name;

        ph_buf_printf(out, "%s. A 198.18.%u.%u\n", name, row->index, h + 1);
        if (identity->tlsa.len > 0) {
            ph_buf_printf(out, "_%u._tcp.%s. TLSA %.*s\n", SIM_SMTP_PORT, name,
                          PH_STR_ARG(ph_buf_str(&identity->tlsa)));
        }
        for (unsigned d = 0; d < row->domain_count; d++) {
            ph_buf_printf(out, "%s. MX %u %s.\n", row->domains[d], 10 * (h + 1), name);
        }
    }
    if (table_word(&row->hosts[0].words, "sts") != NULL) {
        ph_buf_printf(out, "_mta-sts.%s. TXT \"v=STSv1; id=1;\"\n", policy_domain(row));
    }
}

static void zone(struct sim *sim, struct ph_buf *out)
{
    const struct sim_stage *stage = sim->stage;

    ph_buf_append(out, PH_STR(TABLE_HOME ". MX 10 mx." TABLE_HOME ".\n"
                                         "mx." TABLE_HOME ". A 198.18.255.1\n"));
    for (unsigned i = 0; i < stage->table->row_count; i++) {
        if (stage->plays[i] != NULL) {
            name_hosts(stage->plays[i]->row, out);
        }
    }
}

// `.forged` is a zone whose signatures are wrong.
static bool resolve(struct sim *sim, struct ph_resolve_op *op)
{
    bool forged = ph_str_ends_nocase(ph_str_from(op->name), PH_STR(".forged"));

    (void)sim;
    if (forged) {
        op->status = PH_RESOLVE_BOGUS;
        snprintf(op->detail, sizeof(op->detail), "signatures are wrong");
    }
    return forged;
}

// The policies that rows publish: "enforce:mx1.contoso.com".
static bool fetch(struct sim *sim, struct ph_fetch_op *op)
{
    const struct sim_stage *stage = sim->stage;
    char url[PH_FETCH_URL_BYTES_MAX];

    for (unsigned i = 0; i < stage->table->row_count; i++) {
        struct table_play *play = stage->plays[i];
        const char *sts = play != NULL ? table_word(&play->row->hosts[0].words, "sts") : NULL;
        const char *colon = sts != NULL ? strchr(sts, ':') : NULL;

        if (colon != NULL) {
            snprintf(url, sizeof(url), "https://mta-sts.%s/.well-known/mta-sts.txt",
                     policy_domain(play->row));
            if (strcmp(url, op->url) == 0) {
                if (play->policy_life != sim->life) {
                    play->policy_life = sim->life;
                    play->policy_ns = sim->clock.now_ns;
                }
                op->status = PH_FETCH_ANSWERED;
                op->http_status = 200;
                snprintf(op->content_type, sizeof(op->content_type), "text/plain");
                ph_buf_printf(&op->body, "version: STSv1\nmode: %.*s\nmx: %s\nmax_age: 86400\n",
                              (int)(colon - sts), sts, colon + 1);
                return true;
            }
        }
    }
    return false;
}

// --- the stage ---

// A new configuration routes all mail anew, and attempts are counted: such rows come last.
static unsigned turn_of(const struct table_row *row)
{
    return table_has_step(row, "gone") ? 2 : table_has_step(row, "reload") ? 1 : 0;
}

static unsigned turn_now(const struct sim_stage *stage)
{
    unsigned turn = 2;

    for (unsigned i = 0; i < stage->table->row_count; i++) {
        const struct table_play *play = stage->plays[i];

        if (stage->plain && play != NULL && !play->done && turn_of(play->row) < turn) {
            turn = turn_of(play->row);
        }
    }
    return turn;
}

static void on_tick(struct sim_event *event)
{
    struct sim_stage *stage = event->owner;
    unsigned turn = turn_now(stage);

    for (unsigned i = 0; i < stage->table->row_count; i++) {
        if (stage->plays[i] != NULL && turn_of(stage->plays[i]->row) <= turn) {
            table_play_look(stage->plays[i]);
            table_play_on(stage->plays[i]);
        }
    }
    sim_after(&stage->sim->clock, &stage->tick, stage->plain ? TICK_NS : FAULTY_TICK_NS);
}

static struct table_play *make_play(struct sim_stage *stage, const struct table_row *row)
{
    struct table_play *play = ph_alloc(sizeof(*play));
    struct sim *sim = stage->sim;

    play->stage = stage;
    play->row = row;
    play->rounds = stage->plain ? 1 : ROUNDS;
    play->at_ns = sim->clock.now_ns + (stage->plain ? 0 : sim_below(&sim->random, BEGIN_NS_MAX));
    STAILQ_INIT(&play->sessions);
    return play;
}

static void prepare(struct sim *sim)
{
    struct sim_stage *stage = ph_alloc(sizeof(*stage));
    unsigned count;
    const struct table_file *files = table_pki_files(&count);

    sim->stage = stage;
    stage->sim = sim;
    stage->table = table_now();
    stage->plain = sim->options.table != SIM_TABLE_FAULTS;
    stage->plays = ph_alloc(stage->table->row_count * sizeof(struct table_play *));
    for (unsigned i = 0; i < stage->table->row_count; i++) {
        const struct table_row *row = &stage->table->rows[i];
        bool here = sim->options.table == SIM_TABLE_LIVES ? table_is_long(row)
                                                          : !stage->plain || !table_is_long(row);

        if (here && row->outcomes[0].kind != TABLE_REJECT && table_chosen(row)) {
            stage->plays[i] = make_play(stage, row);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        sim_disk_place(sim->disk, files[i].path, ph_buf_str(&files[i].content));
    }
    sim_event_init(&stage->tick, on_tick, stage);
    sim_after(&sim->clock, &stage->tick, FAULTY_TICK_NS);
}

static bool listens(struct sim *sim, const struct ph_endpoint *at)
{
    return table_peer_listens(sim->stage, at);
}

static void accept_conn(struct sim *sim, struct sim_conn *conn, const struct ph_endpoint *at)
{
    table_peer_accept(sim->stage, conn, at);
}

static void log_lines(struct sim *sim, struct ph_str lines)
{
    struct ph_str line;

    while (ph_str_cut_line(&lines, &line)) {
        table_log_line(sim->stage, line);
    }
}

// A list that its distribution point doesn't have is a row, lookups that fail are a fault.
static bool expects(struct sim *sim, struct ph_str problem)
{
    (void)sim;
    return ph_str_starts(problem, PH_STR("the revocation list http://crl.posthaste.test/"));
}

static bool enough(struct sim *sim)
{
    bool done = sim->stage->plain || sim->clock.now_ns >= FAULTY_NS_MIN;

    for (unsigned i = 0; i < sim->stage->table->row_count; i++) {
        const struct table_play *play = sim->stage->plays[i];

        done &= play == NULL || play->done;
        done &= sim->options.table != SIM_TABLE_LIVES || play == NULL ||
                !table_has_step(play->row, "life") || play->recipients[0].told_failed;
    }
    return done;
}

// --- the end ---

// Recipients that wait, as the peers and the log have it; and those that may wait beside: their
// client never learned what became of them, or a host took them by way of a fault, and then its
// reply was lost, or the record of it in a crash.
static void count_waiting(const struct sim_stage *stage, uint64_t *out_surely, uint64_t *out_most)
{
    *out_surely = 0;
    *out_most = 0;
    for (unsigned i = 0; i < stage->table->row_count; i++) {
        const struct table_play *play = stage->plays[i];

        for (unsigned n = 0; play != NULL && n < play->recipient_count; n++) {
            const struct table_recipient *r = &play->recipients[n];
            bool waits = r->accepts == 0 && r->failed == 0;

            *out_surely += waits && r->message->state == TABLE_ACKED;
            *out_most += r->message->state != TABLE_REFUSED && (waits || r->excused);
        }
    }
}

static bool drained(struct sim *sim)
{
    struct sim_stage *stage = sim->stage;
    char why[SIM_FAILURE_BYTES_MAX];
    uint64_t surely;
    uint64_t most;
    bool good = true;

    if (sim->options.table == SIM_TABLE_LIVES) {
        return true;
    }
    stage->calm_ns = stage->calm_ns == 0 ? sim->clock.now_ns : stage->calm_ns;
    for (unsigned i = 0; good && i < stage->table->row_count; i++) {
        good = stage->plays[i] == NULL || table_play_settled(stage->plays[i], why, sizeof(why));
    }
    count_waiting(stage, &surely, &most);
    return good && sim_queued(sim) <= most;
}

static void stalled(struct sim *sim)
{
    char why[SIM_FAILURE_BYTES_MAX];
    uint64_t surely;
    uint64_t most;

    count_waiting(sim->stage, &surely, &most);
    snprintf(why, sizeof(why), "%llu recipients wait, and at most %llu should",
             (unsigned long long)sim_queued(sim), (unsigned long long)most);

    for (unsigned i = 0; i < sim->stage->table->row_count; i++) {
        if (sim->stage->plays[i] != NULL &&
            !table_play_settled(sim->stage->plays[i], why, sizeof(why))) {
            break;
        }
    }
    sim_fail(sim, "stalled long after all faults: %s", why);
}

static void check(struct sim *sim)
{
    if (sim->options.table == SIM_TABLE_LIVES) {
        table_judge_lives(sim->stage);
    } else {
        table_judge_end(sim->stage);
    }
}

static bool owed(struct sim *sim, uint64_t recipients)
{
    uint64_t surely;
    uint64_t most;

    count_waiting(sim->stage, &surely, &most);
    sim_trace(sim, "owed", recipients, surely, most);
    return sim->options.table == SIM_TABLE_LIVES || (recipients >= surely && recipients <= most);
}

const struct sim_scene sim_table = {
    .prepare = prepare,
    .configure = configure,
    .zone = zone,
    .resolve = resolve,
    .fetch = fetch,
    .listens = listens,
    .accept = accept_conn,
    .log = log_lines,
    .expects = expects,
    .enough = enough,
    .drained = drained,
    .stalled = stalled,
    .check = check,
    .owed = owed,
};
