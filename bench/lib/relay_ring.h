// The bare relay's ring: each submission names its kind and the object that waits for it.
#pragma once

#include <liburing.h>
#include <stddef.h>
#include <stdint.h>

enum ph_relay_kind {
    PH_RELAY_ACCEPT,
    PH_RELAY_SIGNAL,
    PH_RELAY_IN_RECV,
    PH_RELAY_IN_SEND,
    PH_RELAY_GROUP_WRITE,
    PH_RELAY_LOG_WRITE,
    PH_RELAY_OUT_CONNECT,
    PH_RELAY_OUT_RECV,
    PH_RELAY_OUT_SEND,
};

extern struct io_uring ph_relay_ring; // one a process

// Accepts what comes to `listen_fd`; SIGTERM is a completion.
void ph_relay_ring_start(int listen_fd);
// Never NULL; zeroes but for the kind and the object.
struct io_uring_sqe *ph_relay_ring_sqe(enum ph_relay_kind kind, void *object);
void ph_relay_ring_accept(int listen_fd);

static inline void ph_relay_ring_prepare(struct io_uring_sqe *sqe, uint8_t opcode, int fd,
                                         const void *address, size_t len, uint64_t offset)
{
    sqe->opcode = opcode;
    sqe->fd = fd;
    sqe->addr = (uint64_t)(uintptr_t)address;
    sqe->len = (uint32_t)len;
    sqe->off = offset;
}

static inline enum ph_relay_kind ph_relay_ring_kind(const struct io_uring_cqe *cqe)
{
    return (enum ph_relay_kind)(cqe->user_data >> 56);
}

static inline void *ph_relay_ring_object(const struct io_uring_cqe *cqe)
{
    return (void *)(uintptr_t)(cqe->user_data << 8 >> 8);
}
