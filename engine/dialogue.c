// What was said.
#include "engine/dialogue.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/date.h"
#include "engine/connection_parts.h"
#include "engine/protocol_log.h"

#define PH_DIALOGUE_LINE_BYTES_MAX 512 // of one line; ours

static bool watched(struct ph_site *site)
{
    struct ph_dialogue_watch *watch = site->watch;

    if (watch != NULL && watch->until_ms < ph_worker_now_ms(site->worker)) {
        ph_buf_deinit(&watch->lines);
        free(watch);
        site->watch = NULL;
    }
    return site->watch != NULL;
}

static bool verbose(const struct ph_connection *c)
{
    return c->site->spec->connector->protocol_logging;
}

static void log_protocol(struct ph_connection *c, enum ph_protocol_event event, struct ph_str text)
{
    if (verbose(c)) {
        ph_protocol_log(c->worker,
                        &(struct ph_protocol_session){.connector = c->site->spec->connector->name,
                                                      .id = c->session_id,
                                                      .remote = &c->endpoint,
                                                      .sequence = &c->said},
                        event, text);
    }
}

// A line as it is kept, its bytes behind it: most are never read, and so never written out.
struct kept_line {
    uint64_t wall_ms;
    uint16_t len;
    char mark;
};

static void write_out(const struct ph_connection *c, const struct kept_line *kept, const char *line,
                      struct ph_buf *out)
{
    char date[PH_DATE_TEXT_MAX];
    char text[PH_REASON_SENTENCE_MAX + 256];
    int len;

    ph_date_format_iso(kept->wall_ms, date);
    len = snprintf(text, sizeof(text), "%s %016llx %s %c %.*s\n", date,
                   (unsigned long long)c->session_id, c->address, kept->mark, (int)kept->len, line);
    len = len < (int)sizeof(text) ? len : (int)sizeof(text) - 1;
    ph_text_make_plain(text, (size_t)len - 1); // all but its end
    ph_buf_append_bytes(out, text, (size_t)len);
}

static void show(struct ph_connection *c, const struct kept_line *kept, const char *line)
{
    struct ph_dialogue_watch *watch = c->site->watch;
    size_t before = watch->lines.len;

    write_out(c, kept, line, &watch->lines);
    if (watch->lines.len > PH_DIALOGUE_WATCH_BYTES_MAX) {
        watch->left_out += watch->lines.len - before;
        watch->lines.len = before;
    }
}

static void put_line(struct ph_connection *c, char mark, struct ph_str line)
{
    struct kept_line kept = {
        .wall_ms = ph_worker_wall_ms(c->worker),
        .len = (uint16_t)(line.len < PH_DIALOGUE_LINE_BYTES_MAX ? line.len
                                                                : PH_DIALOGUE_LINE_BYTES_MAX),
        .mark = mark,
    };

    log_protocol(c, (enum ph_protocol_event)mark, line);
    if (!c->usable && c->dialogue.len + sizeof(kept) + kept.len <= PH_DIALOGUE_BYTES_MAX) {
        ph_buf_append_bytes(&c->dialogue, &kept, sizeof(kept));
        ph_buf_append_bytes(&c->dialogue, line.data, kept.len);
    }
    if (watched(c->site)) {
        show(c, &kept, line.data);
    }
}

static void put_lines(struct ph_connection *c, char mark, struct ph_str text)
{
    struct ph_str line;

    while (ph_str_cut(&text, '\n', &line)) {
        if (line.len > 0) {
            put_line(c, mark, ph_str_trim(line));
        }
    }
}

static void on_sent(void *owner, struct ph_str text)
{
    struct ph_connection *c = owner;

    if (c->reading) {
        ph_buf_append(&c->answering, text);
    } else {
        put_lines(c, '>', text);
    }
}

void ph_dialogue_begin(struct ph_connection *c)
{
    ph_buf_clear(&c->dialogue);
    ph_client_watch(c->client, on_sent, c);
    c->said = 0;
    log_protocol(c, PH_PROTOCOL_CONNECTED, PH_STR_NONE);
    ph_dialogue_note(c, "connected to %s (%s) port %u", c->host->name, c->address,
                     c->endpoint.port);
}

void ph_dialogue_received(struct ph_connection *c, struct ph_str text)
{
    if (!c->usable || c->site->watch != NULL || verbose(c)) {
        put_lines(c, '<', text);
        put_lines(c, '>', ph_buf_str(&c->answering));
    }
    ph_buf_clear(&c->answering);
}

void ph_dialogue_note(struct ph_connection *c, const char *format, ...)
{
    char text[PH_REASON_SENTENCE_MAX + 64];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    put_line(c, '*', ph_str_from(text));
}

void ph_dialogue_opened(struct ph_connection *c)
{
    ph_buf_deinit(&c->dialogue);
    if (!watched(c->site) && !verbose(c)) {
        ph_buf_deinit(&c->answering);
        ph_client_watch(c->client, NULL, NULL);
    }
}

void ph_dialogue_closed(struct ph_connection *c)
{
    log_protocol(c, PH_PROTOCOL_DISCONNECTED, PH_STR_NONE);
}

static void write_dialogue(const struct ph_connection *c, struct ph_buf *out)
{
    struct ph_str rest = ph_buf_str(&c->dialogue);
    struct kept_line kept;

    while (rest.len > 0) {
        memcpy(&kept, rest.data, sizeof(kept)); // wherever it fell
        rest = ph_str_after(rest, sizeof(kept));
        write_out(c, &kept, rest.data, out);
        rest = ph_str_after(rest, kept.len);
    }
}

void ph_dialogue_failed(struct ph_connection *c, const struct ph_reason *reason)
{
    ph_dialogue_note(c, "%s: %s", ph_reason_token(reason->kind), reason->sentence);
    if (c->usable) {
        return;
    }
    ph_buf_clear(&c->site->last_failure);
    write_dialogue(c, &c->site->last_failure);
    ph_buf_trim(&c->site->last_failure);
    ph_buf_deinit(&c->dialogue);
}

static void watch(struct ph_site *site)
{
    struct ph_connection *c;

    if (!watched(site)) {
        site->watch = ph_alloc(sizeof(*site->watch));
        ph_buf_append(&site->watch->lines, ph_buf_str(&site->last_failure));
        for (c = TAILQ_FIRST(&site->connections); c != NULL; c = ph_connection_next(c)) {
            if (c->client != NULL) {
                ph_client_watch(c->client, on_sent, c);
            }
        }
    }
    site->watch->until_ms = ph_worker_now_ms(site->worker) + PH_DIALOGUE_WATCH_MS;
}

static bool has_host(const struct ph_site *site, struct ph_str host)
{
    bool has = ph_str_eq(host, PH_STR("*"));

    for (size_t i = 0; !has && i < site->spec->host_count; i++) {
        has = ph_str_eq_nocase(ph_str_from(site->spec->hosts[i].name), host);
    }
    return has;
}

void ph_dialogue_tell(struct ph_worker *worker, struct ph_str host, struct ph_json *json)
{
    struct ph_site *site;
    struct ph_site *next;

    HASH_ITER(hh, worker->sites, site, next)
    {
        if (!has_host(site, host)) {
            continue;
        }
        watch(site);
        ph_json_open_object(json, NULL);
        ph_json_text(json, "site", site->spec->best_host);
        ph_json_u64(json, "worker", worker->index);
        ph_json_string(json, "lines", ph_buf_str(&site->watch->lines), 0);
        ph_json_u64(json, "left_out_bytes", site->watch->left_out);
        ph_json_close_object(json);
        ph_buf_clear(&site->watch->lines);
        site->watch->left_out = 0;
    }
}
