// When the next commit group begins.
#include "queue/group_pace.h"

#include "base/io.h"

// As long as two writes take, which is what a message waits that just missed a group; and no longer
// than a client notices. Ours.
#define PATIENCE_WRITES 2
#define PATIENCE_NS_MAX (2 * PH_NS_PER_MS)

void ph_group_pace_began(struct ph_group_pace *pace, uint64_t now_ns)
{
    pace->began_ns = now_ns;
}

void ph_group_pace_over(struct ph_group_pace *pace, uint64_t now_ns, uint32_t messages,
                        uint32_t gathered)
{
    pace->over_ns = now_ns;
    pace->took_ns = now_ns > pace->began_ns ? now_ns - pace->began_ns : 0;
    pace->expected = messages + gathered;
}

uint64_t ph_group_pace_until(const struct ph_group_pace *pace, uint32_t messages)
{
    uint64_t patience_ns = pace->took_ns < PATIENCE_NS_MAX / PATIENCE_WRITES
                               ? pace->took_ns * PATIENCE_WRITES
                               : PATIENCE_NS_MAX;

    // Records of state alone are nobody's who would send more.
    return messages > 0 && messages < pace->expected ? pace->over_ns + patience_ns : 0;
}
