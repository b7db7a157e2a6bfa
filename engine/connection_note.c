// What is known of a session, rendered once for all the log lines of its messages.
#include <stdio.h>
#include <stdlib.h>

#include "base/date.h"
#include "base/json.h"
#include "engine/connection_parts.h"
#include "tls/verify.h"

#define PH_NOTE_NAMES_MAX 32 // of a certificate, in the log; ours
#define PH_NOTE_TEXT_MAX 256 // bytes of a peer's text, in the log; ours

static void put_hash(struct ph_json *out, const char *key, const uint8_t hash[PH_SHA256_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * PH_SHA256_BYTES];

    for (size_t i = 0; i < PH_SHA256_BYTES; i++) {
        text[2 * i] = digits[hash[i] >> 4];
        text[2 * i + 1] = digits[hash[i] & 15];
    }
    ph_json_string(out, key, (struct ph_str){.data = text, .len = sizeof(text)}, 0);
}

static void put_certificate(struct ph_json *out, const struct ph_chain *chain)
{
    char date[PH_DATE_TEXT_MAX];

    ph_json_open_object(out, "cert");
    ph_json_string(out, "subject", ph_str_from(chain->subject), PH_NOTE_TEXT_MAX);
    ph_json_string(out, "issuer", ph_str_from(chain->issuer), PH_NOTE_TEXT_MAX);
    ph_json_open_array(out, "names");
    for (size_t i = 0; i < chain->dns_name_count && i < PH_NOTE_NAMES_MAX; i++) {
        ph_json_string(out, NULL, ph_str_from(chain->dns_names[i]), PH_NOTE_TEXT_MAX);
    }
    ph_json_close_array(out);
    ph_json_u64(out, "name_count", chain->dns_name_count);
    if (chain->common_name[0] != '\0') {
        ph_json_string(out, "common_name", ph_str_from(chain->common_name), PH_NOTE_TEXT_MAX);
    }
    ph_json_text(out, "not_after",
                 ph_date_format_iso(
                     (uint64_t)(chain->not_after_s > 0 ? chain->not_after_s : 0) * 1000, date));
    put_hash(out, "sha256", chain->leaf_sha256);
    put_hash(out, "spki_sha256", chain->spki_sha256);
    ph_json_close_object(out);
}

static void put_endpoints(struct ph_json *out, const struct ph_connection *c)
{
    const struct ph_endpoint *source = ph_connection_source(c);
    char text[PH_ENDPOINT_TEXT_MAX];

    ph_json_text(out, "ip", c->address);
    ph_json_u64(out, "port", c->endpoint.port);
    if (source != NULL) {
        ph_json_text(out, "source", ph_endpoint_format_address(source, text));
    }
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)c->session_id);
    ph_json_text(out, "session", text); // 64 bits: more than a JSON number may hold
}

struct ph_session_note *ph_connection_note_create(const struct ph_connection *c)
{
    struct ph_session_note *note = ph_alloc(sizeof(*note));
    const struct ph_tls_facts *facts = ph_connection_known_facts(c);
    struct ph_json out;

    atomic_init(&note->references, 1);
    ph_str_copy(note->host, sizeof(note->host), ph_str_from(c->host->name));
    ph_str_copy(note->address, sizeof(note->address), ph_str_from(c->address));
    ph_json_init(&out, &note->json);
    ph_json_string(&out, "host", ph_str_from(c->host->name), PH_NOTE_TEXT_MAX);
    if (c->address[0] != '\0') {
        put_endpoints(&out, c);
    }
    if (facts->encrypted) {
        ph_json_open_object(&out, "tls");
        ph_json_text(&out, "version", ph_tls_version_name(facts->version));
        ph_json_text(&out, "cipher", facts->cipher);
        ph_json_text(&out, "group", facts->group);
        ph_json_bool(&out, "resumed", facts->handshake == PH_HANDSHAKE_RESUMED);
        ph_json_bool(&out, "client_certificate_requested", facts->client_certificate_requested);
        ph_json_bool(&out, "client_certificate_sent", facts->client_certificate_sent);
        ph_json_close_object(&out);
    } else {
        ph_json_null(&out, "tls");
        ph_json_bool(&out, "starttls_offered", facts->starttls_offered);
        if (c->plaintext_only) {
            ph_json_text(&out, "fallback", ph_reason_token(PH_REASON_TLS_HANDSHAKE_FAILED));
        }
    }
    if (facts->chain != NULL) {
        put_certificate(&out, facts->chain);
    }
    ph_buf_trim(&note->json); // it lives as long as the session
    return note;
}
