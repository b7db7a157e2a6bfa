#include "engine/holds.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io_worlds.h"
#include "queue/message.h"

static char directory[] = "/tmp/posthaste-holds-XXXXXX";

static struct ph_holds *load(const char *wanted_error)
{
    struct ph_offload *offload = ph_offload_create(1);
    struct ph_io *io = io_world_named(&(struct ph_host_threads){.offload = offload});
    struct ph_buf error = {0};
    struct ph_holds *holds = ph_holds_create(io, directory, &error);

    cr_expect(wanted_error == NULL
                  ? error.len == 0
                  : ph_str_find(ph_buf_str(&error), ph_str_from(wanted_error)) >= 0,
              "%s", ph_buf_cstr(&error));
    ph_buf_deinit(&error);
    io->vtable->destroy(io);
    ph_offload_destroy(offload);
    return holds;
}

static bool suspend(struct ph_holds *holds, const char *text)
{
    struct ph_queue_query query;
    struct ph_buf error = {0};
    bool held;

    cr_assert(ph_queue_query_parse(ph_str_from(text), &query, &error));
    cr_assert_eq(ph_holds_add(holds, &query, ph_str_from(text), &held), 0);
    return held;
}

static void resume(struct ph_holds *holds, const char *text)
{
    struct ph_queue_query query;
    struct ph_buf error = {0};

    cr_assert(ph_queue_query_parse(ph_str_from(text), &query, &error));
    cr_assert_eq(ph_holds_remove(holds, &query), 0);
}

static bool held(struct ph_holds *holds, const char *domain, const char *connector)
{
    return ph_holds_match(holds, ph_str_from(domain), ph_str_from(connector));
}

static void begin(void)
{
    cr_assert_not_null(mkdtemp(directory));
}

static void finish(void)
{
    char path[64];

    snprintf(path, sizeof(path), "%s/suspended", directory);
    unlink(path);
    rmdir(directory);
}

Test(holds, what_is_suspended_as_a_whole, .init = begin, .fini = finish)
{
    struct ph_holds *holds = load(NULL);

    cr_expect(!held(holds, "a.test", "out"));
    cr_expect(suspend(holds, "a.test"));
    cr_expect(suspend(holds, "domain=*.b.test connector=out"));
    cr_expect(suspend(holds, "A.test "), "the same once more");
    cr_expect(held(holds, "a.test", "out") && held(holds, "A.TEST", "other"));
    cr_expect(held(holds, "x.b.test", "OUT") && !held(holds, "x.b.test", "other"));
    cr_expect(!held(holds, "x.a.test", "out"));
    // Single messages are no queue.
    cr_expect(!suspend(holds, "a.test reason=connect-refused"));
    cr_expect(!suspend(holds, "sender=c.test"));
    cr_expect(!suspend(holds, "0123456789abcdef"));
    cr_expect(!suspend(holds, "* older=2h"));
    cr_expect(!held(holds, "c.test", "out"));
    ph_holds_destroy(holds);

    // As it was, after a restart; then one goes, then all.
    holds = load(NULL);
    cr_expect(held(holds, "a.test", "out") && held(holds, "x.b.test", "out"));
    resume(holds, "b.test");
    resume(holds, "a.test reason=connect-refused");
    cr_expect(held(holds, "a.test", "out") && held(holds, "x.b.test", "out"));
    resume(holds, "domain=a.test");
    cr_expect(!held(holds, "a.test", "out") && held(holds, "x.b.test", "out"));
    cr_expect(suspend(holds, "*"));
    cr_expect(held(holds, "a.test", "out"));
    resume(holds, "state=suspended");
    cr_expect(!held(holds, "a.test", "out") && !held(holds, "x.b.test", "out"));
    ph_holds_destroy(holds);
    holds = load(NULL);
    cr_expect(!held(holds, "a.test", "out"));
    ph_holds_destroy(holds);
}

Test(holds, what_cannot_be_written_changes_nothing)
{
    struct ph_holds *holds;
    struct ph_queue_query query;
    struct ph_buf error = {0};
    bool is_held = true;

    cr_assert_not_null(mkdtemp(directory));
    holds = load(NULL);
    rmdir(directory);
    cr_assert(ph_queue_query_parse(PH_STR("a.test"), &query, &error));
    cr_expect_eq(ph_holds_add(holds, &query, PH_STR("a.test"), &is_held), -ENOENT);
    cr_expect(!is_held && !held(holds, "a.test", "out"));
    ph_holds_destroy(holds);
}

Test(holds, a_line_that_cannot_be_read_is_told, .init = begin, .fini = finish)
{
    char path[64];
    struct ph_holds *holds;
    FILE *file;

    snprintf(path, sizeof(path), "%s/suspended", directory);
    file = fopen(path, "w");
    fputs("colour=red\na.test\n", file);
    fclose(file);
    holds = load("colour=red");
    cr_expect(held(holds, "a.test", "out"));
    ph_holds_destroy(holds);
}
