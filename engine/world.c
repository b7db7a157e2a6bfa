// Which of the real worlds a process runs in.
#include "engine/world.h"

#include <errno.h>
#include <string.h>

#include "engine/poll.h"
#include "engine/ring.h"

static int create_one(const struct ph_world_options *options, bool ring, struct ph_io **out)
{
    if (ring) {
        return ph_ring_create(&(struct ph_ring_options){.threads = options->threads}, out);
    }
    return ph_poll_create(&(struct ph_poll_options){.offload = options->threads.offload,
                                                    .resolver = options->threads.resolver,
                                                    .fetch = options->threads.fetch},
                          out);
}

static int create_all(const struct ph_world_options *options, bool ring, struct ph_io **out,
                      size_t count, struct ph_buf *why)
{
    size_t made = 0;
    int result = 0;

    while (result == 0 && made < count) {
        result = create_one(options, ring, &out[made]);
        made += result == 0;
    }
    if (result < 0) {
        ph_buf_printf(why, "%sthe %s of worker %zu can't be made: %s", why->len > 0 ? "; " : "",
                      ring ? "ring" : "epoll", made, strerror(-result));
        while (made > 0) {
            made--;
            out[made]->vtable->destroy(out[made]);
            out[made] = NULL;
        }
    }
    return result;
}

int ph_world_create(const struct ph_world_options *options, struct ph_io **out, size_t count,
                    struct ph_buf *why)
{
    int result = -ENOSYS;

    if (options->wanted != PH_IO_POLL && ph_ring_works(why)) {
        result = create_all(options, true, out, count, why);
    }
    if (result < 0 && options->wanted != PH_IO_RING) {
        result = create_all(options, false, out, count, why);
    }
    return result;
}
