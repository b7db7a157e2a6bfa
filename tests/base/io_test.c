// What the worlds share: the ready list's promises, on a world that does nothing by itself.
#include "base/io.h"

#include <criterion/criterion.h>

static struct ph_op *waiting;

static void echo_wait(struct ph_io *io, uint64_t deadline_ns)
{
    (void)deadline_ns;
    if (waiting != NULL) {
        ph_io_complete(io, waiting, 42);
        waiting = NULL;
    }
}

static void take_sync(struct ph_file *file, struct ph_op *op)
{
    (void)file;
    waiting = op;
}

static const struct ph_io_vtable echo = {
    .name = "echo",
    .wait = echo_wait,
    .file_sync = take_sync,
};

static int order[8];
static int stepped;
static struct ph_op ops[4];

static void note_step(struct ph_op *op)
{
    order[stepped++] = (int)(op - ops);
}

static struct ph_io io;

static void retract_second(struct ph_op *op)
{
    note_step(op);
    ph_io_retract(&io, &ops[1]);
    // Ready again at once: belongs to the next batch.
    ph_io_notify(&io, op, 0);
}

Test(io, a_batch_is_what_was_ready_when_it_began)
{
    ph_io_init(&io, &echo);
    for (int i = 0; i < 4; i++) {
        ph_op_init(&ops[i], i == 0 ? retract_second : note_step, NULL);
        ph_io_notify(&io, &ops[i], i);
    }
    ph_io_notify(&io, &ops[3], 77); // already ready: the result is replaced, no second step
    cr_assert_eq(ops[3].result, 77);
    cr_assert_eq(ph_io_run_ready(&io), 4); // 0, 2, 3, and the batch's fourth place: 0 again
    cr_assert_eq(order[0], 0);
    cr_assert_eq(order[1], 2);
    cr_assert_eq(order[2], 3);
    cr_assert_eq(order[3], 0);
    cr_assert_eq(ops[1].state, PH_OP_IDLE);
    cr_assert(ph_io_has_ready(&io));
}

Test(io, finish_waits_for_one_operation_without_stepping)
{
    struct ph_file file = {.io = &io};

    ph_io_init(&io, &echo);
    ph_op_init(&ops[0], note_step, NULL);
    ph_op_init(&ops[1], note_step, NULL);
    ph_io_notify(&io, &ops[1], 0);
    ph_io_file_sync(&file, &ops[0]);
    cr_assert_eq(ph_io_finish(&io, &ops[0]), 42);
    cr_assert_eq(stepped, 0);
    cr_assert_eq(ops[0].state, PH_OP_IDLE);
    cr_assert_eq(ops[1].state, PH_OP_READY);
    cr_assert_eq(io.stats.durable_writes, 1);
}

static void double_it(struct ph_work_op *work)
{
    *(int *)work->op.owner *= 2;
}

// A world without other threads computes at once, and steps it in its turn all the same.
Test(io, work_is_done_before_its_step)
{
    int value = 21;
    struct ph_work_op work = {.run = double_it};

    ph_io_init(&io, &echo);
    ph_op_init(&work.op, note_step, &value);
    ph_io_work(&io, &work);
    cr_assert_eq(value, 42);
    cr_assert_eq(work.op.state, PH_OP_READY);
    cr_assert_eq(ph_io_finish(&io, &work.op), 0);
}
