// Which waiting recipients an administrator means.
#include "engine/queue_query.h"

#include "base/hash.h"
#include "config/value.h"
#include "engine/worker.h"

static bool read_state(struct ph_str text, struct ph_queue_query *out)
{
    static const char *const names[] = {[PH_QUERY_READY] = "ready",
                                        [PH_QUERY_DEFERRED] = "deferred",
                                        [PH_QUERY_SUSPENDED] = "suspended"};

    for (size_t i = PH_QUERY_READY; i < PH_ARRAY_LEN(names); i++) {
        if (ph_str_eq_nocase(text, ph_str_from(names[i]))) {
            out->state = (enum ph_queue_query_state)i;
            return true;
        }
    }
    return false;
}

static bool read_pair(struct ph_str key, struct ph_str value, struct ph_queue_query *out)
{
    bool good = value.len > 0;

    if (ph_str_eq_nocase(key, PH_STR("domain"))) {
        out->domain = value;
    } else if (ph_str_eq_nocase(key, PH_STR("connector"))) {
        out->connector = value;
    } else if (ph_str_eq_nocase(key, PH_STR("sender"))) {
        out->sender = value;
    } else if (ph_str_eq_nocase(key, PH_STR("reason"))) {
        good = ph_reason_kind_from_token(value, &out->reason);
    } else if (ph_str_eq_nocase(key, PH_STR("state"))) {
        good = read_state(value, out);
    } else if (ph_str_eq_nocase(key, PH_STR("older"))) {
        good = ph_value_time_ms(value, &out->older_ms);
    } else if (ph_str_eq_nocase(key, PH_STR("id"))) {
        out->by_id = true;
        good = ph_message_id_parse(value, &out->id);
    } else {
        good = false;
    }
    return good;
}

static bool read_term(struct ph_str term, struct ph_queue_query *out)
{
    ptrdiff_t at = ph_str_find_char(term, '=');

    if (at >= 0) {
        return read_pair(ph_str_first(term, (size_t)at), ph_str_after(term, (size_t)at + 1), out);
    }
    if (ph_str_eq(term, PH_STR("*"))) {
        out->all = true;
    } else if (ph_message_id_parse(term, &out->id)) {
        out->by_id = true;
    } else {
        out->domain = term;
        return ph_str_find_char(term, '.') >= 0;
    }
    return true;
}

bool ph_queue_query_parse(struct ph_str text, struct ph_queue_query *out, struct ph_buf *error)
{
    struct ph_str term;
    unsigned terms = 0;

    *out = (struct ph_queue_query){.reason = PH_REASON_NONE};
    text = ph_str_trim(text);
    while (ph_str_cut(&text, ' ', &term)) {
        if (term.len == 0) {
            continue;
        }
        if (!read_term(term, out)) {
            ph_buf_printf(error,
                          "\"%.*s\" selects nothing; write an id, a domain, \"*\", connector=, "
                          "sender=, reason=TOKEN, state=ready|deferred|suspended or older=2h",
                          PH_STR_ARG(term));
            return false;
        }
        terms++;
    }
    if (terms == 0) {
        ph_buf_printf(error, "which mail? Write an id, a domain, or \"*\" for all");
    }
    return terms > 0;
}

static bool domain_matches(struct ph_str wanted, struct ph_str domain)
{
    if (ph_str_starts(wanted, PH_STR("*."))) {
        struct ph_str below = ph_str_after(wanted, 1);

        return ph_str_eq_nocase(ph_str_after(wanted, 2), domain) ||
               (domain.len > below.len && ph_str_ends_nocase(domain, below));
    }
    return ph_str_eq_nocase(wanted, domain);
}

static bool state_matches(enum ph_queue_query_state state, const struct ph_worker *worker,
                          const struct ph_recipient *r)
{
    bool suspended = ph_store_due_ms(&worker->store, r) == PH_NEVER;

    switch (state) {
    case PH_QUERY_ANY:
        break;
    case PH_QUERY_READY:
        return r->place == PH_PLACE_READY;
    case PH_QUERY_DEFERRED:
        return r->place == PH_PLACE_DEFERRED && !suspended;
    case PH_QUERY_SUSPENDED:
        return suspended;
    }
    return true;
}

bool ph_queue_query_matches_queue(const struct ph_queue_query *query, struct ph_str domain,
                                  struct ph_str connector)
{
    return (query->domain.len == 0 || domain_matches(query->domain, domain)) &&
           (query->connector.len == 0 || ph_str_eq_nocase(query->connector, connector));
}

bool ph_queue_query_matches(const struct ph_queue_query *query, const struct ph_worker *worker,
                            uint32_t recipient)
{
    const struct ph_recipient *r = ph_store_recipient(&worker->store, recipient);
    const struct ph_message *m = ph_store_message(&worker->store, r->message);
    const struct ph_queue *queue = ph_queues_at(worker, r->queue);
    struct ph_str connector = queue->connector != NULL ? queue->connector->name : PH_STR_NONE;

    return (!query->by_id || m->id == query->id) &&
           ph_queue_query_matches_queue(query, queue->domain, connector) &&
           (query->sender.len == 0 ||
            m->flow == (uint32_t)ph_hash_str(query->sender, worker->hash_seed)) &&
           (query->reason == PH_REASON_NONE ||
            (query->reason == queue->last_error.kind || query->reason == r->last_kind)) &&
           state_matches(query->state, worker, r) &&
           (query->older_ms == 0 || m->arrival_ms + query->older_ms <= ph_worker_now_ms(worker));
}
