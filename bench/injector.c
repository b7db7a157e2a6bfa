// bench-injector: sends messages and keeps a ledger of what was acknowledged.
//
//   bench-injector ADDRESS:PORT CONNECTIONS MESSAGES SIZE RECIPIENT…
//
// MESSAGES 0: until SIGTERM; FIRST+MESSAGES: the ids begin with FIRST, so that several runs have
// one ledger. Prints "acknowledged N seconds S refused R", then "ids" and the ids.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/lib/injector.h"
#include "bench/lib/sink.h"

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    struct ph_injector_options options = {.messages_per_connection = 100,
                                          .sender = "sender@injector.test"};
    struct ph_injector *injector;
    sigset_t signals;
    double began;
    double took;
    char *behind;

    if (argc < 6 || !ph_endpoint_parse(ph_str_from(argv[1]), &options.to)) {
        fprintf(stderr,
                "usage: bench-injector ADDRESS:PORT CONNECTIONS MESSAGES SIZE RECIPIENT…\n");
        return 64;
    }
    options.connections = (unsigned)strtoul(argv[2], NULL, 10);
    options.first_id = 1;
    options.messages = strtoull(argv[3], &behind, 10);
    if (*behind == '+') {
        options.first_id = options.messages;
        options.messages = strtoull(behind + 1, NULL, 10);
    }
    options.size = strtoul(argv[4], NULL, 10);
    options.recipients = (const char *const *)(argv + 5);
    options.recipient_count = (size_t)argc - 5;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    began = seconds();
    injector = ph_injector_start(&options);
    while (!ph_injector_done(injector)) {
        struct timespec pause = {.tv_nsec = 5000000};

        if (sigtimedwait(&signals, NULL, &pause) == SIGTERM) {
            break;
        }
    }
    took = seconds() - began;
    ph_injector_stop(injector);
    printf("acknowledged %llu seconds %.3f refused %llu\n",
           (unsigned long long)ph_injector_acknowledged(injector), took,
           (unsigned long long)ph_injector_refused(injector));
    printf("ids");
    for (uint64_t id = 0; id < ph_injector_next_id(injector); id++) {
        if (ph_injector_is_acknowledged(injector, id)) {
            printf(" %llu", (unsigned long long)id);
        }
    }
    printf("\n");
    ph_injector_destroy(injector);
    return 0;
}
