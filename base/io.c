// The outside as operations that complete: what the three worlds share.
#include "base/io.h"

void ph_io_init(struct ph_io *io, const struct ph_io_vtable *vtable)
{
    *io = (struct ph_io){.vtable = vtable};
    STAILQ_INIT(&io->ready);
}

void ph_op_init(struct ph_op *op, void (*step)(struct ph_op *op), void *owner)
{
    *op = (struct ph_op){.step = step, .owner = owner};
}

static void make_ready(struct ph_io *io, struct ph_op *op, int64_t result)
{
    op->result = result;
    op->state = PH_OP_READY;
    STAILQ_INSERT_TAIL(&io->ready, op, ready_link);
    io->ready_count++;
}

void ph_io_begin(struct ph_io *io, struct ph_op *op)
{
    PH_CHECK(op->state == PH_OP_IDLE && op->step != NULL);
    op->state = PH_OP_PENDING;
    op->io = io;
    op->world_object = NULL;
    op->result = 0;
}

void ph_io_complete(struct ph_io *io, struct ph_op *op, int64_t result)
{
    PH_CHECK(op->state == PH_OP_PENDING);
    make_ready(io, op, result);
}

void ph_io_notify(struct ph_io *io, struct ph_op *op, int64_t result)
{
    if (op->state == PH_OP_READY) {
        op->result = result;
    } else {
        make_ready(io, op, result);
    }
}

void ph_io_retract(struct ph_io *io, struct ph_op *op)
{
    if (op->state == PH_OP_READY) {
        STAILQ_REMOVE(&io->ready, op, ph_op, ready_link);
        io->ready_count--;
    }
    op->state = PH_OP_IDLE;
}

void ph_io_retract_all_of(struct ph_io *io, const void *world_object)
{
    struct ph_op *op = STAILQ_FIRST(&io->ready);

    while (op != NULL) {
        struct ph_op *next = STAILQ_NEXT(op, ready_link);

        if (op->world_object == world_object) {
            ph_io_retract(io, op);
        }
        op = next;
    }
}

size_t ph_io_run_ready(struct ph_io *io)
{
    size_t batch = io->ready_count;
    size_t stepped = 0;

    // A step may retract operations of this batch, so the list may end before the count does.
    while (stepped < batch && !STAILQ_EMPTY(&io->ready)) {
        struct ph_op *op = STAILQ_FIRST(&io->ready);

        STAILQ_REMOVE_HEAD(&io->ready, ready_link);
        io->ready_count--;
        op->state = PH_OP_IDLE;
        stepped++;
        op->step(op);
    }
    return stepped;
}

bool ph_io_has_ready(const struct ph_io *io)
{
    return !STAILQ_EMPTY(&io->ready);
}

int64_t ph_io_finish(struct ph_io *io, struct ph_op *op)
{
    PH_CHECK(op->state != PH_OP_IDLE);
    while (op->state == PH_OP_PENDING) {
        io->vtable->wait(io, PH_NEVER);
    }
    ph_io_retract(io, op);
    return op->result;
}

void ph_io_wait(struct ph_io *io, uint64_t deadline_ns)
{
    io->stats.turns++;
    io->vtable->wait(io, deadline_ns);
}

void ph_io_wake(struct ph_io *io)
{
    io->vtable->wake(io);
}

void ph_io_random(struct ph_io *io, void *out, size_t len)
{
    io->vtable->random(io, out, len);
}

uint64_t ph_io_random_below(struct ph_io *io, uint64_t bound)
{
    uint64_t value;

    PH_CHECK(bound > 0);
    ph_io_random(io, &value, sizeof(value));
    return value % bound;
}

static void submit(struct ph_io *io, struct ph_op *op)
{
    PH_CHECK(op->state == PH_OP_IDLE && op->step != NULL);
    op->state = PH_OP_PENDING;
    op->io = io;
    op->world_object = NULL;
    op->result = 0;
    io->stats.operations++;
}

int ph_io_listen(struct ph_io *io, const struct ph_listen_options *options,
                 struct ph_listener **out_listener, struct ph_endpoint *out_bound)
{
    return io->vtable->listen(io, options, out_listener, out_bound);
}

void ph_io_accept_start(struct ph_listener *listener, struct ph_op *op)
{
    submit(listener->io, op);
    listener->io->vtable->accept_start(listener, op);
}

bool ph_io_accept_next(struct ph_listener *listener, struct ph_socket **out_socket,
                       struct ph_endpoint *out_peer, struct ph_endpoint *out_local)
{
    return listener->io->vtable->accept_next(listener, out_socket, out_peer, out_local);
}

void ph_io_accept_pause(struct ph_listener *listener, bool paused)
{
    listener->io->vtable->accept_pause(listener, paused);
}

void ph_io_listener_close(struct ph_listener *listener)
{
    listener->io->vtable->listener_close(listener);
}

uint64_t ph_io_socket_detach(struct ph_socket *socket)
{
    return socket->io->vtable->socket_detach(socket);
}

struct ph_socket *ph_io_socket_adopt(struct ph_io *io, uint64_t token)
{
    return io->vtable->socket_adopt(io, token);
}

struct ph_socket *ph_io_connect(struct ph_io *io, struct ph_op *op, const struct ph_endpoint *to,
                                const struct ph_endpoint *from)
{
    submit(io, op);
    return io->vtable->connect(io, op, to, from);
}

void ph_io_recv_start(struct ph_socket *socket, struct ph_op *op)
{
    submit(socket->io, op);
    socket->io->vtable->recv_start(socket, op);
}

enum ph_recv_result ph_io_recv_next(struct ph_socket *socket, struct ph_str *out_slice)
{
    return socket->io->vtable->recv_next(socket, out_slice);
}

void ph_io_recv_release(struct ph_socket *socket)
{
    socket->io->vtable->recv_release(socket);
}

void ph_io_recv_pause(struct ph_socket *socket, bool paused)
{
    socket->io->vtable->recv_pause(socket, paused);
}

void ph_io_send(struct ph_socket *socket, struct ph_op *op, const struct iovec *iov, int iov_count)
{
    PH_CHECK(iov_count > 0 && iov_count <= PH_SEND_IOV_MAX);
    submit(socket->io, op);
    socket->io->vtable->send(socket, op, iov, iov_count);
}

void ph_io_shutdown(struct ph_socket *socket)
{
    socket->io->vtable->shutdown(socket);
}

void ph_io_close(struct ph_socket *socket, struct ph_op *op)
{
    submit(socket->io, op);
    socket->io->vtable->close(socket, op);
}

void ph_io_file_open(struct ph_io *io, struct ph_op *op, const char *path, int flags,
                     struct ph_file **out_file)
{
    submit(io, op);
    io->vtable->file_open(io, op, path, flags, out_file);
}

void ph_io_file_close(struct ph_file *file)
{
    if (file != NULL) {
        file->io->vtable->file_close(file);
    }
}

void ph_io_file_allocate(struct ph_file *file, struct ph_op *op, uint64_t size)
{
    submit(file->io, op);
    file->io->vtable->file_allocate(file, op, size);
}

void ph_io_file_read(struct ph_file *file, struct ph_op *op, void *out, size_t len, uint64_t offset)
{
    submit(file->io, op);
    file->io->vtable->file_read(file, op, out, len, offset);
}

void ph_io_file_write(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                      uint64_t offset)
{
    submit(file->io, op);
    file->io->stats.bytes_written += len;
    file->io->vtable->file_write(file, op, data, len, offset, false);
}

void ph_io_file_write_durable(struct ph_file *file, struct ph_op *op, const void *data, size_t len,
                              uint64_t offset)
{
    submit(file->io, op);
    file->io->stats.bytes_written += len;
    file->io->stats.durable_writes++;
    file->io->vtable->file_write(file, op, data, len, offset, true);
}

void ph_io_file_sync(struct ph_file *file, struct ph_op *op)
{
    submit(file->io, op);
    file->io->stats.durable_writes++;
    file->io->vtable->file_sync(file, op);
}

void ph_io_file_size(struct ph_file *file, struct ph_op *op)
{
    submit(file->io, op);
    file->io->vtable->file_size(file, op);
}

void ph_io_directory_sync(struct ph_io *io, struct ph_op *op, const char *path)
{
    submit(io, op);
    io->vtable->directory_sync(io, op, path);
}

void ph_io_file_rename(struct ph_io *io, struct ph_op *op, const char *from, const char *to)
{
    submit(io, op);
    io->vtable->file_rename(io, op, from, to);
}

void ph_io_file_unlink(struct ph_io *io, struct ph_op *op, const char *path)
{
    submit(io, op);
    io->vtable->file_unlink(io, op, path);
}

void ph_io_directory_create(struct ph_io *io, struct ph_op *op, const char *path)
{
    submit(io, op);
    io->vtable->directory_create(io, op, path);
}

void ph_io_directory_list(struct ph_io *io, struct ph_op *op, const char *path,
                          struct ph_buf *out_names)
{
    submit(io, op);
    io->vtable->directory_list(io, op, path, out_names);
}

void ph_io_space_free(struct ph_io *io, struct ph_op *op, const char *path, uint64_t *out_free,
                      uint64_t *out_total)
{
    submit(io, op);
    io->vtable->space_free(io, op, path, out_free, out_total);
}

void ph_io_resolve(struct ph_io *io, struct ph_resolve_op *op)
{
    submit(io, &op->op);
    io->vtable->resolve(io, op);
}

void ph_io_check_password(struct ph_io *io, struct ph_password_op *op)
{
    submit(io, &op->op);
    io->vtable->check_password(io, op);
}

void ph_io_fetch(struct ph_io *io, struct ph_fetch_op *op)
{
    op->status = PH_FETCH_REFUSED;
    op->http_status = 0;
    op->content_type[0] = '\0';
    op->detail[0] = '\0';
    ph_buf_clear(&op->body);
    submit(io, &op->op);
    io->vtable->fetch(io, op);
}

void ph_io_fetch_cancel(struct ph_fetch_op *op)
{
    if (op->op.state == PH_OP_PENDING) {
        op->op.io->vtable->fetch_cancel(op->op.io, op);
    }
}

void ph_io_work(struct ph_io *io, struct ph_work_op *op)
{
    submit(io, &op->op);
    if (io->vtable->work != NULL) {
        io->vtable->work(io, op);
    } else {
        op->run(op);
        ph_io_complete(io, &op->op, 0);
    }
}
