// Lines of the protocol log.
#include "engine/protocol_log.h"

#include "base/date.h"
#include "engine/engine.h"
#include "engine/worker.h"

#define PH_PROTOCOL_LOG_DATA_MAX 1024 // of one line, then it is cut; ours

// A field is quoted where a comma or a quote stands in it; control characters become spaces.
static void put_field(struct ph_buf *out, struct ph_str text)
{
    bool quoted = ph_str_find_char(text, ',') >= 0 || ph_str_find_char(text, '"') >= 0;

    if (quoted) {
        ph_buf_append_char(out, '"');
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (c == '"') {
            ph_buf_append_char(out, '"');
        }
        ph_buf_append_char(out, c < 0x20 || c == 0x7f ? ' ' : (char)c);
    }
    if (quoted) {
        ph_buf_append_char(out, '"');
    }
}

static void put_line(struct ph_worker *worker, const struct ph_protocol_session *session,
                     enum ph_protocol_event event, struct ph_str data, struct ph_buf *out)
{
    char date[PH_DATE_TEXT_MAX];
    char remote[PH_ENDPOINT_TEXT_MAX];
    struct ph_str text = ph_str_first(data, PH_PROTOCOL_LOG_DATA_MAX);

    ph_date_format_iso(ph_worker_wall_ms(worker), date);
    ph_buf_printf(out, "%s,", date);
    put_field(out, session->connector);
    ph_buf_printf(out, ",%016llX,%u,,%s,%c,", (unsigned long long)session->id,
                  (*session->sequence)++, ph_endpoint_format(session->remote, remote), (char)event);
    put_field(out, event == PH_PROTOCOL_NOTE ? PH_STR_NONE : text);
    ph_buf_append_char(out, ',');
    put_field(out, event == PH_PROTOCOL_NOTE ? text : PH_STR_NONE);
    ph_buf_append_char(out, '\n');
}

void ph_protocol_log(struct ph_worker *worker, const struct ph_protocol_session *session,
                     enum ph_protocol_event event, struct ph_str text)
{
    struct ph_buf lines = {0};
    struct ph_str line;

    if (text.len == 0) {
        put_line(worker, session, event, text, &lines);
    }
    while (ph_str_cut(&text, '\n', &line)) {
        line = ph_str_trim(line);
        if (line.len > 0) {
            put_line(worker, session, event, line, &lines);
        }
    }
    ph_engine_log_protocol(worker->engine, ph_buf_str(&lines));
    ph_buf_deinit(&lines);
}
