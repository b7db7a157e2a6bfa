// TLSA records: which names to ask, what of the answer can be used.
#include "dns/tlsa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void read_records(const struct ph_resolve_op *answer, struct ph_tlsa *out);
static void apply_digest_agility(struct ph_tlsa *tlsa);

void ph_tlsa_deinit(struct ph_tlsa *tlsa)
{
    free(tlsa->records);
    ph_buf_deinit(&tlsa->data);
    *tlsa = (struct ph_tlsa){0};
}

struct ph_str ph_tlsa_data(const struct ph_tlsa *tlsa, const struct ph_tlsa_record *record)
{
    return ph_str_first(ph_str_after(ph_buf_str(&tlsa->data), record->data_at), record->data_len);
}

bool ph_tlsa_has_usage(const struct ph_tlsa *tlsa, enum ph_tlsa_usage usage)
{
    bool has = false;

    for (size_t i = 0; i < tlsa->record_count; i++) {
        has |= tlsa->records[i].usage == usage;
    }
    return has;
}

// --- whom to ask ---

static void add_base(struct ph_tlsa_plan *plan, const char *name)
{
    struct ph_str text = ph_str_from(name);

    if (text.len > 0 && text.data[text.len - 1] == '.') {
        text = ph_str_first(text, text.len - 1);
    }
    for (size_t i = 0; i < plan->base_count; i++) {
        if (ph_str_eq_nocase(ph_str_from(plan->bases[i]), text)) {
            return;
        }
    }
    if (text.len > 0 && plan->base_count < PH_TLSA_BASES_MAX) {
        ph_str_copy(plan->bases[plan->base_count++], PH_DNS_NAME_BYTES_MAX, text);
    }
}

void ph_tlsa_plan(const char *host, const struct ph_resolve_op *aaaa, const struct ph_resolve_op *a,
                  struct ph_tlsa_plan *out)
{
    const struct ph_resolve_op *vouched = a->secure ? a : aaaa;
    bool alias = a->canonical_name[0] != '\0' || aaaa->canonical_name[0] != '\0';

    *out = (struct ph_tlsa_plan){0};
    if (vouched->secure) {
        // An alias whose every step is signed: its canonical name goes first.
        add_base(out, vouched->canonical_name);
        add_base(out, host);
    } else if (alias) {
        out->ask_cname = true;
        ph_str_copy(out->bases[0], sizeof(out->bases[0]), ph_str_from(host));
    }
}

void ph_tlsa_plan_cname(const struct ph_resolve_op *cname, struct ph_tlsa_plan *plan)
{
    plan->ask_cname = false;
    // A failure here must not look like an unsigned alias: then the TLSA question decides, and
    // fails in turn where the zone's servers do.
    plan->base_count = cname->secure || cname->status < PH_RESOLVE_NXDOMAIN ? 1 : 0;
}

bool ph_tlsa_name(const char *base, uint16_t port, char out[PH_DNS_NAME_BYTES_MAX])
{
    int len = snprintf(out, PH_DNS_NAME_BYTES_MAX, "_%u._tcp.%s", port, base);

    return len > 0 && len < PH_DNS_NAME_BYTES_MAX;
}

// --- what the answer says ---

void ph_tlsa_read(const struct ph_resolve_op *answer, const char *base, struct ph_tlsa *out,
                  struct ph_reason *out_reason)
{
    const char *detail = answer->detail[0] != '\0' ? answer->detail : "no answer";

    ph_str_copy(out->base_domain, sizeof(out->base_domain), ph_str_from(base));
    out->ttl_s = answer->ttl_s;
    switch (answer->status) {
    case PH_RESOLVE_OK:
        out->status = PH_TLSA_NONE;
        if (answer->secure) {
            read_records(answer, out);
            apply_digest_agility(out);
            out->status = out->record_count > 0 ? PH_TLSA_USABLE : PH_TLSA_UNUSABLE;
        }
        break;
    case PH_RESOLVE_NODATA:
    case PH_RESOLVE_NXDOMAIN:
        out->status = PH_TLSA_NONE;
        break;
    case PH_RESOLVE_BOGUS:
        out->status = PH_TLSA_FAILED;
        *out_reason =
            ph_reason_make(PH_REASON_DNSSEC_BOGUS,
                           "the TLSA records of %s fail DNSSEC validation: %s", base, detail);
        break;
    case PH_RESOLVE_TIMEOUT:
    case PH_RESOLVE_SERVFAIL:
        out->status = PH_TLSA_FAILED;
        *out_reason = ph_reason_make(PH_REASON_DNS_FAILURE,
                                     "whether %s publishes TLSA records could not be looked up "
                                     "(%s), and its zone is signed: it is not used until that is "
                                     "known",
                                     base, detail);
        break;
    }
}

static size_t digest_len(enum ph_tlsa_matching matching)
{
    return matching == PH_TLSA_SHA256 ? 32 : 64;
}

static void read_record(struct ph_tlsa *out, struct ph_str rdata)
{
    struct ph_tlsa_record record;
    size_t len = rdata.len > 3 ? rdata.len - 3 : 0;

    if (len == 0 || len > PH_TLSA_DATA_BYTES_MAX || out->record_count == PH_TLSA_RECORDS_MAX) {
        return;
    }
    record = (struct ph_tlsa_record){
        .usage = (enum ph_tlsa_usage)(uint8_t)rdata.data[0],
        .selector = (enum ph_tlsa_selector)(uint8_t)rdata.data[1],
        .matching = (enum ph_tlsa_matching)(uint8_t)rdata.data[2],
        .data_at = out->data.len,
        .data_len = len,
    };
    if ((record.usage != PH_TLSA_DANE_TA && record.usage != PH_TLSA_DANE_EE) ||
        record.selector > PH_TLSA_SPKI || record.matching > PH_TLSA_SHA512 ||
        (record.matching != PH_TLSA_FULL && len != digest_len(record.matching))) {
        return;
    }
    ph_buf_append(&out->data, ph_str_after(rdata, 3));
    out->records[out->record_count++] = record;
}

// As many as there can be usable ones.
static size_t count_records(struct ph_str rest)
{
    size_t count = 0;

    while (rest.len >= 2 && count < PH_TLSA_RECORDS_MAX) {
        size_t len = (size_t)((uint8_t)rest.data[0] << 8 | (uint8_t)rest.data[1]);

        rest = ph_str_after(rest, 2 + len);
        count++;
    }
    return count;
}

static void read_records(const struct ph_resolve_op *answer, struct ph_tlsa *out)
{
    struct ph_str rest = ph_buf_str(&answer->rdata);
    size_t count = count_records(rest);

    if (count == 0) {
        return;
    }
    out->records = ph_alloc(count * sizeof(*out->records));
    while (rest.len >= 2) {
        size_t len = (size_t)((uint8_t)rest.data[0] << 8 | (uint8_t)rest.data[1]);

        rest = ph_str_after(rest, 2);
        read_record(out, ph_str_first(rest, len));
        rest = ph_str_after(rest, len);
    }
}

// RFC 7671 §9: of the digests with the same usage and selector only the strongest counts, lest a
// weak one that was left behind authenticate a forgery.
static void apply_digest_agility(struct ph_tlsa *tlsa)
{
    size_t kept = 0;

    for (size_t i = 0; i < tlsa->record_count; i++) {
        const struct ph_tlsa_record *record = &tlsa->records[i];
        bool stronger = false;

        // What was moved to the front already is as strong as it was where it stood.
        for (size_t j = 0; j < tlsa->record_count; j++) {
            const struct ph_tlsa_record *other = &tlsa->records[j];

            stronger |= other->usage == record->usage && other->selector == record->selector &&
                        record->matching == PH_TLSA_SHA256 && other->matching == PH_TLSA_SHA512;
        }
        if (!stronger) {
            tlsa->records[kept++] = *record;
        }
    }
    tlsa->record_count = kept;
}
