// A network of connections between the engine and those who talk with it.
#pragma once

#include "base/endpoint.h"
#include "base/io.h"

struct sim;
struct sim_network;
struct sim_conn;

// The other end's side. Bytes are its own for the call.
struct sim_far_end {
    void (*connected)(void *owner); // by a client's connect only
    void (*received)(void *owner, struct ph_str bytes);
    void (*ended)(void *owner, bool reset); // nothing more comes; once
    // What the engine gave to the connection and never arrives: nobody in this world sees it. May
    // be NULL; may come behind `ended`.
    void (*unseen)(void *owner, struct ph_str bytes);
    void *owner;
};

struct sim_network *sim_network_create(struct sim *sim);
// The process is gone: its listeners with it, its connections are closed or reset. With the power
// they may just fall silent.
void sim_network_end_process(struct sim_network *network, bool power);

// For the far ends. A client connects to the engine; NULL: refused (nobody listens).
struct sim_conn *sim_conn_open(struct sim_network *network, const struct sim_far_end *end,
                               const struct ph_endpoint *from);
// Returns how many bytes the engine must have read, since the beginning, to know all of them;
// UINT64_MAX: it never will.
uint64_t sim_conn_send(struct sim_conn *conn, struct ph_str bytes);
uint64_t sim_conn_read(const struct sim_conn *conn); // so many it has
void sim_conn_finish(struct sim_conn *conn);         // no more is sent; what comes is still taken
void sim_conn_reset(struct sim_conn *conn);          // at once, both ways; `ended` isn't called
unsigned sim_conn_number(const struct sim_conn *conn);
// By the peers, when the engine connects: whose connection this is.
void sim_conn_accept(struct sim_conn *conn, const struct sim_far_end *end);

// Of struct ph_io_vtable.
int sim_net_listen(struct ph_io *io, const struct ph_listen_options *options,
                   struct ph_listener **out_listener, struct ph_endpoint *out_bound);
void sim_net_accept_start(struct ph_listener *listener, struct ph_op *op);
bool sim_net_accept_next(struct ph_listener *listener, struct ph_socket **out_socket,
                         struct ph_endpoint *out_peer, struct ph_endpoint *out_local);
void sim_net_accept_pause(struct ph_listener *listener, bool paused);
void sim_net_listener_close(struct ph_listener *listener);
uint64_t sim_net_socket_detach(struct ph_socket *socket);
struct ph_socket *sim_net_socket_adopt(struct ph_io *io, uint64_t token);
struct ph_socket *sim_net_connect(struct ph_io *io, struct ph_op *op, const struct ph_endpoint *to,
                                  const struct ph_endpoint *from);
void sim_net_recv_start(struct ph_socket *socket, struct ph_op *op);
enum ph_recv_result sim_net_recv_next(struct ph_socket *socket, struct ph_str *out_slice);
void sim_net_recv_release(struct ph_socket *socket);
void sim_net_recv_pause(struct ph_socket *socket, bool paused);
void sim_net_send(struct ph_socket *socket, struct ph_op *op, const struct iovec *iov,
                  int iov_count);
void sim_net_shutdown(struct ph_socket *socket);
void sim_net_close(struct ph_socket *socket, struct ph_op *op);
