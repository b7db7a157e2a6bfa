// Settings of the command line in the place of the file's.
#include <criterion/criterion.h>

#include "config/load.h"

#define TEXT                                                                                       \
    PH_STR("SendConnector \"a\" { AddressSpaces = {\"a.test\"} RequireTLS = true\n"                \
           "    TlsAuthLevel = CertificateValidation Enabled = false }\n"                          \
           "SendConnector \"b\" { AddressSpaces = {\"*\"} }\n")

static struct ph_config *parse(const struct ph_config_setting *settings, size_t count,
                               struct ph_buf *errors)
{
    struct ph_config_variation variation = {
        .connector = PH_STR("A"), .settings = settings, .setting_count = count};
    struct ph_config_files files = {.variation = &variation};
    struct ph_buf warnings = {0};
    struct ph_config *config = ph_config_parse_text("/t.conf", TEXT, &files, errors, &warnings);

    ph_buf_deinit(&warnings);
    return config;
}

Test(variation, takes_the_place_of_what_is_there_and_adds)
{
    const struct ph_config_setting settings[] = {
        {PH_STR("tlsauthlevel"), PH_STR("EncryptionOnly")},
        {PH_STR("Fqdn"), PH_STR("out.a.test")},
        {PH_STR("TlsUseCommonName"), PH_STR("always")},
        {PH_STR("AddressSpaces"), PH_STR("{\"c.test\", \"d.test\"}")},
    };
    struct ph_buf errors = {0};
    struct ph_config *config = parse(settings, PH_ARRAY_LEN(settings), &errors);
    const struct ph_send_connector *a;

    cr_assert_not_null(config, "%s", ph_buf_cstr(&errors));
    a = &config->send_connectors[0];
    cr_assert_eq(a->policy.level, PH_TLS_ENCRYPTION_ONLY);
    cr_assert(ph_str_eq(a->fqdn, PH_STR("out.a.test")));
    cr_assert_eq(a->policy.common_name, PH_TLS_COMMON_NAME_ALWAYS);
    cr_assert_eq(a->address_space_count, 2);
    cr_assert_eq(config->send_connector_count, 2);
    cr_assert(ph_str_eq(config->send_connectors[1].name, PH_STR("b")));
    cr_assert(!ph_str_eq(config->send_connectors[1].fqdn, PH_STR("out.a.test")));
    // Alone it carries everything, though it is disabled.
    cr_assert(!a->enabled);
    cr_assert(!ph_config_use_only(config, PH_STR("nobody")));
    cr_assert(ph_config_use_only(config, PH_STR("a")));
    cr_assert(config->send_connector_count == 1 && config->send_connectors[0].enabled &&
              config->send_connectors[0].address_spaces[0].all);
    ph_config_release(config);
    ph_buf_deinit(&errors);
}

Test(variation, is_held_to_the_same_rules)
{
    static const struct {
        struct ph_config_setting setting;
        const char *error;
    } rows[] = {
        {{PH_STR("IgnoreSTARTTLS"), PH_STR("true")}, "C03"},
        {{PH_STR("TlsAuthLevel"), PH_STR("Sometimes")}, "--set:2: C17"},
        {{PH_STR("Nonsense"), PH_STR("1")}, "--set:2: C21"},
        {{PH_STR("TlsDomain"), PH_STR("{\"a.test\"")}, "--set:"},
        {{PH_STR("Fqdn"), PH_STR("a\" } SendConnector \"x")}, "--set:2: C27"},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(rows); i++) {
        struct ph_buf errors = {0};
        struct ph_config *config = parse(&rows[i].setting, 1, &errors);

        cr_assert_null(config, "row %zu", i);
        cr_assert(ph_str_find(ph_buf_str(&errors), ph_str_from(rows[i].error)) >= 0, "row %zu: %s",
                  i, ph_buf_cstr(&errors));
        ph_buf_deinit(&errors);
    }
}
