// The parts of the ring world, for its own files.
//
// What the kernel says of an operation comes back under a tag: the object that waits, what for, and
// the object's generation. Sockets and listeners are used again only after the last completion of
// all that was submitted for them, so a tag of an older generation can't come; that it doesn't is
// checked. A descriptor is closed last, so its number can't mean another socket before then.
#pragma once

#include <liburing.h>
#include <sys/queue.h>

#include "engine/host_io.h"
#include "engine/socket_parts.h"

#define PH_RING_BUFFER_GROUP 0
// A paused socket, or one that nobody reads, stops receiving when it holds so much; ours. What one
// turn brings may come on top.
#define PH_RING_HELD_BYTES_MAX ((size_t)64 << 10)
#define PH_RING_STARVED_NS                                                                         \
    (100 * PH_NS_PER_MS) // without descriptors: accepting rests so long; ours

enum ph_ring_tag_kind {
    PH_RING_IGNORED, // of no interest: what is cancelled tells of itself
    PH_RING_WOKEN,
    PH_RING_ACCEPTED,
    PH_RING_CONNECTED,
    PH_RING_RECEIVED,
    PH_RING_SENT,
    PH_RING_CANCELLED,
    PH_RING_CLOSED,
    PH_RING_FILE_TRANSFERRED,
    PH_RING_FILE_SYNCED,
};

// Bytes that were received and not fetched yet: in a buffer of the pool, or copied out of it.
struct ph_ring_chunk {
    STAILQ_ENTRY(ph_ring_chunk) link;
    char *data;
    size_t len;
};
STAILQ_HEAD(ph_ring_chunk_list, ph_ring_chunk);

struct ph_ring_pool {
    struct io_uring_buf_ring *ring;
    size_t ring_bytes;
    char *memory;
    struct ph_ring_chunk *chunks; // one a buffer
    unsigned count;
    unsigned bytes;
    unsigned free; // in the kernel's hands
};

struct ph_ring_listener {
    struct ph_listener listener;
    LIST_ENTRY(ph_ring_listener) link; // of all, also those that are being closed
    int fd;
    uint16_t generation;
    struct ph_op *op;
    struct ph_buf accepted; // descriptors
    bool armed;
    bool paused;
    bool starved;
    bool closing;
};

struct ph_ring_socket {
    struct ph_socket socket;
    LIST_ENTRY(ph_ring_socket) link; // of all, or of those that are free
    int fd;
    uint16_t generation;
    uint8_t in_flight; // submissions that haven't had their last completion
    bool closing;
    bool recv_armed;
    bool recv_cancelling;
    bool recv_ended; // by the peer
    bool recv_starved;
    bool paused;
    bool holding; // in the list of those that hold chunks
    uint8_t close_attempts;
    int recv_error; // negative errno, once it failed
    struct ph_op *connect_op;
    struct ph_op *recv_op;
    struct ph_op *send_op;
    struct ph_op *close_op;
    // Received.
    struct ph_ring_chunk_list chunks;
    struct ph_ring_chunk *out; // the slice that the owner has
    size_t held_bytes;
    TAILQ_ENTRY(ph_ring_socket) holder_link;
    STAILQ_ENTRY(ph_ring_socket) starved_link;
    // Being sent.
    struct iovec one;
    struct iovec *many; // PH_SEND_IOV_MAX of them, once that was needed
    struct iovec *slices;
    int slice_count;
    uint64_t sent;
    struct msghdr message;
    union ph_socket_address address; // to connect to
};

LIST_HEAD(ph_ring_socket_list, ph_ring_socket);

struct ph_ring {
    struct ph_host_io host;
    struct io_uring uring;
    bool enabled;
    pthread_t thread; // whose it is, once it is enabled
    struct ph_ring_pool pool;
    struct ph_ring_socket_list sockets;
    struct ph_ring_socket_list free_sockets;
    TAILQ_HEAD(ph_ring_holder_list, ph_ring_socket) holders;
    STAILQ_HEAD(, ph_ring_socket) starved_sockets;
    LIST_HEAD(, ph_ring_listener) listeners;
    uint16_t listener_generation;
    uint64_t starved_until_ns; // 0: no listener is
};

static inline struct ph_ring *ph_ring_of(struct ph_io *io)
{
    return (struct ph_ring *)io;
}

// A kernel's ring with the flags that we want, not enabled yet. 0, or a negative errno.
int ph_ring_set_up(struct io_uring *out, unsigned submissions, unsigned completions);
int ph_ring_enable(struct io_uring *uring); // on the thread that will use it
// A submission to fill; never NULL. The tag is set afterwards: the preparing functions clear it.
struct io_uring_sqe *ph_ring_submission(struct ph_ring *r);
// Room for so many at once: a chain must not be torn by entering the kernel in between.
void ph_ring_reserve(struct ph_ring *r, unsigned count);
void ph_ring_tag(struct io_uring_sqe *sqe, enum ph_ring_tag_kind kind, uint16_t generation,
                 const void *object);
uint64_t ph_ring_tag_value(enum ph_ring_tag_kind kind, uint16_t generation, const void *object);

// engine/ring_pool: buffers for what is received.
int ph_ring_pool_init(struct ph_ring_pool *pool, struct io_uring *uring, unsigned count,
                      unsigned bytes);
void ph_ring_pool_deinit(struct ph_ring_pool *pool); // after the ring
// The buffer that a completion names, out of the kernel's hands.
struct ph_ring_chunk *ph_ring_pool_take(struct ph_ring_pool *pool, uint32_t cqe_flags, size_t len);
// Back to the kernel, or freed if it is a copy.
void ph_ring_chunk_release(struct ph_ring_pool *pool, struct ph_ring_chunk *chunk);
// A copy that holds no buffer; the original is released.
struct ph_ring_chunk *ph_ring_chunk_copy_out(struct ph_ring_pool *pool,
                                             struct ph_ring_chunk *chunk);

// engine/ring_socket
struct ph_ring_socket *ph_ring_socket_new(struct ph_ring *r, int fd);
void ph_ring_sockets_free(struct ph_ring *r); // at the end; none may be in use
void ph_ring_socket_connected(struct ph_ring_socket *s, int result);
void ph_ring_socket_received(struct ph_ring_socket *s, int result, uint32_t cqe_flags);
void ph_ring_socket_sent(struct ph_ring_socket *s, int result);
void ph_ring_socket_cancelled(struct ph_ring_socket *s, int result);
void ph_ring_socket_closed(struct ph_ring_socket *s);
// Before each wait: buffers that nobody fetches go back, receives that ran out of them go on.
void ph_ring_sockets_tend(struct ph_ring *r);

struct ph_socket *ph_ring_connect(struct ph_io *io, struct ph_op *op, const struct ph_endpoint *to,
                                  const struct ph_endpoint *from);
void ph_ring_recv_start(struct ph_socket *socket, struct ph_op *op);
enum ph_recv_result ph_ring_recv_next(struct ph_socket *socket, struct ph_str *out_slice);
void ph_ring_recv_release(struct ph_socket *socket);
void ph_ring_recv_pause(struct ph_socket *socket, bool paused);
void ph_ring_send(struct ph_socket *socket, struct ph_op *op, const struct iovec *iov,
                  int iov_count);
void ph_ring_shutdown(struct ph_socket *socket);
void ph_ring_close(struct ph_socket *socket, struct ph_op *op);
uint64_t ph_ring_socket_detach(struct ph_socket *socket);
struct ph_socket *ph_ring_socket_adopt(struct ph_io *io, uint64_t token);

// engine/ring_listener
void ph_ring_listener_accepted(struct ph_ring_listener *l, int result, uint32_t cqe_flags);
void ph_ring_listeners_feed(struct ph_ring *r); // those that were starved, when it is time
void ph_ring_listeners_free(struct ph_ring *r); // at the end; all must have been closed

int ph_ring_listen(struct ph_io *io, const struct ph_listen_options *options,
                   struct ph_listener **out_listener, struct ph_endpoint *out_bound);
void ph_ring_accept_start(struct ph_listener *listener, struct ph_op *op);
bool ph_ring_accept_next(struct ph_listener *listener, struct ph_socket **out_socket,
                         struct ph_endpoint *out_peer, struct ph_endpoint *out_local);
void ph_ring_accept_pause(struct ph_listener *listener, bool paused);
void ph_ring_listener_close(struct ph_listener *listener);

// engine/ring_file
void ph_ring_file_transferred(struct ph_op *op, int result);
void ph_ring_file_synced(struct ph_op *op, int result);
void ph_ring_file_read(struct ph_file *file, struct ph_op *op, void *out, size_t len,
                       uint64_t offset);
void ph_ring_file_write(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                        uint64_t offset, bool durable);
void ph_ring_file_sync(struct ph_file *file, struct ph_op *op);
