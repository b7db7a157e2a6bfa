// TlsCertificateName: which of the certificates that answer to a name is taken, and what is said
// where none can be.
#include <criterion/criterion.h>
#include <stdio.h>

#include "bench/lib/certs.h"
#include "tests/config/files.h"

#define NOW_S INT64_C(1790000000)
#define DAYS_S INT64_C(86400)

static void add(struct files *files, struct ph_cert *issuer, const char *name, const char *subject,
                int64_t begin_days, int64_t end_days)
{
    struct ph_buf *out = files_add(files, name, 0600);
    struct ph_cert *leaf = ph_certs_make(
        issuer, &(struct ph_certs_options){.common_name = subject,
                                           .not_before_s = NOW_S + begin_days * DAYS_S,
                                           .not_after_s = NOW_S + end_days * DAYS_S,
                                           .usage = PH_CERTS_USAGE_CLIENT});

    ph_certs_append(leaf, out);
    ph_certs_append_key(leaf, out);
    ph_certs_destroy(leaf);
}

static struct ph_config *parse(struct files *files, const char *name, struct ph_buf *errors)
{
    char text[512];
    struct ph_buf warnings = {0};
    struct ph_config *config;

    snprintf(text, sizeof(text),
             "CertificateDir = \"/certs\"\n"
             "SendConnector \"s\" { AddressSpaces = {\"*\"} TlsCertificateName = \"%s\" }\n",
             name);
    config = ph_config_parse_text("/t.conf", ph_str_from(text), &files->calls, errors, &warnings);
    ph_buf_deinit(&warnings);
    return config;
}

Test(build_identity, the_newest_valid_one_of_a_name)
{
    static const struct {
        const char *name;
        int64_t begin_days; // of the one that must be taken; 0: none
        enum ph_reason_kind fault;
    } rows[] = {
        {"<I>CN=ca<S>CN=a.test", -2, PH_REASON_NONE},
        {"<I>cn = ca<S> CN = A.test ", -2, PH_REASON_NONE},
        {"<I>CN=other<S>CN=a.test", -1, PH_REASON_NONE},
        {"<I>CN=ca<S>CN=over.test", 0, PH_REASON_CLIENT_CERT_EXPIRED},
        {"<I>CN=ca<S>CN=a.test, O=more", 0, PH_REASON_CLIENT_CERT_MISSING},
        {"<I>CN=ca<S>CN=nobody.test", 0, PH_REASON_CLIENT_CERT_MISSING},
        {"spki:0000000000000000000000000000000000000000000000000000000000000000", 0,
         PH_REASON_CLIENT_CERT_MISSING},
        {"/certs/2.pem", -2, PH_REASON_NONE},
        {"/certs/over.pem", 0, PH_REASON_CLIENT_CERT_EXPIRED},
        {"/certs/nothing.pem", 0, PH_REASON_CLIENT_CERT_MISSING},
        {"/certs/junk.pem", 0, PH_REASON_CLIENT_CERT_NO_KEY},
    };
    struct ph_cert *ca = ph_certs_root("ca");
    struct ph_cert *other = ph_certs_root("other");
    struct files files;

    files_init(&files, NOW_S);
    add(&files, ca, "/certs/1.pem", "a.test", -30, 300);
    add(&files, ca, "/certs/2.pem", "a.test", -2, 300);
    add(&files, ca, "/certs/3.pem", "a.test", 5, 400); // not yet
    add(&files, ca, "/certs/4.pem", "a.test", -20, 300);
    add(&files, other, "/certs/5.pem", "a.test", -1, 300);
    add(&files, ca, "/certs/over.pem", "over.test", -30, 0);
    ph_buf_append(files_add(&files, "/certs/junk.pem", 0600), PH_STR("no certificate\n"));
    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_buf errors = {0};
        bool missing = rows[i].fault == PH_REASON_CLIENT_CERT_MISSING ||
                       rows[i].fault == PH_REASON_CLIENT_CERT_NO_KEY;
        struct ph_config *config = parse(&files, rows[i].name, &errors);
        const struct ph_send_connector *connector;

        // A file that is read for the first time must be right; one in force may lose it.
        cr_assert_eq(config == NULL, missing, "%s: %s", rows[i].name, ph_buf_cstr(&errors));
        cr_assert(!missing || ph_str_find(ph_buf_str(&errors), PH_STR("C20")) >= 0);
        ph_config_release(config);
        files.calls.running = true;
        config = parse(&files, rows[i].name, &errors);
        files.calls.running = false;
        cr_assert_not_null(config);
        connector = &config->send_connectors[0];
        cr_assert_eq(connector->identity_fault, rows[i].fault, "%s: %s", rows[i].name,
                     ph_reason_token(connector->identity_fault));
        cr_assert_eq(connector->identity != NULL, rows[i].fault == PH_REASON_NONE);
        if (connector->identity != NULL) {
            cr_assert_eq(ph_tls_identity_not_before_s(connector->identity),
                         NOW_S + rows[i].begin_days * DAYS_S, "%s", rows[i].name);
        }
        ph_config_release(config);
        ph_buf_deinit(&errors);
    }
    files_deinit(&files);
    ph_certs_destroy(ca);
    ph_certs_destroy(other);
}

// The choice holds until another certificate begins, or this one ends.
Test(build_identity, the_choice_has_its_time)
{
    struct ph_cert *ca = ph_certs_root("ca");
    struct ph_buf errors = {0};
    struct files files;
    struct ph_config *config;

    files_init(&files, NOW_S);
    add(&files, ca, "/certs/1.pem", "a.test", -30, 300);
    add(&files, ca, "/certs/2.pem", "a.test", 5, 400);
    config = parse(&files, "<I>CN=ca<S>CN=a.test", &errors);
    cr_assert_not_null(config);
    cr_assert_eq(config->certificates_until_s, NOW_S + 5 * DAYS_S);
    ph_config_release(config);
    config = parse(&files, "/certs/1.pem", &errors);
    cr_assert_eq(config->certificates_until_s, NOW_S + 300 * DAYS_S);
    ph_config_release(config);
    files_deinit(&files);
    ph_buf_deinit(&errors);
    ph_certs_destroy(ca);
}

// A receive connector's is found the same way.
Test(build_identity, of_a_receive_connector)
{
    static const struct {
        const char *settings;
        int64_t end_days; // of the one that must be taken; 0: an error
    } rows[] = {
        {"TlsCertificateName = \"<I>CN=ca<S>CN=a.test\"", 301},
        {"TlsCertificateName = \"/certs/1.pem\"", 300},
        {"TlsCertificateName = \"<I>CN=ca<S>CN=b.test\"", 0},
        {"TlsCertificateName = \"<I>CN=ca<S>CN=old.test\"", -1}, // has expired
        {"TlsCertificateName = \"/certs/1.pem\" TlsKey = \"/certs/1.pem\"", 0},
        {"TlsCertificateName = \"/certs/nothing.pem\"", 0},
    };
    struct ph_cert *ca = ph_certs_root("ca");
    struct files files;

    files_init(&files, NOW_S);
    add(&files, ca, "/certs/1.pem", "a.test", -30, 300);
    add(&files, ca, "/certs/2.pem", "a.test", -2, 301);
    add(&files, ca, "/certs/3.pem", "old.test", -300, -1);
    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_buf errors = {0};
        struct ph_buf warnings = {0};
        struct ph_config *config;
        char text[512];

        snprintf(text, sizeof(text),
                 "CertificateDir = \"/certs\"\nReceiveConnector \"r\" { RequireTLS = true %s }\n",
                 rows[i].settings);
        config =
            ph_config_parse_text("/t.conf", ph_str_from(text), &files.calls, &errors, &warnings);
        cr_assert_eq(config != NULL, rows[i].end_days != 0, "%s: %s", rows[i].settings,
                     ph_buf_cstr(&errors));
        if (config != NULL) {
            cr_assert_not_null(config->receive_connectors[0].tls, "%s", rows[i].settings);
            cr_expect_eq(ph_tls_server_not_after_s(config->receive_connectors[0].tls),
                         NOW_S + rows[i].end_days * DAYS_S, "%s", rows[i].settings);
        } else {
            cr_expect(ph_str_find(ph_buf_str(&errors), PH_STR("C20 TlsCertificateName")) >= 0, "%s",
                      ph_buf_cstr(&errors));
        }
        ph_config_release(config);
        ph_buf_deinit(&errors);
        ph_buf_deinit(&warnings);
    }
    files_deinit(&files);
    ph_certs_destroy(ca);
}
