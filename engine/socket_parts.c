// Socket calls that two worlds share.
#include "engine/socket_parts.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

socklen_t ph_socket_address_from(union ph_socket_address *out, const struct ph_endpoint *endpoint)
{
    memset(out, 0, sizeof(*out));
    if (endpoint->family == PH_FAMILY_IPV6) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(endpoint->port);
        memcpy(&out->v6.sin6_addr, endpoint->bytes, 16);
        return sizeof(out->v6);
    }
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons(endpoint->port);
    memcpy(&out->v4.sin_addr, endpoint->bytes, 4);
    return sizeof(out->v4);
}

struct ph_endpoint ph_socket_address_endpoint(const union ph_socket_address *address)
{
    struct ph_endpoint endpoint = {0};

    if (address->any.sa_family == AF_INET6) {
        endpoint.family = PH_FAMILY_IPV6;
        endpoint.port = ntohs(address->v6.sin6_port);
        memcpy(endpoint.bytes, &address->v6.sin6_addr, 16);
    } else if (address->any.sa_family == AF_INET) {
        endpoint.family = PH_FAMILY_IPV4;
        endpoint.port = ntohs(address->v4.sin_port);
        memcpy(endpoint.bytes, &address->v4.sin_addr, 4);
    }
    return endpoint;
}

void ph_socket_no_delay(int fd)
{
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void ph_socket_block(int fd)
{
    int off = 0;

    (void)!ioctl(fd, FIONBIO, &off);
}

static int open_for(enum ph_family family)
{
    int fd = socket(family == PH_FAMILY_IPV6 ? AF_INET6 : AF_INET,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

int ph_socket_open(const struct ph_endpoint *to, const struct ph_endpoint *from)
{
    union ph_socket_address address;
    int fd = open_for(to->family);

    if (fd >= 0) {
        ph_socket_no_delay(fd);
    }
    if (fd >= 0 && from != NULL) {
        socklen_t len = ph_socket_address_from(&address, from);

        if (bind(fd, &address.any, len) != 0) {
            int error = errno;

            close(fd);
            fd = -error;
        }
    }
    return fd;
}

int ph_socket_listen(const struct ph_endpoint *at, int backlog, struct ph_endpoint *out_bound)
{
    union ph_socket_address address;
    socklen_t len = ph_socket_address_from(&address, at);
    int on = 1;
    int fd = open_for(at->family);
    bool good;

    if (fd < 0) {
        return fd;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    ph_socket_no_delay(fd); // what is accepted inherits it
    good = at->family != PH_FAMILY_IPV6 ||
           setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0;
    good = good && bind(fd, &address.any, len) == 0 && listen(fd, backlog) == 0;
    len = sizeof(address);
    good = good && getsockname(fd, &address.any, &len) == 0;
    if (!good) {
        int error = errno;

        close(fd);
        return -error;
    }
    *out_bound = ph_socket_address_endpoint(&address);
    return fd;
}
