// What is remembered of MTA-STS: ids, ages, failures, files, exceptions.
// Covers: engine/sts_cache engine/keep_file
#include "engine/sts_cache.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/keep_file.h"
#include "engine/offload.h"
#include "engine/poll.h"

#define DOMAIN PH_STR("example.org")
#define NOW_MS UINT64_C(1790000000000)
#define DAY_MS UINT64_C(86400000)

static struct ph_sts_policy *make_policy(const char *id, const char *max_age, uint64_t fetched_ms)
{
    struct ph_buf text = {0};
    struct ph_buf error = {0};
    struct ph_sts_policy *policy;

    ph_buf_printf(&text, "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmax_age: %s\r\n",
                  max_age);
    policy = ph_sts_policy_parse(DOMAIN, ph_str_from(id), fetched_ms, ph_buf_str(&text), &error);
    cr_assert_not_null(policy, "%s", ph_buf_cstr(&error));
    ph_buf_deinit(&text);
    return policy;
}

static void put(struct ph_sts_cache *cache, const char *id, const char *max_age,
                uint64_t fetched_ms)
{
    struct ph_sts_policy *policy = make_policy(id, max_age, fetched_ms);

    ph_sts_cache_fetched(cache, DOMAIN, policy, PH_STR_NONE, fetched_ms);
    ph_sts_policy_release(policy);
}

static void expect(struct ph_sts_cache *cache, int line, enum ph_sts_record record, const char *id,
                   uint64_t wall_ms, const char *policy_id, bool fetch)
{
    struct ph_sts_answer answer;

    ph_sts_cache_look(cache, DOMAIN, record, id, false, wall_ms, &answer);
    cr_expect_eq(answer.fetch, fetch, "line %d: fetch %d", line, answer.fetch);
    cr_expect_eq(answer.policy != NULL, policy_id != NULL, "line %d: policy", line);
    if (answer.policy != NULL && policy_id != NULL) {
        cr_expect_str_eq(answer.policy->id, policy_id, "line %d", line);
    }
    ph_sts_policy_release(answer.policy);
}

#define EXPECT(...) expect(cache, __LINE__, __VA_ARGS__)

Test(sts_cache, ids_ages_and_failures)
{
    struct ph_sts_cache *cache = ph_sts_cache_create("unused");

    EXPECT(PH_STS_RECORD_NONE, "", NOW_MS, NULL, false);
    EXPECT(PH_STS_RECORD_FAILED, "", NOW_MS, NULL, false);
    EXPECT(PH_STS_RECORD_FOUND, "1", NOW_MS, NULL, true);
    // A fetch that failed is not tried again at once.
    ph_sts_cache_fetched(cache, DOMAIN, NULL, PH_STR("no"), NOW_MS);
    EXPECT(PH_STS_RECORD_FOUND, "1", NOW_MS + PH_STS_RETRY_MS - 1, NULL, false);
    EXPECT(PH_STS_RECORD_FOUND, "1", NOW_MS + PH_STS_RETRY_MS, NULL, true);
    put(cache, "1", "86400", NOW_MS);
    EXPECT(PH_STS_RECORD_FOUND, "1", NOW_MS + DAY_MS - 1, "1", false);
    EXPECT(PH_STS_RECORD_FOUND, "2", NOW_MS + 1, "1", true);
    // Neither the record's going nor a failure ends what is in force.
    EXPECT(PH_STS_RECORD_NONE, "", NOW_MS + DAY_MS - 1, "1", false);
    EXPECT(PH_STS_RECORD_FAILED, "", NOW_MS + DAY_MS - 1, "1", false);
    ph_sts_cache_fetched(cache, DOMAIN, NULL, PH_STR("no"), NOW_MS + 1);
    EXPECT(PH_STS_RECORD_FOUND, "2", NOW_MS + 2, "1", false);
    // Its age does.
    EXPECT(PH_STS_RECORD_FOUND, "1", NOW_MS + DAY_MS, NULL, true);
    EXPECT(PH_STS_RECORD_NONE, "", NOW_MS + DAY_MS, NULL, false);
    ph_sts_cache_destroy(cache);
}

Test(sts_cache, a_host_that_fails_leads_to_another_look)
{
    struct ph_sts_cache *cache = ph_sts_cache_create("unused");
    struct ph_sts_answer answer;

    put(cache, "1", "86400", NOW_MS);
    ph_sts_cache_look(cache, DOMAIN, PH_STS_RECORD_FOUND, "1", true, NOW_MS + 1, &answer);
    cr_assert_not(answer.fetch); // it is fresh
    ph_sts_policy_release(answer.policy);
    ph_sts_cache_look(cache, DOMAIN, PH_STS_RECORD_FOUND, "1", true, NOW_MS + PH_STS_RETRY_MS,
                      &answer);
    cr_assert(answer.fetch);
    cr_assert_not_null(answer.policy);
    ph_sts_policy_release(answer.policy);
    ph_sts_cache_destroy(cache);
}

Test(sts_cache, refreshed_before_it_expires_while_it_is_used)
{
    struct ph_sts_cache *cache = ph_sts_cache_create("unused");
    char domain[PH_DNS_NAME_BYTES_MAX];

    put(cache, "1", "86400", NOW_MS);
    cr_assert_not(ph_sts_cache_due(cache, NOW_MS + DAY_MS / 2 - 1, domain));
    cr_assert(ph_sts_cache_due(cache, NOW_MS + DAY_MS / 2, domain));
    cr_assert_str_eq(domain, "example.org");
    cr_assert_not(ph_sts_cache_due(cache, NOW_MS + DAY_MS / 2 + 1, domain)); // once in a while
    put(cache, "1", "31557600", NOW_MS);
    cr_assert(ph_sts_cache_due(cache, NOW_MS + DAY_MS, domain)); // daily at least
    EXPECT(PH_STS_RECORD_NONE, "", NOW_MS + DAY_MS, "1", false);
    // Nobody has needed it for all its life: forgotten.
    cr_assert_not(ph_sts_cache_due(cache, NOW_MS + DAY_MS + UINT64_C(31557600000), domain));
    EXPECT(PH_STS_RECORD_NONE, "", NOW_MS, NULL, false);
    ph_sts_cache_destroy(cache);
}

// --- on disk ---

struct disk {
    struct ph_offload *offload;
    struct ph_io *io;
    char path[64];
};

static void unused_step(struct ph_op *op)
{
    (void)op;
}

static void make_disk(struct disk *d)
{
    d->offload = ph_offload_create(1);
    cr_assert_eq(ph_poll_create(&(struct ph_poll_options){.offload = d->offload}, &d->io), 0);
    strcpy(d->path, "/tmp/sts-cache-XXXXXX");
    cr_assert_not_null(mkdtemp(d->path));
}

static void keep(struct disk *d, struct ph_str name, struct ph_buf *text)
{
    static struct ph_keep_file file;

    ph_op_init(&file.op, unused_step, NULL);
    ph_keep_file_start(&file, d->io, d->path, name, 0, text);
    while (file.op.state != PH_OP_IDLE) {
        ph_io_wait(d->io, d->io->now_ns + 1000000);
        ph_io_run_ready(d->io);
    }
    cr_assert_eq(file.op.result, 0, "%s", strerror((int)-file.op.result));
}

static void free_disk(struct disk *d)
{
    struct ph_buf command = {0};

    d->io->vtable->destroy(d->io);
    ph_offload_destroy(d->offload);
    ph_buf_printf(&command, "%s/example.org.policy", d->path);
    unlink(ph_buf_cstr(&command));
    ph_buf_clear(&command);
    ph_buf_printf(&command, "%s/waived", d->path);
    unlink(ph_buf_cstr(&command));
    rmdir(d->path);
    ph_buf_deinit(&command);
}

static struct ph_sts_cache *load(struct disk *d, size_t problems_expected)
{
    struct ph_sts_cache *cache = ph_sts_cache_create(d->path);
    struct ph_buf problems = {0};

    cr_assert_eq(ph_sts_cache_load(cache, d->io, &problems), 0);
    cr_assert_eq(problems.len > 0, problems_expected > 0, "%s", ph_buf_cstr(&problems));
    ph_buf_deinit(&problems);
    return cache;
}

Test(sts_cache, kept_on_disk)
{
    struct disk d;
    struct ph_sts_cache *cache;
    struct ph_sts_policy *policy = make_policy("a1", "86400", NOW_MS);
    struct ph_buf text = {0};
    struct ph_buf damaged = {0};
    char name[PH_DNS_NAME_BYTES_MAX];

    make_disk(&d);
    ph_sts_cache_destroy(load(&d, 0)); // nothing there yet
    ph_sts_cache_format(policy, name, &text);
    cr_assert_str_eq(name, "example.org.policy");
    ph_buf_append(&damaged, ph_buf_str(&text));
    keep(&d, ph_str_from(name), &text);
    cache = load(&d, 0);
    EXPECT(PH_STS_RECORD_FAILED, "", NOW_MS + 1, "a1", false);
    EXPECT(PH_STS_RECORD_FAILED, "", NOW_MS + DAY_MS, NULL, false);
    // Replaced as a whole, shorter than before.
    ph_sts_policy_release(policy);
    policy = make_policy("b", "7", NOW_MS);
    ph_buf_clear(&text);
    ph_sts_cache_format(policy, name, &text);
    keep(&d, ph_str_from(name), &text);
    ph_sts_cache_destroy(cache);
    cache = load(&d, 0);
    EXPECT(PH_STS_RECORD_FAILED, "", NOW_MS + 6999, "b", false);
    EXPECT(PH_STS_RECORD_FAILED, "", NOW_MS + 7000, NULL, false);
    ph_sts_cache_destroy(cache);
    // Each damaged byte is noticed, and nothing is gone by then.
    for (size_t at = 0; at < damaged.len; at += 7) {
        struct ph_buf wrong = {0};

        ph_buf_append(&wrong, ph_buf_str(&damaged));
        wrong.data[at] ^= 1;
        keep(&d, ph_str_from(name), &wrong);
        cache = load(&d, 1);
        EXPECT(PH_STS_RECORD_FAILED, "", NOW_MS + 1, NULL, false);
        ph_sts_cache_destroy(cache);
    }
    ph_buf_deinit(&damaged);
    ph_sts_policy_release(policy);
    free_disk(&d);
}

Test(sts_cache, exceptions)
{
    struct disk d;
    struct ph_sts_cache *cache;
    struct ph_sts_answer answer;
    struct ph_buf text = {0};

    make_disk(&d);
    cache = ph_sts_cache_create(d.path);
    ph_sts_cache_waive(cache, DOMAIN, NOW_MS + 1000);
    ph_sts_cache_waive(cache, PH_STR("other.org"), NOW_MS);
    ph_sts_cache_format_waived(cache, NOW_MS, &text);
    cr_assert_str_eq(ph_buf_cstr(&text), "example.org 1790000001000\n"); // the other one is over
    keep(&d, PH_STR(PH_STS_WAIVED_FILE), &text);
    ph_sts_cache_destroy(cache);
    cache = load(&d, 0);
    ph_sts_cache_look(cache, DOMAIN, PH_STS_RECORD_NONE, "", false, NOW_MS, &answer);
    cr_assert_eq(answer.waived_until_ms, NOW_MS + 1000);
    ph_sts_cache_look(cache, DOMAIN, PH_STS_RECORD_NONE, "", false, NOW_MS + 1000, &answer);
    cr_assert_eq(answer.waived_until_ms, 0);
    cr_assert_eq(ph_sts_cache_waived_until(cache, PH_STR("other.org")), 0);
    ph_sts_cache_destroy(cache);
    free_disk(&d);
}
