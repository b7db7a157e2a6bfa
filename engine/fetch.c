// The asking side of a fetch, on the world's thread: the URL is read, its host looked up, each
// address judged, each redirect again.
#include "engine/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fetch_parts.h"

static void begin_hop(struct ph_fetch_job *job);

bool ph_fetch_allows(const struct ph_cidr *allowed, size_t allowed_count,
                     const struct ph_endpoint *target)
{
    bool allows = !ph_endpoint_is_special(target);

    for (size_t i = 0; !allows && i < allowed_count; i++) {
        allows = ph_cidr_contains(&allowed[i], target);
    }
    return allows;
}

void ph_fetch_configure(struct ph_fetch_op *op, const struct ph_config *config)
{
    const struct ph_resolver_settings *settings = &config->resolver;

    op->allowed = settings->allowed_destinations;
    op->allowed_count = settings->allowed_destination_count;
    op->https_port = settings->https_port;
    op->anchors_file =
        settings->https_trust_anchors.len > 0 ? settings->https_trust_anchors.data : NULL;
}

static void end(struct ph_fetch_job *job, int64_t result)
{
    struct ph_fetch_op *op = job->op;

    op->status = job->status;
    op->http_status = job->http_status;
    memcpy(op->content_type, job->content_type, sizeof(op->content_type));
    memcpy(op->detail, job->detail, sizeof(op->detail));
    ph_buf_deinit(&op->body);
    op->body = job->body;
    ph_io_complete(job->job.sink->io, &op->op, result);
    free(job);
}

static void refuse(struct ph_fetch_job *job, enum ph_fetch_status status, const char *why)
{
    job->status = status;
    snprintf(job->detail, sizeof(job->detail), "%.100s: %s", job->host, why);
    end(job, 0);
}

// --- a URL's parts ---

static bool read_part(CURLU *parts, CURLUPart part, char *out, size_t cap)
{
    char *text = NULL;
    bool good = curl_url_get(parts, part, &text, 0) == CURLUE_OK && strlen(text) < cap;

    if (good) {
        ph_str_copy(out, cap, ph_str_from(text));
    }
    curl_free(text);
    return good;
}

static bool has_part(CURLU *parts, CURLUPart part)
{
    char *text = NULL;
    bool has = curl_url_get(parts, part, &text, 0) == CURLUE_OK;

    curl_free(text);
    return has;
}

// NULL, or what is wrong with it.
static const char *read_url(struct ph_fetch_job *job)
{
    CURLU *parts = curl_url();
    char scheme[8] = "";
    char text[PH_DNS_NAME_BYTES_MAX] = "";
    char port[8] = "";
    const char *wrong = NULL;
    uint64_t number = 0;

    if (parts == NULL || curl_url_set(parts, CURLUPART_URL, job->url, 0) != CURLUE_OK ||
        !read_part(parts, CURLUPART_HOST, text, sizeof(text))) {
        wrong = "no URL that can be read";
    } else if (!read_part(parts, CURLUPART_SCHEME, scheme, sizeof(scheme)) ||
               (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0)) {
        wrong = "only http and https are fetched";
    } else if (has_part(parts, CURLUPART_USER) || has_part(parts, CURLUPART_PASSWORD) ||
               has_part(parts, CURLUPART_ZONEID)) {
        wrong = "a URL with credentials or a zone is not fetched";
    } else {
        bool named = read_part(parts, CURLUPART_PORT, port, sizeof(port));

        job->https = strcmp(scheme, "https") == 0;
        number = job->https && job->op->https_port != 0 ? job->op->https_port
                 : job->https                           ? 443
                                                        : 80;
        if (named &&
            (!ph_str_to_u64(ph_str_from(port), &number) || number == 0 || number > UINT16_MAX)) {
            wrong = "its port is none";
        } else if (!job->https && job->op->https_only) {
            wrong = "it must be fetched by https";
        }
        job->port = (uint16_t)number;
    }
    if (text[0] == '[') { // an IPv6 address
        ph_str_copy(job->host, sizeof(job->host),
                    ph_str_first(ph_str_from(text + 1), strlen(text) - 2));
    } else {
        ph_str_copy(job->host, sizeof(job->host), ph_str_from(text));
    }
    curl_url_cleanup(parts);
    return wrong;
}

// --- its addresses ---

static void add_address(struct ph_fetch_job *job, struct ph_endpoint address)
{
    address.port = job->port;
    if (!ph_fetch_allows(job->op->allowed, job->op->allowed_count, &address)) {
        job->address_refused = true;
    } else if (job->address_count < PH_FETCH_ADDRESSES_MAX) {
        job->addresses[job->address_count++] = address;
    }
}

static void add_answer(struct ph_fetch_job *job, const struct ph_resolve_op *question)
{
    enum ph_family family = question->rrtype == PH_RRTYPE_A ? PH_FAMILY_IPV4 : PH_FAMILY_IPV6;
    size_t len = family == PH_FAMILY_IPV4 ? 4 : 16;
    struct ph_str rest = ph_buf_str(&question->rdata);

    // {u16 length, rdata}…
    while (question->status == PH_RESOLVE_OK && rest.len >= 2) {
        size_t record_len =
            (size_t)(unsigned char)rest.data[0] << 8 | (size_t)(unsigned char)rest.data[1];
        struct ph_endpoint address = {.family = family};

        rest = ph_str_after(rest, 2);
        if (record_len == len && rest.len >= len) {
            memcpy(address.bytes, rest.data, len);
            add_address(job, address);
        }
        rest = ph_str_after(rest, record_len);
    }
}

static void hand_over(struct ph_fetch_job *job)
{
    uint64_t now_ns = job->job.sink->io->now_ns;

    if (atomic_load(&job->cancelled)) {
        end(job, -ECANCELED);
    } else if (now_ns >= job->deadline_ns) {
        refuse(job, PH_FETCH_TIMEOUT, "the time for it was over");
    } else if (job->address_count == 0 && job->address_refused) {
        refuse(job, PH_FETCH_REFUSED,
               "its address is a loopback, private or special one, which a published URL may not "
               "choose; list it in Resolver.AllowedDestinations if it is yours");
    } else if (job->address_count == 0) {
        refuse(job, PH_FETCH_DNS, "no address was found");
    } else {
        job->left_ms = (job->deadline_ns - now_ns + PH_NS_PER_MS - 1) / PH_NS_PER_MS;
        if (!ph_fetch_hand_over(job->fetch, job)) {
            end(job, -ENOBUFS);
        }
    }
}

static void answered(struct ph_op *op)
{
    struct ph_fetch_job *job = op->owner;

    job->questions_open--;
    if (job->questions_open > 0) {
        return;
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(job->questions); i++) {
        if (job->questions[i].op.result == 0) {
            add_answer(job, &job->questions[i]);
        }
        ph_buf_deinit(&job->questions[i].rdata);
    }
    hand_over(job);
}

static void ask(struct ph_fetch_job *job)
{
    static const enum ph_rrtype types[] = {PH_RRTYPE_A, PH_RRTYPE_AAAA};

    _Static_assert(PH_ARRAY_LEN(types) == PH_ARRAY_LEN(job->questions), "one for each");
    job->questions_open = PH_ARRAY_LEN(types);
    for (size_t i = 0; i < PH_ARRAY_LEN(types); i++) {
        struct ph_resolve_op *question = &job->questions[i];

        *question = (struct ph_resolve_op){.rrtype = types[i]};
        ph_op_init(&question->op, answered, job);
        ph_str_copy(question->name, sizeof(question->name), ph_str_from(job->host));
        ph_io_resolve(job->job.sink->io, question);
    }
}

static void begin_hop(struct ph_fetch_job *job)
{
    const char *wrong = read_url(job);
    struct ph_endpoint literal;

    job->address_count = 0;
    job->address_refused = false;
    if (wrong != NULL) {
        refuse(job, PH_FETCH_REFUSED, wrong);
    } else if (ph_endpoint_parse_address(ph_str_from(job->host), &literal)) {
        add_address(job, literal);
        hand_over(job);
    } else {
        ask(job);
    }
}

// The thread has done what it could.
static void finish(struct ph_offload_job *offload_job)
{
    struct ph_fetch_job *job = PH_CONTAINER_OF(offload_job, struct ph_fetch_job, job);
    bool was_https = job->https;

    if (job->result == 0 && job->status == PH_FETCH_ANSWERED && job->location[0] != '\0' &&
        job->redirects_left > 0) {
        job->redirects_left--;
        ph_str_copy(job->url, sizeof(job->url), ph_str_from(job->location));
        job->location[0] = '\0';
        job->content_type[0] = '\0';
        ph_buf_deinit(&job->body);
        if (was_https && !ph_str_starts_nocase(ph_str_from(job->url), PH_STR("https:"))) {
            refuse(job, PH_FETCH_REFUSED, "it redirects from https to something else");
        } else {
            begin_hop(job);
        }
    } else {
        end(job, job->result);
    }
}

void ph_fetch_submit(struct ph_fetch *fetch, struct ph_offload_sink *sink, struct ph_fetch_op *op)
{
    struct ph_fetch_job *job;

    if (fetch == NULL || strlen(op->url) >= PH_FETCH_URL_BYTES_MAX) {
        op->status = PH_FETCH_REFUSED;
        snprintf(op->detail, sizeof(op->detail), "%s",
                 fetch == NULL ? "nothing is fetched here" : "the URL is too long");
        ph_io_complete(sink->io, &op->op, 0);
        return;
    }
    job = ph_alloc(sizeof(*job));
    job->job.finish = finish;
    job->job.sink = sink;
    job->fetch = fetch;
    job->op = op;
    job->redirects_left = op->redirects_max;
    job->deadline_ns = sink->io->now_ns + op->timeout_ms * PH_NS_PER_MS;
    ph_str_copy(job->url, sizeof(job->url), ph_str_from(op->url));
    op->op.world_object = job;
    begin_hop(job);
}

void ph_fetch_cancel(struct ph_fetch *fetch, struct ph_fetch_op *op)
{
    struct ph_fetch_job *job = op->op.world_object;

    atomic_store(&job->cancelled, true);
    ph_fetch_wake(fetch);
}
