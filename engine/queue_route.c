// Where a queue's mail goes: MX or smart hosts → the hosts of a site.
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "dns/mx.h"
#include "engine/queues.h"
#include "engine/worker.h"

#define PH_ROUTE_TTL_MIN_S 60   // ours: an MX answer is kept at least so long
#define PH_ROUTE_TTL_MAX_S 3600 // ours
#define PH_ROUTE_HOSTS_MAX 256  // of a site; ours
#define PH_OWN_NAMES_MAX 32     // names we greet with, for loops; ours
#define PH_PIPELINE_DEPTH_MX 4  // PipelineDepth where it isn't given
#define PH_PIPELINE_DEPTH_SMART 64

struct ph_lookup {
    struct ph_queue *queue; // NULL: nobody waits for it any more
    struct ph_worker *worker;
    unsigned pending;
    size_t op_count;
    struct ph_resolve_op *ops;  // an MX question each
    size_t *op_hops;            // for which smart host
    size_t ask_count;           // policy domains: one, or as many as there are smart hosts
    struct ph_sts_ask *asks;    // what each publishes
    struct ph_site_host *hosts; // found so far
    uint64_t *host_hops;        // behind which smart hosts, a bit each
    size_t host_count;
    size_t host_cap;
    uint32_t ttl_s;
    bool insecure;           // a host's name comes from an answer that DNSSEC doesn't vouch for
    struct ph_reason reason; // of a question that gave no host
};

static void on_answer(struct ph_op *op);
static void on_sts(struct ph_op *op);
static void conclude(struct ph_lookup *lookup);

// For one host more: most destinations have one to four.
static void make_room(struct ph_lookup *lookup)
{
    if (lookup->host_count == lookup->host_cap) {
        lookup->host_cap = lookup->host_cap == 0 ? 4 : lookup->host_cap * 4;
        lookup->hosts = reallocarray(lookup->hosts, lookup->host_cap, sizeof(*lookup->hosts));
        lookup->host_hops =
            reallocarray(lookup->host_hops, lookup->host_cap, sizeof(*lookup->host_hops));
        PH_CHECK(lookup->hosts != NULL && lookup->host_hops != NULL);
    }
}

static void add_host(struct ph_lookup *lookup, const struct ph_site_host *host, size_t hop)
{
    size_t at = 0;

    while (at < lookup->host_count && strcmp(lookup->hosts[at].name, host->name) != 0) {
        at++;
    }
    if (at == lookup->host_count && lookup->host_count < PH_ROUTE_HOSTS_MAX) {
        make_room(lookup);
        lookup->hosts[lookup->host_count] = *host;
        lookup->host_hops[lookup->host_count++] = 0;
    }
    if (at < lookup->host_count) {
        lookup->host_hops[at] |= UINT64_C(1) << hop;
    }
}

static void ask(struct ph_lookup *lookup, struct ph_str name, size_t hop)
{
    struct ph_resolve_op *op = &lookup->ops[lookup->op_count];

    lookup->op_hops[lookup->op_count++] = hop;

    ph_op_init(&op->op, on_answer, lookup);
    ph_str_copy(op->name, sizeof(op->name), name);
    op->rrtype = PH_RRTYPE_MX;
    lookup->pending++;
}

static void plan_smart_hosts(struct ph_lookup *lookup, const struct ph_send_connector *connector)
{
    for (size_t i = 0; i < connector->smart_host_count; i++) {
        const struct ph_smart_host *smart = &connector->smart_hosts[i];
        struct ph_site_host host = {.is_literal = smart->is_literal, .literal = smart->literal};

        ph_str_copy(host.name, sizeof(host.name), smart->name);
        if (smart->is_literal || smart->no_mx) {
            add_host(lookup, &host, i);
        } else {
            ask(lookup, smart->name, i);
        }
    }
}

// RFC 8461 §3.4: the next hop's name: a smart host has its own policy, an IP literal has none.
static struct ph_str policy_domain_of(const struct ph_smart_host *smart)
{
    return smart->is_literal ? PH_STR_NONE : smart->name;
}

static bool has_hops(const struct ph_send_connector *connector)
{
    return !connector->dns_routing && connector->smart_host_count > 1;
}

struct ph_str ph_queue_policy_domain(const struct ph_queue *queue)
{
    const struct ph_send_connector *connector = queue->connector;

    if (connector->dns_routing) {
        return queue->domain;
    }
    return has_hops(connector) ? PH_STR_NONE : policy_domain_of(&connector->smart_hosts[0]);
}

bool ph_queue_goes_by(const struct ph_queue *queue, struct ph_str domain)
{
    const struct ph_send_connector *connector = queue->connector;
    bool found = ph_str_eq_nocase(ph_queue_policy_domain(queue), domain);

    for (size_t i = 0; has_hops(connector) && !found && i < connector->smart_host_count; i++) {
        found = ph_str_eq_nocase(policy_domain_of(&connector->smart_hosts[i]), domain);
    }
    return found;
}

static void ask_sts(struct ph_lookup *lookup, struct ph_sts_ask *sts, struct ph_str domain)
{
    const struct ph_queue *queue = lookup->queue;
    enum ph_reason_kind last = queue->last_error.kind;
    enum ph_sts_ask_how how = last == PH_REASON_STS_CERT || last == PH_REASON_STS_MX_MISMATCH
                                  ? PH_STS_ASK_DISTRUST
                                  : PH_STS_ASK_NORMAL;

    if (domain.len > 0) {
        lookup->pending++;
        ph_op_init(&sts->op, on_sts, lookup);
        ph_sts_ask_start(sts, lookup->worker, domain,
                         queue->connector->mta_sts ? how : PH_STS_ASK_EXCEPTION);
    }
}

static void ask_all_sts(struct ph_lookup *lookup)
{
    const struct ph_send_connector *connector = lookup->queue->connector;

    lookup->ask_count = has_hops(connector) ? connector->smart_host_count : 1;
    lookup->asks = ph_alloc(lookup->ask_count * sizeof(*lookup->asks));
    if (!has_hops(connector)) {
        ask_sts(lookup, &lookup->asks[0], ph_queue_policy_domain(lookup->queue));
        return;
    }
    for (size_t i = 0; i < lookup->ask_count; i++) {
        ask_sts(lookup, &lookup->asks[i], policy_domain_of(&connector->smart_hosts[i]));
    }
}

static void on_sts(struct ph_op *op)
{
    struct ph_lookup *lookup = op->owner;

    lookup->pending--;
    if (lookup->pending == 0) {
        conclude(lookup);
    }
}

static struct ph_hops *make_hops(const struct ph_lookup *lookup)
{
    const struct ph_send_connector *connector = lookup->queue->connector;
    struct ph_hops *hops = ph_hops_create(connector->smart_host_count, lookup->host_count);

    for (size_t i = 0; i < hops->hop_count; i++) {
        const struct ph_sts_ask *ask = &lookup->asks[i];

        hops->hops[i] = (struct ph_hop){
            .name = policy_domain_of(&connector->smart_hosts[i]),
            .sts = connector->mta_sts ? ph_sts_policy_retain(ask->policy) : NULL,
            .waived_until_ms = ask->waived_until_ms,
        };
    }
    for (size_t i = 0; i < hops->host_count; i++) {
        memcpy(hops->hosts[i].name, lookup->hosts[i].name, sizeof(hops->hosts[i].name));
        hops->hosts[i].hops = lookup->host_hops[i];
    }
    return hops;
}

// What the destination publishes from now on holds for what is prepared from now on.
static void take_sts(struct ph_queue *queue, const struct ph_lookup *lookup)
{
    const struct ph_sts_ask *ask = &lookup->asks[0];

    if (has_hops(queue->connector)) {
        ph_hops_release(queue->hops);
        queue->hops = make_hops(lookup);
        return;
    }
    ph_sts_policy_release(queue->sts);
    queue->sts = queue->connector->mta_sts ? ph_sts_policy_retain(ask->policy) : NULL;
    queue->policy.sts = queue->sts != NULL && queue->sts->mode != PH_STS_NONE ? queue->sts : NULL;
    queue->waived_until_ms = ask->waived_until_ms;
}

static uint64_t valid_for_ms(const struct ph_queue *queue, uint64_t ttl_ms)
{
    uint64_t wall_ms = ph_worker_wall_ms(queue->worker);
    uint64_t waived_ms =
        queue->waived_until_ms > wall_ms ? queue->waived_until_ms - wall_ms : ttl_ms;

    return waived_ms < ttl_ms ? waived_ms : ttl_ms;
}

void ph_queue_resolve(struct ph_queue *queue)
{
    const struct ph_send_connector *connector = queue->connector;
    struct ph_lookup *lookup = ph_alloc(sizeof(*lookup));

    lookup->queue = queue;
    lookup->worker = queue->worker;
    lookup->ttl_s = PH_ROUTE_TTL_MAX_S;
    lookup->ops = ph_alloc((connector->smart_host_count + 1) * sizeof(*lookup->ops));
    lookup->op_hops = ph_alloc((connector->smart_host_count + 1) * sizeof(*lookup->op_hops));
    queue->lookup = lookup;
    lookup->worker->asking_count++;
    if (connector->dns_routing) {
        ask(lookup, queue->domain, 0);
    } else {
        plan_smart_hosts(lookup, connector);
    }
    ask_all_sts(lookup);
    if (lookup->pending == 0) {
        conclude(lookup);
        return;
    }
    for (size_t i = 0; i < lookup->op_count; i++) {
        ph_io_resolve(queue->worker->io, &lookup->ops[i]);
    }
}

void ph_queue_abandon_lookup(struct ph_queue *queue)
{
    if (queue->lookup != NULL) {
        queue->lookup->queue = NULL;
        queue->lookup = NULL;
    }
}

// The names we greet with: an MX that is one of them is ourselves.
static size_t own_names(const struct ph_config *config, struct ph_str *out)
{
    size_t count = 0;

    out[count++] = config->hostname;
    for (size_t i = 0; i < config->receive_connector_count && count < PH_OWN_NAMES_MAX; i++) {
        if (!ph_str_eq_nocase(config->receive_connectors[i].fqdn, config->hostname)) {
            out[count++] = config->receive_connectors[i].fqdn;
        }
    }
    return count;
}

static void on_answer(struct ph_op *op)
{
    struct ph_resolve_op *answer = PH_CONTAINER_OF(op, struct ph_resolve_op, op);
    struct ph_lookup *lookup = op->owner;
    struct ph_str names[PH_OWN_NAMES_MAX];
    struct ph_mx_hosts found;

    lookup->pending--;
    if (op->result < 0) {
        lookup->reason = ph_reason_make(PH_REASON_DNS_FAILURE,
                                        "the mail hosts of %s could not be looked up now: too many "
                                        "questions are under way",
                                        answer->name);
    } else if (lookup->queue != NULL &&
               ph_mx_read(answer, names, own_names(lookup->queue->config, names), &found,
                          &lookup->reason) == PH_MX_FOUND) {
        for (size_t i = 0; i < found.count; i++) {
            struct ph_site_host host = {.preference = found.hosts[i].preference};

            ph_str_copy(host.name, sizeof(host.name), ph_str_from(found.hosts[i].name));
            add_host(lookup, &host, lookup->op_hops[answer - lookup->ops]);
        }
        // A smart host that stands for itself is the administrator's word.
        lookup->insecure |= !answer->secure && (lookup->queue->connector->dns_routing ||
                                                answer->status == PH_RESOLVE_OK);
    }
    if (answer->ttl_s < lookup->ttl_s) {
        lookup->ttl_s = answer->ttl_s;
    }
    ph_buf_deinit(&answer->rdata);
    if (lookup->pending == 0) {
        conclude(lookup);
    }
}

static int compare_hosts(const void *a, const void *b)
{
    const struct ph_site_host *left = a;
    const struct ph_site_host *right = b;

    return left->preference != right->preference ? (left->preference < right->preference ? -1 : 1)
                                                 : strcmp(left->name, right->name);
}

// Only the order counts: domains that write other numbers for the same hosts share a site.
static void rank_hosts(struct ph_site_host *hosts, size_t count)
{
    uint16_t rank = 0;
    uint16_t written = count > 0 ? hosts[0].preference : 0;

    for (size_t i = 0; i < count; i++) {
        rank += hosts[i].preference != written;
        written = hosts[i].preference;
        hosts[i].preference = rank;
    }
}

static void hash_spec(struct ph_site_spec *spec)
{
    struct ph_buf text = {0};
    uint64_t halves[2];
    const uint64_t numbers[] = {spec->config->generation, spec->connector->sending_identity,
                                spec->port, spec->smart};

    ph_buf_append_bytes(&text, numbers, sizeof(numbers));
    for (size_t i = 0; i < spec->host_count; i++) {
        ph_buf_append_u64(&text, spec->hosts[i].preference);
        ph_buf_append_char(&text, ' ');
        ph_buf_append(&text, ph_str_from(spec->hosts[i].name));
        ph_buf_append_char(&text, '\n');
    }
    halves[0] = ph_hash_str(ph_buf_str(&text), 1);
    halves[1] = ph_hash_str(ph_buf_str(&text), 2);
    _Static_assert(sizeof(halves) == PH_SITE_KEY_BYTES, "a key is two hashes");
    memcpy(spec->key, halves, sizeof(halves));
    ph_buf_deinit(&text);
}

static struct ph_site_spec *make_spec(struct ph_lookup *lookup)
{
    struct ph_queue *queue = lookup->queue;
    struct ph_worker *worker = lookup->worker;
    size_t bytes = sizeof(struct ph_site_spec) + lookup->host_count * sizeof(struct ph_site_host);
    struct ph_site_spec *spec = ph_alloc(bytes);

    qsort(lookup->hosts, lookup->host_count, sizeof(*lookup->hosts), compare_hosts);
    rank_hosts(lookup->hosts, lookup->host_count);
    atomic_init(&spec->references, 1);
    spec->config = ph_config_retain(queue->config);
    spec->connector = queue->connector;
    spec->smart = !queue->connector->dns_routing;
    spec->port = spec->smart ? queue->connector->port : queue->config->resolver.port;
    spec->host_count = lookup->host_count;
    memcpy(spec->hosts, lookup->hosts, lookup->host_count * sizeof(struct ph_site_host));
    ph_str_copy(spec->best_host, sizeof(spec->best_host), ph_str_from(spec->hosts[0].name));
    spec->limits =
        ph_config_limits(queue->config, queue->connector, ph_str_from(spec->best_host), NULL);
    if (spec->limits.pipeline_depth == 0) {
        spec->limits.pipeline_depth = spec->smart ? PH_PIPELINE_DEPTH_SMART : PH_PIPELINE_DEPTH_MX;
    }
    // Seeded alike at every worker: all agree on who is at home.
    spec->home = (uint16_t)(ph_hash_str(ph_str_from(spec->best_host), 0) %
                            ph_engine_worker_count(worker->engine));
    hash_spec(spec);
    return spec;
}

static void conclude(struct ph_lookup *lookup)
{
    struct ph_queue *queue = lookup->queue;
    uint32_t ttl_s = lookup->ttl_s < PH_ROUTE_TTL_MIN_S ? PH_ROUTE_TTL_MIN_S : lookup->ttl_s;

    if (queue != NULL) {
        queue->lookup = NULL;
        if (lookup->host_count > 0) {
            queue->policy.mx_secure = !lookup->insecure;
            take_sts(queue, lookup);
            ph_queue_routed(queue, make_spec(lookup), valid_for_ms(queue, (uint64_t)ttl_s * 1000));
        } else {
            ph_config_apply_error_policies(queue->connector, &lookup->reason);
            if (ph_reason_is_permanent(&lookup->reason)) {
                ph_queue_fail_all(queue, &lookup->reason);
            } else {
                ph_queue_backoff(queue, &lookup->reason);
            }
        }
    }
    for (size_t i = 0; i < lookup->ask_count; i++) {
        ph_sts_ask_deinit(&lookup->asks[i]);
    }
    lookup->worker->asking_count--;
    free(lookup->asks);
    free(lookup->host_hops);
    free(lookup->hosts);
    free(lookup->op_hops);
    free(lookup->ops);
    free(lookup);
}
