// TlsGroups.
#include "tls/groups.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "tls/session.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#define PH_GROUPS_TEXT_MAX 128 // bytes with NUL, of all groups together

static const struct {
    const char *name;
    uint16_t id; // IANA, TLS Supported Groups
    bool large;  // with its key share a ClientHello is longer than a segment
} known[] = {
    {"X25519MLKEM768", 0x11ec, true}, {"X25519", 0x001d, false}, {"P-256", 0x0017, false},
    {"P-384", 0x0018, false},         {"P-521", 0x0019, false},
};

// Which of them the library that was linked has: the older one lacks the post-quantum group.
static bool available[PH_ARRAY_LEN(known)];
static pthread_once_t probed = PTHREAD_ONCE_INIT;

static void probe(void)
{
    SSL_CTX *scratch = SSL_CTX_new(TLS_with_buffers_method());

    PH_CHECK(scratch != NULL);
    for (size_t i = 0; i < PH_ARRAY_LEN(known); i++) {
        available[i] = SSL_CTX_set1_curves_list(scratch, known[i].name) == 1;
    }
    ERR_clear_error();
    SSL_CTX_free(scratch);
}

// The index in `known`, or -1.
static int find(struct ph_str name)
{
    int found = -1;

    for (size_t i = 0; found < 0 && i < PH_ARRAY_LEN(known); i++) {
        if (ph_str_eq_nocase(name, ph_str_from(known[i].name))) {
            found = (int)i;
        }
    }
    return found;
}

// Cuts one group off the front; its '?' goes into `out_optional`.
static bool cut_group(struct ph_str *groups, struct ph_str *out_name, bool *out_optional)
{
    if (!ph_str_cut(groups, ':', out_name)) {
        return false;
    }
    *out_name = ph_str_trim(*out_name);
    *out_optional = ph_str_starts(*out_name, PH_STR("?"));
    if (*out_optional) {
        *out_name = ph_str_after(*out_name, 1);
    }
    return true;
}

bool ph_tls_groups_valid(struct ph_str groups, struct ph_buf *error)
{
    unsigned used = 0;
    struct ph_str name;
    bool optional;
    bool any = false;

    pthread_once(&probed, probe);
    while (cut_group(&groups, &name, &optional)) {
        int at = find(name);

        if (at < 0) {
            ph_buf_printf(error,
                          "unknown group \"%.*s\"; known are X25519MLKEM768, X25519, P-256, "
                          "P-384 and P-521",
                          PH_STR_ARG(name));
            return false;
        }
        if ((used & (1u << at)) != 0) {
            ph_buf_printf(error, "group %s is there twice", known[at].name);
            return false;
        }
        if (!available[at] && !optional) {
            ph_buf_printf(error,
                          "this build of BoringSSL has no %s; write ?%s to go on without it, or "
                          "build with a newer one (BORINGSSL_ROOT)",
                          known[at].name, known[at].name);
            return false;
        }
        used |= 1u << at;
        any = any || available[at];
    }
    if (!any) {
        ph_buf_printf(error, "no group is left: write for example %s", PH_TLS_GROUPS_DEFAULT);
    }
    return any;
}

bool ph_tls_groups_requirable(struct ph_str groups, struct ph_buf *error)
{
    struct ph_str rest = groups;
    struct ph_str name;
    bool optional;

    pthread_once(&probed, probe);
    while (cut_group(&rest, &name, &optional)) {
        int at = find(name);

        if (optional) {
            ph_buf_printf(error, "\"?%.*s\": what is demanded can't be optional", PH_STR_ARG(name));
            return false;
        }
        if (at >= 0 && !available[at]) {
            ph_buf_printf(error,
                          "this build of BoringSSL has no %s: build with a newer one "
                          "(BORINGSSL_ROOT), or don't demand it",
                          known[at].name);
            return false;
        }
    }
    return ph_tls_groups_valid(groups, error);
}

// The newer library sends key shares for what it is told; the older one for the first of its list.
#define PH_GROUPS_KEY_SHARES_SETTABLE (BORINGSSL_API_VERSION >= 37)

struct offer {
    size_t count;
    size_t at[PH_ARRAY_LEN(known)]; // in `known`, as they were written
    bool optional[PH_ARRAY_LEN(known)];
};

// What this library has of `groups`; `small`: without those whose key share is large, where any
// other is left.
static struct offer read_offer(struct ph_str groups, bool small)
{
    struct offer offer = {0};
    struct ph_str rest = groups.len > 0 ? groups : PH_STR(PH_TLS_GROUPS_DEFAULT);
    struct ph_str name;
    bool optional;

    pthread_once(&probed, probe);
    small = small && ph_tls_groups_shrinkable(groups);
    while (cut_group(&rest, &name, &optional)) {
        int at = find(name);

        if (at >= 0 && available[at] && !(small && known[at].large)) {
            offer.at[offer.count] = (size_t)at;
            offer.optional[offer.count++] = optional;
        }
    }
    PH_CHECK(offer.count > 0);
    return offer;
}

bool ph_tls_groups_shrinkable(struct ph_str groups)
{
    struct ph_str rest = groups.len > 0 ? groups : PH_STR(PH_TLS_GROUPS_DEFAULT);
    struct ph_str name;
    bool optional;
    unsigned large = 0;
    unsigned others = 0;

    pthread_once(&probed, probe);
    while (cut_group(&rest, &name, &optional)) {
        int at = find(name);

        if (at >= 0 && available[at]) {
            large += known[at].large;
            others += !known[at].large;
        }
    }
    return large > 0 && others > 0;
}

void ph_tls_groups_describe(struct ph_str groups, struct ph_buf *out)
{
    struct offer offer = read_offer(groups, false);

    for (size_t i = 0; i < offer.count; i++) {
        ph_buf_printf(out, "%s%s%s", i > 0 ? ", " : "", known[offer.at[i]].name,
                      offer.optional[i] && known[offer.at[i]].large
                          ? " (its key share to hosts that ask for it)"
                          : "");
    }
}

static void append_name(char list[PH_GROUPS_TEXT_MAX], const char *name)
{
    size_t used = strlen(list);

    snprintf(list + used, PH_GROUPS_TEXT_MAX - used, "%s%s", used > 0 ? ":" : "", name);
}

#if PH_GROUPS_KEY_SHARES_SETTABLE
// The host's own choice where it is known. Else the first that isn't optional; behind a large one
// the first small one too, for hosts that lack the large one. Where all are optional: a small one.
static void set_key_shares(SSL *ssl, const struct offer *offer, uint16_t key_share)
{
    uint16_t ids[2];
    size_t count = 0;

    for (size_t i = 0; i < offer->count; i++) {
        if (known[offer->at[i]].id == key_share) {
            ids[0] = key_share;
            count = 1;
        }
    }
    for (size_t pass = 0; pass < 2 && count == 0; pass++) {
        bool settled = false;

        for (size_t i = 0; i < offer->count && !settled; i++) {
            bool large = known[offer->at[i]].large;

            if (pass == 0 ? !offer->optional[i] && (count == 0 || !large) : !large) {
                ids[count++] = known[offer->at[i]].id;
                settled = !large;
            }
        }
    }
    if (count == 0) {
        ids[count++] = known[offer->at[0]].id;
    }
    PH_CHECK(SSL_set1_client_key_shares(ssl, ids, count) == 1);
}
#endif

void ph_groups_apply(SSL *ssl, struct ph_str groups, uint16_t key_share, bool small)
{
    struct offer offer = read_offer(groups, small);
    char list[PH_GROUPS_TEXT_MAX] = "";

#if PH_GROUPS_KEY_SHARES_SETTABLE
    for (size_t i = 0; i < offer.count; i++) {
        append_name(list, known[offer.at[i]].name);
    }
    PH_CHECK(SSL_set1_curves_list(ssl, list) == 1);
    set_key_shares(ssl, &offer, key_share);
#else
    (void)key_share;
    for (int optional = 0; optional < 2; optional++) {
        for (size_t i = 0; i < offer.count; i++) {
            if (offer.optional[i] == (optional == 1)) {
                append_name(list, known[offer.at[i]].name);
            }
        }
    }
    PH_CHECK(SSL_set1_curves_list(ssl, list) == 1);
#endif
}

const char *ph_groups_name(uint16_t group_id)
{
    const char *name = "";

    for (size_t i = 0; i < PH_ARRAY_LEN(known); i++) {
        if (known[i].id == group_id) {
            name = known[i].name;
        }
    }
    return name;
}
