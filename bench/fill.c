// bench-fill: a spool with a long queue, made without a daemon: each message was tried once and
// waits for its next attempt.
//
//   bench-fill spool=DIR [messages=100000] [logs=1] [domains=1000] [size=256] [first=60000]
//   [spread=3600000]
//
// Message i goes to u@qI.test, I being i modulo `domains`; the first is due `first` ms from now,
// the others within `spread` ms after it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/arguments.h"
#include "engine/poll.h"
#include "queue/spool.h"

#define SEGMENT_BYTES (UINT64_C(64) << 20) // the daemon's
#define BATCH 2000                         // messages that share a turn

struct put {
    struct ph_spool_ticket ticket;
};

static struct put batch[BATCH];

static void on_put(struct ph_op *op)
{
    if (op->result < 0) {
        fprintf(stderr, "bench-fill: %s\n", strerror((int)-op->result));
        exit(1);
    }
}

static void put(struct ph_spool *spool, struct put *put, uint64_t number, uint64_t domains,
                struct ph_str content, uint64_t now_ms, uint64_t due_ms)
{
    char domain[64];
    char address[96];
    struct ph_envelope_recipient recipient = {.orcpt = PH_STR_NONE};
    struct ph_envelope envelope = {.reverse_path = PH_STR("bench@sender.test"),
                                   .envid = PH_STR_NONE,
                                   .sender = PH_STR("in sender.test"),
                                   .connector = PH_STR("in"),
                                   .client_name = PH_STR("bench"),
                                   .client_address = PH_STR("127.0.0.1"),
                                   .arrival_ms = now_ms,
                                   .expiry_ms = now_ms + UINT64_C(172800000),
                                   .priority = 1,
                                   .recipients = &recipient,
                                   .recipient_count = 1};
    uint64_t id = ph_spool_take_id(spool);
    struct ph_content *content_kept;

    snprintf(domain, sizeof(domain), "q%llu.test", (unsigned long long)(number % domains));
    snprintf(address, sizeof(address), "u%llu@%s", (unsigned long long)number, domain);
    recipient.address = ph_str_from(address);
    recipient.domain = ph_str_from(domain);
    ph_op_init(&put->ticket.op, on_put, NULL);
    if (ph_spool_append(
            spool, &put->ticket,
            &(struct ph_spool_append_options){.id = id, .envelope = &envelope, .content = content},
            &content_kept) != PH_SPOOL_OK) {
        fprintf(stderr, "bench-fill: the spool takes no more\n");
        exit(1);
    }
    ph_content_release(content_kept);
    ph_spool_outcome(spool, NULL, id,
                     &(struct ph_outcome_record){.state = PH_QUEUED_WAITING,
                                                 .attempts = 1,
                                                 .due_ms = due_ms,
                                                 .kind = PH_REASON_CONNECT_REFUSED,
                                                 .status = {4, 4, 1},
                                                 .text = PH_STR("connection refused")});
}

static void turn(struct ph_io *io, struct ph_spool *spool)
{
    ph_io_run_ready(io);
    (void)ph_spool_flush(spool, io->now_ns);
    if (!ph_io_has_ready(io)) {
        ph_io_wait(io, io->now_ns + PH_NS_PER_MS);
    }
}

int main(int argc, char **argv)
{
    struct ph_arguments arguments = ph_arguments_of(argc, argv);
    const char *directory = ph_argument(&arguments, "spool", "");
    uint64_t messages = ph_argument_number(&arguments, "messages", 100000);
    uint16_t logs = (uint16_t)ph_argument_number(&arguments, "logs", 1);
    uint64_t domains = ph_argument_number(&arguments, "domains", 1000);
    uint64_t size = ph_argument_number(&arguments, "size", 256);
    uint64_t first = ph_argument_number(&arguments, "first", 60000);
    uint64_t spread = ph_argument_number(&arguments, "spread", 3600000);
    struct ph_spool_recovery_report report = {0};
    struct ph_offload *offload = ph_offload_create(2);
    struct ph_spool_directory *locked;
    struct ph_buf error = {0};
    uint16_t log_count = logs;
    char *content = malloc(size);
    struct ph_io *io;

    ph_arguments_end(&arguments);
    memset(content, 'x', size);
    memcpy(content + size - 2, "\r\n", 2);
    if (ph_poll_create(&(struct ph_poll_options){.offload = offload}, &io) != 0 ||
        ph_spool_directory_open(io, directory, 0, &log_count, &locked, &error) < 0) {
        fprintf(stderr, "bench-fill: %s\n", ph_buf_cstr(&error));
        return 1;
    }
    for (uint16_t log = 0; log < logs; log++) {
        struct ph_spool_options options = {.io = io,
                                           .directory = directory,
                                           .log = log,
                                           .durability_os = true,
                                           .message_segment_bytes = SEGMENT_BYTES};
        uint64_t now_ms = io->wall_ms;
        struct ph_spool *spool;

        if (ph_spool_open(&options, NULL, NULL, &report, &spool, &error) < 0) {
            fprintf(stderr, "bench-fill: %s\n", ph_buf_cstr(&error));
            return 1;
        }
        for (uint64_t i = log; i < messages;) {
            unsigned count = 0;

            for (; count < BATCH && i < messages; i += logs) {
                put(spool, &batch[count++], i, domains,
                    (struct ph_str){.data = content, .len = size}, now_ms,
                    now_ms + first + (i == 0 ? 0 : i * 7919 % spread));
            }
            for (unsigned j = 0; j < count;) {
                if (batch[j].ticket.op.state == PH_OP_IDLE) {
                    j++;
                } else {
                    turn(io, spool);
                }
            }
        }
        ph_spool_close(spool);
    }
    ph_spool_directory_close(locked);
    io->vtable->destroy(io);
    ph_offload_destroy(offload);
    free(content);
    printf("%llu messages\n", (unsigned long long)messages);
    return 0;
}
