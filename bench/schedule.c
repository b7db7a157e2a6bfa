// bench-schedule: what one event costs the queue of a worker, by how much is queued; and how much
// memory a queued message takes.
//
//   bench-schedule [queued=1000000] [events=1000000] [queues=1000]
//
// All messages are deferred, each with one recipient and a due time of its own. An event: the
// earliest becomes due, enters its queue's flows, is taken from them in fair order, and is deferred
// again with the retry intervals' jitter. A line of JSON.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/lib/arguments.h"
#include "bench/lib/timing.h"
#include "queue/flow.h"
#include "queue/message.h"

#define SPAN_MS UINT64_C(900000) // due times lie within: the 15 minutes between retries

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long long pages = 0;

    PH_CHECK(file != NULL && fscanf(file, "%*u %llu", &pages) == 1);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void fill(struct ph_store *store, uint64_t queued, uint64_t queues, uint64_t *state)
{
    for (uint64_t i = 0; i < queued; i++) {
        uint32_t message = ph_store_add(store, 1);
        struct ph_message *m;
        uint32_t recipient;

        PH_CHECK(message != PH_INDEX_NONE);
        m = ph_store_message(store, message);
        m->id = i;
        m->flow = (uint32_t)(i % 100); // senders
        recipient = m->first_recipient;
        ph_store_recipient(store, recipient)->queue = (uint32_t)(random_next(state) % queues);
        PH_CHECK(ph_store_defer(store, recipient, random_next(state) % SPAN_MS));
    }
}

// For callgrind: --toggle-collect=measured_*
static __attribute__((noinline)) void
measured_events(struct ph_store *store, struct ph_ready *ready, uint64_t count, uint64_t *state)
{
    while (count > 0) {
        uint64_t now_ms = ph_store_next_due_ms(store);
        uint32_t recipient = ph_store_take_due(store, now_ms);
        struct ph_ready *queue = &ready[ph_store_recipient(store, recipient)->queue];

        PH_CHECK(ph_ready_push(queue, store, recipient));
        recipient = ph_ready_take(queue, store);
        ph_store_recipient(store, recipient)->attempts++;
        PH_CHECK(ph_store_defer(store, recipient, now_ms + SPAN_MS + random_next(state) % 60000));
        count--;
    }
}

int main(int argc, char **argv)
{
    struct ph_arguments arguments = ph_arguments_of(argc, argv);
    uint64_t queued = ph_argument_number(&arguments, "queued", 1000000);
    uint64_t count = ph_argument_number(&arguments, "events", 1000000);
    uint64_t queues = ph_argument_number(&arguments, "queues", 1000);
    uint64_t state = 88172645463325252;
    struct ph_store store;
    struct ph_ready *ready;
    uint64_t before;
    uint64_t bytes;
    uint64_t began;

    ph_arguments_end(&arguments);
    ready = ph_alloc(queues * sizeof(*ready));
    for (uint64_t i = 0; i < queues; i++) {
        ph_ready_init(&ready[i]);
    }
    before = resident_bytes();
    ph_store_init(&store);
    fill(&store, queued, queues, &state);
    bytes = resident_bytes() - before;
    began = ph_timing_cpu_ns();
    measured_events(&store, ready, count, &state);
    printf("{\"queued\":%llu,\"queues\":%llu,\"event_ns\":%.1f,\"bytes_per_message\":%.1f}\n",
           (unsigned long long)queued, (unsigned long long)queues,
           (double)(ph_timing_cpu_ns() - began) / (double)count, (double)bytes / (double)queued);
    ph_store_deinit(&store);
    for (uint64_t i = 0; i < queues; i++) {
        ph_ready_deinit(&ready[i]);
    }
    free(ready);
    return 0;
}
