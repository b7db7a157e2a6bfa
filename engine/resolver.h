// DNS off the workers: lines of LocalData first, then a validating resolver (libunbound) on a
// thread of its own. Shared by all workers.
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/io.h"
#include "engine/offload.h"

struct ph_resolver;

struct ph_resolver_options {
    const struct ph_str *forwarders; // "192.0.2.53" or "192.0.2.53@5353"; none: from the root
    size_t forwarder_count;
    const struct ph_str *local_data; // zone-file lines
    size_t local_data_count;
    struct ph_str trust_anchor; // file; empty: Debian's for the root, without forwarders
};

// NULL, with a sentence in `error`. The strings are copied.
struct ph_resolver *ph_resolver_create(const struct ph_resolver_options *options,
                                       struct ph_buf *error);
// From any thread: what it goes by from now on; questions under way are asked anew where their
// servers are others. False, with a sentence, and nothing changed.
PH_MUST_CHECK bool ph_resolver_renew(struct ph_resolver *resolver,
                                     const struct ph_resolver_options *options,
                                     struct ph_buf *error);
void ph_resolver_destroy(struct ph_resolver *resolver); // nothing under way; NULL accepted
// From any thread: the process is about to end, so nothing is waited for much longer.
void ph_resolver_hurry(struct ph_resolver *resolver);
// From the world of `sink`: answers at once or by the sink. A NULL resolver answers SERVFAIL.
void ph_resolver_submit(struct ph_resolver *resolver, struct ph_offload_sink *sink,
                        struct ph_resolve_op *op);
