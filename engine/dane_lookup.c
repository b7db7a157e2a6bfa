// TLSA records of one host, along the names that may have them.
#include "engine/dane_lookup.h"

#include <errno.h>

static void on_cname(struct ph_op *op);
static void on_records(struct ph_op *op);

static void ask(struct ph_dane_lookup *lookup, enum ph_rrtype type, void (*step)(struct ph_op *))
{
    ph_op_init(&lookup->ask.op, step, lookup);
    lookup->ask.rrtype = type;
    ph_buf_clear(&lookup->ask.rdata);
    ph_io_resolve(lookup->io, &lookup->ask);
}

static void finish(struct ph_dane_lookup *lookup)
{
    ph_io_complete(lookup->io, &lookup->op, 0);
}

static void ask_next_base(struct ph_dane_lookup *lookup)
{
    while (lookup->base_next < lookup->plan.base_count) {
        if (ph_tlsa_name(lookup->plan.bases[lookup->base_next++], lookup->port, lookup->ask.name)) {
            ask(lookup, PH_RRTYPE_TLSA, on_records);
            return;
        }
    }
    lookup->tlsa.status = PH_TLSA_NONE;
    finish(lookup);
}

void ph_dane_lookup_start(struct ph_dane_lookup *lookup, struct ph_io *io, const char *host,
                          uint16_t port, const struct ph_resolve_op *aaaa,
                          const struct ph_resolve_op *a)
{
    lookup->io = io;
    lookup->port = port;
    lookup->base_next = 0;
    ph_io_begin(io, &lookup->op);
    ph_tlsa_plan(host, aaaa, a, &lookup->plan);
    if (lookup->plan.ask_cname) {
        ph_str_copy(lookup->ask.name, sizeof(lookup->ask.name), ph_str_from(host));
        ask(lookup, PH_RRTYPE_CNAME, on_cname);
    } else {
        ask_next_base(lookup);
    }
}

void ph_dane_lookup_deinit(struct ph_dane_lookup *lookup)
{
    ph_tlsa_deinit(&lookup->tlsa);
    ph_buf_deinit(&lookup->ask.rdata);
}

static void too_many(struct ph_dane_lookup *lookup)
{
    lookup->tlsa.status = PH_TLSA_FAILED;
    lookup->reason = ph_reason_make(PH_REASON_DNS_FAILURE,
                                    "the TLSA records of %s could not be looked up now: too many "
                                    "questions are under way",
                                    lookup->ask.name);
    finish(lookup);
}

static void on_cname(struct ph_op *op)
{
    struct ph_dane_lookup *lookup = op->owner;

    if (op->result < 0) {
        too_many(lookup);
    } else {
        ph_tlsa_plan_cname(&lookup->ask, &lookup->plan);
        ask_next_base(lookup);
    }
}

static void on_records(struct ph_op *op)
{
    struct ph_dane_lookup *lookup = op->owner;

    if (op->result < 0) {
        too_many(lookup);
        return;
    }
    ph_tlsa_deinit(&lookup->tlsa);
    ph_tlsa_read(&lookup->ask, lookup->plan.bases[lookup->base_next - 1], &lookup->tlsa,
                 &lookup->reason);
    if (lookup->tlsa.status == PH_TLSA_NONE) {
        ask_next_base(lookup);
    } else {
        finish(lookup);
    }
}
