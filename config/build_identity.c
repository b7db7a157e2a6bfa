// Our own certificates, as TlsCertificateName names them. Of those in CertificateDir that answer to
// `<I>issuer<S>subject` or `spki:SHA256` the newest one that is valid is taken, so that a renewal
// is a file put beside the old one; anything else is the path of a file.
#include <stdio.h>
#include <string.h>

#include "config/build_parts.h"

#define X500_PARTS_MAX 32 // of one name; ours

struct search {
    struct ph_builder *b;
    const struct ph_value *value;
    struct ph_str issuer; // both empty: by `spki`
    struct ph_str subject;
    struct ph_str spki; // hexadecimal
    struct ph_tls_identity *found;
    int64_t now_s;
    int64_t until_s;           // when the choice may become another
    enum ph_reason_kind fault; // of those that answer to the name
    char faulty[4096];         // the file at fault
    char chosen[4096];         // the file of `found`
};

// "CN=mail.contoso.com, O=Contoso" → its parts, without the spaces around them.
static size_t split_name(struct ph_str name, struct ph_str out[X500_PARTS_MAX])
{
    size_t count = 0;
    size_t begin = 0;

    for (size_t i = 0; i <= name.len && count < X500_PARTS_MAX; i++) {
        bool escaped = i > 0 && i < name.len && name.data[i - 1] == '\\';

        if (i == name.len || (name.data[i] == ',' && !escaped)) {
            out[count++] = ph_str_trim(ph_str_first(ph_str_after(name, begin), i - begin));
            begin = i + 1;
        }
    }
    return count;
}

static bool same_part(struct ph_str a, struct ph_str b)
{
    struct ph_str types[2] = {PH_STR_NONE, PH_STR_NONE};

    if (!ph_str_cut(&a, '=', &types[0]) || !ph_str_cut(&b, '=', &types[1])) {
        return false;
    }
    for (size_t i = 0; i < 2; i++) {
        types[i] = ph_str_trim(types[i]);
        if (ph_str_eq_nocase(types[i], PH_STR("S"))) {
            types[i] = PH_STR("ST"); // Exchange's word for it
        } else if (ph_str_eq_nocase(types[i], PH_STR("E"))) {
            types[i] = PH_STR("emailAddress");
        }
    }
    return ph_str_eq_nocase(types[0], types[1]) && ph_str_eq_nocase(ph_str_trim(a), ph_str_trim(b));
}

// In one order or the other: tools print names from either end.
static bool same_name(struct ph_str a, struct ph_str b)
{
    struct ph_str left[X500_PARTS_MAX];
    struct ph_str right[X500_PARTS_MAX];
    size_t count = split_name(a, left);
    bool forward = count == split_name(b, right);
    bool backward = forward;

    for (size_t i = 0; i < count && (forward || backward); i++) {
        forward = forward && same_part(left[i], right[i]);
        backward = backward && same_part(left[i], right[count - 1 - i]);
    }
    return forward || backward;
}

static bool same_hash(struct ph_str hex, const uint8_t hash[PH_SHA256_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * PH_SHA256_BYTES];

    for (size_t i = 0; i < PH_SHA256_BYTES; i++) {
        text[2 * i] = digits[hash[i] >> 4];
        text[2 * i + 1] = digits[hash[i] & 15];
    }
    return ph_str_eq_nocase(hex, (struct ph_str){.data = text, .len = sizeof(text)});
}

static bool answers(const struct search *s, const struct ph_tls_identity *identity)
{
    return s->spki.len > 0
               ? same_hash(s->spki, ph_tls_identity_spki_sha256(identity))
               : same_name(s->issuer, ph_str_from(ph_tls_identity_issuer(identity))) &&
                     same_name(s->subject, ph_str_from(ph_tls_identity_subject(identity)));
}

// It answers to the name: is it the one?
static void consider(struct search *s, struct ph_tls_identity *take_identity, const char *file)
{
    int64_t begin_s = ph_tls_identity_not_before_s(take_identity);
    int64_t end_s = ph_tls_identity_not_after_s(take_identity);
    int64_t turn_s = s->now_s < begin_s ? begin_s : end_s;

    ph_build_keep_identity(s->b, take_identity);
    if (turn_s > s->now_s && turn_s < s->until_s) {
        s->until_s = turn_s;
    }
    if (s->now_s != 0 && (s->now_s < begin_s || s->now_s >= end_s)) {
        s->fault = PH_REASON_CLIENT_CERT_EXPIRED;
        ph_str_copy(s->faulty, sizeof(s->faulty), ph_str_from(file));
    } else if (s->found == NULL || begin_s > ph_tls_identity_not_before_s(s->found)) {
        s->found = take_identity;
        ph_str_copy(s->chosen, sizeof(s->chosen), ph_str_from(file));
    }
}

static void look_into(struct search *s, const char *file)
{
    struct ph_buf text = {0};
    struct ph_buf error = {0};
    struct ph_tls_identity *identity = NULL;
    unsigned mode;

    ph_build_watch(s->b, ph_str_from(file));
    if (s->b->files->read(s->b->files->owner, file, &text, &mode, &error)) {
        identity = ph_tls_identity_create(ph_buf_str(&text), PH_STR_NONE, &error);
    }
    if (identity != NULL && answers(s, identity)) {
        consider(s, identity, file);
    } else {
        ph_tls_identity_destroy(identity); // another's, or no certificate with its key
    }
    ph_buf_deinit(&text);
    ph_buf_deinit(&error);
}

static void search(struct search *s, struct ph_str directory)
{
    char pattern[4096];
    struct ph_buf names = {0};

    ph_build_watch(s->b, directory);
    snprintf(pattern, sizeof(pattern), "%.*s/*.pem", PH_STR_ARG(directory));
    if (s->b->files != NULL && s->b->files->expand(s->b->files->owner, pattern, &names)) {
        for (size_t i = 0; i < names.len; i += strlen(names.data + i) + 1) {
            look_into(s, names.data + i);
        }
    }
    ph_buf_deinit(&names);
}

// `<I>CN=Contoso CA<S>CN=mail.contoso.com` or `spki:SHA256`. False: neither, so it is a file.
static bool read_name(struct search *s, struct ph_str text)
{
    ptrdiff_t at = ph_str_find(text, PH_STR("<S>"));

    if (ph_str_starts_nocase(text, PH_STR("spki:"))) {
        s->spki = ph_str_after(text, 5);
        return true;
    }
    if (!ph_str_starts(text, PH_STR("<I>")) || at < 0) {
        return false;
    }
    s->issuer = ph_str_trim(ph_str_first(ph_str_after(text, 3), (size_t)at - 3));
    s->subject = ph_str_trim(ph_str_after(text, (size_t)at + 3));
    return true;
}

static void warn(struct search *s, const struct ph_tls_identity *identity)
{
    ph_build_check_expiry(s->b, s->value->at, "TlsCertificateName",
                          ph_tls_identity_not_after_s(identity));
    if (!ph_tls_identity_allows_client_auth(identity)) {
        ph_build_warning(s->b, s->value->at, "W12", "TlsCertificateName",
                         "the certificate isn't for clients (clientAuth); partners may refuse it");
    }
}

static void say_missing(struct search *s, struct ph_str directory)
{
    ph_build_error(s->b, s->value->at, "C20", "TlsCertificateName",
                   "no certificate with its key in %.*s/*.pem answers to %.*s; put one there, or "
                   "write the path of a PEM file with the chain and the key",
                   PH_STR_ARG(directory), PH_STR_ARG(s->value->text));
}

static void by_name(struct search *s, struct ph_str directory)
{
    search(s, directory);
    if (s->found != NULL) {
        return;
    }
    if (s->fault == PH_REASON_NONE) {
        s->fault = PH_REASON_CLIENT_CERT_MISSING;
        if (s->b->files == NULL || !s->b->files->running) {
            say_missing(s, directory);
        }
    } else {
        ph_build_warning(s->b, s->value->at, "W9", "TlsCertificateName",
                         "%s has expired or isn't valid yet, and no other answers to the name: "
                         "mail that needs it waits; renew it",
                         s->faulty);
    }
}

static void by_file(struct search *s)
{
    struct ph_buf text = {0};
    struct ph_buf error = {0};
    char name[4096];
    unsigned mode;
    bool there;

    ph_str_copy(name, sizeof(name), s->value->text);
    ph_build_watch(s->b, s->value->text);
    there =
        s->b->files != NULL && s->b->files->read(s->b->files->owner, name, &text, &mode, &error);
    if (there) {
        s->found = ph_tls_identity_create(ph_buf_str(&text), PH_STR_NONE, &error);
    }
    if (s->found != NULL) {
        ph_build_keep_identity(s->b, s->found);
        if (s->now_s < ph_tls_identity_not_after_s(s->found)) {
            s->until_s = ph_tls_identity_not_after_s(s->found);
        } else if (s->now_s != 0) {
            s->fault = PH_REASON_CLIENT_CERT_EXPIRED;
        }
    } else {
        s->fault = there ? PH_REASON_CLIENT_CERT_NO_KEY : PH_REASON_CLIENT_CERT_MISSING;
        if (s->b->files == NULL || !s->b->files->running) {
            ph_build_error(
                s->b, s->value->at, "C20", "TlsCertificateName",
                "%s: %.*s; write the path of a PEM file that holds the chain and its "
                "key, or \"<I>issuer<S>subject\" of one in CertificateDir",
                name, PH_STR_ARG(error.len > 0 ? ph_buf_str(&error) : PH_STR("no files here")));
        }
    }
    ph_buf_deinit(&text);
    ph_buf_deinit(&error);
}

struct ph_str ph_build_certificate_file(struct ph_builder *b, const struct ph_value *value)
{
    struct search s = {.b = b,
                       .value = value,
                       .now_s = b->files != NULL ? b->files->now_s : 0,
                       .until_s = INT64_MAX};
    struct ph_str directory = b->global[PH_GLOBAL_CERTIFICATE_DIR].text;

    if (!read_name(&s, value->text)) {
        return value->text;
    }
    search(&s, directory);
    if (s.found == NULL && s.fault == PH_REASON_NONE) {
        say_missing(&s, directory); // while it runs, too: the configuration in force stays
    }
    if (s.until_s < b->config->certificates_until_s) {
        b->config->certificates_until_s = s.until_s;
    }
    // One that has expired is shown all the same, with a warning, as TlsCertificate's is: without
    // any there would be no TLS.
    return ph_build_str(b, ph_str_from(s.found != NULL ? s.chosen : s.faulty));
}

void ph_build_identity(struct ph_builder *b, const struct ph_value *value,
                       struct ph_send_connector *connector)
{
    struct search s = {.b = b,
                       .value = value,
                       .now_s = b->files != NULL ? b->files->now_s : 0,
                       .until_s = INT64_MAX};
    bool valid;

    connector->identity_configured = value->text.len > 0;
    if (value->text.len == 0) {
        return;
    }
    if (read_name(&s, value->text)) {
        by_name(&s, b->global[PH_GLOBAL_CERTIFICATE_DIR].text);
    } else {
        by_file(&s);
    }
    if (s.found != NULL) {
        warn(&s, s.found);
    }
    valid = s.found != NULL && (s.now_s == 0 || s.now_s < ph_tls_identity_not_after_s(s.found));
    connector->identity = valid ? s.found : NULL;
    connector->identity_fault = valid ? PH_REASON_NONE : s.fault;
    if (s.until_s < b->config->certificates_until_s) {
        b->config->certificates_until_s = s.until_s;
    }
}
