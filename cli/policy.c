// `posthaste policy`: what a destination publishes (DANE, MTA-STS), looked up now, and what the
// running daemon remembers of it; a dated exception.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/date.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/control.h"
#include "config/value.h"
#include "dns/mx.h"
#include "engine/dane_lookup.h"
#include "engine/fetch.h"
#include "engine/poll.h"
#include "engine/resolver.h"
#include "smtp/address.h"
#include "tls/mta_sts.h"

#define PH_POLICY_OVERRIDE_MAX_MS (UINT64_C(90) * 86400000) // an exception ends; ours

// --- looking things up, one after the other ---

struct look {
    const struct ph_config *config;
    struct ph_offload *offload;
    struct ph_resolver *resolver;
    struct ph_io *io;
    struct ph_json *json;
};

static void unused_step(struct ph_op *op)
{
    (void)op; // each operation here is waited for
}

static bool begin(struct look *look, const struct ph_config *config, struct ph_json *json)
{
    const struct ph_resolver_settings *settings = &config->resolver;
    struct ph_buf error = {0};

    *look = (struct look){.config = config, .json = json};
    look->resolver = ph_resolver_create(
        &(struct ph_resolver_options){.forwarders = settings->forwarders,
                                      .forwarder_count = settings->forwarder_count,
                                      .local_data = settings->local_data,
                                      .local_data_count = settings->local_data_count,
                                      .trust_anchor = settings->trust_anchor},
        &error);
    look->offload = ph_offload_create(1);
    if (look->resolver == NULL ||
        ph_poll_create(
            &(struct ph_poll_options){.offload = look->offload, .resolver = look->resolver},
            &look->io) < 0) {
        fprintf(stderr, "posthaste: %.*s\n", PH_STR_ARG(ph_buf_str(&error)));
    }
    ph_buf_deinit(&error);
    return look->io != NULL;
}

static void end(struct look *look)
{
    if (look->io != NULL) {
        look->io->vtable->destroy(look->io);
    }
    ph_resolver_destroy(look->resolver);
    ph_offload_destroy(look->offload);
}

static void resolve(struct look *look, struct ph_resolve_op *op, const char *name,
                    enum ph_rrtype type)
{
    *op = (struct ph_resolve_op){.rrtype = type};
    ph_op_init(&op->op, unused_step, NULL);
    ph_str_copy(op->name, sizeof(op->name), ph_str_from(name));
    ph_io_resolve(look->io, op);
    (void)ph_io_finish(look->io, &op->op);
}

static const char *const tlsa_words[] = {
    [PH_TLSA_UNKNOWN] = "unknown",
    [PH_TLSA_FAILED] = "failed: the host is not used",
    [PH_TLSA_USABLE] = "published",
    [PH_TLSA_UNUSABLE] = "published, none usable for SMTP: TLS is demanded, unauthenticated",
    [PH_TLSA_NONE] = "none",
};

static void put_records(struct ph_json *json, const struct ph_tlsa *tlsa)
{
    ph_json_open_array(json, "tlsa");
    for (size_t i = 0; i < tlsa->record_count; i++) {
        struct ph_str data = ph_tlsa_data(tlsa, &tlsa->records[i]);
        struct ph_buf text = {0};

        ph_buf_printf(&text, "%d %d %d ", (int)tlsa->records[i].usage,
                      (int)tlsa->records[i].selector, (int)tlsa->records[i].matching);
        for (size_t at = 0; at < data.len && at < 32; at++) {
            ph_buf_printf(&text, "%02x", (uint8_t)data.data[at]);
        }
        ph_buf_append(&text, data.len > 32 ? PH_STR("…") : PH_STR_NONE);
        ph_json_string(json, NULL, ph_buf_str(&text), 0);
        ph_buf_deinit(&text);
    }
    ph_json_close_array(json);
}

static void on_dane(struct ph_op *op)
{
    *(bool *)op->owner = true;
}

static void show_host(struct look *look, const struct ph_mx_host *host, uint16_t port)
{
    struct ph_dane_lookup *dane = ph_alloc(sizeof(*dane));
    struct ph_resolve_op aaaa;
    struct ph_resolve_op a;
    bool done = false;

    resolve(look, &aaaa, host->name, PH_RRTYPE_AAAA);
    resolve(look, &a, host->name, PH_RRTYPE_A);
    ph_op_init(&dane->op, on_dane, &done);
    ph_dane_lookup_start(dane, look->io, host->name, port, &aaaa, &a);
    while (!done) {
        ph_io_run_ready(look->io);
        if (!done && !ph_io_has_ready(look->io)) {
            ph_io_wait(look->io, PH_NEVER);
        }
    }
    ph_json_open_object(look->json, NULL);
    ph_json_text(look->json, "host", host->name);
    ph_json_u64(look->json, "preference", host->preference);
    ph_json_bool(look->json, "address_secure", a.secure || aaaa.secure);
    ph_json_text(look->json, "dane", tlsa_words[dane->tlsa.status]);
    if (dane->tlsa.status == PH_TLSA_FAILED) {
        ph_json_text(look->json, "reason", dane->reason.sentence);
    } else if (dane->tlsa.status != PH_TLSA_NONE) {
        ph_json_text(look->json, "base_domain", dane->tlsa.base_domain);
        put_records(look->json, &dane->tlsa);
    }
    ph_json_close_object(look->json);
    ph_dane_lookup_deinit(dane);
    free(dane);
    ph_buf_deinit(&aaaa.rdata);
    ph_buf_deinit(&a.rdata);
}

static void show_hosts(struct look *look, const char *domain)
{
    static struct ph_mx_hosts hosts;
    struct ph_resolve_op mx;
    struct ph_reason reason;

    resolve(look, &mx, domain, PH_RRTYPE_MX);
    ph_json_bool(look->json, "mx_secure", mx.secure);
    ph_json_open_array(look->json, "hosts");
    if (ph_mx_read(&mx, &look->config->hostname, 1, &hosts, &reason) == PH_MX_FOUND) {
        for (size_t i = 0; i < hosts.count; i++) {
            show_host(look, &hosts.hosts[i], look->config->resolver.port);
        }
        ph_json_close_array(look->json);
    } else {
        ph_json_close_array(look->json);
        ph_json_text(look->json, "reason", reason.sentence);
    }
    ph_buf_deinit(&mx.rdata);
}

static void show_record(struct look *look, const char *domain)
{
    char name[PH_DNS_NAME_BYTES_MAX + 16];
    char id[PH_STS_ID_BYTES_MAX + 1];
    struct ph_resolve_op txt = {0};

    snprintf(name, sizeof(name), "_mta-sts.%s", domain);
    resolve(look, &txt, name, PH_RRTYPE_TXT);
    switch (ph_sts_record_read(&txt, id)) {
    case PH_STS_RECORD_FOUND:
        ph_json_text(look->json, "mta_sts_id", id);
        break;
    case PH_STS_RECORD_NONE:
        ph_json_null(look->json, "mta_sts_id");
        break;
    case PH_STS_RECORD_FAILED:
        ph_json_text(look->json, "mta_sts_id", "(the TXT record could not be looked up)");
        break;
    }
    ph_buf_deinit(&txt.rdata);
}

// --- for people ---

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

static void print_lookups(const json_t *object)
{
    const json_t *host;
    size_t i;

    printf("%s: MX records %s\n", text_of(object, "domain"),
           json_is_true(json_object_get(object, "mx_secure")) ? "signed (DNSSEC)" : "not signed");
    json_array_foreach(json_object_get(object, "hosts"), i, host)
    {
        const json_t *record;
        size_t j;

        printf("  %s (address %s)\n    DANE: %s\n", text_of(host, "host"),
               json_is_true(json_object_get(host, "address_secure")) ? "signed" : "not signed",
               text_of(host, "dane"));
        json_array_foreach(json_object_get(host, "tlsa"), j, record)
        {
            printf("      TLSA %s at %s\n", json_string_value(record),
                   text_of(host, "base_domain"));
        }
        if (text_of(host, "reason")[0] != '\0') {
            printf("      %s\n", text_of(host, "reason"));
        }
    }
    if (text_of(object, "reason")[0] != '\0') {
        printf("  %s\n", text_of(object, "reason"));
    }
    printf("  MTA-STS: %s%s\n",
           text_of(object, "mta_sts_id")[0] != '\0' ? "published, id " : "none published",
           text_of(object, "mta_sts_id"));
}

static void print_remembered(const json_t *object)
{
    const json_t *policy = json_object_get(object, "mta_sts");
    const json_t *mx;
    size_t i;

    if (json_is_object(policy)) {
        printf("the daemon remembers: MTA-STS mode %s, id %s, fetched %s, until %s\n",
               text_of(policy, "mode"), text_of(policy, "id"), text_of(policy, "fetched"),
               text_of(policy, "expires"));
        json_array_foreach(json_object_get(policy, "mx"), i, mx)
        {
            printf("  mx %s\n", json_string_value(mx));
        }
    } else {
        printf("the daemon remembers no MTA-STS policy\n");
    }
    if (text_of(object, "last_fetch_failed")[0] != '\0') {
        printf("the last fetch failed: %s\n", text_of(object, "last_fetch_failed"));
    }
    if (text_of(object, "overridden_until")[0] != '\0') {
        printf("OVERRIDDEN: DANE and MTA-STS are passed over until %s\n",
               text_of(object, "overridden_until"));
    }
}

// --- the subcommands ---

static int show(const struct ph_config *config, const char *domain, bool as_json)
{
    struct ph_buf text = {0};
    struct ph_buf answer = {0};
    struct ph_json json;
    struct look look;
    bool asked;

    ph_json_init(&json, &text);
    if (!begin(&look, config, &json)) {
        end(&look);
        return PH_EXIT_INTERNAL;
    }
    ph_json_open_object(&json, NULL);
    ph_json_text(&json, "domain", domain);
    show_hosts(&look, domain);
    show_record(&look, domain);
    end(&look);
    asked = ph_cli_ask(config, "policy-show", domain, &answer);
    if (as_json && asked) {
        ph_buf_printf(&text, ",\"remembered\":%.*s", PH_STR_ARG(ph_buf_str(&answer)));
    }
    ph_json_close_object(&json);
    if (as_json) {
        printf("%.*s\n", PH_STR_ARG(ph_buf_str(&text)));
    } else {
        json_t *found = json_loads(ph_buf_cstr(&text), 0, NULL);
        json_t *remembered = json_loads(ph_buf_cstr(&answer), 0, NULL);

        print_lookups(found);
        if (asked) {
            print_remembered(json_array_get(remembered, 0));
        }
        json_decref(found);
        json_decref(remembered);
    }
    ph_buf_deinit(&text);
    ph_buf_deinit(&answer);
    return PH_EXIT_YES;
}

static int ask_and_print(const struct ph_config *config, const char *what, const char *argument,
                         bool as_json)
{
    struct ph_buf answer = {0};
    bool asked = ph_cli_ask(config, what, argument, &answer);

    if (asked && as_json) {
        printf("%.*s\n", PH_STR_ARG(ph_buf_str(&answer)));
    } else if (asked) {
        json_t *array = json_loads(ph_buf_cstr(&answer), 0, NULL);

        print_remembered(json_array_get(array, 0));
        json_decref(array);
    }
    ph_buf_deinit(&answer);
    return asked ? PH_EXIT_YES : PH_EXIT_UNREACHABLE;
}

// "2026-12-01", "2026-12-01T12:00:00Z", "12h", or "now": it ends.
static bool read_until(const char *text, uint64_t now_ms, uint64_t *out_until_ms)
{
    static const char *const formats[] = {"%Y-%m-%d", "%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ"};
    uint64_t span_ms;

    if (strcmp(text, "now") == 0) {
        *out_until_ms = 0;
        return true;
    }
    if (ph_value_time_ms(ph_str_from(text), &span_ms)) {
        *out_until_ms = now_ms + span_ms;
        return true;
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(formats); i++) {
        struct tm date = {0};
        const char *rest = strptime(text, formats[i], &date);

        if (rest != NULL && *rest == '\0') {
            *out_until_ms = (uint64_t)timegm(&date) * 1000;
            return true;
        }
    }
    return false;
}

static int override(const struct ph_config *config, const char *domain, const char *until,
                    bool as_json)
{
    struct ph_buf argument = {0};
    struct timespec now;
    uint64_t now_ms;
    uint64_t until_ms;
    int result;

    clock_gettime(CLOCK_REALTIME, &now);
    now_ms = (uint64_t)now.tv_sec * 1000;
    if (until == NULL || !read_until(until, now_ms, &until_ms)) {
        fprintf(stderr, "posthaste: policy override needs an end: --until 2026-12-01, "
                        "2026-12-01T12:00Z, 12h, or now to end it\n");
        return PH_EXIT_USAGE;
    }
    if (until_ms != 0 && (until_ms <= now_ms || until_ms > now_ms + PH_POLICY_OVERRIDE_MAX_MS)) {
        fprintf(stderr, "posthaste: --until %s is %s; an exception lasts 90 days at most\n", until,
                until_ms <= now_ms ? "in the past" : "too far away");
        return PH_EXIT_USAGE;
    }
    ph_buf_printf(&argument, "%s %llu", domain, (unsigned long long)until_ms);
    result = ask_and_print(config, "policy-override", ph_buf_cstr(&argument), as_json);
    ph_buf_deinit(&argument);
    return result;
}

// Takes "--until T" out of the arguments.
static const char *take_until(struct ph_cli_options *options)
{
    const char *until = NULL;
    int kept = 0;

    for (int i = 0; i < options->argument_count; i++) {
        if (strcmp(options->arguments[i], "--until") == 0 && i + 1 < options->argument_count) {
            until = options->arguments[++i];
        } else {
            options->arguments[kept++] = options->arguments[i];
        }
    }
    options->argument_count = kept;
    return until;
}

int ph_cli_policy(int argc, char **argv)
{
    struct ph_cli_options options;
    struct ph_config *config;
    char domain[PH_DOMAIN_BYTES_MAX + 1];
    const char *until;
    int result = PH_EXIT_USAGE;

    if (!ph_cli_options_read(argc, argv, &options)) {
        return PH_EXIT_USAGE;
    }
    until = take_until(&options);
    if (options.help || options.argument_count != 2) {
        printf("usage: posthaste policy show DOMAIN | refresh DOMAIN | override DOMAIN --until "
               "DATE|TIME|now  [-c FILE] [--json]\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    if (!ph_domain_normalize(ph_str_from(options.arguments[1]), domain)) {
        fprintf(stderr, "posthaste: %s is no domain\n", options.arguments[1]);
        return PH_EXIT_USAGE;
    }
    config = ph_cli_config(options.config_path, false);
    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    if (strcmp(options.arguments[0], "show") == 0) {
        result = show(config, domain, options.json);
    } else if (strcmp(options.arguments[0], "refresh") == 0) {
        result = ask_and_print(config, "policy-refresh", domain, options.json);
    } else if (strcmp(options.arguments[0], "override") == 0) {
        result = override(config, domain, until, options.json);
    } else {
        fprintf(stderr, "posthaste: policy show, refresh or override\n");
    }
    ph_config_release(config);
    return result;
}
