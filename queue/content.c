// Counted references to a message in memory.
#include "queue/content.h"

#include "base/check.h"

void ph_content_init(struct ph_content *content, void (*destroy)(struct ph_content *content))
{
    *content = (struct ph_content){.destroy = destroy};
    atomic_init(&content->references, 1);
}

struct iovec ph_content_beyond_marks(const struct ph_content *content)
{
    struct ph_str rest = PH_STR_NONE;
    struct ph_str line;

    PH_CHECK(content->body_count == 1);
    rest = (struct ph_str){.data = content->body[0].iov_base, .len = content->body[0].iov_len};
    while (ph_str_starts(rest, PH_STR(PH_CONTENT_MARK)) && ph_str_cut_line(&rest, &line)) {
    }
    return (struct iovec){.iov_base = (void *)rest.data, .iov_len = rest.len};
}

void ph_content_retain(struct ph_content *content)
{
    uint32_t before = atomic_fetch_add_explicit(&content->references, 1, memory_order_relaxed);

    PH_CHECK(before > 0);
}

void ph_content_release(struct ph_content *content)
{
    if (content != NULL &&
        atomic_fetch_sub_explicit(&content->references, 1, memory_order_acq_rel) == 1) {
        content->destroy(content);
    }
}
