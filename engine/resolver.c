// LocalData, then libunbound on a thread of its own.
#include "engine/resolver.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unbound.h>
#include <unistd.h>

#include "base/hash.h"
#include "dns/local.h"

#define PH_RESOLVER_ASKED_MAX 4096   // questions under way; ours
#define PH_RESOLVER_TIMEOUT_MS 20000 // no question takes longer; ours
#define PH_RESOLVER_HURRY_MS 500     // or so, when the process is about to end; ours
#define PH_RESOLVER_ROOT_ANCHOR "/usr/share/dns/root.key" // Debian's dns-root-data
#define PH_RESOLVER_TTL_NEGATIVE_S 60                     // of an answer without records; ours

struct question {
    struct ph_offload_job job; // for its way back
    struct ph_resolver *resolver;
    struct ph_resolve_op *op;
    char name[PH_DNS_NAME_BYTES_MAX];
    int rrtype;
    int async_id;
    bool asked;
    uint64_t asked_ms;
    // The answer, moved into the operation on its own thread.
    enum ph_resolve_status status;
    bool secure;
    uint32_t ttl_s;
    char canonical_name[PH_DNS_NAME_BYTES_MAX];
    struct ph_buf rdata;
    char detail[128];
    TAILQ_ENTRY(question) link;
};

struct ph_resolver {
    pthread_rwlock_t local_lock;
    struct ph_dns_local *local; // under its lock
    struct ub_ctx *context;     // the thread's own once it runs
    pthread_t thread;
    int wake_fd;
    uint64_t servers; // a hash of what the context was made of; renew's own
    pthread_mutex_t lock;
    struct ub_ctx *renewed;              // takes the context's place; under the lock
    STAILQ_HEAD(, ph_offload_job) asked; // to the thread; under the lock
    unsigned under_way;                  // under the lock
    bool ending;                         // under the lock
    bool hurried;                        // under the lock
    TAILQ_HEAD(, question) waiting;      // the thread's own
};

static void *serve(void *argument);
static void release(struct ph_resolver *resolver);

static bool set_option(struct ub_ctx *context, const char *name, const char *value)
{
    return ub_ctx_set_option(context, name, value) == 0;
}

static bool configure(struct ub_ctx *context, const struct ph_resolver_options *options,
                      struct ph_buf *error)
{
    bool good = set_option(context, "do-not-query-localhost:", "no") &&
                set_option(context, "qname-minimisation:", "yes");

    for (size_t i = 0; good && i < options->forwarder_count; i++) {
        char text[128];

        ph_str_copy(text, sizeof(text), options->forwarders[i]);
        good = ub_ctx_set_fwd(context, text) == 0;
        if (!good) {
            ph_buf_printf(error, "the forwarder \"%s\" can't be used", text);
        }
    }
    // Only what comes from the root itself is sure to carry signatures: a forwarder may drop them.
    if (good && options->trust_anchor.len == 0 && options->forwarder_count == 0 &&
        access(PH_RESOLVER_ROOT_ANCHOR, R_OK) == 0) {
        good = ub_ctx_add_ta_file(context, PH_RESOLVER_ROOT_ANCHOR) == 0;
    }
    if (good && options->trust_anchor.len > 0) {
        char path[4096];

        ph_str_copy(path, sizeof(path), options->trust_anchor);
        good = ub_ctx_add_ta_file(context, path) == 0;
        if (!good) {
            ph_buf_printf(error, "the trust anchor %s can't be read", path);
        }
    }
    return good;
}

static struct ub_ctx *make_context(const struct ph_resolver_options *options, struct ph_buf *error)
{
    struct ub_ctx *context = ub_ctx_create();

    if (context != NULL && (!configure(context, options, error) || ub_ctx_async(context, 1) != 0)) {
        ub_ctx_delete(context);
        context = NULL;
    }
    if (context == NULL && error->len == 0) {
        ph_buf_append(error, PH_STR("the resolver library could not be started"));
    }
    return context;
}

static struct ph_dns_local *make_local(const struct ph_resolver_options *options,
                                       struct ph_buf *error)
{
    struct ph_dns_local *local = ph_dns_local_create();

    for (size_t i = 0; i < options->local_data_count; i++) {
        if (!ph_dns_local_add(local, options->local_data[i], error)) {
            ph_dns_local_destroy(local);
            return NULL;
        }
    }
    return local;
}

static uint64_t hash_servers(const struct ph_resolver_options *options)
{
    uint64_t hash = ph_hash_str(options->trust_anchor, 1);

    for (size_t i = 0; i < options->forwarder_count; i++) {
        hash = ph_hash_str(options->forwarders[i], hash);
    }
    return hash;
}

struct ph_resolver *ph_resolver_create(const struct ph_resolver_options *options,
                                       struct ph_buf *error)
{
    struct ph_resolver *resolver = ph_alloc(sizeof(*resolver));

    STAILQ_INIT(&resolver->asked);
    TAILQ_INIT(&resolver->waiting);
    pthread_mutex_init(&resolver->lock, NULL);
    pthread_rwlock_init(&resolver->local_lock, NULL);
    resolver->servers = hash_servers(options);
    resolver->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    resolver->local = make_local(options, error);
    resolver->context = resolver->local != NULL ? make_context(options, error) : NULL;
    if (resolver->wake_fd < 0 || resolver->context == NULL ||
        pthread_create(&resolver->thread, NULL, serve, resolver) != 0) {
        if (error->len == 0) {
            ph_buf_append(error, PH_STR("the resolver could not be started"));
        }
        release(resolver);
        return NULL;
    }
    return resolver;
}

static void wake(struct ph_resolver *resolver)
{
    uint64_t one = 1;

    PH_CHECK(write(resolver->wake_fd, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN);
}

void ph_resolver_hurry(struct ph_resolver *resolver)
{
    pthread_mutex_lock(&resolver->lock);
    resolver->hurried = true;
    pthread_mutex_unlock(&resolver->lock);
    wake(resolver);
}

bool ph_resolver_renew(struct ph_resolver *resolver, const struct ph_resolver_options *options,
                       struct ph_buf *error)
{
    struct ph_dns_local *local = make_local(options, error);
    struct ph_dns_local *old = local;
    uint64_t servers = hash_servers(options);
    struct ub_ctx *context = NULL;
    struct ub_ctx *unused = NULL;

    if (local != NULL && servers != resolver->servers) {
        context = make_context(options, error);
    }
    if (local == NULL || (servers != resolver->servers && context == NULL)) {
        ph_dns_local_destroy(local);
        return false;
    }
    resolver->servers = servers;
    pthread_rwlock_wrlock(&resolver->local_lock);
    old = resolver->local;
    resolver->local = local;
    pthread_rwlock_unlock(&resolver->local_lock);
    ph_dns_local_destroy(old);
    if (context != NULL) {
        pthread_mutex_lock(&resolver->lock);
        unused = resolver->renewed;
        resolver->renewed = context;
        pthread_mutex_unlock(&resolver->lock);
        wake(resolver);
    }
    if (unused != NULL) {
        ub_ctx_delete(unused); // it was never in force
    }
    return true;
}

static void release(struct ph_resolver *resolver)
{
    if (resolver->context != NULL) {
        ub_ctx_delete(resolver->context);
    }
    if (resolver->renewed != NULL) {
        ub_ctx_delete(resolver->renewed);
    }
    ph_dns_local_destroy(resolver->local);
    pthread_rwlock_destroy(&resolver->local_lock);
    pthread_mutex_destroy(&resolver->lock);
    if (resolver->wake_fd >= 0) {
        close(resolver->wake_fd);
    }
    free(resolver);
}

void ph_resolver_destroy(struct ph_resolver *resolver)
{
    if (resolver == NULL) {
        return;
    }
    pthread_mutex_lock(&resolver->lock);
    resolver->ending = true;
    pthread_mutex_unlock(&resolver->lock);
    wake(resolver);
    pthread_join(resolver->thread, NULL);
    release(resolver);
}

// On the world's thread: the answer is given to the one who asked.
static void finish(struct ph_offload_job *job)
{
    struct question *q = PH_CONTAINER_OF(job, struct question, job);
    struct ph_resolve_op *op = q->op;

    op->status = q->status;
    op->secure = q->secure;
    op->ttl_s = q->ttl_s;
    memcpy(op->canonical_name, q->canonical_name, sizeof(op->canonical_name));
    memcpy(op->detail, q->detail, sizeof(op->detail));
    ph_buf_append(&op->rdata, ph_buf_str(&q->rdata));
    ph_buf_deinit(&q->rdata);
    ph_io_complete(job->sink->io, &op->op, 0);
    free(q);
}

void ph_resolver_submit(struct ph_resolver *resolver, struct ph_offload_sink *sink,
                        struct ph_resolve_op *op)
{
    struct question *q;
    bool full;
    bool ours;

    op->canonical_name[0] = '\0';
    op->detail[0] = '\0';
    if (resolver == NULL) {
        op->status = PH_RESOLVE_SERVFAIL;
        ph_str_copy(op->detail, sizeof(op->detail), PH_STR("there is no resolver"));
        ph_io_complete(sink->io, &op->op, 0);
        return;
    }
    pthread_rwlock_rdlock(&resolver->local_lock);
    ours = ph_dns_local_answer(resolver->local, op);
    pthread_rwlock_unlock(&resolver->local_lock);
    if (ours) {
        ph_io_complete(sink->io, &op->op, 0);
        return;
    }
    q = ph_alloc(sizeof(*q));
    q->job.finish = finish;
    q->job.sink = sink;
    q->resolver = resolver;
    q->op = op;
    ph_str_copy(q->name, sizeof(q->name), ph_str_from(op->name));
    q->rrtype = (int)op->rrtype;
    pthread_mutex_lock(&resolver->lock);
    full = resolver->under_way >= PH_RESOLVER_ASKED_MAX;
    if (!full) {
        resolver->under_way++;
        STAILQ_INSERT_TAIL(&resolver->asked, &q->job, link);
    }
    pthread_mutex_unlock(&resolver->lock);
    if (full) {
        free(q);
        ph_io_complete(sink->io, &op->op, -ENOBUFS);
    } else {
        wake(resolver);
    }
}

// --- the thread ---

static void answered(struct question *q)
{
    struct ph_resolver *resolver = q->resolver;

    TAILQ_REMOVE(&resolver->waiting, q, link);
    pthread_mutex_lock(&resolver->lock);
    resolver->under_way--;
    pthread_mutex_unlock(&resolver->lock);
    ph_offload_sink_put(q->job.sink, &q->job);
}

static void take_answer(struct question *q, const struct ub_result *result)
{
    q->secure = result->secure;
    q->ttl_s = result->ttl > 0 ? (uint32_t)result->ttl : PH_RESOLVER_TTL_NEGATIVE_S;
    if (result->bogus) {
        q->status = PH_RESOLVE_BOGUS;
        snprintf(q->detail, sizeof(q->detail), "%s",
                 result->why_bogus != NULL ? result->why_bogus : "DNSSEC validation failed");
    } else if (result->rcode == 3) {
        q->status = PH_RESOLVE_NXDOMAIN;
    } else if (result->rcode != 0) {
        q->status = PH_RESOLVE_SERVFAIL;
        snprintf(q->detail, sizeof(q->detail), "the answer was rcode %d", result->rcode);
    } else if (!result->havedata) {
        q->status = PH_RESOLVE_NODATA;
    } else {
        q->status = PH_RESOLVE_OK;
    }
    if (result->canonname != NULL) {
        snprintf(q->canonical_name, sizeof(q->canonical_name), "%s", result->canonname);
    }
    for (int i = 0; q->status == PH_RESOLVE_OK && result->data[i] != NULL; i++) {
        unsigned char len[2] = {(unsigned char)(result->len[i] >> 8),
                                (unsigned char)result->len[i]};

        ph_buf_append_bytes(&q->rdata, len, sizeof(len));
        ph_buf_append_bytes(&q->rdata, result->data[i], (size_t)result->len[i]);
    }
}

static void on_answer(void *argument, int error, struct ub_result *result)
{
    struct question *q = argument;

    if (error != 0) {
        q->status = PH_RESOLVE_SERVFAIL;
        snprintf(q->detail, sizeof(q->detail), "%s", ub_strerror(error));
    } else {
        take_answer(q, result);
    }
    ub_resolve_free(result);
    answered(q);
}

static uint64_t now_ms(void)
{
    struct timespec time_now;

    clock_gettime(CLOCK_MONOTONIC, &time_now);
    return (uint64_t)time_now.tv_sec * 1000 + (uint64_t)time_now.tv_nsec / 1000000;
}

static void ask(struct question *q)
{
    int error;

    TAILQ_INSERT_TAIL(&q->resolver->waiting, q, link);
    q->asked_ms = now_ms();
    error =
        ub_resolve_async(q->resolver->context, q->name, q->rrtype, 1, q, on_answer, &q->async_id);
    if (error != 0) {
        q->status = PH_RESOLVE_SERVFAIL;
        snprintf(q->detail, sizeof(q->detail), "%s", ub_strerror(error));
        answered(q);
    }
}

static void give_up_late(struct ph_resolver *resolver, uint64_t timeout_ms)
{
    struct question *q;

    while ((q = TAILQ_FIRST(&resolver->waiting)) != NULL && now_ms() - q->asked_ms >= timeout_ms) {
        ub_cancel(resolver->context, q->async_id);
        q->status = PH_RESOLVE_TIMEOUT;
        snprintf(q->detail, sizeof(q->detail), "no name server answered");
        answered(q);
    }
}

// What is under way is asked again: of the servers that count now.
static void change_context(struct ph_resolver *resolver, struct ub_ctx *context)
{
    TAILQ_HEAD(, question) again = TAILQ_HEAD_INITIALIZER(again);
    struct question *q;

    while ((q = TAILQ_FIRST(&resolver->waiting)) != NULL) {
        TAILQ_REMOVE(&resolver->waiting, q, link);
        ub_cancel(resolver->context, q->async_id);
        TAILQ_INSERT_TAIL(&again, q, link);
    }
    ub_ctx_delete(resolver->context);
    resolver->context = context;
    while ((q = TAILQ_FIRST(&again)) != NULL) {
        TAILQ_REMOVE(&again, q, link);
        ask(q);
    }
}

static void *serve(void *argument)
{
    struct ph_resolver *resolver = argument;
    struct pollfd watched[2] = {{.fd = ub_fd(resolver->context), .events = POLLIN},
                                {.fd = resolver->wake_fd, .events = POLLIN}};
    bool ending = false;
    bool hurried = false;

    while (!ending) {
        struct ph_offload_job_list fresh = STAILQ_HEAD_INITIALIZER(fresh);
        struct ph_offload_job *job;
        struct ub_ctx *renewed;
        uint64_t wakes;

        poll(watched, 2, TAILQ_EMPTY(&resolver->waiting) ? -1 : hurried ? 100 : 1000);
        PH_CHECK(read(resolver->wake_fd, &wakes, sizeof(wakes)) >= 0 || errno == EAGAIN);
        pthread_mutex_lock(&resolver->lock);
        while ((job = STAILQ_FIRST(&resolver->asked)) != NULL) {
            STAILQ_REMOVE_HEAD(&resolver->asked, link);
            STAILQ_INSERT_TAIL(&fresh, job, link);
        }
        ending = resolver->ending;
        hurried = resolver->hurried;
        renewed = resolver->renewed;
        resolver->renewed = NULL;
        pthread_mutex_unlock(&resolver->lock);
        if (renewed != NULL) {
            change_context(resolver, renewed);
            watched[0].fd = ub_fd(renewed);
        }
        while ((job = STAILQ_FIRST(&fresh)) != NULL) {
            STAILQ_REMOVE_HEAD(&fresh, link);
            ask(PH_CONTAINER_OF(job, struct question, job));
        }
        ub_process(resolver->context);
        give_up_late(resolver, ending    ? 0
                               : hurried ? PH_RESOLVER_HURRY_MS
                                         : PH_RESOLVER_TIMEOUT_MS);
    }
    return NULL;
}
