// The fetching side: libcurl's transfers on one thread. Each is pinned to addresses that were
// judged; equal ones share an exchange.
#include "engine/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/thread.h"
#include "engine/fetch_parts.h"
#include "engine/socket_parts.h"

#define PH_FETCH_CONNECT_TIMEOUT_MS 10000L // of one host's addresses together; ours
#define PH_FETCH_NAP_MS 1000               // libcurl wakes earlier for its own sake
#define PH_FETCH_DNS_CACHE_S 1L            // pinned addresses are given anew to each transfer

struct transfer {
    struct ph_fetch *fetch;
    CURL *easy;
    struct curl_slist *resolve;
    struct curl_slist *connect_to;
    struct curl_slist *headers;
    struct ph_offload_job_list askers;
    // What makes it equal to another: copies, as the first asker may leave before the last.
    char *url;
    char *anchors_file; // NULL: the system's
    struct ph_cidr *allowed;
    size_t allowed_count;
    uint16_t port;
    bool post;
    size_t bytes_max;
    struct ph_buf body;
    bool too_large;
    bool refused;
    char error[CURL_ERROR_SIZE];
    TAILQ_ENTRY(transfer) link;
};

struct ph_fetch {
    pthread_t thread;
    CURLM *multi;
    pthread_mutex_t lock;
    struct ph_offload_job_list asked; // to the thread; under the lock
    unsigned waiting;                 // under the lock: handed over and not yet given back
    bool ending;                      // under the lock
    TAILQ_HEAD(, transfer) transfers; // the thread's own
};

static void *serve(void *argument);

struct ph_fetch *ph_fetch_create(void)
{
    struct ph_fetch *fetch = ph_alloc(sizeof(*fetch));

    PH_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    STAILQ_INIT(&fetch->asked);
    TAILQ_INIT(&fetch->transfers);
    pthread_mutex_init(&fetch->lock, NULL);
    fetch->multi = curl_multi_init();
    PH_CHECK(fetch->multi != NULL);
    curl_multi_setopt(fetch->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)PH_FETCH_CONNECTIONS_MAX);
    curl_multi_setopt(fetch->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
                      (long)PH_FETCH_HOST_CONNECTIONS_MAX);
    ph_thread_start(&fetch->thread, serve, fetch);
    return fetch;
}

void ph_fetch_destroy(struct ph_fetch *fetch)
{
    if (fetch == NULL) {
        return;
    }
    pthread_mutex_lock(&fetch->lock);
    fetch->ending = true;
    pthread_mutex_unlock(&fetch->lock);
    ph_fetch_wake(fetch);
    pthread_join(fetch->thread, NULL);
    PH_CHECK(fetch->waiting == 0);
    curl_multi_cleanup(fetch->multi);
    pthread_mutex_destroy(&fetch->lock);
    free(fetch);
}

void ph_fetch_wake(struct ph_fetch *fetch)
{
    curl_multi_wakeup(fetch->multi);
}

bool ph_fetch_hand_over(struct ph_fetch *fetch, struct ph_fetch_job *job)
{
    bool full;

    pthread_mutex_lock(&fetch->lock);
    full = fetch->waiting >= PH_FETCH_WAITING_MAX;
    if (!full) {
        fetch->waiting++;
        STAILQ_INSERT_TAIL(&fetch->asked, &job->job, link);
    }
    pthread_mutex_unlock(&fetch->lock);
    if (!full) {
        ph_fetch_wake(fetch);
    }
    return !full;
}

static struct ph_fetch_job *job_of(struct ph_offload_job *job)
{
    return PH_CONTAINER_OF(job, struct ph_fetch_job, job);
}

// --- what libcurl calls ---

static size_t take_body(char *data, size_t size, size_t count, void *owner)
{
    struct transfer *t = owner;
    size_t len = size * count;

    if (len > t->bytes_max - t->body.len) {
        t->too_large = true;
        return 0;
    }
    return ph_buf_append_bytes(&t->body, data, len) ? len : 0;
}

// The address that is really connected to is judged here, whatever a lookup has said.
static curl_socket_t open_socket(void *owner, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *t = owner;
    union ph_socket_address target = {0};
    struct ph_endpoint endpoint;

    if (purpose != CURLSOCKTYPE_IPCXN || address->addrlen > sizeof(target)) {
        return CURL_SOCKET_BAD;
    }
    memcpy(&target, &address->addr, address->addrlen);
    endpoint = ph_socket_address_endpoint(&target);
    if (!ph_fetch_allows(t->allowed, t->allowed_count, &endpoint)) {
        t->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// --- transfers ---

static bool equal_texts(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool could_share(const struct transfer *t, const struct ph_fetch_job *job)
{
    const struct ph_fetch_op *op = job->op;

    return !t->post && op->post.len == 0 && strcmp(t->url, job->url) == 0 && t->port == job->port &&
           t->bytes_max == op->bytes_max && equal_texts(t->anchors_file, op->anchors_file) &&
           t->allowed_count == op->allowed_count &&
           memcmp(t->allowed, op->allowed, op->allowed_count * sizeof(*op->allowed)) == 0;
}

static void give_back(struct ph_fetch *fetch, struct ph_fetch_job *job)
{
    pthread_mutex_lock(&fetch->lock);
    fetch->waiting--;
    pthread_mutex_unlock(&fetch->lock);
    ph_offload_sink_put(job->job.sink, &job->job);
}

static void destroy_transfer(struct transfer *t)
{
    TAILQ_REMOVE(&t->fetch->transfers, t, link);
    curl_multi_remove_handle(t->fetch->multi, t->easy);
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->resolve);
    curl_slist_free_all(t->connect_to);
    curl_slist_free_all(t->headers);
    ph_buf_deinit(&t->body);
    free(t->allowed);
    free(t->anchors_file);
    free(t->url);
    free(t);
}

// "+host:port:address,address": libcurl looks nothing up itself.
static void pin_addresses(struct transfer *t, const struct ph_fetch_job *job)
{
    struct ph_buf entry = {0};
    char address[PH_ENDPOINT_TEXT_MAX];

    ph_buf_printf(&entry, "+%s:%u:", job->host, job->port);
    for (size_t i = 0; i < job->address_count; i++) {
        bool v6 = job->addresses[i].family == PH_FAMILY_IPV6;

        ph_endpoint_format_address(&job->addresses[i], address);
        ph_buf_printf(&entry, v6 ? "%s[%s]" : "%s%s", i > 0 ? "," : "", address);
    }
    t->resolve = curl_slist_append(NULL, ph_buf_cstr(&entry));
    ph_buf_clear(&entry);
    ph_buf_printf(&entry, ":::%u", job->port); // the port alone: see ph_fetch_op.https_port
    t->connect_to = curl_slist_append(NULL, ph_buf_cstr(&entry));
    PH_CHECK(t->resolve != NULL && t->connect_to != NULL);
    ph_buf_deinit(&entry);
}

static void set_post(struct transfer *t, const struct ph_fetch_op *op)
{
    struct ph_buf header = {0};

    ph_buf_printf(&header, "Content-Type: %s",
                  op->post_type != NULL ? op->post_type : "application/octet-stream");
    t->headers = curl_slist_append(NULL, ph_buf_cstr(&header));
    t->headers = curl_slist_append(t->headers, "Expect:"); // a body is small: no second round trip
    PH_CHECK(t->headers != NULL);
    ph_buf_deinit(&header);
    curl_easy_setopt(t->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)op->post.len);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, op->post.data);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
}

static void set_options(struct transfer *t, const struct ph_fetch_job *job)
{
    CURL *easy = t->easy;

    curl_easy_setopt(easy, CURLOPT_URL, t->url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->error);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, job->op->https_only ? "https" : "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); // whatever the environment says
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "posthaste");
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (t->anchors_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, t->anchors_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)job->left_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, PH_FETCH_CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)t->bytes_max);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, PH_FETCH_DNS_CACHE_S);
    curl_easy_setopt(easy, CURLOPT_RESOLVE, t->resolve);
    curl_easy_setopt(easy, CURLOPT_CONNECT_TO, t->connect_to);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    if (t->post) {
        set_post(t, job->op);
    }
}

static void start(struct ph_fetch *fetch, struct ph_fetch_job *job)
{
    const struct ph_fetch_op *op = job->op;
    struct transfer *t;

    TAILQ_FOREACH(t, &fetch->transfers, link)
    {
        if (could_share(t, job)) {
            STAILQ_INSERT_TAIL(&t->askers, &job->job, link);
            return;
        }
    }
    t = ph_alloc(sizeof(*t));
    t->fetch = fetch;
    t->easy = curl_easy_init();
    PH_CHECK(t->easy != NULL);
    STAILQ_INIT(&t->askers);
    STAILQ_INSERT_TAIL(&t->askers, &job->job, link);
    TAILQ_INSERT_TAIL(&fetch->transfers, t, link);
    t->url = ph_strdup(job->url);
    t->anchors_file = op->anchors_file != NULL ? ph_strdup(op->anchors_file) : NULL;
    t->allowed_count = op->allowed_count;
    t->allowed = ph_alloc((op->allowed_count + 1) * sizeof(*t->allowed));
    if (op->allowed_count > 0) {
        memcpy(t->allowed, op->allowed, op->allowed_count * sizeof(*t->allowed));
    }
    t->port = job->port;
    t->post = op->post.len > 0;
    t->bytes_max = op->bytes_max;
    ph_buf_init(&t->body, PH_BUF_BYTES_MAX);
    pin_addresses(t, job);
    set_options(t, job);
    PH_CHECK(curl_multi_add_handle(fetch->multi, t->easy) == CURLM_OK);
}

static enum ph_fetch_status status_of(const struct transfer *t, CURLcode code)
{
    if (t->too_large || code == CURLE_FILESIZE_EXCEEDED) {
        return PH_FETCH_TOO_LARGE;
    }
    if (t->refused) {
        return PH_FETCH_REFUSED;
    }
    if (code == CURLE_OK) {
        return PH_FETCH_ANSWERED;
    }
    if (code == CURLE_OPERATION_TIMEDOUT) {
        return PH_FETCH_TIMEOUT;
    }
    if (code == CURLE_SSL_CONNECT_ERROR || code == CURLE_PEER_FAILED_VERIFICATION ||
        code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_ISSUER_ERROR) {
        return PH_FETCH_TLS;
    }
    return PH_FETCH_UNREACHABLE;
}

static void describe(const struct transfer *t, CURLcode code, struct ph_fetch_job *job)
{
    if (job->status == PH_FETCH_TOO_LARGE) {
        snprintf(job->detail, sizeof(job->detail), "%.100s: more than %zu bytes", job->host,
                 t->bytes_max);
    } else if (job->status == PH_FETCH_REFUSED) {
        snprintf(job->detail, sizeof(job->detail), "%.100s: an address that is not allowed",
                 job->host);
    } else if (job->status != PH_FETCH_ANSWERED) {
        ph_str_copy(job->detail, sizeof(job->detail),
                    ph_str_from(t->error[0] != '\0' ? t->error : curl_easy_strerror(code)));
    }
}

static void tell(const struct transfer *t, CURLcode code, struct ph_fetch_job *job)
{
    const char *text = NULL;
    long http_status = 0;

    job->status = status_of(t, code);
    describe(t, code, job);
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &http_status);
    job->http_status = (unsigned)http_status;
    if (curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &text) == CURLE_OK && text != NULL) {
        ph_str_copy(job->content_type, sizeof(job->content_type), ph_str_from(text));
    }
    text = NULL;
    if (!t->post && curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &text) == CURLE_OK &&
        text != NULL && strlen(text) < sizeof(job->location)) {
        ph_str_copy(job->location, sizeof(job->location), ph_str_from(text));
    }
    ph_buf_init(&job->body, PH_BUF_BYTES_MAX);
    if (job->status == PH_FETCH_ANSWERED) {
        ph_buf_append(&job->body, ph_buf_str(&t->body));
    }
}

static void end_transfer(struct transfer *t, CURLcode code)
{
    struct ph_offload_job *asker;

    while ((asker = STAILQ_FIRST(&t->askers)) != NULL) {
        struct ph_fetch_job *job = job_of(asker);

        STAILQ_REMOVE_HEAD(&t->askers, link);
        tell(t, code, job);
        give_back(t->fetch, job);
    }
    destroy_transfer(t);
}

// Cancelled askers leave; a transfer without one ends.
static void let_go(struct ph_fetch *fetch)
{
    struct transfer *t;
    struct transfer *next;

    for (t = TAILQ_FIRST(&fetch->transfers); t != NULL; t = next) {
        struct ph_offload_job_list staying = STAILQ_HEAD_INITIALIZER(staying);
        struct ph_offload_job_list leaving = STAILQ_HEAD_INITIALIZER(leaving);
        struct ph_offload_job *asker;

        next = TAILQ_NEXT(t, link);
        while ((asker = STAILQ_FIRST(&t->askers)) != NULL) {
            STAILQ_REMOVE_HEAD(&t->askers, link);
            if (atomic_load(&job_of(asker)->cancelled)) {
                STAILQ_INSERT_TAIL(&leaving, asker, link);
            } else {
                STAILQ_INSERT_TAIL(&staying, asker, link);
            }
        }
        STAILQ_CONCAT(&t->askers, &staying);
        // Before they leave: what the transfer borrows is theirs.
        if (STAILQ_EMPTY(&t->askers)) {
            destroy_transfer(t);
        }
        while ((asker = STAILQ_FIRST(&leaving)) != NULL) {
            STAILQ_REMOVE_HEAD(&leaving, link);
            job_of(asker)->result = -ECANCELED;
            give_back(fetch, job_of(asker));
        }
    }
}

static bool take_asked(struct ph_fetch *fetch)
{
    struct ph_offload_job_list fresh = STAILQ_HEAD_INITIALIZER(fresh);
    struct ph_offload_job *asked;
    bool ending;

    pthread_mutex_lock(&fetch->lock);
    STAILQ_CONCAT(&fresh, &fetch->asked);
    ending = fetch->ending;
    pthread_mutex_unlock(&fetch->lock);
    while ((asked = STAILQ_FIRST(&fresh)) != NULL) {
        STAILQ_REMOVE_HEAD(&fresh, link);
        start(fetch, job_of(asked));
    }
    return !ending;
}

static void *serve(void *argument)
{
    struct ph_fetch *fetch = argument;

    while (take_asked(fetch)) {
        CURLMsg *message;
        int left;

        let_go(fetch);
        curl_multi_perform(fetch->multi, &left);
        while ((message = curl_multi_info_read(fetch->multi, &left)) != NULL) {
            struct transfer *t = NULL;
            CURLcode code = message->data.result;

            PH_CHECK(message->msg == CURLMSG_DONE);
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &t);
            end_transfer(t, code);
        }
        curl_multi_poll(fetch->multi, NULL, 0, PH_FETCH_NAP_MS, NULL);
    }
    return NULL;
}
