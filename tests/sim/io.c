// struct ph_io of the simulator: completions make a worker runnable, and its turns are events among
// the others. A worker that waits for one operation (at start, at the end) is turned by whoever is
// on the stack: events of all others go on meanwhile.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dns/local.h"
#include "engine/worker.h"
#include "tests/sim/checkers.h"
#include "tests/sim/disk.h"
#include "tests/sim/network.h"
#include "tests/sim/scene.h"
#include "tests/sim/sim.h"

#define TURN_NS_MAX (PH_NS_PER_MS / 10)    // from being runnable to running
#define PAUSE_NS_MAX (2000 * PH_NS_PER_MS) // a worker that is held up
#define ERRAND_NS_MAX (20 * PH_NS_PER_MS)
#define LOOKUP_NS_MAX (60 * PH_NS_PER_MS)
#define SURVEY_EVERY_TURNS 8
#define EVENTS_MAX 3000000 // a history that goes round for ever

static void on_turn(struct sim_event *event);

static void read_clocks(struct sim_io *io)
{
    struct sim *sim = io->sim;

    io->io.now_ns = sim->clock.now_ns;
    io->io.wall_ms = (uint64_t)((int64_t)(sim->clock.now_ns / PH_NS_PER_MS) + sim->wall_offset_ms);
}

// --- the loop ---

void sim_io_make_runnable(struct sim_io *io)
{
    struct sim *sim = io->sim;
    uint64_t at_ns = sim->clock.now_ns + sim_between(&sim->random, 500, TURN_NS_MAX);

    if (io->turn.slot == 0 || io->turn.at_ns > at_ns) {
        if (sim_fault(sim, SIM_pauses, 2)) {
            at_ns += sim_below(&sim->random, PAUSE_NS_MAX);
        }
        sim_at(&sim->clock, &io->turn, at_ns);
    }
}

void sim_io_complete(struct sim_io *io, struct ph_op *op, int64_t result)
{
    ph_io_complete(&io->io, op, result);
    sim_io_make_runnable(io);
}

void sim_io_notify(struct sim_io *io, struct ph_op *op, int64_t result)
{
    ph_io_notify(&io->io, op, result);
    sim_io_make_runnable(io);
}

static void on_turn(struct sim_event *event)
{
    struct sim_io *io = event->owner;
    struct sim *sim = io->sim;
    uint64_t deadline_ns;

    if (io->in_turn || !sim->running) {
        io->turn_missed = true;
        return;
    }
    read_clocks(io);
    io->awake = false;
    io->turn_missed = false;
    io->in_turn = true;
    io->io.stats.turns++;
    deadline_ns = ph_worker_turn(ph_engine_worker(sim->engine_now, (uint16_t)io->index));
    io->in_turn = false;
    sim_trace(sim, "turn", io->index, io->io.ready_count, deadline_ns);
    sim_check_counters(sim);
    if (io->io.stats.turns % SURVEY_EVERY_TURNS == 0) {
        sim_check_schedule(sim, io->index);
    }
    if (ph_io_has_ready(&io->io) || io->awake || io->turn_missed ||
        deadline_ns <= sim->clock.now_ns) {
        sim_io_make_runnable(io);
    } else if (deadline_ns != PH_NEVER && (io->turn.slot == 0 || io->turn.at_ns > deadline_ns)) {
        sim_at(&sim->clock, &io->turn, deadline_ns);
    }
}

void sim_step(struct sim *sim)
{
    struct sim_event *event;

    if (sim_end_is_due(sim)) {
        longjmp(sim->end_of_life, 1);
    }
    event = sim_clock_next(&sim->clock);
    if (event == NULL || ++sim->events > EVENTS_MAX) {
        sim_fail(sim, event == NULL ? "nothing will ever happen again" : "no end in sight");
    }
    if (sim->failure[0] != '\0') {
        longjmp(sim->end_of_life, 2);
    }
    event->fire(event);
}

static void sim_wait(struct ph_io *io, uint64_t deadline_ns)
{
    struct sim_io *own = (struct sim_io *)io;
    struct sim *sim = own->sim;

    if (deadline_ns != PH_NEVER) {
        sim_at(&sim->clock, &own->turn, deadline_ns);
    }
    own->turn_missed = false;
    // What is ready may not be what is waited for: time goes by in any case.
    do {
        sim_step(sim);
    } while (!ph_io_has_ready(io) && !own->awake && sim->clock.now_ns < deadline_ns);
    own->awake = false;
    read_clocks(own);
}

static void sim_wake(struct ph_io *io)
{
    struct sim_io *own = (struct sim_io *)io;

    own->awake = true;
    sim_io_make_runnable(own);
}

static void sim_fill_random(struct ph_io *io, void *out, size_t len)
{
    struct sim_random *random = &((struct sim_io *)io)->sim->engine;
    unsigned char *bytes = out;

    for (size_t at = 0; at < len; at += 8) {
        uint64_t value = sim_random_next(random);

        memcpy(bytes + at, &value, len - at < 8 ? len - at : 8);
    }
}

// --- lookups and passwords ---

struct lookup {
    struct sim_event event;
    struct sim *sim;
    struct sim_io *io; // of that life
    struct ph_resolve_op *op;
    unsigned life;
};

static void on_answer(struct sim_event *event)
{
    struct lookup *lookup = event->owner;
    struct ph_resolve_op *op = lookup->op;
    struct sim *sim = lookup->sim;

    if (lookup->life == sim->life) {
        if (sim_fault(sim, SIM_dns_trouble, 150)) {
            op->status = sim_chance(&sim->random, 500) ? PH_RESOLVE_TIMEOUT : PH_RESOLVE_SERVFAIL;
            snprintf(op->detail, sizeof(op->detail), "no answer");
        } else if ((sim->scene->resolve == NULL || !sim->scene->resolve(sim, op)) &&
                   !ph_dns_local_answer(sim->dns, op)) {
            op->status = PH_RESOLVE_NXDOMAIN;
        }
        sim_trace(sim, "answer", op->rrtype, op->status, op->rdata.len);
        sim_io_complete(lookup->io, &op->op, 0);
    }
    free(lookup);
}

static void sim_resolve(struct ph_io *io, struct ph_resolve_op *op)
{
    struct sim_io *own = (struct sim_io *)io;
    struct sim *sim = own->sim;
    struct lookup *lookup = ph_alloc(sizeof(*lookup));
    uint64_t most_ns = sim_fault(sim, SIM_dns_trouble, 100) ? 20000 * PH_NS_PER_MS : LOOKUP_NS_MAX;

    lookup->sim = sim;
    lookup->io = own;
    lookup->op = op;
    lookup->life = own->life;
    sim_event_init(&lookup->event, on_answer, lookup);
    sim_after(&sim->clock, &lookup->event, sim_between(&sim->random, 1000, most_ns));
}

static void sim_check_password(struct ph_io *io, struct ph_password_op *op)
{
    // No connector here has users: nobody's password is right.
    sim_io_complete((struct sim_io *)io, &op->op, 0);
}

// --- work and fetches ---

struct errand {
    struct sim_event event;
    struct sim *sim;
    struct sim_io *io; // of that life
    struct ph_op *op;
    struct ph_work_op *work; // NULL: a fetch
    unsigned life;
};

static void on_errand(struct sim_event *event)
{
    struct errand *errand = event->owner;

    if (errand->life == errand->sim->life && errand->op->world_object == errand) {
        if (errand->work != NULL) {
            errand->work->run(errand->work);
        }
        errand->op->world_object = NULL;
        sim_io_complete(errand->io, errand->op, 0);
    }
    free(errand);
}

static void send_on_errand(struct ph_io *io, struct ph_op *op, struct ph_work_op *work)
{
    struct sim_io *own = (struct sim_io *)io;
    struct errand *errand = ph_alloc(sizeof(*errand));

    errand->sim = own->sim;
    errand->io = own;
    errand->op = op;
    errand->work = work;
    errand->life = own->life;
    op->world_object = errand;
    sim_event_init(&errand->event, on_errand, errand);
    sim_after(&own->sim->clock, &errand->event,
              sim_between(&own->sim->random, 1000, ERRAND_NS_MAX));
}

static void sim_work(struct ph_io *io, struct ph_work_op *op)
{
    send_on_errand(io, &op->op, op);
}

static void sim_fetch(struct ph_io *io, struct ph_fetch_op *op)
{
    struct sim *sim = ((struct sim_io *)io)->sim;

    if (sim_fault(sim, SIM_dns_trouble, 150) || sim->scene->fetch == NULL ||
        !sim->scene->fetch(sim, op)) {
        op->status = PH_FETCH_UNREACHABLE;
        snprintf(op->detail, sizeof(op->detail), "no route to it");
    }
    send_on_errand(io, &op->op, NULL);
}

static void sim_fetch_cancel(struct ph_io *io, struct ph_fetch_op *op)
{
    op->op.world_object = NULL;
    sim_io_complete((struct sim_io *)io, &op->op, -ECANCELED);
}

static void sim_destroy(struct ph_io *io)
{
    struct sim_io *own = (struct sim_io *)io;

    sim_cancel(&own->sim->clock, &own->turn);
    free(own);
}

static const struct ph_io_vtable sim_vtable = {
    .name = "sim",
    .wait = sim_wait,
    .wake = sim_wake,
    .random = sim_fill_random,
    .listen = sim_net_listen,
    .accept_start = sim_net_accept_start,
    .accept_next = sim_net_accept_next,
    .accept_pause = sim_net_accept_pause,
    .listener_close = sim_net_listener_close,
    .socket_detach = sim_net_socket_detach,
    .socket_adopt = sim_net_socket_adopt,
    .connect = sim_net_connect,
    .recv_start = sim_net_recv_start,
    .recv_next = sim_net_recv_next,
    .recv_release = sim_net_recv_release,
    .recv_pause = sim_net_recv_pause,
    .send = sim_net_send,
    .shutdown = sim_net_shutdown,
    .close = sim_net_close,
    .file_open = sim_disk_open,
    .file_close = sim_disk_close,
    .file_allocate = sim_disk_allocate,
    .file_read = sim_disk_read,
    .file_write = sim_disk_write,
    .file_sync = sim_disk_sync,
    .file_size = sim_disk_size,
    .directory_sync = sim_disk_directory_sync,
    .file_rename = sim_disk_rename,
    .file_unlink = sim_disk_unlink,
    .directory_create = sim_disk_directory_create,
    .directory_list = sim_disk_directory_list,
    .space_free = sim_disk_space_free,
    .resolve = sim_resolve,
    .check_password = sim_check_password,
    .fetch = sim_fetch,
    .fetch_cancel = sim_fetch_cancel,
    .work = sim_work,
    .destroy = sim_destroy,
};

struct sim_io *sim_io_create(struct sim *sim, unsigned index)
{
    struct sim_io *io = ph_alloc(sizeof(*io));

    ph_io_init(&io->io, &sim_vtable);
    io->sim = sim;
    io->life = sim->life;
    io->index = index;
    sim_event_init(&io->turn, on_turn, io);
    read_clocks(io);
    return io;
}
