// TlsGroups: what stands in the ClientHello, byte by byte, with and without a library that has the
// post-quantum group.
#include "tls/groups.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tls/session.h"

#define KEM 0x11ec
#define X25519 0x001d
#define P256 0x0017
#define P384 0x0018

static uint64_t now_s(void *owner)
{
    (void)owner;
    return 1790000000;
}

static bool has_kem(void)
{
    struct ph_buf error = {0};
    bool has = ph_tls_groups_valid(PH_STR("X25519MLKEM768"), &error);

    ph_buf_deinit(&error);
    return has;
}

struct hello {
    size_t bytes;
    char groups[64]; // "11ec 001d"
    char shares[64];
};

static uint16_t number_at(struct ph_str bytes, size_t at)
{
    cr_assert(at + 2 <= bytes.len);
    return (uint16_t)((uint8_t)bytes.data[at] << 8 | (uint8_t)bytes.data[at + 1]);
}

static void add(char *list, size_t capacity, uint16_t id)
{
    size_t used = strlen(list);

    snprintf(list + used, capacity - used, "%s%04x", used > 0 ? " " : "", id);
}

// RFC 8446 §4.1.2, §4.2.7, §4.2.8.
static void read_hello(struct ph_str in, struct hello *out)
{
    size_t at = 5 + 4 + 2 + 32; // record, message, version, random
    size_t end;

    *out = (struct hello){.bytes = in.len};
    at += 1 + (uint8_t)in.data[at]; // session id
    at += 2 + number_at(in, at);    // ciphers
    at += 1 + (uint8_t)in.data[at]; // compression
    end = at + 2 + number_at(in, at);
    cr_assert_eq(end, in.len);
    for (at += 2; at < end;) {
        uint16_t type = number_at(in, at);
        size_t next = at + 4 + number_at(in, at + 2);

        if (type == 10) {
            for (size_t i = at + 6; i < next; i += 2) {
                add(out->groups, sizeof(out->groups), number_at(in, i));
            }
        } else if (type == 51) {
            for (size_t i = at + 6; i < next; i += (size_t)4 + number_at(in, i + 2)) {
                add(out->shares, sizeof(out->shares), number_at(in, i));
            }
        }
        at = next;
    }
}

static void say_hello(const char *groups, uint16_t key_share, bool small, struct hello *out)
{
    struct ph_tls_context *context =
        ph_tls_context_create(&(struct ph_tls_context_options){.now_s = now_s});
    struct ph_tls_session *session =
        ph_tls_session_connect(context, &(struct ph_tls_client_options){
                                            .session_id = 1,
                                            .sni = PH_STR("mx1.mail.protection.contoso.com"),
                                            .groups = ph_str_from(groups),
                                            .key_share = key_share,
                                            .small_hello = small,
                                        });

    cr_assert_eq(ph_tls_session_unanswered_hello(session), 0);
    cr_assert_eq(ph_tls_session_handshake(session), PH_TLS_MORE);
    read_hello(ph_buf_str(ph_tls_session_output(session)), out);
    cr_assert_eq(ph_tls_session_unanswered_hello(session), out->bytes);
    ph_tls_session_destroy(session);
    ph_tls_context_destroy(context);
}

struct row {
    const char *groups;
    uint16_t key_share;
    bool small;
    const char *offered;
    const char *shares;
};

static void check(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct hello hello;
        bool large;

        say_hello(rows[i].groups, rows[i].key_share, rows[i].small, &hello);
        cr_expect_str_eq(hello.groups, rows[i].offered, "row %zu: %s", i, hello.groups);
        cr_expect_str_eq(hello.shares, rows[i].shares, "row %zu: %s", i, hello.shares);
        large = strncmp(hello.shares, "11ec", 4) == 0;
        cr_expect_eq(hello.bytes > PH_TLS_HELLO_BYTES, large, "row %zu: %zu bytes", i, hello.bytes);
    }
}

Test(groups, what_a_hello_offers)
{
    static const struct row with[] = {
        // By default the first flight fits a segment, and a host that wants more asks for it …
        {"", 0, false, "11ec 001d 0017", "001d"},
        {"?X25519MLKEM768:X25519:P-256", 0, false, "11ec 001d 0017", "001d"},
        {"?X25519MLKEM768:P-256", 0, false, "11ec 0017", "0017"},
        // … and is known to from then on.
        {"", KEM, false, "11ec 001d 0017", "11ec"},
        {"", P256, false, "11ec 001d 0017", "0017"},
        {"", P384, false, "11ec 001d 0017", "001d"}, // not offered any more
        // Without the '?' at once, with a small one for hosts that lack it.
        {"X25519MLKEM768:X25519", 0, false, "11ec 001d", "11ec 001d"},
        {"X25519:X25519MLKEM768", 0, false, "001d 11ec", "001d"},
        {"X25519MLKEM768:?X25519", 0, false, "11ec 001d", "11ec"},
        {"X25519MLKEM768", 0, false, "11ec", "11ec"},
        {"?X25519MLKEM768", 0, false, "11ec", "11ec"},
        {"?X25519MLKEM768:?P-384:?P-256", 0, false, "11ec 0018 0017", "0018"},
        // A host that takes no long one.
        {"", 0, true, "001d 0017", "001d"},
        {"", KEM, true, "001d 0017", "001d"},
        {"", P256, true, "001d 0017", "0017"},
        {"X25519MLKEM768:P-256", 0, true, "0017", "0017"},
        {"X25519MLKEM768", 0, true, "11ec", "11ec"}, // there is no other
    };
    static const struct row without[] = {
        {"", 0, false, "001d 0017", "001d"},
        {"?X25519MLKEM768:P-256", 0, false, "0017", "0017"},
        {"?X25519:P-256", 0, false, "0017 001d", "0017"},
        {"", KEM, false, "001d 0017", "001d"},
        {"P-384:X25519", 0, false, "0018 001d", "0018"},
        {"", 0, true, "001d 0017", "001d"},
    };

    if (has_kem()) {
        printf("groups: this library has X25519MLKEM768\n");
        check(with, PH_ARRAY_LEN(with));
    } else {
        printf("groups: this library lacks X25519MLKEM768; see BORINGSSL_ROOT in ./dev\n");
        check(without, PH_ARRAY_LEN(without));
    }
}

Test(groups, what_is_offered_in_words)
{
    struct ph_buf text = {0};

    ph_tls_groups_describe(PH_STR_NONE, &text);
    cr_expect_str_eq(ph_buf_cstr(&text),
                     has_kem()
                         ? "X25519MLKEM768 (its key share to hosts that ask for it), X25519, P-256"
                         : "X25519, P-256");
    ph_buf_deinit(&text);
}

Test(groups, what_can_be_made_smaller)
{
    bool kem = has_kem();

    cr_expect_eq(ph_tls_groups_shrinkable(PH_STR_NONE), kem);
    cr_expect_eq(ph_tls_groups_shrinkable(PH_STR("?X25519MLKEM768:P-256")), kem);
    cr_expect_not(ph_tls_groups_shrinkable(PH_STR("X25519MLKEM768")));
    cr_expect_not(ph_tls_groups_shrinkable(PH_STR("X25519:P-256")));
}

Test(groups, a_group_that_is_lacking_is_told)
{
    static const struct {
        const char *groups;
        bool valid;       // with a library that has all
        const char *said; // by one that lacks the post-quantum group; NULL: nothing
    } rows[] = {
        {"X25519MLKEM768:X25519", true,
         "this build of BoringSSL has no X25519MLKEM768; write ?X25519MLKEM768 to go on without "
         "it, "
         "or build with a newer one (BORINGSSL_ROOT)"},
        {"?X25519MLKEM768:X25519", true, NULL},
        {"?X25519MLKEM768", true,
         "no group is left: write for example ?X25519MLKEM768:X25519:P-256"},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_buf error = {0};
        bool valid = ph_tls_groups_valid(ph_str_from(rows[i].groups), &error);

        cr_expect_eq(valid, has_kem() ? rows[i].valid : rows[i].said == NULL, "row %zu", i);
        if (!valid) {
            cr_expect_str_eq(ph_buf_cstr(&error), rows[i].said);
        }
        ph_buf_deinit(&error);
    }
}
