// Socket calls that the ring and the poll world share. Not of a world: plain descriptors.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/endpoint.h"

union ph_socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

// Returns the length.
socklen_t ph_socket_address_from(union ph_socket_address *out, const struct ph_endpoint *endpoint);
struct ph_endpoint ph_socket_address_endpoint(const union ph_socket_address *address);
// Non-blocking, close-on-exec, without delay; bound to `from` unless that is NULL. A negative errno
// on failure.
int ph_socket_open(const struct ph_endpoint *to, const struct ph_endpoint *from);
// A listening descriptor, and where it listens. What it accepts is without delay, too.
int ph_socket_listen(const struct ph_endpoint *at, int backlog, struct ph_endpoint *out_bound);
void ph_socket_no_delay(int fd);
// For the ring: what is asked of a descriptor that doesn't block fails there instead of waiting.
void ph_socket_block(int fd);
