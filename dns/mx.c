// The answer to an MX question → the hosts to try.
#include "dns/mx.h"

#include <stdlib.h>
#include <string.h>

struct parsed {
    struct ph_mx_hosts *hosts;
    bool null_mx;   // "0 ."
    bool malformed; // a record that can't be read, or a root among others
};

static enum ph_mx_result read_records(const struct ph_resolve_op *answer,
                                      const struct ph_str *own_names, size_t own_name_count,
                                      struct ph_mx_hosts *out_hosts, struct ph_reason *out_reason);
static struct ph_reason failure(const struct ph_resolve_op *answer);

enum ph_mx_result ph_mx_read(const struct ph_resolve_op *answer, const struct ph_str *own_names,
                             size_t own_name_count, struct ph_mx_hosts *out_hosts,
                             struct ph_reason *out_reason)
{
    enum ph_mx_result result = PH_MX_REFUSED;

    switch (answer->status) {
    case PH_RESOLVE_OK:
        result = read_records(answer, own_names, own_name_count, out_hosts, out_reason);
        break;
    case PH_RESOLVE_NODATA:
        // Implicit MX, and only here: a failed lookup says nothing about the domain.
        out_hosts->count = 1;
        out_hosts->hosts[0].preference = 0;
        ph_str_copy(out_hosts->hosts[0].name, sizeof(out_hosts->hosts[0].name),
                    ph_str_from(answer->name));
        result = PH_MX_FOUND;
        break;
    case PH_RESOLVE_NXDOMAIN:
    case PH_RESOLVE_SERVFAIL:
    case PH_RESOLVE_TIMEOUT:
    case PH_RESOLVE_BOGUS:
        *out_reason = failure(answer);
        break;
    }
    return result;
}

static struct ph_reason failure(const struct ph_resolve_op *answer)
{
    const char *detail = answer->detail[0] != '\0' ? answer->detail : "no answer";

    if (answer->status == PH_RESOLVE_NXDOMAIN) {
        return ph_reason_make(PH_REASON_DNS_NO_DOMAIN, "the domain %s does not exist",
                              answer->name);
    }
    if (answer->status == PH_RESOLVE_BOGUS) {
        return ph_reason_make(PH_REASON_DNSSEC_BOGUS,
                              "the MX records of %s fail DNSSEC validation: %s", answer->name,
                              detail);
    }
    return ph_reason_make(PH_REASON_DNS_FAILURE, "the MX records of %s could not be looked up: %s",
                          answer->name, detail);
}

// An uncompressed name of a record → text. Hosts are letters, digits, '-' and '_': what else a zone
// may hold can't be a mail host, and must not reach logs or a handshake. False: not such a name.
static bool read_name(struct ph_str wire, char out[PH_DNS_NAME_BYTES_MAX])
{
    size_t used = 0;

    while (wire.len > 0 && wire.data[0] != 0) {
        size_t label_len = (uint8_t)wire.data[0];
        struct ph_str label = ph_str_first(ph_str_after(wire, 1), label_len);

        if (label_len > 63 || label.len < label_len ||
            used + label_len + 2 > PH_DNS_NAME_BYTES_MAX) {
            return false;
        }
        if (used > 0) {
            out[used++] = '.';
        }
        for (size_t i = 0; i < label.len; i++) {
            char byte = ph_ascii_lower(label.data[i]);

            if (!((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' ||
                  byte == '_')) {
                return false;
            }
            out[used++] = byte;
        }
        wire = ph_str_after(wire, 1 + label_len);
    }
    out[used] = '\0';
    return wire.len == 1; // the root's zero, and nothing behind it
}

// "192.0.2.1." written where a host belongs: no top-level domain is a number (RFC 3696 §2).
static bool is_address(const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *last = dot != NULL ? dot + 1 : name;

    return last[0] != '\0' && last[strspn(last, "0123456789")] == '\0';
}

static int by_preference_then_name(const void *left, const void *right)
{
    const struct ph_mx_host *a = left;
    const struct ph_mx_host *b = right;

    return a->preference != b->preference ? (int)a->preference - (int)b->preference
                                          : strcmp(a->name, b->name);
}

// Keeps the hosts sorted and at most PH_MX_HOSTS_MAX: the worst one makes way.
static void add_host(struct ph_mx_hosts *hosts, const struct ph_mx_host *host)
{
    for (size_t i = 0; i < hosts->count; i++) {
        if (strcmp(hosts->hosts[i].name, host->name) == 0) {
            if (host->preference < hosts->hosts[i].preference) {
                hosts->hosts[i].preference = host->preference;
            }
            return;
        }
    }
    if (hosts->count < PH_MX_HOSTS_MAX) {
        hosts->hosts[hosts->count++] = *host;
    } else {
        size_t worst = 0;

        for (size_t i = 1; i < hosts->count; i++) {
            if (by_preference_then_name(&hosts->hosts[i], &hosts->hosts[worst]) > 0) {
                worst = i;
            }
        }
        if (by_preference_then_name(host, &hosts->hosts[worst]) < 0) {
            hosts->hosts[worst] = *host;
        }
    }
}

static void read_record(struct parsed *parsed, struct ph_str record)
{
    struct ph_mx_host host;

    if (record.len < 3 || !read_name(ph_str_after(record, 2), host.name) || is_address(host.name)) {
        parsed->malformed = true;
        return;
    }
    host.preference = (uint16_t)((uint8_t)record.data[0] << 8 | (uint8_t)record.data[1]);
    if (host.name[0] == '\0') {
        parsed->null_mx = true;
    } else {
        add_host(parsed->hosts, &host);
    }
}

// RFC 5321 §5.1: ourselves and all that is no better than ourselves.
static size_t drop_from_own(const struct ph_mx_hosts *hosts, const struct ph_str *own_names,
                            size_t own_name_count)
{
    uint32_t limit = UINT16_MAX + 1u;
    size_t kept = 0;

    for (size_t i = 0; i < hosts->count; i++) {
        for (size_t own = 0; own < own_name_count; own++) {
            if (ph_str_eq_nocase(ph_str_from(hosts->hosts[i].name), own_names[own]) &&
                hosts->hosts[i].preference < limit) {
                limit = hosts->hosts[i].preference;
            }
        }
    }
    while (kept < hosts->count && hosts->hosts[kept].preference < limit) {
        kept++;
    }
    return kept;
}

static enum ph_mx_result read_records(const struct ph_resolve_op *answer,
                                      const struct ph_str *own_names, size_t own_name_count,
                                      struct ph_mx_hosts *out_hosts, struct ph_reason *out_reason)
{
    struct ph_str rest = ph_buf_str(&answer->rdata);
    struct parsed parsed = {.hosts = out_hosts};
    bool alone;

    out_hosts->count = 0;
    while (rest.len >= 2) {
        size_t len = (size_t)((uint8_t)rest.data[0] << 8 | (uint8_t)rest.data[1]);

        rest = ph_str_after(rest, 2);
        read_record(&parsed, ph_str_first(rest, len));
        rest = ph_str_after(rest, len);
    }
    alone = out_hosts->count == 0 && !parsed.malformed;
    if (parsed.null_mx && alone) {
        *out_reason =
            ph_reason_make(PH_REASON_DNS_NULL_MX,
                           "%s accepts no mail: its MX record is the null MX", answer->name);
        return PH_MX_REFUSED;
    }
    // A null MX among others contradicts itself (RFC 7505 §3): nobody can tell which was meant.
    if (parsed.null_mx || out_hosts->count == 0) {
        *out_reason = ph_reason_make(PH_REASON_DNS_FAILURE, "the MX records of %s are malformed",
                                     answer->name);
        return PH_MX_REFUSED;
    }
    qsort(out_hosts->hosts, out_hosts->count, sizeof(out_hosts->hosts[0]), by_preference_then_name);
    out_hosts->count = drop_from_own(out_hosts, own_names, own_name_count);
    if (out_hosts->count == 0) {
        *out_reason = ph_reason_make(
            PH_REASON_DNS_MX_LOOP,
            "the best MX host of %s is this host: mail for it would come back", answer->name);
        return PH_MX_REFUSED;
    }
    return PH_MX_FOUND;
}
