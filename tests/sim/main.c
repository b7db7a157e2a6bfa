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
    bool nth;    // each disk operation of the seed's history fails in turn
    bool shrink; // options are dropped as long as it goes on failing
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
    enum sim_result result;

    setrlimit(RLIMIT_CPU, &limit);
    RAND_reset_for_fuzzing();
    sim_options_choose(&options, seed);
    if (plan->one) {
        sim_options_print(&options, &line);
    }
    result = sim_run(&options, &line);
    if (result == SIM_BROKEN && !plan->one) {
        sim_options_print(&options, &line);
    }
    fflush(stdout);
    (void)!write(out, line.data, line.len);
    _exit((int)result);
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

// What the command line changed of the seed's choice.
static void print_changes(const struct sim_options *options)
{
    for (unsigned i = 0; i < SIM_OPTION_COUNT; i++) {
        if (options->forced[i] || options->dropped[i]) {
            printf(" --with%s %s", options->dropped[i] ? "out" : "",
                   sim_option_name((enum sim_option)i));
        }
    }
    if (options->messages_wanted > 0) {
        printf(" --messages %u", options->messages_wanted);
    }
    if (options->fail_at > 0) {
        printf(" --fail-at %u%s", options->fail_at, options->fail_for_good ? " --for-good" : "");
    }
    if (options->plant != SIM_PLANT_NONE) {
        printf(" --plant %s", sim_plant_name(options->plant));
    }
    printf("\n");
}

static enum sim_result finish(const struct plan *plan, struct job *job)
{
    char line[LINE_BYTES_MAX];
    size_t len = 0;
    ssize_t got;
    int status = 0;
    enum sim_result result = SIM_BROKEN;

    while (len < sizeof(line) - 1 &&
           (got = read(job->out, line + len, sizeof(line) - 1 - len)) > 0) {
        len += (size_t)got;
    }
    line[len] = '\0';
    close(job->out);
    while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) <= SIM_UNTOUCHED) {
        result = (enum sim_result)WEXITSTATUS(status);
    }
    if (len == 0) {
        printf("seed %llu FAILED: the process ended by %s %d\n", (unsigned long long)job->seed,
               WIFSIGNALED(status) ? "signal" : "status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    } else if (result == SIM_BROKEN || !plan->quiet) {
        fputs(line, stdout);
    }
    if (result == SIM_BROKEN && !plan->shrink) {
        printf("replay: ./dev sim %llu", (unsigned long long)job->seed);
        print_changes(&plan->options);
    }
    return result;
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
        failed += finish(plan, &jobs[ended % plan->jobs]) == SIM_BROKEN;
    }
    return failed;
}

static enum sim_result run_one(const struct plan *plan)
{
    struct job job;

    begin(plan, &job, plan->from);
    return finish(plan, &job);
}

// The first, the second, the third … operation of the disk fails, until the history has no more.
static uint64_t run_nth(struct plan *plan)
{
    enum sim_result result = SIM_HELD;
    uint64_t failed = 0;

    plan->quiet = true;
    for (plan->options.fail_at = 1; result != SIM_UNTOUCHED; plan->options.fail_at++) {
        result = run_one(plan);
        failed += result == SIM_BROKEN;
    }
    printf("seed %llu: each of %u disk operations failed%s, %llu histories broken\n",
           (unsigned long long)plan->from, plan->options.fail_at - 2,
           plan->options.fail_for_good ? " for good" : " once", (unsigned long long)failed);
    return failed;
}

// Drops what it fails without.
static uint64_t run_shrunk(struct plan *plan)
{
    struct sim_options chosen = plan->options;

    if (run_one(plan) != SIM_BROKEN) {
        printf("seed %llu doesn't fail\n", (unsigned long long)plan->from);
        return 0;
    }
    sim_options_choose(&chosen, plan->from);
    for (unsigned i = 0; i < SIM_OPTION_COUNT; i++) {
        plan->options.dropped[i] = true;
        if (chosen.on[i]) {
            plan->options.dropped[i] = run_one(plan) == SIM_BROKEN;
        } else {
            plan->options.dropped[i] = false;
        }
    }
    printf("shrunk: ./dev sim %llu", (unsigned long long)plan->from);
    print_changes(&plan->options);
    return 1;
}

static int usage(void)
{
    printf("usage: posthaste-sim SEED | --from SEED --count N [--jobs N] [--quiet]\n"
           "       [--with FAULT]… [--without FAULT]… [--plant BUG] [--messages N]\n"
           "       [--fail-at N [--for-good]] [--trace]\n"
           "   or: posthaste-sim --nth SEED [--for-good] | --shrink SEED …\n");
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
        } else if (strcmp(argv[i], "--for-good") == 0) {
            plan->options.fail_for_good = true;
        } else if (strcmp(argv[i], "--nth") == 0) {
            plan->nth = true;
        } else if (strcmp(argv[i], "--shrink") == 0) {
            plan->shrink = true;
        } else if (strcmp(argv[i], "--messages") == 0 && read_number(value, &number) &&
                   number > 0 && number < SIM_MESSAGES_MAX / 2) {
            plan->options.messages_wanted = (unsigned)number;
            i++;
        } else if (strcmp(argv[i], "--fail-at") == 0 && read_number(value, &number)) {
            plan->options.fail_at = (unsigned)number;
            i++;
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
            plan->options.dropped[option] = false;
            i++;
        } else if (strcmp(argv[i], "--without") == 0 && value != NULL &&
                   strcmp(value, "all") == 0) {
            memset(plan->options.dropped, true, sizeof(plan->options.dropped));
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
    if (plan.nth) {
        failed = run_nth(&plan);
    } else if (plan.shrink) {
        failed = run_shrunk(&plan);
    } else {
        failed = run_all(&plan);
    }
    if (!plan.one) {
        printf("%llu seeds, %llu failed\n", (unsigned long long)plan.count,
               (unsigned long long)failed);
    }
    return failed == 0 ? 0 : 1;
}
