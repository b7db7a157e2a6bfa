// Counted references to a message in memory.
#include "queue/content.h"

#include "base/check.h"

void ph_content_init(struct ph_content *content, void (*destroy)(struct ph_content *content))
{
    *content = (struct ph_content){.destroy = destroy};
    atomic_init(&content->references, 1);
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
