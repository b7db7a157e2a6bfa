// Listeners, and the way of an accepted socket to its worker.
#include "engine/worker_ingest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "engine/sources.h"

#define PH_LISTEN_BACKLOG 1024 // ours; the kernel's somaxconn bounds it

// One binding that listens.
struct ph_listening {
    TAILQ_ENTRY(ph_listening) link;
    struct ph_worker *worker;
    struct ph_endpoint configured; // as written: with port 0 the kernel chose one
    struct ph_listener *listener;
    struct ph_op accept_op;
};

// An accepted socket on its way to another worker.
struct mail_socket {
    struct ph_mail mail;
    uint64_t token;
    struct ph_config *config; // referenced
    const struct ph_receive_connector *connector;
    bool implicit_tls;
    struct ph_endpoint peer;
};

static void on_accepted(struct ph_op *op);

static const struct ph_binding *find_binding(const struct ph_config *config,
                                             const struct ph_endpoint *at,
                                             const struct ph_receive_connector **out_connector)
{
    for (size_t i = 0; i < config->receive_connector_count; i++) {
        const struct ph_receive_connector *connector = &config->receive_connectors[i];

        for (size_t j = 0; connector->enabled && j < connector->binding_count; j++) {
            if (ph_endpoint_eq(&connector->bindings[j].at, at)) {
                *out_connector = connector;
                return &connector->bindings[j];
            }
        }
    }
    return NULL;
}

static int listen_on(struct ph_worker *worker, const struct ph_receive_connector *connector,
                     const struct ph_endpoint *at, struct ph_buf *error)
{
    struct ph_listening *listening = ph_alloc(sizeof(*listening));
    struct ph_endpoint bound;
    char text[PH_ENDPOINT_TEXT_MAX];
    int result = ph_io_listen(worker->io,
                              &(struct ph_listen_options){.at = *at, .backlog = PH_LISTEN_BACKLOG},
                              &listening->listener, &bound);

    if (result < 0) {
        ph_buf_printf(error, "ReceiveConnector %.*s can't listen on %s: %s\n",
                      PH_STR_ARG(connector->name), ph_endpoint_format(at, text), strerror(-result));
        free(listening);
        return result;
    }
    listening->worker = worker;
    listening->configured = *at;
    ph_op_init(&listening->accept_op, on_accepted, listening);
    TAILQ_INSERT_TAIL(&worker->listening, listening, link);
    ph_io_accept_start(listening->listener, &listening->accept_op);
    ph_engine_report_listening(worker->engine, connector->name, &bound);
    return 0;
}

static bool listens(const struct ph_worker *worker, const struct ph_endpoint *at)
{
    const struct ph_listening *listening;

    TAILQ_FOREACH(listening, &worker->listening, link)
    {
        if (ph_endpoint_eq(&listening->configured, at)) {
            return true;
        }
    }
    return false;
}

static int listen_where_wanted(struct ph_worker *worker, struct ph_buf *error)
{
    const struct ph_config *config = worker->config;
    int result = 0;

    for (size_t i = 0; i < config->receive_connector_count; i++) {
        const struct ph_receive_connector *connector = &config->receive_connectors[i];

        for (size_t j = 0; connector->enabled && j < connector->binding_count; j++) {
            if (!listens(worker, &connector->bindings[j].at)) {
                int one = listen_on(worker, connector, &connector->bindings[j].at, error);

                result = one < 0 ? one : result;
            }
        }
    }
    return result;
}

static void stop_listening(struct ph_worker *worker, struct ph_listening *listening)
{
    TAILQ_REMOVE(&worker->listening, listening, link);
    ph_io_listener_close(listening->listener);
    free(listening);
}

int ph_worker_ingest_open(struct ph_worker *worker, struct ph_buf *error)
{
    TAILQ_INIT(&worker->ingests);
    TAILQ_INIT(&worker->listening);
    return worker->index == 0 ? listen_where_wanted(worker, error) : 0;
}

void ph_worker_ingest_close(struct ph_worker *worker)
{
    struct ph_listening *listening;

    PH_CHECK(TAILQ_EMPTY(&worker->ingests));
    while ((listening = TAILQ_FIRST(&worker->listening)) != NULL) {
        stop_listening(worker, listening);
    }
}

static uint64_t key_of(const struct ph_receive_connector *connector)
{
    return ph_hash_str_nocase(connector->name, 0);
}

static uint16_t least_loaded(struct ph_worker *worker)
{
    uint16_t best = 0;
    uint64_t least = UINT64_MAX;

    for (uint16_t i = 0; i < ph_engine_worker_count(worker->engine); i++) {
        uint64_t load = PH_COUNTER_READ(ph_worker_at(worker, i), connections_in) +
                        ph_engine_sockets_sent(worker->engine, i);

        if (load < least) {
            least = load;
            best = i;
        }
    }
    return best;
}

static void hand_over(struct ph_worker *worker, struct ph_socket *socket,
                      const struct ph_receive_connector *connector,
                      const struct ph_binding *binding, const struct ph_endpoint *peer)
{
    uint16_t to = least_loaded(worker);
    struct mail_socket *mail;

    if (to == worker->index) {
        ph_ingest_accept(worker, socket, worker->config, connector, binding->implicit_tls, peer);
        return;
    }
    mail = ph_alloc(sizeof(*mail));
    mail->mail.kind = PH_MAIL_SOCKET;
    mail->mail.from = worker->index;
    mail->token = ph_io_socket_detach(socket);
    mail->config = ph_config_retain(worker->config);
    mail->connector = connector;
    mail->implicit_tls = binding->implicit_tls;
    mail->peer = *peer;
    ph_engine_socket_sent(worker->engine, to, 1);
    ph_mailbox_post(&ph_worker_at(worker, to)->mailbox, &mail->mail);
}

static void on_close_refused(struct ph_op *op)
{
    free(op);
}

static void on_accepted(struct ph_op *op)
{
    struct ph_listening *listening = op->owner;
    struct ph_worker *worker = listening->worker;
    const struct ph_receive_connector *connector;
    const struct ph_binding *binding =
        find_binding(worker->config, &listening->configured, &connector);
    struct ph_socket *socket;
    struct ph_endpoint peer;
    struct ph_endpoint local;

    while (ph_io_accept_next(listening->listener, &socket, &peer, &local)) {
        bool trusted = false;

        for (size_t i = 0; binding != NULL && i < connector->remote_ip_range_count; i++) {
            trusted |= ph_cidr_contains(&connector->remote_ip_ranges[i], &peer);
        }
        if (binding != NULL && !worker->stopping &&
            ph_sources_add(ph_engine_sources(worker->engine), key_of(connector),
                           connector->max_inbound_connection, &peer,
                           trusted ? UINT32_MAX : connector->max_inbound_connection_per_source)) {
            hand_over(worker, socket, connector, binding, &peer);
        } else {
            // Too many: closed without a word, which costs least.
            struct ph_op *close_op = ph_alloc(sizeof(*close_op));

            ph_op_init(close_op, on_close_refused, NULL);
            ph_io_close(socket, close_op);
        }
    }
}

void ph_worker_ingest_receive(struct ph_worker *worker, struct ph_mail *take_mail)
{
    struct mail_socket *mail = PH_CONTAINER_OF(take_mail, struct mail_socket, mail);
    struct ph_socket *socket = ph_io_socket_adopt(worker->io, mail->token);

    ph_engine_socket_sent(worker->engine, worker->index, -1);
    ph_ingest_accept(worker, socket, mail->config, mail->connector, mail->implicit_tls,
                     &mail->peer);
    ph_config_release(mail->config);
    free(mail);
}

void ph_worker_ingest_reconfigure(struct ph_worker *worker)
{
    struct ph_listening *listening;
    struct ph_listening *next;
    const struct ph_receive_connector *unused;
    struct ph_buf error = {0};
    struct ph_ingest *ingest;
    struct ph_ingest *next_ingest;

    // A partner's session is judged by the trust and the lists it began under: it begins again.
    for (ingest = TAILQ_FIRST(&worker->ingests); ingest != NULL; ingest = next_ingest) {
        next_ingest = ph_ingest_next(ingest);
        if (ph_ingest_judges_partners(ingest)) {
            ph_ingest_stop(ingest);
        }
    }
    if (worker->index != 0) {
        return;
    }
    for (listening = TAILQ_FIRST(&worker->listening); listening != NULL; listening = next) {
        next = TAILQ_NEXT(listening, link);
        if (find_binding(worker->config, &listening->configured, &unused) == NULL) {
            stop_listening(worker, listening);
        }
    }
    (void)listen_where_wanted(worker, &error);
    if (error.len > 0) {
        ph_engine_report_problem(worker->engine, ph_buf_str(&error));
    }
    ph_buf_deinit(&error);
}

void ph_worker_ingest_stop(struct ph_worker *worker)
{
    struct ph_listening *listening;
    struct ph_ingest *ingest;
    struct ph_ingest *next;

    while ((listening = TAILQ_FIRST(&worker->listening)) != NULL) {
        stop_listening(worker, listening);
    }
    for (ingest = TAILQ_FIRST(&worker->ingests); ingest != NULL; ingest = next) {
        next = ph_ingest_next(ingest);
        ph_ingest_stop(ingest);
    }
}

void ph_worker_ingest_abort(struct ph_worker *worker)
{
    struct ph_ingest *ingest;
    struct ph_ingest *next;

    for (ingest = TAILQ_FIRST(&worker->ingests); ingest != NULL; ingest = next) {
        next = ph_ingest_next(ingest);
        ph_ingest_abort(ingest);
    }
}

bool ph_worker_ingest_at_rest(const struct ph_worker *worker)
{
    return TAILQ_EMPTY(&worker->ingests) &&
           ph_engine_sockets_sent(worker->engine, worker->index) == 0;
}

void ph_worker_ingest_remove(struct ph_worker *worker, struct ph_ingest *ingest,
                             const struct ph_receive_connector *connector,
                             const struct ph_endpoint *peer)
{
    ph_worker_ingest_forget(worker, ingest);
    ph_sources_remove(ph_engine_sources(worker->engine), key_of(connector), peer);
}
