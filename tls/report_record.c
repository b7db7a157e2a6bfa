// The TLSRPT record.
#include "tls/report_record.h"

#include <string.h>

#define PH_REPORT_TEXT_BYTES_MAX 4096 // of the record; ours

static struct ph_str join_strings(struct ph_str rdata, char out[PH_REPORT_TEXT_BYTES_MAX])
{
    size_t used = 0;

    while (rdata.len > 0) {
        struct ph_str part = ph_str_first(ph_str_after(rdata, 1), (uint8_t)rdata.data[0]);

        part = ph_str_first(part, PH_REPORT_TEXT_BYTES_MAX - used);
        memcpy(out + used, part.data, part.len);
        used += part.len;
        rdata = ph_str_after(rdata, 1 + (size_t)(uint8_t)rdata.data[0]);
    }
    return (struct ph_str){.data = out, .len = used};
}

static struct ph_str next_part(struct ph_str *rest, char separator)
{
    struct ph_str part;

    if (!ph_str_cut(rest, separator, &part)) {
        part = *rest;
        *rest = PH_STR_NONE;
    }
    return ph_str_trim(part);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

// "user%2Cx@example.org?subject=…" → the address. False: not one, or with what must not be in one.
static bool read_mail_address(struct ph_str text, char out[PH_REPORT_TARGET_BYTES_MAX])
{
    size_t used = 0;
    size_t ats = 0;
    struct ph_str address = next_part(&text, '?');

    for (size_t i = 0; i < address.len; i++) {
        char c = address.data[i];

        if (c == '%') {
            int high = i + 1 < address.len ? hex_digit(address.data[i + 1]) : -1;
            int low = i + 2 < address.len ? hex_digit(address.data[i + 2]) : -1;

            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        if ((unsigned char)c <= 0x20 || (unsigned char)c >= 0x7f || c == '<' || c == '>' ||
            used + 1 == PH_REPORT_TARGET_BYTES_MAX) {
            return false;
        }
        ats += c == '@';
        out[used++] = c;
    }
    out[used] = '\0';
    return ats == 1 && out[0] != '@' && out[used - 1] != '@';
}

static void add_target(struct ph_report_targets *targets, struct ph_str uri)
{
    bool plain = uri.len < PH_REPORT_TARGET_BYTES_MAX;
    bool good = false;

    if (targets->count == PH_REPORT_TARGETS_MAX) {
        return;
    }
    for (size_t i = 0; i < uri.len; i++) {
        plain &= (unsigned char)uri.data[i] > 0x20 && (unsigned char)uri.data[i] < 0x7f;
    }
    if (plain && ph_str_starts_nocase(uri, PH_STR("mailto:"))) {
        targets->target[targets->count].mail = true;
        good = read_mail_address(ph_str_after(uri, 7), targets->target[targets->count].to);
    } else if (plain && ph_str_starts_nocase(uri, PH_STR("https://"))) {
        targets->target[targets->count].mail = false;
        ph_str_copy(targets->target[targets->count].to, PH_REPORT_TARGET_BYTES_MAX, uri);
        good = true;
    }
    targets->count += good;
}

bool ph_report_record_read(const struct ph_resolve_op *answer, struct ph_report_targets *out)
{
    struct ph_str rest = ph_buf_str(&answer->rdata);
    size_t records = 0;

    out->count = 0;
    while (answer->status == PH_RESOLVE_OK && rest.len >= 2) {
        size_t len = (size_t)((uint8_t)rest.data[0] << 8 | (uint8_t)rest.data[1]);
        char text[PH_REPORT_TEXT_BYTES_MAX];
        struct ph_str record;
        bool found = false;

        rest = ph_str_after(rest, 2);
        record = join_strings(ph_str_first(rest, len), text);
        rest = ph_str_after(rest, len);
        if (!ph_str_eq(next_part(&record, ';'), PH_STR("v=TLSRPTv1"))) {
            continue;
        }
        records++;
        while (record.len > 0 && !found) {
            struct ph_str field = next_part(&record, ';');

            found = ph_str_starts(field, PH_STR("rua="));
            field = ph_str_after(field, 4);
            while (found && field.len > 0) {
                add_target(out, next_part(&field, ','));
            }
        }
    }
    // Several records are as good as none (RFC 8460 §3).
    return records == 1 && out->count > 0;
}
