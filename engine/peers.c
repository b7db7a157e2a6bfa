// What hosts showed last.
#include "engine/peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/date.h"
#include "engine/worker.h"

struct ph_peer {
    UT_hash_handle hh;
    char host[PH_DNS_NAME_BYTES_MAX];
    uint8_t leaf[PH_SHA256_BYTES];
    int64_t not_after_s;
    bool proven;
    bool warned; // of this certificate
    uint64_t released_ms;
};

struct release {
    struct ph_mail_call call;
    char host[PH_DNS_NAME_BYTES_MAX];
};

static struct ph_peer *find(const struct ph_worker *worker, const char *host)
{
    struct ph_peer *peer = NULL;

    HASH_FIND(hh, worker->peers, host, strlen(host), peer);
    return peer;
}

static bool goes_to(const struct ph_queue *queue, const char *host)
{
    bool found = false;

    for (size_t i = 0; !found && i < queue->held_at->host_count; i++) {
        found = strcmp(queue->held_at->hosts[i].name, host) == 0;
    }
    return found;
}

// What a TLS policy holds back from this host is tried now.
static void release_here(struct ph_worker *worker, const char *host)
{
    struct ph_queue *queue;
    struct ph_queue *next;
    unsigned count = 0;

    HASH_ITER(hh, worker->queues, queue, next)
    {
        if (ph_queue_tls_held(queue) && queue->held_at != NULL && goes_to(queue, host)) {
            ph_queue_release(queue, count++);
        }
    }
}

static void on_release(struct ph_worker *worker, struct ph_mail_call *call)
{
    struct release *release = PH_CONTAINER_OF(call, struct release, call);

    release_here(worker, release->host);
    free(release);
}

static void release_everywhere(struct ph_worker *worker, const char *host)
{
    release_here(worker, host);
    for (uint16_t i = 0; i < ph_engine_worker_count(worker->engine); i++) {
        struct release *release;

        if (i == worker->index) {
            continue;
        }
        release = ph_alloc(sizeof(*release));
        release->call.mail.kind = PH_MAIL_CALL;
        release->call.call = on_release;
        ph_str_copy(release->host, sizeof(release->host), ph_str_from(host));
        ph_mailbox_post(&ph_worker_at(worker, i)->mailbox, &release->call.mail);
    }
}

static void warn_of_end(struct ph_worker *worker, struct ph_peer *peer,
                        const struct ph_dispatch *dispatch)
{
    int64_t left_s = peer->not_after_s - (int64_t)(ph_worker_wall_ms(worker) / 1000);
    char date[PH_DATE_TEXT_MAX];
    char text[512];

    if (!peer->proven || peer->warned || left_s > PH_PEERS_WARN_S) {
        return;
    }
    peer->warned = true;
    snprintf(
        text, sizeof(text),
        "the certificate of %s ends in %lld days (%s); connector %.*s demands a valid one: tell "
        "the partner, or mail for %.*s will be held from then on",
        peer->host, (long long)(left_s > 0 ? left_s / 86400 : 0),
        ph_date_format_iso((uint64_t)peer->not_after_s * 1000, date),
        PH_STR_ARG(dispatch->connector), PH_STR_ARG(dispatch->domain));
    ph_engine_report_notice(worker->engine, ph_str_from(text));
}

void ph_peers_seen(struct ph_worker *worker, const char *host, const struct ph_dispatch *dispatch,
                   const struct ph_chain *chain, bool proven)
{
    struct ph_peer *peer = find(worker, host);
    uint64_t now_ms = ph_worker_now_ms(worker);
    bool changed;

    if (peer == NULL) {
        if (HASH_COUNT(worker->peers) >= PH_PEERS_MAX) {
            return;
        }
        peer = ph_alloc(sizeof(*peer));
        ph_str_copy(peer->host, sizeof(peer->host), ph_str_from(host));
        memcpy(peer->leaf, chain->leaf_sha256, PH_SHA256_BYTES);
        HASH_ADD_KEYPTR(hh, worker->peers, peer->host, strlen(peer->host), peer);
    }
    changed = memcmp(peer->leaf, chain->leaf_sha256, PH_SHA256_BYTES) != 0;
    memcpy(peer->leaf, chain->leaf_sha256, PH_SHA256_BYTES);
    peer->warned = peer->warned && !changed;
    peer->proven = proven || (peer->proven && !changed);
    peer->not_after_s = chain->not_after_s;
    warn_of_end(worker, peer, dispatch);
    if (changed && now_ms >= peer->released_ms + PH_PEERS_RELEASE_INTERVAL_MS) {
        peer->released_ms = now_ms;
        release_everywhere(worker, host);
    }
}

int64_t ph_peers_not_after_s(const struct ph_worker *worker, const char *host)
{
    const struct ph_peer *peer = find(worker, host);

    return peer != NULL ? peer->not_after_s : 0;
}

uint64_t ph_peers_expiring(const struct ph_worker *worker)
{
    int64_t limit_s = (int64_t)(ph_worker_wall_ms(worker) / 1000) + PH_PEERS_WARN_S;
    const struct ph_peer *peer;
    uint64_t count = 0;

    for (peer = worker->peers; peer != NULL; peer = peer->hh.next) {
        count += peer->proven && peer->not_after_s <= limit_s;
    }
    return count;
}

void ph_peers_destroy_all(struct ph_worker *worker)
{
    struct ph_peer *peer;
    struct ph_peer *next;

    HASH_ITER(hh, worker->peers, peer, next)
    {
        HASH_DEL(worker->peers, peer);
        free(peer);
    }
}
