// LocalData: zone-file lines.
#include "dns/local.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/hash.h"

#define PH_LOCAL_TTL_S 300      // where a line gives none; ours
#define PH_LOCAL_CNAMES_MAX 8   // followed; ours
#define PH_LOCAL_RDATA_MAX 1024 // of one record; ours

struct record {
    enum ph_rrtype type;
    uint32_t ttl_s;
    uint16_t len;
    unsigned char *rdata;
    char target[PH_DNS_NAME_BYTES_MAX]; // of a CNAME
    struct record *next;
};

struct name {
    char name[PH_DNS_NAME_BYTES_MAX]; // lower case, without trailing dot
    struct record *records;           // NULL: only a node above others, or a zone
    bool zone;                        // the lines speak of all below it
    UT_hash_handle hh;
};

struct ph_dns_local {
    struct name *names;
};

struct ph_dns_local *ph_dns_local_create(void)
{
    return ph_alloc(sizeof(struct ph_dns_local));
}

void ph_dns_local_destroy(struct ph_dns_local *local)
{
    struct name *name;
    struct name *next;

    if (local == NULL) {
        return;
    }
    HASH_ITER(hh, local->names, name, next)
    {
        struct record *record = name->records;

        HASH_DEL(local->names, name);
        while (record != NULL) {
            struct record *after = record->next;

            free(record->rdata);
            free(record);
            record = after;
        }
        free(name);
    }
    free(local);
}

static bool normalize(struct ph_str text, char out[PH_DNS_NAME_BYTES_MAX])
{
    if (text.len > 0 && text.data[text.len - 1] == '.') {
        text.len--;
    }
    if (text.len == 0 || text.len >= PH_DNS_NAME_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        out[i] = ph_ascii_lower(text.data[i]);
    }
    out[text.len] = '\0';
    return true;
}

static struct name *find(const struct ph_dns_local *local, const char *name)
{
    struct name *found;

    HASH_FIND_STR(local->names, name, found);
    return found;
}

static struct name *find_or_add(struct ph_dns_local *local, const char *text)
{
    struct name *name = find(local, text);

    if (name == NULL) {
        name = ph_alloc(sizeof(*name));
        ph_str_copy(name->name, sizeof(name->name), ph_str_from(text));
        HASH_ADD_STR(local->names, name, name);
    }
    return name;
}

// Where the last two labels of a name begin: what is below them is ours to answer.
static const char *zone_of(const char *name)
{
    const char *last = strrchr(name, '.');
    const char *zone = name;

    for (const char *dot = strchr(name, '.'); dot != NULL && dot < last;
         dot = strchr(dot + 1, '.')) {
        zone = dot + 1;
    }
    return zone;
}

static struct ph_str next_word(struct ph_str *rest)
{
    struct ph_str word;
    size_t len = 0;

    *rest = ph_str_trim(*rest);
    while (len < rest->len && rest->data[len] != ' ' && rest->data[len] != '\t') {
        len++;
    }
    word = ph_str_first(*rest, len);
    *rest = ph_str_after(*rest, len);
    return word;
}

// A domain name in wire form (RFC 1035 §3.1); 0: too long or badly formed.
static size_t encode_name(const char *name, unsigned char *out, size_t cap)
{
    size_t at = 0;

    for (const char *label = name; *label != '\0';) {
        size_t len = strcspn(label, ".");

        if (len == 0 || len > 63 || at + len + 2 > cap) {
            return 0;
        }
        out[at++] = (unsigned char)len;
        memcpy(out + at, label, len);
        at += len;
        label += len + (label[len] == '.');
    }
    out[at++] = 0;
    return at;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *found = strchr(digits, ph_ascii_lower(c));

    return c != '\0' && found != NULL ? (int)(found - digits) : -1;
}

static size_t encode_tlsa(struct ph_str rest, unsigned char *out, size_t cap)
{
    size_t at = 0;
    uint64_t number;
    struct ph_str hex;

    for (; at < 3; at++) {
        if (!ph_str_to_u64(next_word(&rest), &number) || number > 255) {
            return 0;
        }
        out[at] = (unsigned char)number;
    }
    hex = next_word(&rest);
    for (size_t i = 0; i + 1 < hex.len && at < cap; i += 2) {
        int high = hex_digit(hex.data[i]);
        int low = hex_digit(hex.data[i + 1]);

        if (high < 0 || low < 0) {
            return 0;
        }
        out[at++] = (unsigned char)(high << 4 | low);
    }
    return at > 3 ? at : 0;
}

static size_t encode_txt(struct ph_str rest, unsigned char *out, size_t cap)
{
    struct ph_str text = ph_str_trim(rest);

    if (text.len >= 2 && text.data[0] == '"' && text.data[text.len - 1] == '"') {
        text = ph_str_first(ph_str_after(text, 1), text.len - 2);
    }
    if (text.len > 255 || text.len + 1 > cap) {
        return 0;
    }
    out[0] = (unsigned char)text.len;
    memcpy(out + 1, text.data, text.len);
    return text.len + 1;
}

static size_t encode(enum ph_rrtype type, struct ph_str rest, unsigned char *out, size_t cap,
                     char target[PH_DNS_NAME_BYTES_MAX])
{
    char text[PH_DNS_NAME_BYTES_MAX];
    uint64_t number;
    size_t len = 0;

    switch (type) {
    case PH_RRTYPE_A:
    case PH_RRTYPE_AAAA:
        ph_str_copy(text, sizeof(text), next_word(&rest));
        if (inet_pton(type == PH_RRTYPE_A ? AF_INET : AF_INET6, text, out) == 1) {
            len = type == PH_RRTYPE_A ? 4 : 16;
        }
        break;
    case PH_RRTYPE_MX:
        if (ph_str_to_u64(next_word(&rest), &number) && number <= UINT16_MAX) {
            struct ph_str host = next_word(&rest);

            out[0] = (unsigned char)(number >> 8);
            out[1] = (unsigned char)number;
            if (ph_str_eq(host, PH_STR("."))) {
                out[2] = 0;
                len = 3;
            } else if (normalize(host, text)) {
                size_t name_len = encode_name(text, out + 2, cap - 2);

                len = name_len > 0 ? name_len + 2 : 0;
            }
        }
        break;
    case PH_RRTYPE_CNAME:
        if (normalize(next_word(&rest), target)) {
            len = encode_name(target, out, cap);
        }
        break;
    case PH_RRTYPE_TXT:
        len = encode_txt(rest, out, cap);
        break;
    case PH_RRTYPE_TLSA:
        len = encode_tlsa(rest, out, cap);
        break;
    }
    return len;
}

static bool read_type(struct ph_str word, enum ph_rrtype *out)
{
    static const struct {
        const char *text;
        enum ph_rrtype type;
    } types[] = {{"A", PH_RRTYPE_A},         {"AAAA", PH_RRTYPE_AAAA}, {"MX", PH_RRTYPE_MX},
                 {"CNAME", PH_RRTYPE_CNAME}, {"TXT", PH_RRTYPE_TXT},   {"TLSA", PH_RRTYPE_TLSA}};

    for (size_t i = 0; i < PH_ARRAY_LEN(types); i++) {
        if (ph_str_eq_nocase(word, ph_str_from(types[i].text))) {
            *out = types[i].type;
            return true;
        }
    }
    return false;
}

static void add_record(struct ph_dns_local *local, const char *name, struct record *record)
{
    struct name *node = find_or_add(local, name);
    struct record **last = &node->records;

    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = record;
    // The names above exist too (without records), up to the zone.
    for (const char *above = name; above != zone_of(name);) {
        above = strchr(above, '.') + 1;
        find_or_add(local, above);
    }
    find_or_add(local, zone_of(name))->zone = true;
}

bool ph_dns_local_add(struct ph_dns_local *local, struct ph_str line, struct ph_buf *error)
{
    struct ph_str rest = line;
    struct ph_str word = next_word(&rest);
    char name[PH_DNS_NAME_BYTES_MAX];
    unsigned char rdata[PH_LOCAL_RDATA_MAX];
    struct record *record;
    enum ph_rrtype type;
    uint64_t ttl_s = PH_LOCAL_TTL_S;
    char target[PH_DNS_NAME_BYTES_MAX] = "";
    size_t len;

    if (!normalize(word, name)) {
        ph_buf_printf(error, "\"%.*s\" does not begin with a name", PH_STR_ARG(line));
        return false;
    }
    word = next_word(&rest);
    if (ph_str_to_u64(word, &ttl_s)) {
        word = next_word(&rest);
    }
    if (ph_str_eq_nocase(word, PH_STR("IN"))) {
        word = next_word(&rest);
    }
    if (!read_type(word, &type)) {
        ph_buf_printf(error, "\"%.*s\": the type is A, AAAA, MX, CNAME, TXT or TLSA",
                      PH_STR_ARG(line));
        return false;
    }
    len = encode(type, rest, rdata, sizeof(rdata), target);
    if (len == 0) {
        ph_buf_printf(error, "\"%.*s\": what follows %.*s can't be read", PH_STR_ARG(line),
                      PH_STR_ARG(word));
        return false;
    }
    record = ph_alloc(sizeof(*record));
    record->type = type;
    record->ttl_s = (uint32_t)ttl_s;
    record->len = (uint16_t)len;
    record->rdata = ph_alloc(len);
    memcpy(record->rdata, rdata, len);
    ph_str_copy(record->target, sizeof(record->target), ph_str_from(target));
    add_record(local, name, record);
    return true;
}

static const struct record *first_of(const struct name *node, enum ph_rrtype type)
{
    const struct record *record = node->records;

    while (record != NULL && record->type != type) {
        record = record->next;
    }
    return record;
}

static void append(struct ph_resolve_op *op, const struct record *record)
{
    unsigned char len[2] = {(unsigned char)(record->len >> 8), (unsigned char)record->len};

    ph_buf_append_bytes(&op->rdata, len, sizeof(len));
    ph_buf_append_bytes(&op->rdata, record->rdata, record->len);
}

bool ph_dns_local_answer(const struct ph_dns_local *local, struct ph_resolve_op *op)
{
    char name[PH_DNS_NAME_BYTES_MAX];
    const struct name *zone;
    const struct name *node = NULL;
    const struct record *record;

    if (!normalize(ph_str_from(op->name), name)) {
        return false;
    }
    zone = find(local, zone_of(name));
    if (zone == NULL || !zone->zone) {
        return false;
    }
    op->secure = true; // the administrator's own word
    op->ttl_s = PH_LOCAL_TTL_S;
    op->status = PH_RESOLVE_NXDOMAIN;
    for (unsigned hops = 0; hops < PH_LOCAL_CNAMES_MAX; hops++) {
        node = find(local, name);
        record = node != NULL ? first_of(node, PH_RRTYPE_CNAME) : NULL;
        if (record == NULL || op->rrtype == PH_RRTYPE_CNAME) {
            break;
        }
        ph_str_copy(name, sizeof(name), ph_str_from(record->target));
        ph_str_copy(op->canonical_name, sizeof(op->canonical_name), ph_str_from(name));
    }
    if (node != NULL) {
        op->status = PH_RESOLVE_NODATA;
        for (record = node->records; record != NULL; record = record->next) {
            if (record->type == op->rrtype) {
                op->status = PH_RESOLVE_OK;
                op->ttl_s = record->ttl_s;
                append(op, record);
            }
        }
    }
    return true;
}
