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
} known[] = {
    {"X25519MLKEM768", 0x11ec}, {"X25519", 0x001d}, {"P-256", 0x0017},
    {"P-384", 0x0018},          {"P-521", 0x0019},
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

static void append_groups(struct ph_str groups, bool optional_ones, char *list, size_t capacity)
{
    struct ph_str name;
    bool optional;

    while (cut_group(&groups, &name, &optional)) {
        int at = find(name);
        size_t used = strlen(list);

        if (optional == optional_ones && at >= 0 && available[at]) {
            snprintf(list + used, capacity - used, "%s%s", used > 0 ? ":" : "", known[at].name);
        }
    }
}

void ph_groups_apply(SSL *ssl, struct ph_str groups)
{
    char list[PH_GROUPS_TEXT_MAX] = "";

    pthread_once(&probed, probe);
    groups = groups.len > 0 ? groups : PH_STR(PH_TLS_GROUPS_DEFAULT);
    append_groups(groups, false, list, sizeof(list));
    append_groups(groups, true, list, sizeof(list));
    PH_CHECK(SSL_set1_curves_list(ssl, list) == 1);
#if PH_GROUPS_KEY_SHARES_SETTABLE
    {
        // The first of the list, as the older library does by itself.
        struct ph_str rest = ph_str_from(list);
        struct ph_str first;

        PH_CHECK(ph_str_cut(&rest, ':', &first));
        PH_CHECK(SSL_set1_client_key_shares(ssl, &known[find(first)].id, 1) == 1);
    }
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
