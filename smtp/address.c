// Mailboxes and domains.
#include "smtp/address.h"

#include <idn2.h>
#include <string.h>

static bool is_atext(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c >= 0x80 || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

static bool is_label_byte(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c >= 0x80;
}

// Length of the local-part at the front; 0: there is none.
static size_t local_part_len(struct ph_str text)
{
    size_t len = 0;

    if (text.len > 0 && text.data[0] == '"') {
        for (len = 1; len < text.len && text.data[len] != '"'; len++) {
            len += text.data[len] == '\\';
            if (len >= text.len || (unsigned char)text.data[len] < 0x20 || text.data[len] == 0x7f) {
                return 0;
            }
        }
        return len < text.len ? len + 1 : 0;
    }
    while (len < text.len && (is_atext((unsigned char)text.data[len]) || text.data[len] == '.')) {
        bool dot = text.data[len] == '.';

        if (dot && (len == 0 || text.data[len - 1] == '.')) {
            return 0;
        }
        len++;
    }
    return len > 0 && text.data[len - 1] != '.' ? len : 0;
}

static size_t domain_len(struct ph_str text, bool *out_literal)
{
    size_t len = 0;
    size_t label = 0;

    *out_literal = text.len > 0 && text.data[0] == '[';
    if (*out_literal) {
        ptrdiff_t end = ph_str_find_char(text, ']');

        for (ptrdiff_t i = 1; i < end; i++) {
            unsigned char c = (unsigned char)text.data[i];

            if (c <= 0x20 || c >= 0x7f || c == '[' || c == '\\') {
                return 0;
            }
        }
        return end > 1 ? (size_t)end + 1 : 0;
    }
    while (len < text.len) {
        unsigned char c = (unsigned char)text.data[len];

        if (c == '.' && label == 0) {
            return 0;
        }
        if (c != '.' && !is_label_byte(c)) {
            break;
        }
        label = c == '.' ? 0 : label + 1;
        len++;
    }
    return label > 0 ? len : 0;
}

static bool is_utf8(struct ph_str text)
{
    size_t len = 1;

    while (text.len > 0 && len > 0) {
        len = ph_str_utf8_len(text);
        text = ph_str_after(text, len);
    }
    return len > 0;
}

// The mailbox at the front of `text`; returns its length, 0: there is none.
static size_t read_mailbox(struct ph_str text, struct ph_address *out)
{
    size_t local = local_part_len(text);
    size_t domain;
    bool literal;

    if (local == 0 || local > PH_LOCAL_PART_BYTES_MAX || local >= text.len ||
        text.data[local] != '@') {
        return 0;
    }
    domain = domain_len(ph_str_after(text, local + 1), &literal);
    if (domain == 0 || domain > PH_DOMAIN_BYTES_MAX) {
        return 0;
    }
    *out = (struct ph_address){
        .text = ph_str_first(text, local + 1 + domain),
        .local = ph_str_first(text, local),
        .domain = ph_str_first(ph_str_after(text, local + 1), domain),
        .literal = literal,
    };
    for (size_t i = 0; i < out->text.len; i++) {
        out->utf8 |= (unsigned char)out->text.data[i] >= 0x80;
    }
    if (out->utf8 && !is_utf8(out->text)) {
        return 0; // RFC 6531 §3.3
    }
    return out->text.len;
}

// "@a.example,@b.example:" before the mailbox: read over.
static struct ph_str skip_source_route(struct ph_str text)
{
    struct ph_str rest = text;
    bool literal;

    while (rest.len > 0 && rest.data[0] == '@') {
        size_t len = domain_len(ph_str_after(rest, 1), &literal);

        if (len == 0 || len + 1 >= rest.len) {
            return text;
        }
        rest = ph_str_after(rest, len + 1);
        if (rest.data[0] == ':') {
            return ph_str_after(rest, 1);
        }
        if (rest.data[0] != ',') {
            return text;
        }
        rest = ph_str_after(rest, 1);
    }
    return text;
}

bool ph_address_parse_path(struct ph_str *input, struct ph_address *out)
{
    struct ph_str rest;
    size_t len;

    if (input->len < 2 || input->data[0] != '<') {
        return false;
    }
    if (input->data[1] == '>') {
        *out =
            (struct ph_address){.text = PH_STR_NONE, .local = PH_STR_NONE, .domain = PH_STR_NONE};
        *input = ph_str_after(*input, 2);
        return true;
    }
    rest = skip_source_route(ph_str_after(*input, 1));
    len = read_mailbox(rest, out);
    if (len == 0 || len >= rest.len || rest.data[len] != '>' ||
        (size_t)(rest.data + len - input->data) > PH_PATH_BYTES_MAX) {
        return false;
    }
    *input = ph_str_after(rest, len + 1);
    return true;
}

bool ph_address_parse(struct ph_str text, struct ph_address *out)
{
    struct ph_address read;

    if (read_mailbox(text, &read) != text.len || text.len == 0) {
        return false;
    }
    *out = read;
    return true;
}

bool ph_domain_normalize(struct ph_str domain, char out[PH_DOMAIN_BYTES_MAX + 1])
{
    bool ascii = true;
    size_t label = 0;

    if (domain.len > 0 && domain.data[domain.len - 1] == '.') {
        domain.len--;
    }
    if (domain.len == 0 || domain.len > PH_DOMAIN_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < domain.len; i++) {
        unsigned char c = (unsigned char)domain.data[i];

        if (c == '.' ? label == 0 : !is_label_byte(c)) {
            return false;
        }
        label = c == '.' ? 0 : label + 1;
        if (label > 63 && c < 0x80 && ascii) {
            return false;
        }
        ascii &= c < 0x80;
        out[i] = ph_ascii_lower(domain.data[i]);
    }
    out[domain.len] = '\0';
    if (label == 0) {
        return false;
    }
    if (!ascii) {
        char *converted = NULL;
        char unconverted[PH_DOMAIN_BYTES_MAX + 1];
        bool good;

        ph_str_copy(unconverted, sizeof(unconverted), domain);
        // What became of it is looked at again: a fullwidth character may have become any ASCII
        // one.
        good = idn2_to_ascii_8z(unconverted, &converted, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) ==
                   IDN2_OK &&
               ph_domain_normalize(ph_str_from(converted), out);
        idn2_free(converted);
        return good;
    }
    return true;
}
