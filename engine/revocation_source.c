// One source of a CRL: its copy on disk, its fetches, its renewal.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "config/snapshot.h"
#include "engine/fetch.h"
#include "engine/revocation_parts.h"
#include "tls/crls.h"

#define PH_REVOCATION_COPY_HEAD "posthaste-crl 1\n" // then URL, checksum and the list

static void on_timer(struct ph_timer *timer);
static void on_fetched(struct ph_op *op);
static void on_parsed(struct ph_op *op);
static void on_file(struct ph_op *op);
static void parse(struct ph_work_op *work);

static struct ph_io *io_of(const struct revocation_source *source)
{
    return source->keeper->worker->io;
}

static uint64_t now_ms(const struct revocation_source *source)
{
    return ph_worker_now_ms(source->keeper->worker);
}

static int64_t wall_s(const struct revocation_source *source)
{
    return (int64_t)(ph_worker_wall_ms(source->keeper->worker) / 1000);
}

struct revocation_source *ph_revocation_source_create(struct ph_revocation_keeper *keeper,
                                                      const char *name, bool is_file)
{
    struct revocation_source *source = ph_alloc(sizeof(*source));
    struct ph_str directory = keeper->worker->config->spool_dir;

    source->keeper = keeper;
    source->name = ph_strdup(name);
    source->is_file = is_file;
    STAILQ_INIT(&source->links);
    ph_timer_init(&source->timer, on_timer, source);
    ph_op_init(&source->op, on_file, source);
    ph_op_init(&source->fetch.op, on_fetched, source);
    ph_op_init(&source->work.op, on_parsed, source);
    source->work.run = parse;
    if (!is_file) {
        struct ph_buf path = {0};
        uint64_t hash[2] = {ph_hash_str(ph_str_from(name), 1), ph_hash_str(ph_str_from(name), 2)};

        ph_buf_printf(&path, "%.*s/revocation/%016llx%016llx", PH_STR_ARG(directory),
                      (unsigned long long)hash[0], (unsigned long long)hash[1]);
        source->copy = ph_strdup(ph_buf_cstr(&path));
        ph_buf_printf(&path, ".new");
        source->fresh_copy = ph_strdup(ph_buf_cstr(&path));
        ph_buf_deinit(&path);
    }
    return source;
}

void ph_revocation_source_destroy(struct revocation_source *source)
{
    PH_CHECK(source->step == REVOCATION_IDLE && STAILQ_EMPTY(&source->links));
    ph_wheel_cancel(&source->keeper->worker->wheel, &source->timer);
    ph_crls_release(source->lists);
    ph_buf_deinit(&source->issuers);
    ph_buf_deinit(&source->data);
    ph_buf_deinit(&source->problem);
    ph_buf_deinit(&source->fetch.body);
    free(source->copy);
    free(source->fresh_copy);
    free(source->name);
    free(source);
}

// --- when ---

static uint64_t refresh_ms(const struct revocation_source *source)
{
    uint64_t refresh = source->keeper->worker->config->revocation_refresh_ms;
    const struct ph_crl *crl = ph_crls_at(source->lists, 0);
    int64_t left_s = crl != NULL ? crl->next_update_s - wall_s(source) : 0;

    if (source->is_file) {
        return refresh < PH_REVOCATION_FILE_MS ? refresh : PH_REVOCATION_FILE_MS;
    }
    // Well before it is out of date, so that a failure or two does no harm.
    if (left_s > 0 && (uint64_t)left_s * 1000 / 2 < refresh) {
        refresh = (uint64_t)left_s * 1000 / 2;
    }
    return refresh < 1000 ? 1000 : refresh;
}

static uint64_t retry_ms(const struct revocation_source *source)
{
    uint64_t delay = PH_REVOCATION_RETRY_MS;

    for (unsigned i = 1; i < source->failures && delay < PH_REVOCATION_RETRY_MAX_MS; i++) {
        delay *= 2;
    }
    if (delay > source->keeper->worker->config->revocation_refresh_ms) {
        delay = source->keeper->worker->config->revocation_refresh_ms;
    }
    return delay < PH_REVOCATION_RETRY_MAX_MS ? delay : PH_REVOCATION_RETRY_MAX_MS;
}

static void wait_for_next(struct revocation_source *source)
{
    uint64_t delay = source->failures > 0 ? retry_ms(source) : refresh_ms(source);

    // Many lists learned at once aren't fetched at once for ever.
    delay -= ph_io_random_below(io_of(source), delay / 10 + 1);
    ph_wheel_set(&source->keeper->worker->wheel, &source->timer,
                 io_of(source)->now_ns + delay * PH_NS_PER_MS);
}

bool ph_revocation_source_settled(const struct revocation_source *source)
{
    const struct ph_crl *crl = ph_crls_at(source->lists, 0);
    bool fresh = crl != NULL && wall_s(source) < crl->next_update_s;

    return source->step == REVOCATION_IDLE && (fresh || source->failures > 0);
}

static void on_timer(struct ph_timer *timer)
{
    struct revocation_source *source = timer->owner;

    const struct ph_crl *crl = ph_crls_at(source->lists, 0);

    if (crl != NULL && ph_crl_take_use(crl)) {
        source->used_ms = now_ms(source);
    }
    if (!source->is_file && now_ms(source) - source->used_ms > PH_REVOCATION_IDLE_MS) {
        ph_revocation_forget(source);
    } else {
        ph_revocation_source_refresh(source);
    }
}

// --- what ---

static void go(struct revocation_source *source, enum revocation_step step)
{
    bool was_busy = source->step != REVOCATION_IDLE;
    bool busy = step != REVOCATION_IDLE;

    source->keeper->busy += (unsigned)busy - (unsigned)was_busy;
    source->step = step;
}

static void come_to_rest(struct revocation_source *source)
{
    go(source, REVOCATION_IDLE);
    ph_buf_deinit(&source->data);
    if (source->obsolete) {
        ph_revocation_forget(source);
    } else if (!source->keeper->stopping) {
        wait_for_next(source);
    }
}

static void fail(struct revocation_source *source, const char *why)
{
    // Told once; then it goes on trying.
    if (source->failures == 0 && !source->keeper->stopping) {
        struct ph_buf text = {0};

        ph_buf_printf(&text, "the revocation list %s can't be had: %s\n", source->name, why);
        ph_engine_report_problem(source->keeper->worker->engine, ph_buf_str(&text));
        ph_buf_deinit(&text);
    }
    source->failures++;
    PH_COUNT(source->keeper->worker, revocation_failures, 1);
    ph_revocation_settle(source);
    come_to_rest(source);
}

static void begin_fetch(struct revocation_source *source)
{
    struct ph_fetch_op *fetch = &source->fetch;

    go(source, REVOCATION_FETCH);
    source->from_disk = false;
    fetch->url = source->name;
    fetch->bytes_max = PH_REVOCATION_BYTES_MAX;
    fetch->timeout_ms = PH_REVOCATION_FETCH_MS;
    fetch->redirects_max = PH_REVOCATION_REDIRECTS_MAX;
    ph_fetch_configure(fetch, source->keeper->worker->config);
    PH_COUNT(source->keeper->worker, revocation_fetches, 1);
    ph_io_fetch(io_of(source), fetch);
}

void ph_revocation_source_refresh(struct revocation_source *source)
{
    if (source->step != REVOCATION_IDLE || source->keeper->stopping) {
        return;
    }
    ph_wheel_cancel(&source->keeper->worker->wheel, &source->timer);
    // A URL is read from its copy once, when nothing is known of it yet.
    if (source->is_file || (source->lists == NULL && source->failures == 0)) {
        go(source, REVOCATION_OPEN);
        source->from_disk = !source->is_file;
        ph_io_file_open(io_of(source), &source->op, source->is_file ? source->name : source->copy,
                        PH_FILE_READ, &source->file);
    } else {
        begin_fetch(source);
    }
}

static void begin_parse(struct revocation_source *source)
{
    go(source, REVOCATION_PARSE);
    ph_io_work(io_of(source), &source->work);
}

static void on_fetched(struct ph_op *op)
{
    struct revocation_source *source = op->owner;
    struct ph_fetch_op *fetch = &source->fetch;
    char text[PH_FETCH_DETAIL_MAX];

    if (op->result < 0) {
        fail(source, strerror((int)-op->result));
    } else if (fetch->status != PH_FETCH_ANSWERED) {
        fail(source, fetch->detail);
    } else if (fetch->http_status != 200) {
        snprintf(text, sizeof(text), "the server answered %u", fetch->http_status);
        fail(source, text);
    } else {
        ph_buf_deinit(&source->data);
        source->data = fetch->body;
        fetch->body = (struct ph_buf){0};
        begin_parse(source);
    }
}

// --- parsing, on another thread: nothing but the source's own data is touched ---

static void compose_copy(struct revocation_source *source)
{
    struct ph_buf copy = {0};
    struct ph_str der = ph_crls_at(source->parsed, 0)->der;

    ph_buf_init(&copy, PH_BUF_BYTES_MAX);
    ph_buf_printf(&copy, PH_REVOCATION_COPY_HEAD "%s\n%016llx\n", source->name,
                  (unsigned long long)ph_hash_str(der, 0));
    ph_buf_append(&copy, der);
    ph_buf_deinit(&source->data);
    source->data = copy;
}

// The list in a copy; empty where the copy is damaged or another URL's.
static struct ph_str read_copy(const struct revocation_source *source)
{
    struct ph_str rest = ph_buf_str(&source->data);
    struct ph_str url;
    struct ph_str sum;
    char expected[17];

    if (!ph_str_starts(rest, PH_STR(PH_REVOCATION_COPY_HEAD))) {
        return PH_STR_NONE;
    }
    rest = ph_str_after(rest, sizeof(PH_REVOCATION_COPY_HEAD) - 1);
    if (!ph_str_cut(&rest, '\n', &url) || !ph_str_eq(url, ph_str_from(source->name)) ||
        !ph_str_cut(&rest, '\n', &sum)) {
        return PH_STR_NONE;
    }
    snprintf(expected, sizeof(expected), "%016llx", (unsigned long long)ph_hash_str(rest, 0));
    return ph_str_eq(sum, ph_str_from(expected)) ? rest : PH_STR_NONE;
}

// It must be of an authority of the chain that named it: nobody on the way to a distribution point
// puts something else in the place of a good list.
static struct ph_crls *parse_one(struct revocation_source *source, struct ph_str text)
{
    struct ph_crl *crl = ph_crl_parse(text, &source->problem);
    struct ph_crls *crls = NULL;

    if (crl != NULL && !ph_crl_is_signed_by_any(crl, ph_buf_str(&source->issuers))) {
        ph_buf_printf(&source->problem, "it is not signed by an issuer of the certificate's chain");
    } else if (crl != NULL) {
        crls = ph_crls_create(&crl, 1);
    }
    ph_crl_release(crl);
    return crls;
}

static void parse(struct ph_work_op *work)
{
    struct revocation_source *source = PH_CONTAINER_OF(work, struct revocation_source, work);
    struct ph_str text = source->from_disk ? read_copy(source) : ph_buf_str(&source->data);

    ph_buf_clear(&source->problem);
    source->parsed =
        source->is_file ? ph_crls_parse(text, &source->problem) : parse_one(source, text);
    if (source->parsed != NULL && !source->is_file && !source->from_disk) {
        compose_copy(source);
    }
}

// --- what comes of it ---

// Takes the list that was parsed; false: it changes nothing.
static bool adopt(struct revocation_source *source)
{
    struct ph_crls *parsed = source->parsed;
    bool older;

    source->parsed = NULL;
    older = source->lists != NULL && !source->is_file &&
            ph_crls_at(parsed, 0)->this_update_s < ph_crls_at(source->lists, 0)->this_update_s;
    // An old list, from a mirror that lags or from somebody who replays it, takes no newer one's
    // place. A local file is the administrator's word.
    if (older || ph_crls_eq(source->lists, parsed)) {
        ph_crls_release(parsed);
        return false;
    }
    ph_crls_release(source->lists);
    source->lists = parsed;
    ph_revocation_publish(source->keeper);
    return true;
}

static void on_parsed(struct ph_op *op)
{
    struct revocation_source *source = op->owner;
    bool changed;

    if (source->parsed == NULL && source->from_disk) {
        begin_fetch(source); // the copy is of no use
        return;
    }
    if (source->parsed == NULL) {
        fail(source, ph_buf_cstr(&source->problem));
        return;
    }
    changed = adopt(source);
    if (source->from_disk && wall_s(source) >= ph_crls_at(source->lists, 0)->next_update_s) {
        begin_fetch(source);
        return;
    }
    source->failures = 0;
    ph_revocation_settle(source);
    if (changed && !source->is_file && !source->from_disk && !source->keeper->stopping) {
        go(source, REVOCATION_CLEAR);
        ph_io_file_unlink(io_of(source), &source->op, source->fresh_copy);
    } else {
        come_to_rest(source);
    }
}

// --- files ---

static void close_file(struct revocation_source *source)
{
    ph_io_file_close(source->file);
    source->file = NULL;
}

static void read_failed(struct revocation_source *source, int64_t error)
{
    close_file(source);
    if (source->from_disk && !source->keeper->stopping) {
        begin_fetch(source);
    } else {
        fail(source, strerror((int)-error));
    }
}

static void begin_read(struct revocation_source *source, int64_t size)
{
    char *room = NULL;

    ph_buf_deinit(&source->data);
    ph_buf_init(&source->data, PH_BUF_BYTES_MAX);
    if (size > 0 && size <= (int64_t)PH_CRL_BYTES_MAX) {
        room = ph_buf_reserve(&source->data, (size_t)size);
    }
    if (room == NULL) {
        read_failed(source, -EFBIG);
    } else {
        go(source, REVOCATION_READ);
        ph_io_file_read(source->file, &source->op, room, (size_t)size, 0);
    }
}

static void file_done(struct revocation_source *source, int64_t result)
{
    switch (source->step) {
    case REVOCATION_OPEN:
        go(source, REVOCATION_SIZE);
        ph_io_file_size(source->file, &source->op);
        break;
    case REVOCATION_SIZE:
        begin_read(source, result);
        break;
    case REVOCATION_READ:
        ph_buf_grew(&source->data, (size_t)result);
        close_file(source);
        begin_parse(source);
        break;
    case REVOCATION_CLEAR:
        go(source, REVOCATION_CREATE);
        ph_io_file_open(io_of(source), &source->op, source->fresh_copy,
                        PH_FILE_WRITE | PH_FILE_CREATE, &source->file);
        break;
    case REVOCATION_CREATE:
        go(source, REVOCATION_WRITE);
        ph_io_file_write(source->file, &source->op, source->data.data, source->data.len, 0);
        break;
    case REVOCATION_WRITE:
        go(source, REVOCATION_SYNC);
        ph_io_file_sync(source->file, &source->op);
        break;
    case REVOCATION_SYNC:
        close_file(source);
        go(source, REVOCATION_RENAME);
        ph_io_file_rename(io_of(source), &source->op, source->fresh_copy, source->copy);
        break;
    case REVOCATION_RENAME:
        come_to_rest(source);
        break;
    case REVOCATION_IDLE:
    case REVOCATION_FETCH:
    case REVOCATION_PARSE:
        PH_CHECK(false); // no file operation is under way then
    }
}

static void on_file(struct ph_op *op)
{
    struct revocation_source *source = op->owner;
    bool reading = source->step < REVOCATION_FETCH;

    if (op->result < 0 && reading) {
        read_failed(source, op->result);
    } else if (op->result < 0 && source->step != REVOCATION_CLEAR) { // there may be none to clear
        // A copy that can't be written costs a fetch after the next start, nothing else.
        close_file(source);
        come_to_rest(source);
    } else {
        file_done(source, op->result);
    }
}
