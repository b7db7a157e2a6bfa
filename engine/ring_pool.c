// Buffers for what is received: the kernel takes one when bytes have come, not when it is asked.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/ring_parts.h"

static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    return memory != MAP_FAILED ? memory : NULL;
}

static void give(struct ph_ring_pool *pool, unsigned id)
{
    io_uring_buf_ring_add(pool->ring, pool->memory + (size_t)id * pool->bytes, pool->bytes,
                          (uint16_t)id, io_uring_buf_ring_mask(pool->count), 0);
    io_uring_buf_ring_advance(pool->ring, 1);
    pool->free++;
}

int ph_ring_pool_init(struct ph_ring_pool *pool, struct io_uring *uring, unsigned count,
                      unsigned bytes)
{
    struct io_uring_buf_reg registration = {.ring_entries = count, .bgid = PH_RING_BUFFER_GROUP};
    int result;

    PH_CHECK(count > 0 && count <= 32768 && (count & (count - 1)) == 0);
    *pool = (struct ph_ring_pool){.count = count, .bytes = bytes};
    pool->ring_bytes = count * sizeof(struct io_uring_buf);
    pool->ring = map(pool->ring_bytes);
    pool->memory = map((size_t)count * bytes);
    if (pool->ring == NULL || pool->memory == NULL) {
        return -ENOMEM;
    }
    registration.ring_addr = (uint64_t)(uintptr_t)pool->ring;
    result = io_uring_register_buf_ring(uring, &registration, 0);
    if (result < 0) {
        return result;
    }
    pool->chunks = ph_alloc(count * sizeof(*pool->chunks));
    io_uring_buf_ring_init(pool->ring);
    for (unsigned id = 0; id < count; id++) {
        give(pool, id);
    }
    return 0;
}

void ph_ring_pool_deinit(struct ph_ring_pool *pool)
{
    if (pool->ring != NULL) {
        munmap(pool->ring, pool->ring_bytes);
    }
    if (pool->memory != NULL) {
        munmap(pool->memory, (size_t)pool->count * pool->bytes);
    }
    free(pool->chunks);
}

struct ph_ring_chunk *ph_ring_pool_take(struct ph_ring_pool *pool, uint32_t cqe_flags, size_t len)
{
    unsigned id = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    struct ph_ring_chunk *chunk;

    PH_CHECK(id < pool->count && len <= pool->bytes && pool->free > 0);
    chunk = &pool->chunks[id];
    chunk->data = pool->memory + (size_t)id * pool->bytes;
    chunk->len = len;
    pool->free--;
    return chunk;
}

static bool is_of_pool(const struct ph_ring_pool *pool, const struct ph_ring_chunk *chunk)
{
    return chunk >= pool->chunks && chunk < pool->chunks + pool->count;
}

void ph_ring_chunk_release(struct ph_ring_pool *pool, struct ph_ring_chunk *chunk)
{
    if (is_of_pool(pool, chunk)) {
        give(pool, (unsigned)(chunk - pool->chunks));
    } else {
        free(chunk);
    }
}

struct ph_ring_chunk *ph_ring_chunk_copy_out(struct ph_ring_pool *pool, struct ph_ring_chunk *chunk)
{
    struct ph_ring_chunk *copy = chunk;

    if (is_of_pool(pool, chunk)) {
        copy = ph_alloc(sizeof(*copy) + chunk->len);
        copy->data = (char *)(copy + 1);
        copy->len = chunk->len;
        memcpy(copy->data, chunk->data, chunk->len);
        ph_ring_chunk_release(pool, chunk);
    }
    return copy;
}
