// The outside as operations that complete: sockets, files, timers, clock, randomness, lookups.
//
// One `struct ph_io` belongs to one worker and is used on its thread alone (ph_io_wake excepted).
// Three worlds implement it: engine/ring (io_uring), engine/poll (epoll and a thread pool) and
// tests/sim (everything virtual). The promises below hold in each of them.
//
//   * An operation is a `struct ph_op` embedded in the object that waits for it. Submitting sets
//     it pending; completing stores `result` and puts it on the ready list. Nothing is stepped
//     inside a submission or a completion: ph_io_run_ready steps what is ready, in a batch.
//   * `result` is 0 or a count when it went well, else a negative errno.
//   * Bytes given to an operation are borrowed until its step runs (or its socket's close is done).
//   * An operation must stay where it is in memory until it was stepped; to abandon a socket's
//     operations, close the socket and wait for the close.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/endpoint.h"
#include "base/str.h"

#define PH_SEND_IOV_MAX 64             // slices in one send; ours
#define PH_DNS_NAME_BYTES_MAX 256      // with NUL; RFC 1035 §2.3.4
#define PH_NS_PER_MS UINT64_C(1000000) // time is in ns where a clock is read, in ms elsewhere
#define PH_NEVER UINT64_MAX            // a deadline that doesn't come

struct ph_io;

// Handles. A world embeds them as the first member of its own.
struct ph_socket {
    struct ph_io *io;
};
struct ph_listener {
    struct ph_io *io;
};
struct ph_file {
    struct ph_io *io;
};

enum ph_op_state {
    PH_OP_IDLE,
    PH_OP_PENDING,
    PH_OP_READY,
};

struct ph_op {
    void (*step)(struct ph_op *op); // set once by the owner, before the first submission
    void *owner;                    // for step
    int64_t result;
    enum ph_op_state state;
    STAILQ_ENTRY(ph_op) ready_link;
    // The world's own, while the operation is pending.
    struct ph_io *io;
    void *world_object;
    uint64_t world_data[4];
};

STAILQ_HEAD(ph_op_list, ph_op);

enum ph_recv_result {
    PH_RECV_DATA,  // `out_slice` holds bytes; release before asking again
    PH_RECV_NONE,  // nothing now; the receive operation will be stepped when there is
    PH_RECV_EOF,   // the peer closed its direction
    PH_RECV_ERROR, // `op->result` of the receive operation has the errno
};

// One DNS question and its answer. The answer is what a validating resolver vouches for.
enum ph_resolve_status {
    PH_RESOLVE_TIMEOUT,  // no answer in time
    PH_RESOLVE_SERVFAIL, // an answer, but none that can be used
    PH_RESOLVE_BOGUS,    // DNSSEC says it is forged
    PH_RESOLVE_NXDOMAIN, // the name doesn't exist
    PH_RESOLVE_NODATA,   // the name exists, without records of this type
    PH_RESOLVE_OK,
};

enum ph_rrtype {
    PH_RRTYPE_A = 1,
    PH_RRTYPE_CNAME = 5,
    PH_RRTYPE_MX = 15,
    PH_RRTYPE_TXT = 16,
    PH_RRTYPE_AAAA = 28,
    PH_RRTYPE_TLSA = 52,
};

struct ph_resolve_op {
    struct ph_op op; // result: 0 whenever `status` tells the outcome, -ENOBUFS when too many wait
    char name[PH_DNS_NAME_BYTES_MAX]; // asked: A-labels, without the trailing dot
    enum ph_rrtype rrtype;
    enum ph_resolve_status status;
    bool secure;    // validated by DNSSEC, each step of a CNAME chain too
    uint32_t ttl_s; // of the answer, also of a negative one
    char canonical_name[PH_DNS_NAME_BYTES_MAX]; // after CNAMEs; empty where there were none
    struct ph_buf rdata; // owned by the asker: {u16 big-endian length, rdata}…
    char detail[128];    // for people: why it failed
};

// A password against one crypt(3) hash. The result is 1 (right), 0 (wrong) or a negative errno.
struct ph_password_op {
    struct ph_op op;
    char password[256]; // NUL-terminated; the world wipes it
    char hash[256];     // crypt(3) form; NUL-terminated
};

// One HTTP exchange: published policies, revocation lists, reports. A world must
//   * speak http and https only, https by TLS 1.2 or later with the peer's certificate verified for
//     the URL's host, and use no proxy, cookie, stored credential or content decoding;
//   * look the host up by its own `resolve` and connect to nothing but what that answered, each
//     address judged: ph_endpoint_is_special ones are refused unless `allowed` has them;
//   * follow no redirect but `redirects_max`, each judged like the first URL, never from https to
//     http;
//   * end at `bytes_max` and `timeout_ms`, and let equal GETs that are under way share one
//   exchange.
#define PH_FETCH_URL_BYTES_MAX 2048 // ours
#define PH_FETCH_DETAIL_MAX 256     // bytes with NUL; a host of 100 and a sentence

enum ph_fetch_status {
    PH_FETCH_REFUSED,     // a URL or a target that may not be fetched
    PH_FETCH_DNS,         // its host has no address, or no answer came
    PH_FETCH_UNREACHABLE, // no connection, or it broke
    PH_FETCH_TLS,         // no handshake, or a certificate that doesn't pass
    PH_FETCH_TIMEOUT,
    PH_FETCH_TOO_LARGE,
    PH_FETCH_ANSWERED, // any HTTP status: see `http_status`
};

struct ph_fetch_op {
    struct ph_op op;       // result: 0 whenever `status` tells the outcome, -ENOBUFS when too many
                           // wait, -ECANCELED after ph_io_fetch_cancel
    const char *url;       // borrowed, as all below until the step
    struct ph_str post;    // the body of a POST; empty: GET
    const char *post_type; // its content type
    const char *anchors_file;      // PEM of who is trusted for https; NULL: the system's
    const struct ph_cidr *allowed; // Resolver.AllowedDestinations
    size_t allowed_count;
    uint16_t https_port; // of URLs that name none; 0: 443. Another one is for laboratories
    bool https_only;
    unsigned redirects_max;
    size_t bytes_max;
    uint64_t timeout_ms; // of the whole, lookups and redirects included
    // The answer.
    enum ph_fetch_status status;
    unsigned http_status; // the last response's, 200 …; 0: none came
    char content_type[128];
    struct ph_buf body;               // owned by the asker
    char detail[PH_FETCH_DETAIL_MAX]; // for people: why it failed
};

// A computation off the worker: `run` may touch what its owner lends it until the step, nothing
// else. A world without other threads runs it at once.
struct ph_work_op {
    struct ph_op op; // result: 0
    void (*run)(struct ph_work_op *work);
};

struct ph_listen_options {
    struct ph_endpoint at; // port 0 takes any
    int backlog;
};

enum ph_file_flags {
    PH_FILE_READ = 1,
    PH_FILE_WRITE = 2,
    PH_FILE_CREATE = 4,    // fails when the file exists
    PH_FILE_DIRECT = 8,    // durable writes go around the page cache where that is possible
    PH_FILE_LOCK = 16,     // flock exclusively; -EWOULDBLOCK when another process has it
    PH_FILE_CREATE_OK = 32 // create, or open what exists
};

struct ph_io_stats {
    uint64_t turns;          // waits
    uint64_t operations;     // submitted
    uint64_t durable_writes; // durable writes and syncs submitted
    uint64_t bytes_written;  // to files
};

struct ph_io_vtable {
    const char *name; // "ring", "poll" or "sim"

    // Submits what was queued, then waits until an operation is ready, ph_io_wake was called or
    // the deadline (of now_ns) has passed. Refreshes now_ns and wall_ms.
    void (*wait)(struct ph_io *io, uint64_t deadline_ns);
    void (*wake)(struct ph_io *io); // from any thread
    void (*random)(struct ph_io *io, void *out, size_t len);

    int (*listen)(struct ph_io *io, const struct ph_listen_options *options,
                  struct ph_listener **out_listener, struct ph_endpoint *out_bound);
    void (*accept_start)(struct ph_listener *listener, struct ph_op *op);
    bool (*accept_next)(struct ph_listener *listener, struct ph_socket **out_socket,
                        struct ph_endpoint *out_peer, struct ph_endpoint *out_local);
    void (*accept_pause)(struct ph_listener *listener, bool paused);
    void (*listener_close)(struct ph_listener *listener);
    uint64_t (*socket_detach)(struct ph_socket *socket);
    struct ph_socket *(*socket_adopt)(struct ph_io *io, uint64_t token);

    struct ph_socket *(*connect)(struct ph_io *io, struct ph_op *op, const struct ph_endpoint *to,
                                 const struct ph_endpoint *from);
    void (*recv_start)(struct ph_socket *socket, struct ph_op *op);
    enum ph_recv_result (*recv_next)(struct ph_socket *socket, struct ph_str *out_slice);
    void (*recv_release)(struct ph_socket *socket);
    void (*recv_pause)(struct ph_socket *socket, bool paused);
    void (*send)(struct ph_socket *socket, struct ph_op *op, const struct iovec *iov,
                 int iov_count);
    void (*shutdown)(struct ph_socket *socket);
    void (*close)(struct ph_socket *socket, struct ph_op *op);

    void (*file_open)(struct ph_io *io, struct ph_op *op, const char *path, int flags,
                      struct ph_file **out_file);
    void (*file_close)(struct ph_file *file);
    void (*file_allocate)(struct ph_file *file, struct ph_op *op, uint64_t size);
    void (*file_read)(struct ph_file *file, struct ph_op *op, void *out, size_t len,
                      uint64_t offset);
    void (*file_write)(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                       uint64_t offset, bool durable);
    void (*file_sync)(struct ph_file *file, struct ph_op *op);
    void (*file_size)(struct ph_file *file, struct ph_op *op);
    void (*directory_sync)(struct ph_io *io, struct ph_op *op, const char *path);
    void (*file_rename)(struct ph_io *io, struct ph_op *op, const char *from, const char *to);
    void (*file_unlink)(struct ph_io *io, struct ph_op *op, const char *path);
    void (*directory_create)(struct ph_io *io, struct ph_op *op, const char *path);
    void (*directory_list)(struct ph_io *io, struct ph_op *op, const char *path,
                           struct ph_buf *out_names);
    void (*space_free)(struct ph_io *io, struct ph_op *op, const char *path, uint64_t *out_free,
                       uint64_t *out_total);

    void (*resolve)(struct ph_io *io, struct ph_resolve_op *op);
    void (*check_password)(struct ph_io *io, struct ph_password_op *op);
    void (*fetch)(struct ph_io *io, struct ph_fetch_op *op);
    void (*fetch_cancel)(struct ph_io *io, struct ph_fetch_op *op);
    void (*work)(struct ph_io *io, struct ph_work_op *op); // NULL: has no other threads

    void (*destroy)(struct ph_io *io); // nothing may be pending
};

struct ph_io {
    const struct ph_io_vtable *vtable;
    uint64_t now_ns;  // monotonic; read once per wait
    uint64_t wall_ms; // since 1970, UTC; read once per wait
    struct ph_op_list ready;
    size_t ready_count;
    struct ph_io_stats stats;
};

// For worlds: fills what they share.
void ph_io_init(struct ph_io *io, const struct ph_io_vtable *vtable);
// For who completes operations of its own (queue/spool): pending from now on.
void ph_io_begin(struct ph_io *io, struct ph_op *op);
// For worlds: the operation is done; it will be stepped by the next ph_io_run_ready.
void ph_io_complete(struct ph_io *io, struct ph_op *op, int64_t result);
// For worlds: a stream operation (receive, accept) has something for its owner. Once it was stepped
// it may be notified again; while it is ready only its result is replaced.
void ph_io_notify(struct ph_io *io, struct ph_op *op, int64_t result);
// For worlds: takes an operation back that must not be stepped (its socket is being closed).
void ph_io_retract(struct ph_io *io, struct ph_op *op);
// For worlds: all that are ready and were submitted for this object, which is being closed.
void ph_io_retract_all_of(struct ph_io *io, const void *world_object);

// The owner's side of an operation.
void ph_op_init(struct ph_op *op, void (*step)(struct ph_op *op), void *owner);

// Steps each operation that is ready now, in the order of completion; those that become ready
// meanwhile wait for the next call. Returns how many were stepped.
size_t ph_io_run_ready(struct ph_io *io);
bool ph_io_has_ready(const struct ph_io *io);

// Waits for this one operation without stepping it or any other; returns its result. For start-up,
// shutdown and tools, never in a worker's turn.
int64_t ph_io_finish(struct ph_io *io, struct ph_op *op);

void ph_io_wait(struct ph_io *io, uint64_t deadline_ns);
void ph_io_wake(struct ph_io *io); // the only call allowed from another thread
void ph_io_random(struct ph_io *io, void *out, size_t len);
uint64_t ph_io_random_below(struct ph_io *io, uint64_t bound); // 0 .. bound-1; bound > 0

// Listening, at start-up: 0 or a negative errno at once. `out_bound` has the port taken.
int ph_io_listen(struct ph_io *io, const struct ph_listen_options *options,
                 struct ph_listener **out_listener, struct ph_endpoint *out_bound);
// `op` is stepped each time connections wait; fetch them all with ph_io_accept_next. It is armed
// again by itself. A failure such as EMFILE is its result, and accepting goes on when it can.
void ph_io_accept_start(struct ph_listener *listener, struct ph_op *op);
PH_MUST_CHECK bool ph_io_accept_next(struct ph_listener *listener, struct ph_socket **out_socket,
                                     struct ph_endpoint *out_peer, struct ph_endpoint *out_local);
void ph_io_accept_pause(struct ph_listener *listener, bool paused);
void ph_io_listener_close(struct ph_listener *listener); // its operation isn't stepped any more
// A socket on which nothing was started moves to another worker: detach here, adopt there.
uint64_t ph_io_socket_detach(struct ph_socket *socket);
struct ph_socket *ph_io_socket_adopt(struct ph_io *io, uint64_t token);

// Begins to connect; the result is 0 or a negative errno, and the socket is to be closed in either
// case. `from` NULL: any source address. There is no timeout: close the socket when yours ends.
struct ph_socket *ph_io_connect(struct ph_io *io, struct ph_op *op, const struct ph_endpoint *to,
                                const struct ph_endpoint *from);
// `op` is stepped whenever bytes, the end or an error have arrived; then call recv_next until it
// returns NONE, EOF or ERROR. Bytes not fetched now may be fetched later: the stream is kept, and
// the operation is stepped again when more arrives.
void ph_io_recv_start(struct ph_socket *socket, struct ph_op *op);
PH_MUST_CHECK enum ph_recv_result ph_io_recv_next(struct ph_socket *socket,
                                                  struct ph_str *out_slice);
void ph_io_recv_release(struct ph_socket *socket);
// While paused few or no bytes are read from the kernel; some that are on their way may still come.
void ph_io_recv_pause(struct ph_socket *socket, bool paused);
// One send at a time per socket. Completes when everything was handed to the kernel (result: the
// count) or with a negative errno, and then op->world_data[0] is the number of bytes that went.
// The iovec array is copied, the bytes are borrowed. At most PH_SEND_IOV_MAX slices.
void ph_io_send(struct ph_socket *socket, struct ph_op *op, const struct iovec *iov, int iov_count);
void ph_io_shutdown(struct ph_socket *socket); // no more will be sent
// Cancels, drains, closes. From this call on no other operation of the socket is stepped; when
// `op` is stepped (always, result 0) the handle is gone and borrowed bytes are free again.
void ph_io_close(struct ph_socket *socket, struct ph_op *op);

// Files. `*out_file` is set when the open has completed with 0.
void ph_io_file_open(struct ph_io *io, struct ph_op *op, const char *path, int flags,
                     struct ph_file **out_file);
void ph_io_file_close(struct ph_file *file); // nothing may be pending on it
// Makes the file `size` bytes long, blocks reserved and written once with zeros, and durable.
void ph_io_file_allocate(struct ph_file *file, struct ph_op *op, uint64_t size);
// Result: bytes read, less than `len` only at the end of the file.
void ph_io_file_read(struct ph_file *file, struct ph_op *op, void *out, size_t len,
                     uint64_t offset);
// Result: `len`, or a negative errno (a short write is continued below, or fails).
void ph_io_file_write(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                      uint64_t offset);
// As above, and the bytes are on stable storage when it completes. With PH_FILE_DIRECT the
// address, the length and the offset are multiples of PH_DURABLE_BLOCK_BYTES.
#define PH_DURABLE_BLOCK_BYTES 4096
void ph_io_file_write_durable(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                              uint64_t offset);
void ph_io_file_sync(struct ph_file *file, struct ph_op *op); // fdatasync
void ph_io_file_size(struct ph_file *file, struct ph_op *op); // result: bytes
void ph_io_directory_sync(struct ph_io *io, struct ph_op *op, const char *path);
void ph_io_file_rename(struct ph_io *io, struct ph_op *op, const char *from, const char *to);
void ph_io_file_unlink(struct ph_io *io, struct ph_op *op, const char *path);
void ph_io_directory_create(struct ph_io *io, struct ph_op *op, const char *path);
// Names of the entries, sorted, each ended by NUL, appended to `out_names`.
void ph_io_directory_list(struct ph_io *io, struct ph_op *op, const char *path,
                          struct ph_buf *out_names);
void ph_io_space_free(struct ph_io *io, struct ph_op *op, const char *path, uint64_t *out_free,
                      uint64_t *out_total);

// Fill `name` and `rrtype`, ph_op_init the op; the rest is the answer. Cached by the world.
void ph_io_resolve(struct ph_io *io, struct ph_resolve_op *op);
void ph_io_check_password(struct ph_io *io, struct ph_password_op *op);
// Fill what is asked, ph_op_init the op; the rest is the answer.
void ph_io_fetch(struct ph_io *io, struct ph_fetch_op *op);
// It ends soon, with -ECANCELED unless it was about to end anyway. Only while it is pending.
void ph_io_fetch_cancel(struct ph_fetch_op *op);
void ph_io_work(struct ph_io *io, struct ph_work_op *op);
