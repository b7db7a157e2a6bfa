// bench-spool: what making messages durable costs, in the spool and in a plain loop.
//
//   bench-spool directory=DIR [mode=ingest|plain|recover|compact] [messages=20000] [size=4096]
//               [in-flight=20] [segment-bytes=67108864] [world=auto|ring|poll]
//
// ingest   `in-flight` messages are always on their way to the disk, a new one for each that is
//          durable: as so many connections.
// plain    the same number of records appended by one write, then fdatasync, again and again.
// recover  fills a spool, closes it, and opens it again. Contents stay where they are.
// compact  fills a spool, lets nine of ten messages go, copies the rest forward.
// A line of JSON.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/lib/arguments.h"
#include "bench/lib/timing.h"
#include "engine/offload.h"
#include "engine/world.h"
#include "queue/spool.h"

#define IN_FLIGHT_MAX 4096
#define COPIES_MAX 32 // as engine/compaction

struct slot {
    struct ph_spool_ticket ticket;
    struct ph_content *content;
    uint64_t id;
    struct ph_spool_load load;
    uint64_t message; // compact: which one
    struct slot *next_free;
};

struct entry { // of compact: where a message is
    uint64_t id;
    struct ph_spool_location location;
};

static struct {
    struct ph_io *io;
    struct ph_offload *offload;
    const char *directory;
    uint64_t messages;
    size_t size;
    uint64_t in_flight;
    uint64_t segment_bytes;
    char *text;
    struct ph_spool_directory *lock;
    struct ph_spool *spool;
    struct slot slots[IN_FLIGHT_MAX];
    struct slot *free;
    uint64_t done;
    uint64_t recovered;
    struct entry *entries; // by arrival, where they are wanted
} bench;

struct usage {
    uint64_t wall_ns;
    uint64_t cpu_ns;
};

static struct usage usage_now(void)
{
    struct rusage r;

    PH_CHECK(getrusage(RUSAGE_SELF, &r) == 0); // the threads of the world too
    return (struct usage){
        .wall_ns = ph_timing_wall_ns(),
        .cpu_ns = ((uint64_t)r.ru_utime.tv_sec + (uint64_t)r.ru_stime.tv_sec) * 1000000000 +
                  ((uint64_t)r.ru_utime.tv_usec + (uint64_t)r.ru_stime.tv_usec) * 1000,
    };
}

static void print(const char *mode, struct usage began, double per_write, uint64_t count,
                  const char *extra)
{
    struct usage now = usage_now();

    printf("{\"mode\":\"%s\",\"world\":\"%s\",\"count\":%llu,\"in_flight\":%llu,\"size\":%zu,"
           "\"wall_ns\":%llu,\"cpu_ns\":%llu,\"per_write\":%.2f%s}\n",
           mode, bench.io != NULL ? bench.io->vtable->name : "none", (unsigned long long)count,
           (unsigned long long)bench.in_flight, bench.size,
           (unsigned long long)(now.wall_ns - began.wall_ns),
           (unsigned long long)(now.cpu_ns - began.cpu_ns), per_write, extra);
}

// --- the spool ---

static void on_recovered(void *owner, const struct ph_spool_recovered *message)
{
    (void)owner;
    (void)message;
    bench.recovered++;
}

static void open_spool(void)
{
    struct ph_spool_recovery_report report = {0};
    struct ph_buf error = {0};
    uint16_t logs = 1;
    int result;

    result = ph_spool_directory_open(bench.io, bench.directory, 0, &logs, &bench.lock, &error);
    if (result == 0) {
        result =
            ph_spool_open(&(struct ph_spool_options){.io = bench.io,
                                                     .directory = bench.directory,
                                                     .outcome_delay_ns = 50 * PH_NS_PER_MS,
                                                     .message_segment_bytes = bench.segment_bytes,
                                                     .min_free_percent = 1,
                                                     .content_memory_max = 64 << 20},
                          on_recovered, NULL, &report, &bench.spool, &error);
    }
    if (result != 0) {
        fprintf(stderr, "bench-spool: %s\n", ph_buf_cstr(&error));
        exit(1);
    }
}

static void close_spool(void)
{
    ph_spool_close(bench.spool);
    ph_spool_directory_close(bench.lock);
}

// What was appended before it is flushed, what has completed is stepped.
static void turn(void)
{
    uint64_t next = ph_spool_flush(bench.spool, bench.io->now_ns);

    ph_io_wait(bench.io, bench.io->ready_count > 0 ? bench.io->now_ns : next);
    ph_io_run_ready(bench.io);
}

static void on_durable(struct ph_op *op)
{
    struct slot *slot = op->owner;

    PH_CHECK(op->result == 0);
    if (bench.entries != NULL) {
        bench.entries[slot->message] = (struct entry){slot->id, slot->ticket.location};
    }
    ph_content_release(slot->content);
    slot->next_free = bench.free;
    bench.free = slot;
    bench.done++;
}

static void append(struct slot *slot, uint64_t number)
{
    struct ph_envelope_recipient recipient = {
        .address = PH_STR("somebody@d0.test"), .domain = PH_STR("d0.test"), .orcpt = PH_STR_NONE};
    struct ph_envelope envelope = {.reverse_path = PH_STR("sender@feed.test"),
                                   .envid = PH_STR_NONE,
                                   .sender = PH_STR("feed.test"),
                                   .connector = PH_STR("in"),
                                   .client_name = PH_STR("feed.test"),
                                   .client_address = PH_STR("127.0.0.1"),
                                   .arrival_ms = bench.io->wall_ms,
                                   .expiry_ms = bench.io->wall_ms + 86400000,
                                   .recipients = &recipient,
                                   .recipient_count = 1};

    slot->id = ph_spool_take_id(bench.spool);
    slot->message = number;
    PH_CHECK(ph_spool_append(bench.spool, &slot->ticket,
                             &(struct ph_spool_append_options){
                                 .id = slot->id,
                                 .envelope = &envelope,
                                 .content = {.data = bench.text, .len = bench.size}},
                             &slot->content) == PH_SPOOL_OK);
}

// For callgrind: --toggle-collect=measured_*
static __attribute__((noinline)) void measured_ingest(void)
{
    uint64_t begun = 0;

    bench.free = NULL;
    bench.done = 0;
    for (uint64_t i = 0; i < bench.in_flight; i++) {
        struct slot *slot = &bench.slots[i];

        ph_op_init(&slot->ticket.op, on_durable, slot);
        slot->next_free = bench.free;
        bench.free = slot;
    }
    while (bench.done < bench.messages) {
        while (bench.free != NULL && begun < bench.messages) {
            struct slot *slot = bench.free;

            bench.free = slot->next_free;
            append(slot, begun++);
        }
        turn();
    }
}

static double messages_per_group(void)
{
    struct ph_spool_stats stats = ph_spool_stats(bench.spool);

    return (double)stats.group_messages / (double)stats.groups;
}

static void on_settled(struct ph_op *op)
{
    PH_CHECK(op->result == 0);
    bench.done++;
}

// Until what was recorded last is durable.
static void settle(void)
{
    struct ph_spool_ticket ticket = {0};
    uint64_t done = bench.done;

    ph_op_init(&ticket.op, on_settled, NULL);
    ph_spool_attempt(bench.spool, &ticket, bench.entries[0].id, &(uint32_t){0}, 1);
    while (bench.done == done) {
        turn();
    }
}

static void run_ingest(void)
{
    struct usage began;

    // First a round whose messages go again: a spool that has been in use has segments to use
    // again, and only a new one must make them.
    bench.entries = ph_alloc(bench.messages * sizeof(*bench.entries));
    open_spool();
    measured_ingest();
    for (uint64_t i = 0; i < bench.messages; i++) {
        ph_spool_done(bench.spool, NULL, bench.entries[i].id, &bench.entries[i].location);
    }
    settle();
    began = usage_now();
    measured_ingest();
    print("ingest", began, messages_per_group(), bench.messages, "");
    close_spool();
}

static void run_recover(void)
{
    struct usage began;

    open_spool();
    measured_ingest();
    close_spool();
    began = usage_now();
    bench.recovered = 0;
    open_spool();
    PH_CHECK(bench.recovered == bench.messages);
    print("recover", began, 0, bench.recovered, "");
    close_spool();
}

// --- compaction ---

static void on_copied(struct ph_op *op)
{
    struct slot *slot = op->owner;

    PH_CHECK(op->result == 0);
    ph_content_release(slot->load.content);
    ph_spool_unneeded(bench.spool, &bench.entries[slot->message].location);
    bench.entries[slot->message].location = slot->ticket.location;
    slot->next_free = bench.free;
    bench.free = slot;
    bench.done++;
}

static void on_loaded(struct ph_op *op)
{
    struct slot *slot = op->owner;

    PH_CHECK(op->result == 0);
    PH_CHECK(ph_spool_copy(bench.spool, &slot->ticket, slot->id,
                           &(struct ph_spool_copy_options){.load = &slot->load}) == PH_SPOOL_OK);
}

static void copy(uint64_t message)
{
    struct slot *slot;

    while (bench.free == NULL) {
        turn();
    }
    slot = bench.free;
    bench.free = slot->next_free;
    slot->message = message;
    slot->id = bench.entries[message].id;
    slot->load = (struct ph_spool_load){.for_copy = true};
    ph_op_init(&slot->load.op, on_loaded, slot);
    ph_op_init(&slot->ticket.op, on_copied, slot);
    ph_spool_load(bench.spool, &slot->load, slot->id, &bench.entries[message].location);
}

static void run_compact(void)
{
    uint64_t segments;
    uint64_t begun = 0;
    uint64_t below;
    struct usage began;
    char extra[128];

    bench.entries = ph_alloc(bench.messages * sizeof(*bench.entries));
    open_spool();
    measured_ingest();
    for (uint64_t i = 0; i < bench.messages; i++) {
        if (i % 10 != 0) {
            ph_spool_done(bench.spool, NULL, bench.entries[i].id, &bench.entries[i].location);
        }
    }
    settle();
    segments = ph_spool_stats(bench.spool).segments;
    bench.done = 0;
    bench.free = NULL;
    for (int i = 0; i < COPIES_MAX; i++) {
        bench.slots[i].next_free = bench.free;
        bench.free = &bench.slots[i];
    }
    began = usage_now();
    for (uint64_t pass = 0; pass < 64 && (below = ph_spool_compact_below(bench.spool)) > 0;
         pass++) {
        for (uint64_t i = 0; i < bench.messages; i += 10) {
            if (bench.entries[i].location.segment < below) {
                copy(i);
                begun++;
            }
        }
        while (bench.done < begun) {
            turn();
        }
    }
    snprintf(extra, sizeof(extra), ",\"segments_before\":%llu,\"segments_after\":%llu",
             (unsigned long long)segments,
             (unsigned long long)ph_spool_stats(bench.spool).segments);
    print("compact", began, 0, begun, extra);
    close_spool();
}

// --- without a spool ---

static void run_plain(void)
{
    char path[4096];
    char *group = ph_alloc(bench.in_flight * bench.size);
    struct usage began;
    uint64_t syncs = 0;
    int fd;

    snprintf(path, sizeof(path), "%s.plain", bench.directory);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    PH_CHECK(fd >= 0);
    began = usage_now();
    for (uint64_t i = 0; i < bench.messages; i += bench.in_flight) {
        size_t len = bench.in_flight * bench.size;

        for (uint64_t j = 0; j < bench.in_flight; j++) {
            memcpy(group + j * bench.size, bench.text, bench.size);
        }
        PH_CHECK(write(fd, group, len) == (ssize_t)len && fdatasync(fd) == 0);
        syncs++;
    }
    print("plain", began, (double)bench.in_flight, syncs * bench.in_flight, "");
    close(fd);
    unlink(path);
    free(group);
}

int main(int argc, char **argv)
{
    struct ph_arguments arguments = ph_arguments_of(argc, argv);
    const char *mode = ph_argument(&arguments, "mode", "ingest");
    const char *world = ph_argument(&arguments, "world", "auto");
    struct ph_world_options options = {.wanted = strcmp(world, "ring") == 0   ? PH_IO_RING
                                                 : strcmp(world, "poll") == 0 ? PH_IO_POLL
                                                                              : PH_IO_AUTO};
    struct ph_buf why = {0};

    bench.directory = ph_argument(&arguments, "directory", NULL);
    bench.messages = ph_argument_number(&arguments, "messages", 20000);
    bench.size = ph_argument_number(&arguments, "size", 4096);
    bench.segment_bytes = ph_argument_number(&arguments, "segment-bytes", 64 << 20);
    bench.in_flight = ph_argument_number(&arguments, "in-flight", 20);
    ph_arguments_end(&arguments);
    PH_CHECK(bench.directory != NULL && bench.in_flight >= 1 && bench.in_flight <= IN_FLIGHT_MAX);
    bench.text = ph_alloc(bench.size);
    memset(bench.text, 'x', bench.size);
    if (strcmp(mode, "plain") == 0) {
        run_plain();
        return 0;
    }
    options.threads.offload = ph_offload_create(4);
    if (ph_world_create(&options, &bench.io, 1, &why) != 0) {
        fprintf(stderr, "bench-spool: %s\n", ph_buf_cstr(&why));
        return 1;
    }
    if (strcmp(mode, "recover") == 0) {
        run_recover();
    } else if (strcmp(mode, "compact") == 0) {
        run_compact();
    } else {
        run_ingest();
    }
    bench.io->vtable->destroy(bench.io);
    ph_offload_destroy(options.threads.offload);
    return 0;
}
