// posthaste-sim: histories by their seeds, each in a process of its own.
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/sim/peer.h"
#include "tests/sim/sim.h"
#include "tls/boringssl.h"

#include <openssl/rand.h>

#define JOBS_MAX 64
#define CPU_SECONDS_MAX 60 // of one history
#define LINE_BYTES_MAX 4096

struct job {
    pid_t pid;
    int out;
    uint64_t seed;
};

struct plan {
    struct sim_options options;
    uint64_t from;
    uint64_t count;
    unsigned jobs;
    bool one;
    bool quiet;
};

static void ignore_log(void *owner, enum ph_log_level level, const char *line)
{
    (void)owner, (void)level, (void)line;
}

static void run_here(const struct plan *plan, uint64_t seed, int out)
{
    struct sim_options options = plan->options;
    struct ph_buf line = {0};
    struct rlimit limit = {.rlim_cur = CPU_SECONDS_MAX, .rlim_max = CPU_SECONDS_MAX};
    bool good;

    setrlimit(RLIMIT_CPU, &limit);
    RAND_reset_for_fuzzing();
    sim_options_choose(&options, seed);
    if (plan->one) {
        sim_options_print(&options, &line);
    }
    good = sim_run(&options, &line);
    if (!good && !plan->one) {
        sim_options_print(&options, &line);
    }
    fflush(stdout);
    (void)!write(out, line.data, line.len);
    _exit(good ? 0 : 1);
}

// A process each: what a history leaves behind, and how it may end, is its own.
static void begin(const struct plan *plan, struct job *job, uint64_t seed)
{
    int ends[2];

    fflush(stdout);
    if (pipe(ends) != 0 || (job->pid = fork()) < 0) {
        perror("posthaste-sim");
        exit(2);
    }
    if (job->pid == 0) {
        close(ends[0]);
        run_here(plan, seed, ends[1]);
    }
    close(ends[1]);
    job->out = ends[0];
    job->seed = seed;
}

static bool finish(const struct plan *plan, struct job *job)
{
    char line[LINE_BYTES_MAX];
    size_t len = 0;
    ssize_t got;
    int status = 0;
    bool good;

    while (len < sizeof(line) - 1 &&
           (got = read(job->out, line + len, sizeof(line) - 1 - len)) > 0) {
        len += (size_t)got;
    }
    line[len] = '\0';
    close(job->out);
    while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR) {
    }
    good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (len == 0) {
        printf("seed %llu FAILED: the process ended by %s %d\n", (unsigned long long)job->seed,
               WIFSIGNALED(status) ? "signal" : "status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    } else if (!good || !plan->quiet) {
        fputs(line, stdout);
    }
    if (!good) {
        printf("replay: ./dev sim %llu\n", (unsigned long long)job->seed);
    }
    return good;
}

static uint64_t run_all(const struct plan *plan)
{
    struct job jobs[JOBS_MAX] = {0};
    uint64_t begun = 0;
    uint64_t failed = 0;

    for (uint64_t ended = 0; ended < plan->count; ended++) {
        while (begun < plan->count && begun < ended + plan->jobs) {
            begin(plan, &jobs[begun % plan->jobs], plan->from + begun);
            begun++;
        }
        failed += !finish(plan, &jobs[ended % plan->jobs]);
    }
    return failed;
}

static int usage(void)
{
    printf("usage: posthaste-sim SEED | --from SEED --count N [--jobs N] [--quiet]\n"
           "       [--with FAULT]… [--without FAULT]… [--plant BUG] [--trace]\n");
    sim_options_help();
    return 2;
}

static bool read_number(const char *text, uint64_t *out)
{
    return text != NULL && ph_str_to_u64(ph_str_from(text), out);
}

static bool read_arguments(int argc, char **argv, struct plan *plan)
{
    uint64_t number;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        enum sim_option option;

        if (read_number(argv[i], &plan->from)) {
            plan->one = true;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            plan->quiet = true;
        } else if (strcmp(argv[i], "--trace") == 0) {
            plan->options.trace = true;
        } else if (strcmp(argv[i], "--from") == 0 && read_number(value, &plan->from)) {
            i++;
        } else if (strcmp(argv[i], "--count") == 0 && read_number(value, &plan->count)) {
            i++;
        } else if (strcmp(argv[i], "--jobs") == 0 && read_number(value, &number) && number > 0 &&
                   number <= JOBS_MAX) {
            plan->jobs = (unsigned)number;
            i++;
        } else if (strcmp(argv[i], "--with") == 0 && value != NULL &&
                   sim_option_from(value, &option)) {
            plan->options.forced[option] = true;
            i++;
        } else if (strcmp(argv[i], "--without") == 0 && value != NULL &&
                   sim_option_from(value, &option)) {
            plan->options.dropped[option] = true;
            i++;
        } else if (strcmp(argv[i], "--plant") == 0 && value != NULL &&
                   sim_plant_from(value, &plan->options.plant)) {
            i++;
        } else {
            return false;
        }
    }
    return plan->one || plan->count > 0;
}

int main(int argc, char **argv)
{
    struct plan plan = {.from = 1, .count = 0, .jobs = 2};
    uint64_t failed;

    if (!read_arguments(argc, argv, &plan)) {
        return usage();
    }
    if (plan.one) {
        plan.count = 1;
    }
    // Memory once used is used again: pages come and go by the thousand otherwise.
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    ph_log_set_sink(ignore_log, NULL);
    RAND_reset_for_fuzzing();
    sim_certificates_create();
    failed = run_all(&plan);
    if (!plan.one) {
        printf("%llu seeds, %llu failed\n", (unsigned long long)plan.count,
               (unsigned long long)failed);
    }
    return failed == 0 ? 0 : 1;
}
