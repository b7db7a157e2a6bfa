// The bare relay's ring.
#include "bench/lib/relay_ring.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/check.h"

#define RING_ENTRIES 1024

struct io_uring ph_relay_ring;

void ph_relay_ring_start(int listen_fd)
{
    static struct signalfd_siginfo signal_seen;
    struct io_uring_params parameters = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                                  IORING_SETUP_DEFER_TASKRUN |
                                                  IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE,
                                         .cq_entries = 4 * RING_ENTRIES};
    int error = io_uring_queue_init_params(RING_ENTRIES, &ph_relay_ring, &parameters);
    sigset_t signals;
    int signal_fd;

    if (error != 0) {
        fprintf(stderr, "bench-relay: io_uring: %s\n", strerror(-error));
        exit(1);
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    ph_relay_ring_prepare(ph_relay_ring_sqe(PH_RELAY_SIGNAL, NULL), IORING_OP_READ, signal_fd,
                          &signal_seen, sizeof(signal_seen), 0);
    ph_relay_ring_accept(listen_fd);
}

struct io_uring_sqe *ph_relay_ring_sqe(enum ph_relay_kind kind, void *object)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ph_relay_ring);

    if (sqe == NULL) {
        io_uring_submit(&ph_relay_ring);
        sqe = io_uring_get_sqe(&ph_relay_ring);
    }
    PH_CHECK(sqe != NULL);
    memset(sqe, 0, sizeof(*sqe));
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)object | (uint64_t)kind << 56);
    return sqe;
}

void ph_relay_ring_accept(int listen_fd)
{
    struct io_uring_sqe *sqe = ph_relay_ring_sqe(PH_RELAY_ACCEPT, NULL);

    io_uring_prep_multishot_accept(sqe, listen_fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, (uint64_t)PH_RELAY_ACCEPT << 56);
}
