// MTA-STS policies and exceptions, remembered.
#include "engine/sts_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/date.h"
#include "base/hash.h"
#include "engine/keep_file.h"

#define PH_STS_WHY_MAX 200
#define PH_STS_SUFFIX ".policy"
#define PH_STS_DAY_MS UINT64_C(86400000)
// Fetched again when half of its time is over, at least daily and not more than hourly; ours.
#define PH_STS_REFRESH_MAX_MS PH_STS_DAY_MS
#define PH_STS_REFRESH_MIN_MS UINT64_C(3600000)

struct entry {
    char domain[PH_DNS_NAME_BYTES_MAX];
    UT_hash_handle hh;
    struct ph_sts_policy *policy; // referenced; NULL: none
    uint64_t tried_ms;            // last fetch that failed
    uint64_t refresh_ms;          // when to fetch it again
    uint64_t used_ms;
    char why[PH_STS_WHY_MAX]; // of the last failure; empty after a success
    uint64_t waived_until_ms;
};

struct ph_sts_cache {
    char *directory;
    pthread_mutex_t lock;
    struct entry *entries;
};

struct ph_sts_cache *ph_sts_cache_create(const char *directory)
{
    struct ph_sts_cache *cache = ph_alloc(sizeof(*cache));

    cache->directory = ph_strdup(directory);
    pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void ph_sts_cache_destroy(struct ph_sts_cache *cache)
{
    struct entry *entry;
    struct entry *next;

    if (cache == NULL) {
        return;
    }
    HASH_ITER(hh, cache->entries, entry, next)
    {
        HASH_DEL(cache->entries, entry);
        ph_sts_policy_release(entry->policy);
        free(entry);
    }
    pthread_mutex_destroy(&cache->lock);
    free(cache->directory);
    free(cache);
}

const char *ph_sts_cache_directory(const struct ph_sts_cache *cache)
{
    return cache->directory;
}

static struct entry *find(struct ph_sts_cache *cache, struct ph_str domain)
{
    struct entry *entry;

    HASH_FIND(hh, cache->entries, domain.data, domain.len, entry);
    return entry;
}

static struct entry *find_or_add(struct ph_sts_cache *cache, struct ph_str domain)
{
    struct entry *entry = find(cache, domain);

    if (entry == NULL) {
        entry = ph_alloc(sizeof(*entry));
        ph_str_copy(entry->domain, sizeof(entry->domain), domain);
        HASH_ADD_KEYPTR(hh, cache->entries, entry->domain, domain.len, entry);
    }
    return entry;
}

static bool valid(const struct entry *entry, uint64_t wall_ms)
{
    return entry->policy != NULL && wall_ms < ph_sts_policy_expires_ms(entry->policy);
}

static void plan_refresh(struct entry *entry)
{
    uint64_t half_ms = (uint64_t)entry->policy->max_age_s * 500;

    half_ms = half_ms < PH_STS_REFRESH_MIN_MS ? PH_STS_REFRESH_MIN_MS : half_ms;
    entry->refresh_ms = entry->policy->fetched_ms +
                        (half_ms < PH_STS_REFRESH_MAX_MS ? half_ms : PH_STS_REFRESH_MAX_MS);
}

void ph_sts_cache_look(struct ph_sts_cache *cache, struct ph_str domain, enum ph_sts_record record,
                       const char *id, bool distrust, uint64_t wall_ms, struct ph_sts_answer *out)
{
    struct entry *entry;

    *out = (struct ph_sts_answer){0};
    pthread_mutex_lock(&cache->lock);
    entry = record == PH_STS_RECORD_FOUND ? find_or_add(cache, domain) : find(cache, domain);
    if (entry != NULL) {
        bool good = valid(entry, wall_ms);
        bool may = wall_ms >= entry->tried_ms + PH_STS_RETRY_MS || wall_ms < entry->tried_ms;

        entry->used_ms = wall_ms;
        // The record's going doesn't end the policy (RFC 8461 §3.3: until max_age is over); its
        // coming, or a new id, leads to another one.
        out->policy = good ? ph_sts_policy_retain(entry->policy) : NULL;
        out->fetch = may && record == PH_STS_RECORD_FOUND &&
                     (!good || strcmp(entry->policy->id, id) != 0 ||
                      (distrust && wall_ms >= entry->policy->fetched_ms + PH_STS_RETRY_MS));
        out->waived_until_ms = entry->waived_until_ms > wall_ms ? entry->waived_until_ms : 0;
    }
    pthread_mutex_unlock(&cache->lock);
}

void ph_sts_cache_fetched(struct ph_sts_cache *cache, struct ph_str domain,
                          struct ph_sts_policy *policy, struct ph_str why, uint64_t wall_ms)
{
    struct entry *entry;

    pthread_mutex_lock(&cache->lock);
    entry = find_or_add(cache, domain);
    entry->used_ms = wall_ms;
    if (policy != NULL) {
        ph_sts_policy_release(entry->policy);
        entry->policy = ph_sts_policy_retain(policy);
        entry->tried_ms = 0;
        entry->why[0] = '\0';
        plan_refresh(entry);
    } else {
        entry->tried_ms = wall_ms;
        ph_str_copy(entry->why, sizeof(entry->why), why);
    }
    pthread_mutex_unlock(&cache->lock);
}

bool ph_sts_cache_due(struct ph_sts_cache *cache, uint64_t wall_ms,
                      char out_domain[PH_DNS_NAME_BYTES_MAX])
{
    struct entry *entry;
    struct entry *next;
    bool found = false;

    pthread_mutex_lock(&cache->lock);
    HASH_ITER(hh, cache->entries, entry, next)
    {
        uint64_t kept_ms =
            entry->policy != NULL ? (uint64_t)entry->policy->max_age_s * 1000 : PH_STS_DAY_MS;

        if (entry->waived_until_ms <= wall_ms && !valid(entry, wall_ms) &&
            wall_ms >= entry->used_ms + kept_ms) {
            HASH_DEL(cache->entries, entry);
            ph_sts_policy_release(entry->policy);
            free(entry);
        } else if (!found && valid(entry, wall_ms) && wall_ms >= entry->refresh_ms &&
                   wall_ms < entry->used_ms + kept_ms) {
            entry->refresh_ms = wall_ms + PH_STS_REFRESH_MIN_MS;
            ph_str_copy(out_domain, PH_DNS_NAME_BYTES_MAX, ph_str_from(entry->domain));
            found = true;
        }
    }
    pthread_mutex_unlock(&cache->lock);
    return found;
}

// --- exceptions ---

void ph_sts_cache_waive(struct ph_sts_cache *cache, struct ph_str domain, uint64_t until_ms)
{
    pthread_mutex_lock(&cache->lock);
    find_or_add(cache, domain)->waived_until_ms = until_ms;
    pthread_mutex_unlock(&cache->lock);
}

uint64_t ph_sts_cache_waived_until(struct ph_sts_cache *cache, struct ph_str domain)
{
    const struct entry *entry;
    uint64_t until_ms;

    pthread_mutex_lock(&cache->lock);
    entry = find(cache, domain);
    until_ms = entry != NULL ? entry->waived_until_ms : 0;
    pthread_mutex_unlock(&cache->lock);
    return until_ms;
}

void ph_sts_cache_format_waived(struct ph_sts_cache *cache, uint64_t wall_ms, struct ph_buf *out)
{
    const struct entry *entry;

    pthread_mutex_lock(&cache->lock);
    for (entry = cache->entries; entry != NULL; entry = entry->hh.next) {
        if (entry->waived_until_ms > wall_ms) {
            ph_buf_printf(out, "%s %llu\n", entry->domain,
                          (unsigned long long)entry->waived_until_ms);
        }
    }
    pthread_mutex_unlock(&cache->lock);
}

void ph_sts_cache_report(struct ph_sts_cache *cache, struct ph_str domain, struct ph_json *json)
{
    const struct entry *entry;
    char date[PH_DATE_TEXT_MAX];

    pthread_mutex_lock(&cache->lock);
    entry = find(cache, domain);
    if (entry != NULL && entry->policy != NULL) {
        const struct ph_sts_policy *policy = entry->policy;

        ph_json_open_object(json, "mta_sts");
        ph_json_text(json, "id", policy->id);
        ph_json_text(json, "mode", ph_sts_mode_name(policy->mode));
        ph_json_u64(json, "max_age", policy->max_age_s);
        ph_json_open_array(json, "mx");
        for (size_t i = 0; i < policy->mx_count; i++) {
            ph_json_text(json, NULL, policy->mx[i]);
        }
        ph_json_close_array(json);
        ph_json_text(json, "fetched", ph_date_format_iso(policy->fetched_ms, date));
        ph_json_text(json, "expires", ph_date_format_iso(ph_sts_policy_expires_ms(policy), date));
        ph_json_close_object(json);
    } else {
        ph_json_null(json, "mta_sts");
    }
    if (entry != NULL && entry->why[0] != '\0') {
        ph_json_text(json, "last_fetch_failed", entry->why);
    }
    if (entry != NULL && entry->waived_until_ms > 0) {
        ph_json_text(json, "overridden_until", ph_date_format_iso(entry->waived_until_ms, date));
    }
    pthread_mutex_unlock(&cache->lock);
}

// --- files ---

#define PH_STS_FIRST_LINE "posthaste-sts 1"

// The checksum is over all that follows its line.
void ph_sts_cache_format(const struct ph_sts_policy *policy, char out_name[PH_DNS_NAME_BYTES_MAX],
                         struct ph_buf *out)
{
    struct ph_buf rest = {0};

    ph_buf_printf(&rest, "%s\n%s\n%llu\n", policy->domain, policy->id,
                  (unsigned long long)policy->fetched_ms);
    ph_buf_append(&rest, ph_buf_str(&policy->text));
    ph_buf_printf(out, PH_STS_FIRST_LINE "\n%016llx\n",
                  (unsigned long long)ph_hash_str(ph_buf_str(&rest), 1));
    ph_buf_append(out, ph_buf_str(&rest));
    ph_buf_deinit(&rest);
    snprintf(out_name, PH_DNS_NAME_BYTES_MAX, "%.240s" PH_STS_SUFFIX, policy->domain);
}

static struct ph_sts_policy *read_policy(struct ph_str text, struct ph_buf *error)
{
    struct ph_str line;
    struct ph_str domain;
    struct ph_str id;
    char sum[17];
    uint64_t fetched_ms;

    if (!ph_str_cut_line(&text, &line) || !ph_str_eq(line, PH_STR(PH_STS_FIRST_LINE)) ||
        !ph_str_cut_line(&text, &line)) {
        ph_buf_append(error, PH_STR("it is no such file"));
        return NULL;
    }
    snprintf(sum, sizeof(sum), "%016llx", (unsigned long long)ph_hash_str(text, 1));
    if (!ph_str_eq(line, ph_str_from(sum)) || !ph_str_cut_line(&text, &domain) ||
        !ph_str_cut_line(&text, &id) || !ph_str_cut_line(&text, &line) ||
        !ph_str_to_u64(line, &fetched_ms)) {
        ph_buf_append(error, PH_STR("its checksum is wrong"));
        return NULL;
    }
    return ph_sts_policy_parse(domain, id, fetched_ms, text, error);
}

static void load_policy(struct ph_sts_cache *cache, struct ph_str text, const char *path,
                        struct ph_buf *problems)
{
    struct ph_buf error = {0};
    struct ph_sts_policy *policy = read_policy(text, &error);

    if (policy != NULL) {
        ph_sts_cache_fetched(cache, ph_str_from(policy->domain), policy, PH_STR_NONE,
                             policy->fetched_ms);
        ph_sts_policy_release(policy);
    } else {
        ph_buf_printf(problems, "the MTA-STS policy kept in %s can't be used: %.*s\n", path,
                      PH_STR_ARG(ph_buf_str(&error)));
    }
    ph_buf_deinit(&error);
}

static void load_waived(struct ph_sts_cache *cache, struct ph_str text)
{
    struct ph_str line;

    while (ph_str_cut_line(&text, &line)) {
        struct ph_str until = line;
        struct ph_str domain;
        uint64_t until_ms;

        if (ph_str_cut(&until, ' ', &domain) && domain.len < PH_DNS_NAME_BYTES_MAX &&
            ph_str_to_u64(until, &until_ms)) {
            ph_sts_cache_waive(cache, domain, until_ms);
        }
    }
}

static void load_file(struct ph_sts_cache *cache, struct ph_io *io, struct ph_str name,
                      struct ph_buf *problems)
{
    bool policy =
        ph_str_ends_nocase(name, PH_STR(PH_STS_SUFFIX)) && !ph_str_starts(name, PH_STR("new-"));
    struct ph_buf text = {0};
    char path[PH_KEEP_PATH_MAX];
    int64_t result;

    if (!policy && !ph_str_eq(name, PH_STR(PH_STS_WAIVED_FILE))) {
        return;
    }
    snprintf(path, sizeof(path), "%s/%.*s", cache->directory, PH_STR_ARG(name));
    result = ph_keep_file_read(io, path, PH_STS_FILE_BYTES_MAX, &text);
    if (result < 0) {
        ph_buf_printf(problems, "%s can't be read: %s\n", path, strerror((int)-result));
    } else if (policy) {
        load_policy(cache, ph_buf_str(&text), path, problems);
    } else {
        load_waived(cache, ph_buf_str(&text));
    }
    ph_buf_deinit(&text);
}

static void unused_step(struct ph_op *op)
{
    (void)op;
}

int64_t ph_sts_cache_load(struct ph_sts_cache *cache, struct ph_io *io, struct ph_buf *problems)
{
    struct ph_buf names = {0};
    struct ph_op op;
    int64_t result;

    ph_op_init(&op, unused_step, NULL);
    ph_io_directory_create(io, &op, cache->directory);
    result = ph_io_finish(io, &op);
    if (result < 0 && result != -EEXIST) {
        return result;
    }
    ph_io_directory_list(io, &op, cache->directory, &names);
    result = ph_io_finish(io, &op);
    for (size_t at = 0; result >= 0 && at < names.len;) {
        struct ph_str name = ph_str_from(names.data + at);

        load_file(cache, io, name, problems);
        at += name.len + 1;
    }
    ph_buf_deinit(&names);
    return result < 0 ? result : 0;
}
