// MTA-STS: record, policy, patterns.
#include "tls/mta_sts.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define PH_STS_TEXT_BYTES_MAX 1024 // of the TXT record; ours

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// --- the TXT record ---

// The character-strings of one record, joined.
static struct ph_str join_strings(struct ph_str rdata, char out[PH_STS_TEXT_BYTES_MAX])
{
    size_t used = 0;

    while (rdata.len > 0) {
        struct ph_str part = ph_str_first(ph_str_after(rdata, 1), (uint8_t)rdata.data[0]);

        part = ph_str_first(part, PH_STS_TEXT_BYTES_MAX - used);
        memcpy(out + used, part.data, part.len);
        used += part.len;
        rdata = ph_str_after(rdata, 1 + (size_t)(uint8_t)rdata.data[0]);
    }
    return (struct ph_str){.data = out, .len = used};
}

static struct ph_str next_field(struct ph_str *rest)
{
    struct ph_str field;

    if (!ph_str_cut(rest, ';', &field)) {
        field = *rest;
        *rest = PH_STR_NONE;
    }
    return ph_str_trim(field);
}

static bool read_id(struct ph_str text, char out_id[PH_STS_ID_BYTES_MAX + 1])
{
    bool found = false;

    while (text.len > 0 && !found) {
        struct ph_str field = next_field(&text);

        if (ph_str_starts(field, PH_STR("id="))) {
            struct ph_str id = ph_str_after(field, 3);
            bool valid = id.len > 0 && id.len <= PH_STS_ID_BYTES_MAX;

            for (size_t i = 0; valid && i < id.len; i++) {
                valid = is_alnum(id.data[i]);
            }
            if (!valid) {
                return false;
            }
            ph_str_copy(out_id, PH_STS_ID_BYTES_MAX + 1, id);
            found = true;
        }
    }
    return found;
}

enum ph_sts_record ph_sts_record_read(const struct ph_resolve_op *answer,
                                      char out_id[PH_STS_ID_BYTES_MAX + 1])
{
    struct ph_str rest = ph_buf_str(&answer->rdata);
    char id[PH_STS_ID_BYTES_MAX + 1];
    size_t count = 0;
    bool valid = false;

    if (answer->status != PH_RESOLVE_OK) {
        return answer->status == PH_RESOLVE_NODATA || answer->status == PH_RESOLVE_NXDOMAIN
                   ? PH_STS_RECORD_NONE
                   : PH_STS_RECORD_FAILED;
    }
    while (rest.len >= 2) {
        size_t len = (size_t)((uint8_t)rest.data[0] << 8 | (uint8_t)rest.data[1]);
        char text[PH_STS_TEXT_BYTES_MAX];
        struct ph_str record;

        rest = ph_str_after(rest, 2);
        record = join_strings(ph_str_first(rest, len), text);
        rest = ph_str_after(rest, len);
        if (ph_str_eq(next_field(&record), PH_STR("v=STSv1"))) {
            count++;
            valid = read_id(record, id);
        }
    }
    if (count != 1 || !valid) {
        return PH_STS_RECORD_NONE;
    }
    memcpy(out_id, id, sizeof(id));
    return PH_STS_RECORD_FOUND;
}

// --- the policy ---

struct parsing {
    struct ph_sts_policy *policy;
    bool version;
    bool mode;
    bool max_age;
    struct ph_buf *error;
};

static bool fail(struct parsing *p, const char *what, struct ph_str value)
{
    ph_buf_printf(p->error, "%s \"%.*s\"", what, PH_STR_ARG(ph_str_first(value, 100)));
    return false;
}

// "mx1.example.org", or "*.example.org": the wildcard is the whole left-most label.
static bool is_pattern(struct ph_str value)
{
    struct ph_str name = ph_str_starts(value, PH_STR("*.")) ? ph_str_after(value, 2) : value;
    bool valid = name.len > 0 && value.len < PH_DNS_NAME_BYTES_MAX && name.data[0] != '.' &&
                 name.data[name.len - 1] != '.';

    for (size_t i = 0; valid && i < name.len; i++) {
        char c = name.data[i];

        valid = is_alnum(c) || c == '-' || c == '_' || (c == '.' && name.data[i - 1] != '.');
    }
    return valid;
}

static bool take_mx(struct parsing *p, struct ph_str value)
{
    struct ph_sts_policy *policy = p->policy;

    if (!is_pattern(value)) {
        return fail(p, "its mx is no host name or pattern:", value);
    }
    if (policy->mx_count == PH_STS_MX_MAX) {
        return fail(p, "it names too many hosts; the last read is", value);
    }
    policy->mx = reallocarray(policy->mx, policy->mx_count + 1, sizeof(*policy->mx));
    PH_CHECK(policy->mx != NULL);
    ph_str_copy(policy->mx[policy->mx_count++], PH_DNS_NAME_BYTES_MAX, value);
    return true;
}

static bool take_mode(struct parsing *p, struct ph_str value)
{
    for (int mode = PH_STS_ENFORCE; mode <= PH_STS_NONE; mode++) {
        if (ph_str_eq(value, ph_str_from(ph_sts_mode_name((enum ph_sts_mode)mode)))) {
            p->policy->mode = (enum ph_sts_mode)mode;
            p->mode = true;
            return true;
        }
    }
    return fail(p, "its mode is none of enforce, testing, none:", value);
}

static bool take_max_age(struct parsing *p, struct ph_str value)
{
    uint64_t seconds;

    if (value.len == 0 || value.len > 10 || !ph_str_to_u64(value, &seconds)) {
        return fail(p, "its max_age is no number of seconds:", value);
    }
    p->policy->max_age_s = seconds < PH_STS_MAX_AGE_S ? (uint32_t)seconds : PH_STS_MAX_AGE_S;
    p->max_age = true;
    return true;
}

// RFC 8461 §3.2: of what stands twice only the first counts, except mx; what is unknown is passed
// over.
static bool take_line(struct parsing *p, struct ph_str line)
{
    struct ph_str value = line;
    struct ph_str key;
    bool good = true;

    if (ph_str_trim(line).len == 0) {
        return true;
    }
    if (!ph_str_cut(&value, ':', &key)) {
        return fail(p, "it has a line without a key:", line);
    }
    value = ph_str_trim(value);
    if (ph_str_eq(key, PH_STR("version")) && !p->version) {
        p->version = ph_str_eq(value, PH_STR("STSv1"));
        good = p->version || fail(p, "its version is not STSv1 but", value);
    } else if (ph_str_eq(key, PH_STR("mode")) && !p->mode) {
        good = take_mode(p, value);
    } else if (ph_str_eq(key, PH_STR("max_age")) && !p->max_age) {
        good = take_max_age(p, value);
    } else if (ph_str_eq(key, PH_STR("mx"))) {
        good = take_mx(p, value);
    }
    return good;
}

static bool complete(struct parsing *p)
{
    const char *missing = !p->version                                                  ? "version"
                          : !p->mode                                                   ? "mode"
                          : !p->max_age                                                ? "max_age"
                          : p->policy->mx_count == 0 && p->policy->mode != PH_STS_NONE ? "mx"
                                                                                       : NULL;

    return missing == NULL || fail(p, "it lacks", ph_str_from(missing));
}

struct ph_sts_policy *ph_sts_policy_parse(struct ph_str domain, struct ph_str id,
                                          uint64_t fetched_ms, struct ph_str text,
                                          struct ph_buf *error)
{
    struct ph_sts_policy *policy = ph_alloc(sizeof(*policy));
    struct parsing parsing = {.policy = policy, .error = error};
    struct ph_str rest = text;
    struct ph_str line;
    bool good = text.len <= PH_STS_POLICY_BYTES_MAX ||
                fail(&parsing, "it is longer than", PH_STR("64 KiB"));

    atomic_init(&policy->references, 1);
    ph_str_copy(policy->domain, sizeof(policy->domain), domain);
    ph_str_copy(policy->id, sizeof(policy->id), id);
    policy->fetched_ms = fetched_ms;
    while (good && ph_str_cut_line(&rest, &line)) {
        good = take_line(&parsing, line);
    }
    good = good && take_line(&parsing, rest) && complete(&parsing);
    if (!good) {
        ph_sts_policy_release(policy);
        return NULL;
    }
    ph_buf_append(&policy->text, text);
    return policy;
}

struct ph_sts_policy *ph_sts_policy_retain(struct ph_sts_policy *policy)
{
    if (policy != NULL) {
        atomic_fetch_add_explicit(&policy->references, 1, memory_order_relaxed);
    }
    return policy;
}

void ph_sts_policy_release(struct ph_sts_policy *policy)
{
    if (policy != NULL &&
        atomic_fetch_sub_explicit(&policy->references, 1, memory_order_acq_rel) == 1) {
        ph_buf_deinit(&policy->text);
        free(policy->mx);
        free(policy);
    }
}

uint64_t ph_sts_policy_expires_ms(const struct ph_sts_policy *policy)
{
    return policy->fetched_ms + (uint64_t)policy->max_age_s * 1000;
}

bool ph_sts_mx_matches(const struct ph_sts_policy *policy, struct ph_str host)
{
    struct ph_str below = host;
    struct ph_str label;
    bool has_label = ph_str_cut(&below, '.', &label) && label.len > 0;

    for (size_t i = 0; i < policy->mx_count; i++) {
        struct ph_str pattern = ph_str_from(policy->mx[i]);

        // The wildcard stands for exactly one label.
        if (ph_str_starts(pattern, PH_STR("*."))
                ? has_label && ph_str_eq_nocase(ph_str_after(pattern, 2), below)
                : ph_str_eq_nocase(pattern, host)) {
            return true;
        }
    }
    return false;
}

const char *ph_sts_mode_name(enum ph_sts_mode mode)
{
    static const char *const names[] = {
        [PH_STS_ENFORCE] = "enforce", [PH_STS_TESTING] = "testing", [PH_STS_NONE] = "none"};

    return names[mode];
}
