// What the daemon gives up before it talks to anybody: its user's rights, and the system calls that
// a mail engine never needs.
#pragma once

#include <stdbool.h>

#include "base/buf.h"

// From root to `user` with its groups; of all capabilities only that to bind low ports is kept. An
// empty name, or one that is already ours: nothing changes. While the process has one thread.
// False, with a sentence.
PH_MUST_CHECK bool ph_confine_become(struct ph_str user, struct ph_buf *error);
// From here on this process and all its threads can start no other program or process, trace none,
// mount nothing and load nothing into the kernel: trying ends it. False, with a sentence, where the
// kernel can't do that.
PH_MUST_CHECK bool ph_confine_calls(struct ph_buf *error);
