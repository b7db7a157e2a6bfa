// Small things that commands need of the machine.
#include "cli/tools.h"

#include <ftw.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/socket_parts.h"

FILE *ph_cli_open_tcp(const char *address, uint16_t port)
{
    union ph_socket_address to;
    struct ph_endpoint endpoint;
    socklen_t len;
    FILE *stream = NULL;
    int fd;

    if (!ph_endpoint_parse_address(ph_str_from(address), &endpoint)) {
        return NULL;
    }
    endpoint.port = port;
    len = ph_socket_address_from(&to, &endpoint);
    fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, &to.any, len) == 0) {
        stream = fdopen(fd, "r+");
    }
    if (stream == NULL && fd >= 0) {
        close(fd);
    }
    return stream;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    (void)!remove(path);
    return 0;
}

void ph_cli_remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
