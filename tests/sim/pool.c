// A process each: what a history leaves behind, and how it may end, is its own.
#include "tests/sim/pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tls/boringssl.h"

#include <openssl/rand.h>

#define CPU_SECONDS_MAX 60 // of one history
#define MS_PER_HOUR (3600.0 * 1000)

void __gcov_dump(void) __attribute__((weak)); // there in the build that counts coverage

struct job {
    pid_t pid;
    int out;
    struct sim_options options;
};

struct sim_pool {
    unsigned jobs;
    unsigned first; // of a ring
    unsigned count;
    struct job *ring;
};

struct sim_pool *sim_pool_create(unsigned jobs)
{
    struct sim_pool *pool = ph_alloc(sizeof(*pool));

    pool->jobs = jobs;
    pool->ring = ph_alloc(jobs * sizeof(*pool->ring));
    return pool;
}

void sim_pool_destroy(struct sim_pool *pool)
{
    PH_CHECK(pool->count == 0);
    free(pool->ring);
    free(pool);
}

bool sim_pool_full(const struct sim_pool *pool)
{
    return pool->count == pool->jobs;
}

bool sim_pool_empty(const struct sim_pool *pool)
{
    return pool->count == 0;
}

static void run_here(const struct sim_options *options, int out)
{
    struct ph_buf line = {0};
    struct rlimit limit = {.rlim_cur = CPU_SECONDS_MAX, .rlim_max = CPU_SECONDS_MAX};
    struct sim_report report = {0};

    setrlimit(RLIMIT_CPU, &limit);
    RAND_reset_for_fuzzing();
    sim_run(options, &line, &report);
    fflush(stdout);
    (void)!write(out, &report, sizeof(report));
    (void)!write(out, line.data, line.len);
    if (__gcov_dump != NULL) {
        __gcov_dump();
    }
    _exit(0);
}

void sim_pool_begin(struct sim_pool *pool, const struct sim_options *options)
{
    struct job *job = &pool->ring[(pool->first + pool->count) % pool->jobs];
    int ends[2];

    PH_CHECK(!sim_pool_full(pool));
    fflush(stdout);
    if (pipe(ends) != 0 || (job->pid = fork()) < 0) {
        perror("posthaste-sim");
        exit(2);
    }
    if (job->pid == 0) {
        close(ends[0]);
        run_here(options, ends[1]);
    }
    close(ends[1]);
    job->out = ends[0];
    job->options = *options;
    pool->count++;
}

static size_t read_all(int from, char *out, size_t bytes_max)
{
    size_t len = 0;
    ssize_t got;

    while (len < bytes_max && (got = read(from, out + len, bytes_max - len)) > 0) {
        len += (size_t)got;
    }
    return len;
}

void sim_pool_finish(struct sim_pool *pool, struct sim_history *out)
{
    struct job *job = &pool->ring[pool->first];
    size_t len;
    int status = 0;

    PH_CHECK(!sim_pool_empty(pool));
    pool->first = (pool->first + 1) % pool->jobs;
    pool->count--;
    out->options = job->options;
    len = read_all(job->out, (char *)&out->report, sizeof(out->report));
    if (len < sizeof(out->report)) {
        out->report = (struct sim_report){.result = SIM_BROKEN};
    }
    len = read_all(job->out, out->line, sizeof(out->line) - 1);
    out->line[len] = '\0';
    close(job->out);
    while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (len == 0) {
        snprintf(out->line, sizeof(out->line), "seed %llu FAILED: the process ended by %s %d\n",
                 (unsigned long long)job->options.seed, WIFSIGNALED(status) ? "signal" : "status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
}

// --- what is said of them ---

void sim_options_print_arguments(const struct sim_options *options)
{
    bool all = true;

    for (unsigned i = 0; i < SIM_OPTION_COUNT; i++) {
        all &= options->dropped[i] || options->forced[i];
    }
    if (options->table != SIM_TABLE_NONE) {
        printf(" --table%s%s", options->rows != NULL ? " --rows " : "",
               options->rows != NULL ? options->rows : "");
    }
    if (all) {
        printf(" --without all");
    }
    for (unsigned i = 0; i < SIM_OPTION_COUNT; i++) {
        if (options->forced[i]) {
            printf(" --with %s", sim_option_name((enum sim_option)i));
        } else if (options->dropped[i] && !all) {
            printf(" --without %s", sim_option_name((enum sim_option)i));
        }
    }
    if (options->messages_wanted > 0) {
        printf(" --messages %u", options->messages_wanted);
    }
    if (options->fail_at > 0) {
        printf(" --fail-at %u --fail-as %s%s", options->fail_at, sim_failure_name(options->fail_as),
               options->fail_for_good ? " --for-good" : "");
    }
    if (options->crash_at > 0) {
        printf(" --crash-at %llu", (unsigned long long)options->crash_at);
        if (options->crash_again > 0) {
            printf(" --crash-again %llu", (unsigned long long)options->crash_again);
        }
        printf(" --as %s", sim_end_name(options->crash_as));
    }
    if (options->plant != SIM_PLANT_NONE) {
        printf(" --plant %s", sim_plant_name(options->plant));
    }
    printf("\n");
}

void sim_history_print(const struct sim_history *history, bool with_options, bool failures_only)
{
    bool broken = history->report.result == SIM_BROKEN;
    struct ph_buf options = {0};

    if (with_options || broken) {
        sim_options_print(&history->options, &options);
        printf("%.*s", PH_STR_ARG(ph_buf_str(&options)));
    }
    if (broken || !failures_only) {
        fputs(history->line, stdout);
    }
    if (broken) {
        printf("replay: ./dev sim %llu", (unsigned long long)history->options.seed);
        sim_options_print_arguments(&history->options);
    }
    ph_buf_deinit(&options);
}

// --- sums ---

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

static size_t count_different(struct sim_sum *sum)
{
    size_t different = 0;

    if (sum->disk_count > 0) { // qsort wants an array, even of nothing
        qsort(sum->disks, sum->disk_count, sizeof(*sum->disks), compare);
    }
    for (size_t i = 0; i < sum->disk_count; i++) {
        different += i == 0 || sum->disks[i] != sum->disks[i - 1];
    }
    return different;
}

void sim_sum_add(struct sim_sum *sum, const struct sim_report *report)
{
    sum->histories++;
    sum->failed += report->result == SIM_BROKEN;
    sum->lived_ms += report->lived_ms;
    sum->ends += report->ends;
    sum->ends_in_start += report->ends_in_start;
    sum->summaries += report->summaries;
    sum->summaries_rotten += report->summaries_rotten;
    for (unsigned i = 0; i < report->ends && i < SIM_REPORT_ENDS_MAX; i++) {
        if (sum->disk_count == sum->disk_capacity) {
            sum->disk_capacity = sum->disk_capacity == 0 ? 1024 : sum->disk_capacity * 2;
            sum->disks = reallocarray(sum->disks, sum->disk_capacity, sizeof(*sum->disks));
            PH_CHECK(sum->disks != NULL);
        }
        sum->disks[sum->disk_count++] = report->disks[i];
    }
}

void sim_sum_print(struct sim_sum *sum)
{
    printf("%llu histories, %llu failed; %.1f simulated hours; %llu crashes, %llu of them during a "
           "start; they left %zu different disks; %llu segments read by summary, %llu summaries "
           "rotten\n",
           (unsigned long long)sum->histories, (unsigned long long)sum->failed,
           (double)sum->lived_ms / MS_PER_HOUR, (unsigned long long)sum->ends,
           (unsigned long long)sum->ends_in_start, count_different(sum),
           (unsigned long long)sum->summaries, (unsigned long long)sum->summaries_rotten);
}
