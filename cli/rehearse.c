// `posthaste rehearse`: the evidence of real sessions, judged by another configuration.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/evidence.h"
#include "cli/log_lines.h"
#include "smtp/address.h"

// What is known of one host for one domain: the last of it counts.
struct host {
    UT_hash_handle hh;
    char name[PH_DNS_NAME_BYTES_MAX];
    bool went; // mail was delivered there
    enum ph_evidence_verdict verdict;
    struct ph_reason reason;
};

struct domain {
    UT_hash_handle hh;
    char name[PH_DOMAIN_BYTES_MAX + 1];
    struct host *hosts; // uthash
};

struct rehearsal {
    const struct ph_config *config;
    struct domain *domains; // uthash
    uint64_t lines;
    uint64_t used;
};

static struct host *host_of(struct rehearsal *r, const char *domain_name, const char *host_name)
{
    struct domain *domain;
    struct host *host;

    HASH_FIND(hh, r->domains, domain_name, strlen(domain_name), domain);
    if (domain == NULL) {
        domain = ph_alloc(sizeof(*domain));
        ph_str_copy(domain->name, sizeof(domain->name), ph_str_from(domain_name));
        HASH_ADD_KEYPTR(hh, r->domains, domain->name, strlen(domain->name), domain);
    }
    HASH_FIND(hh, domain->hosts, host_name, strlen(host_name), host);
    if (host == NULL) {
        host = ph_alloc(sizeof(*host));
        ph_str_copy(host->name, sizeof(host->name), ph_str_from(host_name));
        HASH_ADD_KEYPTR(hh, domain->hosts, host->name, strlen(host->name), host);
    }
    return host;
}

static bool take_line(void *owner, const struct ph_log_line *line)
{
    struct rehearsal *r = owner;
    json_t *record = json_loadb(line->text.data, line->text.len, 0, NULL);
    struct ph_evidence evidence;

    r->lines++;
    if (record != NULL && ph_evidence_read(record, &evidence)) {
        struct host *host = host_of(r, evidence.domain, evidence.host);

        r->used++;
        host->went = evidence.delivered;
        host->verdict = ph_evidence_judge(&evidence, r->config, &host->reason);
        ph_evidence_deinit(&evidence);
    }
    json_decref(record);
    return true;
}

// A domain's mail goes where any of its hosts takes it.
enum change {
    CHANGE_NONE,
    CHANGE_START, // to be deferred
    CHANGE_CEASE,
    CHANGE_UNDECIDED,
    CHANGE_COUNT,
};

static enum change change_of(const struct domain *domain, const struct host **out_why)
{
    bool went = false;
    bool goes = false;
    bool undecided = false;
    const struct host *host;

    for (host = domain->hosts; host != NULL; host = host->hh.next) {
        went |= host->went;
        goes |= host->verdict == PH_EVIDENCE_PASSES;
        undecided |= host->verdict == PH_EVIDENCE_UNDECIDED;
        if (*out_why == NULL || host->verdict == PH_EVIDENCE_DEFERS) {
            *out_why = host;
        }
    }
    if (!goes && undecided) {
        return CHANGE_UNDECIDED;
    }
    return went == goes ? CHANGE_NONE : goes ? CHANGE_CEASE : CHANGE_START;
}

static void tell(const struct domain *domain, enum change change, const struct host *why,
                 struct ph_json *json)
{
    static const char *const words[] = {[CHANGE_START] = "would start to be deferred",
                                        [CHANGE_CEASE] = "would no longer be deferred",
                                        [CHANGE_UNDECIDED] = "can't be decided"};

    if (json != NULL) {
        ph_json_open_object(json, NULL);
        ph_json_text(json, "domain", domain->name);
        ph_json_text(json, "change", words[change]);
        ph_json_text(json, "host", why->name);
        ph_json_text(json, "reason", ph_reason_token(why->reason.kind));
        ph_json_text(json, "text", why->reason.sentence);
        ph_json_close_object(json);
    } else if (change == CHANGE_CEASE) {
        printf("%s %s\n", domain->name, words[change]);
    } else {
        printf("%s %s: %s\n    %s\n", domain->name, words[change],
               ph_reason_token(why->reason.kind), why->reason.sentence);
    }
}

static void conclude(struct rehearsal *r, struct ph_json *json, uint64_t counts[CHANGE_COUNT])
{
    struct domain *domain;
    struct domain *next;
    struct host *host;
    struct host *next_host;

    HASH_ITER(hh, r->domains, domain, next)
    {
        const struct host *why = NULL;
        enum change change = change_of(domain, &why);

        counts[change]++;
        if (change != CHANGE_NONE) {
            tell(domain, change, why, json);
        }
        HASH_ITER(hh, domain->hosts, host, next_host)
        {
            HASH_DEL(domain->hosts, host);
            free(host);
        }
        HASH_DEL(r->domains, domain);
        free(domain);
    }
}

static int rehearse(struct rehearsal *r, char **files, int file_count, bool as_json)
{
    struct ph_buf text = {0};
    struct ph_json json;
    uint64_t counts[CHANGE_COUNT] = {0};
    unsigned domains;

    if (!ph_cli_log_lines(files, file_count, take_line, r)) {
        return PH_EXIT_UNREADABLE;
    }
    domains = HASH_COUNT(r->domains);
    ph_json_init(&json, &text);
    ph_json_open_object(&json, NULL);
    ph_json_open_array(&json, "changes");
    conclude(r, as_json ? &json : NULL, counts);
    ph_json_close_array(&json);
    ph_json_u64(&json, "domains", domains);
    ph_json_u64(&json, "lines", r->lines);
    ph_json_u64(&json, "evidence", r->used);
    ph_json_close_object(&json);
    if (as_json) {
        printf("%.*s\n", PH_STR_ARG(ph_buf_str(&text)));
    } else {
        printf("%u domains in %llu sessions: %llu would start to be deferred, %llu no longer be, "
               "%llu can't be decided\n",
               domains, (unsigned long long)r->used, (unsigned long long)counts[CHANGE_START],
               (unsigned long long)counts[CHANGE_CEASE],
               (unsigned long long)counts[CHANGE_UNDECIDED]);
    }
    ph_buf_deinit(&text);
    return counts[CHANGE_START] > 0       ? PH_EXIT_NO
           : counts[CHANGE_UNDECIDED] > 0 ? PH_EXIT_UNDECIDED
                                          : PH_EXIT_YES;
}

int ph_cli_rehearse(int argc, char **argv)
{
    struct ph_cli_options options;
    struct ph_config *config;
    struct ph_buf own_log = {0};
    char *own_files[1];
    int result;

    if (!ph_cli_options_read(argc, argv, &options) || options.help) {
        printf("usage: posthaste rehearse -c NEW [LOG…] [--json]\n"
               "Judges the sessions that the delivery log tells of by the configuration NEW, and "
               "lists "
               "the domains\nwhose mail would start, or cease, to be deferred. LOG: by default the "
               "one "
               "that NEW names.\n");
        return options.help ? PH_EXIT_YES : PH_EXIT_USAGE;
    }
    config = ph_cli_config(options.config_path, false);
    if (config == NULL) {
        return PH_EXIT_CONFIG;
    }
    if (options.argument_count == 0) {
        ph_buf_append(&own_log, config->delivery_log);
        own_files[0] = (char *)(uintptr_t)ph_buf_cstr(&own_log);
        options.arguments = own_files;
        options.argument_count = 1;
    }
    result = rehearse(&(struct rehearsal){.config = config}, options.arguments,
                      options.argument_count, options.json);
    ph_buf_deinit(&own_log);
    ph_config_release(config);
    return result;
}
