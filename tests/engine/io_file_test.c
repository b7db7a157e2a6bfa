// The contract of base/io.h for files, held by every world; and which world is chosen.
// Covers: engine/ring_file engine/ring_probe engine/file_jobs engine/host_io engine/world
#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/ring.h"
#include "engine/world.h"
#include "io_worlds.h"

#define BLOCK ((size_t)PH_DURABLE_BLOCK_BYTES)

struct files {
    struct io_bench b;
    char directory[64];
    char path[96];
    char other_path[96];
    struct ph_file *file;
    char *data; // four blocks, aligned
    char *read;
};

static void nothing(struct ph_op *op)
{
    (void)op;
}

#define DO(f, op, call)                                                                            \
    ({                                                                                             \
        struct ph_op op;                                                                           \
        ph_op_init(&op, nothing, NULL);                                                            \
        call;                                                                                      \
        ph_io_finish((f)->b.io, &op);                                                              \
    })

static void start(struct files *f, unsigned which)
{
    *f = (struct files){0};
    io_start(&f->b, which);
    strcpy(f->directory, "/tmp/posthaste-files-XXXXXX");
    cr_assert_not_null(mkdtemp(f->directory));
    snprintf(f->path, sizeof(f->path), "%s/b", f->directory);
    snprintf(f->other_path, sizeof(f->other_path), "%s/a", f->directory);
    f->data = aligned_alloc(BLOCK, 4 * BLOCK);
    f->read = aligned_alloc(BLOCK, 4 * BLOCK);
    for (size_t i = 0; i < 4 * BLOCK; i++) {
        f->data[i] = (char)(i * 131 / 7);
    }
}

static void finish(struct files *f)
{
    ph_io_file_close(f->file);
    unlink(f->path);
    unlink(f->other_path);
    rmdir(f->directory);
    io_finish(&f->b);
    free(f->data);
    free(f->read);
}

static int64_t open_file(struct files *f, int flags)
{
    return DO(f, op, ph_io_file_open(f->b.io, &op, f->path, flags, &f->file));
}

static int64_t read_at(struct files *f, size_t len, uint64_t offset)
{
    return DO(f, op, ph_io_file_read(f->file, &op, f->read, len, offset));
}

Test(io_file, what_was_written_is_read, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct files f;
        int64_t len = (int64_t)(4 * BLOCK);

        start(&f, which);
        cr_assert_eq(open_file(&f, PH_FILE_READ), -ENOENT);
        cr_assert_eq(open_file(&f, PH_FILE_WRITE | PH_FILE_CREATE | PH_FILE_DIRECT), 0);
        cr_assert_eq(DO(&f, op, ph_io_file_allocate(f.file, &op, 4 * BLOCK)), 0);
        cr_assert_eq(DO(&f, op, ph_io_file_size(f.file, &op)), len);
        cr_assert_eq(DO(&f, op, ph_io_file_write_durable(f.file, &op, f.data, 4 * BLOCK, 0)), len);
        cr_assert_eq(read_at(&f, 4 * BLOCK, 0), len, "%s", f.b.name);
        cr_assert(memcmp(f.read, f.data, 4 * BLOCK) == 0, "%s", f.b.name);
        // Through the page cache, at any place; and beyond the end less comes, then nothing.
        cr_assert_eq(DO(&f, op, ph_io_file_write(f.file, &op, f.data + 1, 77, 4 * BLOCK + 5)), 77);
        cr_assert_eq(DO(&f, op, ph_io_file_sync(f.file, &op)), 0);
        cr_assert_eq(read_at(&f, 4 * BLOCK, 4 * BLOCK + 5), 77);
        cr_assert(memcmp(f.read, f.data + 1, 77) == 0);
        cr_assert_eq(read_at(&f, 10, 9 * BLOCK), 0);
        cr_assert_eq(f.b.io->stats.durable_writes, 2);
        finish(&f);
    }
}

// Without PH_FILE_DIRECT, and where a write around the page cache isn't possible.
Test(io_file, a_durable_write_needs_no_alignment_where_none_is_promised, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct files f;

        start(&f, which);
        cr_assert_eq(open_file(&f, PH_FILE_WRITE | PH_FILE_CREATE), 0);
        cr_assert_eq(DO(&f, op, ph_io_file_write_durable(f.file, &op, f.data + 3, 501, 7)), 501);
        cr_assert_eq(read_at(&f, 501, 7), 501);
        cr_assert(memcmp(f.read, f.data + 3, 501) == 0, "%s", f.b.name);
        ph_io_file_close(f.file);
        cr_assert_eq(open_file(&f, PH_FILE_WRITE | PH_FILE_DIRECT), 0);
        cr_assert_eq(DO(&f, op, ph_io_file_write_durable(f.file, &op, f.data + 3, 501, 7)), 501,
                     "%s", f.b.name);
        finish(&f);
    }
}

// The file may not grow beyond 6000 bytes: the kernel takes a part and then none.
Test(io_file, a_short_write_is_an_error_in_the_end, .timeout = 60)
{
    signal(SIGXFSZ, SIG_IGN);
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        for (unsigned kind = 0; kind < 3; kind++) {
            struct rlimit was;
            struct rlimit low;
            struct files f;
            int64_t result;

            start(&f, which);
            cr_assert_eq(
                open_file(&f, PH_FILE_WRITE | PH_FILE_CREATE | (kind == 2 ? PH_FILE_DIRECT : 0)),
                0);
            getrlimit(RLIMIT_FSIZE, &was);
            low = was;
            low.rlim_cur = 6000;
            setrlimit(RLIMIT_FSIZE, &low);
            result = kind == 0
                         ? DO(&f, op, ph_io_file_write(f.file, &op, f.data, 2 * BLOCK, 0))
                         : DO(&f, op, ph_io_file_write_durable(f.file, &op, f.data, 2 * BLOCK, 0));
            setrlimit(RLIMIT_FSIZE, &was);
            cr_assert_eq(result, -EFBIG, "%s, kind %u: %lld", f.b.name, kind, (long long)result);
            cr_assert_eq(DO(&f, op, ph_io_file_write_durable(f.file, &op, f.data, 2 * BLOCK, 0)),
                         (int64_t)(2 * BLOCK));
            finish(&f);
        }
    }
}

// Also where the length is no multiple of a block: nothing may stay in front of or behind the
// zeros.
Test(io_file, an_allocated_file_is_zeros_to_its_end, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        for (int direct = 0; direct < 2; direct++) {
            int64_t size = (int64_t)(3 * BLOCK + 100);
            struct files f;

            start(&f, which);
            cr_assert_eq(
                open_file(&f, PH_FILE_WRITE | PH_FILE_CREATE | (direct ? PH_FILE_DIRECT : 0)), 0);
            cr_assert_eq(DO(&f, op, ph_io_file_write(f.file, &op, f.data, 2 * BLOCK, 0)),
                         (int64_t)(2 * BLOCK));
            cr_assert_eq(DO(&f, op, ph_io_file_allocate(f.file, &op, (uint64_t)size)), 0);
            cr_assert_eq(DO(&f, op, ph_io_file_size(f.file, &op)), size);
            cr_assert_eq(read_at(&f, 4 * BLOCK, 0), size);
            for (int64_t i = 0; i < size; i++) {
                cr_assert(f.read[i] == 0, "%s: byte %lld", f.b.name, (long long)i);
            }
            finish(&f);
        }
    }
}

Test(io_file, many_writes_at_once_each_tell_of_themselves, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct ph_op ops[40];
        struct files f;

        start(&f, which);
        cr_assert_eq(open_file(&f, PH_FILE_WRITE | PH_FILE_CREATE | PH_FILE_DIRECT), 0);
        for (unsigned i = 0; i < PH_ARRAY_LEN(ops); i++) {
            ph_op_init(&ops[i], nothing, NULL);
            ph_io_file_write_durable(f.file, &ops[i], f.data + (i % 4) * BLOCK, BLOCK, i * BLOCK);
        }
        for (unsigned i = 0; i < PH_ARRAY_LEN(ops); i++) {
            cr_assert_eq(ph_io_finish(f.b.io, &ops[i]), (int64_t)BLOCK);
            cr_assert_eq(read_at(&f, BLOCK, i * BLOCK), (int64_t)BLOCK);
            cr_assert(memcmp(f.read, f.data + (i % 4) * BLOCK, BLOCK) == 0, "%s", f.b.name);
        }
        finish(&f);
    }
}

// As in a container that limits its processes: the kernel finds no thread for what blocks.
Test(io_file, writes_are_durable_where_no_more_threads_may_be_made, .timeout = 60)
{
    struct rlimit was;
    struct rlimit none;
    uid_t user = getuid();

    getrlimit(RLIMIT_NPROC, &was);
    none = (struct rlimit){.rlim_max = was.rlim_max};
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct files f;

        start(&f, which);
        cr_assert_eq(open_file(&f, PH_FILE_WRITE | PH_FILE_CREATE | PH_FILE_DIRECT), 0);
        cr_assert_eq(DO(&f, op, ph_io_file_allocate(f.file, &op, 8 * BLOCK)), 0);
        cr_assert_eq(setrlimit(RLIMIT_NPROC, &none), 0);
        cr_assert(user != 0 || setresuid(65534, 65534, 0) == 0); // root is not limited
        for (unsigned i = 0; i < 4; i++) {
            cr_assert_eq(
                DO(&f, op, ph_io_file_write_durable(f.file, &op, f.data, BLOCK, i * BLOCK)),
                (int64_t)BLOCK, "%s", f.b.name);
            cr_assert_eq(DO(&f, op, ph_io_file_sync(f.file, &op)), 0, "%s", f.b.name);
        }
        cr_assert_eq(read_at(&f, 4 * BLOCK, 0), (int64_t)(4 * BLOCK), "%s", f.b.name);
        cr_assert(user != 0 || setresuid(0, 0, 0) == 0);
        cr_assert_eq(setrlimit(RLIMIT_NPROC, &was), 0);
        finish(&f);
    }
}

Test(io_file, directories_locks_and_space, .timeout = 60)
{
    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct ph_buf names = {0};
        uint64_t free_bytes = 0;
        uint64_t total_bytes = 0;
        struct ph_file *other = NULL;
        struct files f;

        start(&f, which);
        cr_assert_eq(open_file(&f, PH_FILE_WRITE | PH_FILE_CREATE | PH_FILE_LOCK), 0);
        cr_assert_eq(DO(&f, op,
                        ph_io_file_open(f.b.io, &op, f.path,
                                        PH_FILE_WRITE | PH_FILE_CREATE_OK | PH_FILE_LOCK, &other)),
                     -EWOULDBLOCK);
        cr_assert_null(other);
        cr_assert_eq(
            DO(&f, op,
               ph_io_file_open(f.b.io, &op, f.path, PH_FILE_WRITE | PH_FILE_CREATE, &other)),
            -EEXIST);
        cr_assert_eq(DO(&f, op,
                        ph_io_file_open(f.b.io, &op, f.other_path,
                                        PH_FILE_WRITE | PH_FILE_CREATE_OK, &other)),
                     0);
        ph_io_file_close(other);
        cr_assert_eq(DO(&f, op, ph_io_directory_list(f.b.io, &op, f.directory, &names)), 0);
        cr_assert(names.len == 4 && memcmp(names.data, "a\0b\0", 4) == 0);
        cr_assert_eq(DO(&f, op, ph_io_file_rename(f.b.io, &op, f.path, f.other_path)), 0);
        cr_assert_eq(DO(&f, op, ph_io_directory_sync(f.b.io, &op, f.directory)), 0);
        cr_assert_eq(DO(&f, op, ph_io_file_unlink(f.b.io, &op, f.path)), -ENOENT);
        cr_assert_eq(DO(&f, op, ph_io_file_unlink(f.b.io, &op, f.other_path)), 0);
        cr_assert_eq(DO(&f, op, ph_io_directory_create(f.b.io, &op, f.directory)), -EEXIST);
        cr_assert_eq(
            DO(&f, op, ph_io_space_free(f.b.io, &op, f.directory, &free_bytes, &total_bytes)), 0);
        cr_assert(free_bytes > 0 && total_bytes >= free_bytes);
        ph_buf_deinit(&names);
        finish(&f);
    }
}

Test(io_file, passwords, .timeout = 60)
{
    const char *hash = crypt("right", "$6$rounds=1000$salt");

    for (unsigned which = 0; which < IO_WORLDS; which++) {
        struct files f;

        start(&f, which);
        for (int right = 0; right < 2; right++) {
            struct ph_password_op ask = {0};

            ph_op_init(&ask.op, nothing, NULL);
            strcpy(ask.password, right ? "right" : "wrong");
            strcpy(ask.hash, hash);
            ph_io_check_password(f.b.io, &ask);
            cr_assert_eq(ph_io_finish(f.b.io, &ask.op), right, "%s", f.b.name);
            cr_assert_eq(ask.password[0], '\0');
        }
        finish(&f);
    }
}

// --- which world ---

// From here on, as in a container, io_uring_setup fails with this.
static void forbid_io_uring(unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = PH_ARRAY_LEN(code), .filter = code};

    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static int choose(enum ph_io_world wanted, const char *expected, struct ph_buf *why)
{
    struct ph_offload *offload = ph_offload_create(1);
    struct ph_io *ios[3] = {NULL};
    int result = ph_world_create(
        &(struct ph_world_options){.wanted = wanted, .threads = {.offload = offload}}, ios,
        PH_ARRAY_LEN(ios), why);

    for (size_t i = 0; i < PH_ARRAY_LEN(ios); i++) {
        cr_assert_eq(ios[i] != NULL, expected != NULL, "%s", ph_buf_cstr(why));
        if (ios[i] != NULL) {
            cr_assert_str_eq(ios[i]->vtable->name, expected);
            ph_io_wait(ios[i], 0);
            ios[i]->vtable->destroy(ios[i]);
        }
    }
    ph_offload_destroy(offload);
    return result;
}

Test(io_world, the_ring_where_it_works_and_what_was_asked_for)
{
    struct ph_buf why = {0};

    cr_assert_eq(choose(PH_IO_AUTO, "ring", &why), 0, "%s", ph_buf_cstr(&why));
    cr_assert_eq(choose(PH_IO_RING, "ring", &why), 0);
    cr_assert_eq(choose(PH_IO_POLL, "poll", &why), 0);
    cr_assert_eq(why.len, 0, "%s", ph_buf_cstr(&why));
}

static void expect_forbidden(unsigned error, const char *hint)
{
    struct ph_buf why = {0};

    forbid_io_uring(error);
    cr_assert_eq(choose(PH_IO_AUTO, "poll", &why), 0);
    cr_assert_not_null(strstr(ph_buf_cstr(&why), hint), "%s", ph_buf_cstr(&why));
    ph_buf_clear(&why);
    cr_assert_lt(choose(PH_IO_RING, NULL, &why), 0);
    cr_assert_not_null(strstr(ph_buf_cstr(&why), hint), "%s", ph_buf_cstr(&why));
    ph_buf_clear(&why);
    cr_assert_eq(choose(PH_IO_POLL, "poll", &why), 0);
    cr_assert_eq(why.len, 0);
    ph_buf_deinit(&why);
}

Test(io_world, poll_where_io_uring_is_forbidden)
{
    expect_forbidden(EPERM, "io_uring_disabled");
}

Test(io_world, poll_where_there_is_no_io_uring)
{
    expect_forbidden(ENOSYS, "seccomp");
}

// Nothing that the ring needs is charged to locked memory; if it were, poll would do.
Test(io_world, a_user_who_may_lock_no_memory_has_a_world)
{
    struct rlimit none = {0};
    struct ph_buf why = {0};

    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    if (geteuid() == 0) {
        cr_assert_eq(setresuid(65534, 65534, 65534), 0);
    }
    cr_assert_eq(choose(PH_IO_AUTO, ph_ring_works(&why) ? "ring" : "poll", &why), 0);
    ph_buf_deinit(&why);
}
