// Metrics, health, the queue.
#include "engine/admin.h"

#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "engine/mailbox.h"
#include "engine/metrics.h"
#include "engine/policy_report.h"
#include "engine/queue_report.h"
#include "engine/holds.h"
#include "engine/queue_steer.h"
#include "engine/socket_parts.h"
#include "engine/worker.h"

#define PH_ADMIN_PAUSE_NS 2000000 // between questions that go on; ours

struct ph_admin {
    struct ph_engine *engine;
    struct MHD_Daemon *http;
    struct MHD_Daemon *control;
    char *control_path;
};

// --- asking a worker ---

// Shared by who asks and the worker: the last one frees it. A worker that has come to its end
// answers no more.
struct question {
    struct ph_mail_call call;
    void (*answer)(struct ph_worker *worker, void *argument);
    void *argument;
    pthread_mutex_t lock;
    pthread_cond_t done;
    unsigned references;
    bool answered;
    bool abandoned;
};

static void release(struct question *question) // under its lock
{
    bool last = --question->references == 0;

    pthread_mutex_unlock(&question->lock);
    if (last) {
        pthread_mutex_destroy(&question->lock);
        pthread_cond_destroy(&question->done);
        free(question);
    }
}

static void answer_on_worker(struct ph_worker *worker, struct ph_mail_call *call)
{
    struct question *question = PH_CONTAINER_OF(call, struct question, call);

    pthread_mutex_lock(&question->lock);
    if (!question->abandoned) {
        question->answer(worker, question->argument);
        question->answered = true;
        pthread_cond_signal(&question->done);
    }
    release(question);
}

static void await(struct ph_engine *engine, struct question *question)
{
    pthread_mutex_lock(&question->lock);
    while (!question->answered && !question->abandoned) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        if (pthread_cond_timedwait(&question->done, &question->lock, &until) == ETIMEDOUT) {
            question->abandoned = !question->answered && ph_engine_stopped(engine);
        }
    }
    release(question);
}

static void ask(struct ph_engine *engine, uint16_t worker,
                void (*answer)(struct ph_worker *worker, void *argument), void *argument)
{
    struct question *question = ph_alloc(sizeof(*question));

    *question = (struct question){.answer = answer, .argument = argument, .references = 2};
    pthread_mutex_init(&question->lock, NULL);
    pthread_cond_init(&question->done, NULL);
    question->call.mail.kind = PH_MAIL_CALL;
    question->call.call = answer_on_worker;
    ph_mailbox_post(&ph_engine_worker(engine, worker)->mailbox, &question->call.mail);
    await(engine, question);
}

static void ask_all(struct ph_engine *engine,
                    void (*answer)(struct ph_worker *worker, void *argument), void *argument)
{
    for (uint16_t i = 0; i < ph_engine_worker_count(engine); i++) {
        ask(engine, i, answer, argument);
    }
}

static void pause_a_little(void)
{
    struct timespec pause = {.tv_nsec = PH_ADMIN_PAUSE_NS};

    nanosleep(&pause, NULL);
}

// --- requests ---

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned code, const char *type,
                             struct ph_buf *text)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(text->len, text->data, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result;

    MHD_add_response_header(response, "Content-Type", type);
    result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    ph_buf_deinit(text);
    return result;
}

static enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned code,
                                  const char *text)
{
    struct ph_buf buf = {0};

    ph_buf_append(&buf, ph_str_from(text));
    return reply(connection, code, "text/plain; charset=utf-8", &buf);
}

static enum MHD_Result serve_metrics(struct ph_admin *admin, struct MHD_Connection *connection)
{
    struct ph_survey survey = {0};
    struct ph_buf text = {0};

    ask_all(admin->engine, ph_survey_answer, &survey);
    ph_metrics_write(admin->engine, &survey, &text);
    return reply(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &text);
}

static enum MHD_Result serve_http(void *owner, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **state)
{
    struct ph_admin *admin = owner;
    struct ph_buf text = {0};

    (void)version;
    (void)data;
    (void)data_size;
    (void)state;
    if (strcmp(method, "GET") != 0) {
        return reply_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
    }
    if (strcmp(url, "/metrics") == 0) {
        return serve_metrics(admin, connection);
    }
    if (strcmp(url, "/healthz") == 0 || strcmp(url, "/readyz") == 0) {
        bool healthy = ph_metrics_healthy(admin->engine, &text);

        return reply(connection, healthy ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                     "text/plain; charset=utf-8", &text);
    }
    return reply_text(connection, MHD_HTTP_NOT_FOUND, "/metrics, /healthz or /readyz\n");
}

// Some of the queue at each question, so that no worker is held up by a long one.
static enum MHD_Result serve_steer(struct ph_admin *admin, struct MHD_Connection *connection,
                                   enum ph_queue_steer_kind kind, const char *argument)
{
    struct ph_queue_steer steer = {.kind = kind};
    struct ph_buf text = {0};
    struct ph_buf ids = {0};
    bool held = false;
    int result = 0;

    if (!ph_queue_query_parse(ph_str_from(argument), &steer.query, &text)) {
        return reply(connection, MHD_HTTP_BAD_REQUEST, "text/plain; charset=utf-8", &text);
    }
    steer.ids = &ids;
    if (kind == PH_STEER_SUSPEND) {
        result = ph_holds_add(ph_engine_holds(admin->engine), &steer.query, ph_str_from(argument),
                              &held);
    } else if (kind == PH_STEER_RESUME) {
        result = ph_holds_remove(ph_engine_holds(admin->engine), &steer.query);
    }
    if (result < 0) {
        ph_buf_printf(&text, "it could not be written into SpoolDir (%s): nothing was changed",
                      strerror(-result));
        return reply(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8",
                     &text);
    }
    for (uint16_t i = 0; i < ph_engine_worker_count(admin->engine); i++) {
        steer.at = 0;
        steer.done = false;
        ask(admin->engine, i, ph_queue_steer_answer, &steer);
        while (!steer.done && !ph_engine_stopped(admin->engine)) {
            pause_a_little();
            ask(admin->engine, i, ph_queue_steer_answer, &steer);
        }
    }
    if (kind == PH_STEER_FIND) {
        return reply(connection, MHD_HTTP_OK, "text/plain; charset=utf-8", &ids);
    }
    ph_buf_printf(&text, "{\"recipients\":%llu,\"new_mail_held\":%s}",
                  (unsigned long long)steer.count, held ? "true" : "false");
    return reply(connection, MHD_HTTP_OK, "application/json", &text);
}

static enum MHD_Result serve_export(struct ph_admin *admin, struct MHD_Connection *connection,
                                    const char *argument)
{
    struct ph_queue_export *item;
    struct ph_buf text = {0};
    uint64_t id;
    int found;

    if (!ph_message_id_parse(ph_str_from(argument), &id)) {
        return reply_text(connection, MHD_HTTP_BAD_REQUEST, "that is no message's id\n");
    }
    item = ph_queue_export_create(id);
    ask_all(admin->engine, ph_queue_export_answer, item);
    while ((found = ph_queue_export_take(item, &text)) == 0 && !ph_engine_stopped(admin->engine)) {
        pause_a_little();
        ask_all(admin->engine, ph_queue_export_answer, item);
    }
    ph_queue_export_release(item);
    if (found <= 0) {
        return reply_text(connection, MHD_HTTP_NOT_FOUND, "no such message is queued\n");
    }
    return reply(connection, MHD_HTTP_OK, "message/rfc822", &text);
}

static enum MHD_Result serve_control(void *owner, struct MHD_Connection *connection,
                                     const char *url, const char *method, const char *version,
                                     const char *data, size_t *data_size, void **state)
{
    struct ph_admin *admin = owner;
    const char *argument =
        MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "argument");
    struct ph_queue_report report = {.argument = ph_str_from(argument)};
    struct ph_policy_report policy = {.argument = ph_str_from(argument)};
    struct ph_buf text = {0};
    struct ph_json json;
    enum ph_queue_steer_kind steer;
    bool of_policy;

    (void)method;
    (void)version;
    (void)data;
    (void)data_size;
    (void)state;
    if (strcmp(url, "/metrics") == 0) {
        return serve_metrics(admin, connection);
    }
    if (ph_queue_steer_kind(ph_str_from(url + 1), &steer)) {
        return serve_steer(admin, connection, steer, argument != NULL ? argument : "");
    }
    if (strcmp(url, "/content") == 0) {
        return serve_export(admin, connection, argument != NULL ? argument : "");
    }
    of_policy = ph_policy_report_kind(ph_str_from(url + 1), &policy.kind);
    if (!of_policy && !ph_queue_report_kind(ph_str_from(url + 1), &report.kind)) {
        return reply_text(connection, MHD_HTTP_NOT_FOUND, "no such request\n");
    }
    ph_json_init(&json, &text);
    report.json = &json;
    policy.json = &json;
    ph_json_open_array(&json, NULL);
    if (of_policy) {
        ask_all(admin->engine, ph_policy_report_answer, &policy);
    } else {
        ask_all(admin->engine, ph_queue_report_answer, &report);
    }
    ph_json_close_array(&json);
    return reply(connection, MHD_HTTP_OK, "application/json", &text);
}

// --- listening ---

static int listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || strlen(path) >= sizeof(address.sun_path)) {
        return fd < 0 ? -errno : -ENAMETOOLONG;
    }
    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
    (void)!unlink(path); // a predecessor's
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || chmod(path, 0600) != 0 ||
        listen(fd, 16) != 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

static struct MHD_Daemon *serve(int fd, MHD_AccessHandlerCallback handler, struct ph_admin *admin)
{
    // By poll(): with select(), which is its default, a busy daemon's descriptors have numbers too
    // high for it, and each request would be refused.
    return MHD_start_daemon(MHD_USE_POLL_INTERNAL_THREAD, 0, NULL, NULL, handler, admin,
                            MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_TIMEOUT, 10u,
                            MHD_OPTION_END);
}

struct ph_admin *ph_admin_create(struct ph_engine *engine, const struct ph_config *config,
                                 struct ph_buf *error)
{
    struct ph_admin *admin = ph_alloc(sizeof(*admin));
    struct ph_endpoint bound;
    char text[PH_ENDPOINT_TEXT_MAX];
    int fd;

    admin->engine = engine;
    if (config->http.family != PH_FAMILY_NONE) {
        fd = ph_socket_listen(&config->http, 64, &bound);
        admin->http = fd >= 0 ? serve(fd, serve_http, admin) : NULL;
        if (admin->http == NULL) {
            ph_buf_printf(error, "Admin.Http %s: %s", ph_endpoint_format(&config->http, text),
                          fd < 0 ? strerror(-fd) : "the server can't be started");
        }
    }
    if (config->control_socket.len > 0 && error->len == 0) {
        admin->control_path = ph_alloc(config->control_socket.len + 1);
        memcpy(admin->control_path, config->control_socket.data, config->control_socket.len);
        fd = listen_unix(admin->control_path);
        admin->control = fd >= 0 ? serve(fd, serve_control, admin) : NULL;
        if (admin->control == NULL) {
            ph_buf_printf(error, "Admin.ControlSocket %s: %s", admin->control_path,
                          fd < 0 ? strerror(-fd) : "the server can't be started");
        }
    }
    if (error->len > 0 && admin->http == NULL && admin->control == NULL) {
        ph_admin_destroy(admin);
        return NULL;
    }
    return admin;
}

void ph_admin_destroy(struct ph_admin *admin)
{
    if (admin == NULL) {
        return;
    }
    if (admin->http != NULL) {
        MHD_stop_daemon(admin->http);
    }
    if (admin->control != NULL) {
        MHD_stop_daemon(admin->control);
        (void)!unlink(admin->control_path);
    }
    free(admin->control_path);
    free(admin);
}
