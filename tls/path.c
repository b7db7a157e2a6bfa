// Finds a path from a leaf to a trust anchor.
#include "tls/path.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/x509v3.h>

#include "base/check.h"
#include "tls/algorithm.h"
#include "tls/asn1.h"
#include "tls/chain.h"
#include "tls/constraint.h"

// A signature that the search verified: x509 by the key of issuer.
struct edge {
    X509 *x509;
    X509 *issuer;
    bool valid;
};

struct search {
    const struct ph_path_request *request;
    struct ph_path_result *result;
    X509 *path[PH_PATH_INTERMEDIATES_LIMIT + 1]; // leaf and intermediates
    size_t len;
    struct edge edges[PH_PATH_SIGNATURES_MAX];
    bool over; // found, or nothing more is to be tried
};

static void start_at_leaf(struct search *search);
static void extend(struct search *search);
static void explain_dead_end(struct search *search);

void ph_path_search(const struct ph_path_request *request, struct ph_path_result *out_result)
{
    struct search search = {.request = request, .result = out_result};

    PH_CHECK(request->presented_count > 0);
    PH_CHECK(request->intermediates_max <= PH_PATH_INTERMEDIATES_LIMIT);
    memset(out_result, 0, sizeof(*out_result));
    search.path[0] = request->presented[0];
    search.len = 1;
    start_at_leaf(&search);
    if (!search.over) {
        extend(&search);
    }
    if (out_result->proposal_count == 0) {
        explain_dead_end(&search);
    }
    ERR_clear_error();
}

// --- The search
// -----------------------------------------------------------------------------------------

static void propose(struct search *search, const struct ph_anchor *anchor);

static void start_at_leaf(struct search *search)
{
    const struct ph_trust *trust = search->request->trust;

    for (size_t i = 0; !search->over && i < trust->anchor_count; i++) {
        if (X509_cmp(trust->anchors[i].x509, search->path[0]) == 0) {
            propose(search, &trust->anchors[i]);
        }
    }
}

static bool signature_holds(struct search *search, X509 *x509, X509 *issuer)
{
    struct ph_path_result *result = search->result;
    EVP_PKEY *key;
    bool valid;

    for (size_t i = 0; i < result->signature_count; i++) {
        if (search->edges[i].x509 == x509 && search->edges[i].issuer == issuer) {
            return search->edges[i].valid;
        }
    }
    if (result->signature_count == PH_PATH_SIGNATURES_MAX) {
        search->over = true;
        return false;
    }
    key = X509_get_pubkey(issuer);
    valid = key != NULL && X509_verify(x509, key) == 1;
    EVP_PKEY_free(key);
    search->edges[result->signature_count++] =
        (struct edge){.x509 = x509, .issuer = issuer, .valid = valid};
    return valid;
}

// While the first path may well be the right one, its signatures are verified once, with the path.
// After that, what isn't signed by its issuer is not followed any further.
static bool path_holds(struct search *search)
{
    bool holds = true;

    for (size_t i = 0; holds && search->result->proposal_count > 0 && i + 1 < search->len; i++) {
        holds = signature_holds(search, search->path[i], search->path[i + 1]);
    }
    return holds;
}

static bool is_on_path(const struct search *search, X509 *x509)
{
    bool found = false;

    for (size_t i = 0; !found && i < search->len; i++) {
        found = X509_cmp(search->path[i], x509) == 0;
    }
    return found;
}

static void follow(struct search *search, X509 *candidate)
{
    X509 *last = search->path[search->len - 1];

    if (search->over || X509_check_issued(candidate, last) != X509_V_OK ||
        is_on_path(search, candidate)) {
        return;
    }
    if (search->result->step_count == PH_PATH_STEPS_MAX) {
        search->over = true;
        return;
    }
    search->result->step_count++;
    search->path[search->len++] = candidate;
    if (path_holds(search)) {
        extend(search);
    }
    search->len--;
}

static void extend(struct search *search)
{
    const struct ph_path_request *request = search->request;
    X509 *last = search->path[search->len - 1];

    for (size_t i = 0; !search->over && i < request->trust->anchor_count; i++) {
        X509 *anchor = request->trust->anchors[i].x509;

        if (X509_check_issued(anchor, last) == X509_V_OK && !is_on_path(search, anchor) &&
            path_holds(search) &&
            (search->result->proposal_count == 0 || signature_holds(search, last, anchor))) {
            propose(search, &request->trust->anchors[i]);
        }
    }
    if (search->len > request->intermediates_max) {
        return;
    }
    for (size_t i = 1; !search->over && i < request->presented_count; i++) {
        follow(search, request->presented[i]);
    }
    for (size_t i = 0; !search->over && i < request->trust->intermediate_count; i++) {
        follow(search, request->trust->intermediates[i]);
    }
}

// --- One proposal
// ---------------------------------------------------------------------------------------

static void note_dates(struct ph_window *window, const X509 *x509)
{
    int64_t date;

    if (ph_asn1_time_to_s(X509_get0_notBefore(x509), &date)) {
        ph_window_note(window, date);
    }
    if (ph_asn1_time_to_s(X509_get0_notAfter(x509), &date)) {
        ph_window_note(window, date);
    }
}

// "its certificate", "the certificate of its issuer CN=…".
static void name_certificate(X509 *x509, size_t depth, char *out, size_t capacity)
{
    char subject[PH_CERT_TEXT_MAX];

    if (depth == 0) {
        snprintf(out, capacity, "its certificate");
    } else {
        ph_chain_format_name(X509_get_subject_name(x509), subject);
        snprintf(out, capacity, "the certificate of its issuer \"%.160s\"", subject);
    }
}

// Where several paths fail, the reason that is nearest to success is the one to tell.
static int nearness(enum ph_reason_kind kind)
{
    int rank = 1;

    if (kind == PH_REASON_CERT_REVOKED) {
        rank = 5;
    } else if (kind == PH_REASON_CERT_EXPIRED || kind == PH_REASON_CERT_NOT_YET_VALID) {
        rank = 4;
    } else if (kind == PH_REASON_CERT_WEAK) {
        rank = 3;
    } else if (kind == PH_REASON_CERT_USAGE) {
        rank = 2;
    } else if (kind == PH_REASON_NONE) {
        rank = 0;
    }
    return rank;
}

static void fail(struct search *search, enum ph_reason_kind kind, X509 *x509, size_t depth,
                 const char *what)
{
    struct ph_path_result *result = search->result;

    if (nearness(kind) > nearness(result->kind)) {
        char who[PH_CERT_TEXT_MAX];

        name_certificate(x509, depth, who, sizeof(who));
        result->kind = kind;
        snprintf(result->detail, sizeof(result->detail), "%s %s", who, what);
    }
}

static void fail_dates(struct search *search, X509 *x509, size_t depth, bool expired)
{
    const ASN1_TIME *limit = expired ? X509_get0_notAfter(x509) : X509_get0_notBefore(x509);
    char date[PH_ASN1_DATE_TEXT_MAX] = "";
    char what[64 + PH_ASN1_DATE_TEXT_MAX];
    int64_t seconds;

    if (ph_asn1_time_to_s(limit, &seconds)) {
        ph_asn1_date_format(seconds, date);
    }
    snprintf(what, sizeof(what), expired ? "expired on %s" : "is not valid before %s", date);
    fail(search, expired ? PH_REASON_CERT_EXPIRED : PH_REASON_CERT_NOT_YET_VALID, x509, depth,
         what);
}

static void fail_verification(struct search *search, X509_STORE_CTX *context)
{
    int error = X509_STORE_CTX_get_error(context);
    size_t depth = (size_t)X509_STORE_CTX_get_error_depth(context);
    X509 *x509 = X509_STORE_CTX_get_current_cert(context);
    char what[128];

    x509 = x509 != NULL ? x509 : search->path[0];
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        fail_dates(search, x509, depth, error == X509_V_ERR_CERT_HAS_EXPIRED);
        break;
    case X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY:
        fail(search, PH_REASON_CERT_WEAK, x509, depth, "has a key of an unknown or weak kind");
        break;
    default:
        snprintf(what, sizeof(what), "can't be part of the chain: %s",
                 X509_verify_cert_error_string(error));
        fail(search, PH_REASON_CERT_UNTRUSTED_ROOT, x509, depth, what);
        break;
    }
}

// Absent extensions allow everything: then all bits are set.
static const char *usage_problem(X509 *x509, size_t depth, bool client)
{
    const uint32_t tls_bits =
        X509v3_KU_DIGITAL_SIGNATURE | X509v3_KU_KEY_ENCIPHERMENT | X509v3_KU_KEY_AGREEMENT;
    const char *problem = NULL;

    uint32_t wanted = (client ? XKU_SSL_CLIENT : XKU_SSL_SERVER) | XKU_ANYEKU;

    if ((X509_get_extended_key_usage(x509) & wanted) == 0) {
        problem = client ? "is not for TLS clients (its extended key usage lacks clientAuth)"
                         : "is not for TLS servers (its extended key usage lacks serverAuth)";
    } else if (depth == 0 && (X509_get_key_usage(x509) & tls_bits) == 0) {
        problem = "is not for TLS (its key usage allows neither signing nor key exchange)";
    }
    return problem;
}

// What X509_verify_cert doesn't ask: true when the chain is strong and meant for this.
static bool policy_holds(struct search *search, const STACK_OF(X509) * chain)
{
    size_t count = sk_X509_num(chain);
    bool holds = true;

    for (size_t i = 0; holds && i < count; i++) {
        X509 *x509 = sk_X509_value(chain, i);
        bool anchor = i + 1 == count;
        const char *weakness = ph_algorithm_key_weakness(x509);
        const char *problem =
            anchor && i > 0 ? NULL : usage_problem(x509, i, search->request->trust->clients);
        char what[128];

        if (weakness == NULL && !anchor) {
            weakness = ph_algorithm_signature_weakness(x509);
        }
        if (weakness != NULL) {
            snprintf(what, sizeof(what), "has %s", weakness);
            fail(search, PH_REASON_CERT_WEAK, x509, i, what);
        } else if (problem != NULL) {
            fail(search, PH_REASON_CERT_USAGE, x509, i, problem);
        }
        holds = weakness == NULL && problem == NULL;
        if (holds && i > 0 && ph_constraint_forbids_wildcard(x509, sk_X509_value(chain, 0))) {
            fail(search, PH_REASON_CERT_UNTRUSTED_ROOT, x509, i,
                 "excludes names that a wildcard of the host's certificate stands for");
            holds = false;
        }
    }
    return holds;
}

static void describe_path(struct ph_path_result *result, X509 *const *path, size_t count)
{
    char subject[PH_CERT_TEXT_MAX];
    size_t used = 0;

    for (size_t i = 0; i < count && used < sizeof(result->chain) - 1; i++) {
        ph_chain_format_name(X509_get_subject_name(path[i]), subject);
        used += (size_t)snprintf(result->chain + used, sizeof(result->chain) - used, "%s%.100s",
                                 i > 0 ? " <- " : "", subject);
    }
}

static void append_sources(const struct ph_path_request *request, X509 *const *path, size_t count)
{
    for (size_t i = 0; i + 1 < count; i++) {
        uint8_t *der = NULL;
        int len = i2d_X509(path[i + 1], &der);

        ph_chain_append_crl_urls(path[i], request->urls);
        if (len > 0) {
            ph_buf_append_bytes(request->issuers, der, (size_t)len);
        }
        OPENSSL_free(der);
    }
}

// The chain is good but for revocation: is it to be taken?
static void judge_revocation(struct search *search, const STACK_OF(X509) * chain)
{
    struct ph_path_result *result = search->result;
    X509 *path[PH_PATH_INTERMEDIATES_LIMIT + 2];
    struct ph_revocation_question question = {
        .path = path,
        .count = sk_X509_num(chain),
        .trust = search->request->trust,
        .crls = search->request->crls,
        .staple = search->request->staple,
        .window = search->request->window,
    };
    struct ph_revocation_answer answer;

    PH_CHECK(question.count <= PH_ARRAY_LEN(path));
    for (size_t i = 0; i < question.count; i++) {
        path[i] = sk_X509_value(chain, i);
    }
    ph_revocation_check(&question, &answer);
    if (answer.status == PH_REVOCATION_REVOKED) {
        fail(search, PH_REASON_CERT_REVOKED, path[answer.worst_at], answer.worst_at, "is revoked");
        result->revocation = answer;
        // No other path helps a revoked leaf; one may lead around a revoked intermediate.
        search->over = answer.worst_at == 0;
    } else {
        result->kind = PH_REASON_NONE;
        result->detail[0] = '\0';
        result->revocation = answer;
        describe_path(result, path, question.count);
        if (search->request->urls != NULL) {
            append_sources(search->request, path, question.count);
        }
        search->over = true;
    }
}

static void propose(struct search *search, const struct ph_anchor *anchor)
{
    struct ph_window *window = search->request->window;
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    STACK_OF(X509) *untrusted = sk_X509_new_null();

    PH_CHECK(context != NULL && untrusted != NULL);
    note_dates(window, anchor->x509);
    for (size_t i = 0; i < search->len; i++) {
        note_dates(window, search->path[i]);
        PH_CHECK(i == 0 || sk_X509_push(untrusted, search->path[i]) > 0);
    }
    PH_CHECK(X509_STORE_CTX_init(context, anchor->store, search->path[0], untrusted) == 1);
    X509_STORE_CTX_set_time(context, 0, (time_t)window->now_s);
    search->result->proposal_count++;
    if (X509_verify_cert(context) != 1) {
        fail_verification(search, context);
    } else if (policy_holds(search, X509_STORE_CTX_get0_chain(context))) {
        judge_revocation(search, X509_STORE_CTX_get0_chain(context));
    }
    if (search->result->proposal_count == PH_PATH_PROPOSALS_MAX) {
        search->over = true;
    }
    X509_STORE_CTX_free(context);
    sk_X509_free(untrusted);
    ERR_clear_error();
}

// --- No path at all: why?
// -------------------------------------------------------------------------------

static bool is_self_issued(X509 *x509)
{
    return X509_NAME_cmp(X509_get_subject_name(x509), X509_get_issuer_name(x509)) == 0;
}

// The presented certificate, not yet met, whose name is the issuer's of `x509`.
static X509 *find_issuer(const struct ph_path_request *request, X509 *x509, bool *met)
{
    X509 *issuer = NULL;

    for (size_t i = 0; issuer == NULL && i < request->presented_count; i++) {
        X509 *candidate = request->presented[i];

        if (!met[i] &&
            X509_NAME_cmp(X509_get_subject_name(candidate), X509_get_issuer_name(x509)) == 0) {
            met[i] = true;
            issuer = candidate;
        }
    }
    return issuer;
}

static void explain_dead_end(struct search *search)
{
    const struct ph_path_request *request = search->request;
    struct ph_path_result *result = search->result;
    bool met[PH_CHAIN_CERTIFICATES_MAX] = {[0] = true};
    X509 *last = search->path[0];
    X509 *next = last;
    size_t depth = 0;
    char name[PH_CERT_TEXT_MAX];
    int problem = X509_V_OK;

    PH_CHECK(request->presented_count <= PH_CHAIN_CERTIFICATES_MAX);
    while (!is_self_issued(last) && next != NULL && problem == X509_V_OK) {
        next = find_issuer(request, last, met);
        if (next != NULL) {
            problem = X509_check_issued(next, last);
            last = next;
            depth++;
        }
    }
    if (problem == X509_V_ERR_KEYUSAGE_NO_CERTSIGN) {
        fail(search, PH_REASON_CERT_UNTRUSTED_ROOT, last, depth, "may not sign certificates");
    } else if (is_self_issued(last) && depth == 0) {
        fail(search, PH_REASON_CERT_SELF_SIGNED, last, depth,
             "is self-signed and no trust anchor: add it to TlsTrustAnchors to accept it");
    } else if (is_self_issued(last)) {
        fail(search, PH_REASON_CERT_UNTRUSTED_ROOT, last, depth, "is no trust anchor");
    } else {
        // Servers send all but the root: where intermediates came, what is missing is likely the
        // root; where none came, an intermediate.
        result->kind = depth == 0 ? PH_REASON_CERT_PARTIAL_CHAIN : PH_REASON_CERT_UNTRUSTED_ROOT;
        ph_chain_format_name(X509_get_issuer_name(last), name);
        snprintf(result->detail, sizeof(result->detail),
                 depth == 0 ? "its issuer \"%.160s\" was not sent and is no trust anchor: the host "
                              "must send its intermediate certificates"
                            : "its chain ends at \"%.160s\", which is no trust anchor",
                 name);
    }
}
