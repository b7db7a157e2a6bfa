// `posthaste spool check` and `dump`: a spool that no daemon uses, looked at.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "queue/spool_parts.h"

#define PH_REPORT_SEGMENT_BYTES (UINT64_C(64) << 20)

struct listed {
    uint64_t id;
    struct ph_spool_location location;
    uint64_t size;
    uint64_t arrival_ms;
    uint32_t recipient_count;
    uint32_t waiting;
    uint32_t in_doubt;
};

struct listing {
    struct listed *messages;
    size_t count;
    size_t cap;
};

static void unused_step(struct ph_op *op)
{
    (void)op; // each operation here is waited for
}

static void take(void *owner, const struct ph_spool_recovered *message)
{
    struct listing *listing = owner;
    struct listed *listed;

    if (listing->count == listing->cap) {
        listing->cap = listing->cap == 0 ? 1024 : listing->cap * 2;
        listing->messages = reallocarray(listing->messages, listing->cap, sizeof(*listed));
        PH_CHECK(listing->messages != NULL);
    }
    listed = &listing->messages[listing->count++];
    *listed = (struct listed){
        .id = message->id,
        .location = message->location,
        .size = message->size,
        .arrival_ms = message->arrival_ms,
        .recipient_count = message->recipient_count,
    };
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        listed->waiting += message->recipients[i].state == PH_QUEUED_WAITING;
        listed->in_doubt +=
            message->recipients[i].state == PH_QUEUED_WAITING && message->recipients[i].in_doubt;
    }
}

// The message with its content, or NULL with the errno.
static struct ph_content *load(struct ph_io *io, struct ph_spool *spool,
                               const struct listed *listed, int64_t *out_error)
{
    struct ph_spool_load load = {0};

    ph_op_init(&load.op, unused_step, NULL);
    ph_spool_load(spool, &load, listed->id, &listed->location);
    while (load.op.state != PH_OP_IDLE) {
        if (!ph_io_has_ready(io)) {
            ph_io_wait(io, PH_NEVER);
        }
        ph_io_run_ready(io);
    }
    *out_error = load.op.result;
    if (load.op.result != 0) {
        ph_content_release(load.content);
        load.content = NULL;
    }
    return load.content;
}

static void describe(const struct listed *listed, const struct ph_content *content, bool json,
                     bool with_content, struct ph_buf *report)
{
    char id[PH_MESSAGE_ID_TEXT_MAX];
    struct ph_json out;

    ph_message_id_format(listed->id, id);
    if (!json) {
        ph_buf_printf(report, "%s from <%.*s> size %llu recipients %u waiting %u in doubt %u\n", id,
                      PH_STR_ARG(content->envelope.reverse_path), (unsigned long long)listed->size,
                      listed->recipient_count, listed->waiting, listed->in_doubt);
        for (uint32_t i = 0; i < content->envelope.recipient_count; i++) {
            ph_buf_printf(report, "  to <%.*s>\n",
                          PH_STR_ARG(content->envelope.recipients[i].address));
        }
        if (with_content) {
            ph_buf_append_bytes(report, content->body[0].iov_base, content->body[0].iov_len);
        }
        return;
    }
    ph_json_init(&out, report);
    ph_json_open_object(&out, NULL);
    ph_json_text(&out, "id", id);
    ph_json_string(&out, "sender", content->envelope.reverse_path, 0);
    ph_json_u64(&out, "size", listed->size);
    ph_json_u64(&out, "arrival_ms", listed->arrival_ms);
    ph_json_u64(&out, "waiting", listed->waiting);
    ph_json_u64(&out, "in_doubt", listed->in_doubt);
    ph_json_open_array(&out, "recipients");
    for (uint32_t i = 0; i < content->envelope.recipient_count; i++) {
        ph_json_string(&out, NULL, content->envelope.recipients[i].address, 0);
    }
    ph_json_close_array(&out);
    if (with_content) {
        ph_json_string(
            &out, "content",
            (struct ph_str){.data = content->body[0].iov_base, .len = content->body[0].iov_len}, 0);
    }
    ph_json_close_object(&out);
    ph_buf_append_char(report, '\n');
}

struct look {
    bool json;
    bool dump;
    bool with_content;
    uint64_t messages;
    uint64_t damaged;
    struct ph_buf *report;
};

static int look_at_log(struct ph_io *io, const char *directory, uint16_t log, struct look *look)
{
    struct ph_spool_recovery_report found = {0};
    struct listing listing = {0};
    struct ph_buf error = {0};
    struct ph_spool *spool = NULL;
    int result =
        ph_spool_open(&(struct ph_spool_options){.io = io,
                                                 .directory = directory,
                                                 .log = log,
                                                 .offline = true,
                                                 .message_segment_bytes = PH_REPORT_SEGMENT_BYTES},
                      take, &listing, &found, &spool, &error);

    if (result < 0) {
        ph_buf_printf(look->report, "log %u: %.*s\n", log, PH_STR_ARG(ph_buf_str(&error)));
        look->damaged++;
    }
    if (found.quarantined_records > 0) {
        ph_buf_printf(look->report, "log %u: %s (%llu places, %llu bytes)\n", log, found.detail,
                      (unsigned long long)found.quarantined_records,
                      (unsigned long long)found.quarantined_bytes);
        look->damaged += found.quarantined_records;
    }
    if (found.summaries_damaged > 0) {
        ph_buf_printf(
            look->report,
            "log %u: %llu summaries can't be read: a start reads those segments instead\n", log,
            (unsigned long long)found.summaries_damaged);
    }
    if (found.summaries_wrong > 0) {
        ph_buf_printf(look->report, "log %u: %llu summaries say what isn't so\n", log,
                      (unsigned long long)found.summaries_wrong);
        look->damaged += found.summaries_wrong;
    }
    for (size_t i = 0; result >= 0 && i < listing.count; i++) {
        int64_t failure;
        struct ph_content *content = load(io, spool, &listing.messages[i], &failure);

        look->messages++;
        if (content == NULL) {
            ph_buf_printf(look->report, "log %u: message %016llx is damaged: %s\n", log,
                          (unsigned long long)listing.messages[i].id, strerror((int)-failure));
            look->damaged++;
        } else if (look->dump) {
            describe(&listing.messages[i], content, look->json, look->with_content, look->report);
        }
        ph_content_release(content);
    }
    ph_spool_close(spool);
    free(listing.messages);
    ph_buf_deinit(&error);
    return result;
}

static int look_at(struct ph_io *io, const char *directory, struct look *look)
{
    struct ph_spool_directory *locked;
    uint16_t logs = 0;
    int result = ph_spool_directory_open(io, directory, 0, &logs, &locked, look->report);

    if (result < 0) {
        ph_buf_append_char(look->report, '\n');
        return result;
    }
    for (uint16_t log = 0; log < logs; log++) {
        (void)look_at_log(io, directory, log, look);
    }
    ph_spool_directory_close(locked);
    return 0;
}

int ph_spool_check(struct ph_io *io, const char *directory, bool json, struct ph_buf *report)
{
    struct look look = {.json = json, .report = report};
    int result = look_at(io, directory, &look);

    if (result < 0) {
        return result;
    }
    if (json) {
        ph_buf_printf(report, "{\"messages\":%llu,\"damaged\":%llu}\n",
                      (unsigned long long)look.messages, (unsigned long long)look.damaged);
    } else {
        ph_buf_printf(report, "%llu messages, %llu damaged\n", (unsigned long long)look.messages,
                      (unsigned long long)look.damaged);
    }
    return look.damaged > 0 ? 1 : 0;
}

int ph_spool_dump(struct ph_io *io, const char *directory, bool json, bool with_content,
                  struct ph_buf *report)
{
    struct look look = {.json = json, .dump = true, .with_content = with_content, .report = report};

    return look_at(io, directory, &look);
}
