// Is a certificate of a path revoked?
#include "tls/revocation.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/x509v3.h>

#include "tls/asn1.h"
#include "tls/ocsp.h"

#define PH_REVOCATION_CRLS_MAX 16 // of one issuer that can be gone by; ours

// One certificate's answer.
struct finding {
    enum ph_revocation status;
    char detail[PH_REVOCATION_DETAIL_MAX];
};

static struct finding check_one(const struct ph_revocation_question *question, size_t at);

// How bad: what is certain first, then what is missing.
static int badness(enum ph_revocation status)
{
    static const int order[] = {
        [PH_REVOCATION_GOOD] = 0,        [PH_REVOCATION_NOT_CHECKABLE] = 1,
        [PH_REVOCATION_NOT_CHECKED] = 2, [PH_REVOCATION_UNKNOWN] = 3,
        [PH_REVOCATION_REVOKED] = 4,
    };

    return order[status];
}

void ph_revocation_check(const struct ph_revocation_question *question,
                         struct ph_revocation_answer *out_answer)
{
    struct ph_revocation_answer answer = {.status = PH_REVOCATION_GOOD};

    for (size_t i = 0; i + 1 < question->count; i++) {
        struct finding finding = check_one(question, i);

        if (i == 0) {
            answer.leaf = finding.status;
        }
        if (i == 0 || badness(finding.status) > badness(answer.status)) {
            answer.status = finding.status;
            answer.worst_at = i;
            memcpy(answer.detail, finding.detail, sizeof(answer.detail));
        }
    }
    if (question->count < 2) {
        // The leaf itself is the trust anchor: nobody above it could revoke it.
        answer.status = PH_REVOCATION_NOT_CHECKABLE;
        answer.leaf = answer.status;
        snprintf(answer.detail, sizeof(answer.detail), "the certificate is itself a trust anchor");
    }
    ERR_clear_error();
    *out_answer = answer;
}

// --- CRLs
// -----------------------------------------------------------------------------------------------

static bool has_crl_pointer(const X509 *x509)
{
    return X509_get_ext_by_NID(x509, NID_crl_distribution_points, -1) >= 0;
}

// By their bytes: the newer BoringSSL has no comparison.
static bool name_eq(const GENERAL_NAME *a, const GENERAL_NAME *b)
{
    uint8_t *a_der = NULL;
    uint8_t *b_der = NULL;
    int a_len = i2d_GENERAL_NAME((GENERAL_NAME *)a, &a_der);
    int b_len = i2d_GENERAL_NAME((GENERAL_NAME *)b, &b_der);
    bool same = a_len > 0 && a_len == b_len && memcmp(a_der, b_der, (size_t)a_len) == 0;

    OPENSSL_free(a_der);
    OPENSSL_free(b_der);
    return same;
}

static bool names_meet(const GENERAL_NAMES *a, const GENERAL_NAMES *b)
{
    bool meet = false;

    for (size_t i = 0; !meet && i < sk_GENERAL_NAME_num(a); i++) {
        for (size_t j = 0; !meet && j < sk_GENERAL_NAME_num(b); j++) {
            meet = name_eq(sk_GENERAL_NAME_value(a, i), sk_GENERAL_NAME_value(b, j));
        }
    }
    return meet;
}

// RFC 5280 §6.3.3 (b)(2): the CRL's distribution point is one of the certificate's.
static bool point_matches(const DIST_POINT_NAME *name, X509 *x509)
{
    CRL_DIST_POINTS *points = X509_get_ext_d2i(x509, NID_crl_distribution_points, NULL, NULL);
    size_t count = points != NULL ? sk_DIST_POINT_num(points) : 0;
    bool matches = false;

    for (size_t i = 0; !matches && name->type == 0 && i < count; i++) {
        const DIST_POINT *point = sk_DIST_POINT_value(points, i);

        matches = point->distpoint != NULL && point->distpoint->type == 0 &&
                  names_meet(point->distpoint->name.fullname, name->name.fullname);
    }
    CRL_DIST_POINTS_free(points);
    return matches;
}

static const char *scope_problem(const struct ph_crl *crl, X509 *x509)
{
    const ISSUING_DIST_POINT *point = crl->distribution_point;
    const char *problem = NULL;

    if (point != NULL) {
        bool is_ca = X509_check_ca(x509) != 0;

        if ((point->onlyuser > 0 && is_ca) || (point->onlyCA > 0 && !is_ca) ||
            (point->distpoint != NULL && !point_matches(point->distpoint, x509))) {
            problem = "covers other certificates";
        }
    }
    return problem;
}

// Why this CRL of the right issuer's name can't be gone by, its dates apart; NULL: it can.
static const char *crl_problem(const struct ph_crl *crl, X509 *x509, X509 *issuer)
{
    const char *problem = crl->unusable;

    if (problem == NULL) {
        problem = scope_problem(crl, x509);
    }
    // Without the extension every bit is set.
    if (problem == NULL && (X509_get_key_usage(issuer) & X509v3_KU_CRL_SIGN) == 0) {
        problem = "comes from an issuer that may not sign CRLs";
    }
    if (problem == NULL && !ph_crl_is_signed_by(crl, issuer)) {
        problem = "is not signed by the issuer";
    }
    return problem;
}

// What the CRLs of the issuer's name say, taken together.
struct crl_search {
    const struct ph_crl *usable[PH_REVOCATION_CRLS_MAX];
    size_t usable_count;
    bool fresh;            // one that can be gone by says "not revoked"
    bool revoked_by_fresh; // one that can be gone by lists it
    bool revoked_by_stale; // one that is out of date lists it
    const char *problem;   // of one that can't be gone by
};

// Those that can be gone by; `crls` may be NULL.
static void collect(struct crl_search *found, const struct ph_crls *crls, X509 *x509, X509 *issuer,
                    struct ph_window *window)
{
    const struct ph_crl *crl;
    size_t at = 0;

    while ((crl = ph_crls_next(crls, X509_get_issuer_name(x509), &at)) != NULL) {
        const char *problem = crl_problem(crl, x509, issuer);

        if (problem == NULL) {
            ph_window_note(window, crl->this_update_s);
            ph_window_note(window, crl->next_update_s);
            if (window->now_s < crl->this_update_s) {
                problem = "is not yet valid";
            } else if (found->usable_count == PH_REVOCATION_CRLS_MAX) {
                problem = "is one of too many";
            }
        }
        if (problem != NULL) {
            found->problem = problem;
        } else {
            found->usable[found->usable_count++] = crl;
            ph_crl_note_use(crl);
        }
    }
}

// A newer list of the same scope takes its place.
static bool is_superseded(const struct crl_search *found, const struct ph_crl *crl)
{
    bool superseded = false;

    for (size_t i = 0; !superseded && i < found->usable_count; i++) {
        superseded = found->usable[i]->this_update_s > crl->this_update_s &&
                     ph_str_eq(found->usable[i]->scope, crl->scope);
    }
    return superseded;
}

static void look_into(struct crl_search *found, X509 *x509, const struct ph_window *window)
{
    for (size_t i = 0; i < found->usable_count; i++) {
        const struct ph_crl *crl = found->usable[i];
        bool listed = !is_superseded(found, crl) && ph_crl_lists(crl, x509);

        if (window->now_s >= crl->next_update_s) {
            found->problem = "is out of date";
            found->revoked_by_stale = found->revoked_by_stale || listed;
        } else if (listed) {
            found->revoked_by_fresh = true;
        } else {
            found->fresh = true;
        }
    }
}

static void find_text(struct finding *finding, const char *who, const char *text)
{
    snprintf(finding->detail, sizeof(finding->detail), "%s: %s", who, text);
}

static struct finding check_crls(const struct ph_revocation_question *question, size_t at,
                                 const char *who)
{
    X509 *x509 = question->path[at];
    struct crl_search found = {.fresh = false};
    struct finding finding = {.status = PH_REVOCATION_GOOD};

    collect(&found, question->trust->crls, x509, question->path[at + 1], question->window);
    if (question->trust->revocation_source) {
        ph_crl_issuers_add(&question->window->issuers,
                           (uint32_t)X509_NAME_hash(X509_get_issuer_name(x509)));
        collect(&found, question->crls, x509, question->path[at + 1], question->window);
    }
    look_into(&found, x509, question->window);
    // A list that was once signed and names it still says more than nothing, unless a newer one
    // took the entry back (certificateHold).
    if (found.revoked_by_fresh || (found.revoked_by_stale && !found.fresh)) {
        finding.status = PH_REVOCATION_REVOKED;
        find_text(&finding, who, "is on its issuer's CRL");
    } else if (found.fresh) {
        find_text(&finding, who, "is not on its issuer's CRL");
    } else if (found.problem != NULL) {
        finding.status = PH_REVOCATION_UNKNOWN;
        snprintf(finding.detail, sizeof(finding.detail), "%s: its issuer's CRL %s", who,
                 found.problem);
    } else if (!question->trust->revocation_source) {
        finding.status = PH_REVOCATION_NOT_CHECKED;
        find_text(&finding, who, "no source of revocation is configured");
    } else if (has_crl_pointer(x509)) {
        finding.status = PH_REVOCATION_UNKNOWN;
        find_text(&finding, who, "no CRL of its issuer is at hand");
    } else {
        finding.status = PH_REVOCATION_NOT_CHECKABLE;
        find_text(&finding, who, "it names no CRL");
    }
    return finding;
}

static struct finding check_one(const struct ph_revocation_question *question, size_t at)
{
    static const char *const who[] = {"the certificate", "an issuer's certificate"};
    struct finding finding = {.status = PH_REVOCATION_UNKNOWN};
    bool stapled = at == 0 && question->staple.len > 0;
    const char *problem = NULL;

    if (stapled) {
        enum ph_ocsp_status status = ph_ocsp_check(question->staple, question->path[0],
                                                   question->path[1], question->window, &problem);

        if (status == PH_OCSP_GOOD) {
            // A staple lives for days: a CRL at hand that lists the certificate is not outweighed.
            finding = check_crls(question, at, who[0]);
            if (finding.status != PH_REVOCATION_REVOKED) {
                finding.status = PH_REVOCATION_GOOD;
                find_text(&finding, who[0], "a stapled OCSP response says good");
            }
            return finding;
        }
        if (status == PH_OCSP_REVOKED) {
            finding.status = PH_REVOCATION_REVOKED;
            find_text(&finding, who[0], "a stapled OCSP response says revoked");
            return finding;
        }
    }
    finding = check_crls(question, at, who[at > 0 ? 1 : 0]);
    // A staple that can't be gone by is an answer that was expected and didn't come.
    if (stapled && finding.status != PH_REVOCATION_GOOD &&
        finding.status != PH_REVOCATION_REVOKED && question->trust->revocation_source) {
        finding.status = PH_REVOCATION_UNKNOWN;
        snprintf(finding.detail, sizeof(finding.detail), "%s: the stapled OCSP response %s", who[0],
                 problem);
    }
    return finding;
}
